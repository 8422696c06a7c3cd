"""Choosing `tf.distribute` strategies, XLA and precision from flag values."""

import json
import os
from typing import Any

import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.training.options import JIT_CHOICES, STRATEGIES

# In the order of their place in the cluster.
_WORKER_JOBS = ("chief", "worker")


def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Creates a distribution strategy.

    Args:
        name: `"one_device"`; `"mirrored"` (all GPUs of this machine, or all logical CPUs
            where there is no GPU); `"multi_worker"` (needs `TF_CONFIG`); `"tpu"` (needs a
            TPU VM or `TPU_NAME`); `"auto"` picks TPU, several machines, several GPUs or one
            device, in this order, from what the environment offers.

    Raises:
        InputError: The name is unknown, `TF_CONFIG` is missing or malformed, or no TPU
            answers.
    """
    if name not in STRATEGIES:
        raise InputError(f"strategy={name!r} is unknown; expected one of {', '.join(STRATEGIES)}.")
    if name == "auto":
        name = _detect()
    if name == "tpu":
        return _tpu_strategy()
    if name == "multi_worker":
        return _multi_worker_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        names = [device.name.replace("/device:", "") for device in devices]
        return tf.distribute.MirroredStrategy(names)
    # Not OneDeviceStrategy: the default strategy places on GPU 0 or the CPU just the same,
    # without the distributed variables' cost.
    return tf.distribute.get_strategy()


def _detect() -> str:
    if os.environ.get("TPU_NAME") or os.environ.get("TPU_WORKER_ID"):
        return "tpu"
    if _has_other_workers():
        return "multi_worker"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one_device"


def _has_other_workers() -> bool:
    """Whether `TF_CONFIG` is for more than this process; platforms set it for one machine, too."""
    text = os.environ.get("TF_CONFIG", "").strip()
    try:
        cluster = json.loads(text or "{}").get("cluster") or {}
        return sum(len(places) for places in cluster.values()) > 1
    except (ValueError, TypeError, AttributeError):
        return True  # `_check_tf_config` says what is wrong with it


def _multi_worker_strategy() -> tf.distribute.Strategy:
    _check_tf_config()
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        raise InputError(
            f"strategy=multi_worker could not start this worker's server: {error}. Check that the "
            "host and port at this worker's index of TF_CONFIG are this machine's and free."
        ) from error


def _check_tf_config() -> None:
    text = os.environ.get("TF_CONFIG", "")
    try:
        values = json.loads(text)
        cluster, kind = dict(values["cluster"]), values["task"]["type"]
        index, places = values["task"]["index"], len(cluster[kind])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"strategy=multi_worker needs the environment variable TF_CONFIG; received {text!r}. "
            'Expected {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}, one index a process.'
        ) from error
    foreign = sorted(set(cluster) - set(_WORKER_JOBS))
    if foreign:
        raise InputError(
            f"TF_CONFIG names {', '.join(foreign)}, but training uses no other processes than "
            "worker (and chief). Remove them."
        )
    if not isinstance(index, int) or not 0 <= index < places:
        raise InputError(
            f"TF_CONFIG's task index {index!r} is not one of its {places} {kind}(s), counted from "
            "0. Give each process an index of its own."
        )


def _tpu_strategy() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # the resolver raises many unrelated types
        raise InputError(
            f"strategy=tpu found no TPU ({type(error).__name__}). Run on a TPU VM or set TPU_NAME."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def worker_layout(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """Returns (number of worker processes, index of this one); the chief is number 0."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1, 0
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict()
    before = len(jobs.get("chief", ())) if resolver.task_type == "worker" else 0
    return sum(len(jobs.get(job, ())) for job in _WORKER_JOBS), before + int(resolver.task_id)


def use_xla(choice: str) -> bool:
    """Decides whether to compile the step with XLA.

    On CPUs the default kernels (oneDNN) are faster than XLA's, so `"auto"` compiles only
    where there is a GPU or a TPU.

    Returns:
        Whether to pass `jit_compile=True`.

    Raises:
        InputError: Another value.
    """
    if choice not in JIT_CHOICES:
        raise InputError(f"jit_compile={choice!r}; expected one of {', '.join(JIT_CHOICES)}.")
    if choice != "auto":
        return choice == "on"
    return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def teacher_policy(precision: str) -> Any:
    """The teacher's dtype policy: bfloat16 products wherever the student's are mixed."""
    return "float32" if precision == "float32" else "mixed_bfloat16"
