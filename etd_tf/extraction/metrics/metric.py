"""What a metric of importance is: every metric gives the same set of arrays."""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from etd_tf.extraction.gates import UnitValues
from etd_tf.lazy import LazyModule, tf
from etd_tf.progress import track
from etd_tf.types import Tensor

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.extraction.inputs import ScoringInputs
    from etd_tf.extraction.objectives import Objective

np: Any = LazyModule("numpy")  # not for help pages

_STEPS_FOR_XLA = 8  # fewer batches take less time than compiling for them


@dataclasses.dataclass(frozen=True)
class Amount:
    """How much text is read.

    Attributes:
        sequences: Sequences, repetitions counted.
        sequence_length: Tokens of each.
    """

    sequences: int
    sequence_length: int


class Metric(abc.ABC):
    """A way to measure how important each unit of a teacher is.

    Attributes:
        name: What `--importance_metric` takes.
        title: Its name in reports, e.g. `"weight magnitude"`.
        summary: A phrase for help pages.
        reads_text: Whether it needs examples.
        reads_loss: Whether a loss is behind it, so that it needs gradients.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    reads_text: ClassVar[bool] = True
    reads_loss: ClassVar[bool] = False

    @abc.abstractmethod
    def score(
        self,
        teacher: "Checkpoint",
        inputs: "ScoringInputs | None",
        objective: "Objective | None",
        *,
        batch_size: int,
        probes: int,
    ) -> UnitValues:
        """Scores all units.

        Args:
            teacher: The model to score; it is not changed.
            inputs: The examples; None where the metric reads no text.
            objective: The loss; None where the metric reads none.
            batch_size: Examples a step.
            probes: Draws of the objective's random parts for each example.

        Returns:
            Float64 scores, the sites of the hidden channels added up.
        """

    @abc.abstractmethod
    def flops(self, teacher: "Checkpoint", loss: str, amount: Amount) -> int:
        """Counts the operations of scoring.

        Args:
            teacher: The teacher.
            loss: Of metrics with a loss: `"mlm"`, `"reconstruction"` or `"auto"`.
            amount: The sequences, times the probes of each.
        """


class TextMetric(Metric):
    """A metric that adds up a share for each batch of text."""

    @abc.abstractmethod
    def scorer(
        self, teacher: "Checkpoint", objective: Any = None, *, jit_compile: bool = False
    ) -> "UnitScorer":
        """Makes what adds up the metric.

        Args:
            teacher: The checkpoint to score.
            objective: The `Objective`; None where the metric reads no loss.
            jit_compile: Compile the step with XLA.
        """

    def score(
        self,
        teacher: "Checkpoint",
        inputs: "ScoringInputs | None",
        objective: "Objective | None",
        *,
        batch_size: int,
        probes: int,
    ) -> UnitValues:
        """See `Metric.score`."""
        if inputs is None:
            raise RuntimeError(f"The metric {self.name} reads text, and got no inputs.")
        rounds = probes if objective else 1
        steps = rounds * math.ceil(inputs.num_examples / batch_size)
        scorer = self.scorer(teacher, objective, jit_compile=steps >= _STEPS_FOR_XLA)
        with track("Scoring units", inputs.num_examples * rounds, "examples") as progress:
            for probe in range(rounds):
                for batch in inputs.batches(batch_size):
                    tensors = objective.prepare(batch, probe) if objective else batch.inputs
                    scorer.accumulate(tensors, batch.weights)
                    progress.advance(batch.size)
        return UnitValues(*(part / rounds for part in scorer.result()))


class GradientMetric(TextMetric):
    """A metric by the gradients of a loss."""

    reads_loss = True

    def flops(self, teacher: "Checkpoint", loss: str, amount: Amount) -> int:
        """Forward and backward pass, with the masked-LM head where the loss needs it.

        Of n sequences n * (3 * C_teacher + 6 * masked_tokens * (H*H + H*V)); see
        `Metric.flops`.
        """
        from etd_tf.extraction.objectives import resolve_loss
        from etd_tf.text.masking import Masking

        config, length, masked = teacher.config, amount.sequence_length, 0
        if resolve_loss(loss, teacher) == "mlm" and teacher.tokenizer is not None:
            masked = Masking.from_tokenizer(teacher.tokenizer).num_predictions(length)
        head = config.hidden_size * (config.hidden_size + config.vocab_size)
        return amount.sequences * (3 * config.flops(length) + 6 * masked * head)


Step = Callable[[Mapping[str, Tensor], Tensor], UnitValues]
"""Maps a prepared batch and its example weights `[B]` to the batch's share of a sum."""


class UnitScorer:
    """Adds up a metric over batches, in float64.

    Args:
        step: The batch's share.
        finish: Turns the sum into scores; default: the hidden sites are added up.
        jit_compile: Compile the step with XLA.
    """

    def __init__(
        self,
        step: Step,
        finish: Callable[[UnitValues], UnitValues] | None = None,
        *,
        jit_compile: bool = False,
    ) -> None:
        self._step = tf.function(step, jit_compile=jit_compile)
        self._finish = finish or add_sites
        self._total: UnitValues | None = None

    def accumulate(self, tensors: Mapping[str, Tensor], weights: Tensor) -> None:
        """Adds one batch.

        Args:
            tensors: What the objective prepared, or the encoder's inputs.
            weights: Float32 `[B]`, 0 for filling.
        """
        share = self._step(dict(tensors), weights)
        share = UnitValues(*(np.asarray(part, np.float64) for part in share))
        total = self._total
        if total is not None:
            share = UnitValues(*(a + b for a, b in zip(total, share, strict=True)))
        self._total = share

    def result(self) -> UnitValues:
        """Returns the scores of everything accumulated so far.

        Raises:
            RuntimeError: Nothing has been accumulated.
        """
        if self._total is None:
            raise RuntimeError("UnitScorer.result() was called before accumulate().")
        return self._finish(self._total)


def add_sites(total: UnitValues) -> UnitValues:
    """Adds up the sites of the hidden channels."""
    return total._replace(hidden=total.hidden.sum(axis=0))


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Sums over the leading axis B with weights `[B]`."""
    return tf.tensordot(weights, values, axes=1)
