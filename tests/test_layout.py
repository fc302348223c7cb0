"""The rules of the house: what may import what, and how long a thing may be."""

import ast
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
JOBS = sorted(path for path in (ROOT / "run_scripts").glob("*.py") if path.stem != "__init__")
MODULES = sorted(path for path in (ROOT / "run_scripts").rglob("*.py"))
OURS = ("feature_extraction", "modeling_cola", "run_scripts")


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
    jobs = {f"run_scripts.{job.stem}" for job in JOBS}
    assert not imported_modules(path) & jobs


@pytest.mark.parametrize("package", ["feature_extraction", "modeling_cola"])
def test_the_packages_import_neither_each_other_nor_the_jobs(package: str):
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path):
    text = path.read_text()
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    long = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: lines for name, lines in long.items() if lines > 60}
    assert len(text.splitlines()) <= 300
