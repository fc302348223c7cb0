"""A model that is pushed by itself, against a Hub on this machine."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hub_server import serving_hub
from model_helpers import CLASSES, ROOT, build, run_script
from modeling_cola import COLAForAudioClassification


@pytest.mark.parametrize("cls", CLASSES)
def test_the_card_is_ours(monkeypatch: pytest.MonkeyPatch, cls: type):
    model = build(cls)
    model.config._name_or_path = "somebody/base"
    with serving_hub(monkeypatch) as hub:
        model.push_to_hub("user/model", token="token", tags=["birds"])
    (commit,) = hub.commits
    card = ModelCard(commit["README.md"].decode())
    classifies = cls is COLAForAudioClassification
    assert card.data.pipeline_tag == ("audio-classification" if classifies else "feature-extraction")
    assert card.data.base_model == "somebody/base" and {"cola", "birds"} <= set(card.data.tags)
    assert 'from_pretrained("user/model", trust_remote_code=True)' in card.text
    assert ("logits" in card.text) == classifies and "More Information Needed" not in card.text


def test_a_card_that_is_there_is_kept(monkeypatch: pytest.MonkeyPatch):
    with serving_hub(monkeypatch) as hub:
        hub.files["user/model"]["README.md"] = b"---\ntags: [mine]\n---\n# My own words\n"
        build().push_to_hub("user/model", token="token")
    card = ModelCard(hub.commits[0]["README.md"].decode())
    assert "# My own words" in card.text and "mine" in card.data.tags


def test_a_local_base_model_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    build().save_pretrained(tmp_path / "base")
    model = COLAForAudioClassification.from_pretrained(tmp_path / "base", num_labels=2)
    with serving_hub(monkeypatch) as hub:
        model.save_pretrained(tmp_path / "out", push_to_hub=True, repo_id="user/model", token="token")
    assert ModelCard(hub.commits[0]["README.md"].decode()).data.base_model is None
    assert str(tmp_path) not in hub.commits[0]["README.md"].decode()


WITHOUT_TIMM = """
    import sys

    class NotInstalled:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.split(".")[0] in ("timm", "modeling_cola"):
                raise ModuleNotFoundError(f"No module named {name!r}")

    sys.meta_path.insert(0, NotInstalled)
    from transformers import AutoModel

    try:
        AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
    except ImportError as error:
        assert "pip install timm" in str(error), error
    else:
        raise AssertionError("the model was loaded")
"""


def test_a_missing_dependency_is_named(tmp_path: Path):
    run_script(WITHOUT_TIMM, tmp_path, str(ROOT / "modeling_cola" / "cola-compact"), HF_HOME=str(tmp_path / "home"))


def test_what_is_saved_is_what_is_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = build(COLAForAudioClassification)
    halved = {name: value / 2 for name, value in model.state_dict().items()}
    with serving_hub(monkeypatch) as hub:
        arguments = {"push_to_hub": True, "repo_id": "user/model", "token": "token", "tags": ["birds"]}
        model.save_pretrained(tmp_path, state_dict=halved, variant="halved", max_shard_size="10KB", **arguments)
    (commit,) = hub.commits
    names = {path.name for path in tmp_path.glob("*.safetensors")}
    assert len(names) > 1 and names == {name for name in commit if name.endswith(".safetensors")}
    assert all((tmp_path / name).read_bytes() == commit[name] for name in names)
    assert "birds" in ModelCard(commit["README.md"].decode()).data.tags
