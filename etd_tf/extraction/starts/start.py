"""What every way to begin a student says and does."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from etd_tf.errors import InputError
from etd_tf.extraction.metrics import METRICS, Amount
from etd_tf.settings import Settings, setting, summaries
from etd_tf.types import Array

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.extraction.plan import ExtractionPlan
    from etd_tf.extraction.scores import UnitScores
    from etd_tf.modeling.config import BertConfig
    from etd_tf.text.records import RecordSet

STARTS: "dict[str, Start]" = {}
"""Every way to begin, by the name that `--extraction` and `--arms` take; the package lists them."""

KeepSeconds = Callable[[str, float], float]
"""Takes a stage and its seconds just now, 0 where it was reused; returns what it once took."""


@dataclasses.dataclass(frozen=True)
class ExtractionOptions(Settings):
    """How the student begins; each start reads some of these settings.

    Raises:
        InputError: A value is not valid, or two exclude each other.
    """

    title = "Extraction"
    refuses_idle = False

    extraction: str = setting(
        "impt", lambda: f"How the student begins. {summaries(STARTS)}", choices=lambda: STARTS
    )
    head_mode: str = setting(
        "neurons",
        "neurons keeps every head and cuts inside each; heads keeps whole heads.",
        choices=("neurons", "heads"),
    )
    layer_selection: str | tuple[int, ...] = setting(
        "uniform", "uniform, top, bottom, or teacher layers counted from 1, e.g. 3,6,9,12."
    )
    importance_metric: str = setting(
        "taylor",
        lambda: f"How units are scored. {summaries(METRICS)}",
        choices=lambda: METRICS,
    )
    importance_loss: str = setting(
        "auto",
        "Loss behind the taylor score; auto is mlm where the teacher has a masked-LM head.",
        choices=("auto", "mlm", "reconstruction"),
    )
    importance_examples: int = setting(512, "Sequences used for scoring.", least=1)
    scores: Path | None = setting(None, "Scores saved by an earlier run (scores.npz) to reuse.")
    compensate: bool = setting(
        False,
        "Adjust the kept weights to make up for the removed units, where that brings the student "
        "closer to the teacher on held-out text. Recommended when the student is narrower than the "
        "teacher. Goes beyond the published method.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scores is not None and not self.scores.is_file():
            raise InputError(f"scores={self.scores} does not exist; give a scores.npz.")
        self.start.check_options(self)

    @property
    def start(self) -> "Start":
        """The way to begin that the settings name.

        Raises:
            InputError: The start has no compensated form, and `compensate` asks for it.
        """
        start = STARTS[self.extraction]
        if not self.compensate:
            return start
        if not start.compensated:
            have = ", ".join(name for name, one in STARTS.items() if one.compensated)
            raise InputError(
                f"compensate=True folds units that an extraction cuts, so it has no effect on "
                f"extraction={self.extraction}. Leave one of them out, or use it with {have}."
            )
        return STARTS[start.compensated]

    def idle(self) -> dict[str, str]:
        """Says why settings that were changed are not read beside the others, by name."""
        reasons = self.start.idle(self)
        return {name: reasons[name] for name in self.changed() if name in reasons}


@dataclasses.dataclass(frozen=True)
class InitialStudent:
    """The student that distillation begins with.

    Attributes:
        checkpoint: The student.
        plan: Where its weights come from; None for random initialisation.
        scores: The scores behind the plan, if any.
        seconds: Time by stage: `"scoring"` and the like; 0 where another run did it.
    """

    checkpoint: "Checkpoint"
    plan: "ExtractionPlan | None" = None
    scores: "UnitScores | None" = None
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a start works with.

    Attributes:
        config: The student's sizes.
        seed: Seed of every random choice.
        text: Text to sample from; None where none is read.
        folder: The run directory: what an earlier sitting made there is loaded.
        sample_seed: Seed of the sample of the text; None for `seed`.
        keep_seconds: Remembers over interruptions how long a stage took.
    """

    teacher: "Checkpoint"
    config: "BertConfig"
    options: ExtractionOptions
    seed: int = 0
    text: "RecordSet | None" = None
    folder: Path = Path()
    sample_seed: int | None = None
    keep_seconds: KeepSeconds = lambda _, seconds: seconds

    def examples(self, purpose: str) -> dict[str, Array]:
        """Samples the text.

        Args:
            purpose: What reads it, the subject and verb of the message without text.

        Returns:
            Int32 arrays `[n, T]` by name.

        Raises:
            InputError: There is no text.
        """
        if self.text is None:
            raise no_text(f"{purpose} on text")
        from etd_tf.text.batches import load_examples

        size, asked = sample_size(self.text, self.options), self.options.importance_examples
        if size < asked:
            logging.warning(
                "The corpus has %d sequences; extraction reads them all instead of %d.", size, asked
            )
        seed = self.seed if self.sample_seed is None else self.sample_seed
        return load_examples(self.text, size, seed=seed)


def no_text(what: str) -> InputError:
    """The error where a start reads text and there is none."""
    return InputError(
        f"{what}. Give it as corpus=... (stdlib:pydoc for a try). Without text there "
        "are scores=... of an earlier run, importance_metric=magnitude and extraction=rand, all "
        "without compensate=True."
    )


def sample_size(records: "RecordSet", options: ExtractionOptions) -> int:
    """Says how many sequences a start reads: those asked for, or all that there are."""
    return min(records.num_examples(), options.importance_examples)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start(abc.ABC):
    """A way to begin a student.

    Attributes:
        name: What `--extraction` and `--arms` take.
        title: Its name in reports.
        summary: What it does, a phrase for help pages.
        settings: The fields of `ExtractionOptions` that it reads.
        keeps_width: Whether it copies whole layers, so that the student has their sizes.
        compensated: Name of the start that `--compensate` makes of it; empty for none.
        keeps: Names in the run directory that it makes besides plan and scores.
        chart: Heading of the chart of a comparison that shows it; empty for every chart.
    """

    name: str
    title: str
    summary: str
    settings: tuple[str, ...] = ()
    keeps_width: bool = False
    compensated: str = ""
    keeps: tuple[str, ...] = ()
    chart: str = "Initialisations"

    def reads_text(self, options: ExtractionOptions) -> bool:
        """Whether text is read."""
        return False

    def metric(self, options: ExtractionOptions) -> str:
        """The metric by which the teacher's units are scored; empty where they are not."""
        return ""

    def check_options(self, options: ExtractionOptions) -> None:
        """Checks settings that the start reads or cannot do with."""
        if options.scores is not None and "scores" not in self.settings:
            raise InputError(
                f"scores=... is used with extraction=impt only, not with {options.extraction}."
            )

    def idle(self, options: ExtractionOptions) -> dict[str, str]:
        """Says why settings are not read beside the others, by name."""
        unread = f"extraction={options.extraction} does not read it"
        reads = {"extraction", "compensate", *self.settings}
        names = [field.name for field in dataclasses.fields(options)]
        return {name: unread for name in names if name not in reads}

    def check(self, work: Work) -> None:
        """Checks that the student can be made, before any long work.

        Args:
            work: All but text and folder are looked at.
        """
        if self.keeps_width:
            _check_width(self.name, work)

    def flops(
        self, work: Work, amount: Amount, scores: "UnitScores | None" = None
    ) -> dict[str, int]:
        """Operations before the first step, by stage.

        Args:
            work: Teacher, student and settings are looked at.
            amount: The text that is read.
            scores: What was scored; None before it is known, where the settings say it.

        Returns:
            Operations by stage; a stage that costs nothing is left out.
        """
        return {}

    def scores(self, work: Work) -> "tuple[UnitScores | None, float]":
        """Scores the teacher's units, or loads what an earlier sitting made.

        Returns:
            The scores, None where the start needs none, and the seconds that they took.
        """
        return None, 0.0

    @abc.abstractmethod
    def make(self, work: Work) -> InitialStudent:
        """Makes the student; what an earlier sitting made is loaded, never made again.

        Raises:
            InputError: Sizes, scores or plan do not fit, or there is no text to read.
        """


def _check_width(name: str, work: Work) -> None:
    names = ("hidden_size", "num_heads", "intermediate_size")
    ours, theirs = ([getattr(c, n) for n in names] for c in (work.config, work.teacher.config))
    if ours != theirs:
        layers = work.config.num_layers
        student, fitting = ("x".join(map(str, (layers, *sizes))) for sizes in (ours, theirs))
        raise InputError(
            f"The start {name} copies whole layers, so it cannot make the student {student}. "
            f"Make it {fitting} (layers x hidden x heads x intermediate), or choose another start."
        )
