"""run_detection.py: the files that it writes, what it skips, and its plots."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from matplotlib.figure import Figure

from feature_extraction import COLAFeatureExtractor
from model_helpers import build
from modeling_cola import COLAForAudioClassification
from run_scripts import run_detection
from run_scripts.common.skipped import read_notes
from run_scripts.detection import detect, timeline
from run_scripts.detection.detector import Event, Timeline
from run_scripts.detection.files import event_tables, write_label_track
from run_scripts.detection.timeline import draw_timeline, format_time, pooled_spectrogram, timeline_height


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes that takes any sound for a dog."""
    folder = tmp_path_factory.mktemp("classifier")
    model = build(COLAForAudioClassification, id2label={0: "dog", 1: "cat", 2: "犬 & $x$"})
    model.classifier.bias.data[0] = 1000
    model.save_pretrained(folder)
    COLAFeatureExtractor().save_pretrained(folder)
    return folder


def write_noise(path: Path, seconds: float, amplitude: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, amplitude * np.random.default_rng(0).standard_normal(round(seconds * 16000)), 16000)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    write_noise(folder / "day" / "a.wav", 3.0)
    write_noise(folder / "day" / "a.flac", 2.0)
    write_noise(folder / "night" / "a.wav", 2.5)
    write_noise(folder / "night" / "silent.wav", 2.0, amplitude=0)
    (folder / "night" / "bad.wav").write_text("not audio")
    return folder


def run(data: Path, classifier: Path, output_dir: Path, *more: str) -> list[dict[str, Any]]:
    """Runs the script, and returns the rows of the table."""
    arguments = ["--dataset_name", str(data), "--model_name_or_path", str(classifier), "--output_dir", str(output_dir)]
    path = run_detection.main([*arguments, *more])
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_recording_has_events_a_label_track_and_a_plot(recordings: Path, classifier: Path, tmp_path: Path):
    out = tmp_path / "out"
    rows = run(recordings, classifier, out)
    assert [(Path(row["file"]).relative_to(recordings).as_posix(), row["end"]) for row in rows] == [
        ("day/a.flac", "2.0"),
        ("day/a.wav", "3.0"),
        ("night/a.wav", "2.5"),
    ]
    assert {(row["start"], row["label"], row["score"]) for row in rows} == {("0.0", "dog", "1.0")}
    table = pq.read_table(out / "events.parquet").to_pylist()
    assert [{name: str(value) for name, value in row.items()} for row in table] == rows
    names = ["day/a", "day/a-2", "night/a", "night/silent"]
    for folder, suffix in (("labels", ".txt"), ("plots", ".png")):
        files = {path.relative_to(out / folder).as_posix() for path in (out / folder).rglob("*.*")}
        assert files == {name + suffix for name in names}
    assert (out / "labels" / "day" / "a-2.txt").read_text() == "0.000000\t3.000000\tdog\n"
    assert (out / "labels" / "night" / "silent.txt").read_text() == ""
    (note,) = read_notes(out / "skipped.tsv")
    assert note.kind == "damaged" and note.name.endswith("bad.wav")


def test_without_events_the_tables_have_no_rows(classifier: Path, tmp_path: Path):
    write_noise(tmp_path / "silent.wav", 3.0, amplitude=0)
    assert run(tmp_path / "silent.wav", classifier, tmp_path / "out") == []
    assert (tmp_path / "out" / "events.csv").read_text().splitlines() == ["file,start,end,label,score"]
    table = pq.read_table(tmp_path / "out" / "events.parquet")
    assert table.num_rows == 0 and table.column_names == ["file", "start", "end", "label", "score"]
    assert (tmp_path / "out" / "plots" / "silent.png").stat().st_size > 5000


def test_where_no_recording_can_be_used_an_error_says_so(classifier: Path, tmp_path: Path):
    (tmp_path / "bad.wav").write_text("not audio")
    with pytest.raises(ValueError, match="No clip could be used: .*skipped.tsv lists the reasons"):
        run(tmp_path / "bad.wav", classifier, tmp_path / "out")


def test_tables_of_an_earlier_run_stay_whole_if_a_run_fails(
    recordings: Path, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    run(recordings, classifier, out)
    before = {name: (out / name).read_bytes() for name in ("events.csv", "events.parquet")}
    write, paths = write_label_track, []

    def fail(path: Path, events: list[Event]) -> None:
        paths.append(path)
        if len(paths) == 3:
            raise KeyboardInterrupt
        write(path, events)

    monkeypatch.setattr(detect, "write_label_track", fail)
    with pytest.raises(KeyboardInterrupt):
        run(recordings, classifier, out, "--max_plots", "0")
    assert {name: (out / name).read_bytes() for name in before} == before
    assert not list(out.glob(".events*"))


def test_many_events_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("run_scripts.detection.files.GROUP_ROWS", 4)
    with event_tables(tmp_path) as tables:
        for i in range(7):
            tables.add(f"{i}.wav", [Event(0.12345, 1.0, 'a "b", c', 0.98765), Event(2.0, 3.0, "d\ne", 0.5)])
    table = pq.read_table(tmp_path / "events.parquet").to_pylist()
    assert len(table) == 14 and table[12] == {
        "file": "6.wav",
        "start": 0.123,
        "end": 1.0,
        "label": 'a "b", c',
        "score": 0.9877,
    }
    with open(tmp_path / "events.csv", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [row["label"] for row in table]


def test_a_label_track_is_one_line_for_each_event(tmp_path: Path):
    write_label_track(tmp_path / "a.txt", [Event(0.5, 3661.25, "a\tb\nc", 0.9), Event(4000.0, 4001.0, "犬", 0.9)])
    assert (tmp_path / "a.txt").read_text("utf-8") == "0.500000\t3661.250000\ta b c\n4000.000000\t4001.000000\t犬\n"


# Plots


def test_as_many_plots_are_drawn_as_are_asked_for(recordings: Path, classifier: Path, tmp_path: Path):
    run(recordings, classifier, tmp_path / "out", "--max_plots", "1")
    assert [path.name for path in (tmp_path / "out" / "plots").rglob("*.png")] == ["a.png"]
    assert len(list((tmp_path / "out" / "labels").rglob("*.txt"))) == 4


def test_a_plot_that_cannot_be_drawn_is_a_warning(
    recordings: Path, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    monkeypatch.setattr(timeline, "draw_timeline", None)
    assert len(run(recordings, classifier, tmp_path / "out")) == 3
    assert "could not be drawn" in caplog.text


def drawn(found: Timeline) -> Figure:
    figure = Figure(figsize=(12, timeline_height(found)))
    spectrogram = np.random.default_rng(0).standard_normal((64, 100))
    draw_timeline(figure, found, spectrogram, COLAFeatureExtractor(), 0.5, "a.wav")
    figure.draw_without_rendering()
    return figure


def test_a_plot_has_a_lane_for_each_label_with_events(tmp_path: Path):
    scores = np.random.default_rng(0).uniform(size=(100, 30)).astype(np.float32)
    labels = [f"label {i}" for i in range(30)]
    events = [Event(float(i), i + 3.0, labels[i % 3], 0.9) for i in range(10)]
    picture, lanes = drawn(Timeline(np.linspace(0, 50, 101), scores, labels, events)).axes
    assert [text.get_text() for text in lanes.get_yticklabels()] == [
        "label 2: 3 events",
        "label 1: 3 events",
        "label 0: 4 events",
    ]
    assert picture.get_xlim() == lanes.get_xlim() == (0, 50)
    everywhere = [Event(0.0, float(i + 1), label, 0.9) for i, label in enumerate(labels)]
    picture, lanes = drawn(Timeline(np.linspace(0, 50, 101), scores, labels, everywhere)).axes
    assert len(lanes.get_yticklabels()) == timeline.MAX_LANES
    assert picture.get_title(loc="left") == "a.wav (12 of 30 labels: those of the longest events)"
    _, lanes = drawn(Timeline(np.linspace(0, 50, 101), scores, labels, [])).axes
    assert len(lanes.get_yticklabels()) == 3  # those of the highest scores, to see what is missing


def test_the_plot_of_a_long_recording_keeps_short_events_visible(tmp_path: Path):
    """A single window in ten hours is the highest of its step."""
    scores = np.zeros((75000, 1), np.float32)
    scores[40000] = 0.9
    found = Timeline(np.linspace(0, 36000, 75001), scores, ["a"], [Event(19200.0, 19200.48, "a", 0.9)])
    _, lanes = drawn(found).axes
    values, edges, _ = lanes.patches[0].get_data()
    assert len(values) <= timeline.MAX_COLUMNS and values.max() == pytest.approx(0.9 * timeline.LANE)
    assert edges[values.argmax()] <= 19200 <= edges[values.argmax() + 1]
    (bars,) = lanes.collections
    assert bars.get_linewidth() >= 1


def test_the_spectrogram_of_a_long_recording_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each column is the mean of its frames."""
    monkeypatch.setattr(timeline, "MAX_COLUMNS", 10)
    time = np.arange(10 * 16000) / 16000
    samples = np.sin(2 * np.pi * 1000 * time) * (time.astype(int) % 2)  # a tone in every other second
    soundfile.write(tmp_path / "a.wav", 0.1 * samples, 16000)
    extractor = COLAFeatureExtractor()
    whole = pooled_spectrogram(tmp_path / "a.wav", extractor)
    monkeypatch.setattr("feature_extraction.audio.BLOCK", 7000)
    extractor_calls, log_mel = [], COLAFeatureExtractor.log_mel

    def spy(self, waveforms, lengths):
        extractor_calls.append(waveforms.shape[-1])
        return log_mel(self, waveforms, lengths)

    monkeypatch.setattr(COLAFeatureExtractor, "log_mel", spy)
    parts = pooled_spectrogram(tmp_path / "a.wav", extractor)
    assert max(extractor_calls) <= 7000 and parts.shape == (64, 10)
    assert (parts.max(0)[1::2] - parts.max(0)[::2]).min() > 5
    np.testing.assert_allclose(parts.max(0), whole.max(0), atol=1)


@pytest.mark.parametrize("seconds", [0.3, 3.0, 59.0, 61.0, 600.0, 3599.0, 36000.0, 1e6])
def test_ticks_are_at_round_times(seconds: float):
    _, lanes = drawn(Timeline(np.array([0, seconds]), np.zeros((1, 1), np.float32), ["a"], [])).axes
    shown = [text.get_text() for text in lanes.get_xticklabels() if 0 <= text.get_position()[0] <= seconds]
    assert 2 <= len(shown) <= 13 and len(set(shown)) == len(shown)
    assert seconds < 60 or seconds > 4e5 or all(text.endswith(("0", "5")) for text in shown)


def test_times_are_written_as_clocks_do():
    assert [format_time(12.5, 30), format_time(200, 300), format_time(3800, 36000)] == ["12.5", "3:20", "1:03:20"]
