"""Extraction with compensation: keep what cut units carried, where it brings the student closer.

Two steps. Heads get bases in which the kept dims hold most of what each head does
(`rotation`), then all cut units are folded into the kept ones that predict them
(`folding`). Both are fitted to the teacher's own activations; the student's drift away
from them layer by layer, and a deep student may amplify the drift. So each step, and the
ridge of each kind of site, is chosen by an error measured through the student on held-out
examples, and a kind is left as sliced where no ridge helps.

This goes beyond Extract Then Distill (Chen et al. 2021), which slices plainly.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction.inputs import ScoringInputs
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.starts.folding import MEANS_ONLY, FoldedSlices
from etd_tf.extraction.starts.rotation import rotate_heads
from etd_tf.extraction.starts.statistics import collect_statistics
from etd_tf.extraction.student import check_plan, extract
from etd_tf.modeling.parameters import set_parameters
from etd_tf.modeling.structure import SITES
from etd_tf.progress import track
from etd_tf.types import Array, Parameters, Tensor

LEAST_EXAMPLES = 8
"""Fewer cannot be split into statistics and a held-out error."""

RIDGES = (MEANS_ONLY, 10.0, 1.0, 0.1, 0.01)
CANDIDATES = 2 * (1 + len(RIDGES)) + len(SITES) * len(RIDGES)
"""Students whose held-out error is measured, the plain slice among them."""

# Relative gains in held-out error below which a step is not made. The search picks the best
# of many candidates, so a tiny total gain can be chance and no gain on other text.
_LEAST_GAIN, _LEAST_TOTAL_GAIN = 0.002, 0.02


@dataclasses.dataclass(frozen=True)
class CompensatedStudent:
    """A student with folded units.

    Attributes:
        rotated: Whether heads were given other bases before slicing.
        ridges: By kind of site, the ridge chosen; None where it is sliced plainly.
        plain_error: Held-out error of the plain slice: 1 - the mean cosine between the last
            kept layer's states in the student and the same channels in the teacher, averaged
            with the same of its attention scores (centred over the keys of a query).
        error: Held-out error of this student.
    """

    student: Checkpoint
    rotated: bool
    ridges: Mapping[str, float | None]
    plain_error: float
    error: float

    @property
    def is_plain(self) -> bool:
        """Whether nothing helped, so that it is the plain slice."""
        return not self.rotated and not any(self.ridges.values())


def extract_compensated(
    teacher: Checkpoint,
    plan: ExtractionPlan,
    examples: Mapping[str, Array],
    *,
    rotate: bool = True,
    held_out_share: float = 0.125,
    batch_size: int = 32,
) -> CompensatedStudent:
    """Cuts a student out of a teacher, keeping what cut units carried where that helps.

    Args:
        teacher: The model to cut.
        plan: A plan for it.
        examples: As for `score_units`; at least `LEAST_EXAMPLES`.
        rotate: Whether heads may get other bases first; without, units are folded alone.
        held_out_share: Share of the examples that chooses the ridges; the others give
            the statistics.
        batch_size: Examples a step.

    Returns:
        The student; the plain slice where all this hardly lowers the held-out error.

    Raises:
        InputError: The plan does not fit the teacher, or the examples are unusable.
    """
    parameters = check_plan(teacher, plan)
    fitted, held_out = _split(ScoringInputs.from_examples(examples, teacher.config), held_out_share)
    statistics = collect_statistics(
        teacher, dataclasses.asdict(fitted), layers=plan.layers, batch_size=batch_size
    )
    student = extract(teacher, plan)
    measure = _HeldOutError(teacher, student, plan, held_out, batch_size)
    slices = {False: FoldedSlices(parameters, plan, statistics)}
    if rotate:
        rotated, theirs = rotate_heads(parameters, plan, statistics)
        slices[True] = FoldedSlices(rotated, plan, theirs)
    search = _Search(slices, measure)
    best, plain_error, error = search.run()
    student = student.replace(parameters=search.parameters(best))
    return CompensatedStudent(student, best.rotated, best.ridges, plain_error, error)


def _split(inputs: ScoringInputs, share: float) -> tuple[ScoringInputs, ScoringInputs]:
    """Splits in canonical order, which is random in content and independent of the caller."""
    if not 0.0 < share < 1.0:
        raise InputError(f"held_out_share={share} is not between 0 and 1.")
    if inputs.num_examples < LEAST_EXAMPLES:
        raise InputError(
            f"Compensation needs at least {LEAST_EXAMPLES} examples, received "
            f"{inputs.num_examples}; a few hundred are better."
        )
    count = min(max(1, round(share * inputs.num_examples)), inputs.num_examples - 1)
    parts = dataclasses.asdict(inputs)
    fitted = ScoringInputs(**{name: value[count:] for name, value in parts.items()})
    held_out = ScoringInputs(**{name: value[:count] for name, value in parts.items()})
    if not (fitted.padding_mask.any() and held_out.padding_mask.any()):
        raise InputError(
            f"Nearly all of the {inputs.num_examples} examples are nothing but padding. Give more "
            "text."
        )
    return fitted, held_out


class _HeldOutError:
    """1 - mean cosine to the teacher, of the last kept layer's states and attention scores.

    Both, because distillation losses read both, and a fold may help one and harm the other.
    """

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
        last = plan.layers[-1] - 1
        encoder = teacher.encoder  # built before it is traced
        heads = np.unique(plan.query_key[-1] // teacher.config.head_size)

        def features(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            trace = encoder.trace(inputs)
            states = tf.gather(trace.hidden_states[last], plan.hidden, axis=-1)
            scores = tf.gather(trace.attention_scores[last], heads, axis=1)
            return tf.cast(states, tf.float32), scores

        compute = tf.function(features)
        self._targets = [compute(batch.inputs) for batch in self._batches]
        self._cosines = tf.function(self._batch_cosines)

    def _batch_cosines(
        self, inputs: Mapping[str, Tensor], weights: Tensor, targets: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Sum of the two cosines over real tokens, and their number."""
        trace = self._student.encoder.trace(inputs)
        keys = tf.cast(inputs["padding_mask"], tf.float32)
        real = keys * weights[:, None]
        states, scores = targets
        by_state = _cosines(tf.cast(trace.hidden_states[-1], tf.float32), states)
        centred = (_centred(s, keys) for s in (trace.attention_scores[-1], scores))
        by_query = tf.reduce_mean(_cosines(*centred), axis=1)
        return tf.reduce_sum((by_state + by_query) * real), tf.reduce_sum(real)

    def __call__(self, parameters: Mapping[str, Array]) -> float:
        set_parameters(parameters, self._student.encoder, self._student.mlm_head)
        parts = [
            self._cosines(batch.inputs, batch.weights, targets)
            for batch, targets in zip(self._batches, self._targets, strict=True)
        ]
        total, count = np.asarray(parts, np.float64).sum(axis=0)
        return float(1.0 - total / max(2.0 * count, 1.0))


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    norms = tf.norm(a, axis=-1) * tf.norm(b, axis=-1)
    return tf.math.divide_no_nan(tf.reduce_sum(a * b, axis=-1), norms)


def _centred(scores: Tensor, keys: Tensor) -> Tensor:
    """Attention scores `[B, N, T, T]` minus each query's mean over real keys; 0 for padding."""
    real = keys[:, None, None, :]
    count = tf.maximum(tf.reduce_sum(real, axis=-1, keepdims=True), 1.0)
    mean = tf.reduce_sum(scores * real, axis=-1, keepdims=True) / count
    return (scores - mean) * real


class _Candidate(NamedTuple):
    """A way to compensate; see `CompensatedStudent`."""

    rotated: bool
    ridges: dict[str, float | None]


class _Search:
    """All kinds of sites at one ridge in either basis first, then one kind at a time."""

    def __init__(self, slices: Mapping[bool, FoldedSlices], measure: _HeldOutError) -> None:
        self._slices, self._measure = slices, measure

    def parameters(self, candidate: _Candidate) -> Parameters:
        """The weights of a candidate."""
        return self._slices[candidate.rotated].parameters(candidate.ridges)

    def run(self) -> tuple[_Candidate, float, float]:
        """Returns the best candidate, the plain slice's error and the best's."""
        best = plain = _Candidate(False, dict.fromkeys(SITES))
        together = [
            _Candidate(rotated, dict.fromkeys(SITES, ridge))
            for rotated in self._slices
            for ridge in (None, *RIDGES)
        ]
        total = len(together) + len(SITES) * len(RIDGES)
        with track("Choosing folds", total, "students") as progress:
            plain_error = error = self._measure(self.parameters(plain))
            progress.advance()
            for candidate in together[1:]:
                best, error = self._better(best, error, candidate)
                progress.advance()
            for site in SITES:
                for option in [o for o in (None, *RIDGES) if o != best.ridges[site]]:
                    candidate = best._replace(ridges=best.ridges | {site: option})
                    best, error = self._better(best, error, candidate)
                    progress.advance()
        if error > plain_error * (1.0 - _LEAST_TOTAL_GAIN):
            return plain, plain_error, plain_error
        return best, plain_error, error

    def _better(
        self, best: _Candidate, error: float, candidate: _Candidate
    ) -> tuple[_Candidate, float]:
        found = self._measure(self.parameters(candidate))
        if found < error * (1.0 - _LEAST_GAIN):
            return candidate, found
        return best, error
