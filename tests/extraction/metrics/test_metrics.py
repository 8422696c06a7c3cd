"""Tests of the metrics against NumPy, and of their properties."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.extraction.gates import gate_gradients
from etd_tf.extraction.inputs import ScoringInputs
from etd_tf.extraction.metrics import METRICS
from etd_tf.extraction.metrics.magnitude import weight_magnitude
from etd_tf.extraction.objectives import make_objective
from etd_tf.modeling.parameters import parameter_variables
from tests.extraction.numpy_bert import gate_differences, states
from tests.helpers import random_batch, relative_error, tiny_checkpoint

_SIZES = {"num_layers": 2, "hidden_size": 6, "num_heads": 2, "intermediate_size": 5}


def _batches(teacher, batch_size, count=5):
    batch = random_batch(teacher.config, batch_size=count, length=9)
    return list(ScoringInputs.from_examples(batch, teacher.config).batches(batch_size))


def _accumulate(scorer, objective, batches):
    for batch in batches:
        tensors = batch.inputs if objective is None else objective.prepare(batch, 0)
        scorer.accumulate(tensors, batch.weights)
    return scorer.result()


def _gradients(teacher, objective, count=5):
    (batch,) = _batches(teacher, count)
    tensors = objective.prepare(batch, 0)
    gradients = gate_gradients(
        teacher.encoder, tensors, lambda trace: objective.losses(trace, tensors)
    )
    return [np.asarray(part, np.float64) for part in gradients]


@pytest.mark.parametrize(("loss", "size"), [("mlm", np.abs), ("reconstruction", np.square)])
def test_taylor_removes_the_sign_in_each_example(loss, size):
    teacher = tiny_checkpoint(seed=2, mlm_head=True, **_SIZES)
    objective = make_objective(teacher, loss, seed=1)
    scores = _accumulate(
        METRICS["taylor"].scorer(teacher, objective), objective, _batches(teacher, 2)
    )
    expected = [size(part).sum(0) for part in _gradients(teacher, objective)]
    expected[0] = expected[0].sum(0)  # sites of the residual stream
    for ours, theirs in zip(scores, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-4


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_dynabert_sums_inside_the_batch_before_the_absolute_value(batch_size):
    teacher = tiny_checkpoint(seed=2, mlm_head=True, **_SIZES)
    objective = make_objective(teacher, "mlm", seed=1)
    batches = _batches(teacher, batch_size)
    scores = _accumulate(METRICS["dynabert"].scorer(teacher, objective), objective, batches)
    gradients = _gradients(teacher, objective)
    starts = range(0, 5, batch_size)

    def per_batch(part):
        return sum(np.abs(part[start : start + batch_size].sum(0)) for start in starts)

    assert relative_error(scores.heads, per_batch(gradients[4])) < 1e-4
    assert relative_error(scores.value, per_batch(gradients[3])) < 1e-4
    assert relative_error(scores.hidden, per_batch(gradients[0]).sum(0)) < 1e-4
    expected = per_batch(gradients[1]) + _weights_in(teacher, objective, batches)
    assert relative_error(scores.ffn, expected) < 1e-4
    taylor = np.abs(gradients[4]).sum(0)
    assert (scores.heads <= taylor * (1 + 1e-4)).all()
    if batch_size == 1:
        assert relative_error(scores.heads, taylor) < 1e-4


def _weights_in(teacher, objective, batches):
    """Sum over batches of abs(sum(W1 * dW1) + b1 * db1), by an ordinary weight gradient."""
    variables = parameter_variables(teacher.encoder)
    total = 0.0
    for batch in batches:
        tensors = objective.prepare(batch, 0)
        with tf.GradientTape() as tape:
            losses = objective.losses(teacher.encoder.trace(tensors), tensors)
            loss = tf.reduce_sum(losses * batch.weights)
        rows = []
        names = [f"layers.{i}.intermediate" for i in range(2)]
        pairs = [(variables[f"{n}.kernel"].value, variables[f"{n}.bias"].value) for n in names]
        for (w, b), (dw, db) in zip(pairs, tape.gradient(loss, pairs), strict=True):
            rows.append(np.sum(np.asarray(w) * dw, axis=0) + np.asarray(b) * db)
        total = total + np.abs(np.stack(rows))
    return total


def test_activation_is_l2_over_examples_of_the_mean_over_real_tokens():
    teacher = tiny_checkpoint(seed=3, **_SIZES)
    scores = _accumulate(METRICS["activation"].scorer(teacher), None, _batches(teacher, 2))
    (batch,) = _batches(teacher, 5)
    mask = batch.inputs["padding_mask"].astype(np.float64)
    share = mask / mask.sum(1, keepdims=True)
    trace = teacher.encoder.trace(batch.inputs)

    def l2(x):  # [B, T, U] -> [U]
        return np.sqrt((np.einsum("bt,btu->bu", share, np.abs(np.asarray(x))) ** 2).sum(0))

    hidden = l2(trace.embedding_output)
    for index, output in enumerate(trace.hidden_states):
        hidden = hidden + l2(trace.ffn_inputs[index]) + l2(output)
        assert relative_error(scores.ffn[index], l2(trace.preactivations[index])) < 1e-5
        context = np.asarray(trace.contexts[index]).reshape(*mask.shape, 2, -1)
        context = np.transpose(context, (0, 2, 1, 3))
        for head in range(2):
            assert relative_error(scores.value[index, head], l2(context[:, head])) < 1e-5
            norm = np.linalg.norm(context[:, head], axis=-1, keepdims=True)
            assert scores.heads[index, head] == pytest.approx(l2(norm)[0], rel=1e-5)
            q, k = (
                np.einsum("bt,btd->bd", share, np.abs(np.asarray(x)[:, head]))
                for x in (trace.queries[index], trace.keys[index])
            )
            product = np.sqrt(((q * k) ** 2).sum(0))
            assert relative_error(scores.query_key[index, head], product) < 1e-5
    assert relative_error(scores.hidden, hidden) < 1e-5


def test_magnitude_is_the_norm_of_a_units_weights():
    teacher = tiny_checkpoint(seed=3, **_SIZES)
    p = {name: value.astype(np.float64) for name, value in teacher.parameters().items()}
    scores = weight_magnitude(teacher.parameters(), teacher.config)
    neuron = [p["layers.1.intermediate.kernel"][:, 4], p["layers.1.output.kernel"][4]]
    assert scores.ffn[1, 4] == pytest.approx(np.linalg.norm(np.concatenate(neuron)))
    column = 1 * 3 + 2  # head 1, dim 2
    dim = [p[f"layers.0.attention.{part}.kernel"][:, column] for part in ("query", "key")]
    assert scores.query_key[0, 1, 2] == pytest.approx(np.linalg.norm(np.concatenate(dim)))
    head = slice(3, 6)
    head_weights = [
        *(p[f"layers.0.attention.{part}.kernel"][:, head] for part in ("query", "key", "value")),
        p["layers.0.attention.output.kernel"][head].T,
    ]
    assert scores.heads[0, 1] == pytest.approx(np.linalg.norm(np.concatenate(head_weights)))
    reads = [
        v[2]
        for n, v in p.items()
        if n.startswith("layers") and n.endswith("kernel") and not n.endswith("output.kernel")
    ]
    writes = [v[:, 2] for n, v in p.items() if n.endswith("output.kernel")]
    tables = [p[f"embeddings.{t}"][:, 2] for t in ("token", "position", "segment")]
    expected = np.linalg.norm(np.concatenate(reads + writes + tables))
    assert scores.hidden[2] == pytest.approx(expected)


def test_probe_scores_approach_the_squared_jacobian():
    """E[(dL/dg)^2] = |dh_L / dg|^2, with relative error about sqrt(2 / (n p))."""
    teacher = tiny_checkpoint(seed=7, **_SIZES)
    config, parameters = teacher.config, teacher.parameters()
    (batch,) = _batches(teacher, 3, count=3)
    real = batch.inputs["padding_mask"][..., None]
    jacobian = gate_differences(
        lambda gates: states(parameters, config, batch.inputs, gates)[-1] * real, config, 3
    )
    objective = make_objective(teacher, "reconstruction", seed=0)
    scorer = METRICS["taylor"].scorer(teacher, objective)
    probes = 600
    for probe in range(probes):
        scorer.accumulate(objective.prepare(batch, probe), batch.weights)
    estimate = [part / probes for part in scorer.result()]

    def squared(j):  # sum over examples, tokens and channels
        return (j**2).sum((0, -2, -1))

    expected = [
        squared(jacobian.hidden).sum(0),
        squared(jacobian.ffn),
        squared(jacobian.query_key),
        squared(jacobian.value),
        squared(jacobian.value.sum(3)),
    ]
    for ours, theirs in zip(estimate, expected, strict=True):
        errors = np.abs(ours / theirs - 1)
        assert errors.mean() < 0.06
        assert errors.max() < 0.3


def test_result_before_any_batch_is_refused():
    with pytest.raises(RuntimeError, match="before accumulate"):
        METRICS["activation"].scorer(tiny_checkpoint()).result()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
