"""What holds for every loss: invariances, gradients, names and backends."""

import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from etd_tf import losses
from etd_tf.errors import InputError
from etd_tf.losses import Features
from tests.helpers import REPOSITORY, tiny_config
from tests.losses import reference

LENGTHS = [6, 3, 1]
MASK = reference.random_mask(LENGTHS, 6)
ENCODER_LOSSES = [losses.TinyBERT("all"), losses.MiniLM(), losses.MiniLMv2()]


def _pair(mask=MASK, size=2):
    teacher = reference.random_trace(0, mask, size=5)
    return teacher, reference.random_trace(1, mask, size=size)


def _projections(loss, size=2, selection=None):
    sizes = tiny_config(num_layers=2), tiny_config(num_layers=2, hidden_size=3 * size)
    return loss.projections(*sizes, selection)


def _tensors(trace, dtype="float32"):
    return tf.nest.map_structure(lambda x: tf.cast(x, dtype), trace._replace(pooled_output=()))


def _with_padding(trace, length, filling):
    """The trace with `length` positions, everything at padded positions being `filling`."""

    def change(x):
        old = x.shape[-2]
        square = x.ndim == 4 and x.shape[-1] == old
        new = np.full((*x.shape[:-2], length, length if square else x.shape[-1]), filling)
        for row, real in enumerate(LENGTHS):
            width = real if square else x.shape[-1]
            new[row][..., :real, :width] = x[row][..., :real, :width]
        return new

    fields = {
        name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
        for name, value in trace._asdict().items()
        if name not in ("padding_mask", "pooled_output")
    }
    return trace._replace(**fields, padding_mask=reference.random_mask(LENGTHS, length))


@pytest.mark.parametrize("loss", ENCODER_LOSSES, ids=lambda x: type(x).__name__)
def test_padding_changes_nothing(loss):
    teacher, student = _pair()
    projections = _projections(loss)
    expected = float(loss.compute_loss(Features(teacher), Features(student), projections))

    for length, filling in ((6, 9.0), (6, -50.0), (9, 3.0)):
        padded = [Features(_with_padding(x, length, filling)) for x in (teacher, student)]
        assert float(loss.compute_loss(*padded, projections)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ENCODER_LOSSES, ids=lambda x: type(x).__name__)
def test_the_batch_is_the_mean_of_its_examples(loss):
    teacher, student = _pair()
    projections = _projections(loss)

    def example(trace, index):
        fields = {
            name: tuple(x[index : index + 1] for x in value)
            if isinstance(value, tuple)
            else value[index : index + 1]
            for name, value in trace._asdict().items()
            if value is not None
        }
        return Features(trace._replace(**fields))

    whole = float(loss.compute_loss(Features(teacher), Features(student), projections))
    single = [
        float(loss.compute_loss(example(teacher, i), example(student, i), projections))
        for i in range(3)
    ]

    assert whole == pytest.approx(np.mean(single), rel=1e-5)


@pytest.mark.parametrize("loss", ENCODER_LOSSES, ids=lambda x: type(x).__name__)
def test_an_equal_student_has_loss_exactly_zero(loss):
    teacher, _ = _pair()
    projections = _projections(loss, size=5, selection=np.eye(15))

    assert float(loss.compute_loss(Features(teacher), Features(teacher), projections)) == 0.0


@pytest.mark.parametrize("loss", ENCODER_LOSSES, ids=lambda x: type(x).__name__)
def test_another_student_has_a_positive_loss(loss):
    terms = loss.compute_terms(*map(Features, _pair()), _projections(loss))

    assert terms.keys() == loss.term_weights.keys()
    assert all(float(value) > 0.01 for value in terms.values())


@pytest.mark.parametrize("loss", ENCODER_LOSSES, ids=lambda x: type(x).__name__)
def test_padding_alone_gives_zero_and_finite_gradients(loss):
    empty = np.zeros((3, 6), np.int32)
    teacher, student = _pair(mask=empty)
    projections = _projections(loss)
    tensors = _tensors(student)

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        traced = tensors._replace(padding_mask=empty)
        value = loss.compute_loss(Features(teacher), Features(traced), projections)

    assert float(value) == 0.0
    found = [g for g in tape.gradient(value, tf.nest.flatten(tensors)) if g is not None]
    assert found
    assert all(np.all(np.array(gradient) == 0.0) for gradient in found)


@pytest.mark.parametrize("loss", ENCODER_LOSSES, ids=lambda x: type(x).__name__)
def test_gradients_reach_the_student_alone(loss):
    teacher, student = map(_tensors, _pair())

    with tf.GradientTape() as tape:
        tape.watch([teacher, student])
        traced = [Features(x._replace(padding_mask=MASK)) for x in (teacher, student)]
        value = loss.compute_loss(*traced, _projections(loss))
    ours, theirs = tape.gradient(value, [tf.nest.flatten(student), tf.nest.flatten(teacher)])

    assert any(gradient is not None for gradient in ours)
    assert all(gradient is None for gradient in theirs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("loss", ENCODER_LOSSES, ids=lambda x: type(x).__name__)
def test_losses_are_float32_whatever_the_features(loss, dtype):
    teacher, student = _pair()
    projections = _projections(loss)

    found = loss.compute_loss(*(Features(_tensors(x, dtype)) for x in _pair()), projections)

    exact = float(loss.compute_loss(Features(teacher), Features(student), projections))
    assert found.dtype == tf.float32
    assert float(found) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("tinybert", losses.TinyBERT, {"layers": (1, 3), "hidden_weight": 0.5}),
        ("minilm", losses.MiniLM, {"teacher_layer": 2, "value_weight": 0.0}),
        ("minilmv2", losses.MiniLMv2, {"relation_heads": 3, "key_weight": 2.0}),
        ("mlm", losses.LogitsDistillation, {"temperature": 2.0}),
    ],
)
def test_a_loss_is_made_by_its_name_and_options(name, kind, options):
    loss = losses.get(name, **options)

    assert type(loss) is kind
    assert options.items() <= dataclasses.asdict(loss).items()
    assert loss == kind(**options)


def test_unknown_names_and_options_are_refused():
    with pytest.raises(InputError, match="Known losses: tinybert, minilm, minilmv2, mlm"):
        losses.get("bert")
    with pytest.raises(InputError, match="Its options: teacher_layer, attention_weight"):
        losses.get("minilm", layers="all")


def test_weights_must_be_sensible():
    with pytest.raises(InputError, match=r"value_weight=-1\.0: expected a finite number >= 0"):
        losses.MiniLM(value_weight=-1.0)
    with pytest.raises(InputError, match=r"hidden_weight=-1\.0: expected"):
        losses.TinyBERT((1, 2), hidden_weight=-1.0)
    with pytest.raises(InputError, match="set at least one"):
        losses.MiniLM(value_weight=0.0, attention_weight=0.0)


def test_keras_own_distiller_is_refused_by_name():
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    with pytest.raises(InputError, match=r"Use etd_tf\.Distiller"):
        keras.distillation.Distiller(model, model, losses.MiniLM())


_OTHER_BACKEND = """
import sys
import numpy as np
from keras import ops
from etd_tf import losses
from etd_tf.losses import Features
from tests.helpers import tiny_config
from tests.losses import reference

mask = reference.random_mask([6, 3, 1], 6)
def features(seed, size):
    t = reference.random_trace(seed, mask, size=size)
    tensor = lambda x: ops.convert_to_tensor(x, dtype="float32")
    return Features(t._replace(**{
        k: tuple(map(tensor, v)) if isinstance(v, tuple) else tensor(v)
        for k, v in t._asdict().items() if v is not None}))
for loss in (losses.TinyBERT("all"), losses.MiniLM(), losses.MiniLMv2()):
    sizes = tiny_config(num_layers=2), tiny_config(num_layers=2, hidden_size=6)
    layers = loss.projections(*sizes, np.eye(15)[:6])
    print(float(loss.compute_loss(features(0, 5), features(1, 2), layers)))
assert "tensorflow" not in sys.modules, "tensorflow was imported"
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_agree_without_tensorflow(backend):
    pytest.importorskip(backend)
    result = subprocess.run(
        [sys.executable, "-c", _OTHER_BACKEND],
        cwd=REPOSITORY,
        env={**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr

    features = [Features(x) for x in _pair()]
    expected = [
        float(loss.compute_loss(*features, _projections(loss, selection=np.eye(15)[:6])))
        for loss in ENCODER_LOSSES
    ]
    np.testing.assert_allclose([float(x) for x in result.stdout.split()], expected, rtol=1e-5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
