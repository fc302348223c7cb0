"""
Runs Transformers' own common tests on COLA.

The installed package does not have these tests. The source distribution of each version does, so it is fetched through
pip.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest
import transformers


ROOT = Path(__file__).parents[2]
# What the tests import and the source distribution lacks.
STUBS = {
    "__init__.py": "",
    "exporters/test_export.py": "class ExportTesterMixin: ...",
    "generation/test_utils.py": "class GenerationTesterMixin: ...",
    "utils/test_configuration_utils.py": """
config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "id2label": {0: "label"},
    "label2id": {"label": 0},
    "problem_type": "regression",
}
""",
}


def pip(*arguments: str) -> None:
    """Runs pip, and skips the test if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"`pip {' '.join(arguments)}` failed: {(error.stderr or str(error))[-500:]}")


def unpack_tests(archive: Path, folder: Path) -> None:
    """Writes the top level of the archive's `tests`, and stubs of what it lacks, to a folder."""
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if len(path.parts) == 3 and path.parts[1] == "tests" and path.suffix == ".py":
                (folder / path.name).write_bytes(tar.extractfile(member).read())
    for name, code in STUBS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)


@pytest.mark.slow
def test_transformers_own_tests_pass(tmp_path: Path):
    requirement = f"transformers=={transformers.__version__}"
    pip("download", "--no-binary", "transformers", "--no-deps", "--dest", str(tmp_path), requirement)
    pip("install", "--no-deps", "--target", str(tmp_path), "parameterized")  # which the tests import
    unpack_tests(tmp_path / f"transformers-{transformers.__version__}.tar.gz", tmp_path / "transformers_tests")
    shutil.copy(Path(__file__).with_name("cola_suite.py"), tmp_path)

    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-W", "ignore", "-p", "no:cacheprovider", "cola_suite.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    print(result.stdout)
    assert result.returncode == 0, result.stdout[-10000:] + result.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 100, "most tests were skipped"
