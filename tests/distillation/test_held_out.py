"""Tests of the held-out loss."""

import sys

import numpy as np
import pytest

from etd_tf.distillation.held_out import HeldOut
from etd_tf.losses import LogitsDistillation, MaskedLM
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
