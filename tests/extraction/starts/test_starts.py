"""Tests of the student before distillation: made once, reused afterwards."""

import sys

import numpy as np
import pytest

from etd_tf.errors import InputError
from etd_tf.extraction import ExtractionPlan, UnitScores
from etd_tf.extraction.starts import ExtractionOptions, Work
from etd_tf.extraction.starts.impt import load_scores
from etd_tf.jobs.inputs import prepare_corpus
from etd_tf.jobs.options import CorpusOptions, StudentSize
from tests.helpers import tiny_checkpoint
from tests.jobs.tiny_job import write_text

SIZE = StudentSize(num_layers=2, hidden_size=9, num_heads=3, intermediate_size=7)


@pytest.fixture(scope="module")
def teacher():
    return tiny_checkpoint()


@pytest.fixture(scope="module")
def records(teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    text = write_text(folder / "text.txt")
    options = CorpusOptions((str(text),), sequence_length=16, cache_dir=folder)
    return prepare_corpus(options, teacher)


def _make(teacher, records, run_dir, seed=0, **options):
    config = SIZE.config(teacher.config)
    options = ExtractionOptions(**options)
    work = Work(teacher, config, options, seed, text=records, folder=run_dir)
    return options.start.make(work)


def _never(*_, **__):
    raise AssertionError("made again")


def test_scores_and_plan_are_made_once(teacher, records, tmp_path, monkeypatch, caplog):
    first = _make(teacher, records, tmp_path, importance_examples=10**6)
    available = records.num_examples()
    assert f"The corpus has {available} sequences" in caplog.text
    assert first.scores.num_examples == available
    assert first.seconds["scoring"] > 0
    monkeypatch.setattr("etd_tf.extraction.importance.score_units", _never)
    monkeypatch.setattr("etd_tf.extraction.planning.plan_extraction", _never)
    again = _make(teacher, records, tmp_path)
    assert again.seconds == {"scoring": 0}
    assert again.plan == first.plan
    assert again.checkpoint.fingerprint() == first.checkpoint.fingerprint()


def test_scores_of_another_run_are_reused(teacher, records, tmp_path, monkeypatch):
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    first = _make(teacher, records, tmp_path / "one", importance_examples=8)
    monkeypatch.setattr("etd_tf.extraction.importance.score_units", _never)
    again = _make(teacher, None, tmp_path / "two", scores=tmp_path / "one" / "scores.npz")
    assert again.plan == first.plan
    kept = UnitScores.load(tmp_path / "two" / "scores.npz")
    np.testing.assert_array_equal(kept.ffn, first.scores.ffn)
    with pytest.raises(
        InputError, match=r"made from another teacher than .* leave scores=\.\.\. out"
    ):
        load_scores(tmp_path / "one" / "scores.npz", tiny_checkpoint(5))
    path = tmp_path / "one" / "scores.npz"
    assert load_scores(path, teacher, metric=first.scores.metric).metric == first.scores.metric
    with pytest.raises(InputError, match="importance_metric=activation asks for others"):
        load_scores(path, teacher, metric="activation")


def test_a_run_directory_of_another_teacher_is_refused(teacher, tmp_path):
    _make(teacher, None, tmp_path, importance_metric="magnitude")
    with pytest.raises(InputError, match="made from another teacher than tiny checkpoint 5"):
        _make(tiny_checkpoint(5), None, tmp_path, importance_metric="magnitude")


def test_text_is_needed_for_scores_on_text_only(teacher, tmp_path):
    with pytest.raises(InputError, match=r"scores units on text\. Give it as corpus="):
        _make(teacher, None, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert _make(teacher, None, tmp_path, importance_metric="magnitude").scores.num_examples == 0


def test_random_units_and_random_weights_follow_the_seed(teacher, tmp_path):
    def make(name, seed, extraction):
        (tmp_path / name).mkdir()
        return _make(teacher, None, tmp_path / name, seed=seed, extraction=extraction)

    one, same, other = (make(f"r{i}", s, "rand") for i, s in enumerate((1, 1, 2)))
    assert one.plan == same.plan != other.plan
    assert ExtractionPlan.load(tmp_path / "r0" / "plan.json") == one.plan
    one, same, other = (make(f"n{i}", s, "none") for i, s in enumerate((1, 1, 2)))
    assert one.checkpoint.fingerprint() == same.checkpoint.fingerprint()
    assert one.checkpoint.fingerprint() != other.checkpoint.fingerprint()
    assert one.plan is None
    assert not (tmp_path / "n0" / "plan.json").exists()


def test_a_damaged_plan_is_named(teacher, tmp_path):
    _make(teacher, None, tmp_path, extraction="rand")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json"):
        _make(teacher, None, tmp_path, extraction="rand")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
