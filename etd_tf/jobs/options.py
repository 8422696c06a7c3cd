"""Settings of jobs, one field a flag; checked before anything slow happens."""

import dataclasses
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.extraction.compensation import LEAST_EXAMPLES
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
class ExtractionOptions:
    """How the student is taken out of the teacher.

    Attributes:
        extraction: `"impt"`, `"rand"` or `"none"`.
        head_mode: `"neurons"` or `"heads"`.
        layer_selection: `"uniform"`, `"top"`, `"bottom"` or teacher layers from 1.
        importance_metric: Score of ETD-Impt.
        importance_loss: Loss behind the taylor score.
        importance_examples: Sequences used for scoring.
        scores: File of saved scores to reuse.
        compensate: Fold cut units into kept ones.
    """

    extraction: str = "impt"
    head_mode: str = "neurons"
    layer_selection: str | tuple[int, ...] = "uniform"
    importance_metric: str = "taylor"
    importance_loss: str = "auto"
    importance_examples: int = 512
    scores: Path | None = None
    compensate: bool = False

    def __post_init__(self) -> None:
        if self.compensate and self.extraction == "none":
            raise InputError(
                "--compensate folds units that an extraction cuts, so it has no effect on "
                "--extraction=none. Leave one of them out."
            )
        if self.compensate and self.importance_examples < LEAST_EXAMPLES:
            raise InputError(
                f"--importance_examples={self.importance_examples} is too few for --compensate, "
                f"which needs at least {LEAST_EXAMPLES}; a few hundred are better."
            )
        if self.scores is not None and not self.scores.is_file():
            raise InputError(f"--scores={self.scores} does not exist; give a scores.npz.")
        if self.scores is not None and self.extraction != "impt":
            raise InputError(
                f"--scores is used with --extraction=impt only, not with {self.extraction}."
            )

    @property
    def asked_metric(self) -> str | None:
        """The metric that saved scores must have; None where none was named."""
        return self.importance_metric if self._is_changed("importance_metric") else None

    @property
    def scores_text(self) -> bool:
        """Whether the teacher's units are scored on text."""
        made_now = self.extraction == "impt" and self.scores is None
        return made_now and self.importance_metric != "magnitude"

    @property
    def scores_by_gradient(self) -> bool:
        """Whether a loss is behind the scores."""
        return self.scores_text and self.importance_metric != "activation"

    def idle_flags(self) -> dict[str, str]:
        """Says why settings that were changed are not read beside the others, by name."""
        reasons: dict[str, str] = {}
        if self.extraction == "none":
            cut = "--extraction=none cuts nothing out of the teacher"
            reasons |= {"head_mode": cut, "layer_selection": cut}
        scoring = self._why_not_scored()
        if self.extraction != "impt":
            reasons["importance_metric"] = scoring
        if not self.scores_by_gradient:
            reasons["importance_loss"] = scoring
        if not self.scores_text and not self.compensate:
            reasons["importance_examples"] = scoring
        return {name: why for name, why in reasons.items() if self._is_changed(name)}

    def _why_not_scored(self) -> str:
        if self.extraction != "impt":
            return f"nothing is scored with --extraction={self.extraction}"
        if self.scores is not None:
            return "units are scored already in --scores"
        return f"--importance_metric={self.importance_metric} does not read it"

    def _is_changed(self, name: str) -> bool:
        return bool(getattr(self, name) != getattr(type(self), name))


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
