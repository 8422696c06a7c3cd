"""Tests of how a Distiller runs: compiled, in low precision, with dropout, on replicas."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf.distillation.distiller import Distiller
from etd_tf.errors import InputError
from etd_tf.losses import MiniLM, TinyBERT
from tests.distillation.tiny_distiller import (
    compiled,
    make_batch,
    make_dataset,
    make_student,
    make_teacher,
)
from tests.helpers import REPOSITORY


def _trained(**options):
    distiller = Distiller(make_teacher(), make_student(), TinyBERT("all"), selection=np.eye(15)[:9])
    data = make_dataset(batches=3)
    compiled(distiller, keras.optimizers.SGD(0.1), **options)
    history = distiller.fit(data, epochs=2, shuffle=False, verbose=0)
    return history.history["loss"], distiller.student.parameters()


@pytest.fixture(scope="module")
def trained():
    return _trained()


@pytest.mark.parametrize(
    "options", [{"steps_per_execution": 2}, {"jit_compile": True}, {"run_eagerly": True}], ids=str
)
def test_ways_of_execution_agree(options, trained):
    loss, found = _trained(**options)

    np.testing.assert_allclose(loss, trained[0], rtol=1e-5)
    for name, value in found.items():
        np.testing.assert_allclose(value, trained[1][name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("name", "wrong", "jit_compile"),
    [
        *(("token_ids", -1, True), ("token_ids", 2**31 - 1, False), ("segment_ids", 2, False)),
        *(("masked_lm_ids", -100, False), ("masked_lm_positions", 7, False)),
    ],
)
def test_ids_that_the_models_lack_end_training(name, wrong, jit_compile):
    distiller = compiled(
        Distiller(make_teacher(), make_student(), MiniLM()), jit_compile=jit_compile
    )
    batch = make_batch()
    batch[name][3, 1] = wrong
    expected = rf"{wrong} in {name} at \[3, 1\]"
    for data in (batch, tf.data.Dataset.from_tensors(batch)):
        with pytest.raises(InputError, match=expected):
            distiller.fit(data, verbose=0)
    with pytest.raises(InputError, match=expected):
        distiller.distillation_loss(batch, training=False)
    with pytest.raises(InputError, match=expected):
        distiller.fit(make_batch(), validation_data=tf.data.Dataset.from_tensors(batch), verbose=0)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    teacher, selection = make_teacher(), np.eye(15)[:9]
    plain = Distiller(teacher, make_student(), TinyBERT(), selection=selection)
    distiller = Distiller(
        teacher,
        make_student(policy),
        TinyBERT(),
        selection=selection,
        teacher_dtype="mixed_bfloat16",
    )
    exact, _ = plain.distillation_loss(make_batch(), training=False)

    total, _ = distiller.distillation_loss(make_batch(), training=False)
    history = compiled(distiller).fit(make_dataset(), epochs=2, verbose=0).history

    scaled = isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert total.dtype == tf.float32
    assert distiller.teacher is not teacher
    assert distiller.teacher.encoder.compute_dtype == "bfloat16"
    assert all(v.dtype == "float32" for v in distiller.trainable_variables)
    assert float(total) == pytest.approx(float(exact), rel=0.02)
    assert history["loss"][-1] < history["loss"][0]


def test_dropout_follows_its_seed():
    distiller = Distiller(make_teacher(), make_student(hidden_dropout=0.3), MiniLM())

    def loss(**options):
        return float(distiller.distillation_loss(make_batch(), **options)[0])

    assert loss(training=True, dropout_seed=[3, 5]) == loss(training=True, dropout_seed=[3, 5])
    assert loss(training=True, dropout_seed=[3, 5]) != loss(training=True, dropout_seed=[3, 6])
    assert loss(training=True) != loss(training=True)
    assert loss(training=False) == loss(training=False)


def test_a_teacher_with_dropout_runs_in_inference_mode():
    teacher = make_teacher(hidden_dropout=0.5, attention_dropout=0.5)
    distiller = Distiller(teacher, make_student())

    losses = {float(distiller.distillation_loss(make_batch(), training=True)[0]) for _ in range(3)}

    assert len(losses) == 1


def test_metrics_average_over_examples_not_batches():
    distiller = compiled(Distiller(make_teacher(), make_student()))
    whole, part = make_batch(6), {name: value[4:] for name, value in make_batch(6).items()}

    found = distiller.evaluate(
        tf.data.Dataset.from_tensor_slices(whole).batch(4), verbose=0, return_dict=True
    )

    expected = float(distiller.distillation_loss(whole, training=False)[0])
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert float(distiller.distillation_loss(part, training=False)[0]) != pytest.approx(expected)


_TWO_REPLICAS = """
import sys
import keras
import numpy as np
import tensorflow as tf
from etd_tf.distillation.distiller import Distiller
from etd_tf.losses import MiniLM, TinyBERT
from tests.distillation import tiny_distiller as t

def run(strategy):
    with strategy.scope():
        distiller = Distiller(
            t.make_teacher(), t.make_student(), [TinyBERT(), MiniLM()], selection=np.eye(15)[:9]
        )
    assert distiller.trainable_variables  # also outside of the scope
    with strategy.scope():
        t.compiled(distiller, keras.optimizers.SGD(0.1))
    history = distiller.fit(t.make_dataset(), epochs=2, shuffle=False, verbose=0).history
    evaluated = distiller.evaluate(t.make_dataset(), verbose=0, return_dict=True)
    evaluated = {"test_" + name: value for name, value in evaluated.items()}
    return {**history, **evaluated, **distiller.student.parameters()}

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
outside = t.make_student()
outside.build()
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with two.scope():
    try:
        Distiller(t.make_teacher(), outside)
    except ValueError as error:
        assert "strategy.scope()" in str(error)
    else:
        raise SystemExit("not refused")
np.savez(sys.argv[1], **run(tf.distribute.get_strategy()))
np.savez(sys.argv[2], **run(two))
"""


def test_two_replicas_train_like_one_device(tmp_path):
    paths = [tmp_path / "one.npz", tmp_path / "two.npz"]
    run = subprocess.run(
        [sys.executable, "-c", _TWO_REPLICAS, *map(str, paths)],
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]

    one, two = (dict(np.load(path)) for path in paths)
    assert {"test_loss", "hidden_loss", "value_relation_loss", "pooler.bias"} <= set(one)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
