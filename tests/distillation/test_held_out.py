"""Tests of the held-out loss."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.distillation.held_out import HeldOut
from etd_tf.losses import LogitsDistillation, MaskedLM, MiniLM, MiniLMv2, TinyBERT
from tests.distillation.tiny_training import batch_of, make_distiller, validation


def test_means_are_over_examples_and_padding_rows_do_not_count():
    distiller = make_distiller(dropout=0.5)
    (means,) = HeldOut([distiller], validation()).evaluate()
    whole = batch_of(100)
    half = {name: value[:2] for name, value in batch_of(101).items()}
    total, first = distiller.distillation_loss(whole, training=False)
    rest, second = distiller.distillation_loss(half, training=False)
    assert means.keys() == {"loss", *first}
    np.testing.assert_allclose(means["loss"], (4 * float(total) + 2 * float(rest)) / 6, rtol=1e-5)
    for name, value in first.items():
        expected = (4 * float(value) + 2 * float(second[name])) / 6
        np.testing.assert_allclose(means[name], expected, rtol=1e-5)


LOSSES = [TinyBERT(), MiniLM(), MiniLMv2(), LogitsDistillation(), MaskedLM()]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_keras_evaluation_agrees_however_much_the_last_batch_is_filled_up(loss):
    distiller = make_distiller(loss)
    distiller.compile()
    (expected,) = HeldOut([distiller], validation()).evaluate()
    assert distiller.evaluate(validation(), verbose=0, return_dict=True) == pytest.approx(
        expected | {"distillation_loss": expected["loss"]}, rel=1e-5
    )
    six = {
        name: np.concatenate([batch_of(100)[name], batch_of(101)[name][:2]])
        for name in batch_of(100)
    }
    for size in (6, 11):
        filled = {
            name: np.concatenate([value, np.zeros((size - 6, *value.shape[1:]), value.dtype)])
            for name, value in six.items()
        }
        data = tf.data.Dataset.from_tensors(filled)
        found = distiller.evaluate(data, verbose=0, return_dict=True)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert found["loss"] > 0


def test_batches_need_no_mask():
    distiller = make_distiller()
    without = validation().map(
        lambda batch: {name: value for name, value in batch.items() if name != "padding_mask"}
    )
    assert HeldOut([distiller], without).evaluate() == [
        pytest.approx(values, rel=1e-6) for values in HeldOut([distiller], validation()).evaluate()
    ]


def test_it_is_the_same_every_time():
    held_out = HeldOut([make_distiller(dropout=0.5)], validation())
    assert held_out.evaluate() == held_out.evaluate()


def test_several_share_the_teacher_and_differ_in_nothing_else():
    distillers = [
        make_distiller(),
        make_distiller(LogitsDistillation()),
        make_distiller(MaskedLM()),
    ]
    together = HeldOut(distillers, validation()).evaluate()
    for distiller, found in zip(distillers, together, strict=True):
        (alone,) = HeldOut([distiller], validation()).evaluate()
        assert found == pytest.approx(alone, rel=1e-5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
