"""Ways to begin a student: one object each, which commands, comparisons and reports ask."""

from etd_tf.extraction.metrics import METRICS, Amount, Metric
from etd_tf.extraction.starts.compensated import Compensated
from etd_tf.extraction.starts.impt import ImportantUnits
from etd_tf.extraction.starts.none import RandomWeights
from etd_tf.extraction.starts.pca import PrincipalEmbeddings
from etd_tf.extraction.starts.rand import RandomUnits
from etd_tf.extraction.starts.start import (
    STARTS,
    ExtractionOptions,
    InitialStudent,
    Start,
    Work,
    no_text,
    sample_size,
)

_NONE = RandomWeights(
    name="none",
    title="random initialisation",
    summary="random weights, the baseline",
)
_RAND = RandomUnits(
    name="rand",
    title="ETD-Rand",
    summary="random units of the teacher",
    compensated="rand-compensate",
    chart="",
)
_IMPT = ImportantUnits(
    name="impt",
    title="ETD-Impt",
    summary="the teacher's most important units",
    compensated="impt-compensate",
    chart="",
)


def _by(metric: Metric) -> ImportantUnits:
    return ImportantUnits(
        name=f"impt-{metric.name}",
        title=f"importance by {metric.title}",
        summary=f"impt scored by {metric.name}",
        by=metric.name,
        chart="Importance metrics",
    )


def _only(name: str, kind: str, units: str) -> ImportantUnits:
    return ImportantUnits(
        name=name,
        title=f"importance of {units} only",
        summary=f"impt for {units}, rand for the others",
        importance_of=(kind,),
        chart="Importance in one kind of unit",
    )


STARTS.update(
    {
        start.name: start
        for start in (
            _NONE,
            _RAND,
            _IMPT,
            Compensated(
                name="impt-compensate",
                title="ETD-Impt with compensation",
                summary="impt, keeping what cut units carried",
                settings=_IMPT.settings,
                of=_IMPT,
            ),
            Compensated(
                name="impt-fold",
                title="ETD-Impt, folding alone",
                summary="impt, only folding cut units into kept ones",
                settings=_IMPT.settings,
                of=_IMPT,
                rotate=False,
            ),
            _only("impt-ffn", "ffn", "FFN neurons"),
            _only("impt-heads", "heads", "head dimensions"),
            _only("impt-hidden", "hidden", "hidden channels"),
            *(
                _by(metric)
                for metric in METRICS.values()
                if metric.name != ExtractionOptions.importance_metric
            ),
            Compensated(
                name="rand-compensate",
                title="ETD-Rand with compensation",
                summary="rand, keeping what cut units carried",
                settings=(*_RAND.settings, "importance_examples"),
                of=_RAND,
            ),
            PrincipalEmbeddings(
                name="none-pca",
                title="random weights on principal word embeddings",
                summary="none, word embeddings by PCA",
            ),
            RandomUnits(
                name="depth",
                title="whole teacher layers",
                summary="whole layers of the teacher",
                keeps_width=True,
            ),
        )
    }
)

BASELINE = _NONE.name
"""The start that the others are compared with."""


def made_files() -> tuple[str, ...]:
    """Names of what starts make in a run directory."""
    kept = dict.fromkeys(name for start in STARTS.values() for name in start.keeps)
    return ("plan.json", "scores.npz", *kept)


__all__ = [
    "BASELINE",
    "STARTS",
    "Amount",
    "ExtractionOptions",
    "InitialStudent",
    "Start",
    "Work",
    "made_files",
    "no_text",
    "sample_size",
]
