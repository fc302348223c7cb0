"""The map of clips: what the page holds, and what it does in a browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from browser import browser  # noqa: F401
from helpers import audio_dataset
from run_scripts import run_embedding
from run_scripts.embedding import map as clip_map


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
    assert points[1]["name"] == "15</script>.wav@1.0"
    text = parquet_map.read_text()
    monkeypatch.setattr(clip_map, "MAX_AUDIO_BYTES", 1)
    run_embedding.main(["--output_dir", str(parquet_map.parent), "--map"])
    assert len(parquet_map.read_text()) < len(text)
    parquet_map.write_text(text)


def test_many_clips_are_sampled(embedded: Path, tone_map: Path, monkeypatch):
    text = tone_map.read_text()
    monkeypatch.setattr(clip_map, "MAX_POINTS", 10)
    run_embedding.main(["--output_dir", str(embedded), "--map"])
    assert len(page_data(embedded)["points"]) == 10
    tone_map.write_text(text)


def test_too_few_clips_are_an_error(tmp_path: Path, tones: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.wav").symlink_to(tones / "low" / "0.wav")
    with pytest.raises(ValueError, match="A map needs at least three vectors, and .* has only 1"):
        run_embedding.main(["--dataset_name", f"{tmp_path}/data", "--output_dir", f"{tmp_path}/out", "--map"])


# What it does


def open_page(browser, path: Path):  # noqa: F811
    """Opens a page, which must neither fail nor ask for anything but files."""
    page = browser.new_page()
    page.set_default_timeout(5000)
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.route(
        "**/*", lambda route: route.continue_() if route.request.url[:5] in ("file:", "data:") else pytest.fail()
    )
    page.goto(path.as_uri())
    return page


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
    assert page.locator("#list .name").all_inner_texts()[0] == "high/1.wav"
    shown = page.evaluate("points.filter((point, i) => shown[i]).map((point) => point.name)")
    assert len(shown) == 7 and all(name.startswith("high/1") for name in shown)
    page.fill("#search", "")
    page.click("#groups button >> nth=0")  # leaves out the first group
    assert page.inner_text("#heading") == "32 of 48 sounds"
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
    assert page.locator("#list .name").all_inner_texts() == names
    page.click("#list button >> nth=0")
    assert page.inner_text("#heading") == f"Similar to {names[0]}"
    page.wait_for_function("!player.paused")
    page.close()
