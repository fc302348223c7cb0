"""The rules of the house: what may import what."""

import ast
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for path in (ROOT / "run_scripts").glob("*.py") if path.stem != "__init__")
MODULES = sorted(path for path in (ROOT / "run_scripts").rglob("*.py"))
OURS = ("feature_extraction", "modeling_cola", "run_scripts")
# The folders of run_scripts from the ground up. Each of them may import those before it.
FLOORS = (
    "common",
    "preparation",
    "embedding",
    "export",
    "classification",
    "detection",
    "benchmark",
    "pretraining",
    "demo",
)


def imported_modules(path: Path) -> set[str]:
    """The full names of all modules that a file imports, with `a.b` and `a.b.c` for `from a.b import c`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_run_is_not_imported(path: Path):
    scripts = {f"run_scripts.{script.stem}" for script in SCRIPTS}
    assert not imported_modules(path) & scripts


def test_every_folder_has_its_floor():
    folders = {path.name for path in (ROOT / "run_scripts").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(FLOORS)


@pytest.mark.parametrize("floor", FLOORS)
def test_a_folder_imports_none_above_it(floor: str):
    above = FLOORS[FLOORS.index(floor) + 1 :]
    for path in (ROOT / "run_scripts" / floor).rglob("*.py"):
        imported = {name.split(".")[1] for name in imported_modules(path) if name.startswith("run_scripts.")}
        assert not imported & set(above), path


def test_what_is_installed_does_not_need_the_tools():
    quickstart = ROOT / "run_scripts" / "demo" / "quickstart.py"  # which says what to do where they are missing
    for path in MODULES:
        assert path == quickstart or not any(name.split(".")[0] == "tools" for name in imported_modules(path)), path


@pytest.mark.parametrize("package", ["feature_extraction", "modeling_cola"])
def test_the_packages_import_neither_each_other_nor_the_scripts(package: str):
    for path in (ROOT / package).glob("*.py"):
        assert not {name.split(".")[0] for name in imported_modules(path)} & set(OURS)


def test_what_travels_with_a_checkpoint_imports_only_its_own_siblings():
    travelling = {
        "modeling_cola": {"configuration_cola", "modeling_cola"},
        "feature_extraction": {"feature_extraction_cola"},
    }
    for package, names in travelling.items():
        for name in names:
            tree = ast.parse((ROOT / package / f"{name}.py").read_text())
            relative = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
            assert relative <= names
