"""The wheel and the source distribution, each in an environment of its own."""

import configparser
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from filelock import FileLock
from huggingface_hub import HfApi

from helpers import write_tones
from hub_server import serving_hub
from modeling_cola import COLAModel
from run_scripts import __version__


ROOT = Path(__file__).parents[1]
CHECKPOINTS = ("cola-base", "cola-compact", "cola-efficientnet-b0")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a wheel and a source distribution: $DISTRIBUTIONS, or else a new one, with the wheel built from the
    source distribution."""
    if "DISTRIBUTIONS" in os.environ:
        return ROOT / os.environ["DISTRIBUTIONS"]
    folder = tmp_path_factory.mktemp("dist")
    # Each process of the tests builds its own, and all of them through the same folder beside the sources.
    with FileLock(tmp_path_factory.getbasetemp().parent / "build.lock"):
        built = run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module", params=["*.whl", pytest.param("*.tar.gz", marks=pytest.mark.slow)])
def installed(distributions: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A virtual environment in which a distribution is installed. It sees the libraries of this environment, but nothing
    of this folder.
    """
    (distribution,) = distributions.glob(request.param)
    folder = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    done = run(*pip, "install", "--no-deps", "--ignore-installed", distribution)
    assert done.returncode == 0, done.stderr
    # Of what is installed, nothing is too old or too new for it.
    assert "cola-audio" not in run(*pip, "check").stdout
    return folder


def test_the_commands_run_where_the_repository_is_not(installed: Path, tmp_path: Path):
    def command(name: str, *arguments: str) -> subprocess.CompletedProcess:
        return run(installed / "bin" / name, *arguments, cwd=tmp_path)

    tones = write_tones(tmp_path / "tones", {"low": 150.0, "high": 2400.0}, 2, seconds=1.0)
    # The checkpoint and the page of the map are not Python files.
    embedded = command("cola-embed", "--dataset_name", str(tones), "--output_dir", "vectors", "--map")
    assert embedded.returncode == 0, embedded.stderr
    assert (tmp_path / "vectors" / "map.html").is_file()
    for name in ("cola-benchmark", "cola-classify", "cola-detect", "cola-embed", "cola-pretrain"):
        wrong = command(name, "--nope")
        assert wrong.returncode == 2 and wrong.stderr.startswith(f"{name}: error: ")


def test_the_checkpoints_and_their_cards_are_installed(installed: Path):
    code = f"""
from pathlib import Path
import modeling_cola, feature_extraction, run_scripts
folder = Path(modeling_cola.__file__).parent
for name in {CHECKPOINTS}:
    assert (folder / name / "README.md").is_file(), name
    feature_extraction.COLAFeatureExtractor.from_pretrained(folder / name)
    modeling_cola.COLAModel.from_pretrained(folder / name)
print(folder, run_scripts.__version__)
"""
    done = run(installed / "bin" / "python", "-c", code, cwd=installed)
    assert done.returncode == 0, done.stderr
    folder, version = done.stdout.split()
    assert Path(folder).is_relative_to(installed) and version == __version__


def test_the_metadata_say_what_the_package_is(installed: Path):
    (metadata,) = installed.glob("lib/python*/site-packages/cola_audio-*.dist-info/METADATA")
    text = metadata.read_text()
    assert f"\nVersion: {__version__}\n" in text and "\nLicense-Expression: Apache-2.0\n" in text
    assert "\nLicense-File: LICENSE\n" in text and (metadata.parent / "licenses" / "LICENSE").is_file()
    assert "\nDescription-Content-Type: text/markdown\n" in text and (ROOT / "README.md").read_text() in text


def test_the_version_is_the_same_everywhere():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    headings = re.findall(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]


def test_the_pythons_are_the_same_everywhere():
    setup = (ROOT / "setup.cfg").read_text()
    versions = re.findall(r":: (3\.\d+)$", setup, flags=re.MULTILINE)
    assert f"python_requires = >={versions[0]}\n" in setup
    assert f"You need Python {versions[0]} to {versions[-1]} " in (ROOT / "README.md").read_text()
    assert f"sys.version_info < (3, {versions[0].partition('.')[2]})" in (ROOT / "Makefile").read_text()
    tested = re.findall(r'"(3\.\d+)"', (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert {versions[0], versions[-1]} <= set(tested) <= set(versions)


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_the_pinned_versions_can_be_installed(python: str, tmp_path: Path):
    """The registry is asked for what there is, and no package is downloaded."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    (tmp_path / "needed.txt").write_text("\n".join(needed))
    resolve = [sys.executable, "-m", "uv", "pip", "compile", "--python-version", python, "--python-platform", "linux"]
    options = ["--only-binary=:all:", "--constraint", "constraints.txt", "--output-file", tmp_path / "all.txt"]
    done = run(*resolve, *options, tmp_path / "needed.txt")
    assert done.returncode == 0, done.stderr
    assert "\ntorch==2." in (tmp_path / "all.txt").read_text()


def test_one_command_publishes_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving_hub(monkeypatch) as hub:
        command = ["make", "publish-checkpoint", "CHECKPOINT=modeling_cola/cola-compact", "REPO=some/cola-compact"]
        variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_token", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        published = run(*command, f"VENV={Path(sys.executable).parents[1]}", "-o", "install", **variables)
        assert published.returncode == 0, published.stderr
        assert hub.repositories == ["some/cola-compact"] and len(hub.commits) == 1
        assert HfApi(hub.url).list_repo_files("some/cola-compact")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        model = COLAModel.from_pretrained("some/cola-compact", cache_dir=tmp_path / "cache")
    ours = COLAModel.from_pretrained(ROOT / "modeling_cola" / "cola-compact")
    assert all(value.equal(ours.state_dict()[name]) for name, value in model.state_dict().items())


def test_one_command_publishes_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving_hub(monkeypatch) as hub:
        command = ["make", "publish-space", f"SPACE={tmp_path / 'space'}", "REPO=some/cola"]
        variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_token", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        published = run(*command, f"VENV={Path(sys.executable).parents[1]}", "-o", "install", **variables)
        assert published.returncode == 0, published.stderr
        assert hub.repositories == ["some/cola"] and len(hub.commits) == 1
        assert {"app.py", "requirements.txt", "model/model.safetensors"} <= hub.files["some/cola"].keys()
