"""How much of a teacher's vector space is left in another model's vectors of the same texts."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from etd_tf.errors import InputError
from etd_tf.types import Array, IntArray

NUM_NEIGHBOURS = 10
NUM_PAIRS = 100_000
MIN_TEXTS = NUM_NEIGHBOURS + 2  # with fewer, every text is a neighbour of every other

LOG_PREFIX = "fidelity_"
"""Begins the numbers' names in logs."""

_TIE = 1e-6  # cosines in float32 that differ by less are equal
_BLOCK = 1 << 22  # numbers held at a time


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """How faithful vectors are to a teacher's; 1 is the teacher itself, about 0 is chance.

    Attributes:
        neighbours: Share of the teacher's nearest neighbours that are also this model's.
        spearman: Rank correlation of the two models' cosines over pairs of texts.
        cosine: Mean cosine of a text's two vectors; None where they differ in length.
        num_texts: Texts behind the numbers.
        num_pairs: Pairs behind `spearman`.
    """

    neighbours: float
    spearman: float
    cosine: float | None
    num_texts: int
    num_pairs: int

    def log_values(self) -> dict[str, float]:
        """The numbers by the names that they have in `metrics.jsonl`."""
        known = {"neighbours": self.neighbours, "spearman": self.spearman, "cosine": self.cosine}
        return {f"{LOG_PREFIX}{name}": v for name, v in known.items() if v is not None}


def measure_fidelity(
    teacher: Array,
    student: Array,
    *,
    num_neighbours: int = NUM_NEIGHBOURS,
    num_pairs: int = NUM_PAIRS,
    seed: int = 0,
) -> Fidelity:
    """Compares a model's vectors with its teacher's; no labels are needed.

    Args:
        teacher: The teacher's vectors, `[n, Dt]`.
        student: Vectors of the same texts in the same order, `[n, Ds]`.
        num_neighbours: Nearest neighbours of each text that are looked for.
        num_pairs: Pairs of different texts to draw; all of them where there are no more.
        seed: Another seed draws other pairs.

    Returns:
        The numbers. Memory for cosines does not grow with n.

    Raises:
        InputError: The arrays do not fit each other, hold numbers that are not finite, or
            have too few rows for the neighbours to tell anything.
    """
    _check(teacher, student, num_neighbours)
    pairs = random_pairs(len(teacher), num_pairs, seed)
    ours, theirs = unit_rows(student), unit_rows(teacher)
    same_space = teacher.shape == student.shape
    return Fidelity(
        neighbours=_neighbours_found(theirs, ours, num_neighbours),
        spearman=rank_correlation(_pair_cosines(theirs, pairs), _pair_cosines(ours, pairs)),
        cosine=_mean_cosine(teacher, student) if same_space else None,
        num_texts=len(teacher),
        num_pairs=len(pairs),
    )


def _check(teacher: Array, student: Array, num_neighbours: int) -> None:
    if teacher.ndim != 2 or student.ndim != 2 or len(teacher) != len(student):
        raise InputError(
            f"Vectors of shapes {teacher.shape} and {student.shape}: expected [n, D] of the same "
            "n texts in the same order."
        )
    if len(teacher) < num_neighbours + 2:
        raise InputError(
            f"{len(teacher)} texts are too few to look for {num_neighbours} neighbours of each. "
            f"Give at least {num_neighbours + 2}, better some hundreds."
        )
    for name, vectors in (("teacher", teacher), ("student", student)):
        if not np.all(np.isfinite(vectors)):
            raise InputError(
                f"The {name}'s vectors are not all finite; the model has diverged or is damaged."
            )


def unit_rows(vectors: Array) -> Array:
    """Float32 rows of length 1; zeros stay zeros."""
    vectors = vectors.astype(np.float32, copy=False)
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    lengths = np.sqrt(squares).astype(np.float32)[:, None]
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _mean_cosine(teacher: Array, student: Array) -> float:
    """Mean cosine of rows; exactly 1 for equal ones, 0 for a row of zeros."""
    a, b = teacher.astype(np.float64), student.astype(np.float64)
    products = np.einsum("nd,nd->n", a, b)
    squares = np.einsum("nd,nd->n", a, a) * np.einsum("nd,nd->n", b, b)
    cosines = np.divide(products, np.sqrt(squares), out=np.zeros(len(a)), where=squares > 0)
    return float(np.mean(cosines))


def random_pairs(number: int, count: int, seed: int = 0) -> IntArray:
    """Draws pairs of different numbers.

    Args:
        number: Numbers are below this, at least 2.
        count: Pairs to draw; a pair may come twice.
        seed: Seed of the draw.

    Returns:
        `[count, 2]`, or every pair once where there are at most `count`.
    """
    if number * (number - 1) // 2 <= count:
        return np.stack(np.triu_indices(number, 1), axis=1)
    generator = np.random.default_rng(seed)
    first = generator.integers(0, number, count)
    second = (first + generator.integers(1, number, count)) % number
    return np.stack([first, second], axis=1)


def _pair_cosines(unit: Array, pairs: IntArray) -> Array:
    step = max(_BLOCK // unit.shape[1], 1)
    return np.concatenate(
        [
            np.einsum("nd,nd->n", unit[some[:, 0]], unit[some[:, 1]])
            for some in (pairs[start : start + step] for start in range(0, len(pairs), step))
        ]
    )


def rank_correlation(first: Array, second: Array) -> float:
    """Spearman's correlation of numbers `[n]`; equal numbers share the mean of their ranks.

    Returns:
        From -1 to 1; 0 where all numbers of one side are equal.
    """
    a, b = _centred_ranks(first), _centred_ranks(second)
    squares = np.dot(a, a) * np.dot(b, b)
    return float(np.dot(a, b) / np.sqrt(squares)) if squares > 0 else 0.0


def _centred_ranks(values: Array) -> Array:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return ranks[place] - (len(values) + 1) / 2


def _neighbours_found(teacher: Array, student: Array, count: int) -> float:
    """Share of the teacher's nearest neighbours that are the student's.

    A text as near to the teacher as its last neighbour is a neighbour, too. Of texts that
    are equally near to the student its last places go to each with the same probability, and
    the expected number of hits counts, so the order of the texts does not matter.
    """
    found = 0.0
    for theirs, ours in zip(_cosine_blocks(teacher), _cosine_blocks(student), strict=True):
        wanted = theirs >= _last_of_best(theirs, count) - _TIE
        last = _last_of_best(ours, count)
        certain, near = ours > last + _TIE, ours >= last - _TIE
        tied = near & ~certain
        places = count - np.sum(certain, axis=1)  # at least one, for at least as many ties
        share = np.sum(tied & wanted, axis=1) / np.sum(tied, axis=1)
        found += float(np.sum(np.sum(certain & wanted, axis=1) + places * share))
    return found / (count * len(teacher))


def _cosine_blocks(unit: Array) -> Iterator[Array]:
    """Cosines of some texts to all, where a text is infinitely far from itself."""
    step = max(_BLOCK // len(unit), 1)
    for start in range(0, len(unit), step):
        cosines = unit[start : start + step] @ unit.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        yield cosines


def _last_of_best(values: Array, count: int) -> Array:
    """The count-th largest value of each row, `[B, 1]`."""
    return np.partition(values, -count, axis=1)[:, -count, None]
