"""Settings of jobs, one field a flag; checked before anything slow happens."""

import dataclasses
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.jobs.safeguards import Inputs
from etd_tf.modeling.config import BertConfig


@dataclasses.dataclass(frozen=True)
class StudentSize:
    """Sizes of the student; None means the teacher's.

    Attributes:
        layers: Transformer layers.
        hidden: Width of the residual stream.
        heads: Attention heads.
        intermediate: Feed-forward inner width.
    """

    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    intermediate: int | None = None

    def config(self, teacher: BertConfig) -> BertConfig:
        """Returns the student's configuration; `plan_extraction` checks it further.

        Raises:
            InputError: The sizes do not fit together.
        """
        sizes = {
            "num_layers": self.layers,
            "hidden_size": self.hidden,
            "num_heads": self.heads,
            "intermediate_size": self.intermediate,
        }
        return teacher.replace(**{name: size for name, size in sizes.items() if size})


@dataclasses.dataclass(frozen=True)
class CorpusOptions:
    """The text that a job reads.

    Attributes:
        corpus: Files, globs, `tfds:`, `stdlib:pydoc`, or one directory of records.
        validation_corpus: Held-out text; empty to hold out a share of the documents.
        tokenizer: Directory of the tokenizer; None for the teacher's.
        sequence_length: Tokens a sequence.
        cache_dir: Where prepared corpora are kept.
    """

    corpus: tuple[str, ...]
    validation_corpus: tuple[str, ...] = ()
    tokenizer: str | None = None
    sequence_length: int = 128
    cache_dir: Path = Path("~/.cache/etd_tf")

    def __post_init__(self) -> None:
        if not self.corpus:
            raise InputError(
                "--corpus is empty. Give text files or globs, tfds:NAME, or stdlib:pydoc for a try."
            )

    def inputs(self) -> Inputs:
        """What is read, by flag."""
        return {
            "corpus": self.corpus,
            "validation_corpus": self.validation_corpus,
            "tokenizer": [self.tokenizer],
        }


@dataclasses.dataclass(frozen=True)
class HardwareOptions:
    """Where and in which precision the training step runs.

    Attributes:
        strategy: See `etd_tf.training.strategy.make_strategy`.
        precision: Keras dtype policy of the student.
        teacher_precision: Policy of the teacher's forward pass; `"auto"` is bfloat16
            products wherever `precision` is mixed.
    """

    strategy: str = "auto"
    precision: str = "float32"
    teacher_precision: str = "auto"
