"""The BUILD files follow the sources: every module has a target, every import a dependency.

BUILD files are written in Starlark, whose syntax is Python's.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import REPOSITORY
from tests.sources import PACKAGE, imported, part_of, sources

PARTS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def rules(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and literal attributes of the rules at a BUILD file's top level."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        call = getattr(statement, "value", None)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            attributes = {k.arg: k.value for k in call.keywords if k.arg is not None}
            yield call.func.id, {name: literal(value) for name, value in attributes.items()}


def literal(node: ast.expr) -> Any:
    """A constant's value; the source text of anything else."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def library(folder: Path) -> dict[str, Any]:
    """The `py_library` of a folder that is named like it."""
    named = [
        attributes
        for kind, attributes in rules(folder / "BUILD")
        if kind == "py_library" and attributes["name"] == folder.name
    ]
    assert len(named) == 1, f"{folder}/BUILD needs one py_library named {folder.name}"
    return named[0]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_all_its_modules_and_imports(part):
    attributes = library(PACKAGE / part)
    nested = any((PACKAGE / part).glob("*/__init__.py"))
    assert attributes["srcs"] == ("glob(['**/*.py'])" if nested else "glob(['*.py'])")
    imports = {
        module.split(".")[1]
        for path in sources()
        if part_of(path) == part
        for _, module in imported(path)
        if module.startswith("etd_tf.")
    } - {part}
    expected = {f"//etd_tf/{name}" for name in imports if name in PARTS} | {"//etd_tf:base"}
    assert set(attributes["deps"]) == expected, f"set deps of etd_tf/{part}/BUILD to the right set"


def test_modules_are_at_most_one_package_below_the_parts():
    assert not [path for path in sources() if len(path.relative_to(PACKAGE).parts) > 3]


def test_the_library_is_all_parts():
    expected = [":base", *(f"//etd_tf/{part}" for part in PARTS)]
    assert library(PACKAGE)["deps"] == expected


def test_every_command_is_a_target():
    text = (PACKAGE / "cli" / "BUILD").read_text(encoding="utf-8")
    tables = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    commands = {f"etd_{name}" for name in ast.literal_eval(tables[0].value)}
    assert commands == {path.name for path in (REPOSITORY / "bin").glob("etd_*")}


def test_every_test_file_is_a_target():
    kinds = dict(rules(REPOSITORY / "tests" / "BUILD"))
    assert kinds["pytest_tests"]["srcs"] == "glob(['**/test_*.py'])"
    nested = list((REPOSITORY / "tests").rglob("BUILD"))
    assert nested == [REPOSITORY / "tests" / "BUILD"]  # globs stop at other packages
    for label in kinds["test_suite"]["tests"]:
        if label.startswith(":"):
            assert (REPOSITORY / "tests" / f"{label[1:]}.py").is_file(), label


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
