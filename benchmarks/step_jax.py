"""Measures the distillation step on Keras' JAX backend: one compiled function, no TensorFlow.

The encoder and the losses are `keras.ops`, so a machine that has JAX and no TensorFlow can show
how near the step comes to its device's peak. Models are random: speed does not depend on weights.

    KERAS_BACKEND=jax python benchmarks/step_jax.py --peak_tflops=989 [--json]

The defaults are BERT-base into 6 x 384 at 128 x 512 tokens with the MiniLM loss in bfloat16, for
one GPU; on a CPU give smaller ones. `--peak_tflops` is the device's rate by its data sheet in this
precision; without it the rate of a large matrix product is measured and used.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras

from etd_tf import losses
from etd_tf.losses.base import Features
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.encoder import BertEncoder

VOCABULARY = 30_522


def parse_model(text: str) -> BertConfig:
    """Reads `LAYERSxHIDDENxHEADSxINTERMEDIATE`."""
    layers, hidden, heads, intermediate = map(int, text.split("x"))
    return BertConfig(
        VOCABULARY,
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        intermediate_size=intermediate,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )


def build_step(
    teacher: BertEncoder, student: BertEncoder, loss: losses.Loss
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Compiles forward passes, loss, gradients, clipping and AdamW; returns its first state."""
    optimizer = keras.optimizers.AdamW(5e-4, weight_decay=0.01, global_clipnorm=1.0)
    variables = student.trainable_variables
    optimizer.build(variables)

    def compute_loss(values: Any, teacher_values: Any, batch: Any) -> Any:
        pairs = [
            *zip(variables, values, strict=True),
            *zip(teacher.trainable_variables, teacher_values, strict=True),
        ]
        with keras.StatelessScope(state_mapping=pairs):
            # Seeded as in training; without dropout rates nothing is drawn.
            ours = student.trace(batch, training=True, dropout_seed=jnp.zeros(2, "int32"))
            return loss.compute_loss(Features(teacher.trace(batch)), Features(ours))

    def step(state: Any, teacher_values: Any, batch: Any) -> tuple[Any, Any]:
        values, slots = state
        value, gradients = jax.value_and_grad(compute_loss)(values, teacher_values, batch)
        return optimizer.stateless_apply(slots, gradients, values), value

    state = [v.value for v in variables], [v.value for v in optimizer.variables]
    constants = [v.value for v in teacher.trainable_variables]
    compiled = jax.jit(step, donate_argnums=0)
    return lambda state, batch: compiled(state, constants, batch), state


def measured_peak(dtype: str) -> float:
    """Rate of a large matrix product, FLOP/s."""
    size = 8192 if jax.default_backend() != "cpu" else 2048
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        product(matrix).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2.0 * size**3 / statistics.median(seconds)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the steps; returns what is printed."""
    configs = parse_model(options.teacher), parse_model(options.student)
    teacher, student = (BertEncoder(config, dtype=options.precision) for config in configs)
    # Without a head there is no masked-LM loss, and the others read states of these models.
    step, state = build_step(teacher, student, losses.get(options.loss))
    shape = (options.batch_size, options.length)
    ids = jax.random.randint(jax.random.key(0), shape, 1000, VOCABULARY, "int32")
    batch = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    seconds, loss = [], None
    for _ in range(options.steps + 2):
        started = time.perf_counter()
        state, loss = step(state, batch)
        jax.block_until_ready(loss)
        seconds.append(time.perf_counter() - started)
    typical = statistics.median(seconds[2:])
    forward = [config.flops(options.length) for config in configs]
    flops = options.batch_size * (forward[0] + 3 * forward[1])
    dtype = "float32" if options.precision == "float32" else "bfloat16"
    peak = options.peak_tflops * 1e12 or measured_peak(dtype)
    return {
        "device": jax.devices()[0].device_kind,
        "loss": float(loss),
        "milliseconds": 1e3 * typical,
        "tokens_per_second": options.batch_size * options.length / typical,
        "peak_fraction": flops / typical / peak,
        "peak_tflops": peak / 1e12,
        "peak_is": "given" if options.peak_tflops else "measured",
    }


def main() -> None:
    """Parses the flags and prints the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", default="12x768x12x3072")
    parser.add_argument("--student", default="6x384x12x1536")
    parser.add_argument("--loss", default="minilm", choices=["minilm", "minilmv2"])
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peak_tflops", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if keras.backend.backend() != "jax":
        sys.exit("Set KERAS_BACKEND=jax; benchmarks/step.py measures TensorFlow.")
    result = measure(options)
    for name, value in result.items():
        print(f"  {name:<18} {value:.4g}" if isinstance(value, float) else f"  {name:<18} {value}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
