"""Tests of choosing strategies, XLA and precision."""

import json
import sys

import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.training.strategy import (
    make_strategy,
    teacher_policy,
    use_xla,
    worker_layout,
)


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    for name in ("TF_CONFIG", "TPU_NAME", "TPU_WORKER_ID"):
        monkeypatch.delenv(name, raising=False)


def test_one_device_by_default():
    strategy = make_strategy()
    assert strategy is tf.distribute.get_strategy()
    assert worker_layout(strategy) == (1, 0)
    assert make_strategy("one_device") is strategy


def test_mirrored_takes_the_cpus_where_there_is_no_gpu():
    strategy = make_strategy("mirrored")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    assert strategy.num_replicas_in_sync == len(devices)
    assert worker_layout(strategy) == (1, 0)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="expected one of auto, one_device, mirrored"):
        make_strategy("horovod")
    with pytest.raises(InputError, match="expected one of auto, on, off"):
        use_xla("maybe")


WORKERS = ["localhost:1", "localhost:2"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"needs the environment variable TF_CONFIG; received ''\. Expected \{"),
        ("{", r"needs the environment variable TF_CONFIG; received '\{'"),
        ([], "needs the environment variable TF_CONFIG"),
        ({"cluster": {"worker": WORKERS}}, "needs the environment variable TF_CONFIG"),
        (
            {"cluster": {"worker": WORKERS}, "task": {"type": "chief", "index": 0}},
            "needs the environment variable TF_CONFIG",
        ),
        (
            {"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": 2}},
            r"index 2 is not one of its 2 worker\(s\), counted from 0",
        ),
        (
            {"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": "0"}},
            "index '0' is not one of",
        ),
        (
            {"cluster": {"worker": WORKERS, "ps": ["h:1"]}, "task": {"type": "worker", "index": 0}},
            "TF_CONFIG names ps, .* Remove them",
        ),
    ],
)
def test_a_bad_cluster_is_explained(monkeypatch, config, message):
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=message):
        make_strategy("multi_worker")


def test_a_missing_tpu_is_explained(monkeypatch):
    def fail():
        raise ValueError("no TPU")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", fail)
    with pytest.raises(InputError, match=r"found no TPU \(ValueError\)\. Run on a TPU VM"):
        make_strategy("tpu")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "{}",
        '{"cluster": {}}',
        '{"environment": "cloud", "cluster": null}',
        '{"cluster": {"chief": ["h:1"]}, "task": {"type": "chief", "index": 0}}',
    ],
)
def test_one_machine_is_no_cluster(monkeypatch, value):
    monkeypatch.setenv("TF_CONFIG", value)
    strategy = make_strategy("auto")
    assert not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    assert worker_layout(strategy) == (1, 0)


@pytest.mark.parametrize(("variable", "name"), [("TPU_NAME", "tpu"), ("TF_CONFIG", "multi_worker")])
def test_auto_follows_the_environment(monkeypatch, variable, name):
    monkeypatch.setenv(variable, "{")
    monkeypatch.setattr(
        tf.distribute.cluster_resolver, "TPUClusterResolver", lambda: 1 / 0, raising=True
    )
    with pytest.raises(InputError, match=f"strategy={name}"):
        make_strategy("auto")


def test_xla_is_for_accelerators():
    on_accelerator = bool(tf.config.list_logical_devices("GPU"))
    assert [use_xla(choice) for choice in ("auto", "on", "off")] == [on_accelerator, True, False]


def test_the_teacher_computes_in_bfloat16_where_the_student_is_mixed():
    assert teacher_policy("float32") == "float32"
    assert teacher_policy("mixed_float16") == "mixed_bfloat16"
    assert teacher_policy("mixed_bfloat16") == "mixed_bfloat16"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
