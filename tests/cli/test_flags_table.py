"""The flags of all commands are those of before, with their names, types, defaults and bounds."""

import importlib
import json
import sys

import pytest

from etd_tf.cli.flags import FlagSet
from tests.helpers import REPOSITORY

TABLE = json.loads((REPOSITORY / "tests" / "cli" / "flags_table.json").read_text("utf-8"))

# Flag and what of it -> (what it is now, why).
_BOUND = "the library always checked the range; now the flag says it, too"
INTENDED = {
    **{
        (name, "lower"): (least, _BOUND)
        for name, least in {
            "learning_rate": 0,
            "weight_decay": 0,
            "clip_norm": 0,
            "dropout": 0,
            "warmup_ratio": 0,
            "steps_per_call": 1,
            "relation_heads": 1,
            "together": 1,
        }.items()
    },
    ("tinybert_layers", "type"): ("string", "layers can be listed"),
    ("tinybert_layers", "choices"): ([], "layers can be listed"),
    ("loss", "type"): ("comma separated list of strings", "losses can be summed"),
    ("loss", "default"): (["minilm"], "losses can be summed"),
    ("loss", "choices"): ([], "absl knows choices of single values only; the settings check"),
}


def _flag_set(command):
    return FlagSet(
        *importlib.import_module(f"etd_tf.cli.{command.removeprefix('etd_')}").COMMAND.settings
    )


def _numbers(values):
    """Texts that are numbers as such: 1e-4 is 0.0001."""
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return values


def _described(flag_set, name):
    flag = flag_set.values[name]
    return {
        "type": flag.flag_type(),
        "default": flag.default,
        "choices": list(getattr(flag.parser, "enum_values", None) or []),
        "lower": getattr(flag.parser, "lower_bound", None),
        "required": name in flag_set.required,
    }


@pytest.mark.parametrize("command", TABLE)
def test_flags_are_those_of_before(command):
    flag_set = _flag_set(command)
    known = {name for names in flag_set.groups.values() for name in names}
    assert known == set(TABLE[command])
    for name, before in TABLE[command].items():
        now = _described(flag_set, name)
        for what, expected in before.items():
            found = now[what]
            if found == INTENDED.get((name, what), (None,))[0]:
                continue
            if what == "choices":
                assert set(expected) <= set(found), (name, what)
                assert bool(expected) == bool(found), (name, what)
            else:
                assert _numbers(found) == _numbers(expected), (name, what)


def test_no_difference_is_listed_that_is_none():
    for name, what in INTENDED:
        differs = [
            command
            for command, flags in TABLE.items()
            if name in flags and _described(_flag_set(command), name)[what] != flags[name][what]
        ]
        assert differs, (name, what)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
