"""Tests of the cost forecast and its text."""

import dataclasses
import sys

import pytest

from etd_tf.extraction.starts import ExtractionOptions
from etd_tf.jobs import costs as module
from etd_tf.jobs.costs import forecast_cost, measure_gemm_rate, training_flops
from etd_tf.jobs.distill_types import DistillOptions
from etd_tf.jobs.options import CorpusOptions, StudentSize
from etd_tf.jobs.summary import describe_cost, loading_lines
from etd_tf.training import TrainerOptions
from tests.helpers import tiny_checkpoint, tiny_config

TEACHER = {"num_layers": 3, "hidden_size": 15, "num_heads": 3, "intermediate_size": 22}


def _options(tmp_path, **changes):
    return DistillOptions(
        **{
            "teacher": "t",
            "output_dir": tmp_path,
            "student": StudentSize(num_layers=1),
            "extraction": ExtractionOptions(importance_examples=10),
            "corpus": CorpusOptions(("text.txt",), sequence_length=16),
            "trainer": TrainerOptions(steps=50, batch_size=4),
            **changes,
        }
    )


def _forecast(tmp_path, monkeypatch, **changes):
    monkeypatch.setattr(module, "measure_gemm_rate", lambda: 2e9)
    teacher = tiny_checkpoint(**TEACHER)
    options = _options(tmp_path, **changes)
    return forecast_cost(options, teacher, options.student.config(teacher.config))


def _products(layers, length, hidden, inner):
    """FLOPs of a forward pass' matrix products, two a multiply-add."""
    per_layer = 4 * length * hidden**2 + 2 * length * hidden * inner + 2 * length**2 * hidden
    return 2 * layers * per_layer


def test_training_is_a_teacher_forward_and_three_student_forwards(tmp_path, monkeypatch):
    cost = _forecast(tmp_path, monkeypatch)
    teacher, student = _products(3, 16, 15, 22), _products(1, 16, 15, 22)
    assert cost.tokens == 50 * 4 * 16
    assert cost.training_flops == pytest.approx(50 * 4 * (teacher + 3 * student), rel=0.05)
    assert cost.before["scoring"] == pytest.approx(10 * 3 * teacher, rel=0.35)
    expected = (cost.training_flops + cost.before["scoring"]) / (2e9 * module.STEP_EFFICIENCY)
    assert cost.seconds == pytest.approx(expected)
    assert cost.teacher_parameters == tiny_checkpoint(**TEACHER).num_parameters()
    assert cost.student_parameters < cost.teacher_parameters


@pytest.mark.parametrize(
    "extraction",
    [
        ExtractionOptions(extraction="rand"),
        ExtractionOptions(extraction="none"),
        ExtractionOptions(importance_metric="magnitude"),
    ],
)
def test_what_is_not_scored_on_text_costs_nothing(tmp_path, monkeypatch, extraction):
    assert _forecast(tmp_path, monkeypatch, extraction=extraction).before == {}


def test_compensation_is_forecast_and_told(tmp_path, monkeypatch):
    plain = _forecast(tmp_path, monkeypatch)
    extraction = ExtractionOptions(importance_examples=10, compensate=True)
    cost = _forecast(tmp_path, monkeypatch, extraction=extraction)
    assert cost.before["scoring"] == plain.before["scoring"]
    assert list(plain.before) == ["scoring"]
    folding = cost.before["compensation"]
    assert cost.seconds == pytest.approx(
        plain.seconds + cost.before["compensation"] / (2e9 * module.STEP_EFFICIENCY)
    )
    assert "compensation" not in describe_cost(plain)
    assert f"  compensation   {folding:.3g} FLOPs (" in describe_cost(cost)


def test_memory_follows_the_local_batch(tmp_path, monkeypatch):
    whole = _forecast(tmp_path, monkeypatch)
    trainer = TrainerOptions(steps=50, batch_size=4, gradient_accumulation=4)
    parts = _forecast(tmp_path, monkeypatch, trainer=trainer)
    assert parts.memory_bytes < whole.memory_bytes
    assert parts.training_flops == whole.training_flops


def test_the_text_names_every_number(tmp_path, monkeypatch):
    cost = _forecast(tmp_path, monkeypatch)
    text = describe_cost(cost)
    assert "  teacher        3 x 15, 0.0 M parameters\n" in text
    assert f"  tokens         {cost.tokens:,}\n" in text
    assert "min at 2 GFLOP/s measured now (rough)" in text
    assert " 2.0 h at" in describe_cost(dataclasses.replace(cost, seconds=7200.0))


def test_training_counts_a_teacher_forward_and_three_student_forwards():
    teacher, student = tiny_config(), tiny_config(num_layers=1, hidden_size=6)
    expected = 10 * (_products(3, 9, 15, 22) + 3 * _products(1, 9, 6, 22))
    assert training_flops(teacher, student, sequences=10, sequence_length=9) == expected


def test_the_rate_is_measured():
    assert measure_gemm_rate() > 1e8


def test_the_printed_lines_load_a_student(tmp_path):
    from etd_tf.checkpoints import save_checkpoint

    save_checkpoint(tiny_checkpoint(), tmp_path / "student")
    *first, last = loading_lines(str(tmp_path / "student"), pooled=False)
    scope = {}
    exec("\n".join(first), scope)  # noqa: S102
    assert scope["student"].config.num_layers == 3
    outputs = eval(last, scope)  # noqa: S307
    assert tuple(outputs["sequence_output"].shape) == (1, 5, 15)  # [CLS] h i ! [SEP]


def test_the_printed_lines_rank_texts_by_a_sentence_encoder(tmp_path, capsys):
    from etd_tf.checkpoints import save_checkpoint
    from etd_tf.modeling.pooling import Pooling

    student = tiny_checkpoint().replace(pooling=Pooling(("mean",)))
    save_checkpoint(student, tmp_path / "student")
    lines = loading_lines(str(tmp_path / "student"), pooled=True)
    exec("\n".join(lines), {})  # noqa: S102
    (_, near), (_, far) = eval(capsys.readouterr().out.replace("np.float32", ""))  # noqa: S307
    question, *vectors = student.embed(["How do I open a file?", near, far], normalize=True)
    assert vectors[0] @ question > vectors[1] @ question


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
