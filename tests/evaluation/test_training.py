"""The fine-tuning loop: batches, schedule, one step against NumPy, reuse."""

import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import DivergenceError
from etd_tf.evaluation.classifiers import SequenceClassifier
from etd_tf.evaluation.task_losses import classification_loss, regression_loss, span_loss
from etd_tf.evaluation.training import (
    FineTuner,
    Schedule,
    TrainingSet,
    shuffled_batches,
)
from etd_tf.tokenization.sequences import Sequences
from tests.helpers import random_parameters, tiny_config

CONFIG = tiny_config(num_layers=1, hidden_dropout=0.0, attention_dropout=0.0)


def training_set(count=11, seed=0):
    """Class 1 where the second token is 7, class 0 where it is 8; lengths 3 to 12."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    ids = [
        np.concatenate([[2, 8 - label], generator.integers(9, 60, generator.integers(1, 11))])
        for label in labels
    ]
    sequences = Sequences(
        tuple(row.astype(np.int32) for row in ids),
        tuple(np.zeros(len(row), np.int32) for row in ids),
        0,
        16,
    )
    return TrainingSet(sequences, {"labels": labels})


def classifier(seed=0):
    model = SequenceClassifier(CONFIG, 2)
    return model, start(model, seed)


def start(model, seed=0):
    head = np.random.default_rng(seed).normal(0, 0.1, (CONFIG.hidden_size, 2)).astype("f4")
    parameters = random_parameters(CONFIG, seed)
    return {**parameters, "head.kernel": head, "head.bias": np.zeros(2, np.float32)}


@settings(max_examples=30)
@given(st.integers(1, 700), st.integers(1, 9), st.integers(0, 3))
def test_batches_hold_every_example_once_a_function_of_seed_and_epoch(count, size, epoch):
    lengths = np.random.default_rng(count).integers(1, 99, count)
    batches = shuffled_batches(lengths, size, seed=4, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert len(batches) == -(-count // size)
    assert sorted(len(rows) for rows in batches)[1:] == [size] * (len(batches) - 1)
    again = shuffled_batches(lengths, size, seed=4, epoch=epoch)
    assert [rows.tolist() for rows in batches] == [rows.tolist() for rows in again]


def test_batches_hold_similar_lengths_in_random_order():
    lengths = np.random.default_rng(0).integers(4, 128, 1600)
    batches = shuffled_batches(lengths, 32, seed=0, epoch=0)
    padding = 1 - lengths.sum() / sum(len(rows) * lengths[rows].max() for rows in batches)
    assert padding < 0.05  # random batches: almost one half
    means = [lengths[rows].mean() for rows in batches]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.4
    other = shuffled_batches(lengths, 32, seed=0, epoch=1)
    assert any((a != b).any() for a, b in zip(batches, other, strict=True))


def test_learning_rates_rise_and_fall_linearly():
    rates = Schedule(2e-4, 0, warmup_ratio=0.1).learning_rates(40)
    np.testing.assert_allclose(rates[:4], 2e-4 * np.asarray([0.25, 0.5, 0.75, 1.0]), rtol=1e-5)
    np.testing.assert_allclose(np.diff(rates[4:]), np.diff(rates[4:])[0], rtol=1e-3)
    assert 0.0 < rates[-1] < 2e-4 / 30


def test_one_step_is_adamw_with_decay_exclusions():
    """The first AdamW step moves each weight by the rate, against its gradient's sign."""
    model, parameters = classifier()
    model.set_parameters(parameters)
    tuner = FineTuner(model, classification_loss, weight_decay=0.5)
    data = training_set(7)
    schedule = Schedule(2e-3, 0, epochs=1, batch_size=7, warmup_ratio=0.0)
    rate = schedule.learning_rates(1)[0]
    tuner.fit(data, schedule, description="Training")
    after = model.get_parameters()
    for name in ("head.bias", "layers.0.output_layer_norm.gamma"):
        moved = np.abs(after[name] - parameters[name])
        assert moved.max() == pytest.approx(rate, rel=1e-2), name  # no decay
    kernel = parameters["layers.0.intermediate.kernel"]
    moved = after["layers.0.intermediate.kernel"] - kernel * (1 - 0.5 * rate)
    assert np.abs(moved).max() == pytest.approx(rate, rel=1e-2)
    unused = parameters["embeddings.token"][61]  # a token that no example holds
    np.testing.assert_allclose(
        after["embeddings.token"][61], unused * (1 - 0.5 * rate), rtol=1e-4, atol=1e-7
    )


def test_training_learns_and_repeats_itself_after_a_reset():
    model, parameters = classifier()
    tuner = FineTuner(model, classification_loss)
    data = training_set(32)
    schedule = Schedule(1e-2, 3, epochs=20, batch_size=8)
    losses, weights = [], []
    for _ in range(2):
        model.set_parameters(parameters)
        losses.append(tuner.fit(data, schedule, description="Training"))
        weights.append(model.get_parameters())
    assert losses[0] < 0.2
    assert losses[0] == losses[1]
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name], err_msg=name)


def test_a_training_does_not_depend_on_those_before_it():
    """A run that goes on in a new process repeats the digits of one that was not cut."""
    data, results = training_set(29), []
    for seeds in ((1, 5), (5,)):
        model, parameters = classifier()
        tuner = FineTuner(model, classification_loss)
        for seed in seeds:
            model.set_parameters(parameters)
            schedule = Schedule(1e-2, seed, epochs=2, batch_size=8)
            loss = tuner.fit(data, schedule, description="Training")
        results.append((loss, model.get_parameters()))
    assert results[0][0] == results[1][0]
    for name, value in results[0][1].items():
        np.testing.assert_array_equal(value, results[1][1][name], err_msg=name)


def test_the_step_is_traced_once_without_sizes(monkeypatch):
    """Sizes of the first batch in the graph would make the digits depend on what came first."""
    model, parameters = classifier()
    model.set_parameters(parameters)
    tuner, original, shapes = FineTuner(model, classification_loss), FineTuner._run_step, []

    def run_step(batch, seed, rate):
        shapes.append(batch["token_ids"].shape.as_list())
        return original(tuner, batch, seed, rate)

    monkeypatch.setattr(tuner, "_run_step", run_step)
    schedule = Schedule(1e-2, 0, epochs=1, batch_size=8)
    tuner.fit(training_set(29), schedule, description="Training")
    assert shapes == [[None, None]]


def test_divergence_is_reported_with_the_way_out():
    model, parameters = classifier()
    parameters["head.kernel"][:] = np.nan
    model.set_parameters(parameters)
    tuner = FineTuner(model, classification_loss)
    with pytest.raises(DivergenceError, match=r"rate 0.001, seed 5. Choose a lower learning rate"):
        tuner.fit(training_set(), Schedule(1e-3, 5), description="Training")


def test_classification_and_regression_losses():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(5, 3)).astype(np.float32)
    labels = np.asarray([0, 2, 1, 1, 0])
    log_z = np.log(np.exp(logits).sum(axis=1))
    expected = np.mean(log_z - logits[np.arange(5), labels])
    loss = classification_loss({"logits": logits}, {"labels": labels})
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    scores = generator.normal(size=5).astype(np.float32)
    loss = regression_loss({"logits": logits[:, :1]}, {"labels": scores})
    assert float(loss) == pytest.approx(np.mean((logits[:, 0] - scores) ** 2), rel=1e-5)


def test_span_loss_ignores_padding():
    generator = np.random.default_rng(0)
    start, end = generator.normal(size=(2, 3, 6)).astype(np.float32)
    mask = np.asarray([[1, 1, 1, 1, 0, 0], [1] * 6, [1, 1, 1, 0, 0, 0]], np.int32)
    batch = {
        "padding_mask": mask,
        "start_positions": np.asarray([1, 0, 2]),
        "end_positions": np.asarray([3, 0, 2]),
    }
    total = 0.0
    for logits, positions in ((start, batch["start_positions"]), (end, batch["end_positions"])):
        for row in range(3):
            real = logits[row][mask[row] == 1]
            total += np.log(np.exp(real).sum()) - logits[row, positions[row]]
    loss = span_loss({"start_logits": start, "end_logits": end}, batch)
    assert float(loss) == pytest.approx(total / 6, rel=1e-5)


def test_take_keeps_rows_together():
    data = training_set(9).take(np.asarray([4, 1]))
    assert data.labels["labels"].tolist() == [0, 1]
    assert [ids[1] for ids in data.sequences.token_ids] == [8, 7]
    assert len(data) == 2


def test_layers_take_part_in_training():
    model, _ = classifier()
    names = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert "classifier" in names
    assert isinstance(model, keras.Model)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
