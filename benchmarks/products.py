"""Rates of large matrix products in TensorFlow and PyTorch, float32 and bfloat16, in turn.

    python benchmarks/products.py

What a step can reach at best: see `ratio_best` of benchmarks/step.py. The product has the shape
of the teacher's feed-forward block for 32 x 128 tokens.
"""

import argparse
import functools

from contest import Maker, Turn, add_flags, contest

ROWS, INNER, COLUMNS = 4096, 384, 1536
REPEATS = 20  # of the product in a turn


def tensorflow_products(dtype: str) -> tuple[Turn, float]:
    """Builds TensorFlow's products."""
    import tensorflow as tf

    left = tf.cast(tf.random.normal([ROWS, INNER]), dtype)
    right = tf.cast(tf.random.normal([INNER, COLUMNS]), dtype)
    product = tf.function(lambda: tf.matmul(left, right))

    def turn() -> None:
        for _ in range(REPEATS):
            result = product()
        result[0, 0].numpy()  # waits for all of them

    return turn, _flops()


def torch_products(dtype: str) -> tuple[Turn, float]:
    """Builds PyTorch's products."""
    import torch

    left = torch.randn(ROWS, INNER, dtype=getattr(torch, dtype))
    right = torch.randn(INNER, COLUMNS, dtype=getattr(torch, dtype))

    def turn() -> None:
        for _ in range(REPEATS):
            left @ right

    return turn, _flops()


def _flops() -> float:
    return 2.0 * ROWS * INNER * COLUMNS * REPEATS


def main() -> None:
    """Prints GFLOP/s of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_flags(parser)
    makers: dict[str, Maker] = {
        f"{name} {dtype}": functools.partial(make, dtype)
        for name, make in (("TensorFlow", tensorflow_products), ("PyTorch", torch_products))
        for dtype in ("float32", "bfloat16")
    }
    for name, result in contest(makers, parser.parse_args()).items():
        print(f"{name:<20} {result.flops / result.seconds / 1e9:8.1f} GFLOP/s")


if __name__ == "__main__":
    main()
