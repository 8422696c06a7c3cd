"""Settings that jobs share; each field is a flag, too."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.safeguards import Inputs, check_cache_is_apart, check_spares_inputs
from etd_tf.modeling.config import BertConfig
from etd_tf.settings import (
    MISSING,
    Settings,
    flag_texts,
    part,
    setting,
)
from etd_tf.storage.home import DEFAULT_CACHE
from etd_tf.text.options import MAX_LENGTH, TEXT_KINDS
from etd_tf.training.options import STRATEGIES

TEACHER = (
    "The model to make smaller: a Hugging Face directory, a Google checkpoint directory, a "
    "KerasHub preset, package:NAME/SUBDIR inside an installed Python package, or hf://NAME."
)
"""Help of every setting that names a teacher."""


@dataclasses.dataclass(frozen=True)
class StudentSize(Settings):
    """Sizes of the student; None means the teacher's."""

    title = "Student size (each defaults to the teacher's)"

    num_layers: int | None = setting(None, "Transformer layers.", flag="student_layers", least=1)
    hidden_size: int | None = setting(
        None, "Width of the residual stream.", flag="student_hidden", least=1
    )
    num_heads: int | None = setting(
        None, "Attention heads; divides the width.", flag="student_heads", least=1
    )
    intermediate_size: int | None = setting(
        None, "Feed-forward inner width.", flag="student_intermediate", least=1
    )

    @classmethod
    def parse(cls, text: str) -> "StudentSize":
        """Reads `LAYERSxHIDDENxHEADSxINTERMEDIATE`, e.g. `6x384x12x1536`.

        Raises:
            InputError: The text has another form.
        """
        match = re.fullmatch(r"(\d+)x(\d+)x(\d+)x(\d+)", text.strip())
        sizes = [int(size) for size in match.groups()] if match else []
        if not sizes or min(sizes) < 1:
            raise InputError(
                f"students={text!r}: expected LAYERSxHIDDENxHEADSxINTERMEDIATE, all at least 1, "
                "e.g. 6x384x12x1536; several with commas."
            )
        return cls(*sizes)

    def __str__(self) -> str:
        """The inverse of `parse`."""
        return "x".join(map(str, dataclasses.astuple(self)))

    def config(self, teacher: BertConfig) -> BertConfig:
        """Returns the student's configuration; `plan_extraction` checks it further.

        Raises:
            InputError: The sizes do not fit together.
        """
        sizes = dataclasses.asdict(self)
        return teacher.replace(**{name: size for name, size in sizes.items() if size})


@dataclasses.dataclass(frozen=True)
class CorpusOptions(Settings):
    """The text that a job reads."""

    title = "Text"

    corpus: tuple[str, ...] = setting(
        MISSING,
        f"Raw text: files or globs ({TEXT_KINDS}), tfds:NAME, stdlib:pydoc, or a directory of "
        "records made by etd_prepare.",
    )
    validation_corpus: tuple[str, ...] = setting(
        (), "Held-out text; by default a fixed share of the corpus' documents is held out."
    )
    tokenizer: str | None = setting(
        None,
        "A model whose tokenizer to take, or a tokenizer's directory; default: the teacher's own.",
    )
    sequence_length: int = setting(128, "Tokens a sequence.", least=8, most=MAX_LENGTH)
    cache_dir: Path = setting(Path(DEFAULT_CACHE), "Where prepared corpora are kept.", free=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.corpus:
            raise InputError(
                "corpus= is empty. Give text files or globs, tfds:NAME, or stdlib:pydoc for a try."
            )

    @property
    def is_text(self) -> bool:
        """Whether nothing of it is records."""
        from etd_tf.text.record_directories import is_record_path

        return not any(map(is_record_path, self.corpus))

    def inputs(self) -> Inputs:
        """What is read, by setting."""
        return {
            "corpus": self.corpus,
            "validation_corpus": self.validation_corpus,
            "tokenizer": [self.tokenizer],
        }


@dataclasses.dataclass(frozen=True)
class HardwareOptions(Settings):
    """Where and in which precision the training step runs."""

    title = "Hardware"

    strategy: str = setting(
        "auto",
        "tf.distribute strategy; auto takes what the machine offers.",
        choices=STRATEGIES,
    )
    precision: str = setting(
        "float32",
        "Precision of the student's products.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    teacher_precision: str = setting(
        "auto",
        "Precision of the teacher's products; auto: bfloat16 where precision is mixed.",
        choices=("auto", "float32", "mixed_bfloat16"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractOptions(Settings):
    """Settings of an extraction job.

    Attributes:
        student: Sizes of the student.
        extraction: How it is cut out.
        corpus: Text for scoring; None where no text is needed.
        settings: The flags behind all this, kept in `flags.txt`.

    Raises:
        InputError: `overwrite` would delete what the job reads, or the cache is in
            `output_dir`.
    """

    title = "Run"

    teacher: str = setting(MISSING, TEACHER, required=True, group="Teacher")
    student: StudentSize
    extraction: ExtractionOptions
    corpus: CorpusOptions | None = part(None)
    tokenizer: str | None = setting(
        None, "Directory of the tokenizer; None for the teacher's own.", flag=""
    )
    output_dir: Path = setting(
        MISSING, "Directory for everything that the run makes.", required=True, free=True
    )
    overwrite: bool = setting(False, "Replace a finished run in output_dir.")
    seed: int = setting(0, "Seed of every random choice.", least=0)
    settings: Mapping[str, str] = flag_texts()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corpus is not None:
            check_cache_is_apart(self.output_dir, self.corpus.cache_dir)
        if self.overwrite:
            models: Inputs = {
                "teacher": [self.teacher],
                "tokenizer": [self.tokenizer],
                "scores": [self.extraction.scores],
            }
            text = self.corpus.inputs() if self.corpus is not None else {}
            check_spares_inputs(self.output_dir, {**models, **text})

    @property
    def needs_text(self) -> bool:
        """Whether text is read."""
        return self.extraction.start.reads_text(self.extraction)
