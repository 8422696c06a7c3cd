"""Choosing units and layers: ETD-Impt by score, ETD-Rand by a seeded generator.

Extract Then Distill (Chen et al. 2021, arXiv 2104.11928) extracts in width first and
then in depth, so units are chosen in every teacher layer before layers are selected.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from etd_tf.errors import InputError
from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.scores import UnitScores
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.layer_map import layer_map
from etd_tf.types import Array, IntArray

UNIT_KINDS = ("hidden", "ffn", "heads")
_KIND_OF = {
    "hidden": "hidden",
    "ffn": "ffn",
    "query_key": "heads",
    "value": "heads",
    "heads": "heads",
}
_KEPT = (
    "vocab_size",
    "max_positions",
    "type_vocab_size",
    "hidden_act",
    "layer_norm_epsilon",
    "pad_token_id",
)
_SIZES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")


def plan_extraction(
    teacher_config: BertConfig,
    student_config: BertConfig,
    scores: UnitScores | None = None,
    *,
    seed: int | None = None,
    head_mode: str = "neurons",
    layer_selection: str | Sequence[int] = "uniform",
    rescale_attention: bool = True,
    importance_of: Collection[str] | None = None,
) -> ExtractionPlan:
    """Plans how to cut a student out of a teacher.

    With `scores` the best-scored units are kept (ETD-Impt; ties go to the lower index),
    with `seed` random ones (ETD-Rand). Kept units stay in the teacher's order.

    Args:
        teacher_config: The teacher's architecture.
        student_config: The student's; no size larger than the teacher's, same vocabulary.
        scores: The teacher's unit scores.
        seed: Seed of the random choice.
        head_mode: `"neurons"` keeps all N heads and cuts each from D to D' dims;
            `"heads"` keeps N' whole heads, so the student's head size must be D.
        layer_selection: `"uniform"`, `"top"`, `"bottom"`, or teacher layers from 1.
        rescale_attention: Multiply query and key weights by (D'/D)^(1/4), so that logits
            over the kept dims keep the teacher's scale 1 / sqrt(D).
        importance_of: For ablations: the unit kinds among `"hidden"`, `"ffn"` and
            `"heads"` that follow the scores; the others are those of the ETD-Rand plan of
            `seed`. Needs both `scores` and `seed`.

    Returns:
        The plan. With scores it is bound to the scored teacher.

    Raises:
        InputError: Neither or both of `scores` and `seed` are given, or the student does
            not fit into the teacher; the message names the setting to change.
    """
    by_score = _kinds_by_score(scores, seed, importance_of)
    _check_sizes(teacher_config, student_config)
    _check_heads(teacher_config, student_config, head_mode)
    layers = layer_map(teacher_config.num_layers, student_config.num_layers, layer_selection)
    if scores is not None:
        scores.check_teacher(teacher_config)
    units = _choose_units(
        teacher_config, student_config, head_mode, _picker(scores, seed, by_score)
    )
    picked = [layer - 1 for layer in layers]
    size_ratio = student_config.head_size / teacher_config.head_size
    return ExtractionPlan(
        teacher_config=teacher_config,
        student_config=student_config,
        layers=layers,
        hidden=units.hidden,
        query_key=tuple(units.query_key[i] for i in picked),
        value=tuple(units.value[i] for i in picked),
        ffn=tuple(units.ffn[i] for i in picked),
        head_mode=head_mode,
        attention_scale=float(size_ratio**0.25) if rescale_attention else 1.0,
        extraction="rand" if scores is None else "impt" if seed is None else "mixed",
        seed=seed,
        teacher_fingerprint=None if scores is None else scores.teacher_fingerprint,
    )


def top_k(scores: Array, count: int) -> IntArray:
    """Indices of the `count` largest scores, ascending; ties go to the lower index."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return np.sort(order[:count]).astype(np.int64)


class _Units(NamedTuple):
    """Kept units of every teacher layer, before layers are selected."""

    hidden: IntArray
    query_key: list[IntArray]
    value: list[IntArray]
    ffn: list[IntArray]


# (score array, place in it, available units, units to keep) -> kept units, ascending
_Pick: TypeAlias = Callable[[str, tuple[int, ...], int, int], IntArray]


def _picker(scores: UnitScores | None, seed: int | None, by_score: Collection[str]) -> _Pick:
    generator = None if seed is None else np.random.default_rng(seed)

    def pick(name: str, place: tuple[int, ...], available: int, count: int) -> IntArray:
        drawn = None
        if generator is not None:  # also when unused: the other draws stay those of ETD-Rand
            drawn = np.sort(generator.choice(available, count, replace=False)).astype(np.int64)
        if drawn is not None and _KIND_OF[name] not in by_score:
            return drawn
        return top_k(getattr(scores, name)[place], count)

    return pick


def _choose_units(teacher: BertConfig, student: BertConfig, head_mode: str, pick: _Pick) -> _Units:
    """Picks all units in a fixed order, so that a seed means one plan."""
    hidden = pick("hidden", (), teacher.hidden_size, student.hidden_size)
    units = _Units(hidden, [], [], [])
    size = teacher.head_size
    for layer in range(teacher.num_layers):
        if head_mode == "heads":
            heads = pick("heads", (layer,), teacher.num_heads, student.num_heads)
            columns = (heads[:, None] * size + np.arange(size)).reshape(-1)
            units.query_key.append(columns)
            units.value.append(columns)
        else:
            for name in ("query_key", "value"):
                columns = np.concatenate(
                    [
                        head * size + pick(name, (layer, head), size, student.head_size)
                        for head in range(teacher.num_heads)
                    ]
                )
                getattr(units, name).append(columns)
        inner = pick("ffn", (layer,), teacher.intermediate_size, student.intermediate_size)
        units.ffn.append(inner)
    return units


def _kinds_by_score(
    scores: UnitScores | None, seed: int | None, importance_of: Collection[str] | None
) -> Collection[str]:
    """Checks which of scores and seed are given; returns the kinds that follow scores."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise InputError(f"seed={seed!r} is not a whole number >= 0.")
    if importance_of is None:
        if (scores is None) == (seed is None):
            given = "both" if scores is not None else "neither"
            raise InputError(
                f"plan_extraction got {given} of scores and seed. Pass scores for the most "
                "important units (ETD-Impt), or seed for random ones (ETD-Rand)."
            )
        return UNIT_KINDS if scores is not None else ()
    unknown = sorted(set(importance_of) - set(UNIT_KINDS))
    if unknown or scores is None or seed is None:
        raise InputError(
            f"importance_of={sorted(importance_of)} needs scores and seed, and kinds among "
            f"{', '.join(UNIT_KINDS)}."
        )
    return tuple(importance_of)


def _check_sizes(teacher: BertConfig, student: BertConfig) -> None:
    for name in _SIZES:
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours > theirs:
            raise InputError(
                f"The student's {name}={ours} is larger than the teacher's {theirs}; extraction "
                f"only makes models smaller. Use student.{name}={theirs} or less."
            )
    for name in _KEPT:
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours != theirs:
            raise InputError(
                f"The student's {name}={ours!r} differs from the teacher's. Extraction keeps the "
                f"teacher's {name}={theirs!r}; derive the student's configuration from it."
            )


def _check_heads(teacher: BertConfig, student: BertConfig, head_mode: str) -> None:
    if head_mode == "neurons":
        if student.num_heads != teacher.num_heads:
            raise InputError(
                f"The student has {student.num_heads} heads, the teacher {teacher.num_heads}; "
                f"head_mode=neurons keeps every head. Use student.num_heads={teacher.num_heads} "
                f"with a width that is a multiple of it, or head_mode=heads."
            )
    elif head_mode == "heads":
        if student.head_size != teacher.head_size:
            size = teacher.head_size
            count = max(1, student.hidden_size // size)
            if count >= teacher.num_heads > student.num_heads:  # the width is for all heads
                count = student.num_heads
            raise InputError(
                f"The student's head size is {student.head_size}, the teacher's {size}; "
                f"head_mode=heads keeps whole heads. Use student.hidden_size={count * size} "
                f"and student.num_heads={count}, or head_mode=neurons."
            )
    else:
        raise InputError(f"head_mode={head_mode!r} is not known. Use neurons or heads.")
