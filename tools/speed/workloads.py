"""
The work of each subject. A function sets it up, imports what it needs, and returns a function that does it once.

Peers are built from their default configurations, with random weights, since the values do not change the time.
"""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from run_scripts.pretraining.recipes import ModelSettings


Run = Callable[[], object]


def noise(num_clips: int, seconds: int, sampling_rate: int = 16000) -> list[np.ndarray]:
    """Clips of Gaussian noise."""
    samples = np.random.default_rng(0).standard_normal((num_clips, seconds * sampling_rate), dtype=np.float32)
    samples *= 0.1  # in place, so that the peak of memory is that of the clips
    return list(samples)


def features(name: str, num_clips: int = 32) -> Run:
    """Log-mel features by the class of this name in Transformers, or by `"cola"`'s."""
    import transformers

    from feature_extraction import COLAFeatureExtractor

    extractor = COLAFeatureExtractor() if name == "cola" else getattr(transformers, name)()
    clips = noise(num_clips, 10, extractor.sampling_rate)
    return lambda: extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="pt")


def cola_embedder(encoder: str) -> Callable[[list[np.ndarray]], object]:
    """A function that embeds waveforms with `COLAModel` as a user loads it."""
    import torch

    from feature_extraction import COLAFeatureExtractor
    from modeling_cola import COLAModel
    from run_scripts.pretraining.recipes import BEST, PAPER
    from run_scripts.pretraining.train import build_config

    extractor = COLAFeatureExtractor()
    model = COLAModel(build_config((BEST if encoder == "compact" else PAPER).model)).eval()

    @torch.inference_mode()
    def embed(waveforms: list[np.ndarray]) -> object:
        return model(**extractor(waveforms, sampling_rate=16000, return_tensors="pt"))

    return embed


def cola_embedding(encoder: str, num_clips: int | str = 32, seconds: int | str = 10) -> Run:
    """Embeddings by `COLAModel`, features included."""
    embed, clips = cola_embedder(encoder), noise(int(num_clips), int(seconds))
    return lambda: embed(clips)


def ast_embedding(num_clips: int = 32) -> Run:
    """Embeddings by the Audio Spectrogram Transformer, of 86 million parameters."""
    import torch
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    extractor, model = ASTFeatureExtractor(), ASTModel(ASTConfig()).eval()
    clips = noise(num_clips, 10)

    @torch.inference_mode()
    def run() -> None:
        for clip in clips:  # one by one, which is as fast on a CPU and takes little memory
            model(**extractor(clip, sampling_rate=16000, return_tensors="pt"))

    return run


def wav2vec2_embedding(num_clips: int = 32) -> Run:
    """Embeddings by wav2vec 2.0, of 95 million parameters."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    extractor, model = Wav2Vec2FeatureExtractor(), Wav2Vec2Model(Wav2Vec2Config()).eval()
    clips = noise(num_clips, 10)

    @torch.inference_mode()
    def run() -> None:
        for clip in clips:
            model(**extractor(clip, sampling_rate=16000, return_tensors="pt"))

    return run


def training_step(
    recipe: str,
    *parts: str,
    num_pairs: int = 32,
    model_settings: "ModelSettings | None" = None,
    device: str = "cpu",
) -> Run:
    """
    A step as pre-training takes it, on a device. The features of the pairs are computed and augmented in each step if
    `"features"` is among the parts, and once beforehand if not; with `"bf16"` it is of mixed precision, and with
    `"compiled"` the first step compiles the encoder.
    """
    import torch

    from run_scripts.common.cpu import tune_cpu
    from run_scripts.pretraining.arguments import PretrainingArguments
    from run_scripts.pretraining.augmentation import make_features
    from run_scripts.pretraining.loop import build_optimizer, check_compiler
    from run_scripts.pretraining.recipes import RECIPES
    from run_scripts.pretraining.train import build_model
    from run_scripts.pretraining.validation import inputs_of

    tune_cpu()
    device, settings = torch.device(device), RECIPES[recipe].training
    model, extractor = build_model(PretrainingArguments(output_dir="", recipe=recipe), model_settings)
    model = model.train().to(device, memory_format=model.memory_format)
    if "compiled" in parts:
        check_compiler(device)
        model.cola.encoder.compile()
    optimizer = build_optimizer(model, settings)
    waveforms = 0.1 * torch.randn(2 * num_pairs, extractor.num_samples(model.config.window_size))
    lengths = torch.full((2 * num_pairs,), waveforms.shape[1])
    batch = {"waveforms": waveforms, "lengths": lengths, "gaps": torch.zeros(num_pairs)}
    if device.type == "cuda":
        batch = {name: values.pin_memory() for name, values in batch.items()}  # as the loader does
    ready = make_features(batch, extractor, settings, device)

    def run() -> None:
        inputs = make_features(batch, extractor, settings, device) if "features" in parts else ready
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in parts):
            loss = model(**inputs_of(model, inputs)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def plain_training_step(num_pairs: int = 32) -> Run:
    """The same objective as a few lines of PyTorch around timm's EfficientNet-B0, with nothing tuned."""
    import timm
    import torch
    from torch import nn

    encoder = timm.create_model("efficientnet_b0", in_chans=1, num_classes=0, global_pool="max")
    head = nn.Sequential(nn.Linear(1280, 512), nn.LayerNorm(512), nn.Tanh())
    similarity = nn.Linear(512, 512, bias=False)
    model = nn.ModuleList([encoder, head, similarity]).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    segments = torch.randn(2 * num_pairs, 1, 96, 64)

    def run() -> None:
        anchors, positives = head(encoder(segments)).chunk(2)
        logits = similarity(anchors) @ positives.T
        nn.functional.cross_entropy(logits, torch.arange(num_pairs)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def keras_training_step(num_pairs: int = 32) -> Run:
    """The same objective around Keras' EfficientNet-B0, in a graph, as in the authors' code."""
    import tensorflow as tf
    from tensorflow import keras

    encoder = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(96, 64, 1), pooling="max"
    )
    head = [keras.layers.Dense(512), keras.layers.LayerNormalization(), keras.layers.Activation("tanh")]
    model = keras.Sequential([encoder, *head])
    similarity = keras.layers.Dense(512, use_bias=False)
    similarity.build((None, 512))
    weights = [*model.trainable_variables, *similarity.trainable_variables]
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(weights)
    segments = tf.random.normal((2 * num_pairs, 96, 64, 1))

    @tf.function
    def run() -> None:
        with tf.GradientTape() as tape:
            anchors, positives = tf.split(model(segments, training=True), 2)
            logits = tf.matmul(similarity(anchors), positives, transpose_b=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.range(num_pairs), logits=logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))

    return run


def synthetic_pairs(num_pairs: int = 64) -> Run:
    """Pairs of synthetic sounds, as pre-training makes them, on one thread."""
    import torch

    from run_scripts.common.cpu import tune_cpu
    from run_scripts.pretraining.synthetic_pairs import SyntheticPairs

    tune_cpu()
    torch.set_num_threads(1)
    return SyntheticPairs(num_pairs, 15600, 16000, 0.25, torch.device("cpu"), seed=0).draw


def audioset_clips(num_clips: int) -> list[bytes]:
    """Clips of 10 s in AudioSet's format: tones in noise, as FLAC with 48 kHz, two channels and 24 bits."""
    import soundfile

    rng, seconds, clips = np.random.default_rng(0), np.arange(480_000) / 48_000, []
    for _ in range(num_clips):
        tones = sum(np.sin(2 * np.pi * rng.uniform(100, 5000) * seconds) for _ in range(4))
        file = io.BytesIO()
        stereo = 0.05 * tones[:, None] + 0.05 * rng.standard_normal((len(seconds), 2))
        soundfile.write(file, stereo, 48_000, format="FLAC", subtype="PCM_24")
        clips.append(file.getvalue())
    return clips


def write_audioset_shards(folder: Path, clips: list[bytes], num_shards: int) -> None:
    """Writes encoded clips to Parquet shards in a new folder."""
    from datasets import Audio, Dataset

    folder.mkdir(parents=True)
    rows = [{"bytes": clip, "path": f"{number}.flac"} for number, clip in enumerate(clips)]
    for shard in range(num_shards):
        data = Dataset.from_dict({"audio": rows[shard::num_shards]}).cast_column("audio", Audio(decode=False))
        data.to_parquet(folder / f"train-{shard:05}-of-{num_shards:05}.parquet")


def segment_reading(num_clips: int = 16) -> Run:
    """Two segments of each clip, as pre-training reads them: decoded, mixed to mono and resampled to 16 kHz."""
    from feature_extraction import random_segments

    clips, rng = audioset_clips(num_clips), np.random.default_rng(0)
    return lambda: [random_segments(clip, 15600, rng) for clip in clips]


def plain_reading(num_clips: int = 16) -> Run:
    """Two crops of the same length of each clip, decoded by soundfile and nothing else."""
    import soundfile

    clips, rng = audioset_clips(num_clips), np.random.default_rng(0)

    def run() -> None:
        for clip in clips:
            with soundfile.SoundFile(io.BytesIO(clip)) as file:
                for start in rng.integers(0, 480_000 - 46_800, 2):
                    file.seek(start)
                    file.read(46_800, dtype="float32")

    return run


def python(*arguments: str) -> Run:
    """A Python process from its start to its end."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def first_embedding() -> None:
    """Embeds one clip of noise with the checkpoint of this repository."""
    import torch
    from transformers import logging

    from feature_extraction import COLAFeatureExtractor
    from modeling_cola import COLAModel
    from run_scripts.embedding.arguments import CHECKPOINT

    logging.disable_progress_bar()
    extractor, model = COLAFeatureExtractor.from_pretrained(CHECKPOINT), COLAModel.from_pretrained(CHECKPOINT)
    with torch.inference_mode():
        model(**extractor(noise(1, 1), sampling_rate=16000, return_tensors="pt"))


if __name__ == "__main__":
    first_embedding()
