"""The stages of distilling on a task, and their settings."""

import dataclasses

from etd_tf.errors import InputError
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.settings import Settings, part, setting, summaries

STATES, LOGITS, LABELS = "states", "logits", "labels"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        summary: What the student imitates in it.
        reads: Names of the arrays that its loss reads, where they are there.
        takes_unlabelled: Whether texts without labels serve it.
    """

    summary: str
    reads: tuple[str, ...]
    takes_unlabelled: bool = True


STAGES: dict[str, Stage] = {
    STATES: Stage("the teacher's last state of the first token", ("teacher_state",)),
    LOGITS: Stage("the teacher's logits", ("teacher_logits",)),
    LABELS: Stage("the labels", ("labels", "weights"), takes_unlabelled=False),
}
"""Every stage, in the published order."""


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
    unfreezing: str = setting(
        "none",
        "Of logits and labels. head: first the head alone, then everything; layers: the head, "
        "then a layer more at a time from the top. Each takes all epochs.",
        choices=("none", "head", "layers"),
    )
    training: FinetuneOptions = part(FinetuneOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stages[-1] == STATES:
            raise InputError(
                f"stages={','.join(self.stages)} ends with {STATES}, which trains no head. Add "
                f"{LOGITS} or {LABELS} behind it."
            )

    def ends(self) -> tuple[str, ...]:
        """Stages that a student may end with."""
        return tuple(stage for stage in self.stages if stage != STATES)
