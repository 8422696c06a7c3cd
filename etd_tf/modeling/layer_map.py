"""Which teacher layer each student layer is taken from."""

import itertools
from collections.abc import Sequence

from etd_tf.errors import InputError

_RULES = ("uniform", "top", "bottom")


def layer_map(
    teacher_layers: int, student_layers: int, selection: str | Sequence[int] = "uniform"
) -> tuple[int, ...]:
    """Chooses teacher layers, counted from 1, in strictly increasing order.

    `"uniform"` maps student layer m to round(m * L / L'), halves up: 12 to 4 gives
    3, 6, 9, 12, TinyBERT's map (Jiao et al. 2019, section 3.1). `"bottom"` and `"top"`
    take the first and the last L' layers.

    Args:
        teacher_layers: L.
        student_layers: L', at most L.
        selection: A rule, or the layers themselves, as integers or as text `"3,6,9,12"`.

    Returns:
        L' teacher layers, each in 1..L.

    Raises:
        InputError: L' is not in 1..L, the rule is unknown, or the listed layers are not
            L' increasing numbers in 1..L.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise InputError(
            f"The student has {student_layers} layers, the teacher {teacher_layers}. "
            f"Choose between 1 and {teacher_layers} student layers."
        )
    if not isinstance(selection, str):
        return _explicit(teacher_layers, student_layers, selection)
    if selection == "uniform":
        doubled = 2 * student_layers
        return tuple(
            (2 * m * teacher_layers + student_layers) // doubled
            for m in range(1, student_layers + 1)
        )
    if selection == "bottom":
        return tuple(range(1, student_layers + 1))
    if selection == "top":
        return tuple(range(teacher_layers - student_layers + 1, teacher_layers + 1))
    return _explicit(teacher_layers, student_layers, selection)


def _explicit(
    teacher_layers: int, student_layers: int, selection: str | Sequence[int]
) -> tuple[int, ...]:
    try:
        parts = selection.split(",") if isinstance(selection, str) else selection
        layers = tuple(int(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"layer_selection={selection!r} is not known. Use one of {', '.join(_RULES)}, or "
            "list teacher layers counted from 1, such as 3,6,9,12."
        ) from error
    increasing = all(a < b for a, b in itertools.pairwise(layers))
    if len(layers) != student_layers or not increasing:
        raise InputError(
            f"layer_selection={','.join(map(str, layers))} must name {student_layers} different "
            "teacher layers in increasing order, one for each student layer."
        )
    if layers[0] < 1 or layers[-1] > teacher_layers:
        raise InputError(
            f"layer_selection={','.join(map(str, layers))} leaves the teacher's layers. "
            f"Layers are counted from 1 to {teacher_layers}."
        )
    return layers
