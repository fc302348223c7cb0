"""Which sounds a recording contains, and when: the scores of a classifier over time, and the events in them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy.ndimage import median_filter

from feature_extraction import SILENCE, AudioFile, BadClipError, open_audio
from modeling_cola import COLAConfig, COLAForAudioClassification
from run_scripts.common.checkpoints import load_checkpoint, load_config, load_extractor
from run_scripts.common.errors import UserError
from run_scripts.common.processes import find_device
from run_scripts.common.quiet import quiet_libraries
from run_scripts.detection.arguments import EventArguments
from run_scripts.embedding.encode import EmbeddedClip


Key = TypeVar("Key")

# How many windows are classified at a time.
WINDOWS_AT_ONCE = 64


class Event(NamedTuple):
    """
    A sound in a recording.

    Args:
        start (`float`), end (`float`):
            When it begins and ends, in seconds.
        label (`str`):
            What it is.
        score (`float`):
            The mean score of those of its windows in which the label is present.
    """

    start: float
    end: float
    label: str
    score: float


class Timeline(NamedTuple):
    """
    What was found in a recording.

    Args:
        edges (`np.ndarray` of shape `(num_windows + 1,)`):
            When the part of the recording begins and ends for which each window stands, in seconds: half a hop around
            its centre. Those of the first and the last window reach to the ends of the recording.
        scores (`np.ndarray` of shape `(num_windows, num_labels)`):
            The score of each label in each window, between 0 and 1, which is 0 where the recording is silent.
        labels (`list[str]`):
            The names of the labels.
        events (`list[Event]`):
            The events in the order of their starts.
    """

    edges: np.ndarray
    scores: np.ndarray
    labels: list[str]
    events: list[Event]

    @property
    def seconds(self) -> float:
        """The length of the recording."""
        return float(self.edges[-1])


def excludes_other_labels(config: COLAConfig) -> bool:
    """Whether a clip has one label only, so that the scores of all labels add up to 1."""
    return config.problem_type != "multi_label_classification"


def to_scores(logits: torch.Tensor, config: COLAConfig) -> torch.Tensor:
    """Turns the logits `(..., num_labels)` of a classifier into scores between 0 and 1."""
    return logits.softmax(-1) if excludes_other_labels(config) else logits.sigmoid()


def is_classifier(config: COLAConfig) -> bool:
    """Whether a checkpoint has a head that tells classes apart."""
    has_head = config.architectures == [COLAForAudioClassification.__name__]
    return has_head and config.problem_type != "regression"


class Detector:
    """
    Finds the sounds in recordings by a classifier.

    Args:
        checkpoint (`str`):
            The classifier, a folder or the name of a model on the Hub.
        args ([`EventArguments`]):
            What counts as an event.

    Raises:
        `ValueError`: If there is no such checkpoint, if it is not a classifier, if it does not have a label that is
            named, or if the hop is longer than a window.

    Example:

    ```python
    >>> from run_scripts.detection.arguments import EventArguments
    >>> from run_scripts.detection.detector import Detector

    >>> detector = Detector("my-classifier", EventArguments(threshold=0.7))
    >>> for name, timeline in detector.detect([("one", "recording.wav")]):
    ...     print(name, timeline.events)
    ```"""

    def __init__(self, checkpoint: str, args: EventArguments):
        self.args = args
        with quiet_libraries(warnings=True):
            config = load_config(checkpoint)
            if not is_classifier(config):
                raise UserError(
                    f"--model_name_or_path {checkpoint} is not a classifier: train one on labelled clips with "
                    "run_classification.py, and name its folder."
                )
            self.extractor = load_extractor(checkpoint)
            # Each window is encoded as a whole, wherever the model itself would cut it.
            hop = config.window_size
            model = load_checkpoint(COLAForAudioClassification, checkpoint, with_head=True, window_hop=hop).eval()
        self.model = model.to(find_device())
        self.window_samples, self.hop = self.extractor.num_samples(config.window_size), self._hop_samples()
        names = [config.id2label[i] for i in range(config.num_labels)]
        for name in (args.labels or []) + (args.ignore_labels or []):
            if name not in names:
                raise UserError(f"{checkpoint} has no label {name!r}; its labels are {', '.join(names)}.")
        chosen = set(args.labels or names) - set(args.ignore_labels or [])
        self.columns = [i for i, name in enumerate(names) if name in chosen]
        self.labels = [names[i] for i in self.columns]

    def _hop_samples(self) -> int:
        window = self.model.config.window_size * self.extractor.hop_length
        hop = window // 2 if self.args.hop is None else round(self.args.hop * self.extractor.sampling_rate)
        if not self.extractor.hop_length <= hop <= window:
            shortest, longest = (n / self.extractor.sampling_rate for n in (self.extractor.hop_length, window))
            raise UserError(
                f"--hop must be from {shortest} to {longest} s, the length of a window, got {self.args.hop}."
            )
        return hop

    def detect(
        self,
        clips: Iterable[tuple[Key, Any]],
        watch: Callable[[EmbeddedClip], Iterator[np.ndarray]] = lambda clip: clip.chunks,
    ) -> Iterator[tuple[Key, Timeline | BadClipError]]:
        """
        Finds the sounds in a stream of recordings. Of a recording only the scores are in memory as a whole: four bytes
        for each window and label, or 3 MB for ten labels in ten hours.

        Args:
            clips (`Iterable`):
                Pairs of a key, which may be anything, and the recording's audio, as [`load_audio`] takes it. In place
                of the audio there may be a [`BadClipError`], which is returned.
            watch (`Callable`, *optional*):
                Passes on the chunks of a recording, for example to show the progress.

        Returns:
            `Iterator`: For each recording, in their order, its key and its [`Timeline`], or the [`BadClipError`] that
            says why it cannot be used.
        """
        for key, source in clips:
            try:
                if isinstance(source, BadClipError):
                    raise source
                with open_audio(source, self.extractor.sampling_rate) as audio:
                    yield key, self._timeline(audio, watch)
            except BadClipError as error:
                yield key, error

    def _timeline(self, audio: AudioFile, watch: Callable[[EmbeddedClip], Iterator[np.ndarray]]) -> Timeline:
        scores, levels, seconds = self._score_recording(audio, watch)
        limit = np.sqrt(np.square(levels).mean()) * 10 ** (-self.args.silence / 20)
        scores[(levels < limit) | (levels == 0)] = 0
        if self.args.smoothing > 1:
            scores = median_filter(scores, size=(self.args.smoothing, 1), mode="nearest")
        is_present = scores >= self.args.threshold
        if excludes_other_labels(self.model.config):
            is_present &= scores == scores.max(axis=1, keepdims=True)
        edges = self.window_samples / 2 + self.hop * (np.arange(len(scores) + 1) - 0.5)
        edges = edges / self.extractor.sampling_rate
        edges[0], edges[-1] = 0.0, seconds
        events = []
        for column, label in zip(self.columns, self.labels):
            events += find_events(label, scores[:, column], is_present[:, column], edges, self.args)
        return Timeline(edges, scores[:, self.columns], self.labels, sorted(events))

    def _score_recording(
        self, audio: AudioFile, watch: Callable[[EmbeddedClip], Iterator[np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """The scores `(num_windows, num_labels)` and the levels of the windows, and the length in seconds."""
        num_samples = 0  # the length that the header of an MP3 gives is an estimate

        def counted_blocks() -> Iterator[np.ndarray]:
            nonlocal num_samples
            for block in audio.blocks():
                num_samples += len(block)
                yield block

        # As in the model, all windows count of which at least half lies in the recording.
        shortest = self.extractor.num_samples((self.model.config.window_size + 1) // 2)
        windows = cut_windows(counted_blocks(), self.window_samples, self.hop, shortest)
        num_windows = max(1, 1 + (audio.num_samples - shortest) // self.hop)
        chunks = EmbeddedClip(audio.num_samples / audio.sampling_rate, num_windows, self._score(windows))
        rows = np.concatenate(list(watch(chunks)))
        return rows[:, :-1], rows[:, -1], num_samples / audio.sampling_rate

    def _score(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The scores of windows and, in the last column, their level; a few windows at a time."""
        while chunk := list(islice(windows, WINDOWS_AT_ONCE)):
            # Each window is a clip by itself, with a loudness of its own, as the segments are in training.
            features = self.extractor(chunk, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
            with torch.inference_mode():
                logits = self.model(**features.to(self.model.device)).logits.float().cpu()
            levels = [np.sqrt(np.square(w).mean()) if np.abs(w).max() > SILENCE else 0.0 for w in chunk]
            yield np.column_stack([to_scores(logits, self.model.config).numpy(), levels]).astype(np.float32)


def cut_windows(blocks: Iterable[np.ndarray], length: int, hop: int, shortest: int) -> Iterator[np.ndarray]:
    """
    Cuts a recording into windows of `length` samples, one every `hop` samples. The last ones may be as short as
    `shortest`, and the first one as short as the recording.
    """
    waveform, is_first = np.empty(0, np.float32), True
    for block in blocks:
        waveform, start = np.concatenate([waveform, block]), 0
        while start + length <= len(waveform):
            yield waveform[start : start + length]
            start, is_first = start + hop, False
        waveform = waveform[start:]
    while is_first or len(waveform) >= shortest:
        yield waveform
        waveform, is_first = waveform[hop:], False


def find_events(
    label: str, scores: np.ndarray, is_present: np.ndarray, edges: np.ndarray, args: EventArguments
) -> list[Event]:
    """
    Finds the events of one label: runs of windows in which it is present, which are joined where the gap between them
    is at most `args.max_gap`, and then left out if they are shorter than `args.min_duration`.

    Args:
        label (`str`):
            The label.
        scores (`np.ndarray` of shape `(num_windows,)`):
            Its score in each window.
        is_present (`np.ndarray` of shape `(num_windows,)`):
            Whether it is present in each window.
        edges (`np.ndarray` of shape `(num_windows + 1,)`):
            When each window begins and ends, as in [`Timeline`].
        args ([`EventArguments`]):
            What counts as an event.
    """
    changes = np.diff(np.concatenate([[False], is_present, [False]]).astype(np.int8))
    spans: list[list[int]] = []
    for first, end in zip(np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)):
        if spans and edges[first] - edges[spans[-1][1]] <= args.max_gap:
            spans[-1][1] = end
        else:
            spans.append([first, end])
    return [
        Event(float(edges[first]), float(edges[end]), label, float(scores[first:end][is_present[first:end]].mean()))
        for first, end in spans
        if edges[end] - edges[first] >= args.min_duration
    ]
