"""Settings and result of the main job."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import Checkpoint
from etd_tf.data.records import RecordSet
from etd_tf.distillation import TrainerOptions, TrainResult
from etd_tf.errors import InputError
from etd_tf.jobs.options import CorpusOptions, ExtractionOptions, HardwareOptions, StudentSize
from etd_tf.jobs.student import InitialStudent
from etd_tf.losses import FeatureLoss, LogitsDistillation
from etd_tf.losses import get as get_loss
from etd_tf.reporting import RunReport


@dataclasses.dataclass(frozen=True)
class DistillOptions:
    """Settings of a distillation job.

    Attributes:
        teacher: Where the teacher is; anything `load_checkpoint` takes.
        output_dir: The run directory.
        student: Sizes of the student.
        extraction: How it is cut out.
        corpus: The text.
        trainer: The training run.
        hardware: Strategy and precision.
        loss: `"tinybert"`, `"minilm"`, `"minilmv2"` or `"mlm"` (the teacher's masked-LM
            logits).
        loss_options: Arguments of the loss.
        student_loss_weight: Share of the student's own masked-LM loss in the total.
        dropout: Student's dropout while distilling; None for its configuration's rates.
        masking_rate: Share of the input tokens that are masked; masked-LM losses need it.
        exports: Formats written beside the Hugging Face directory.
        overwrite: Replace an earlier run.
        settings: The flags behind all this, kept in `flags.txt`.

    Raises:
        InputError: A masked-LM loss without masking.
    """

    teacher: str
    output_dir: Path
    student: StudentSize
    extraction: ExtractionOptions
    corpus: CorpusOptions
    trainer: TrainerOptions
    hardware: HardwareOptions = dataclasses.field(default_factory=HardwareOptions)
    loss: str = "minilm"
    loss_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    student_loss_weight: float = 0.0
    dropout: float | None = None
    masking_rate: float = 0.0
    exports: tuple[str, ...] = ("saved_model",)
    overwrite: bool = False
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.loss == "mlm" or self.student_loss_weight > 0) and self.masking_rate <= 0:
            raise InputError(
                "Masked-LM losses need masked input; set --masking_rate, usually to 0.15."
            )

    def make_loss(self) -> FeatureLoss:
        """Creates the distillation loss."""
        if self.loss == "mlm":
            return LogitsDistillation(**self.loss_options)
        return get_loss(self.loss, **self.loss_options)


@dataclasses.dataclass(frozen=True)
class DistillResult:
    """What a distillation job made.

    Attributes:
        run_dir: The run directory.
        teacher: The teacher.
        student: The distilled student.
        initial: The student before distillation and where it came from.
        records: The text.
        training: The training run's result.
        report: The run's report; None in worker processes that write nothing.
    """

    run_dir: Path
    teacher: Checkpoint
    student: Checkpoint
    initial: InitialStudent
    records: RecordSet
    training: TrainResult
    report: RunReport | None = None
