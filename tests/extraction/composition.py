"""Two extractions in a row as one plan."""

from etd_tf.errors import InputError
from etd_tf.extraction.plan import ExtractionPlan, same_shapes
from etd_tf.types import IntArray


def compose(first: ExtractionPlan, second: ExtractionPlan) -> ExtractionPlan:
    """Returns the plan that does in one step what two plans do one after the other.

    Args:
        first: From a teacher to a middle model.
        second: From the middle model to the student; its fingerprint, which is the middle
            model's, is not checked.

    Returns:
        A plan from the teacher to the student, valid for the first plan's teacher.

    Raises:
        InputError: The first plan's student is not what the second one starts from.
    """
    if not same_shapes(first.student_config, second.teacher_config):
        raise InputError(
            "The second plan starts from another architecture than the first one produces: "
            f"{second.teacher_config} after {first.student_config}."
        )
    picked = [layer - 1 for layer in second.layers]

    def chain(name: str) -> tuple[IntArray, ...]:
        before, after = getattr(first, name), getattr(second, name)
        return tuple(before[m][units] for m, units in zip(picked, after, strict=True))

    same_mode = first.head_mode == second.head_mode
    return ExtractionPlan(
        teacher_config=first.teacher_config,
        student_config=second.student_config,
        layers=tuple(first.layers[m] for m in picked),
        hidden=first.hidden[second.hidden],
        query_key=chain("query_key"),
        value=chain("value"),
        ffn=chain("ffn"),
        head_mode=first.head_mode if same_mode else "both",
        attention_scale=first.attention_scale * second.attention_scale,
        teacher_fingerprint=first.teacher_fingerprint,
    )
