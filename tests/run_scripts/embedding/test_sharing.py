"""Vectors for other people: what is pushed to the Hub and what of this machine is not, and how a copy is used."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, snapshot_download

from feature_extraction import COLAFeatureExtractor
from helpers import write_tones
from hub_server import Hub, serving_hub
from model_helpers import build, run_script
from run_scripts import run_embedding
from run_scripts.common.errors import UserError
from run_scripts.embedding.arguments import CHECKPOINT
from run_scripts.embedding.search import Index, load_own_model
from run_scripts.embedding.sharing import copy_vectors, push_vectors, shared_path, write_vectors_card


REPOSITORY = "somebody/tones"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven tones, and a file that is no audio."""
    folder = write_tones(tmp_path_factory.mktemp("data") / "my-tones", {"high": 2400.0, "low": 150.0}, 4, seconds=0.5)
    (folder / "low" / "2.wav").write_text("no audio")
    return folder


@pytest.fixture(scope="module")
def hub(data: Path, tmp_path_factory: pytest.TempPathFactory):
    """A Hub to which these tones were pushed by the script that embedded them, in place of an earlier push."""
    folder = tmp_path_factory.mktemp("vectors")
    with pytest.MonkeyPatch.context() as monkeypatch, serving_hub(monkeypatch) as hub:
        hub.files[f"datasets/{REPOSITORY}"]["part-00007.parquet"] = b"of an earlier push"
        arguments = ["--dataset_name", str(data), "--output_dir", str(folder)]
        run_embedding.main([*arguments, "--push_to_hub", "--hub_dataset_id", REPOSITORY])
        yield hub


@pytest.fixture(scope="module")
def download(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was pushed, as another person downloads it."""
    return Path(snapshot_download(REPOSITORY, repo_type="dataset", local_dir=tmp_path_factory.mktemp("download")))


def test_one_commit_has_the_vectors_their_settings_and_their_card(hub: Hub):
    assert hub.repositories == [f"datasets/{REPOSITORY}"]
    (commit,) = hub.commits
    assert set(commit) == {"part-00000.parquet", "settings.json", "README.md"}
    assert hub.files[f"datasets/{REPOSITORY}"] == commit


def test_nothing_of_this_machine_is_pushed(hub: Hub, data: Path):
    for content in hub.commits[0].values():
        assert str(data.parent).strip("/").encode() not in content
        assert str(CHECKPOINT.parent).strip("/").encode() not in content


def test_the_card_is_read_by_the_hub_and_by_people(hub: Hub):
    card = DatasetCard(hub.commits[0]["README.md"].decode())
    assert card.data.configs == [{"config_name": "default", "data_files": "part-*.parquet"}]
    assert "embeddings" in card.data.tags
    assert "audio of my-tones by the model cola-compact" in card.text and "7 vectors of 1536 numbers" in card.text
    assert "| label |" in card.text and "| time |" not in card.text


def test_the_card_names_data_and_model_on_the_hub(download: Path, tmp_path: Path):
    shutil.copytree(download, tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "settings.json").read_text())
    names = {"dataset_name": "somebody/sounds", "model_name_or_path": "somebody/cola"}
    (tmp_path / "settings.json").write_text(json.dumps(settings | names))
    write_vectors_card(tmp_path / "README.md", tmp_path, REPOSITORY)
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.source_datasets == ["somebody/sounds"]
    assert "audio of somebody/sounds by the model somebody/cola" in card.text


def test_the_example_of_the_card_loads_the_vectors(hub: Hub, tmp_path: Path):
    example = hub.commits[0]["README.md"].decode().split("```")[1].removeprefix("python\n")
    check = """
assert vectors.shape == (7, 1536) and dataset.column_names == ["clip", "path", "seconds", "label", "vector"]
names = [f"{label}/{number}.wav" for label in ("high", "low") for number in range(4)]
assert list(dataset[:]["path"]) == [name for name in names if name != "low/2.wav"]
"""
    run_script(example + check, tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "home"))


def test_a_download_is_searched_and_mapped(download: Path, data: Path):
    query = str(data / "high" / "3.wav")
    (best, *_) = run_embedding.main(["--output_dir", str(download), "--query", query, "--map"])[query]
    assert best["path"] == "high/3.wav" and best["similarity"] == pytest.approx(1, abs=1e-4)
    assert '"name":"high/3.wav"' in (download / "map.html").read_text()


def test_a_copy_of_vectors_by_another_model_is_not_searched_by_the_default_one(data: Path, tmp_path: Path):
    build().save_pretrained(tmp_path / "model")
    COLAFeatureExtractor().save_pretrained(tmp_path / "model")
    more = ["--model_name_or_path", str(tmp_path / "model")]
    run_embedding.main(["--dataset_name", str(data), "--output_dir", str(tmp_path / "vectors"), *more])
    (tmp_path / "copy").mkdir()
    copy_vectors(tmp_path / "vectors", tmp_path / "copy")
    with pytest.raises(ValueError, match="cola-compact has other weights than the model by which"):
        load_own_model(tmp_path / "copy")
    load_own_model(tmp_path / "copy", str(tmp_path / "model"))


def test_paths_are_relative_to_a_folder_that_is_a_link(data: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(data)
    run_embedding.main(["--dataset_name", str(tmp_path / "link"), "--output_dir", str(tmp_path / "vectors")])
    (tmp_path / "copy").mkdir()
    copy_vectors(tmp_path / "vectors", tmp_path / "copy")
    assert Index(tmp_path / "copy").rows[0]["path"] == "high/0.wav"


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        (None, None),
        ("/data/tones/a/0.wav", "a/0.wav"),
        ("/home/me/0.wav", "0.wav"),
        ("file:///home/me/0.wav", "0.wav"),
        ("zip://0.wav::/home/me/tones.zip", "tones.zip"),
        ("inside/of/a.tar", "inside/of/a.tar"),
        ("hf://datasets/me/tones/0.wav", "hf://datasets/me/tones/0.wav"),
    ],
)
def test_local_paths_are_shared_without_their_folders(path: str | None, shared: str | None):
    assert shared_path(path, Path("/data/tones")) == shared


def test_nothing_is_created_on_the_hub_for_a_folder_without_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving_hub(monkeypatch) as hub, pytest.raises(FileNotFoundError, match="holds no vectors"):
        run_embedding.main(["--output_dir", str(tmp_path), "--push_to_hub"])
    assert not hub.repositories


def test_an_unfinished_folder_is_not_pushed(download: Path, tmp_path: Path):
    shutil.copy(download / "settings.json", tmp_path)
    with pytest.raises(ValueError, match="is not complete: to embed all clips, repeat the command"):
        push_vectors(tmp_path, REPOSITORY)


def test_a_repository_that_cannot_be_made_stops_the_run_before_it_starts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="--push_to_hub: the repository .* cannot be created"):
        run_embedding.main(["--dataset_name", str(data), "--output_dir", str(tmp_path), "--push_to_hub"])
    assert not list(tmp_path.iterdir())
