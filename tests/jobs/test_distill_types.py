"""Tests of the main job's settings."""

import dataclasses
import importlib.util
import math
import sys
import types

import pytest

from etd_tf.errors import InputError
from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import CorpusOptions, StudentSize
from etd_tf.losses import LogitsDistillation, MiniLMv2
from etd_tf.modeling.pooling import Pooling
from etd_tf.training import TrainerOptions
from tests.helpers import tiny_config


def _options(tmp_path, **changes):
    return DistillOptions(
        **{
            "teacher": "t",
            "output_dir": tmp_path,
            "student": StudentSize(),
            "extraction": ExtractionOptions(),
            "corpus": CorpusOptions(("text.txt",)),
            "trainer": TrainerOptions(steps=1),
            **changes,
        }
    )


def _records(predictions):
    return types.SimpleNamespace(
        source="R", layout=types.SimpleNamespace(num_predictions=predictions)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 1.0}, r"dropout=1\.0: expected a finite number >= 0\.0 and < 1\.0"),
        ({"dropout": -0.1}, r"dropout=-0\.1: expected a finite number >= 0"),
        (
            {"student_loss_weight": math.nan},
            r"student_loss_weight=nan: expected a finite number >= 0\.0 and < 1",
        ),
        ({"masking_rate": 1.01}, r"masking_rate=1\.01: .* >= 0\.0 and <= 1\.0"),
        ({"loss": "mlm", "masking_rate": 0.0}, r"need masked input, .* leave it out"),
        ({"student_loss_weight": 0.1, "masking_rate": 0.0}, r"need masked input"),
    ],
)
def test_shares_must_be_shares(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        _options(tmp_path, **changes)


@pytest.mark.parametrize("flag", ["scores", "teacher", "corpus", "validation_corpus", "tokenizer"])
def test_overwriting_does_not_delete_its_own_inputs(tmp_path, flag):
    out = tmp_path / "out"
    (out / "student").mkdir(parents=True)
    inside = out / "student" / "x"
    inside.touch()
    changes = {
        "scores": {"extraction": ExtractionOptions(scores=inside)},
        "teacher": {"teacher": str(out / "student")},
        "corpus": {"corpus": CorpusOptions(("text.txt", f"{tmp_path}/**/x"))},
        "validation_corpus": {"corpus": CorpusOptions(("text.txt",), (str(inside),))},
        "tokenizer": {"corpus": CorpusOptions(("text.txt",), tokenizer=str(out / "student"))},
    }[flag]
    with pytest.raises(InputError, match=f"overwrite=True would delete {flag}="):
        _options(out, **changes, overwrite=True)
    _options(out, **changes)
    _options(tmp_path / "other", **changes, overwrite=True)


def test_checkpoint_prefixes_and_links_are_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bert_model.ckpt.index").touch()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(InputError, match="overwrite=True would delete teacher="):
        _options(
            tmp_path / "out", teacher=str(tmp_path / "link" / "bert_model.ckpt"), overwrite=True
        )


def test_links_to_themselves_are_left_to_their_readers(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    _options(tmp_path / "out", teacher=str(tmp_path / "loop"), overwrite=True)


def test_names_that_are_no_files_are_let_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = CorpusOptions(("stdlib:pydoc", "tfds:wikipedia/20230601.en"))
    _options(tmp_path, teacher="hf://owner/name", corpus=corpus, overwrite=True)


def test_the_cache_is_no_part_of_a_run(tmp_path):
    for folder in (tmp_path / "out", tmp_path / "out" / "cache"):
        with pytest.raises(InputError, match="which is for what one run makes"):
            _options(tmp_path / "out", corpus=CorpusOptions(("text.txt",), cache_dir=folder))
    _options(tmp_path / "out", corpus=CorpusOptions(("text.txt",), cache_dir=tmp_path))


@pytest.mark.parametrize(
    ("changes", "predictions", "expected"),
    [
        ({}, 0, 0.0),
        ({"loss": "mlm"}, 0, 0.15),
        ({"student_loss_weight": 0.5}, 0, 0.15),
        ({"loss": "mlm", "masking_rate": 0.4}, 0, 0.4),
        ({"masking_rate": 0.4}, 0, 0.4),
        ({"loss": "mlm"}, 20, 0.0),  # the records' own masked tokens are used
        ({}, 20, 0.0),
    ],
)
def test_the_masking_rate_follows_loss_and_records(tmp_path, changes, predictions, expected):
    assert _options(tmp_path, **changes).resolve_masking(_records(predictions)) == expected


def test_masking_twice_or_not_at_all_is_refused(tmp_path):
    options = _options(tmp_path, masking_rate=0.15)
    with pytest.raises(InputError, match="R holds masked tokens already; leave masking_rate out"):
        options.resolve_masking(_records(20))
    (tmp_path / "x.tfrecord").touch()
    records = CorpusOptions((str(tmp_path / "x.tfrecord"),))
    options = _options(tmp_path, loss="mlm", masking_rate=0.0, corpus=records)
    assert options.resolve_masking(_records(20)) == 0.0
    with pytest.raises(InputError, match=r"R holds none and masking_rate is 0; leave it out"):
        options.resolve_masking(_records(0))


def test_unknown_formats_are_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match="exports=gguf is unknown; choose from saved_model"):
        _options(tmp_path, exports=("saved_model", "gguf"))


def test_a_format_whose_package_is_missing_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="need the package onnx, which is not installed"):
        _options(tmp_path, exports=("onnx",))


def test_losses_get_their_options(tmp_path):
    (loss,) = _options(tmp_path, loss="minilmv2", loss_options={"relation_heads": 6}).make_losses()
    assert isinstance(loss, MiniLMv2)
    assert loss.relation_heads == 6
    (loss,) = _options(tmp_path, loss="mlm", loss_options={"temperature": 3.0}).make_losses()
    assert isinstance(loss, LogitsDistillation)
    assert loss.temperature == 3.0


def test_losses_are_summed(tmp_path):
    given = {"minilmv2": {"relation_heads": 6}, "mlm": {"temperature": 3.0}}
    options = _options(tmp_path, loss=("minilmv2", "mlm"), loss_options=given)
    v2, logits = options.make_losses()
    assert (v2.relation_heads, logits.temperature) == (6, 3.0)
    assert options.needs_masked_lm
    assert list(options.weights) == [1.0, 1.0]
    assert options.loss_text == "minilmv2+mlm"
    weighted = dataclasses.replace(options, loss_weights=(1.0, 0.25))
    assert weighted.loss_text == "minilmv2+mlm@0.25"
    assert _options(tmp_path).loss_text == "minilm"


def test_students_of_sentence_encoders_go_without_dropout(tmp_path):
    plain, pooled = (types.SimpleNamespace(pooling=one) for one in (None, Pooling()))
    assert _options(tmp_path).dropout_rate(plain) is None
    assert _options(tmp_path).dropout_rate(pooled) == 0.0
    for teacher in (plain, pooled):
        assert _options(tmp_path, dropout=0.2).dropout_rate(teacher) == 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": ()}, "loss=: expected at least one value, none twice; choose from tinybert"),
        ({"loss": ("minilm", "kd")}, "loss=kd is unknown; choose from tinybert, minilm"),
        ({"loss": ("minilm", "minilm")}, "loss=minilm,minilm: expected at least one .* none twice"),
        ({"loss_weights": (0.0,)}, "loss_weights=0.0: expected finite numbers > 0"),
        (
            {"loss": ("minilm", "mlm"), "loss_weights": (1.0, 1.0, 2.0)},
            "3 numbers, but loss=minilm,mlm are 2. Give one weight for each loss, or none",
        ),
    ],
)
def test_sums_of_losses_must_be_clear(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        _options(tmp_path, **changes)


def test_sizes_default_to_the_teachers():
    teacher = tiny_config()
    assert StudentSize().config(teacher) == teacher
    student = StudentSize(num_layers=1, hidden_size=6, num_heads=2, intermediate_size=4).config(
        teacher
    )
    sizes = (student.num_layers, student.hidden_size, student.num_heads, student.intermediate_size)
    assert sizes == (1, 6, 2, 4)
    assert student.vocab_size == teacher.vocab_size


def test_scoring_text_is_needed_for_some_extractions_only(tmp_path):
    (tmp_path / "scores.npz").touch()
    cases = {
        True: [{}, {"importance_metric": "activation"}],
        False: [
            {"extraction": "rand"},
            {"extraction": "none"},
            {"importance_metric": "magnitude"},
            {"scores": tmp_path / "scores.npz"},
        ],
    }
    for expected, settings in cases.items():
        for changes in settings:
            options = ExtractionOptions(**changes)
            assert options.start.reads_text(options) is expected, changes


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
