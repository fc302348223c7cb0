"""
Exports a checkpoint to ONNX, checks the files against PyTorch, and measures their speed.

    python run_scripts/export_onnx.py --checkpoint cola-mine --output_dir cola-onnx

This needs onnx, onnxscript and onnxruntime: `pip install "cola-audio[onnx]"`. It writes

    log-mel.onnx         maps log-mel frames and their mask, as COLAFeatureExtractor computes them, to embeddings
    waveform.onnx        maps waveforms at 16 kHz, padded with zeros, and their lengths in samples to embeddings
    log-mel-int8.onnx    is log-mel.onnx with weights of 8 bits (`--int8`): less than half the size, but slower on the
                         CPU on which it was tried. An embedding depends a little on the other clips of its batch,
                         since activations are scaled over the whole batch

All of them take any number of clips that are at least one window long (96 frames, 15,600 samples). Pad shorter
waveforms to that with zeros, and pass their true length. The outputs are those of COLAModel: `last_hidden_state`,
`pooler_output` and `window_mask`.

It is an error if the outputs of a file differ from PyTorch's by more than 1e-4 of the largest value. With weights of
8 bits they differ by more: then it is an error, and the file is removed, if any of eight sounds, embedded alone or in
a batch, has a cosine below 0.98 with PyTorch's embedding.
"""

from dataclasses import dataclass, field
from pathlib import Path

from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.errors import UserError


@dataclass
class ExportArguments:
    checkpoint: str = field(metadata={"help": "A folder, or the name of a model on the Hub."})
    output_dir: str = field(metadata={"help": "The folder to write the ONNX files to."})
    int8: bool = field(default=False, metadata={"help": "Also write a file with weights of 8 bits."})
    seconds: int = field(default=10, metadata={"help": "The length of the clip on which speed is measured."})

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise UserError(f"--seconds must be at least 1, got {self.seconds}.")


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """
    Runs the script with command-line arguments.

    Returns:
        For each file, its largest `difference` from PyTorch and how many `milliseconds` a clip takes; for weights of
        8 bits the least `cosine` with PyTorch, too; for PyTorch itself the milliseconds.

    Raises:
        `ValueError`: If a file does not do what PyTorch does.
    """
    (args,) = ArgumentParser(ExportArguments).parse(argv)
    from run_scripts.common.checkpoints import load_encoder
    from run_scripts.common.cpu import tune_cpu
    from run_scripts.common.files import make_output_dir
    from run_scripts.common.quiet import quiet_libraries
    from run_scripts.export import onnx

    tune_cpu()
    output_dir = Path(args.output_dir)
    with quiet_libraries():
        model, extractor = load_encoder(args.checkpoint)
    make_output_dir(output_dir)
    onnx.check_packages()
    results = {}
    for name, graph_class in onnx.GRAPHS.items():
        graph = graph_class(model, extractor).eval()
        clip = graph.example(1, args.seconds * graph.per_second)
        files = [output_dir / f"{name}.onnx"]
        onnx.export(graph, files[0])
        if args.int8 and name == "log-mel":  # the log-mel values themselves need more than 8 bits
            files.append(output_dir / f"{name}-int8.onnx")
            onnx.quantize(*files)
        for path in files:
            run = onnx.onnx_runner(graph, path)
            difference = onnx.largest_difference(graph, run)
            if path is files[0] and not difference <= onnx.TOLERANCE:
                raise UserError(f"{path} differs from PyTorch by {difference:.1e} of the largest value.")
            results[path.name] = {"difference": difference}
            if path is not files[0]:
                results[path.name]["cosine"] = cosine = onnx.least_cosine(graph, run, extractor)
                if not cosine >= onnx.MIN_COSINE:
                    path.unlink()
                    raise UserError(
                        f"--int8: with weights of 8 bits an embedding has a cosine of {cosine:.2f} with PyTorch's, "
                        f"below {onnx.MIN_COSINE}, so {path.name} is not kept. Use {files[0]}, which is exact."
                    )
            results[path.name]["milliseconds"] = 1000 * onnx.seconds_per_run(run, clip)
        # At last, when it has run several times: its first runs are slow.
        results[f"PyTorch, {name}"] = {"milliseconds": 1000 * onnx.seconds_per_run(onnx.torch_runner(graph), clip)}
    _print(results, args.seconds)
    return results


def _print(results: dict[str, dict[str, float]], seconds: int) -> None:
    print(f"{'':24}{'difference':>12}{f'ms for {seconds} s':>14}")
    for name, result in results.items():
        difference = f"{result['difference']:.1e}" if "difference" in result else ""
        print(f"{name:24}{difference:>12}{result['milliseconds']:>14.1f}")
        if "cosine" in result:
            print(f"  smallest cosine between an embedding and PyTorch's: {result['cosine']:.3f}, alone or in a batch")


if __name__ == "__main__":
    run_script(main)
