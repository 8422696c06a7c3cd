"""Tests of the extraction job."""

import dataclasses
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.extraction import ExtractionPlan, UnitScores, extract
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.extract import run_extraction
from etd_tf.jobs.options import CorpusOptions, ExtractOptions, StudentSize
from etd_tf.jobs.summary import describe_extraction
from tests.helpers import contents, tiny_checkpoint

FILES = ["flags.txt", "identity.json", "plan.json", "student"]
_SIZE = StudentSize(num_layers=2, hidden_size=9, intermediate_size=4)


@pytest.fixture
def teacher(tmp_path):
    save_checkpoint(tiny_checkpoint(), tmp_path / "teacher")
    return str(tmp_path / "teacher")


def _options(teacher, tmp_path, **changes):
    extraction = changes.pop("extraction", ExtractionOptions(extraction="rand"))
    settings = {"output_dir": tmp_path / "out", "settings": {"student_layers": "2"}, "seed": 3}
    return ExtractOptions(
        **{"teacher": teacher, "student": _SIZE, "extraction": extraction, **settings, **changes}
    )


def test_random_extraction_writes_student_plan_and_flags(teacher, tmp_path):
    result = run_extraction(_options(teacher, tmp_path))
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == FILES
    mark, *flags = (out / "flags.txt").read_text().splitlines()
    assert mark.startswith("# Flags of one run of etd_extract; the same flags continue it")
    assert flags == ["--student_layers=2"]
    plan = ExtractionPlan.load(out / "plan.json")
    assert (plan.extraction, plan.seed) == ("rand", 3)
    saved = load_checkpoint(out / "student").parameters()
    for name, value in extract(load_checkpoint(teacher), plan).parameters().items():
        np.testing.assert_array_equal(saved[name], value)
    text = describe_extraction(result)
    assert "layers     2, 3 of 3" in text
    assert f"load_checkpoint('{out}/student')" in text


def test_overwriting_does_not_delete_its_own_inputs(teacher, tmp_path):
    run_extraction(_options(teacher, tmp_path))
    student = str(tmp_path / "out" / "student")
    before = contents(tmp_path / "out" / "student")
    for changes in ({"teacher": student}, {"tokenizer": student}):
        options = {"teacher": teacher, **changes}
        with pytest.raises(InputError, match=f"overwrite=True would delete {next(iter(changes))}="):
            _options(tmp_path=tmp_path, overwrite=True, **options)
    corpus = CorpusOptions(("stdlib:pydoc",), cache_dir=tmp_path / "out" / "cache")
    with pytest.raises(InputError, match="which is for what one run makes"):
        _options(teacher, tmp_path, corpus=corpus)
    assert contents(tmp_path / "out" / "student") == before


def test_scoring_on_text_and_reusing_the_scores(teacher, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"the cat sat on the mat and ran {i}." * 3 for i in range(40)))
    corpus = CorpusOptions((str(text),), sequence_length=16, cache_dir=tmp_path / "cache")
    options = _options(
        teacher, tmp_path, corpus=corpus, extraction=ExtractionOptions(importance_examples=8)
    )
    first = run_extraction(options)
    scores = UnitScores.load(tmp_path / "out" / "scores.npz")
    assert (scores.num_examples, scores.loss, scores.seed) == (8, "reconstruction", 3)
    assert "scores     taylor, 8 examples" in describe_extraction(first)

    reuse = ExtractionOptions(scores=tmp_path / "out" / "scores.npz")
    again = dataclasses.replace(options, output_dir=tmp_path / "two", corpus=None, extraction=reuse)
    second = run_extraction(again)
    assert second.initial.plan == first.initial.plan
    assert second.initial.checkpoint.fingerprint() == first.initial.checkpoint.fingerprint()


def test_compensation_reads_text_and_changes_readers_alone(teacher, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"the dog ran on and on, said {i} cats." * 3 for i in range(40)))
    corpus = CorpusOptions((str(text),), sequence_length=16, cache_dir=tmp_path / "cache")
    folding = ExtractionOptions("rand", compensate=True, importance_examples=16)
    options = _options(teacher, tmp_path, corpus=corpus, extraction=folding)
    result = run_extraction(options)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "timing.json"])
    saved = load_checkpoint(out / "student")
    assert saved.fingerprint() == result.initial.checkpoint.fingerprint()
    plain = extract(load_checkpoint(teacher), ExtractionPlan.load(out / "plan.json")).parameters()
    for name, value in saved.parameters().items():
        if "embeddings" in name or "layer_norm" in name or "pooler" in name:
            np.testing.assert_array_equal(value, plain[name])
    with pytest.raises(InputError, match="all without compensate=True"):
        run_extraction(dataclasses.replace(options, corpus=None, overwrite=True))
    with pytest.raises(InputError, match="has no effect on extraction=none"):
        ExtractionOptions("none", compensate=True)


def test_weight_magnitude_and_no_extraction_need_no_text(teacher, tmp_path):
    by_weight = ExtractionOptions(importance_metric="magnitude")
    result = run_extraction(_options(teacher, tmp_path, extraction=by_weight))
    assert result.initial.plan.extraction == "impt"
    none = _options(
        teacher, tmp_path, extraction=ExtractionOptions(extraction="none"), overwrite=True
    )
    assert run_extraction(none).initial.plan is None
    assert not (tmp_path / "out" / "plan.json").exists()


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"extraction": ExtractionOptions()}, "Give it as corpus="),
        ({"teacher": "no/such/directory"}, "no/such/directory"),
        ({"student": StudentSize(num_layers=4)}, "num_layers=3 or less"),
        ({"student": StudentSize(hidden_size=10)}, "hidden_size=10 is not a multiple"),
        ({"extraction": ExtractionOptions("rand", "heads")}, "head_mode=neurons"),
    ],
)
def test_refusals_name_the_fix_and_leave_nothing(teacher, tmp_path, changes, fix):
    options = dataclasses.replace(_options(teacher, tmp_path), **changes)
    with pytest.raises(InputError, match=fix):
        run_extraction(options)
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_overwriting_replaces_an_extraction_and_nothing_else(teacher, tmp_path):
    options = _options(teacher, tmp_path)
    run_extraction(options)
    with pytest.raises(InputError, match="pass overwrite=True to replace it"):
        run_extraction(options)
    run_extraction(dataclasses.replace(options, overwrite=True, seed=4))
    assert ExtractionPlan.load(tmp_path / "out" / "plan.json").seed == 4
    (tmp_path / "out" / "notes.txt").write_text("keep me")
    run_extraction(dataclasses.replace(options, overwrite=True, seed=5))
    assert (tmp_path / "out" / "notes.txt").read_text() == "keep me"
    (tmp_path / "out" / "flags.txt").unlink()
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(InputError, match=r"no run of etd_extract made \(identity.json, notes.txt"):
        run_extraction(dataclasses.replace(options, overwrite=True))
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_an_extraction_of_an_earlier_version_is_finished(teacher, tmp_path):
    """Its flags had no first line that says whose they are, and it had no identity."""
    options = _options(teacher, tmp_path)
    run_extraction(options)
    out = tmp_path / "out"
    (out / "identity.json").unlink()
    (out / "flags.txt").write_text("--student_layers=2\n")
    with pytest.raises(InputError, match="holds a finished run"):
        run_extraction(options)
    (out / "notes.txt").write_text("keep me")
    with pytest.raises(InputError, match="that no run of etd_extract made"):
        run_extraction(dataclasses.replace(options, overwrite=True))
    (out / "notes.txt").unlink()
    run_extraction(dataclasses.replace(options, overwrite=True, seed=4))
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_an_interrupted_extraction_goes_on_with_its_scores(teacher, tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"the cat sat on the mat and ran {i}." * 3 for i in range(40)))
    corpus = CorpusOptions((str(text),), sequence_length=16, cache_dir=tmp_path / "cache")
    scoring = ExtractionOptions(importance_examples=8)
    options = _options(teacher, tmp_path, corpus=corpus, extraction=scoring)
    with monkeypatch.context() as patch:
        patch.setattr("etd_tf.jobs.extract.save_checkpoint", lambda *_, **__: sys.exit("killed"))
        with pytest.raises(SystemExit):
            run_extraction(options)
    with pytest.raises(InputError, match=r"an unfinished run of etd_extract with other settings"):
        run_extraction(dataclasses.replace(options, settings={"student_layers": "3"}))
    whole = run_extraction(dataclasses.replace(options, output_dir=tmp_path / "whole"))
    monkeypatch.setattr(
        "etd_tf.extraction.importance.score_units", lambda *_, **__: pytest.fail("again")
    )
    continued = run_extraction(options)
    assert continued.initial.seconds["scoring"] > 0
    student = load_checkpoint(tmp_path / "out" / "student")
    assert student.fingerprint() == whole.initial.checkpoint.fingerprint()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
