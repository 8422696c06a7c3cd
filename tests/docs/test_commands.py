"""Commands that the documentation shows can be run as they are."""

import re
import sys
from pathlib import Path

import pytest
from absl import flags as absl_flags

from tests.docs.pages import (
    BENCHMARKS,
    COMMANDS,
    CONFIGS,
    KNOWN,
    PAGES,
    code_blocks,
    commands_in,
    flag_set,
    flags_of,
    name_of,
    prose,
    text_of,
)
from tests.helpers import REPOSITORY

# Flags of other programs, by the program that a code span or command starts with.
OTHER_PROGRAMS = {"tensorflow_model_server", "tensorboard", "pip", "make", "mypy", "ruff"}

_FLAG = re.compile(r"(?<![\w-])--(?:\[no\])?([a-z]\w*)")


def unknown_flags(words: list[str]) -> list[str]:
    """Flags in a command that it does not have; stops at its end."""
    end = next((i for i, word in enumerate(words) if word in ("|", ";", "&&", ">")), len(words))
    used = (re.match(r"\[?--(\w+)", word) for word in words[1:end])
    return [f"{words[0]} --{m[1]}" for m in used if m and m[1] not in flags_of(words[0])]


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=name_of)
def test_commands_have_the_flags_they_are_shown_with(path):
    wrong = [
        flag
        for block in code_blocks(path)
        for words in commands_in(block)
        for flag in unknown_flags(words)
    ]
    assert not wrong, wrong


def is_excerpt(words: list[str]) -> bool:
    return any(word.startswith(("--help", "[", "...", "--flagfile=...")) for word in words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_shown_can_be_parsed(page, monkeypatch):
    """Values are of the right kind, and no required flag is missing."""
    monkeypatch.chdir(REPOSITORY)  # where the flag files are
    for block in code_blocks(page):
        for words in commands_in(block):
            if words[0] in BENCHMARKS or is_excerpt(words):
                continue
            flags = flag_set(Path(words[0]).name)
            assert flags.values(words)[1:] == [], words
            flags.check_required()


def test_commands_are_found_in_documents():
    """The test before must not pass because it sees nothing."""
    shown = {
        Path(words[0]).name
        for path in [*PAGES, *CONFIGS]
        for block in code_blocks(path)
        for words in commands_in(block)
    }
    assert set(COMMANDS) <= shown
    assert "cost_model.py" in shown
    assert unknown_flags(["bin/etd_distill", "--teacher=x", "--noverwrite", "--nooverwrite"]) == [
        "bin/etd_distill --noverwrite"
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_named_in_prose_exist(page):
    wrong = []
    anything = set().union(*KNOWN.values(), *BENCHMARKS.values())
    for span in re.findall(r"`([^`]+)`", prose(page)):
        words = span.split()
        program = next((w for w in words if w in BENCHMARKS or Path(w).name in KNOWN), None)
        if words[0] in OTHER_PROGRAMS or words[0].startswith("pip"):
            continue
        known = anything if program is None else flags_of(program)
        wrong += [f"`{span}`: --{flag}" for flag in _FLAG.findall(span) if flag not in known]
    assert not wrong, wrong


def choices_of(name: str) -> list[list[str]]:
    """The values that each command with this flag takes; none where the flag is no choice."""
    found = [flag_set(command).values for command in COMMANDS]
    flags = [values[name] for values in found if name in values]
    return [flag.parser.enum_values for flag in flags if isinstance(flag, absl_flags.EnumFlag)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_values_of_choices_exist(page):
    wrong = []
    for name, value in re.findall(r"--(\w+)=([\w./-]+)", text_of(page)):
        choices = choices_of(name)
        if choices and not any(value in known for known in choices):
            wrong.append(f"--{name}={value}")
    assert not wrong, wrong


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
