"""The arms of a comparison: the ways to initialise the same student."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to initialise the student.

    Attributes:
        label: Its name for readers.
        extraction: `"none"`, `"rand"` or `"impt"`.
        metric: Importance metric behind `"impt"`.
        importance_of: Unit kinds that follow the scores; None for all.
        keeps_width: Whole teacher layers are copied, so the student has their sizes.
        compensation: `"fold"` folds cut units into kept ones where that helps; `"rotate"`
            also gives heads bases that suit the cut, before; None does neither.
    """

    label: str
    extraction: str = "impt"
    metric: str = "taylor"
    importance_of: tuple[str, ...] | None = None
    keeps_width: bool = False
    compensation: str | None = None


ARMS: dict[str, Arm] = {
    "none": Arm("random initialisation", "none"),
    "rand": Arm("ETD-Rand", "rand"),
    "impt": Arm("ETD-Impt"),
    "impt-compensate": Arm("ETD-Impt with compensation", compensation="rotate"),
    "impt-fold": Arm("ETD-Impt, folding alone", compensation="fold"),
    "impt-ffn": Arm("importance of FFN neurons only", importance_of=("ffn",)),
    "impt-heads": Arm("importance of head dimensions only", importance_of=("heads",)),
    "impt-hidden": Arm("importance of hidden channels only", importance_of=("hidden",)),
    "impt-magnitude": Arm("importance by weight magnitude", metric="magnitude"),
    "impt-activation": Arm("importance by activation", metric="activation"),
    "impt-dynabert": Arm("importance by DynaBERT's score", metric="dynabert"),
    "depth": Arm("whole teacher layers", "rand", keeps_width=True),
}
"""Every arm by the name that `--arms` takes."""
