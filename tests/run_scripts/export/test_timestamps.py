"""The rules of HEAR and X-ARES, tested here, and by their own validators where these are installed."""

from pathlib import Path

import pytest
import torch

from feature_extraction import COLAFeatureExtractor
from model_helpers import build
from run_scripts.export import hear
from run_scripts.export.hear import HearModel, get_scene_embeddings, get_timestamp_embeddings
from run_scripts.export.xares import COLAEncoder
from tools.synthesis.corpus import synthesize_clip


@pytest.fixture(scope="module")
def model() -> HearModel:
    return hear.load_model()


@pytest.fixture(scope="module")
def timm_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timm")
    build(encoder="test_efficientnet").save_pretrained(folder)
    COLAFeatureExtractor().save_pretrained(folder)
    return folder


def noise(seconds: float, count: int = 2) -> torch.Tensor:
    return 2 * torch.rand(count, int(16000 * seconds), generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize("seconds", [0.001, 0.05, 1.07, 1.98, 4.0])
@pytest.mark.parametrize("encoder", ["compact", "timm"])
def test_timestamps_are_regular_and_cover_the_audio(
    seconds: float, encoder: str, model: HearModel, timm_checkpoint: Path
):
    model = model if encoder == "compact" else hear.load_model(str(timm_checkpoint))
    embeddings, timestamps = get_timestamp_embeddings(noise(seconds), model)
    assert embeddings.dtype == torch.float32 and embeddings.shape[:2] == timestamps.shape
    assert embeddings.shape[::2] == (2, model.timestamp_embedding_size)
    torch.testing.assert_close(timestamps[0].diff(), torch.full((timestamps.shape[1] - 1,), 40.0))
    assert timestamps[0, 0] < 10
    assert seconds < 0.01 or 1000 * seconds - 40 < timestamps[0, -1] <= 1000 * seconds


def test_windows_that_the_stride_does_not_divide_are_encoded_one_by_one(tmp_path: Path):
    build(window_size=100, window_hop=100).save_pretrained(tmp_path)
    COLAFeatureExtractor(min_frames=100).save_pretrained(tmp_path)
    embeddings, timestamps = get_timestamp_embeddings(noise(1.07), hear.load_model(str(tmp_path)))
    assert embeddings.shape[:2] == timestamps.shape and timestamps.shape[1] == 27


def test_a_sound_is_where_its_timestamps_say(model: HearModel):
    audio = torch.zeros(1, 80000)
    audio[0, 40000:41600] = noise(0.1, count=1)  # from 2.5 to 2.6 s
    embeddings, timestamps = get_timestamp_embeddings(audio, model)
    inside = (500 < timestamps[0]) & (timestamps[0] < 4500)  # where windows do not reach the ends of the audio
    embeddings, timestamps = embeddings[0, inside], timestamps[0, inside]
    distance = (embeddings - embeddings[0]).norm(dim=1)
    heard = timestamps[distance > 0.1 * distance.max()]
    # Half a window on both sides, and the receptive field of the encoder.
    assert heard.min() == pytest.approx(2500 - 480, abs=120) and heard.max() == pytest.approx(2600 + 480, abs=120)


def test_convolving_once_is_like_encoding_each_window(model: HearModel):
    frames = model.features(torch.from_numpy(synthesize_clip("bells", 0, duration=3.0))[None])["input_values"]
    with torch.inference_mode():
        once, each = model._pool_feature_maps(frames)[0], model._encode_windows(frames)[0]
    # What all windows have in common differs: a window that is encoded by itself has silence beyond its edges.
    once, each = once - once.mean(0), each - each.mean(0)
    similarity = torch.cosine_similarity(once[:, None], each[None], dim=-1)
    assert similarity.shape == (51, 51) and similarity.diagonal().mean() > 0.65 and similarity.mean().abs() < 0.1
    # Each is most like the window of its own time, or of one nearby.
    assert (similarity.argmax(1) - torch.arange(51)).abs().float().mean() < 1.5


def test_loudness_moves_nothing(model: HearModel):
    audio = noise(1.5)
    torch.testing.assert_close(model(audio)[0], model(0.01 * audio)[0], rtol=1e-3, atol=1e-3)


def test_scene_embeddings_are_those_of_the_model(model: HearModel):
    audio = noise(2.74, count=4)
    embeddings = get_scene_embeddings(audio, model)
    assert embeddings.shape == (4, model.scene_embedding_size) and embeddings.dtype == torch.float32
    inputs = model.extractor(audio, sampling_rate=16000, return_tensors="pt")
    torch.testing.assert_close(embeddings, model.model(**inputs).pooler_output.detach())


@pytest.mark.extra
def test_hears_own_validator_passes(timm_checkpoint: Path):
    validate = pytest.importorskip("hearvalidator.validate", reason="needs hearvalidator: see the Makefile")
    for checkpoint in ("", str(timm_checkpoint)):
        validate.ValidateModel("run_scripts.export.hear", checkpoint, device="cpu")()


def test_xares_encoder_has_what_xares_reads(monkeypatch: pytest.MonkeyPatch, timm_checkpoint: Path):
    monkeypatch.setenv("COLA_CHECKPOINT", str(timm_checkpoint))
    encoder = COLAEncoder()
    embeddings = encoder(torch.randn(2, 50000))
    assert encoder.sampling_rate == 16000
    assert embeddings.shape[::2] == (2, encoder.output_dim)
    assert embeddings.shape[1] * encoder.hop_size_in_ms == pytest.approx(50000 / 16, abs=encoder.hop_size_in_ms)


@pytest.mark.extra
def test_xares_own_check_passes():
    checker = pytest.importorskip("xares.audio_encoder_checker", reason="needs the extra `xares`")
    assert checker.check_audio_encoder(COLAEncoder())
