"""A setting is said in one field: checks, free flags and defaults follow from it."""

import dataclasses
import math
import sys

import pytest

from etd_tf.cli import compare, distill, evaluate, export, extract, prepare
from etd_tf.cli.flags import FlagSet
from etd_tf.errors import InputError
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.compare_types import CompareOptions, DownstreamOptions
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import (
    CorpusOptions,
    ExtractOptions,
    HardwareOptions,
    StudentSize,
)
from etd_tf.jobs.task_options import EvaluationOptions
from etd_tf.settings import (
    MISSING,
    NamedPart,
    Settings,
    flag_texts,
    flags_of,
    free_flags,
    members_of,
    options_of,
    part,
    setting,
    settings_of,
)
from etd_tf.text.options import RecordOptions
from etd_tf.training.options import TrainerOptions


def test_settings_become_the_flags_that_make_them():
    flags = [
        *("--teacher=t", "--output_dir=/o", "--corpus=a b.txt,c.txt", "--student_layers=2"),
        *("--loss=minilmv2", "--relation_heads=3", "--layer_selection=1,3"),
        *("--importance_examples=7", "--dropout=0.25", "--export=", "--cache_dir=/c"),
    ]

    def read(arguments):
        flag_set = FlagSet(*distill.COMMAND.settings)
        flag_set.values(["etd_distill", *arguments])
        return flag_set, flag_set.read(DistillOptions)

    flag_set, options = read(flags)
    found = flags_of(options)
    assert found["corpus"] == "a b.txt,c.txt"
    assert found["layer_selection"] == "1,3"
    assert (found["relation_heads"], found["compensate"], found["export"]) == ("3", "false", "")
    assert "teacher_layers" not in found  # of another loss
    texts = flag_set.texts()
    assert {name: text for name, text in found.items() if texts.get(name) != text} == {
        "overwrite": "false"
    }
    _, again = read([f"--{name}={text}" for name, text in found.items()])
    assert dataclasses.replace(again, settings={}) == dataclasses.replace(options, settings={})
    assert flags_of(Work(first="1", depth=Depth(layers=3), options={"layers": 4, "on": True})) == {
        **{"first": "1", "kind": "a", "deep": "4", "on": "true", "depth": "true"},
        **{"x_deep": "3", "x_seeds": "0", "x_kind": "a"},
    }


COMMANDS = (compare, distill, evaluate, export, extract, prepare)


@dataclasses.dataclass(frozen=True)
class Depth(Settings):
    title = "Depth"

    layers: int = setting(2, "Layers.", least=1, most=9, flag="deep")
    rate: float | None = setting(None, "A share.", least=0.0, below=1.0, free=True)
    seeds: tuple[int, ...] = setting((0,), "Seeds.", least=0, some=True, distinct=True)
    kind: str = setting("a", "A kind.", choices=lambda: ("a", "b"))
    names: tuple[str, ...] = setting(("a",), "Kinds.", choices=("a", "b"), flag="")
    on: bool = setting(False, "Whether.", free=True)


@dataclasses.dataclass(frozen=True)
class Empty(Settings):
    pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work(Settings):
    title = "Work"

    first: str = setting(MISSING, "First.", required=True)
    depth: Depth | None = part(Depth, prefix="x_", without=("on",), switch="Whether deep.")
    kind: str = setting("a", "Which.", choices=("a", "b"))
    options: dict = options_of(lambda: {"a": Depth, "b": Empty}, chosen="kind")
    texts: dict = flag_texts()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, r"layers=0: expected a whole number >= 1 and <= 9\."),
        ({"layers": 10}, "layers=10: "),
        ({"layers": True}, "layers=True: expected a whole number"),
        ({"layers": 2.0}, r"layers=2\.0: expected a whole number"),
        ({"rate": 1.0}, r"rate=1\.0: expected a finite number >= 0\.0 and < 1\.0\."),
        ({"rate": math.nan}, "rate=nan: expected a finite number"),
        ({"rate": "x"}, "rate=x: expected a finite number"),
        ({"seeds": ()}, "seeds=: expected at least one value, none twice"),
        ({"seeds": (1, 1)}, "seeds=1,1: expected at least one value, none twice"),
        ({"seeds": (1, -1)}, "seeds=1,-1: expected whole numbers >= 0"),
        ({"seeds": 3}, "seeds=3: expected a list"),
        ({"kind": "c"}, r"kind=c is unknown; choose from a, b\."),
        ({"names": ("b", "c", "d")}, "names=c,d is unknown; choose from a, b"),
        ({"on": 1}, "on=1: expected True or False"),
    ],
)
def test_values_are_checked(changes, message):
    with pytest.raises(InputError, match=message):
        Depth(**changes)


def test_a_default_cannot_change():
    with pytest.raises(TypeError, match="give a tuple"):
        setting([], "A list.")


def test_parts_have_flags_of_their_own():
    flag_set = FlagSet(Work)
    assert flag_set.groups["Work"] == ["first", "kind", "deep", "rate", "seeds", "on"]
    assert flag_set.groups["Depth"] == ["depth", "x_deep", "x_rate", "x_seeds", "x_kind"]
    assert {"x_deep", "on"} <= set(flag_set.values)
    assert "x_on" not in flag_set.values


def test_free_flags_are_those_of_fields_and_parts():
    assert free_flags(Depth) == {"rate", "on"}
    assert free_flags(Work) == {"x_rate"}
    trainer = {"log_every", "checkpoint_every", "keep_checkpoints", "steps_per_call"}
    assert free_flags(DistillOptions) == trainer | {
        *("evaluate_every", "min_fidelity", "output_dir", "cache_dir"),
    }
    assert free_flags(ExtractOptions) == {"output_dir", "cache_dir"}
    assert free_flags(CompareOptions) == trainer | {
        *("losses", "students", "arms", "seeds", "together", "output_dir", "cache_dir"),
        *(
            "tasks",
            "glue_dir",
            "texts",
            "retrieval_dir",
            "squad_dir",
            "squad_epochs",
            "finetune_at",
        ),
        *("train", "dev", "text_column", "pair_column", "label_column"),
        *("finetune_learning_rates", "finetune_seeds", "finetune_epochs"),
    }


def test_changed_settings_are_named_by_their_flags():
    assert list(Depth(layers=3, on=True).changed()) == ["deep", "on"]


NECESSARY = {
    CorpusOptions: ["--corpus=c"],
    DistillOptions: ["--corpus=c", "--teacher=t", "--output_dir=o"],
    ExtractOptions: ["--teacher=t", "--output_dir=o"],
    EvaluationOptions: ["--model=m", "--benchmark"],
    CompareOptions: ["--corpus=c", "--teacher=t", "--output_dir=o", "--students=1x3x1x2"],
    export.ExportFlags: ["--model=m", "--output_dir=o"],
    prepare.PrepareFlags: ["--tokenizer=t", "--output_dir=o"],
}


@pytest.mark.parametrize(
    "cls",
    [
        *(StudentSize, ExtractionOptions, HardwareOptions, TrainerOptions, FinetuneOptions),
        *(RecordOptions, DownstreamOptions, *NECESSARY),
    ],
)
def test_python_and_the_command_line_have_the_same_defaults(cls):
    flag_set = FlagSet(cls)
    flag_set.values(["x", *NECESSARY.get(cls, ())])
    given = {"corpus": None} if cls is ExtractOptions else {}
    read = flag_set.read(cls, **given)
    for one in settings_of(cls):
        if one.default is not MISSING and f"--{one.flag}" not in NECESSARY.get(cls, ()):
            value = getattr(read, one.name)
            expanded = one.default.expanduser() if one.name == "cache_dir" else one.default
            assert value == expanded, one.name


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__)
def test_every_flag_comes_from_a_field_that_is_read(module):
    """What no class says is no flag, and what a class says is read into it."""
    known = FlagSet(*module.COMMAND.settings)
    ours = {name for names in known.groups.values() for name in names}
    read = set()

    class Noting(FlagSet):
        def _value(self, one, flag):
            read.add(flag)
            return super()._value(one, flag)

    flag_set = Noting(*module.COMMAND.settings)
    for cls in module.COMMAND.settings:
        _read_all(flag_set, cls, "")
    assert read | {"finetune"} >= ours, ours - read


def _read_all(flag_set, cls, prefix):
    for one in members_of(cls):
        if isinstance(one, NamedPart):
            _read_all(flag_set, one.of, prefix + one.said.prefix)
        elif hasattr(one, "flag") and prefix + one.flag in flag_set.values:
            flag_set._value(one, prefix + one.flag)
        elif hasattr(one.said if hasattr(one, "said") else None, "objects"):
            flag_set._read_all(one.said.settings().values())


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
