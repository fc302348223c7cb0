"""The picture of a timeline: the spectrogram of a recording, and below it the score of each label over time."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from feature_extraction import COLAFeatureExtractor, open_audio
from run_scripts.common.plots import saved_figure
from run_scripts.detection.detector import Timeline


# How many columns a spectrogram has, and how many steps a curve. Those of a long recording stand for many frames each.
MAX_COLUMNS = 1500
# How many labels have a curve, and which share of its height the labels' names and the bars of events take.
MAX_LANES, LANE = 12, 0.72
# Quieter parts of a spectrogram are black: 80 dB below its maximum, as a difference of natural logarithms.
SHOWN_RANGE = 9.2
KILOHERTZ = (0.25, 0.5, 1, 2, 4)


def pooled_spectrogram(source: Any, extractor: COLAFeatureExtractor) -> np.ndarray:
    """
    Computes the log-mel spectrogram of a recording, block after block.

    Args:
        source (`Any`):
            The recording, as [`open_audio`] takes it.
        extractor ([`COLAFeatureExtractor`]):
            Computes the features.

    Returns:
        `np.ndarray` of shape `(feature_size, columns)`, with at most `MAX_COLUMNS` columns, each of which is the mean
        over its frames.
    """
    with open_audio(source, extractor.sampling_rate) as audio:
        columns = int(np.clip(audio.num_samples // (4 * extractor.hop_length), 1, MAX_COLUMNS))
        total, count, position = np.zeros((columns, extractor.feature_size)), np.zeros((columns, 1)), 0
        for block in audio.blocks():
            features, mask = extractor.log_mel(torch.from_numpy(block)[None], torch.tensor([len(block)]))
            frames = features[0, : int(mask.sum())].numpy()
            # Frames that would reach into the next block are left out: a column has others.
            starts = position + extractor.hop_length * np.arange(len(frames))
            column = np.minimum(starts * columns // audio.num_samples, columns - 1)
            np.add.at(total, column, frames)
            np.add.at(count, column, 1)
            position += len(block)
    return (total / np.maximum(count, 1)).T


def plot_timeline(
    timeline: Timeline, source: Any, extractor: COLAFeatureExtractor, threshold: float, path: Path, title: str
) -> None:
    """Saves the picture of a timeline. The arguments are those of [`draw_timeline`]."""
    spectrogram = pooled_spectrogram(source, extractor)
    path.parent.mkdir(parents=True, exist_ok=True)
    with saved_figure(path, width=12, height=timeline_height(timeline)) as figure:
        draw_timeline(figure, timeline, spectrogram, extractor, threshold, title)


def shown_labels(timeline: Timeline) -> list[str]:
    """The labels that have a curve: those of the longest events or, if there are none, those of the highest scores."""
    seconds = dict.fromkeys(timeline.labels, 0.0)
    for event in timeline.events:
        seconds[event.label] += event.end - event.start
    if timeline.events:
        longest = sorted((label for label in seconds if seconds[label]), key=lambda label: -seconds[label])
        return longest[:MAX_LANES]
    return [timeline.labels[i] for i in np.argsort(-timeline.scores.max(axis=0), kind="stable")[:3]]


def timeline_height(timeline: Timeline) -> float:
    """The height of the picture, in inches."""
    return 3.2 + 0.6 * len(shown_labels(timeline))


def draw_timeline(
    figure: Figure,
    timeline: Timeline,
    spectrogram: np.ndarray,
    extractor: COLAFeatureExtractor,
    threshold: float,
    title: str,
) -> None:
    """
    Draws a timeline: the spectrogram, and below it for each label its score as a curve and its events as bars. In the
    curve of a long recording, each step is the highest score of several windows.

    Args:
        figure (`Figure`):
            The empty figure.
        timeline ([`Timeline`]):
            What was found.
        spectrogram (`np.ndarray` of shape `(feature_size, columns)`):
            The spectrogram, as [`pooled_spectrogram`] returns it.
        extractor ([`COLAFeatureExtractor`]):
            Its extractor, which knows the frequencies.
        threshold (`float`):
            The threshold, which is shown in each curve.
        title (`str`):
            The title.
    """
    labels = shown_labels(timeline)
    picture, lanes = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [2, 0.6 * len(labels)], "hspace": 0.06}
    )
    _draw_spectrogram(picture, spectrogram, timeline.seconds, extractor)
    num_labels = len({event.label for event in timeline.events})
    if num_labels > MAX_LANES:
        title += f" ({MAX_LANES} of {num_labels} labels: those of the longest events)"
    picture.set_title(title, loc="left")
    num_events = Counter(event.label for event in timeline.events)
    for row, label in enumerate(labels):
        base, colour = len(labels) - 1 - row, f"C{row % 10}"
        _draw_scores(lanes, timeline, label, base, colour)
        lanes.plot([0, timeline.seconds], 2 * [base + LANE * threshold], color="grey", linestyle=":", linewidth=0.8)
        spans = [(event.start, event.end - event.start) for event in timeline.events if event.label == label]
        # An edge keeps short events of long recordings visible.
        lanes.broken_barh(spans, (base + LANE + 0.06, 0.12), facecolor=colour, edgecolor=colour, linewidth=1)
    names = [f"{label}: {count_events(num_events[label])}" for label in reversed(labels)]
    lanes.set_yticks(np.arange(len(labels)) + LANE / 2, names)
    lanes.set(xlim=(0, timeline.seconds), ylim=(-0.05, len(labels)), xlabel=f"Time ({clock_unit(timeline.seconds)})")
    lanes.xaxis.set_major_locator(MultipleLocator(tick_seconds(timeline.seconds)))
    lanes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: format_time(seconds, timeline.seconds)))
    lanes.tick_params(axis="y", length=0)
    for base in range(1, len(labels)):
        lanes.axhline(base - 0.03, color="lightgrey", linewidth=0.8)
    handles = [
        Patch(facecolor="grey", alpha=0.35, label="score, from 0 to 1"),
        Line2D([], [], color="grey", linestyle=":", label=f"threshold {threshold:g}"),
        Line2D([], [], color="grey", linewidth=4, label="event"),
    ]
    picture.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=3, frameon=False
    )


def _draw_spectrogram(axis: Axes, spectrogram: np.ndarray, seconds: float, extractor: COLAFeatureExtractor) -> None:
    top = spectrogram.max()
    limits = {"vmin": max(spectrogram.min(), top - SHOWN_RANGE), "vmax": top + 1e-6}
    axis.imshow(
        spectrogram, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(spectrogram)), **limits
    )
    low, high = _mel(extractor.fmin), _mel(extractor.fmax)
    shown = [f for f in KILOHERTZ if low < _mel(1000 * f) < high]
    axis.set_yticks([len(spectrogram) * (_mel(1000 * f) - low) / (high - low) for f in shown], shown)
    axis.set_ylabel("Frequency (kHz)")
    axis.tick_params(axis="x", labelbottom=False)


def _mel(hertz: float) -> float:
    """The HTK mel scale."""
    return float(np.log1p(hertz / 700))


def _draw_scores(axis: Axes, timeline: Timeline, label: str, base: float, colour: str) -> None:
    scores = timeline.scores[:, timeline.labels.index(label)]
    starts = np.arange(0, len(scores), -(-len(scores) // MAX_COLUMNS))
    edges = np.append(timeline.edges[starts], timeline.edges[-1])
    heights = base + LANE * np.maximum.reduceat(scores, starts)
    axis.stairs(heights, edges, baseline=base, fill=True, color=colour, alpha=0.35)
    axis.stairs(heights, edges, baseline=None, color=colour, linewidth=0.8)


def count_events(count: int) -> str:
    """Writes a number of events."""
    return f"{count:,} event{'s' * (count != 1)}"


def tick_seconds(total: float) -> float:
    """The distance of at most twelve ticks on an axis of `total` seconds: a part of a minute, an hour or a day."""
    steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200]
    return next((step for step in steps if total / step <= 12), total / 12)


def clock_unit(total: float) -> str:
    """What [`format_time`] writes times in, if the recording is `total` seconds long."""
    return "seconds" if total < 60 else "minutes:seconds" if total < 3600 else "hours:minutes:seconds"


def format_time(seconds: float, total: float) -> str:
    """Formats a time in a recording of `total` seconds as clocks do: 12.5, 3:20 or 1:03:20."""
    if total < 60:
        return f"{seconds:g}"
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes}:{second:02}" if total < 3600 else f"{minutes // 60}:{minutes % 60:02}:{second:02}"
