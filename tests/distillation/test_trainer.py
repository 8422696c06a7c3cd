"""Tests of the training loop: exact resume, signals, divergence, what is written when."""

import json
import os
import signal
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from etd_tf.distillation.loop import Loop
from etd_tf.distillation.step import TrainStep
from etd_tf.errors import DivergenceError, InputError, Interrupted
from etd_tf.losses import Embedding, LogitsDistillation, MiniLM, MiniLMv2, States, TinyBERT
from etd_tf.training import TrainerOptions
from etd_tf.training.metrics_log import read_metrics
from tests.distillation.tiny_training import (
    largest_difference,
    make_trainer,
    stream,
    validation,
    weights_of,
)

OPTIONS = {
    "steps": 12,
    "dropout": 0.2,
    "checkpoint_every": 3,
    "evaluate_every": 4,
    "log_every": 2,
    "warmup_steps": 2,
}


def _ending_at(step):
    """A stream that has no batch of a step, which ends the run like a crash."""
    batches = stream()
    return lambda start, *worker: batches(start, *worker).take(max(step - start, 0))


def _signalling_at(step, signum):
    """A stream that sends the process a signal while a step's batch is read."""
    batches = stream()

    def send():
        os.kill(os.getpid(), signum)
        return np.int32(0)

    def train_batches(start, *worker):
        def check(number, batch):
            tf.cond(number == step, lambda: tf.numpy_function(send, [], tf.int32), lambda: 0)
            return batch

        return batches(start, *worker).enumerate(start).map(check)

    return train_batches


def _assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].tobytes() == value.tobytes(), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed")
    trainer = make_trainer(run_dir, **OPTIONS)
    result = trainer.fit(stream(), validation())
    return run_dir, result, weights_of(trainer)


def test_a_run_writes_curves_and_the_last_checkpoints(undisturbed):
    run_dir, result, _ = undisturbed
    lines = list(read_metrics(run_dir / "metrics.jsonl"))
    train = [line for line in lines if line["split"] == "train"]
    held_out = [line for line in lines if line["split"] == "validation"]
    assert [line["step"] for line in train] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in held_out] == [0, 4, 8, 12]
    assert {"loss", "gradient_norm", "learning_rate"} <= train[0].keys()
    rates = [0.01, *(0.01 * (13 - step) / 11 for step in (4, 6, 8, 10, 12))]
    np.testing.assert_allclose([line["learning_rate"] for line in train], rates, rtol=1e-5)
    assert result.held_out == {
        name: value for name, value in held_out[-1].items() if name not in ("step", "split")
    }
    assert result.held_out["loss"] < held_out[0]["loss"]
    assert result.steps == 12
    assert result.tokens_per_second == pytest.approx(12 * 4 * 7 / result.seconds)
    folders = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
    assert folders == ["step-00000009", "step-00000012"]
    assert sorted(path.name for path in run_dir.iterdir()) == [
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
    ]


def test_any_interruption_ends_with_the_same_bits(undisturbed, tmp_path):
    # A step's batch is read during the step before: these end without a checkpoint, after
    # the first one, and right after the third one.
    for step in (2, 5, 10):
        with pytest.raises(tf.errors.OutOfRangeError):
            make_trainer(tmp_path, **OPTIONS).fit(_ending_at(step), validation())
    with pytest.raises(Interrupted, match=r"Step (9|1[01]) of 12 is saved\.") as end:
        make_trainer(tmp_path, **OPTIONS).fit(_signalling_at(11, signal.SIGTERM), validation())
    assert end.value.signum == signal.SIGTERM
    trainer = make_trainer(tmp_path, **OPTIONS)
    result = trainer.fit(stream(), validation())

    expected_dir, expected, weights = undisturbed
    _assert_same_bits(weights_of(trainer), weights)
    assert result.held_out == expected.held_out
    name = "metrics.jsonl"
    assert (tmp_path / name).read_text() == (expected_dir / name).read_text()
    state = "checkpoints/step-00000012/state.safetensors"
    _assert_same_bits(load_file(tmp_path / state), load_file(expected_dir / state))


def test_the_map_of_sentence_vectors_goes_on_with_the_same_bits(tmp_path):
    losses = [MiniLM(), Embedding(keep_map=True)]
    whole = make_trainer(tmp_path / "whole", loss=losses, **OPTIONS)
    whole.fit(stream(), validation())
    with pytest.raises(tf.errors.OutOfRangeError):
        make_trainer(tmp_path / "cut", loss=losses, **OPTIONS).fit(_ending_at(5), validation())
    again = make_trainer(tmp_path / "cut", loss=losses, **OPTIONS)
    again.fit(stream(), validation())
    _assert_same_bits(weights_of(again), weights_of(whole))
    layers = [trainer.distiller.student_pooling.dense for trainer in (whole, again)]
    assert layers[0] == layers[1]


def test_a_finished_run_is_not_trained_again(undisturbed):
    run_dir, expected, weights = undisturbed
    before = (run_dir / "metrics.jsonl").read_text()
    trainer = make_trainer(run_dir, **OPTIONS)
    result = trainer.fit(_ending_at(0), validation())
    _assert_same_bits(weights_of(trainer), weights)
    assert (result.steps, result.held_out) == (12, expected.held_out)
    assert result.seconds >= expected.seconds * 0.5  # of all sittings
    assert (run_dir / "metrics.jsonl").read_text() == before


def test_a_run_with_other_settings_is_refused(undisturbed):
    run_dir, _, _ = undisturbed
    with pytest.raises(InputError, match=r"learning_rate was 0\.01 and is now 0\.02"):
        make_trainer(run_dir, **{**OPTIONS, "learning_rate": 0.02}).fit(stream())
    with pytest.raises(InputError, match="teacher was None and is now 'other'"):
        make_trainer(run_dir, identity={"teacher": "other"}, **OPTIONS).fit(stream())


def test_an_interrupt_before_the_first_step_saves_nothing(tmp_path):
    trainer = make_trainer(tmp_path, steps=2)

    held_out = validation().take(1)
    signalling = held_out.map(lambda batch: (tf.numpy_function(_interrupt, [], tf.int32), batch)[1])
    with pytest.raises(Interrupted, match="Step 0 of 2") as end:
        trainer.fit(stream(), signalling)
    assert end.value.signum == signal.SIGINT
    assert not (tmp_path / "checkpoints").exists()


def _interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    return np.int32(0)


def _spoil(trainer, weights_after, monkeypatch):
    """Gives a trainer weights after a step that are finite, but with which no loss is."""
    run, token = TrainStep.run, trainer.distiller.student.encoder.embeddings.token

    def spoil(self, iterator, step, count, *, more):
        metrics = run(self, iterator, step, count, more=more)
        if step + 1 == weights_after:
            token.assign(np.full(token.shape, 1e38))
        return metrics

    monkeypatch.setattr(TrainStep, "run", spoil)


@pytest.mark.parametrize("weights_after", [1, 4])
def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path, weights_after, monkeypatch):
    options = {"steps": 9, "checkpoint_every": 1, "keep_checkpoints": 2}
    trainer = make_trainer(tmp_path, **options)
    _spoil(trainer, weights_after, monkeypatch)
    good = weights_after - 1
    told = f"last good checkpoint is step {good}" if good else "No good checkpoint"
    with pytest.raises(DivergenceError, match=rf"{told}\. Lower learning_rate") as stop:
        trainer.fit(stream())
    assert f"between steps {weights_after} and {weights_after + 1}: loss=nan" in str(stop.value)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ([f"step-{good:08d}"] if good else [])


@pytest.mark.parametrize(("count", "kept"), [(1, []), (3, ["step-00000002"])])
def test_only_weights_that_failed_are_removed(tmp_path, count, kept):
    """Of several steps in one call, the first may have been good."""
    run = make_trainer(tmp_path, steps=9).start()
    run.step = 2
    run.save()
    run.advance(count, {"loss": float("nan")})
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept
    told = "last good checkpoint is step 2" if kept else "No good checkpoint"
    assert told in str(run.failure)


def _noise(step):
    return float(np.random.default_rng(step).normal(scale=0.02))


@pytest.mark.parametrize(
    ("loss", "is_told"),
    [
        (lambda step: 0.5 - 0.01 * step + _noise(step), False),
        (lambda step: 0.5 - 0.02 * max(step - 10, 0) + _noise(step), False),  # after the warm-up
        (lambda step: 0.5, True),
        (lambda step: 0.5 + 0.01 * step + _noise(step), True),
        (lambda step: 9.0 if step == 18 else 0.5 - 0.001 * step, False),
    ],
    ids=["falls", "falls late", "stays", "rises", "jumps"],
)
def test_a_loss_that_does_not_fall_is_told_at_a_tenth(tmp_path, caplog, loss, is_told):
    options = {"steps": 100, "warmup_steps": 10, "log_every": 2}
    run = make_trainer(tmp_path, **options).start()
    for step in range(1, 20):
        run.advance(1, {"loss": loss(step)})
    assert "does not fall" not in caplog.text
    for step in range(20, 60):
        run.advance(1, {"loss": loss(step)})
    assert caplog.text.count("The loss does not fall: it was") == int(is_told)
    assert not is_told or "at step 20 of 100. Try another learning_rate than 0.01" in caplog.text


def test_too_few_losses_tell_nothing(tmp_path, caplog):
    run = make_trainer(tmp_path, steps=40, log_every=1).start()
    for _ in range(40):
        run.advance(1, {"loss": 0.5})
    assert "does not fall" not in caplog.text


@pytest.mark.parametrize("jit_compile", ["off", "on"])
def test_ids_that_the_models_lack_end_training(tmp_path, jit_compile):
    trainer = make_trainer(tmp_path, jit_compile=jit_compile)

    def bad(*place):
        return stream()(*place).map(lambda batch: {**batch, "token_ids": batch["token_ids"] - 9999})

    with pytest.raises(InputError, match=r"in token_ids at \[0, 0\], but the model knows 0 to"):
        trainer.fit(bad)
    held_out = validation().map(lambda batch: {**batch, "segment_ids": batch["token_ids"]})
    with pytest.raises(InputError, match="in segment_ids"):
        trainer.fit(stream(), held_out)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    trainer = make_trainer(tmp_path, steps=2)
    trainer.distiller.trainable_variables[0].assign(
        np.full(trainer.distiller.trainable_variables[0].shape, np.nan)
    )
    run = trainer.start()
    run.step = 2
    run.save()
    assert "not finite after step 2, so they are not saved" in str(run.failure)
    assert not (tmp_path / "checkpoints").exists()


def test_float16_scales_the_loss_and_resumes(tmp_path):
    options = {"precision": "mixed_float16", "steps": 6, "checkpoint_every": 2, "dropout": 0.1}
    whole = make_trainer(tmp_path / "whole", **options)
    whole.fit(stream())
    with pytest.raises(tf.errors.OutOfRangeError):
        make_trainer(tmp_path / "parts", **options).fit(_ending_at(5))
    parts = make_trainer(tmp_path / "parts", **options)
    parts.fit(stream())
    _assert_same_bits(weights_of(parts), weights_of(whole))
    losses = [line["loss"] for line in read_metrics(tmp_path / "whole" / "metrics.jsonl")]
    assert np.isfinite(losses).all()
    tensors = load_file(tmp_path / "whole/checkpoints/step-00000006/state.safetensors")
    scales = [float(v) for n, v in tensors.items() if n.startswith("optimizer") and v.shape == ()]
    assert any(scale >= 1024 for scale in scales)  # the loss scale is part of the state


def test_skipped_steps_and_the_rate_that_was_used_are_logged(tmp_path):
    trainer = make_trainer(tmp_path, precision="mixed_float16", steps=6, warmup_steps=6)
    # Overflows until it is halved often enough.
    trainer.learner.optimizer.dynamic_scale.assign(2.0**31)
    with pytest.raises(DivergenceError, match="None of the 6 steps changed the weights"):
        trainer.fit(stream())
    assert not (tmp_path / "checkpoints").exists()
    lines = list(read_metrics(tmp_path / "metrics.jsonl"))
    assert [line["skipped_steps"] for line in lines] == [1, 2, 3, 4, 5, 6]
    some = make_trainer(tmp_path / "some", precision="mixed_float16", steps=12, warmup_steps=12)
    some.learner.optimizer.dynamic_scale.assign(2.0**23)
    some.fit(stream())
    lines = list(read_metrics(tmp_path / "some" / "metrics.jsonl"))
    skipped = lines[-1]["skipped_steps"]
    assert 0 < skipped < 12
    assert skipped == 12 - int(some.learner.optimizer.inner_optimizer.iterations)
    for line in lines:
        updates = max(line["step"] - line["skipped_steps"], 1)
        assert line["learning_rate"] == pytest.approx(0.01 * updates / 12, rel=1e-5)


def _unbatched_size(start, *worker):
    return stream()(start, *worker).unbatch().batch(4)


def _of_other_unknown_size(*_):
    dataset = stream()(0, 1, 0).repeat()
    spec = {**dataset.element_spec, "masked_lm_ids": tf.TensorSpec([None, 2], tf.int32)}
    return tf.data.Dataset.from_generator(lambda: iter(dataset), output_signature=spec)


def _with_another_entry_first(start, *worker):
    return stream()(start, *worker).map(lambda batch: {"a": tf.zeros([9, 9]), **batch})


def test_batches_of_unknown_size_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\(None, 7\).*drop_remainder=True"):
        make_trainer(tmp_path).fit(_unbatched_size)
    with pytest.raises(InputError, match=r"their masked_lm_ids have the shape \(None, 2\)"):
        make_trainer(tmp_path).fit(_of_other_unknown_size)
    with pytest.raises(InputError, match=r"dictionaries with token_ids; received \['x'\]"):
        make_trainer(tmp_path).fit(
            lambda *_: tf.data.Dataset.from_tensors({"x": tf.zeros([2, 3])}).repeat()
        )


def _of_two_lengths(start, *worker):
    """The stream's batches, every second one with padding that changes nothing."""
    whole = list(stream()(start, *worker))
    spec = {k: tf.TensorSpec([4, None], v.dtype) for k, v in whole[0].items()}

    def batches():
        for step, batch in enumerate(whole, start):
            ends = [[0, 0], [0, step % 2 * 3]]
            padded = {k: tf.pad(batch[k], ends) for k in ("token_ids", "segment_ids")}
            yield {**batch, **padded, "padding_mask": tf.pad(batch["padding_mask"], ends)}

    return tf.data.Dataset.from_generator(batches, output_signature=spec)


@pytest.mark.parametrize(
    ("loss", "jit_compile"),
    [
        *((loss, "off") for loss in (TinyBERT(), MiniLM(), MiniLMv2(), LogitsDistillation())),
        *((States(), "off"), (MiniLM(), "on")),
    ],
)
def test_batches_may_differ_in_length(tmp_path, loss, jit_compile):
    options = {"loss": loss, "steps": 4, "jit_compile": jit_compile}
    of_one = make_trainer(tmp_path / "one", **options)
    of_one.fit(stream())
    of_two = make_trainer(tmp_path / "two", **options)
    result = of_two.fit(_of_two_lengths)
    assert largest_difference(weights_of(of_one), weights_of(of_two)) < 1e-4
    mean = (7 + 10) / 2 * 4
    assert result.tokens_per_second * result.seconds / 4 == pytest.approx(mean)
    assert not any("tokens" in line for line in read_metrics(tmp_path / "two" / "metrics.jsonl"))


def test_tokens_are_those_of_token_ids(tmp_path):
    trainer = make_trainer(tmp_path)
    loop = Loop([trainer.start()], _with_another_entry_first, None)
    loop._distribute(0)
    assert loop._tokens_per_step == 4 * 7


def test_checkpoints_name_their_tensors(undisturbed):
    run_dir, _, _ = undisturbed
    folder = run_dir / "checkpoints" / "step-00000012"
    names = set(load_file(folder / "state.safetensors"))
    assert {"student/embeddings.token", "student/pooler.kernel", "optimizer/0"} <= names
    assert json.loads((folder / "state.json").read_text())["identity"]["batch_size"] == 4


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 9), st.lists(st.integers(0, 7), min_size=2, max_size=2))
def test_calls_end_wherever_something_is_due(steps, steps_per_call, every):
    options = TrainerOptions(
        steps=steps,
        steps_per_call=steps_per_call,
        log_every=3,
        evaluate_every=every[0],
        checkpoint_every=every[1],
    )
    loop = types.SimpleNamespace(_options=options)
    ends, step = [], 0
    while step < steps:
        count = Loop._count(loop, step)
        assert 1 <= count <= steps_per_call
        step += count
        ends.append(step)
    assert step == steps
    for period in (3, *filter(None, every)):
        assert set(range(period, steps + 1, period)) <= set(ends)


def test_replicas_must_share_the_batch(tmp_path):
    with pytest.raises(InputError, match="Nearest batch sizes that can: 3 or 6"):
        make_trainer(tmp_path, gradient_accumulation=3)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
