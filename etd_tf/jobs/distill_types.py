"""Settings and result of the main job."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import Checkpoint
from etd_tf.errors import InputError
from etd_tf.export import FORMATS
from etd_tf.extraction.starts import ExtractionOptions, InitialStudent
from etd_tf.jobs.options import CorpusOptions, HardwareOptions, StudentSize
from etd_tf.jobs.safeguards import Inputs, check_cache_is_apart, check_spares_inputs
from etd_tf.losses import Loss
from etd_tf.losses import get as get_loss
from etd_tf.reporting import RunReport
from etd_tf.text.opening import is_record_path
from etd_tf.text.records import RecordSet
from etd_tf.training import TrainerOptions, TrainResult

_BERT_MASKING_RATE = 0.15


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
        loss: A name in `etd_tf.losses.LOSSES`.
        loss_options: The loss's own options.
        student_loss_weight: Share of the student's own masked-LM loss in the total.
        dropout: Student's dropout while distilling; None for its configuration's rates.
        masking_rate: Share of the input tokens that are masked. None is 0.15 where a
            masked-LM loss needs it and the records hold no masked tokens of their own, and
            else 0.
        held_out_sequences: Held-out sequences behind each held-out loss, at most.
        exports: Formats written beside the Hugging Face directory.
        overwrite: Replace an earlier run.
        settings: The flags behind all this, kept in `flags.txt`.

    Raises:
        InputError: A number is out of range, a masked-LM loss goes without masking, or
            `overwrite` would delete what the job reads.
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
    masking_rate: float | None = None
    held_out_sequences: int = 512
    exports: tuple[str, ...] = ("saved_model",)
    overwrite: bool = False
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_cache_is_apart(self.output_dir, self.corpus.cache_dir)
        if self.overwrite:
            models: Inputs = {"teacher": [self.teacher], "scores": [self.extraction.scores]}
            check_spares_inputs(self.output_dir, {**models, **self.corpus.inputs()})
        shares = {
            "student_loss_weight": (self.student_loss_weight, "[0, 1)"),
            "dropout": (self.dropout or 0.0, "[0, 1)"),
            "masking_rate": (self.masking_rate or 0.0, "[0, 1]"),
        }
        for name, (value, limits) in shares.items():
            if not 0.0 <= value <= 1.0 or (value == 1.0 and limits == "[0, 1)"):
                raise InputError(f"--{name}={value} is outside {limits}.")
        unknown = [name for name in self.exports if name not in FORMATS]
        if unknown:
            raise InputError(
                f"exports={', '.join(unknown)} is unknown; choose from {', '.join(FORMATS)}."
            )
        text_only = not any(map(is_record_path, self.corpus.corpus))
        if self.needs_masked_lm and self.masking_rate == 0 and text_only:
            raise InputError(
                "Masked-LM losses need masked input, but --masking_rate is 0; leave it out for "
                "BERT's 0.15."
            )

    @property
    def needs_masked_lm(self) -> bool:
        """Whether a loss compares masked-LM predictions."""
        return self.make_loss().needs_mlm or self.student_loss_weight > 0

    def resolve_masking(self, records: RecordSet) -> float:
        """Says which share of the tokens of some records to mask.

        Args:
            records: The text.

        Returns:
            The share; 0 for none.

        Raises:
            InputError: The records hold masked tokens already and more were asked for, or
                they hold none and none were asked for, but a loss needs them.
        """
        has_targets = records.layout.num_predictions > 0
        if has_targets and self.masking_rate:
            raise InputError(
                f"{records.source} holds masked tokens already; leave --masking_rate out to use "
                "them."
            )
        if self.needs_masked_lm and not has_targets and self.masking_rate == 0:
            raise InputError(
                f"Masked-LM losses need masked input, but {records.source} holds none and "
                "--masking_rate is 0; leave it out for BERT's 0.15."
            )
        if self.masking_rate is not None:
            return self.masking_rate
        return _BERT_MASKING_RATE if self.needs_masked_lm and not has_targets else 0.0

    def make_loss(self) -> Loss:
        """Creates the distillation loss."""
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
