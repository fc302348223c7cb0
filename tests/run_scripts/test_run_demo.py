"""The demo: its page in a browser, and the folder of a Space."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import browser  # noqa: F401
from feature_extraction import COLAFeatureExtractor
from model_helpers import run_script
from run_scripts import run_demo
from run_scripts.demo.arguments import DemoArguments
from run_scripts.embedding.search import Index, load_own_model


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(browser, embedded: Path, classifier: Path) -> Iterator:  # noqa: F811
    """The page in a browser."""
    pytest.importorskip("gradio", reason='Gradio is not installed: pip install ".[demo]"')
    from run_scripts.demo.page import build_page

    demo = build_page(DemoArguments(index_dir=str(embedded), model_name_or_path=str(classifier), top_k=3))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    page = browser.new_page()
    page.set_default_timeout(20000)
    page.goto(url)
    yield page
    demo.close()


@pytest.mark.extra
def test_an_upload_lists_similar_clips_and_classes_and_a_click_plays_one(page, tones: Path):
    page.locator("input[type=file][accept^=audio]").set_input_files(tones / "high" / "3.wav")
    page.wait_for_function("document.body.innerText.includes('high/3.wav') && document.body.innerText.includes('%')")
    text = page.inner_text("body")
    assert "1.000" in text and text.count("/high/") == 3
    assert all(name in text for name in ("dog", "cat", "cow"))
    page.locator("img[src^='data:image/webp']").wait_for()  # the log-mel spectrogram
    page.get_by_text("high/3.wav").locator("visible=true").first.click()
    page.get_by_role("button", name="Pause").wait_for()  # as long as it plays


@pytest.mark.extra
def test_a_classifier_tells_when_each_class_is_heard(classifier: Path, tones: Path):
    pytest.importorskip("gradio", reason='Gradio is not installed: pip install ".[demo]"')
    from run_scripts.demo.page import Demo

    demo = Demo(DemoArguments(model_name_or_path=str(classifier)))
    demo.detector.args.threshold = 0.01
    *_, classes, events, picture = demo.analyse(str(tones / "high" / "3.wav"))
    assert set(classes) == {"dog", "cat", "cow"} and sum(classes.values()) == pytest.approx(1)
    assert events[0][0] == "0.0" and events[-1][1] == "2.0" and {event[2] for event in events} <= set(classes)
    # The classifier's features are its own, whatever clips are searched by.
    demo.extractor = COLAFeatureExtractor(do_normalize=False)
    assert demo.analyse(str(tones / "high" / "3.wav"))[2] == classes
    spectrogram, scores = picture.axes
    assert scores.get_xlim() == (0, 2) and len(scores.get_yticklabels()) == len({event[2] for event in events})
    assert Demo(DemoArguments()).analyse(str(tones / "high" / "3.wav"))[2:4] == (None, [])


@pytest.mark.extra
def test_a_space_has_all_that_its_page_needs(embedded: Path, classifier: Path, tmp_path: Path):
    pytest.importorskip("gradio", reason='Gradio is not installed: pip install ".[demo]"')
    space = tmp_path / "space"
    run_demo.main(["--index_dir", str(embedded), "--model_name_or_path", str(classifier), "--space", str(space)])
    assert {"app.py", "requirements.txt", "README.md", "index", "encoder", "model"} <= {
        p.name for p in space.iterdir()
    }
    code = "import app, run_scripts; assert app.page.blocks and run_scripts.__file__.startswith(app.__file__[:-6])"
    run_script(code, space)
    with pytest.raises(ValueError, match="is not empty: name a new folder"):
        run_demo.main(["--space", str(space)])


def test_the_index_of_a_space_is_searched_and_holds_no_paths_of_this_machine(
    embedded: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    space = tmp_path / "space"
    run_demo.main(["--index_dir", str(embedded), "--space", str(space)])
    for file in (space / "index").iterdir():
        assert str(tones).encode() not in file.read_bytes()
    monkeypatch.chdir(space)
    load_own_model(Path("index"))
    assert Index(Path("index")).rows[0]["path"] == "high/0.wav"


def test_a_space_that_cannot_be_made_leaves_nothing(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no vectors"):
        run_demo.main(["--index_dir", str(tmp_path / "empty"), "--space", str(tmp_path / "space")])
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_without_gradio_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(ValueError, match=r'needs Gradio: run `pip install ".\[demo\]"`'):
        run_demo.main([])
