"""The stages of distilling on a task, and their settings."""

import dataclasses
from typing import TYPE_CHECKING, Any

from etd_tf.errors import InputError
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.settings import Settings, part, setting, summaries

if TYPE_CHECKING:
    from etd_tf.losses import Loss

STATES, LAYERS, LOGITS, LABELS = "states", "layers", "logits", "labels"
_LABELS = ("labels", "weights", "start_positions", "end_positions")


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        summary: What the student imitates in it.
        reads: Names of the arrays that its loss reads, where they are there.
        takes_unlabelled: Whether texts without labels serve it.
        trains_head: Whether a student may end with it.
    """

    summary: str
    reads: tuple[str, ...]
    takes_unlabelled: bool = True
    trains_head: bool = True


STAGES: dict[str, Stage] = {
    STATES: Stage(
        "the teacher's last state that its head reads", ("teacher_state",), trains_head=False
    ),
    LAYERS: Stage("the teacher's layers, by layer_loss", (), trains_head=False),
    LOGITS: Stage("the teacher's logits", ("teacher_logits",)),
    LABELS: Stage("the labels", _LABELS, takes_unlabelled=False),
}
"""Every stage, in the published order."""


def layer_losses() -> "dict[str, type[Loss]]":
    """The losses that compare the insides of two encoders, and nothing else."""
    from etd_tf.losses import LOSSES

    return {
        name: loss
        for name, loss in LOSSES.items()
        if not (loss.needs_mlm or loss.needs_vectors or loss.needs_map)
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferOptions(Settings):
    """Settings of distilling on a task.

    Where there are several learning rates, or stages to end with, a training of each rate on
    nine tenths of the training data is scored on the rest after every stage; the best pair is
    then trained on all of it. The dev set decides nothing.

    Raises:
        InputError: The stages end with states, or a value is out of range.
    """

    title = "Task distillation"

    stages: tuple[str, ...] = setting(
        (STATES, LOGITS, LABELS),
        lambda: f"What the student imitates, one after the other. {summaries(STAGES)}",
        choices=lambda: STAGES,
        some=True,
        distinct=True,
    )
    temperature: float | None = setting(
        None,
        "Temperature of the softmax in logits; default: squared error of the logits instead.",
        above=0.0,
    )
    layer_loss: str = setting(
        "tinybert",
        lambda: (
            "Of the stage layers, whose teacher runs beside the student: what is compared. "
            f"{summaries(layer_losses())}"
        ),
        choices=layer_losses,
    )
    unfreezing: str = setting(
        "none",
        "Of logits and labels. head: first the head alone, then everything; layers: the head, "
        "then a layer more at a time from the top. Each takes all epochs.",
        choices=("none", "head", "layers"),
    )
    training: FinetuneOptions = part(FinetuneOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not STAGES[self.stages[-1]].trains_head:
            raise InputError(
                f"stages={','.join(self.stages)} ends with {self.stages[-1]}, which trains no "
                f"head. Add {LOGITS} or {LABELS} behind it."
            )

    def make_layer_loss(self) -> "Loss":
        """The loss of the stage of layers."""
        return layer_losses()[self.layer_loss]()

    def record(self) -> dict[str, Any]:
        """What decides the training, without a loss that no stage reads."""
        values = dataclasses.asdict(self)
        if LAYERS not in self.stages:
            del values["layer_loss"]
        return values

    def ends(self) -> tuple[str, ...]:
        """Stages that a student may end with."""
        return tuple(stage for stage in self.stages if STAGES[stage].trains_head)
