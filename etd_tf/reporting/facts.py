"""Collects the facts of a report: models, cost, machine, curves."""

import datetime
import importlib.metadata
import math
import os
import platform
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.modeling.structure import parameter_shapes
from etd_tf.reporting.report import Curve, Machine, ModelFacts

MAX_POINTS = 500
_NOT_CURVES = ("step", "split", "seconds", "tokens_per_second")
_LIBRARIES = ("etd_tf", "tensorflow", "keras", "numpy")


def model_facts(checkpoint: Checkpoint, *, sequence_length: int, source: str = "") -> ModelFacts:
    """Describes a model.

    Args:
        checkpoint: The model.
        sequence_length: Tokens of the sequence behind `flops`.
        source: Where it is; default: the checkpoint's own source.
    """
    config = checkpoint.config
    layers = sum(
        math.prod(shape)
        for name, shape in parameter_shapes(config).items()
        if name.startswith("layers.")
    )
    return ModelFacts(
        source=source or checkpoint.source,
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        vocab_size=config.vocab_size,
        parameters=checkpoint.num_parameters(),
        layer_parameters=layers,
        flops=config.flops(sequence_length),
        bytes_on_disk=4 * checkpoint.num_parameters(),
    )


def make_curves(lines: Iterable[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Turns the lines of `metrics.jsonl` into curves of at most 500 points.

    Args:
        lines: Objects with `step`, `split` and numbers by name.

    Returns:
        One curve for each number of each split, the loss first; of a long run every n-th
        point, and always the first and the last.
    """
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in _NOT_CURVES and isinstance(value, int | float):
                key = (str(line.get("split", "train")), name)
                points.setdefault(key, []).append((int(line["step"]), float(value)))
    order = sorted(points, key=lambda key: (key[1] != "loss", key[1] == "learning_rate"))
    return tuple(_curve(split, name, points[split, name]) for split, name in order)


def _curve(split: str, name: str, points: list[tuple[int, float]]) -> Curve:
    stride = -(-len(points) // MAX_POINTS)
    kept = points[::stride]
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    steps, values = zip(*kept, strict=True)
    return Curve(name, split, steps, values)


def now() -> str:
    """Date and time, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def command_line(command: str, flags: Mapping[str, str]) -> str:
    """What a shell takes to run a command with some flags."""
    texts = (f"--{name}={value}" for name, value in sorted(flags.items()))
    return shlex.join([command, *texts])


def describe_machine() -> Machine:
    """Describes the machine and the software that the process runs on."""
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU") + tf.config.list_physical_devices("TPU")
    names = []
    for device in devices:
        details = tf.config.experimental.get_device_details(device)
        names.append(str(details.get("device_name", device.name)))
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        accelerators=tuple(names),
        platform=platform.platform(terse=True),
        versions={"python": platform.python_version(), **_versions()},
    )


def _versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
