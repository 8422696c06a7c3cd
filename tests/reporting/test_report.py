"""The report as data: what follows from the fields, and the JSON file's schema."""

import json
import sys

import pytest

from etd_tf.reporting import Check, Cost, Curve, Stage, write_report
from tests.reporting.sample import STUDENT, TEACHER, latency, sample_report

HEADLINE = {
    "fidelity_neighbours",
    "compression",
    "flops_ratio",
    "speedup",
    "held_out_loss_before",
    "held_out_loss_after",
}
TOP = {
    *("schema_version", "headline", "title", "created", "command", "sequence_length", "teacher"),
    *("student", "extraction", "loss", "latency", "curves", "cost", "machine", "data", "checks"),
    *("exports", "fidelity", "flags"),
}
MODEL = {
    *("source", "num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size"),
    *("parameters", "layer_parameters", "flops", "bytes_on_disk"),
}
LATENCY = {
    *("batch_size", "sequence_length", "repeats", "median_ms", "p95_ms"),
    "sequences_per_second",
}
COST = {
    *("scoring_flops", "training_flops", "total_flops", "scoring_seconds", "training_seconds"),
    *("total_seconds", "training_steps", "training_sequences", "tokens_per_second"),
}


@pytest.fixture
def written(tmp_path):
    write_report(tmp_path, sample_report())
    return json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def test_a_stage_before_the_first_step_is_two_numbers():
    cost = Cost(10, 2.0, 1, 1, 3.0, before=(Stage("folding", 5, 0.5),)).to_dict()
    assert (cost["folding_flops"], cost["folding_seconds"]) == (5, 0.5)
    assert (cost["total_flops"], cost["total_seconds"]) == (15, 2.5)
    assert cost["scoring_flops"] == 0


def test_json_schema(written):
    assert set(written) == TOP
    assert written["schema_version"] == 1
    assert set(written["headline"]) == HEADLINE
    assert set(written["teacher"]) == set(written["student"]) == MODEL
    assert set(written["cost"]) == COST
    assert set(written["latency"][0]) == {"teacher", "student", "speedup"}
    assert set(written["latency"][0]["teacher"]) == LATENCY
    assert set(written["curves"][0]) == {"name", "split", "steps", "values"}
    assert set(written["checks"][0]) == {"name", "value", "limit", "passed"}
    assert set(written["exports"][0]) == {
        *("format", "path", "bytes_on_disk", "max_difference", "note", "takes_text"),
    }
    assert set(written["machine"]) == {
        *("cpu", "cores", "memory_bytes", "accelerators", "platform", "versions"),
    }
    assert set(written["extraction"]) == {
        *("method", "teacher_layers", "head_mode", "scores", "scored_sequences"),
    }


def test_headline_follows_from_the_fields(written):
    report = sample_report()
    assert written["headline"]["compression"] == TEACHER.parameters / STUDENT.parameters
    assert written["headline"]["flops_ratio"] == TEACHER.flops / STUDENT.flops
    assert written["headline"]["speedup"] == pytest.approx(31.3 / 6.17)
    held_out = next(c for c in report.curves if (c.split, c.name) == ("validation", "loss"))
    assert written["headline"]["held_out_loss_before"] == held_out.values[0]
    assert written["headline"]["held_out_loss_after"] == held_out.values[-1]
    cost = written["cost"]
    for unit in ("flops", "seconds"):
        stages = ("scoring", "training")
        assert cost[f"total_{unit}"] == sum(cost[f"{stage}_{unit}"] for stage in stages)
    assert written["checks"][0]["passed"] is True


def test_missing_parts_are_null():
    report = sample_report(latency=(), curves=(Curve("loss", "train", (1,), (2.0,)),))
    headline = report.to_dict()["headline"]
    assert headline["speedup"] is None
    assert headline["held_out_loss_before"] is None
    assert report.held_out is None


def test_numbers_that_json_lacks_become_null(tmp_path):
    curve = Curve("loss", "validation", (0, 1), (float("inf"), float("nan")))
    report = sample_report(curves=(curve,), checks=(Check("c", float("nan"), 1.0),))
    write_report(tmp_path, report)

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    values = json.loads(text, parse_constant=refuse)
    assert values["curves"][0]["values"] == [None, None]
    assert values["checks"][0] == {"name": "c", "value": None, "limit": 1.0, "passed": False}


def test_writing_leaves_two_files_and_replaces_older_ones(tmp_path):
    write_report(tmp_path, sample_report(title="first"))
    write_report(tmp_path, sample_report(title="second", latency=(latency(1, 4.0, 2.0),)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert json.loads((tmp_path / "report.json").read_text())["title"] == "second"
    assert "<title>second</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
