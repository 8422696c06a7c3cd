"""Trains the same thing on one device and on two replicas; prints the differences as JSON.

A script of its own, because logical devices must be configured before TensorFlow starts.
"""

import json
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

from etd_tf.training.metrics_log import read_metrics
from tests.distillation.tiny_training import (
    largest_difference,
    make_trainer,
    stream,
    validation,
    weights_of,
)

BATCH, STEPS = 8, 5
# What is compared: with active clipping, without and with gradient accumulation.
CASES = {
    "clipped": {"clip_norm": 0.02},
    "accumulated": {"clip_norm": 0.02, "gradient_accumulation": 2},
}


def train(strategy, options):
    """Returns the lines of the metrics and the weights."""
    run_dir = Path(tempfile.mkdtemp())
    trainer = make_trainer(
        run_dir, strategy=strategy, steps=STEPS, batch_size=BATCH, evaluate_every=0, **options
    )
    trainer.fit(stream(BATCH), validation())
    return list(read_metrics(run_dir / "metrics.jsonl")), weights_of(trainer)


def compare(expected, found):
    """Largest differences of the losses, gradient norms and weights."""
    differences = {"loss": 0.0, "gradient_norm": 0.0, "lines": len(found[0])}
    for a, b in zip(expected[0], found[0], strict=True):
        for name in ("loss", "gradient_norm"):
            if name in a:
                differences[name] = max(differences[name], abs(a[name] - b[name]))
    return {**differences, "weights": largest_difference(expected[1], found[1])}


def main():
    """Runs every case."""
    devices = tf.config.list_physical_devices("CPU")[:1]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(devices[0], halves)
    report = {}
    for case, options in CASES.items():
        one = train(None, options)
        norms = [line["gradient_norm"] for line in one[0] if "gradient_norm" in line]
        report[case] = {
            "largest_norm": max(norms),
            "moved": abs(one[0][0]["loss"] - one[0][-1]["loss"]),
        }
        for jit_compile in ("off", "on"):
            strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
            two = train(strategy, {**options, "jit_compile": jit_compile})
            report[case][f"xla_{jit_compile}"] = compare(one, two)
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
