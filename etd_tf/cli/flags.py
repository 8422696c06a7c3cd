"""Flags that several commands share, with one name and one meaning everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from absl import flags, logging

from etd_tf.cli.app import FlagSet
from etd_tf.errors import InputError
from etd_tf.extraction.metrics import METRICS, metrics_help
from etd_tf.extraction.starts import STARTS, starts_help

if TYPE_CHECKING:
    from etd_tf.extraction.starts import ExtractionOptions
    from etd_tf.jobs.options import CorpusOptions, HardwareOptions, StudentSize

_CHECKPOINT_FILES = ("config.json", "bert_config.json", "*.index")
DEFAULT_CACHE = "~/.cache/etd_tf"

Number = TypeVar("Number", int, float)


def define_teacher(flag_set: FlagSet) -> None:
    """Defines `--teacher`."""
    flag_set.string(
        "teacher",
        None,
        "The model to make smaller: a Hugging Face directory, a Google checkpoint directory, a "
        "KerasHub preset, package:NAME/SUBDIR inside an installed Python package, or hf://NAME.",
    )


def define_student(flag_set: FlagSet) -> None:
    """Defines the student's sizes; each defaults to the teacher's."""
    flag_set.group("Student size (each defaults to the teacher's)")
    flag_set.integer("student_layers", None, "Transformer layers.", minimum=1)
    flag_set.integer("student_hidden", None, "Width of the residual stream.", minimum=1)
    flag_set.integer("student_heads", None, "Attention heads; divides the width.", minimum=1)
    flag_set.integer("student_intermediate", None, "Feed-forward inner width.", minimum=1)


def define_extraction(flag_set: FlagSet) -> None:
    """Defines how units and layers are chosen."""
    flag_set.group("Extraction")
    flag_set.choice(
        "extraction",
        "impt",
        list(STARTS),
        f"How the student begins. {starts_help()}",
    )
    define_cut(flag_set)
    flag_set.choice(
        "importance_metric",
        "taylor",
        list(METRICS),
        f"How units are scored. {metrics_help()}",
    )
    define_scoring(flag_set)
    flag_set.string("scores", None, "Scores saved by an earlier run (scores.npz) to reuse.")
    flag_set.boolean(
        "compensate",
        False,
        "Keep what cut units carried, by other bases for heads and by folding units into the "
        "kept ones that predict them, where that brings the student closer to the teacher on "
        "held-out text. Goes beyond the published method.",
    )


def define_cut(flag_set: FlagSet) -> None:
    """Defines what is cut inside heads, and which layers are taken."""
    flag_set.choice(
        "head_mode",
        "neurons",
        ["neurons", "heads"],
        "neurons keeps every head and cuts inside each; heads keeps whole heads.",
    )
    flag_set.string(
        "layer_selection",
        "uniform",
        "uniform, top, bottom, or teacher layers counted from 1, e.g. 3,6,9,12.",
    )


def define_scoring(flag_set: FlagSet) -> None:
    """Defines the loss and the amount of text behind importance scores."""
    flag_set.choice(
        "importance_loss",
        "auto",
        ["auto", "mlm", "reconstruction"],
        "Loss behind the taylor score; auto is mlm where the teacher has a masked-LM head.",
    )
    flag_set.integer("importance_examples", 512, "Sequences used for scoring.", minimum=1)


def define_corpus(flag_set: FlagSet) -> None:
    """Defines the text and how it is cut into sequences."""
    flag_set.group("Text")
    flag_set.strings(
        "corpus",
        [],
        "Raw text: files or globs (also .gz, .jsonl and .json), tfds:NAME, stdlib:pydoc, or a "
        "directory of records made by etd_prepare.",
    )
    flag_set.strings(
        "validation_corpus",
        [],
        "Held-out text; by default a fixed share of the corpus' documents is held out.",
    )
    flag_set.string(
        "tokenizer",
        None,
        "A model whose tokenizer to take, or a tokenizer's directory; default: the teacher's own.",
    )
    flag_set.integer("sequence_length", 128, "Tokens a sequence.", minimum=8)
    flag_set.string("cache_dir", DEFAULT_CACHE, "Where prepared corpora are kept.")


def define_output(flag_set: FlagSet) -> None:
    """Defines where results go, and the seed."""
    flag_set.group("Run")
    flag_set.string("output_dir", None, "Directory for everything that the run makes.")
    flag_set.boolean("overwrite", False, "Replace a finished run in --output_dir.")
    flag_set.integer("seed", 0, "Seed of every random choice.", minimum=0)


def numbers(
    values: flags.FlagValues, name: str, kind: Callable[[str], Number]
) -> tuple[Number, ...]:
    """Reads a flag that lists numbers.

    Args:
        values: The parsed flags.
        name: The flag.
        kind: `int` or `float`.

    Returns:
        The numbers.

    Raises:
        InputError: One is not a number.
    """
    texts: list[str] = getattr(values, name)
    try:
        return tuple(kind(text) for text in texts)
    except ValueError as error:
        raise InputError(
            f"--{name}={','.join(texts)} is not a comma-separated list of "
            f"{'whole ' if kind is int else ''}numbers."
        ) from error


def model_source(model: str) -> str:
    """Names the student inside a run directory; anything else stays as it is."""
    folder = Path(model).expanduser()
    # A checkpoint that happens to have such a folder is meant itself.
    is_checkpoint = any(any(folder.glob(pattern)) for pattern in _CHECKPOINT_FILES)
    student = folder / "student"
    return str(student) if student.is_dir() and not is_checkpoint else model


def split_layer_selection(values: flags.FlagValues) -> str | tuple[int, ...]:
    """Reads `--layer_selection`: a rule's name, or teacher layers counted from 1."""
    text: str = values.layer_selection
    if text and all(part.strip().isdigit() for part in text.split(",")):
        return tuple(int(part) for part in text.split(","))
    return text


def student_size(values: flags.FlagValues) -> "StudentSize":
    """Collects the `--student_*` flags."""
    from etd_tf.jobs.options import StudentSize

    return StudentSize(
        layers=values.student_layers,
        hidden=values.student_hidden,
        heads=values.student_heads,
        intermediate=values.student_intermediate,
    )


def extraction_options(values: flags.FlagValues) -> "ExtractionOptions":
    """Collects the extraction flags.

    Raises:
        InputError: `--scores` is missing on disk, or flags exclude each other.
    """
    from etd_tf.extraction.starts import ExtractionOptions

    options = ExtractionOptions(
        extraction=values.extraction,
        head_mode=values.head_mode,
        layer_selection=split_layer_selection(values),
        importance_metric=values.importance_metric,
        importance_loss=values.importance_loss,
        importance_examples=values.importance_examples,
        scores=Path(values.scores).expanduser() if values.scores else None,
        compensate=values.compensate,
    )
    for name, why in options.idle().items():
        logging.warning("--%s has no effect here: %s.", name, why)
    return options


def corpus_options(values: flags.FlagValues) -> "CorpusOptions":
    """Collects the corpus flags.

    Raises:
        InputError: `--corpus` is empty.
    """
    from etd_tf.jobs.options import CorpusOptions

    return CorpusOptions(
        corpus=tuple(values.corpus),
        validation_corpus=tuple(values.validation_corpus),
        tokenizer=values.tokenizer,
        sequence_length=values.sequence_length,
        cache_dir=Path(values.cache_dir).expanduser(),
    )


def hardware_options(values: flags.FlagValues) -> "HardwareOptions":
    """Collects the hardware flags."""
    from etd_tf.jobs.options import HardwareOptions

    return HardwareOptions(
        strategy=values.strategy,
        precision=values.precision,
        teacher_precision=values.teacher_precision,
    )


# What is done with an earlier run's directory is no part of a run.
_NOT_SETTINGS = ("flagfile", "undefok", "overwrite", "dry_run")


def settings(values: flags.FlagValues) -> dict[str, str]:
    """Every flag's value as text, in the form a flagfile takes; unset flags are left out."""
    found = {}
    for name in values:
        flag = values[name]
        if flag.value is None or name in _NOT_SETTINGS:
            continue
        if flag.boolean:
            found[name] = str(flag.value).lower()
        else:  # the serializer quotes commas inside of a list's items
            found[name] = flag.serializer.serialize(flag.value) if flag.serializer else flag.value
    return found
