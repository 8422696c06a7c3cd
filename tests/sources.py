"""The library's source files and what they import, for tests about its structure."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import REPOSITORY

PACKAGE = REPOSITORY / "etd_tf"


def sources() -> list[Path]:
    """All modules of the library but its lazy front."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path: Path) -> str:
    """The sub-package, or the module beside them, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module with its line, imports inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f".{alias.name}" for alias in node.names] if module == "etd_tf" else [""]
            yield from ((node.lineno, module + name) for name in names)
