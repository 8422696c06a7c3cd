"""Public names of packages that load them on first use, for the reference pages.

Such a package says where its names live in a dictionary, `_HOMES`, and imports nothing, so
that reading the sources alone does not find them.
"""

import ast
from typing import Any

import griffe


class LazyNames(griffe.Extension):
    """Adds the names in a package's `_HOMES` to it."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Completes a package and those in it after they are read."""
        for module in (pkg, *pkg.modules.values()):
            if "_HOMES" in module.members:
                _add(module, ast.literal_eval(str(module.members["_HOMES"].value)))
        loader.resolve_aliases()


def _add(module: griffe.Module, homes: dict[str, str]) -> None:
    for name, home in homes.items():
        if home != ".":  # a module, which is a member already
            module.set_member(name, griffe.Alias(name, f"{module.path}.{home}.{name}"))
    known = [name for name in module.exports or () if isinstance(name, str)]
    module.exports = list(dict.fromkeys([*homes, *known]))
