"""A random order of any number of examples that needs no memory and can start anywhere."""

from typing import Any

import numpy as np

from etd_tf.types import Array, IntArray

_ROUNDS = 8
_MASK = np.uint64(0xFFFFFFFF)


def shuffled(positions: Array, count: int, *, seed: int, epoch: int) -> IntArray:
    """Looks up a pseudo-random permutation of `0 .. count - 1`.

    A Feistel network permutes the next power of four; values outside are permuted again
    until they fall inside. The order depends on (count, seed, epoch) alone and stays the
    same in every version of NumPy.

    Args:
        positions: Int `[k]`: places in the order, in `0 .. count - 1`.
        count: How many examples there are.
        seed: The run's seed.
        epoch: Each epoch has another order.

    Returns:
        Int64 `[k]`: the examples at those places.

    Source: Luby and Rackoff 1988; cycle walking: Black and Rogaway 2002, "Ciphers with
        arbitrary finite domains".
    """
    half_bits = max(1, (max(count - 1, 1).bit_length() + 1) // 2)
    keys = [_hash(np.uint64(seed & 0xFFFFFFFF), seed >> 32, epoch, i) for i in range(_ROUNDS)]
    values = np.asarray(positions, np.uint64).copy()
    outside = np.arange(len(values))
    while outside.size:
        values[outside] = _feistel(values[outside], half_bits, keys)
        outside = outside[values[outside] >= count]
    return values.astype(np.int64)


def _feistel(values: Array, half_bits: int, keys: list[np.uint64]) -> Array:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


def _hash(start: np.uint64, *parts: int) -> np.uint64:
    state = _mix(start)
    for part in parts:
        state = _mix(state ^ np.uint64(part & 0xFFFFFFFF)) + np.uint64(0x9E3779B9)
    return np.uint64(_mix(state))


def _mix(state: Any) -> Any:
    """The 32-bit finaliser of MurmurHash3 (Appleby, public domain)."""
    state = state & _MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = ((state ^ (state >> np.uint64(shift))) * np.uint64(factor)) & _MASK
    return state ^ (state >> np.uint64(16))
