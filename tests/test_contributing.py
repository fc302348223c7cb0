"""CONTRIBUTING.md names what is there."""

import ast
import re
from pathlib import Path


ROOT = Path(__file__).parents[1]
WALKS = (ROOT / "CONTRIBUTING.md").read_text().split("## An hour with the code")[1].split("\n## ")[0]
PACKAGES = ("feature_extraction", "modeling_cola", "run_scripts")
SOURCES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
# Of what the models return and take.
FIELDS = {"input_values", "attention_mask", "pooler_output"}


def defined_names() -> set[str]:
    """The names of all functions and classes, and of methods also `Class.method`."""
    names = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            if isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


def test_the_walks_through_the_code_name_files_and_functions_that_exist():
    named = set(re.findall(r"`([^`]+)`", WALKS))
    files = {name for name in named if name.endswith(".py")}
    assert len(files) > 10
    assert not [name for name in files if not any(path.as_posix().endswith(f"/{name}") for path in SOURCES)]
    functions = {name.removesuffix("()") for name in named - files - FIELDS}
    assert len(functions) > 20
    assert not functions - defined_names()
