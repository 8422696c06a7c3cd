"""Settings of the ways to begin a student, which the commands share."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from etd_tf.errors import InputError
from etd_tf.extraction.metrics import METRICS, metrics_help
from etd_tf.settings import Settings, setting

if TYPE_CHECKING:
    from etd_tf.extraction.starts.start import Start


def _starts() -> Iterable[str]:
    from etd_tf.extraction.starts import STARTS

    return STARTS


@dataclasses.dataclass(frozen=True)
class ExtractionOptions(Settings):
    """How the student begins; each start reads some of these settings.

    Attributes:
        extraction: A name in `STARTS`.
        head_mode: `"neurons"` or `"heads"`.
        layer_selection: `"uniform"`, `"top"`, `"bottom"` or teacher layers from 1.
        importance_metric: Score of ETD-Impt.
        importance_loss: Loss behind the taylor score.
        importance_examples: Sequences that units are scored on.
        scores: File of saved scores to reuse.
        compensate: Take the start's compensated form.

    Raises:
        InputError: A value is not valid, or two exclude each other.
    """

    title = "Extraction"

    extraction: str = setting("impt", "How the student begins.", choices=_starts)
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
        f"How units are scored. {metrics_help()}",
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
        "Keep what cut units carried, by other bases for heads and by folding units into the "
        "kept ones that predict them, where that brings the student closer to the teacher on "
        "held-out text. Goes beyond the published method.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scores is not None and not self.scores.is_file():
            raise InputError(f"--scores={self.scores} does not exist; give a scores.npz.")
        self.start.check_options(self)

    @property
    def start(self) -> "Start":
        """The way to begin that the settings name.

        Raises:
            InputError: The start has no compensated form, and `compensate` asks for it.
        """
        from etd_tf.extraction.starts import STARTS

        start = STARTS[self.extraction]
        if not self.compensate:
            return start
        if not start.compensated:
            have = ", ".join(name for name, one in STARTS.items() if one.compensated)
            raise InputError(
                f"--compensate folds units that an extraction cuts, so it has no effect on "
                f"--extraction={self.extraction}. Leave one of them out, or use it with {have}."
            )
        return STARTS[start.compensated]

    def idle(self) -> dict[str, str]:
        """Says why settings that were changed are not read beside the others, by name."""
        reasons = self.start.idle(self)
        return {name: reasons[name] for name in self.changed() if name in reasons}
