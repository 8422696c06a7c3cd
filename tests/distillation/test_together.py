"""Tests of students that train together: one teacher pass, the same results as alone."""

import signal
import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.distillation.distiller import Distiller
from etd_tf.distillation.step import SharedTeacher, TrainStep
from etd_tf.distillation.trainer import fit_together
from etd_tf.errors import DivergenceError, InputError, Interrupted
from etd_tf.losses import LogitsDistillation, MiniLM, TinyBERT
from etd_tf.training.metrics_log import read_metrics
from tests.distillation.tiny_training import (
    batch_of,
    largest_difference,
    make_distiller,
    make_trainer,
    stream,
    tiny_teacher,
    validation,
    weights_of,
)

OPTIONS = {"steps": 8, "checkpoint_every": 2, "evaluate_every": 4, "steps_per_call": 3}
LOSSES = {"minilm": MiniLM, "logits": LogitsDistillation}


def _trainers(folder, **changes):
    return [
        make_trainer(folder / name, loss=make(), **{**OPTIONS, **changes})
        for name, make in LOSSES.items()
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same students, each trained without the others."""
    trainers = _trainers(tmp_path_factory.mktemp("alone"))
    return trainers, [trainer.fit(stream(), validation()) for trainer in trainers]


def _assert_as_alone(trainers, results, alone):
    for trainer, result, single, expected in zip(trainers, results, *alone, strict=True):
        assert largest_difference(weights_of(trainer), weights_of(single)) < 2e-5
        assert result.held_out == pytest.approx(expected.held_out, rel=1e-4)
        found, lines = (list(read_metrics(t.run_dir / "metrics.jsonl")) for t in (trainer, single))
        assert [(a["step"], a["split"]) for a in found] == [(b["step"], b["split"]) for b in lines]
        for ours, theirs in zip(found, lines, strict=True):
            numbers = {name: value for name, value in theirs.items() if name != "split"}
            assert {name: ours[name] for name in numbers} == pytest.approx(numbers, rel=1e-3)


def test_together_they_end_as_each_would_alone(alone, tmp_path):
    seen = []
    trainers = _trainers(tmp_path)

    def note(step):
        seen.append(step)
        return {"half": step / 2}

    results = fit_together(trainers, stream(), validation(), on_evaluate=[note, None])
    assert results[0].held_out.pop("half") == 4.0
    _assert_as_alone(trainers, results, alone)
    assert seen == [0, 4, 8]
    lines, others = (list(read_metrics(t.run_dir / "metrics.jsonl")) for t in trainers)
    halves = {line["step"]: line["half"] for line in lines if line["split"] == "validation"}
    assert halves == {0: 0.0, 4: 2.0, 8: 4.0}
    assert not any("half" in line for line in others)


@pytest.mark.parametrize("options", [{"jit_compile": "on"}, {"gradient_accumulation": 2}])
def test_compiled_and_in_micro_batches_as_well(tmp_path, options):
    options = {"steps": 2, "checkpoint_every": 0, "evaluate_every": 0, **options}
    singles = _trainers(tmp_path / "alone", **options)
    expected = [trainer.fit(stream(), validation()) for trainer in singles]
    trainers = _trainers(tmp_path / "together", **options)
    results = fit_together(trainers, stream(), validation())
    _assert_as_alone(trainers, results, (singles, expected))


def test_the_teacher_runs_once_a_step(monkeypatch, tmp_path):
    traced = []
    original = Distiller.teacher_features

    def count(self, batch, *needs):
        traced.append(batch["token_ids"].shape[0])
        return original(self, batch, *needs)

    monkeypatch.setattr(Distiller, "teacher_features", count)
    trainers = _trainers(tmp_path)
    traced.clear()  # which variables are used has been found out
    fit_together(trainers, stream())
    assert traced == [1, 4]  # to see what losses read, and for the batches


def test_runs_found_at_different_steps_draw_level(alone, tmp_path):
    trainers = _trainers(tmp_path)
    first, last = trainers
    batches = stream()
    for trainer, steps in ((first, 4), (last, 7)):
        with pytest.raises(tf.errors.OutOfRangeError):
            trainer.fit(
                lambda step, *worker, end=steps: batches(step, *worker).take(max(end - step, 0)),
                validation(),
            )
    found = [trainer.store.steps()[-1:] for trainer in trainers]
    assert 0 < found[0][0] < found[1][0] < 8
    again = _trainers(tmp_path)
    _assert_as_alone(again, fit_together(again, stream(), validation()), alone)


def test_one_that_diverges_does_not_stop_the_others(alone, tmp_path, monkeypatch):
    trainers = _trainers(tmp_path)
    run, token = TrainStep.run, trainers[1].distiller.student.encoder.embeddings.token

    def spoil(self, iterator, step, count, *, more):
        metrics = run(self, iterator, step, count, more=more)
        if step == 2:
            token.assign(np.full(token.shape, 1e38))
        return metrics

    monkeypatch.setattr(TrainStep, "run", spoil)
    results = fit_together(trainers, stream(), validation())
    assert isinstance(results[1], DivergenceError)
    kept = [0]
    _assert_as_alone(
        *[[seq[i] for i in kept] for seq in (trainers, results)],
        [[seq[i] for i in kept] for seq in alone],
    )


def test_a_signal_saves_all_of_them(tmp_path, monkeypatch):
    run = TrainStep.run

    def interrupt(self, iterator, step, count, *, more):
        if step >= 3:
            signal.raise_signal(signal.SIGTERM)
        return run(self, iterator, step, count, more=more)

    monkeypatch.setattr(TrainStep, "run", interrupt)
    trainers = _trainers(tmp_path)
    with pytest.raises(Interrupted, match="of 8 is saved"):
        fit_together(trainers, stream())
    (step,) = {trainer.store.steps()[-1] for trainer in trainers}
    assert 3 < step < 8


def test_only_what_losses_read_is_kept():
    batch = {name: tf.constant(value) for name, value in batch_of(0).items()}
    strategy = tf.distribute.get_strategy()
    minilm = SharedTeacher([make_distiller(MiniLM())], strategy)
    assert len(minilm.read(batch)) == 2  # scores and values
    both = SharedTeacher([make_distiller(MiniLM()), make_distiller(TinyBERT())], strategy)
    assert len(both.read(batch)) == 3
    features = both.restore(both.read(batch))
    expected = make_distiller().teacher_features(batch)
    np.testing.assert_allclose(
        features.trace.hidden_states[-1], expected.trace.hidden_states[-1], rtol=1e-6
    )
    assert features.trace.hidden_states[0] is None


def test_unequal_trainers_are_refused(tmp_path):
    one = make_trainer(tmp_path / "one", steps=4)
    with pytest.raises(InputError, match="equal TrainerOptions"):
        fit_together([one, make_trainer(tmp_path / "two", steps=5)], stream())
    other = make_trainer(tmp_path / "three", steps=4)
    parameter = other.distiller.teacher.encoder.trainable_variables[0]
    parameter.assign(parameter.numpy() + 1)
    assert tiny_teacher().fingerprint() != other.distiller.teacher.fingerprint()
    with pytest.raises(InputError, match="equal teachers"):
        fit_together([one, other], stream())


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
