"""What the pages say is true: links, names, files and numbers."""

import ast
import importlib
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import (
    COMMANDS,
    CONFIGS,
    DOCS,
    PAGES,
    anchors,
    fences,
    name_of,
    prose,
    text_of,
)
from tests.helpers import REPOSITORY

OWN, EVALUATE = DOCS / "own-task.md", DOCS / "evaluate.md"
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def test_there_is_something_to_test():
    assert {"README.md", "docs/index.md", "docs/scaling.md"} <= {name_of(page) for page in PAGES}
    assert CONFIGS
    assert COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page):
    wrong = []
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(REPOSITORY):
            wrong.append(f"{target}: there is no such file")
        elif anchor and anchor not in anchors(file):
            wrong.append(f"{target}: {sorted(anchors(file))}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile(page):
    for block in fences(page, "python"):
        compile(block, name_of(page), "exec")


def dotted_names(page: Path) -> set[str]:
    """`etd_tf.a.b` in Python blocks, code spans and reference directives."""
    names = set()
    for block in fences(page, "python"):
        names |= {
            ast.unparse(n) for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Attribute)
        }
        names |= {
            f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
    text = prose(page)
    names |= set(re.findall(r"`(etd_tf(?:\.\w+)+)", text))
    names |= set(re.findall(r"^::: (etd_tf[\w.]*)$", text, re.MULTILINE))
    names |= set(re.findall(r"\]\[(etd_tf[\w.]+)\]", text))
    return {name for name in names if re.fullmatch(r"etd_tf(\.\w+)*", name)}


def exists(name: str) -> bool:
    found, parts = importlib.import_module("etd_tf"), name.split(".")[1:]
    for index, part in enumerate(parts):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join(["etd_tf", *parts[: index + 1]]))
            except ModuleNotFoundError:
                return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_of_the_library_exist(page):
    missing = [name for name in sorted(dotted_names(page)) if not exists(name)]
    assert not missing, missing


def test_files_named_in_documents_exist():
    pattern = re.compile(r"\b((?:configs|benchmarks|tests|requirements)/[\w./-]*\w)")
    wrong = [
        f"{name_of(page)}: {path}"
        for page in PAGES
        for path in pattern.findall(text_of(page))
        if not (REPOSITORY / path).exists()
    ]
    assert not wrong, wrong


def test_make_targets_named_in_documents_exist():
    targets = set(re.findall(r"^([a-z-]+):", text_of(REPOSITORY / "Makefile"), re.MULTILINE))
    pattern = re.compile(r"(?:^|`)make ([a-z-]+)", re.MULTILINE)
    for page in PAGES:
        named = set(pattern.findall(text_of(page)))
        assert named <= targets, f"{name_of(page)}: {named - targets}"


def test_printed_values_in_python_blocks_are_right():
    """Lines `expression  # number` of the page on sizes."""
    (block, *_) = fences(DOCS / "student-size.md", "python")
    names: dict[str, object] = {}
    exec(compile(block, "student-size.md", "exec"), names)  # noqa: S102 - our own text
    shown = re.findall(r"^(\S.*?)\s+# ([\d_.]+)", block, re.MULTILINE)
    assert len(shown) == 3
    for expression, value in shown:
        result = eval(expression, names)  # noqa: S307 - our own text
        assert result == pytest.approx(float(value), rel=1e-3 if "." in value else 0), expression


def size_rows() -> Iterator[list[str]]:
    for line in text_of(DOCS / "student-size.md").splitlines():
        if re.match(r"\| \d+ x \d+ x \d+ x \d+", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def rows_under(page: Path, *header: str) -> list[list[str]]:
    """The cells of the table whose header begins so."""
    lines = text_of(page).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| " + " | ".join(header)))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_the_tables_of_tasks_ask_the_registry():
    from etd_tf.tasks import TASKS, OwnFiles

    own = {f"`{name}`": one for name, one in TASKS.items() if isinstance(one, OwnFiles)}
    rows = rows_under(OWN, "task", "label")
    assert [name for name, _, _ in rows] == list(own)
    words = {"macro_f1": "macro F1", "f1": "F1", "r2": "R2"}
    for name, _, metrics in rows:
        for metric in own[name].metrics if metrics != "the same" else ():
            assert re.search(words.get(metric, metric), metrics, re.IGNORECASE), (name, metric)
    named = [n for row in rows_under(EVALUATE, "task", "files") for n in _CODE.findall(row[0])]
    assert sorted(named) == sorted(TASKS)


def test_the_table_of_sizes_is_right():
    from etd_tf.modeling import BertConfig

    rows, whole = list(size_rows()), 0
    assert len(rows) == 6
    for sizes, parameters, embeddings, flops, share in rows:
        layers, hidden, heads, inner = (int(size) for size in re.findall(r"\d+", sizes)[:4])
        config = BertConfig(30522, layers, hidden, heads, inner)
        whole = whole or config.flops(128)
        assert parameters == f"{config.num_parameters() / 1e6:.1f} M"
        assert embeddings == f"{30522 * hidden / 1e6:.1f} M"
        assert flops == f"{config.flops(128) / 1e9:.2f}"
        assert share == f"{config.flops(128) / whole:.0%}".replace("%", " %")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
