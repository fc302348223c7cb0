"""When which sound is in a recording: scores over time and the events in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression

from feature_extraction import AudioFile, BadClipError, COLAFeatureExtractor, MissingAudioError
from helpers import count_decoded, encode
from model_helpers import build
from modeling_cola import COLAConfig, COLAForAudioClassification, COLAModel
from run_scripts.detection import detector
from run_scripts.detection.arguments import EventArguments
from run_scripts.detection.detector import Detector, Event, Timeline, cut_windows, find_events
from run_scripts.embedding.arguments import CHECKPOINT
from run_scripts.embedding.encode import embed_files


PITCHES = {"low": 150.0, "middle": 600.0, "high": 2400.0}
RATE = 16000
Truth = list[tuple[float, float, str]]


def record(truth: Truth, seconds: float, noise: float = 0.02) -> dict[str, Any]:
    """A recording of tones in noise."""
    rng = np.random.default_rng(0)
    samples = noise * rng.standard_normal(round(seconds * RATE))
    for start, end, label in truth:
        first, last = round(start * RATE), round(end * RATE)
        time = np.arange(last - first) / RATE
        samples[first:last] += 0.3 * np.sin(2 * np.pi * PITCHES[label] * rng.uniform(0.95, 1.05) * time)
    return {"array": samples.astype(np.float32), "sampling_rate": RATE}


def train(folder: Path, encoder, multi_label: bool, checkpoint: Path = CHECKPOINT) -> str:
    """A classifier of tones and of noise alone or, with several labels, of any of the tones at once."""
    sets = [[name] for name in PITCHES] + [[]]
    if multi_label:
        sets += [["low", "high"], ["low", "middle"], ["middle", "high"]]
    clips = [record([(0, 1.5, name) for name in names], 1.5 + i / 100) for names in sets for i in range(4)]
    vectors = embed_files(*encoder, clips)
    labels = list(PITCHES) if multi_label else [*PITCHES, "background"]
    present = np.repeat(
        [[name in names or (not names and name == "background") for name in labels] for names in sets], 4, 0
    )
    config = COLAConfig.from_pretrained(
        checkpoint,
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        problem_type=f"{'multi' if multi_label else 'single'}_label_classification",
    )
    model = COLAForAudioClassification.from_pretrained(checkpoint, config=config)
    if multi_label:
        heads = [LogisticRegression(C=10).fit(vectors, column) for column in present.T]
        weight, bias = np.concatenate([head.coef_ for head in heads]), np.concatenate([h.intercept_ for h in heads])
    else:
        head = LogisticRegression(C=10).fit(vectors, present.argmax(1))
        weight, bias = head.coef_, head.intercept_
    model.classifier.weight.data, model.classifier.bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
    model.save_pretrained(folder)
    COLAFeatureExtractor.from_pretrained(checkpoint).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def classifier(encoder, tmp_path_factory: pytest.TempPathFactory) -> str:
    return train(tmp_path_factory.mktemp("classifier"), encoder, multi_label=False)


@pytest.fixture(scope="module")
def precise_classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One that hears both halves of a window alike. cola-compact hears the second better, by 0.05 s."""
    checkpoint = CHECKPOINT.with_name("cola-base")
    encoder = COLAModel.from_pretrained(checkpoint), COLAFeatureExtractor.from_pretrained(checkpoint)
    return train(tmp_path_factory.mktemp("precise-classifier"), encoder, False, checkpoint)


@pytest.fixture(scope="module")
def tagger(encoder, tmp_path_factory: pytest.TempPathFactory) -> str:
    return train(tmp_path_factory.mktemp("tagger"), encoder, multi_label=True)


def detect(checkpoint: str, recording: Any, **options) -> Timeline:
    ((_, timeline),) = Detector(checkpoint, EventArguments(**options)).detect([("one", recording)])
    return timeline


def frames(events: list, seconds: float) -> np.ndarray:
    """Which label is present in each 0.1 s, `(frames, labels)`."""
    present = np.zeros((round(10 * seconds), len(PITCHES)), bool)
    for start, end, label, *_ in events:
        present[round(10 * start) : round(10 * end), list(PITCHES).index(label)] = True
    return present


def precision_and_recall(events: list[Event], truth: Truth, seconds: float) -> tuple[float, float]:
    found, real = frames(events, seconds), frames(truth, seconds)
    return (found & real).sum() / found.sum(), (found & real).sum() / real.sum()


SCENE: Truth = [
    (2.0, 5.0, "low"),
    (6.5, 9.0, "high"),
    (9.0, 12.3, "middle"),
    (15.0, 16.5, "low"),
    (18.0, 24.0, "high"),
]


@pytest.mark.parametrize("hop", [None, 0.1, 0.96])
def test_events_are_those_of_the_recording(classifier: str, hop: float | None):
    timeline = detect(classifier, record(SCENE, 26.0), hop=hop, ignore_labels=["background"])
    assert [event.label for event in timeline.events] == [label for _, _, label in SCENE]
    # A tone that is much louder than the noise is heard in a window of which it is only a small part.
    tolerance = (hop or 0.48) / 2 + 0.48
    for event, (start, end, _) in zip(timeline.events, SCENE):
        assert abs(event.start - start) < tolerance and abs(event.end - end) < tolerance
    precision, recall = precision_and_recall(timeline.events, SCENE, 26.0)
    assert precision > 0.75 and recall > 0.9


def test_several_labels_may_overlap(tagger: str):
    truth: Truth = [(1.0, 7.0, "low"), (3.0, 9.0, "high"), (11.0, 14.0, "middle")]
    timeline = detect(tagger, record(truth, 16.0))
    assert [event.label for event in timeline.events] == ["low", "high", "middle"]
    precision, recall = precision_and_recall(timeline.events, truth, 16.0)
    assert precision > 0.75 and recall > 0.9


@pytest.mark.parametrize("hop", [0.1, 0.48])
def test_times_are_right_to_half_a_hop(precise_classifier: str, hop: float):
    """Where one tone follows another, the window that is half of each is at the border."""
    borders = np.arange(1, 9) * 2.57
    edges = [0.0, *borders, 24.0]
    truth = [(start, end, ("low", "high")[i % 2]) for i, (start, end) in enumerate(zip(edges, edges[1:]))]
    events = detect(precise_classifier, record(truth, 24.0), hop=hop).events
    events = [event for event in events if event.label != "background"]
    assert [event.label for event in events] == [label for _, _, label in truth]
    errors = np.array([event.start for event in events[1:]]) - borders
    # A classifier may take a window of both for either of them, so that errors alternate.
    assert abs(errors.mean()) < hop / 2 and np.abs(errors).max() < hop / 2 + 0.15
    assert events[0].start == 0 and events[-1].end == 24.0


def test_scores_are_those_of_the_classifier_for_each_window(classifier: str, tmp_path: Path):
    recording = record(SCENE[:1], 7.0)
    timeline = detect(classifier, recording, hop=0.48, silence=200, smoothing=1)
    model = COLAForAudioClassification.from_pretrained(classifier).eval()
    extractor = COLAFeatureExtractor.from_pretrained(classifier)
    starts = range(0, 7 * RATE - 7920 + 1, 7680)  # as long as half a window is left
    windows = [recording["array"][start : start + 15600] for start in starts]
    with torch.inference_mode():
        logits = [model(**extractor(window, RATE, return_tensors="pt")).logits[0] for window in windows]
    np.testing.assert_allclose(timeline.scores, torch.stack(logits).softmax(-1), atol=1e-5)
    np.testing.assert_allclose(timeline.edges[1:-1], 0.4875 + 0.48 * np.arange(len(starts))[:-1] + 0.24)
    assert (timeline.edges[0], timeline.edges[-1]) == (0.0, 7.0)
    model.config.window_hop = 24  # the detector cuts windows itself
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    overlapping = detect(str(tmp_path), recording, hop=0.48, silence=200, smoothing=1)
    np.testing.assert_allclose(overlapping.scores, timeline.scores, atol=1e-6)


def test_loudness_makes_no_difference(classifier: str):
    """Neither of the recording, nor of a sound in it."""
    recording = record(SCENE, 26.0)
    quiet = recording | {"array": recording["array"] / 50}
    assert [e[:3] for e in detect(classifier, quiet).events] == [e[:3] for e in detect(classifier, recording).events]
    fading = recording | {"array": recording["array"] * np.geomspace(1, 0.05, 26 * RATE, dtype=np.float32)}
    assert [e[2] for e in detect(classifier, fading, ignore_labels=["background"]).events] == [e[2] for e in SCENE]


def test_silence_has_no_label(classifier: str):
    """By itself the classifier takes faint noise for the class that it sounds like."""
    recording = record([(4.0, 6.0, "high")], 12.0, noise=0)
    faint = 3e-4 * np.random.default_rng(0).standard_normal(4 * RATE)
    recording["array"][-4 * RATE :] += faint.astype(np.float32)
    assert {event.label for event in detect(classifier, recording, silence=100).events} == {"high", "background"}
    assert [event.label for event in detect(classifier, recording).events] == ["high"]


@pytest.mark.parametrize("amplitude", [0, 2**-16])
def test_a_silent_recording_has_no_events(classifier: str, amplitude: float):
    samples = amplitude * np.sign(np.random.default_rng(0).standard_normal(5 * RATE)).astype(np.float32)
    timeline = detect(classifier, {"array": samples, "sampling_rate": RATE})
    assert timeline.events == [] and timeline.scores.max() == 0 and timeline.seconds == 5.0


def test_labels_are_restricted(classifier: str):
    recording = record(SCENE, 26.0)
    everything = detect(classifier, recording)
    assert "background" in {event.label for event in everything.events}
    some = detect(classifier, recording, labels=["low", "high"], ignore_labels=["high"])
    assert some.labels == ["low"] and some.events == [event for event in everything.events if event.label == "low"]
    assert some.scores.shape == (len(everything.scores), 1)


def test_of_labels_that_exclude_each_other_only_the_most_probable_one_is_present(classifier: str, tagger: str):
    recording = record([(0.0, 6.0, "low"), (0.0, 6.0, "high")], 6.0)
    for checkpoint, most in ((classifier, 1), (tagger, 2)):
        timeline = detect(checkpoint, recording, threshold=0.01, ignore_labels=["middle"], max_gap=0)
        present = frames([event for event in timeline.events if event.label in PITCHES], 6.0)
        assert present.sum(1).max() == most


def test_a_clip_that_is_shorter_than_a_window_is_one_event(classifier: str):
    (event,) = detect(classifier, record([(0.0, 0.4, "high")], 0.4)).events
    assert (event.start, event.end, event.label) == (0.0, 0.4, "high")


# Events in scores


def events_in(scores: list[float], **options) -> list[tuple]:
    """Events of windows of a second."""
    values = np.array(scores, np.float32)
    args = EventArguments(**options)
    found = find_events("a", values, values >= args.threshold, np.arange(len(values) + 1.0), args)
    return [(event.start, event.end, pytest.approx(event.score)) for event in found]


def test_windows_that_touch_are_one_event_with_their_mean_score():
    assert events_in([0, 0.6, 0.8, 0.1, 0.1, 1.0]) == [(1, 3, 0.7), (5, 6, 1.0)]
    assert events_in([0.5, 0.5]) == [(0, 2, 0.5)]
    assert events_in([0.1]) == []


def test_short_gaps_are_closed_and_do_not_count_for_the_score():
    scores = [0.6, 0.0, 0.8, 0.0, 0.0, 0.9]
    assert events_in(scores, max_gap=0.9) == [(0, 1, 0.6), (2, 3, 0.8), (5, 6, 0.9)]
    assert events_in(scores, max_gap=1.0) == [(0, 3, 0.7), (5, 6, 0.9)]


def test_short_events_are_left_out_once_gaps_are_closed():
    scores = [0.6, 0.0, 0.8, 0.0, 0.0, 0.9]
    assert events_in(scores, max_gap=1.0, min_duration=3.0) == [(0, 3, 0.7)]
    assert events_in(scores, max_gap=0.0, min_duration=1.5) == []


def test_smoothing_drops_what_few_windows_say(classifier: str):
    recording = record([(3.0, 3.1, "high"), (6.0, 11.0, "low")], 14.0)
    labels = {
        smoothing: [event.label for event in detect(classifier, recording, smoothing=smoothing).events]
        for smoothing in (1, 7)
    }
    assert labels[1] == ["background", "high", "background", "low", "background"]
    assert labels[7] == ["background", "low", "background"]


# Long recordings


def test_a_long_recording_is_never_whole_in_memory(classifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is decoded in blocks, and classified a few windows at a time, with the same result."""
    soundfile.write(tmp_path / "scene.wav", record(SCENE, 26.0)["array"], RATE)
    expected = detect(classifier, tmp_path / "scene.wav", hop=0.2)
    monkeypatch.setattr("feature_extraction.audio.BLOCK", RATE // 2)
    monkeypatch.setattr(detector, "WINDOWS_AT_ONCE", 8)
    monkeypatch.setattr(AudioFile, "read", None)
    decoded, sizes, log_mel = count_decoded(monkeypatch), [], COLAFeatureExtractor.log_mel

    def spy(self, waveforms, *args):
        sizes.append(waveforms.numel())
        return log_mel(self, waveforms, *args)

    monkeypatch.setattr(COLAFeatureExtractor, "log_mel", spy)
    timeline = detect(classifier, tmp_path / "scene.wav", hop=0.2)
    assert max(decoded) <= RATE // 2 and max(sizes) <= 8 * 15600
    np.testing.assert_allclose(timeline.scores, expected.scores, atol=1e-4)
    assert [event[:3] for event in timeline.events] == [event[:3] for event in expected.events]


@pytest.mark.parametrize("length", [1, 5, 9, 10, 14, 15, 16, 37, 40])
@pytest.mark.parametrize("block", [3, 100])
def test_windows_cover_the_recording(length: int, block: int):
    """The last one has at least half of its samples."""
    waveform = np.arange(length, dtype=np.float32)
    blocks = [waveform[start : start + block] for start in range(0, length, block)]
    windows = list(cut_windows(blocks, length=10, hop=4, shortest=5))
    starts = [0, *range(4, max(length - 5, 0) + 1, 4)]
    assert [list(window) for window in windows] == [list(waveform[start : start + 10]) for start in starts]


def test_the_end_of_a_recording_that_is_damaged_is_reported(classifier: str, tmp_path: Path):
    (tmp_path / "cut.wav").write_bytes(encode(record(SCENE, 26.0)["array"])[:400000])
    sources = [(1, tmp_path / "cut.wav"), (2, tmp_path / "none.wav"), (3, record(SCENE, 26.0))]
    found = dict(Detector(classifier, EventArguments()).detect(sources))
    assert isinstance(found[2], MissingAudioError) and len(found[3].events) > 4
    assert isinstance(found[1], BadClipError) or found[1].seconds < 13  # libsndfile corrects the length in the header


# What cannot be done


def test_a_checkpoint_without_a_head_is_refused():
    with pytest.raises(ValueError, match="cola-compact is not a classifier: train one"):
        Detector(str(CHECKPOINT), EventArguments())
    with pytest.raises(ValueError, match="There is no checkpoint nowhere/"):
        Detector("nowhere/", EventArguments())


def test_a_checkpoint_whose_head_is_missing_is_refused(tmp_path: Path):
    build(COLAForAudioClassification).cola.save_pretrained(tmp_path)
    config = build(COLAForAudioClassification).config
    config.architectures = ["COLAForAudioClassification"]
    config.save_pretrained(tmp_path)
    COLAFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="are not those of the encoder 'compact' and the head in its config.json"):
        Detector(str(tmp_path), EventArguments())


def test_a_regression_is_refused(tmp_path: Path):
    build(COLAForAudioClassification, problem_type="regression").save_pretrained(tmp_path)
    COLAFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is not a classifier"):
        Detector(str(tmp_path), EventArguments())


def test_wrong_labels_and_hops_are_refused(classifier: str):
    with pytest.raises(ValueError, match="has no label 'dog'; its labels are low, middle, high, background"):
        Detector(classifier, EventArguments(labels=["dog"]))
    for hop in (0.001, 1.0):
        with pytest.raises(ValueError, match=r"--hop must be from 0\.01 to 0\.96 s, the length of a window"):
            Detector(classifier, EventArguments(hop=hop))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 0.0}, "--hop must be above 0"),
        ({"hop": float("nan")}, "--hop must be above 0"),
        ({"hop": float("inf")}, "--hop must be above 0 seconds and finite"),
        ({"threshold": 0.0}, "--threshold must be above 0 and at most 1"),
        ({"threshold": 1.5}, "--threshold must be above 0 and at most 1"),
        ({"smoothing": 2}, "--smoothing must be an odd number"),
        ({"max_gap": -1.0}, "--max_gap must be at least 0"),
        ({"min_duration": -1.0}, "--min_duration must be at least 0"),
    ],
)
def test_wrong_values_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        EventArguments(**options)
