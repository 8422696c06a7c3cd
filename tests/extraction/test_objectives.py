"""Tests of the losses behind importance."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.extraction.inputs import ScoringInputs
from etd_tf.extraction.objectives import make_objective
from tests.extraction.numpy_bert import mlm_losses, states
from tests.helpers import random_batch, relative_error, tiny_checkpoint


def _batches(teacher, batch_size=4, **settings_):
    inputs = ScoringInputs.from_examples(random_batch(teacher.config, **settings_), teacher.config)
    return list(inputs.batches(batch_size))


def test_masked_lm_loss_is_the_mean_over_each_examples_masked_tokens():
    teacher = tiny_checkpoint(seed=4, mlm_head=True)
    objective = make_objective(teacher, "mlm", seed=3)
    (batch,) = _batches(teacher, length=20)
    tensors = objective.prepare(batch, 0)

    losses = objective.losses(teacher.encoder.trace(tensors), tensors)

    numpy_tensors = {name: np.asarray(value) for name, value in tensors.items()}
    parameters, config = teacher.parameters(), teacher.config
    last = states(parameters, config, numpy_tensors)[-1]
    picked = [numpy_tensors[name] for name in ("positions", "labels", "weights")]
    expected = mlm_losses(parameters, config, last, *picked)
    assert relative_error(losses, expected) < 1e-5
    assert (picked[2].sum(1) >= 1).all()
    changed = numpy_tensors["token_ids"] != batch.inputs["token_ids"]
    assert changed.any()
    assert not changed[batch.inputs["padding_mask"] == 0].any()


def test_probe_loss_is_an_inner_product_over_real_tokens():
    teacher = tiny_checkpoint(seed=4)
    objective = make_objective(teacher, "auto", seed=3)
    (batch,) = _batches(teacher)
    tensors = objective.prepare(batch, 0)
    losses = objective.losses(teacher.encoder.trace(tensors), tensors)
    last = states(teacher.parameters(), teacher.config, batch.inputs)[-1]
    assert relative_error(losses, (last * tensors["probe"]).sum((1, 2))) < 1e-4
    assert objective.name == "reconstruction"
    assert not tensors["probe"][batch.inputs["padding_mask"] == 0].any()


@pytest.mark.parametrize("loss", ["mlm", "reconstruction"])
def test_random_parts_belong_to_the_row_not_to_the_batch(loss):
    teacher = tiny_checkpoint(mlm_head=True)
    objective = make_objective(teacher, loss, seed=3)
    (whole,) = _batches(teacher)
    name = "probe" if loss == "reconstruction" else "token_ids"
    expected = np.asarray(objective.prepare(whole, 1)[name])
    parts = [objective.prepare(batch, 1)[name] for batch in _batches(teacher, batch_size=2)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    assert (expected != np.asarray(objective.prepare(whole, 2)[name])).any()
    other = make_objective(teacher, loss, seed=4).prepare(whole, 1)[name]
    assert (expected != np.asarray(other)).any()


def test_probes_are_standard_normal():
    teacher = tiny_checkpoint(hidden_size=45, num_heads=3)
    objective = make_objective(teacher, "reconstruction", seed=0)
    (batch,) = _batches(teacher, batch_size=40, length=20)
    values = objective.prepare(batch, 0)["probe"][batch.inputs["padding_mask"] > 0]
    assert abs(values.mean()) < 0.03
    assert values.std() == pytest.approx(1.0, abs=0.03)


def test_auto_follows_the_head():
    assert make_objective(tiny_checkpoint(), "auto", seed=0).name == "reconstruction"
    assert make_objective(tiny_checkpoint(mlm_head=True), "auto", seed=0).name == "mlm"


def test_refusals_name_the_fix():
    headless = tiny_checkpoint()
    with pytest.raises(InputError, match="importance_loss=reconstruction"):
        make_objective(headless, "mlm", seed=0)
    with pytest.raises(InputError, match="Use auto, mlm or reconstruction"):
        make_objective(headless, "squared", seed=0)
    teacher = tiny_checkpoint(mlm_head=True)
    bare = teacher.replace(tokenizer=None, source="bare")
    with pytest.raises(InputError, match="Add the tokenizer's files"):
        make_objective(bare, "auto", seed=0)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
