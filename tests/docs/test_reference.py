"""The site has every page, command and public name."""

import html
import importlib
import re
import sys

import pytest

from etd_tf.cli.app import help_text
from tests.docs.pages import (
    COMMANDS,
    DOCS,
    flag_set,
    load_script,
    text_of,
)
from tests.helpers import REPOSITORY
from tests.sources import PACKAGE


def test_every_command_is_in_the_reference():
    hooks = load_script("docs/site_hooks.py")
    page = text_of(DOCS / "reference" / "commands.md")
    built = hooks.on_page_markdown(page)
    assert '<a id="etd_distill-steps" href="#etd_distill-steps">--steps</a>' in built
    assert '<a id="etd_prepare-packing"' in built
    plain = html.unescape(re.sub(r"</?(a|pre|code)\b[^>]*>", "", built))
    for command in COMMANDS:
        module = importlib.import_module(f"etd_tf.cli.{command.removeprefix('etd_')}")
        assert help_text(module.COMMAND, flag_set(command)) in plain
    assert "<!-- help" not in built


def test_every_part_has_a_reference_page():
    parts = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"cli"}
    pages = {path.stem for path in (DOCS / "reference").glob("*.md")}
    assert pages == parts | {"commands", "errors", "etd_tf"}


def test_every_public_name_is_in_the_reference():
    import etd_tf

    page = text_of(DOCS / "reference" / "etd_tf.md")
    missing = [n for n in etd_tf.__all__ if n != "__version__" and f"`etd_tf.{n}`" not in page]
    assert not missing, missing


def test_lazily_loaded_names_reach_the_reference():
    griffe = pytest.importorskip("griffe")
    extension = load_script("docs/lazy_names.py").LazyNames()
    package = griffe.load(
        "etd_tf",
        search_paths=[str(REPOSITORY)],
        allow_inspection=False,
        extensions=griffe.Extensions(extension),
    )
    import etd_tf.evaluation
    import etd_tf.tasks
    import etd_tf.text

    for module in (etd_tf.text, etd_tf.tasks, etd_tf.evaluation):
        documented = package[module.__name__.removeprefix("etd_tf.")]
        assert set(module.__all__) == set(documented.exports)
        for name in module.__all__:
            assert documented[name].docstring, f"{module.__name__}.{name}"


def test_the_site_lists_every_page():
    listed = set(re.findall(r"[\w/-]+\.md", text_of(REPOSITORY / "mkdocs.yml")))
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
