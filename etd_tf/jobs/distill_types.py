"""Settings and result of the main job."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etd_tf.errors import InputError
from etd_tf.export import FORMATS
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.options import TEACHER, CorpusOptions, HardwareOptions, StudentSize
from etd_tf.jobs.safeguards import Inputs, check_cache_is_apart, check_spares_inputs
from etd_tf.losses import LOSSES, Loss, sum_text
from etd_tf.losses import get as get_loss
from etd_tf.losses.base import read_vectors_alone
from etd_tf.settings import (
    MISSING,
    Settings,
    flag_texts,
    flags_of,
    listed,
    options_of,
    setting,
    summaries,
)
from etd_tf.training.options import TrainerOptions, TrainResult

if TYPE_CHECKING:
    from etd_tf.checkpoints import Checkpoint
    from etd_tf.extraction.starts import InitialStudent
    from etd_tf.reporting import FidelityFacts, RunReport
    from etd_tf.text.records import RecordSet

_BERT_MASKING_RATE = 0.15


def optional_formats() -> Iterable[str]:
    """The formats that a run writes where it is asked to."""
    return (name for name, form in FORMATS.items() if form.optional)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillOptions(Settings):
    """Settings of a distillation job.

    Attributes:
        student: Sizes of the student.
        extraction: How it is cut out.
        corpus: The text.
        trainer: The training run.
        hardware: Strategy and precision.
        loss: The losses whose weighted sum is minimised; one may be given as a text.
        loss_options: Arguments by loss; those of a single loss may be given alone.
        settings: The flags that were given; empty without a command line.

    Raises:
        InputError: A number is out of range, a masked-LM loss goes without masking, or
            `overwrite` would delete what the job reads.
    """

    title = "Distillation loss"

    teacher: str = setting(MISSING, TEACHER, required=True, group="Teacher")
    student: StudentSize
    extraction: ExtractionOptions
    corpus: CorpusOptions
    loss: tuple[str, ...] = setting(
        ("minilm",),
        lambda: f"Losses to be summed. {summaries(LOSSES)}",
        choices=lambda: LOSSES,
        some=True,
        distinct=True,
    )
    loss_weights: tuple[float, ...] = setting(
        (), "Weight of each loss in the sum; default: 1 for all.", above=0.0
    )
    loss_options: Mapping[str, Any] = options_of(lambda: LOSSES, chosen="loss")
    student_loss_weight: float = setting(
        0.0, "Share of the student's own masked-LM loss in the total.", least=0.0, below=1.0
    )
    cache_vectors: bool = setting(
        True,
        "Where the losses read nothing of the teacher but its sentence vectors, compute these "
        "once and keep them in cache_dir.",
    )
    masking_rate: float | None = setting(
        None,
        "Share of input tokens masked; default: 0.15 where a masked-LM loss needs it and the "
        "records hold no masked tokens of their own, else 0.",
        least=0.0,
        most=1.0,
    )
    trainer: TrainerOptions
    dropout: float | None = setting(
        None,
        "Student's dropout while distilling; default: 0 where the teacher makes sentence "
        "vectors, else the configuration's rates.",
        least=0.0,
        below=1.0,
        group="Training",
    )
    similar_lengths: bool = setting(
        True,
        "Put texts of similar length into a batch and pad them no further than needed, where each "
        "row is a text of its own (etd_prepare --nopacking) and no tokens are masked.",
        group="Training",
    )
    held_out_sequences: int = setting(
        512, "Held-out sequences behind each held-out loss.", least=1, group="Training"
    )
    min_fidelity: float | None = setting(
        None,
        "Fail at the end, with everything kept, where the student finds a smaller share of a "
        "sentence encoder's ten nearest neighbours among the held-out sequences.",
        least=0.0,
        most=1.0,
        free=True,
        group="Run",
    )
    hardware: HardwareOptions = dataclasses.field(default_factory=HardwareOptions)
    output_dir: Path = setting(
        MISSING,
        "Directory for everything that the run makes.",
        required=True,
        free=True,
        group="Run",
    )
    overwrite: bool = setting(False, "Replace a finished run in output_dir.", group="Run")
    exports: tuple[str, ...] = setting(
        ("saved_model",),
        "Formats written beside the Hugging Face directory; empty for none.",
        flag="export",
        choices=optional_formats,
        group="Run",
    )
    settings: Mapping[str, str] = flag_texts()

    def __post_init__(self) -> None:
        if isinstance(self.loss, str):
            object.__setattr__(self, "loss", (self.loss,))
        if any(not isinstance(value, Mapping) for value in self.loss_options.values()):
            object.__setattr__(self, "loss_options", {self.loss[0]: self.loss_options})
        super().__post_init__()
        if self.loss_weights and len(self.loss_weights) != len(self.loss):
            raise InputError(
                f"loss_weights={listed(self.loss_weights)} are {len(self.loss_weights)} numbers, "
                f"but loss={listed(self.loss)} are {len(self.loss)}. Give one weight for each "
                "loss, or none."
            )
        for name in self.exports:
            FORMATS[name]()  # one may need a package that is not there
        check_cache_is_apart(self.output_dir, self.corpus.cache_dir)
        if self.overwrite:
            models: Inputs = {"teacher": [self.teacher], "scores": [self.extraction.scores]}
            check_spares_inputs(self.output_dir, {**models, **self.corpus.inputs()})
        if self.needs_masked_lm and self.masking_rate == 0 and self.corpus.is_text:
            raise InputError(
                "Masked-LM losses need masked input, but masking_rate is 0; leave it out for "
                "BERT's 0.15."
            )

    @property
    def flags(self) -> Mapping[str, str]:
        """The flags of the run: those that were given, or those that make these settings."""
        made = flags_of(self)
        del made["overwrite"]  # is about the directory, not the run
        return self.settings or made

    @property
    def needs_masked_lm(self) -> bool:
        """Whether a loss compares masked-LM predictions."""
        return self.student_loss_weight > 0 or any(loss.needs_mlm for loss in self.make_losses())

    def dropout_rate(self, teacher: "Checkpoint") -> float | None:
        """The student's dropout while it distils; None for its configuration's rates.

        Without dropout students of sentence encoders came closer to their teachers.
        """
        if self.dropout is None and teacher.pooling is not None:
            return 0.0
        return self.dropout

    @property
    def needs_vectors(self) -> bool:
        """Whether a loss compares sentence vectors."""
        return any(loss.needs_vectors for loss in self.make_losses())

    @property
    def reads_vectors_alone(self) -> bool:
        """Whether the losses read nothing of the teacher but its sentence vectors."""
        return read_vectors_alone(self.make_losses())

    def resolve_masking(self, records: "RecordSet") -> float:
        """Says which share of the tokens of some records to mask.

        Returns:
            The share; 0 for none.

        Raises:
            InputError: The records hold masked tokens already and more were asked for, or
                they hold none and none were asked for, but a loss needs them.
        """
        has_targets = records.layout.num_predictions > 0
        if has_targets and self.masking_rate:
            raise InputError(
                f"{records.source} holds masked tokens already; leave masking_rate out to use them."
            )
        if self.needs_masked_lm and not has_targets and self.masking_rate == 0:
            raise InputError(
                f"Masked-LM losses need masked input, but {records.source} holds none and "
                "masking_rate is 0; leave it out for BERT's 0.15."
            )
        if self.masking_rate is not None:
            return self.masking_rate
        return _BERT_MASKING_RATE if self.needs_masked_lm and not has_targets else 0.0

    @property
    def weights(self) -> Sequence[float]:
        """The weight of each loss."""
        return self.loss_weights or (1.0,) * len(self.loss)

    @property
    def loss_text(self) -> str:
        """The losses and their weights in short."""
        return sum_text(dict(zip(self.loss, self.weights, strict=True)))

    def make_losses(self) -> list[Loss]:
        """Creates the distillation losses."""
        return [get_loss(name, **self.loss_options.get(name, {})) for name in self.loss]


@dataclasses.dataclass(frozen=True)
class DistillResult:
    """What a distillation job made.

    Attributes:
        run_dir: The run directory.
        student: The distilled student.
        initial: The student before distillation and where it came from.
        records: The text.
        training: The training run's result.
        fidelity: How faithful its vectors are; None where the teacher is no sentence encoder.
        report: The run's report; None in worker processes that write nothing.
    """

    run_dir: Path
    teacher: "Checkpoint"
    student: "Checkpoint"
    initial: "InitialStudent"
    records: "RecordSet"
    training: TrainResult
    fidelity: "FidelityFacts | None" = None
    report: "RunReport | None" = None
