"""Tests of activation statistics."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.extraction.starts.statistics import collect_statistics
from etd_tf.modeling.structure import SITES
from tests.helpers import random_batch, relative_error, tiny_checkpoint


def _rows(teacher, batch, layer):
    """Activations of the real tokens by site, `[tokens, U]`."""
    trace, at = teacher.encoder.trace(batch), layer - 1
    real = batch["padding_mask"].astype(bool)
    values = (trace.layer_inputs[at], trace.contexts[at], trace.ffn_inputs[at], trace.inners[at])
    return {name: np.asarray(x)[real] for name, x in zip(SITES, values, strict=True)}


def test_moments_are_those_of_the_real_tokens():
    teacher = tiny_checkpoint(seed=2)
    batch = random_batch(teacher.config, batch_size=5)
    statistics = collect_statistics(teacher, batch, layers=(1, 3), batch_size=2)
    assert statistics.num_tokens == batch["padding_mask"].sum()
    assert statistics.teacher_fingerprint == teacher.fingerprint()
    for layer in (1, 3):
        for site, rows in _rows(teacher, batch, layer).items():
            mean, covariance = statistics.moments(site, layer)
            assert relative_error(mean, rows.mean(0)) < 1e-4
            assert relative_error(covariance, np.cov(rows.T, bias=True)) < 1e-4


def test_statistics_do_not_depend_on_padding_or_batching():
    teacher = tiny_checkpoint(seed=2)
    batch = random_batch(teacher.config, batch_size=5)
    padded = {name: np.pad(value, ((0, 0), (0, 4))) for name, value in batch.items()}
    one = collect_statistics(teacher, batch)
    other = collect_statistics(teacher, padded, batch_size=3)
    assert one.layers == other.layers == (1, 2, 3)
    for site in SITES:
        for ours, theirs in zip(one.grams[site], other.grams[site], strict=True):
            assert relative_error(ours, theirs) < 1e-5


def test_refusals_name_the_fix():
    teacher = tiny_checkpoint()
    batch = random_batch(teacher.config)
    with pytest.raises(InputError, match="layers 1 to 3"):
        collect_statistics(teacher, batch, layers=(0, 1))
    with pytest.raises(InputError, match="Collect them for the layers of the plan"):
        collect_statistics(teacher, batch, layers=(2,)).moments("inner", 3)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
