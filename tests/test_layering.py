"""Imports point one way, and the light parts of the library start no heavy ones."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY
from tests.sources import PACKAGE, imported, part_of, sources

BASE = {"errors", "lazy", "progress", "settings", "storage", "types"}
READS = BASE | {"modeling", "tokenization"}
STAGES = READS | {"text", "checkpoints", "extraction", "losses", "training"}
USES = {"distillation", "export", "evaluation", "tasks", "reporting"}

# What each part may import; nothing that is not listed. Parts of one row know each other
# only where a reason stands behind the line.
ALLOWED = {
    "errors": set(),
    "types": set(),
    "lazy": set(),
    "settings": {"errors"},
    "progress": {"errors"},
    "storage": BASE - {"settings", "storage"},
    "modeling": BASE,
    "tokenization": BASE,
    "text": BASE | {"tokenization"},
    "training": BASE,
    "losses": BASE | {"modeling"},
    "checkpoints": READS,  # a checkpoint holds its tokenizer
    "extraction": READS | {"text", "checkpoints"},  # checkpoints in and out
    "distillation": STAGES,
    "export": STAGES,
    "evaluation": STAGES | {"export"},  # fine-tuned models are served, too
    "tasks": STAGES | {"evaluation", "export"},  # a task is trained by the one loop
    "reporting": STAGES | {"evaluation", "export", "tasks"},  # tabulates results
    "jobs": STAGES | USES,
    "cli": STAGES | USES | {"jobs"},
}


def test_every_part_has_a_place():
    assert {part_of(path) for path in sources()} <= set(ALLOWED)


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_imports_point_one_way(part):
    wrong = []
    for path in sources():
        if part_of(path) != part:
            continue
        for line, module in imported(path):
            head, _, rest = module.partition(".")
            target = rest.partition(".")[0]
            if module.startswith("."):
                wrong.append(f"{path.relative_to(REPOSITORY)}:{line}: name the module in full")
            elif head == "etd_tf" and target not in {part, "__version__"} | ALLOWED[part]:
                wrong.append(f"{path.relative_to(REPOSITORY)}:{line}: {part} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_the_order_has_no_circle():
    ranks: dict[str, int] = {}

    def rank(part: str, above: tuple[str, ...] = ()) -> int:
        assert part not in above, f"circle: {' -> '.join((*above, part))}"
        if part not in ranks:
            below = (rank(other, (*above, part)) for other in ALLOWED[part])
            ranks[part] = 1 + max(below, default=0)
        return ranks[part]

    assert max(rank(part) for part in ALLOWED) == rank("cli")


def test_the_page_on_packages_lists_them_from_the_top():
    page = (REPOSITORY / "docs" / "where-things-are.md").read_text("utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(listed) == sorted(packages)
    above = [
        f"{lower} imports {upper}, which stands above it"
        for place, upper in enumerate(listed)
        for lower in listed[place + 1 :]
        if upper in ALLOWED[lower]
    ]
    assert not above, above


def test_the_page_on_packages_names_files_that_exist():
    page = (REPOSITORY / "docs" / "where-things-are.md").read_text("utf-8")
    named = [name for name in re.findall(r"`([\w/]+\.py)`", page) if "/" in name]
    assert len(named) > 10
    roots = (PACKAGE, REPOSITORY)
    assert [n for n in named if not any((root / n).is_file() for root in roots)] == []


def names_imported(path: Path) -> Iterator[str]:
    """Modules and the names that are taken from them, also those only for the type checker."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(imports: Mapping[str, set[str]]) -> list[str]:
    """Circles in a graph of modules, one for each module that an earlier one leads back to."""
    found, done = [], set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        if module in above:
            found.append(" -> ".join((*above[above.index(module) :], module)))
        elif module not in done:
            for target in sorted(imports.get(module, ())):
                visit(target, (*above, module))
            done.add(module)

    for module in sorted(imports):
        visit(module, ())
    return found


def test_modules_import_each_other_in_no_circle():
    paths = {module_of(path): path for path in sources()}
    imports = {
        module: {
            target if target in paths else target.rpartition(".")[0]
            for target in names_imported(path)
        }
        & paths.keys()
        for module, path in paths.items()
    }
    assert len(imports) > 100
    assert circles(imports) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b -> c -> b"]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


FORBIDDEN = {
    "": {"torch", "transformers", "pickle", "cPickle", "dill", "joblib", "marshal", "shelve"},
    "modeling": {"tensorflow", "jax"},
    "losses": {"tensorflow", "jax"},
    "cli": {"keras", "tensorflow"},
}


def test_forbidden_imports():
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line}: {module}"
        for path in sources()
        for line, module in imported(path)
        if module.partition(".")[0] in FORBIDDEN[""] | FORBIDDEN.get(part_of(path), set())
    ]
    assert not wrong, "\n".join(wrong)


def heavy_modules_after(code: str, **environment: str) -> list[str]:
    """Runs code in a fresh interpreter and names the heavy modules that it loaded."""
    report = "import sys; print([m for m in ('keras', 'tensorflow', 'torch') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        check=True,
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


def test_the_package_starts_nothing_heavy():
    assert heavy_modules_after("import etd_tf; dir(etd_tf); etd_tf.InputError") == []


def test_losses_describe_themselves_without_keras():
    code = "from etd_tf.losses import LOSSES\nfor loss in LOSSES.values(): loss().term_weights"
    assert heavy_modules_after(code + "\nimport sys; assert 'numpy' not in sys.modules") == []


def test_tasks_describe_themselves_without_keras():
    code = "from etd_tf.tasks import TASKS\nfor task in TASKS.values(): task.metric"
    assert heavy_modules_after(code + "\nimport sys; assert 'numpy' not in sys.modules") == []


def test_the_commands_start_nothing_heavy():
    modules = [f"etd_tf.cli.{path.stem}" for path in sorted((PACKAGE / "cli").glob("[!_]*.py"))]
    assert modules
    assert heavy_modules_after(f"import {', '.join(modules)}") == []


def test_every_public_name_exists():
    packages = ["etd_tf", *(f"etd_tf.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py"))]
    code = f"""import importlib
for package in {packages}:
    module = importlib.import_module(package)
    [getattr(module, name) for name in getattr(module, "__all__", ())]"""
    assert heavy_modules_after(code, KERAS_BACKEND="tensorflow") == ["keras", "tensorflow"]


def test_encoder_and_losses_need_no_tensorflow():
    pytest.importorskip("torch")
    code = "import etd_tf.modeling.encoder\nfrom etd_tf.losses.base import ops; ops.add"
    assert heavy_modules_after(code, KERAS_BACKEND="torch") == ["keras", "torch"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
