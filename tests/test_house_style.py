"""The house rules that linters do not check; CONTRIBUTING.md explains them."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

MAX_FILE_LINES = 450
MAX_BODY_LINES = 40
MOST_BODY_LINES = 30  # 90 % of all functions

# Path -> why it is longer.
LONG_FILES: dict[str, str] = {}
# Path::function -> why it is longer.
LONG_FUNCTIONS: dict[str, str] = {}

# Folder of tests with no package of its name -> what they are about.
CROSS_CUTTING = {
    "docs": "pages of the documentation, and what they show",
    "faults": "commands that are killed, and files that are damaged",
    "fuzz": "damaged files by the thousand, for every reader",
}

# Flags of other programs that messages name, or that are handed to them -> whose.
FOREIGN_FLAGS = {
    "direct_num_workers": "Apache Beam",
    "direct_running_mode": "Apache Beam",
    "flink_master": "Apache Beam",
    "runner": "Apache Beam, which is given its runner so",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef

SOURCES = sorted([*(REPOSITORY / "etd_tf").rglob("*.py"), *(REPOSITORY / "bin").glob("*")])
SOURCES = [path for path in SOURCES if path.is_file() and path.name != "BUILD"]
TESTS = sorted((REPOSITORY / "tests").rglob("test_*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions() -> Iterator[tuple[str, Function]]:
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, Function):
                yield f"{name_of(path)}::{node.name}", node


def body_lines(node: Function) -> int:
    """Lines of a function's body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_files_are_short():
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    long = {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES}
    assert set(long) == set(LONG_FILES), f"over {MAX_FILE_LINES} lines: {long}"


def test_functions_are_short():
    lengths = [(name, body_lines(node)) for name, node in functions()]
    long = {name: lines for name, lines in lengths if lines > MAX_BODY_LINES}
    assert set(long) == set(LONG_FUNCTIONS), f"over {MAX_BODY_LINES} lines: {long}"
    short = sum(lines <= MOST_BODY_LINES for _, lines in lengths)
    assert short >= 0.9 * len(lengths)


def test_no_assert_and_no_print():
    wrong = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Assert) or (
                isinstance(called, ast.Name) and called.id == "print"
            ):
                wrong.append(f"{name_of(path)}:{node.lineno}")
    assert not wrong, f"raise an error, or report through progress.track: {wrong}"


def public_definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def test_everything_public_is_documented():
    missing = []
    for path in SOURCES:
        module = parse(path)
        documented = [("module", module), *public_definitions(module.body, "")]
        missing += [
            f"{name_of(path)}: {n}" for n, node in documented if not ast.get_docstring(node)
        ]
    assert not missing, "\n".join(missing)


def test_documented_arguments_exist():
    """Every name under `Args:` is an argument: docstrings that went stale show here."""
    wrong = []
    for name, node in functions():
        section = re.search(
            r"^Args:\n(.*?)(?=^\S|\Z)", ast.get_docstring(node) or "", re.DOTALL | re.MULTILINE
        )
        if section is None:
            continue
        described = re.findall(r"^    \*{0,2}(\w+)(?: \(.*\))?:", section[1], re.MULTILINE)
        arguments = node.args
        known = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        names = {a.arg for a in (*known, arguments.vararg, arguments.kwarg) if a is not None}
        wrong += [f"{name}: {argument}" for argument in described if argument not in names]
    assert not wrong, "\n".join(wrong)


def flags_in_messages(code: str) -> Iterator[tuple[int, str]]:
    """Flags in strings that are no docstrings, but for those of a command named with them."""
    module = ast.parse(code)
    bodies = [getattr(node, "body", None) for node in ast.walk(module)]
    statements = [one for body in bodies if isinstance(body, list) for one in body]
    documented = {id(one.value) for one in statements if isinstance(one, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in documented:
                continue
            text = re.sub(r"\b(etd_\w+|wikiextractor)( --[a-z_]+(=\S*)?)+", "", node.value)
            yield from ((node.lineno, flag) for flag in re.findall(r"--([a-z][a-z_]*)", text))


def test_messages_below_the_commands_speak_python():
    """They say `steps=5`; `FlagSet.translate` makes `--steps=5` of it for users of a command."""
    found = [
        (f"{name_of(path)}:{line}", flag)
        for path in SOURCES
        if path.is_relative_to(REPOSITORY / "etd_tf") and path.parent.name != "cli"
        if name_of(path) != "etd_tf/reporting/style.py"  # CSS has variables of this form
        for line, flag in flags_in_messages(path.read_text("utf-8"))
    ]
    wrong = [f"{place}: --{flag}" for place, flag in found if flag not in FOREIGN_FLAGS]
    assert not wrong, "say name=value instead:\n" + "\n".join(wrong)
    assert {flag for _, flag in found} == set(FOREIGN_FLAGS), "an exception is needed no more"


def test_flags_in_messages_are_found():
    code = '''def f(steps):
    """Docstrings may name --flags."""
    raise InputError(f"Pass --overwrite, or --steps={steps}. Or try etd_export --model=A --b.")'''
    assert [flag for _, flag in flags_in_messages(code)] == ["overwrite", "steps"]


def test_no_loose_ends():
    pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    wrong = [
        f"{name_of(path)}:{number}"
        for path in (*SOURCES, *TESTS)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not wrong, wrong


def test_every_test_file_runs_as_a_script():
    """Bazel runs a test as a script: without this ending it would pass untested."""
    ending = (
        'if __name__ == "__main__":\n    sys.exit(pytest.main([__file__]))\n',
        'if __name__ == "__main__":\n    absltest.main()\n',
    )
    wrong = [name_of(path) for path in TESTS if not path.read_text("utf-8").endswith(ending)]
    assert not wrong, wrong


def test_the_test_tree_mirrors_the_sources():
    packages = {path.parent.name for path in (REPOSITORY / "etd_tf").glob("*/__init__.py")}
    packages.add("faults")  # of whole commands, not of one package
    folders = {path.parent.relative_to(REPOSITORY / "tests").parts[:1] for path in TESTS}
    strays = {folder[0] for folder in folders if folder} - packages - set(CROSS_CUTTING)
    assert not strays, f"no package of this name: {strays}"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
