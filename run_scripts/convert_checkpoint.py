"""
Converts weights of other projects to a checkpoint of this one.

    python run_scripts/convert_checkpoint.py --checkpoint path/to/ckpt_50 --output_dir cola-authors
    python run_scripts/convert_checkpoint.py --checkpoint AudioNTT2020-BYOLA-64x96d512.pth --output_dir byol-a

`--checkpoint` is one of the following; which of them is recognised by its files:

- A TensorFlow checkpoint of the COLA authors' code, named without `.index`. This needs TensorFlow: `pip install
  "cola-audio[tf]"`. The result is used like any other checkpoint of this project.
- A PyTorch file of BYOL-A's weights in the layout `AudioNTT2020`. The result is an encoder that reads BYOL-A's own
  normalised log-mel frames, so no feature extractor is written.

The weights remain under their authors' licence. That of BYOL-A's weights permits evaluation only.
"""

from dataclasses import dataclass, field
from pathlib import Path

from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.errors import MissingFileError


@dataclass
class ConversionArguments:
    checkpoint: str = field(metadata={"help": "The prefix of a TensorFlow checkpoint, or a file of PyTorch weights."})
    output_dir: str = field(metadata={"help": "The folder to write the checkpoint to."})


def main(argv: list[str] | None = None) -> None:
    """Runs the script with command-line arguments."""
    (args,) = ArgumentParser(ConversionArguments).parse(argv)
    from feature_extraction import COLAFeatureExtractor
    from run_scripts.common.files import make_output_dir
    from run_scripts.export.byol_a import convert_byol_a
    from run_scripts.export.tensorflow import convert_tensorflow, is_tensorflow_checkpoint

    path, output_dir = Path(args.checkpoint).expanduser(), Path(args.output_dir)
    if not path.is_file() and not is_tensorflow_checkpoint(path):
        raise MissingFileError(f"--checkpoint: there is neither a file {path} nor a file {path}.index.")
    make_output_dir(output_dir)
    if is_tensorflow_checkpoint(path):
        model = convert_tensorflow(path)
        COLAFeatureExtractor().save_pretrained(output_dir)
    else:
        model = convert_byol_a(path)
    model.save_pretrained(output_dir)
    print(f"Wrote {type(model).__name__} with embeddings of {model.config.hidden_size} dimensions to {output_dir}.")


if __name__ == "__main__":
    run_script(main)
