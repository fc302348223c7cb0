"""Detection: which sounds are in recordings and when, as a table, label tracks and plots."""

import logging
import re
from collections import Counter
from pathlib import Path

from feature_extraction import BadClipError, Clip
from run_scripts.common.files import remove_temporary_files
from run_scripts.common.plots import optional_plot
from run_scripts.common.quiet import quiet_libraries
from run_scripts.common.skipped import SKIPPED, count_kinds, nothing_usable, write_skipped
from run_scripts.common.source import load_splits
from run_scripts.detection.arguments import DetectionArguments, EventArguments
from run_scripts.detection.detector import Detector, Timeline
from run_scripts.detection.files import CSV, PARQUET, event_tables, write_label_track
from run_scripts.detection.timeline import count_events, plot_timeline
from run_scripts.embedding.embed import Meter
from run_scripts.embedding.sharing import shared_path
from run_scripts.embedding.source import Source


logger = logging.getLogger(__name__)

LABEL_TRACKS, PLOTS = "labels", "plots"


def detect_sounds(args: DetectionArguments, event_args: EventArguments) -> Path:
    """
    Finds the sounds in the recordings of a data set. The tables of events are written when all recordings are done,
    the label track and the plot of each as soon as it is.

    Args:
        args ([`DetectionArguments`]):
            Which recordings, by which classifier, and the folder of the events, which no other run may write to.
        event_args ([`EventArguments`]):
            What counts as an event.

    Returns:
        `Path`: The table of events, with the columns `file`, `start` and `end` in seconds, `label` and `score`. The
        same is beside it in Parquet.

    Raises:
        `ValueError`: If the checkpoint is not a classifier, or if no recording can be used.
        `OSError`: If a file cannot be written.
    """
    folder = args.output_path
    detector = Detector(args.model_name_or_path, event_args)
    with quiet_libraries():
        source = Source(load_splits(args), args.audio_column)
    name_output = OutputNames(Path(args.dataset_name).expanduser().absolute())
    clips = ((clip, clip.audio) for clip in source.read())
    notes, summary = [], Summary()
    remove_temporary_files(folder)
    with Meter(source.num_clips, 0, "Detecting") as meter, event_tables(folder) as tables:
        for clip, timeline in detector.detect(clips, meter.watch):
            if isinstance(timeline, BadClipError):
                notes.append(clip.note(timeline))
                meter.advance(1)
                continue
            summary.add(timeline)
            tables.add(clip.name, timeline.events)
            name = name_output(clip)
            write_label_track(folder / LABEL_TRACKS / f"{name}.txt", timeline.events)
            if summary.num_recordings <= args.max_plots:
                path = folder / PLOTS / f"{name}.png"
                with optional_plot(path):
                    plot_timeline(
                        timeline, clip.audio, detector.extractor, event_args.threshold, path, Path(clip.name).name
                    )
        write_skipped(folder, notes)
        if summary.num_recordings == 0:
            raise nothing_usable(folder, notes)
    if notes:
        logger.warning(f"Skipped: {count_kinds(notes)}; {folder / SKIPPED} lists them.")
    logger.info(f"{summary}\n{folder} has {CSV}, {PARQUET}, and the folders {LABEL_TRACKS} and {PLOTS}.")
    return folder / CSV


class OutputNames:
    """
    Names the files that are written for recordings, each of them differently: by the place of the recording in the
    folder of the data or, if it is not in this folder, by its name.

    Args:
        data (`Path`):
            The data, which need not be a folder.
    """

    def __init__(self, data: Path):
        self.root = data if data.is_dir() else data.parent
        self.taken: set[str] = set()

    def __call__(self, clip: Clip) -> Path:
        """Returns the relative path of the files, without their suffix."""
        place = Path(shared_path(clip.path, self.root) or clip.name)
        if place.is_absolute() or ".." in place.parts or ":" in str(place):
            place = Path(re.split(r"[/:?]+", str(place))[-1] or clip.name)
        place = place.with_suffix("")
        unique, number = place, 2
        while str(unique).lower() in self.taken:
            unique, number = place.with_name(f"{place.name}-{number}"), number + 1
        self.taken.add(str(unique).lower())
        return unique


class Summary:
    """Counts recordings, and the events of each label, for the last message of the script."""

    def __init__(self) -> None:
        self.num_recordings, self.seconds = 0, 0.0
        self.events: Counter = Counter()
        self.event_seconds: Counter = Counter()

    def add(self, timeline: Timeline) -> None:
        self.num_recordings += 1
        self.seconds += timeline.seconds
        for event in timeline.events:
            self.events[event.label] += 1
            self.event_seconds[event.label] += event.end - event.start

    def __str__(self) -> str:
        recordings = f"{self.num_recordings} recording{'s' * (self.num_recordings != 1)}"
        lines = [f"{count_events(self.events.total())} in {recordings}, {self.seconds / 60:.1f} minutes"]
        width = max(map(len, self.events), default=0)
        for label, count in self.events.most_common():
            lines.append(f"  {label:<{width}}  {count_events(count):>12}  {self.event_seconds[label]:9.1f} s")
        return "\n".join(lines)
