"""The plots that the scripts draw."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from run_scripts.common import plots


def test_curves_are_those_of_the_log(tmp_path: Path, figures: list[Figure]):
    history = [{"step": s, "loss": 1 / s, "accuracy": 0.5, "validation_loss": 2.0} for s in (1, 2, 4)]
    history[-1]["probe_accuracy"] = 60.0
    plots.plot_training_curves(history, tmp_path / "curves.png", {"loss": np.log(8), "accuracy": 1 / 8})
    loss, accuracy, probe = [
        {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines}
        for axis in figures[0].axes
    ]
    assert loss["training"] == ([1, 2, 4], [1, 0.5, 0.25])
    assert loss["validation (not augmented)"] == ([1, 2, 4], [2.0] * 3)
    assert loss["chance"][1] == [np.log(8)] * 2 and accuracy["chance"][1] == [12.5] * 2
    assert accuracy["training"] == ([1, 2, 4], [50.0] * 3)
    assert list(probe.values()) == [([4], [60.0])]
    assert (tmp_path / "curves.png").is_file()


def test_the_similarity_matrix_says_how_many_are_matched(tmp_path: Path, figures: list[Figure]):
    logits = np.eye(8)
    logits[0, 3] = 2.0
    plots.plot_similarity_matrix(logits, tmp_path / "similarity.png")
    axis = figures[0].axes[0]
    assert axis.get_title() == "8 held-out pairs of recordings, 88 % matched"
    assert (axis.images[0].get_array() == logits).all()


def points(axis: Axes) -> dict[str, int]:
    """How many points a map has of each entry of its legend."""
    return {group.get_label(): len(group.get_offsets()) for group in axis.collections}


def test_a_map_has_a_colour_for_each_label_and_a_line_for_each_pair(
    tmp_path: Path, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plots, "place_by_tsne", lambda vectors: vectors)
    vectors = np.random.default_rng(0).standard_normal((20, 2))
    labels = ["b"] * 7 + ["a"] * 3
    plots.plot_embedding_map(vectors, tmp_path / "map.png", labels * 2, pairs=True, title="A map")
    plots.plot_embedding_map(vectors, tmp_path / "plain.png")
    (axis,), (plain,) = (figure.axes for figure in figures)
    assert points(axis) == {"a": 6, "b": 14} and len(axis.lines) == 10 and axis.get_title() == "A map"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]
    assert list(points(plain).values()) == [20] and plain.get_legend() is None


def test_a_map_of_many_labels_names_the_most_frequent(
    tmp_path: Path, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plots, "place_by_tsne", lambda vectors: vectors)
    numbers = np.repeat(np.arange(400), np.arange(400) + 1)
    vectors = np.random.default_rng(0).standard_normal((len(numbers), 2))
    plots.plot_embedding_map(vectors, tmp_path / "map.png", [f"class {number}" for number in numbers])
    (axis,) = figures[0].axes
    shown = points(axis)
    assert shown.pop("360 other labels") == 360 * 361 // 2
    assert shown == {f"class {i}": i + 1 for i in sorted(range(360, 400), key=str)}
    assert len(axis.get_legend().get_texts()) == 41
    assert axis.collections[0].get_sizes()[0] < 2  # or 80,000 points are one blot


def test_curves_have_a_plot_for_each_metric_that_was_logged(tmp_path: Path, figures: list[Figure]):
    for entry in ({}, {"accuracy": 0.5}, {"probe_accuracy": 50.0}, {"validation_accuracy": 0.5, "probe_accuracy": 50}):
        plots.plot_training_curves([{"step": 1, "loss": 1.0} | entry], tmp_path / "curves.png", {})
    labels = [[axis.get_ylabel() for axis in figure.axes] for figure in figures]
    loss, pretext, probe = "Loss", "Pretext accuracy (%)", "Linear probe accuracy (%)"
    assert labels == [[loss], [loss, pretext], [loss, probe], [loss, pretext, probe]]


def test_steps_and_recordings_are_whole_numbers(tmp_path: Path, figures: list[Figure]):
    plots.plot_training_curves([{"step": s, "loss": 1 / s} for s in (1, 2, 3)], tmp_path / "loss.png", {})
    plots.plot_similarity_matrix(np.eye(3), tmp_path / "similarity.png")
    curves, similarity = figures
    axes = [curves.axes[0].xaxis, similarity.axes[0].xaxis, similarity.axes[0].yaxis]
    for axis in axes:
        ticks = [label.get_text() for label in axis.get_ticklabels()]
        assert len(ticks) >= 3 and all(tick.lstrip("\N{MINUS SIGN}").isdigit() for tick in ticks), ticks


@pytest.mark.parametrize("name", [r"$\nothing$", "$5 to $6"])
def test_names_are_shown_as_they_are_written(tmp_path: Path, figures: list[Figure], name: str):
    """As a formula, the first one is an error."""
    plots.plot_embedding_map(
        np.random.default_rng(0).standard_normal((9, 4)), tmp_path / "a.png", [name] * 9, title=name
    )
    plots.plot_confusion_matrix(np.eye(2, dtype=int), [name, "b"], tmp_path / "b.png")
    plots.plot_accuracy_bars({name: {name: 50.0}}, tmp_path / "c.png", title=name)
    plots.plot_class_bars(np.array([0.5]), [name], tmp_path / "d.png", name)
    for figure in figures:
        texts = [text for text in figure.findobj(Text) if name in text.get_text()]
        assert texts and not any(text.get_parse_math() for text in texts)


def test_class_bars_are_sorted_and_leave_out_classes_without_clips(tmp_path: Path, figures: list[Figure]):
    names = ["middle", "none", "best", "worst", "best"]
    plots.plot_class_bars(np.array([0.5, np.nan, 0.9, 0.1, 0.8]), names, tmp_path / "few.png", "F1")
    values = np.linspace(0, 1, 100)
    plots.plot_class_bars(values, [f"class {i}" for i in range(100)], tmp_path / "many.png", "average precision")
    few, many = (figure.axes[0] for figure in figures)
    assert [label.get_text() for label in few.get_yticklabels()] == ["best", "best", "middle", "worst"]
    assert [bar.get_width() for bar in few.patches] == pytest.approx([90, 80, 50, 10])
    assert [label.get_text() for label in many.get_yticklabels()] == [f"class {i}" for i in range(59, -1, -1)]
    assert many.get_title() == "Average precision by class (the 60 worst of 100)"


def test_confusions_have_counts_and_no_blank_bands(tmp_path: Path, figures: list[Figure]):
    matrix = np.array([[1200, 0, 400, 0], [0, 0, 0, 0], [1, 0, 3, 0], [0, 0, 0, 0]])
    matrix[3, 3], matrix[0, 1] = 0, 400
    plots.plot_confusion_matrix(matrix, ["a", "b", "c", "d"], tmp_path / "matrix.png")
    (axis, _) = figures[0].axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b", "c"]  # d occurs nowhere
    drawn = {(text.get_position(), text.get_text()) for text in axis.texts}
    assert drawn == {
        ((0, 0), "60 %\n1,200"),
        ((1, 0), "20 %\n400"),
        ((2, 0), "20 %\n400"),
        ((1, 1), "no clips"),
        ((0, 2), "25 %\n1"),
        ((2, 2), "75 %\n3"),
    }


@pytest.mark.parametrize("num_classes", [20, 100])
def test_names_of_classes_are_cut_and_do_not_overlap(tmp_path: Path, figures: list[Figure], num_classes: int):
    names = [f"class {i} with a name that is far too long for an axis, number {i}" for i in range(num_classes)]
    plots.plot_confusion_matrix(np.eye(num_classes, dtype=int), names, tmp_path / "matrix.png")
    axis = figures[0].axes[0]
    labels = axis.get_yticklabels()
    assert labels[3].get_text() == "class 3 with a n…axis, number 3"
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in zip(boxes, boxes[1:]))
    assert max(figures[0].get_size_inches()) < 25


def test_methods_have_different_colours(tmp_path: Path, figures: list[Figure]):
    methods = [f"method {i}" for i in range(20)]
    plots.plot_accuracy_bars({"task": dict.fromkeys(methods, 50.0)}, tmp_path / "bars.png")
    plots.plot_learning_curves({method: {"5": 50.0} for method in methods}, tmp_path / "curves.png", title="Curves")
    bars, curves = (figure.axes[0] for figure in figures)
    assert len({bar.get_facecolor() for bar in bars.patches}) == 20
    assert len({line.get_color() for line in curves.lines}) == 20


def test_missing_accuracies_leave_no_gap(tmp_path: Path, figures: list[Figure]):
    table = {"one": {"A": 50.0, "B": np.nan, "C": 60.0}, "two": {"A": 50.0, "B": 55.0, "C": 60.0}}
    plots.plot_accuracy_bars(table, tmp_path / "bars.png")
    bars = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in figures[0].axes[0].patches)
    gaps = [start - end for (_, end), (start, _) in zip(bars, bars[1:])]
    assert len(bars) == 5 and [gap > 1e-6 for gap in gaps] == [False, True, False, False]


def test_long_names_leave_the_plot_most_of_the_picture(tmp_path: Path, figures: list[Figure]):
    name = "compact (pooling statistics, pooling_stages 2, compact_channels [64, 128, 128], compact_depth 2), random"
    plots.plot_learning_curves({name: {"5": 50.0, "10": 60.0}}, tmp_path / "curves.png", title="Curves")
    (axis,) = figures[0].axes
    (text,) = axis.get_legend().get_texts()
    assert text.get_text().replace("\n", " ") == name
    assert axis.get_legend().get_window_extent().width < 0.7 * axis.get_window_extent().width


@pytest.mark.parametrize("num_methods", [3, 4, 8, 12])
def test_labels_of_bars_do_not_overlap(tmp_path: Path, figures: list[Figure], num_methods: int):
    table = {f"task {i}": {f"method {j}": 100.0 for j in range(num_methods)} for i in range(10)}
    plots.plot_accuracy_bars(table, tmp_path / "bars.png")
    (axis,) = figures[0].axes
    boxes = sorted((text.get_window_extent() for text in axis.texts), key=lambda box: box.x0)
    assert max(box.y1 for box in boxes) <= axis.get_window_extent().y1
    assert len(boxes) == 10 * num_methods and all(left.x1 <= right.x0 for left, right in zip(boxes, boxes[1:]))


def test_names_in_any_script_give_no_glyph_warnings(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    names = ["犬の声", "قطة", "$a$ $b$"]
    plots.plot_confusion_matrix(np.eye(3, dtype=int), names, tmp_path / "matrix.png")
    plots.plot_class_bars(np.array([0.1, 0.2, 0.3]), names, tmp_path / "bars.png", "F1")
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]


def test_embeddings_that_are_alike_are_placed_near_each_other():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 10)
    points = plots.place_by_tsne(rng.standard_normal((20, 60)) + 10 * groups[:, None])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(1)] == groups).all()
    assert np.isfinite(plots.place_by_tsne(np.ones((5, 60)))).all()  # of the same sound five times


def test_a_font_that_has_the_characters_is_found(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    installed = {"/boxes": ("Last Resort", "a犬猫قط"), "/cjk": ("CJK", "犬"), "/more": ("More", "犬猫")}
    monkeypatch.setattr(plots, "_characters", lambda file: frozenset(map(ord, installed.get(file, ("", "aقط"))[1])))
    ttflist = [SimpleNamespace(name=name, fname=file) for file, (name, _) in installed.items()]
    monkeypatch.setattr(plots, "fontManager", SimpleNamespace(ttflist=ttflist))
    assert plots.find_fonts("aقط", "plot.png") == ["sans-serif"]
    assert plots.find_fonts("a犬猫", "plot.png") == ["sans-serif", "CJK", "More"]
    assert not caplog.records
    assert plots.find_fonts("犬鳥虫", "plot.png") == ["sans-serif", "CJK"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "plot.png: no installed font has the characters 虫鳥" in record.message
