"""The reduction shared by all losses, and shape checks.

Every loss is a mean inside each example over its real tokens (or real query-key pairs),
then a mean over the batch. With padding it therefore depends neither on the padded
length nor on how examples are grouped into batches.
"""

from etd_tf.errors import InputError
from etd_tf.lazy import ops
from etd_tf.types import Tensor

_TINY_SQUARE = 1e-24  # of a length: shorter vectors count as zeros


def to_float32(x: Tensor) -> Tensor:
    """Casts to float32, in which all losses are computed."""
    return ops.cast(x, "float32")


def constant(x: Tensor) -> Tensor:
    """Casts to float32 and stops gradients: how every loss reads the teacher."""
    return ops.stop_gradient(to_float32(x))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last axis, counting only positions with a positive mask.

    Args:
        values: Float32 `[..., T]`.
        mask: Weights of the same rank, broadcastable to `values`; 0 leaves out.

    Returns:
        Float32 `[...]`; 0 where all weights are 0.
    """
    weights = to_float32(mask)
    kept = ops.where(ops.greater(weights, 0.0), ops.multiply(values, weights), 0.0)
    count = ops.sum(weights, axis=-1)
    return ops.divide(ops.sum(kept, axis=-1), ops.where(ops.greater(count, 0.0), count, 1.0))


def mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Mean inside each example over its real tokens, then over the batch.

    Args:
        values: Float32 `[B, T]`.
        mask: `[B, T]`, positive for what counts.

    Returns:
        Float32 scalar; an example without real tokens contributes 0.
    """
    return ops.mean(masked_mean(values, mask))


def unit_vectors(x: Tensor) -> Tensor:
    """Divides float32 vectors along the last axis by their lengths.

    Returns:
        `[..., D]`; zeros stay zeros, and get a gradient of zeros.
    """
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    # The largest of squares and not of lengths: a root has no gradient at 0.
    return ops.multiply(x, ops.rsqrt(ops.maximum(squares, _TINY_SQUARE)))


def half_squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine along the last axis, as half the squared distance of vectors of length 1.

    Unlike the difference it is exact for nearly equal vectors. Two zeros are equal.

    Returns:
        Float32 `[...]`.
    """
    difference = ops.subtract(unit_vectors(student), unit_vectors(teacher))
    return ops.multiply(0.5, ops.sum(ops.square(difference), axis=-1))


def check_same_shape(student: Tensor, teacher: Tensor, what: str, fix: str) -> None:
    """Refuses two tensors whose known sizes differ.

    Args:
        student: A tensor of the student.
        teacher: The teacher's counterpart.
        what: What the tensors hold, for the message.
        fix: What the caller can do about it.

    Raises:
        InputError: Their ranks differ, or sizes that are known while tracing.
    """
    ours, theirs = tuple(student.shape), tuple(teacher.shape)
    same = len(ours) == len(theirs) and all(
        a is None or b is None or a == b for a, b in zip(ours, theirs, strict=True)
    )
    if not same:
        raise InputError(
            f"The student's {what} have shape {ours}, the teacher's {theirs}; they must be "
            f"equal. {fix}"
        )
