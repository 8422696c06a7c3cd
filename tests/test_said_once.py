"""Names of choices stand in their registries alone; everything else asks the objects."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from etd_tf.export import FORMATS
from etd_tf.extraction.metrics import METRICS
from etd_tf.extraction.starts import STARTS
from etd_tf.losses import LOSSES
from etd_tf.tasks import TASKS
from tests.sources import PACKAGE, sources

# Home of a registry -> the registry.
REGISTRIES: dict[str, Mapping[str, Any]] = {
    "losses": LOSSES,
    "extraction/metrics": METRICS,
    "extraction/starts": STARTS,
    "export": FORMATS,
    "tasks": TASKS,
}

# Path of a file -> why words that are also names of a registry stand in a row there.
EXCEPTIONS = {
    "checkpoints/loading.py": "the formats of a Checkpoint, which exports lie above and ask for",
    "extraction/plan.py": "what plan.json says of how units were chosen, in files of any age",
}


def own_names(registry: Mapping[str, Any], path: Path) -> set[str]:
    """Names of the objects whose class a file defines."""
    classes = {name: one if inspect.isclass(one) else type(one) for name, one in registry.items()}
    return {name for name, cls in classes.items() if Path(inspect.getfile(cls)) == path}


def strings(nodes: list[Any]) -> set[str]:
    """The strings that stand directly in a list of nodes."""
    nodes = [one.value if isinstance(one, ast.Starred) else one for one in nodes]
    return {
        one.value for one in nodes if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }


def compared(function: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """The strings that one expression is compared with, in a whole function or module."""
    chains: dict[str, tuple[int, set[str]]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Compare):
            sides = {ast.dump(one): one for one in (node.left, *node.comparators)}
            named = strings(list(sides.values()))
        elif isinstance(node, ast.Match):
            sides = {ast.dump(node.subject): node.subject}
            values = [one.value for one in ast.walk(node) if isinstance(one, ast.MatchValue)]
            named = strings(values)
        else:
            continue
        for key, one in sides.items():
            if not isinstance(one, ast.Constant):
                chains.setdefault(key, (node.lineno, set()))[1].update(named)
    yield from chains.values()


def rows(module: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Every row of strings in code: literals, `Literal` types and chains of comparisons.

    The default of a setting is left out: it is a choice, checked against the registry.
    """
    defaults = {
        id(node.args[0])
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setting" and node.args
    }
    for node in ast.walk(module):
        if id(node) in defaults:
            continue
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            yield node.lineno, strings(node.elts)
        elif isinstance(node, ast.Dict):
            yield node.lineno, strings(node.keys)
            yield node.lineno, strings(node.values)
        elif isinstance(node, ast.Call):
            yield node.lineno, {word.arg for word in node.keywords if word.arg}
        elif isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from compared(node)


def listed_names(path: Path, code: str) -> list[str]:
    """Where a file lists names of a registry that are not its own to list."""
    module, place = ast.parse(code), path.relative_to(PACKAGE).as_posix()
    found = []
    for home, registry in REGISTRIES.items():
        if place == f"{home}/__init__.py":
            continue
        own = own_names(registry, path)
        for line, row in rows(module):
            names = row & set(registry)
            if len(names) > 1 and names - own:
                found.append(f"{place}:{line}: {', '.join(sorted(names))} of {home}")
    return found


def test_names_are_listed_in_their_registries_alone():
    found = {
        path.relative_to(PACKAGE).as_posix(): listed_names(path, path.read_text("utf-8"))
        for path in sources()
    }
    wrong = [line for place, lines in found.items() if place not in EXCEPTIONS for line in lines]
    assert not wrong, "ask the objects of the registry instead:\n" + "\n".join(wrong)
    assert all(found[place] for place in EXCEPTIONS), "an exception is needed no more"


@pytest.mark.parametrize(
    "code",
    [
        'LOSSES = ("tinybert", "minilm")',
        'KINDS = {"tinybert": 1, "minilm": 2}',
        'arms: tuple[str, ...] = setting((), "", choices=("impt", "rand"))',
        'BY_WEIGHT = {1: "taylor", 2: "magnitude"}',
        'def load(name: Literal["saved_model", "litert"]): ...',
        'def f(start): return start in {"impt", "rand", "a"}',
        'def f(start): return start == "impt" or start == "rand"',
        'def f(a):\n    if a.task == "sts-probe": return 1\n    if "squad/v1.1" == a.task: pass',
        'def f(x):\n    match x:\n        case "impt" | "rand": return 1',
    ],
)
def test_a_list_of_names_is_found(code):
    assert listed_names(PACKAGE / "jobs" / "toy.py", code)
    assert not listed_names(PACKAGE / "jobs" / "toy.py", re.sub('"(?=[a-z])', '"x', code))


def test_the_default_of_a_setting_is_no_list():
    code = 'arms: tuple[str, ...] = setting(("none", "impt"), "", choices=lambda: STARTS)'
    assert not listed_names(PACKAGE / "jobs" / "toy.py", code)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
