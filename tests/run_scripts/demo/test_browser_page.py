"""The page that hears sounds in the browser: what is written, and what it does in Chromium."""

import base64
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from browser import browser, open_page  # noqa: F401
from feature_extraction import COLAFeatureExtractor, load_audio
from modeling_cola import COLAForAudioClassification
from run_scripts import run_demo
from run_scripts.demo import runtime
from run_scripts.embedding.encode import embed_files
from run_scripts.embedding.search import Index


# The runtime


def write_archive(path: Path) -> dict[str, bytes]:
    """An archive like that of `npm pack`, and its files."""
    files = {name: name.encode() for name in runtime.FILES}
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{runtime.FILES[name]}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return files


def test_the_runtime_is_read_from_an_archive_of_this_checksum_only(tmp_path: Path, monkeypatch):
    archive = tmp_path / "runtime.tgz"
    files = write_archive(archive)
    with pytest.raises(ValueError, match=r"runtime.tgz is not onnxruntime-web@.* run `npm pack onnxruntime-web@"):
        runtime.read_runtime(str(archive))
    monkeypatch.setattr(runtime, "SHA512", base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode())
    assert runtime.read_runtime(str(archive)) == files
    with pytest.raises(OSError, match="--runtime .*none.tgz cannot be read"):
        runtime.read_runtime(str(tmp_path / "none.tgz"))


def test_without_npm_the_error_says_how_to_get_the_runtime(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="npm is not installed. On a computer with npm .* pass its file by --runtime"):
        runtime.read_runtime(None)


def test_a_failure_of_npm_is_reported(tmp_path: Path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(npm))
    with pytest.raises(ValueError, match="npm could not fetch onnxruntime-web@.*: npm error network. On a computer"):
        runtime.read_runtime(None)


def test_arguments_of_the_page_need_it():
    for argument in (["--copy_audio"], ["--runtime", "file"]):
        with pytest.raises(ValueError, match="--copy_audio and --runtime are for --browser, which is not given"):
            run_demo.main(argument)
    with pytest.raises(ValueError, match="--space and --browser write different pages"):
        run_demo.main(["--space", "a", "--browser", "b"])


# What is written


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime, as npm fetches it."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    try:
        return runtime._pack(tmp_path_factory.mktemp("runtime"))
    except ValueError as error:
        pytest.skip(str(error))


def write_page(*arguments: str) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra `onnx`")
    run_demo.main([*arguments])


@pytest.fixture(scope="module")
def folder(archive: Path, embedded: Path, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an index and a classifier."""
    folder = tmp_path_factory.mktemp("browser") / "page"
    models = ["--index_dir", str(embedded), "--model_name_or_path", str(classifier)]
    write_page(*models, "--top_k", "5", "--browser", str(folder), "--runtime", str(archive))
    return folder


@pytest.mark.extra
def test_a_page_without_sounds_to_tell_apart_is_refused(archive: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="--browser needs clips to search, --index_dir, or a classifier"):
        write_page("--browser", str(tmp_path / "page"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ValueError, match="--browser .*full is not empty: name a new folder"):
        write_page("--browser", str(tmp_path / "full"))
    with pytest.raises(FileNotFoundError, match="holds no vectors"):
        write_page("--index_dir", str(tmp_path), "--browser", str(tmp_path / "page"), "--runtime", str(archive))
    assert not (tmp_path / "page").exists()


# What it does


@pytest.fixture(scope="module")
def page(browser, folder: Path) -> Iterator:  # noqa: F811
    page = open_page(browser, folder / "index.html")
    yield page
    page.close()


def drop(page, path: Path) -> None:
    """Drops a file on the page, and waits until it is heard."""
    page.evaluate("element('heard').hidden = true")
    transfer = page.evaluate_handle(
        """([name, data]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
            return transfer;
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    page.wait_for_function("!element('heard').hidden || document.querySelector('#status.error')", timeout=60000)


def hear(page, path: Path) -> dict:
    """What the module returns for a file."""
    code = """async (data) => {
        const heard = await cola.hear(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]));
        return JSON.stringify({...heard, ...Object.fromEntries(["logMel", "vector", "scores"].map(
            (name) => [name, heard[name] && [...heard[name]]]))});
    }"""
    return json.loads(page.evaluate(code, base64.b64encode(path.read_bytes()).decode()))


@pytest.mark.extra
def test_vectors_and_similarities_are_those_of_python(page, embedded: Path, tones: Path, encoder, tmp_path: Path):
    waveform = load_audio(str(tones / "low" / "7.wav"), 16000)
    soundfile.write(tmp_path / "short.wav", waveform[:5000], 16000)  # less than a window
    soundfile.write(tmp_path / "stereo.wav", np.stack([waveform, 0.2 * waveform[::-1]], axis=1), 16000)
    index = Index(embedded)
    for path in (tones / "middle" / "4.wav", tmp_path / "short.wav", tmp_path / "stereo.wav"):
        heard, vector = hear(page, path), embed_files(*encoder, [str(path)])[0]
        assert np.abs(heard["vector"] - vector).max() < 1e-4 * np.abs(vector).max()
        assert np.linalg.norm(heard["vector"] - vector) < 5e-5 * np.linalg.norm(vector)
        similarities = index.vectors @ index.standardise(vector[None])[0]
        numbers, values = zip(*heard["similar"])
        np.testing.assert_allclose(values, similarities[list(numbers)], atol=2e-3)  # the index has 8 bits
        np.testing.assert_allclose(values, np.sort(similarities)[: -len(values) - 1 : -1], atol=2e-3)


@pytest.mark.extra
def test_a_file_of_another_rate_is_resampled(page, encoder, tones: Path, tmp_path: Path):
    time = np.arange(44100 * 2) / 44100
    soundfile.write(tmp_path / "a.wav", 0.2 * np.sin(2 * np.pi * 500 * time * (1 + 0.1 * time)), 44100)
    heard, vector = hear(page, tmp_path / "a.wav"), embed_files(*encoder, [str(tmp_path / "a.wav")])[0]
    cosine = np.dot(heard["vector"], vector) / np.linalg.norm(heard["vector"]) / np.linalg.norm(vector)
    assert cosine > 0.999 and heard["used"] == pytest.approx(2)


@pytest.mark.extra
def test_a_dropped_file_is_the_nearest_and_its_classes_are_shown(page, tones: Path, classifier: Path):
    drop(page, tones / "high" / "3.wav")
    assert page.inner_text("#heading") == "Similar to 3.wav"
    assert page.locator("#list .name").all_text_contents()[0] == "high/3.wav"
    assert page.locator("#list .value").all_text_contents()[0] == "1.00"
    assert page.locator("#list button").count() == 5
    model = COLAForAudioClassification.from_pretrained(classifier).eval()
    extractor = COLAFeatureExtractor.from_pretrained(classifier)
    features = extractor(load_audio(str(tones / "high" / "3.wav"), 16000), sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        scores = model(**features).logits.softmax(-1)[0].tolist()
    expected = sorted(zip(scores, ("dog", "cat", "cow")), reverse=True)
    assert page.locator("#classes .name").all_text_contents() == [name for _, name in expected]
    assert page.locator("#classes .value").all_text_contents() == [f"{round(100 * score)} %" for score, _ in expected]
    heard = hear(page, tones / "high" / "3.wav")
    np.testing.assert_allclose(np.reshape(heard["logMel"], (-1, 64)), features["input_values"][0], atol=1e-3)
    assert page.evaluate("[spectrogram.width, spectrogram.height]") == [len(heard["logMel"]) // 64, 64]
    page.wait_for_function("player.played.length && player.src.startsWith('blob:')")
    page.click("#list button >> nth=0")
    page.wait_for_function("player.played.length && player.src.endsWith('high/3.wav')")
    page.click("#none")
    assert page.inner_text("#heading") == "Similar to 3.wav" and page.evaluate("labels") == []
    page.click("#all")
    page.click("#forget")
    assert not page.is_visible("#heard") and page.inner_text("#heading") == "48 sounds"


@pytest.mark.extra
def test_a_file_that_cannot_be_decoded_is_reported(page, tmp_path: Path):
    (tmp_path / "text.wav").write_text("no audio")
    drop(page, tmp_path / "text.wav")
    assert page.inner_text("#status.error") == "This browser cannot decode text.wav."


@pytest.mark.extra
def test_the_microphone_is_heard(page):
    page.evaluate("element('heard').hidden = true")
    page.click("#record")
    page.wait_for_function("element('record').textContent.startsWith('Stop (1')")
    page.click("#record")
    page.wait_for_function("!element('heard').hidden", timeout=60000)
    assert page.inner_text("#heard-name") == "your recording" and page.inner_text("#record") == "Record"
    assert float(page.inner_text("#heard-end").removesuffix(" s")) > 0.9
    assert page.locator("#list button").count() == 5
    beeps = page.evaluate(
        "(({data}) => data.filter((v, i) => i % 4 === 0 && v > 128).length)("
        "spectrogram.getContext('2d').getImageData(0, 0, spectrogram.width, spectrogram.height))"
    )
    assert beeps > 100


@pytest.mark.extra
def test_a_classifier_needs_no_index(browser, archive: Path, classifier: Path, tones: Path, tmp_path: Path):  # noqa: F811
    write_page("--model_name_or_path", str(classifier), "--browser", str(tmp_path / "page"), "--runtime", str(archive))
    page = open_page(browser, tmp_path / "page" / "index.html")
    drop(page, tones / "low" / "1.wav")
    assert set(page.locator("#classes .name").all_text_contents()) == {"dog", "cat", "cow"}
    assert not page.is_visible("#map") and not page.is_visible("#found")
    page.close()


@pytest.mark.extra
def test_without_a_classifier_the_labels_of_the_neighbours_are_shown(browser, folder: Path):  # noqa: F811
    page = open_page(browser, folder / "index.html")
    similar = [[0, 0.9], [1, 0.8], [16, 0.7]]
    page.evaluate(f"show('a', {{logMel: new Float32Array(64), bands: 64, used: 1, similar: {similar}}})")
    assert page.locator("#classes h2").inner_text() == "Labels of the 3 most similar clips"
    assert page.locator("#classes .name").all_text_contents() == ["high", "low"]
    assert page.locator("#classes .value").all_text_contents() == ["67 %", "33 %"]
    page.close()
