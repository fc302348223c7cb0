"""A checkpoint as ONNX graphs: their export, their comparison with PyTorch, and their speed."""

import statistics
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAModel
from run_scripts.common.errors import UserError


NEEDED = ("onnx", "onnxscript", "onnxruntime")

OUTPUTS = ["last_hidden_state", "pooler_output", "window_mask"]
# How much an output may differ from PyTorch's, relative to the largest value of the output.
TOLERANCE = 1e-4
# The least cosine between an embedding by weights of 8 bits and PyTorch's.
MIN_COSINE = 0.98


class LogMelGraph(nn.Module):
    """The encoder: from log-mel frames and their mask, as the feature extractor computes them, to the embeddings."""

    inputs = ("input_values", "attention_mask")
    outputs = OUTPUTS
    axis = "frames"

    def __init__(self, model: COLAModel, extractor: COLAFeatureExtractor):
        super().__init__()
        self.model = model
        self.shortest = extractor.min_frames
        self.per_second = extractor.sampling_rate // extractor.hop_length

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(input_values, attention_mask)
        return tuple(outputs[name] for name in OUTPUTS)

    def example(self, batch_size: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random inputs. The second clip is valid in its first half only."""
        mask = torch.ones(batch_size, length, dtype=torch.long)
        mask[1:2, length // 2 :] = 0
        return torch.randn(batch_size, length, self.model.config.num_mel_bins) - 6, mask


class WaveformGraph(nn.Module):
    """The feature extractor and the encoder: from waveforms, padded with zeros, and their lengths in samples."""

    inputs = ("waveforms", "lengths")
    outputs = OUTPUTS
    axis = "samples"

    def __init__(self, model: COLAModel, extractor: COLAFeatureExtractor):
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.shortest = extractor.num_samples(extractor.min_frames)
        self.per_second = extractor.sampling_rate

    def forward(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(*self.extractor.log_mel(waveforms, lengths))
        return tuple(outputs[name] for name in OUTPUTS)

    def example(self, batch_size: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random inputs. The second clip is half as long as the others."""
        lengths = torch.full((batch_size,), length)
        lengths[1:2] //= 2
        return 0.1 * torch.randn(batch_size, length) * (torch.arange(length) < lengths[:, None]), lengths


GRAPHS = {"log-mel": LogMelGraph, "waveform": WaveformGraph}

Graph = LogMelGraph | WaveformGraph
Run = Callable[[tuple[torch.Tensor, ...]], list[np.ndarray]]


def check_packages() -> None:
    """Checks that what exports and runs graphs is installed; if not, it is a [`UserError`]."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(f'The export needs {" and ".join(missing)}: run `pip install "cola-audio[onnx]"`.')


def export(graph: Graph, path: Path) -> None:
    """Writes an ONNX file whose inputs may have any batch size, and any length from one window on."""
    inputs = graph.example(2, 2 * graph.shortest)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim(graph.axis, min=graph.shortest)}
    shapes = tuple({axis: axes[axis] for axis in range(min(tensor.dim(), 2))} for tensor in inputs)
    with warnings.catch_warnings(action="ignore"):  # they are about the exporter's own code
        program = torch.onnx.export(
            graph.eval(),
            inputs,
            input_names=graph.inputs,
            output_names=graph.outputs,
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
    program.save(path)


def onnx_runner(graph: Graph, path: Path) -> Run:
    """Loads an ONNX file in onnxruntime, which gets as many threads as PyTorch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(graph.outputs, {name: x.numpy() for name, x in zip(graph.inputs, inputs)})


def torch_runner(graph: Graph) -> Run:
    """The same by PyTorch."""

    @torch.inference_mode()
    def run(inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
        return [output.numpy() for output in graph(*inputs)]

    return run


def largest_difference(graph: Graph, run: Run) -> float:
    """
    Compares a runner with PyTorch on batches and lengths other than those of the export: a single clip of one window,
    several clips of some seconds, and one of two minutes.

    Returns the largest difference, relative to the largest value of the output.
    """
    differences = []
    for batch_size, length in ((1, graph.shortest), (3, 5 * graph.per_second + 7), (1, 120 * graph.per_second)):
        inputs = graph.example(batch_size, length)
        for actual, expected in zip(run(inputs), torch_runner(graph)(inputs)):
            if actual.shape != expected.shape:
                return float("inf")
            differences.append(float(np.abs(actual - expected).max() / np.abs(expected).max()))
    return max(differences)


def _sounds(sampling_rate: int) -> list[np.ndarray]:
    """Eight clips of 1 to 4 s that differ in what the log-mel frames show: pitch, noise, rhythm, and silence."""
    rng, clips = np.random.default_rng(0), []
    for number in range(8):
        t = np.arange(sampling_rate * (1 + number // 2)) / sampling_rate
        pitch = 110 * 2 ** (number / 2)
        tone = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 6))
        noise = rng.standard_normal(len(t))
        rhythm = np.exp(-8 * ((t * (1 + number)) % 1)) if number % 2 else np.ones(len(t))
        pause = (t % 2 < 1.5) if number % 3 == 0 else 1
        clips.append((0.05 * (tone * (number % 4) + noise * (3 - number % 4)) * rhythm * pause).astype(np.float32))
    return clips


def least_cosine(graph: LogMelGraph, run: Run, extractor: COLAFeatureExtractor) -> float:
    """
    Compares the embeddings of eight clips by a runner with PyTorch's, each clip alone and all of them in a batch,
    which weights of 8 bits do not embed alike: the activations are scaled over the whole batch.

    Returns the least cosine.
    """
    clips, rate = _sounds(extractor.sampling_rate), extractor.sampling_rate
    cosines = []
    for batch in [*([clip] for clip in clips), clips]:
        features = extractor(batch, sampling_rate=rate, return_tensors="pt")
        inputs = (features["input_values"], features["attention_mask"])
        pooled = OUTPUTS.index("pooler_output")
        actual, expected = (torch.from_numpy(runner(inputs)[pooled]) for runner in (run, torch_runner(graph)))
        cosines.append(torch.cosine_similarity(actual, expected).min().item())
    return min(cosines)


def seconds_per_run(run: Run, inputs: tuple[torch.Tensor, ...], rounds: int = 7) -> float:
    """The median duration of a run, after one to warm up."""
    durations = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run(inputs)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations[1:])


def quantize(path: Path, quantized: Path) -> None:
    """Writes an ONNX file with weights of 8 bits, whose activations are quantised as it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The kernels of convolutions take unsigned weights only.
    quantize_dynamic(path, quantized, weight_type=QuantType.QUInt8)
