"""Extraction with compensation: fold cut units where it brings the student closer.

Folding (`folding`) is exact for the teacher's own activations; the student's drift away
from them layer by layer, and a deep student may amplify the drift. So the ridge of each
kind of site is chosen by an error measured through the student on held-out examples, and
a kind is left as sliced where no ridge helps.

This goes beyond Extract Then Distill (Chen et al. 2021), which slices plainly.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.folding import MEANS_ONLY, FoldedSlices
from etd_tf.extraction.inputs import ScoringInputs
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.statistics import SITES, collect_statistics
from etd_tf.extraction.student import check_plan, extract
from etd_tf.modeling.parameters import set_parameters
from etd_tf.progress import track
from etd_tf.types import Array, Tensor

RIDGES = (MEANS_ONLY, 10.0, 1.0, 0.1, 0.01)
# Relative gains in held-out error below which a fold is not made. The search picks the best
# of many candidates, so a small total gain is often chance and no gain on other text.
_LEAST_GAIN, _LEAST_TOTAL_GAIN = 0.005, 0.1


@dataclasses.dataclass(frozen=True)
class CompensatedStudent:
    """A student with folded units.

    Attributes:
        student: The student.
        ridges: By kind of site, the ridge chosen; None where it is sliced plainly.
        plain_error: Held-out error of the plain slice: 1 - the mean cosine between the
            student's last states and the kept channels of the teacher's.
        error: Held-out error of this student.
    """

    student: Checkpoint
    ridges: Mapping[str, float | None]
    plain_error: float
    error: float


def extract_compensated(
    teacher: Checkpoint,
    plan: ExtractionPlan,
    examples: Mapping[str, Array],
    *,
    held_out_share: float = 0.125,
    batch_size: int = 32,
) -> CompensatedStudent:
    """Cuts a student out of a teacher and folds cut units into kept ones where it helps.

    Args:
        teacher: The model to cut.
        plan: A plan for it.
        examples: As for `score_units`; at least 8.
        held_out_share: Share of the examples that chooses the ridges; the others give
            the statistics.
        batch_size: Examples a step.

    Returns:
        The student; the plain slice where folding does not lower the held-out error by a
        tenth.

    Raises:
        InputError: The plan does not fit the teacher, or the examples are unusable.
    """
    parameters = check_plan(teacher, plan)
    fitted, held_out = _split(ScoringInputs.from_examples(examples, teacher.config), held_out_share)
    statistics = collect_statistics(
        teacher, dataclasses.asdict(fitted), layers=plan.layers, batch_size=batch_size
    )
    slices = FoldedSlices(parameters, plan, statistics)
    student = extract(teacher, plan)
    measure = _HeldOutError(teacher, student, plan, held_out, batch_size)
    search = _RidgeSearch(slices, measure)
    ridges, plain, error = search.run()
    set_parameters(slices.parameters(ridges), student.encoder, student.mlm_head)
    return CompensatedStudent(student, ridges, plain, error)


def _split(inputs: ScoringInputs, share: float) -> tuple[ScoringInputs, ScoringInputs]:
    """Splits in canonical order, which is random in content and independent of the caller."""
    if not 0.0 < share < 1.0:
        raise InputError(f"held_out_share={share} is not between 0 and 1.")
    if inputs.num_examples < 8:
        raise InputError(
            f"Compensation needs at least 8 examples, received {inputs.num_examples}; a few "
            "hundred are better."
        )
    count = min(max(1, round(share * inputs.num_examples)), inputs.num_examples - 1)
    parts = dataclasses.asdict(inputs)
    return (
        ScoringInputs(**{name: value[count:] for name, value in parts.items()}),
        ScoringInputs(**{name: value[:count] for name, value in parts.items()}),
    )


class _HeldOutError:
    """1 - mean cosine between student states and the teacher's kept channels."""

    def __init__(
        self,
        teacher: Checkpoint,
        student: Checkpoint,
        plan: ExtractionPlan,
        held_out: ScoringInputs,
        batch_size: int,
    ) -> None:
        self._student = student
        self._batches = list(held_out.batches(batch_size))
        encode = tf.function(lambda inputs: teacher.encoder.trace(inputs).sequence_output)
        self._targets = [
            tf.gather(tf.cast(encode(batch.inputs), tf.float32), plan.hidden, axis=-1)
            for batch in self._batches
        ]
        self._cosines = tf.function(self._batch_cosines)

    def _batch_cosines(
        self, inputs: Mapping[str, Tensor], weights: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        states = tf.cast(self._student.encoder.trace(inputs).sequence_output, tf.float32)
        real = tf.cast(inputs["padding_mask"], tf.float32) * weights[:, None]
        norms = tf.norm(states, axis=-1) * tf.norm(targets, axis=-1)
        cosines = tf.math.divide_no_nan(tf.reduce_sum(states * targets, axis=-1), norms)
        return tf.reduce_sum(cosines * real), tf.reduce_sum(real)

    def __call__(self, parameters: Mapping[str, Array]) -> float:
        set_parameters(parameters, self._student.encoder, self._student.mlm_head)
        parts = [
            self._cosines(batch.inputs, batch.weights, targets)
            for batch, targets in zip(self._batches, self._targets, strict=True)
        ]
        total, count = np.asarray(parts, np.float64).sum(axis=0)
        return float(1.0 - total / max(count, 1.0))


class _RidgeSearch:
    """All kinds of sites at one ridge first, then one kind at a time."""

    def __init__(self, slices: FoldedSlices, measure: _HeldOutError) -> None:
        self._slices, self._measure = slices, measure

    def run(self) -> tuple[dict[str, float | None], float, float]:
        """Returns the ridges, the plain slice's error and the best error."""
        best: dict[str, float | None] = dict.fromkeys(SITES)
        trials = len(RIDGES) + len(SITES) * len(RIDGES) + 1
        with track("Choosing folds", trials, "students") as progress:
            plain = error = self._measure(self._slices.parameters(best))
            progress.advance()
            for ridge in RIDGES:
                best, error = self._better(best, error, dict.fromkeys(SITES, ridge))
                progress.advance()
            for site in SITES:
                for option in (None, *RIDGES):
                    if option != best[site]:
                        best, error = self._better(best, error, best | {site: option})
                        progress.advance()
        if error > plain * (1.0 - _LEAST_TOTAL_GAIN):
            return dict.fromkeys(SITES), plain, plain
        return best, plain, error

    def _better(
        self,
        best: dict[str, float | None],
        error: float,
        candidate: dict[str, float | None],
    ) -> tuple[dict[str, float | None], float]:
        found = self._measure(self._slices.parameters(candidate))
        if found < error * (1.0 - _LEAST_GAIN):
            return candidate, found
        return best, error
