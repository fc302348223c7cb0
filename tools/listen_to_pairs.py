"""
Draws pairs of synthetic sounds at several distances, and writes them as files to listen to.

    python -m tools.listen_to_pairs --output_dir outputs/synthetic-pairs

Each `pair_<number>_d<distance>.wav` has the anchor, half a second of silence, and a positive at this distance from it.
`synthetic_pairs.png` shows the log-mel features of all of them. What is drawn depends on the seed alone.
"""

from dataclasses import dataclass, field
from pathlib import Path

from run_scripts.common.command_line import ArgumentParser, run_script


@dataclass
class PairArguments:
    output_dir: str = field(metadata={"help": "Folder of the picture and the sounds."})
    num_pairs: int = field(default=5, metadata={"help": "How many anchors to draw."})
    distances: list[float] = field(
        default_factory=lambda: [0.0, 0.25, 0.5, 1.0],
        metadata={"help": "The distances of their positives: --synthetic_distance of run_pretraining.py."},
    )
    seed: int = field(default=0, metadata={"help": "Another seed draws other sounds."})


def main(argv: list[str] | None = None) -> Path:
    """Runs the program with the arguments of a command line, by default those of the process; returns its folder."""
    (args,) = ArgumentParser(PairArguments).parse(argv)
    # Only now, so that --help is quick.
    import numpy as np
    import soundfile
    import torch
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    from feature_extraction import COLAFeatureExtractor
    from run_scripts.pretraining.sound_parameters import nearby_positions, random_positions
    from run_scripts.pretraining.synthesizer import synthesize

    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    extractor = COLAFeatureExtractor()
    rate, num_samples = extractor.sampling_rate, extractor.num_samples(96)
    generator = torch.Generator().manual_seed(args.seed)
    anchors = random_positions(args.num_pairs, generator)
    state = generator.get_state()
    columns = {"anchor": synthesize(anchors, num_samples, generator)}
    for distance in args.distances:
        generator.set_state(state)  # so that all positives of an anchor lie in the same direction from it
        positives = nearby_positions(anchors, distance, generator)
        columns[f"d = {distance:g}"] = synthesize(positives, num_samples, generator)
        for number, (anchor, positive) in enumerate(zip(columns["anchor"].numpy(), columns[f"d = {distance:g}"])):
            sound = np.concatenate([anchor, np.zeros(rate // 2, dtype=np.float32), positive.numpy()])
            soundfile.write(folder / f"pair_{number}_d{distance:g}.wav", sound, rate)

    colours = colormaps["magma"].resampled(24)  # few enough that the picture is a small file
    canvas = Figure(figsize=(1.6 * len(columns), 1.2 * args.num_pairs), layout="constrained")
    axes = canvas.subplots(args.num_pairs, len(columns), squeeze=False)
    for column, (title, sounds) in enumerate(columns.items()):
        frames = extractor.log_mel(sounds, torch.full((len(sounds),), num_samples))[0]
        for row, values in enumerate(frames):
            axis = axes[row, column]
            axis.imshow(
                values.T, origin="lower", aspect="auto", cmap=colours, interpolation="nearest", vmin=-8, vmax=2
            )
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(title, fontsize=9)
    axes[-1, 0].set(xlabel="0.96 s", ylabel="60 to 7,800 Hz")
    canvas.savefig(folder / "synthetic_pairs.png", dpi=80)
    print(f"Saved {args.num_pairs * len(args.distances)} pairs to listen to, and synthetic_pairs.png, in {folder}.")
    return folder


if __name__ == "__main__":
    run_script(main)
