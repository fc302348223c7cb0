"""A page that hears sounds in the browser alone: a folder of files, which needs no server."""

import base64
import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_cola import COLAForAudioClassification
from run_scripts.common.checkpoints import load_checkpoint, load_config, load_extractor
from run_scripts.common.errors import UserError
from run_scripts.common.files import format_size, make_output_dir, write_text, written_whole
from run_scripts.common.quiet import quiet_libraries
from run_scripts.demo.arguments import DemoArguments
from run_scripts.demo.runtime import read_runtime
from run_scripts.demo.space import check_new_folder
from run_scripts.detection.detector import is_classifier, to_scores
from run_scripts.embedding.map import choose_rows, describe_map, fill_page
from run_scripts.embedding.parts import read_settings
from run_scripts.embedding.search import Index, load_own_model
from run_scripts.export import onnx


# The page hears this much of a recording, in seconds. The memory that a graph takes grows with the recording.
HEARD_SECONDS = 60
# Vectors that are in one string of a script.
BLOCK_ROWS = 2**12


class EncoderGraph(onnx.WaveformGraph):
    """From waveforms and their lengths to the log-mel frames and the vectors of clips."""

    outputs = ["log_mel", "vector"]

    def forward(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_mel, mask = self.extractor.log_mel(waveforms, lengths)
        return log_mel, self.model(log_mel, mask).pooler_output


class ClassifierGraph(onnx.WaveformGraph):
    """From waveforms and their lengths to the log-mel frames and the scores of the classes."""

    outputs = ["log_mel", "scores"]

    def forward(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_mel, mask = self.extractor.log_mel(waveforms, lengths)
        return log_mel, to_scores(self.model(log_mel, mask).logits, self.model.config)


def write_browser_page(args: DemoArguments) -> str:
    """
    Writes a page, and all that it loads, to a folder: the map of the index, in which the browser embeds, classifies
    and searches the sounds that it is given.

    Returns:
        `str`: What was written, for the user.

    Raises:
        `ValueError`: If the folder exists and is not empty, if there is neither an index nor a classifier, if a
            package is missing, if a graph does not do what PyTorch does, or if the runtime cannot be had; see
            [`read_runtime`]. Nothing is written then.
        `FileNotFoundError`: If the index has no vectors.
    """
    folder = Path(args.browser).expanduser()
    check_new_folder(folder, "--browser")
    onnx.check_packages()
    index_folder = None if args.index_dir is None else Path(args.index_dir).expanduser()
    classifier = _find_classifier(args, index_folder)
    runtime = read_runtime(args.runtime)
    page = {"title": Path(classifier or "").name, "grouped_by": "label", "groups": [], "points": []}
    make_output_dir(folder.parent, "--browser")
    with written_whole(folder) as temporary:
        sound, graphs = temporary / "sound", {}
        sound.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("sound.js"), sound)
        (sound / "ort.wasm.min.js").write_bytes(runtime["script"])
        _write_script(sound / "runtime.js", mjs=[runtime["mjs"]], wasm=[runtime["wasm"]])
        if index_folder is not None:
            index = Index(index_folder)
            chosen = choose_rows(index, index_folder)
            model, extractor = load_own_model(index_folder)
            graphs["encoder"] = EncoderGraph(model.cpu(), extractor)
            page |= describe_map(index, chosen, index_folder, folder, args.copy_audio)
            _write_index(sound / "index.js", index, chosen)
        if classifier is not None:
            model = load_checkpoint(COLAForAudioClassification, classifier, with_head=True)
            graphs["classifier"] = ClassifierGraph(model, load_extractor(classifier))
        models = {name: [_export(graph.eval(), sound / "model.onnx")] for name, graph in graphs.items()}
        _write_script(sound / "models.js", **models)
        page["sound"] = _describe_sound(graphs, args.top_k)
        write_text(temporary / "index.html", fill_page(page, '<script src="sound/sound.js"></script>'))
    return _summarise(folder, len(page["points"]), classifier)


def _summarise(folder: Path, num_points: int, classifier: str | None) -> str:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    parts = [f"{num_points} clips or windows"] * (num_points > 0) + [f"the classes of {classifier}"] * bool(classifier)
    return f"{folder} has {' and '.join(parts)}, {format_size(size)}. Open {folder / 'index.html'} in a browser."


def _find_classifier(args: DemoArguments, index_folder: Path | None) -> str | None:
    """Returns the checkpoint that names classes: the one that is given or else that of the index, if it can."""
    checkpoint = args.model_name_or_path
    if checkpoint is None and index_folder is not None:
        checkpoint = read_settings(index_folder)["model_name_or_path"]
    if checkpoint is not None and is_classifier(load_config(checkpoint)):
        return checkpoint
    if index_folder is None:
        raise UserError("--browser needs clips to search, --index_dir, or a classifier, --model_name_or_path.")
    return None


def _export(graph: onnx.WaveformGraph, path: Path) -> bytes:
    """Exports a graph by a file that is removed again, and checks that it does what PyTorch does."""
    with quiet_libraries(warnings=True):
        onnx.export(graph, path)
        difference = onnx.largest_difference(graph, onnx.onnx_runner(graph, path))
    if not difference <= onnx.TOLERANCE:
        raise UserError(f"The graph of the page differs from PyTorch by {difference:.1e} of the largest value.")
    data = path.read_bytes()
    path.unlink()
    return data


def _describe_sound(graphs: dict[str, onnx.WaveformGraph], top_k: int) -> dict[str, Any]:
    """What `sound.js` must know."""
    rates = {graph.extractor.sampling_rate for graph in graphs.values()}
    if len(rates) > 1:
        raise UserError(f"The classifier and the index need audio at different rates: {rates}.")
    config = graphs["classifier"].model.config if "classifier" in graphs else None
    return {
        "rate": rates.pop(),
        "shortest": max(graph.shortest for graph in graphs.values()),
        "seconds": HEARD_SECONDS,
        "top_k": top_k,
        "scripts": ["runtime", "models", *["index"] * ("encoder" in graphs)],
        "classes": config and [config.id2label[i] for i in range(config.num_labels)],
    }


def _write_index(path: Path, index: Index, chosen: np.ndarray) -> None:
    """Writes rows of an index, each as numbers of 8 bits and their scale, and what standardises a vector."""
    blocks, scales = [], []
    for first in range(0, len(chosen), BLOCK_ROWS):
        rows = index.vectors[chosen[first : first + BLOCK_ROWS]]
        scales.append(np.abs(rows).max(axis=1, keepdims=True).clip(1e-12) / 127)
        blocks.append(np.rint(rows / scales[-1]).astype(np.int8))
    _write_script(path, vectors=blocks, scales=scales, mean=[index.mean], deviation=[index.deviation])


def _write_script(path: Path, **parts: list[bytes | np.ndarray]) -> None:
    """
    Writes a script that hands bytes to the page, since a page that is opened from a file may load scripts and nothing
    else.
    """
    with open(path, "w") as file:
        for name, blocks in parts.items():
            for block in blocks:
                data = block if isinstance(block, bytes) else block.tobytes()
                packed = base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
                file.write(f'cola.add("{name}", "{packed}");\n')
