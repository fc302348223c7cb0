"""The map of clips: what the page holds, and what it does in a browser."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import browser, open_page  # noqa: F401
from feature_extraction import COLAFeatureExtractor
from helpers import audio_dataset
from modeling_cola import COLAConfig, COLAModel
from run_scripts import run_embedding
from run_scripts.embedding import map as clip_map
from run_scripts.embedding.search import Index


def page_data(folder: Path) -> dict[str, Any]:
    html = (folder / "map.html").read_text()
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', html)[1])


@pytest.fixture(scope="module")
def tone_map(embedded: Path) -> Path:
    run_embedding.main(["--output_dir", str(embedded), "--map"])
    return embedded / "map.html"


@pytest.fixture(scope="module")
def parquet_map(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 6 clips that are in Parquet, one of them with a name that would end the script, by windows."""
    folder = tmp_path_factory.mktemp("parquet_map")
    clips = [
        {"bytes": path.read_bytes(), "path": f"{path.stem}</script>.wav"} for path in sorted(tones.rglob("*5.wav"))
    ]
    audio_dataset(clips).to_parquet(folder / "data" / "train.parquet")
    arguments = ["--dataset_name", str(folder / "data"), "--output_dir", str(folder / "out"), "--windows", "--map"]
    run_embedding.main(arguments)
    return folder / "out" / "map.html"


# What it holds


def test_points_have_names_groups_links_and_similar_points(tone_map: Path, tones: Path):
    data = page_data(tone_map.parent)
    assert data["groups"] == ["high", "low", "middle"] and len(data["points"]) == 48
    for number, point in enumerate(data["points"]):
        assert (tone_map.parent / point["audio"]).resolve() == tones / point["name"]
        assert data["groups"][point["group"]] == point["name"].split("/")[0]
        assert 0 <= point["x"] <= 1 and 0 <= point["y"] <= 1
        similarities = [similarity for _, similarity in point["similar"]]
        assert similarities == sorted(similarities, reverse=True) and len(similarities) == 20
        assert number not in [other for other, _ in point["similar"]]


def test_audio_in_parquet_is_in_the_page(parquet_map: Path, monkeypatch):
    points = page_data(parquet_map.parent)["points"]
    assert len(points) == 12 and all(point["audio"].startswith("data:audio/ogg;base64,") for point in points)
    assert points[1]["name"] == "15</script>.wav@0.96"
    text = parquet_map.read_text()
    monkeypatch.setattr(clip_map, "MAX_AUDIO_BYTES", 1)
    run_embedding.main(["--output_dir", str(parquet_map.parent), "--map"])
    points = page_data(parquet_map.parent)["points"]
    assert len(parquet_map.read_text()) < len(text) / 2 and sum(point["audio"] is not None for point in points) == 2
    parquet_map.write_text(text)


def test_clips_without_folders_and_audio_that_has_changed(
    tmp_path: Path, tones: Path, caplog: pytest.LogCaptureFixture
):
    paths = sorted(tones.rglob("*.wav"))[:5]
    clips = [{"bytes": path.read_bytes(), "path": f"{number}.wav"} for number, path in enumerate(paths)]
    arguments = ["--dataset_name", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out"), "--map"]
    audio_dataset(clips).to_parquet(tmp_path / "data" / "train.parquet")
    run_embedding.main(arguments)
    points = page_data(tmp_path / "out")["points"]
    assert [point["name"] for point in points] == [f"{number}.wav" for number in range(5)]
    assert all(point["audio"] for point in points)
    audio_dataset(clips[::-1]).to_parquet(tmp_path / "data" / "train.parquet")
    run_embedding.main(arguments[2:])
    assert not any(point["audio"] for point in page_data(tmp_path / "out")["points"])
    assert "have changed since they were embedded: their audio is left out" in caplog.text


def test_windows_are_played_as_long_as_the_model_hears_them(tones: Path, tmp_path: Path):
    config = COLAConfig(encoder="compact", compact_channels=8, hidden_size=16, window_size=48, window_hop=48)
    COLAModel(config).save_pretrained(tmp_path / "short")
    COLAFeatureExtractor(min_frames=48).save_pretrained(tmp_path / "short")
    arguments = ["--model_name_or_path", str(tmp_path / "short"), "--dataset_name", str(tones / "low"), "--windows"]
    run_embedding.main([*arguments, "--output_dir", str(tmp_path / "out"), "--map"])
    assert page_data(tmp_path / "out")["points"][0]["audio"].endswith("#t=0.00,0.48")


def test_audio_is_copied_into_the_page_if_asked_to(embedded: Path, tmp_path: Path):
    index = Index(embedded)
    links, copied = (
        [point["audio"] for point in clip_map.describe_map(index, np.arange(4), embedded, tmp_path, copy)["points"]]
        for copy in (False, True)
    )
    assert all(link.endswith(".wav") for link in links)
    assert all(audio.startswith("data:audio/ogg;base64,") for audio in copied)


def test_many_clips_are_sampled(embedded: Path, tone_map: Path, monkeypatch):
    text = tone_map.read_text()
    monkeypatch.setattr(clip_map, "MAX_POINTS", 10)
    run_embedding.main(["--output_dir", str(embedded), "--map"])
    assert len(page_data(embedded)["points"]) == 10
    tone_map.write_text(text)


def test_of_many_clips_most_are_placed_among_the_landmarks_that_sound_like_them(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(clip_map, "LANDMARKS", 60)
    rng = np.random.default_rng(0)
    groups = np.arange(300) % 3
    vectors = rng.normal(0, 0.15, (300, 8)).astype(np.float32)
    vectors[np.arange(300), groups] += 1
    points = np.array(clip_map._positions(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))
    assert points.min() == 0 and points.max() == 1
    centres = np.array([points[groups == group].mean(axis=0) for group in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == groups).mean() > 0.95


def test_similar_points_are_those_of_a_search(tone_map: Path):
    index, points = Index(tone_map.parent), page_data(tone_map.parent)["points"]
    similarities = index.vectors @ index.vectors.T
    np.fill_diagonal(similarities, -np.inf)
    for number, point in enumerate(points):
        expected = np.sort(similarities[number])[::-1][:20]
        np.testing.assert_allclose([similarity for _, similarity in point["similar"]], expected, atol=1e-3)
        np.testing.assert_allclose(similarities[number, [other for other, _ in point["similar"]]], expected, atol=1e-5)


def test_too_few_clips_are_an_error(tmp_path: Path, tones: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.wav").symlink_to(tones / "low" / "0.wav")
    with pytest.raises(ValueError, match="A map needs at least three vectors, and .* has only 1"):
        run_embedding.main(["--dataset_name", f"{tmp_path}/data", "--output_dir", f"{tmp_path}/out", "--map"])


# What it does


def click(page, number: int) -> None:
    page.mouse.click(*page.evaluate(f"place(points[{number}])"))


@pytest.mark.extra
@pytest.mark.parametrize("kind", ["tone_map", "parquet_map"])
def test_a_click_plays_the_clip(browser, kind: str, request):  # noqa: F811
    page = open_page(browser, request.getfixturevalue(kind))
    click(page, 5)
    chosen = page.evaluate("chosen")  # which is the nearest, if several points lie at the same place
    page.wait_for_function("!player.paused && player.currentTime > 0")
    assert page.evaluate("player.src").endswith(page.evaluate(f"points[{chosen}].audio").removeprefix("../"))
    assert page.evaluate("player.duration") > 0.9
    page.close()


@pytest.mark.extra
def test_a_search_narrows_the_map(browser, tone_map: Path):  # noqa: F811
    page = open_page(browser, tone_map)
    assert page.inner_text("#heading") == "48 sounds"
    page.fill("#search", "HIGH 1")
    assert page.inner_text("#heading") == "7 of 48 sounds"  # 1, and 10 to 15
    assert page.locator("#list .name").all_text_contents()[0] == "high/1.wav"
    shown = page.evaluate("points.filter((point, i) => state[i] === SHOWN).map((point) => point.name)")
    assert len(shown) == 7 and all(name.startswith("high/1") for name in shown)
    page.close()


def shown_groups(page) -> set[str]:
    return set(page.evaluate("points.filter((_, i) => state[i] !== HIDDEN).map(({group}) => data.groups[group])"))


@pytest.mark.extra
def test_the_legend_hides_and_shows_groups(browser, tone_map: Path):  # noqa: F811
    page = open_page(browser, tone_map)
    colour = page.evaluate("colours[0]")
    pixels = f"""() => {{  // how many pixels have the colour of the first group
        const probe = document.createElement("canvas").getContext("2d", {{willReadFrequently: true}});
        probe.fillStyle = {colour!r};
        probe.fillRect(0, 0, 1, 1);
        const wanted = [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        const {{data}} = layer.getContext("2d").getImageData(0, 0, layer.width, layer.height);
        let count = 0;
        for (let i = 0; i < data.length; i += 4) {{
            if (wanted.every((value, c) => Math.abs(value - data[i + c]) < 3)) count++;
        }}
        return count;
    }}"""
    assert page.evaluate(pixels) > 100
    page.click("#legend button >> nth=0")
    assert shown_groups(page) == {"low", "middle"} and page.evaluate(pixels) == 0
    assert page.inner_text("#heading") == "32 of 48 sounds"
    page.click("#none")
    assert shown_groups(page) == set()
    page.click("#legend button >> nth=1")
    assert shown_groups(page) == {"low"} and page.evaluate("labels.map(({text}) => text)") == ["low"]
    page.click("#all")
    assert shown_groups(page) == {"low", "middle", "high"}
    page.close()


@pytest.mark.extra
def test_a_lasso_is_saved_as_csv(browser, tone_map: Path):  # noqa: F811
    page = open_page(browser, tone_map)
    page.click("#legend button >> nth=0")  # what is hidden is not caught
    page.click("#lasso")
    cut = float(np.median(page.evaluate("points.filter(({group}) => group !== 0).map(({x}) => x)")))
    inside = page.evaluate(f"points.filter(({{x, group}}) => x < {cut} && group !== 0).map(({{name}}) => name)")
    corners = [(-0.04, -0.04), (cut, -0.04), (cut, 1.04), (-0.04, 1.04)]
    corners = [page.evaluate(f"place({{x: {x}, y: {y}}})") for x, y in corners]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner)
    page.mouse.up()
    assert page.inner_text("#heading") == f"{len(inside)} in the lasso" and 0 < len(inside) < 32
    page.click("#list button >> nth=1")  # which plays a clip, and keeps the list
    page.wait_for_function("player.played.length")
    assert page.evaluate("points[chosen].name") == inside[1] and page.locator("#list button").count() == len(inside)
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename.endswith(".csv")
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [row["name"] for row in rows] == inside
    assert all(row["label"] == row["name"].split("/")[0] for row in rows)
    page.mouse.click(*page.evaluate("place({x: -0.04, y: 1.04})"))  # beside all points
    assert page.inner_text("#heading") == "32 of 48 sounds" and not page.is_visible("#save")
    page.close()


@pytest.fixture(scope="module")
def crowded_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 2,000 points in 100 groups, whose names are long and differ in their middle or at their end."""
    rng = np.random.default_rng(0)
    centres, groups = rng.random((100, 2)), np.arange(2000) % 100
    points = [
        {"x": x, "y": y, "name": f"a folder with a long name/and a clip with one, too/{i:04}.wav"}
        | {"group": int(group), "similar": [], "audio": None}
        for i, ((x, y), group) in enumerate(zip((centres[groups] + rng.normal(0, 0.01, (2000, 2))).tolist(), groups))
    ]
    names = [f"the sound of a class, which has number {i:03}" for i in range(100)]
    path = tmp_path_factory.mktemp("crowded") / "map.html"
    path.write_text(clip_map.fill_page({"title": "many", "grouped_by": "label", "groups": names, "points": points}))
    return path


@pytest.mark.extra
def test_labels_of_clusters_lie_on_them_and_do_not_overlap(browser, crowded_map: Path):  # noqa: F811
    page = open_page(browser, crowded_map)
    drawn = """() => {
        const drawn = [], context = layer.getContext("2d"), fillText = context.fillText.bind(context);
        context.fillText = (text, x, y) => {
            drawn.push([text, x, y, context.measureText(text).width]);
            fillText(text, x, y);
        };
        redraw();
        return drawn;
    }"""
    boxes = page.evaluate(drawn)
    assert 10 < len(boxes) < 100
    for i, (_, x, y, width) in enumerate(boxes):
        for _, other_x, other_y, other_width in boxes[:i]:
            assert abs(x - other_x) >= (width + other_width) / 2 or abs(y - other_y) >= 12
    for text, x, y, _ in boxes:
        group = next(i for i in range(100) if text.endswith(f"{i:03}"))
        places = page.evaluate(f"points.filter((point) => point.group === {group}).map(place)")
        assert min(np.hypot(x - px, y - py) for px, py in places) < 15
        assert np.hypot(*(np.median(places, axis=0) - (x, y))) < 25
    page.evaluate("view = {...view, zoom: 4}")
    assert len(page.evaluate(drawn)) < 100  # those outside the canvas are left out
    page.close()


@pytest.mark.extra
def test_long_names_are_cut_in_their_middle(browser, crowded_map: Path):  # noqa: F811
    page = open_page(browser, crowded_map)
    first = page.locator("#list .name >> nth=0")
    assert first.text_content() == page.evaluate("points[0].name")
    head, tail = first.locator(".head"), first.locator(".tail")
    assert head.evaluate("(e) => e.scrollWidth > e.clientWidth && getComputedStyle(e).textOverflow") == "ellipsis"
    assert tail.text_content().endswith("0000.wav")
    assert tail.evaluate("(e) => e.getBoundingClientRect().right <= e.parentElement.getBoundingClientRect().right + 1")
    assert page.evaluate("middle('0123456789', 5)") == "01…89" and page.evaluate("middle('01234', 5)") == "01234"
    page.close()


@pytest.mark.extra
def test_hovering_names_a_clip_and_similar_clips_are_found_from_any_point(browser, tone_map: Path):  # noqa: F811
    page = open_page(browser, tone_map)
    page.mouse.move(*page.evaluate("place(points[20])"))
    name = page.evaluate("points[hovered].name")
    assert page.inner_text("#tip").startswith(name)
    click(page, 20)
    assert page.inner_text("#heading") == f"Similar to {name}"
    names = page.evaluate("points[chosen].similar.map(([other]) => points[other].name)")
    assert page.locator("#list .name").all_text_contents() == names
    page.click("#list button >> nth=0")
    assert page.inner_text("#heading") == f"Similar to {names[0]}"
    page.wait_for_function("!player.paused")
    page.close()
