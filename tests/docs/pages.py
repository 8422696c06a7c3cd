"""Reading the documentation: its pages, their blocks, and the commands that they show."""

import ast
import contextlib
import importlib
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from etd_tf.cli.flags import FlagSet
from tests.helpers import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")])
CONFIGS = sorted((REPOSITORY / "configs").glob("*.flags"))
COMMANDS = sorted(path.name for path in (REPOSITORY / "bin").glob("etd_*"))
# What absl gives every command.
COMMON_FLAGS = {"help", "flagfile"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def fences(path: Path, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(text_of(path)) if language in languages]


def prose(path: Path) -> str:
    return _FENCE.sub("", text_of(path))


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def flag_set(command: str) -> FlagSet:
    """The flags of a command; starts no TensorFlow."""
    module = importlib.import_module(f"etd_tf.cli.{command.removeprefix('etd_')}")
    return FlagSet(*module.COMMAND.settings)


def known_flags(command: str) -> set[str]:
    values = flag_set(command).values
    switches = {f"no{name}" for name in values if values[name].boolean}
    return {*values, *switches, *COMMON_FLAGS}


KNOWN = {command: known_flags(command) for command in COMMANDS}


def benchmark_flags(script: str) -> set[str]:
    """Flags that a script of benchmarks/, or one that it imports, adds to its parser."""
    tree = ast.parse(text_of(REPOSITORY / script))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    added = (node for node in calls if getattr(node.func, "attr", "") == "add_argument")
    flags = {"help", *(ast.literal_eval(node.args[0]).removeprefix("--") for node in added)}
    for node in ast.walk(tree):
        shared = f"benchmarks/{getattr(node, 'module', None)}.py"
        if isinstance(node, ast.ImportFrom) and (REPOSITORY / shared).is_file():
            flags |= benchmark_flags(shared)
    return flags


BENCHMARKS = {
    name_of(path): benchmark_flags(name_of(path))
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py"))
}


def commands_in(text: str) -> Iterator[list[str]]:
    """Words of the lines that start a command of ours or a benchmark, continuations joined."""
    for line in text.replace("\\\n", " ").splitlines():
        with contextlib.suppress(ValueError):  # no shell line
            words = shlex.split(line.strip().removeprefix("# Run: "), comments=True)
            if words and words[0].endswith("python") and len(words) > 1:
                words = words[1:]
            if words and (Path(words[0]).name in KNOWN or words[0] in BENCHMARKS):
                yield words


def flags_of(program: str) -> set[str]:
    return BENCHMARKS.get(program) or KNOWN[Path(program).name]


def code_blocks(path: Path) -> list[str]:
    if path.suffix == ".md":
        return fences(path, "", "bash", "sh")
    comments = [line for line in text_of(path).splitlines() if line.startswith("#")]
    return ["\n".join(line.removeprefix("# ") for line in comments).replace("Run: ", "")]


def load_script(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
