"""Tests of summaries over seeds and of the content of compare.json."""

import dataclasses
import json
import sys

import pytest

from etd_tf.reporting.comparison import ArmRun, Comparison, TaskScores, make_cells
from etd_tf.storage.json_files import standard_json
from tests.reporting.sample import sample_report
from tests.reporting.test_comparison_runs import arm_run

RUNS = (
    arm_run("none", [5.0, 2.0, 1.0], seed=0),
    arm_run("none", [5.2, 2.2, 1.4], seed=1),
    arm_run("impt", [2.0, 0.9, 0.5], seed=1, scoring=14),
    arm_run("impt", [2.2, 1.5, 0.7], seed=0, scoring=14),
    arm_run("rand", [4.0, 1.3, 1.2], seed=0),
    arm_run("rand", [4.0, 1.3, 1.2], seed=1),
)


def sample_comparison(runs: tuple[ArmRun, ...] = RUNS, **fields) -> Comparison:
    report = sample_report()
    values = {
        "title": "teacher: arms side by side",
        "created": "2026-01-01T00:00:00+00:00",
        "command": "etd_compare --steps=20",
        "teacher": report.teacher,
        "labels": {"none": "random initialisation", "impt": "ETD-Impt", "rand": "ETD-Rand"},
        "runs": runs,
        "planned": len(runs),
        "machine": report.machine,
        "data": {"corpus": "text.txt"},
        "flags": {"steps": "20"},
        **fields,
    }
    return Comparison(**values)


def test_seeds_are_paired_and_averaged():
    none, impt, rand = make_cells(RUNS)
    assert impt["seeds"] == [0, 1]
    # seed 0 reaches 1.0 after 20 of 20 steps, seed 1 reaches 1.4 after 10; scoring is 2 steps
    assert impt["compute_saved_by_seed"] == pytest.approx({"0": -0.1, "1": 0.4})
    assert impt["compute_saved"] == pytest.approx(0.15)
    assert impt["compute_saved_range"] == pytest.approx([-0.1, 0.4])
    assert none["compute_saved_by_seed"] == {}
    assert none["compute_saved"] is None
    assert impt["final_loss"] == pytest.approx(0.6)
    assert [point["mean"] for point in impt["curve"]] == pytest.approx([2.1, 1.2, 0.6])
    assert [point["flops"] for point in impt["curve"]] == [14, 14 + 70, 14 + 140]
    assert rand["compute_saved_by_seed"]["0"] is None


def test_neighbours_are_averaged_where_all_seeds_know_them():
    known = [dataclasses.replace(run, neighbours=0.5 + run.seed / 10) for run in RUNS]
    none, impt, _ = make_cells(known)
    assert impt["neighbours"] == pytest.approx(0.55)
    assert impt["neighbours_range"] == pytest.approx([0.5, 0.6])
    assert none["neighbours"] == pytest.approx(0.55)
    none, impt, rand = make_cells([*known[:3], *RUNS[3:]])
    assert "neighbours" in none
    assert "neighbours" not in impt
    assert "neighbours" not in rand


def test_one_seed_that_fails_makes_the_mean_unknown():
    rand = make_cells(RUNS)[2]
    assert rand["compute_saved_by_seed"] == pytest.approx({"0": None, "1": 0.5})
    assert rand["compute_saved"] is rand["compute_saved_range"] is None


def test_without_a_baseline_nothing_is_saved():
    (impt,) = make_cells(RUNS[2:3])
    assert impt["compute_saved"] is None
    assert impt["compute_saved_by_seed"] == {}


def test_a_baseline_counts_in_its_own_cell_only():
    other = arm_run("impt", [0.1, 0.1, 0.1], seed=0, student="1x9x3x7")
    assert make_cells((*RUNS, other))[-1]["compute_saved_by_seed"] == {}


def test_unfinished_seeds_leave_the_common_points():
    runs = (arm_run("none", [5, 2, 1]), arm_run("none", [5, 2], seed=1))
    assert [point["step"] for point in make_cells(runs)[0]["curve"]] == [0, 10]


def test_downstream_scores():
    def scored(run, *values):
        points = tuple(zip((0, 10, 20), values, strict=True))
        fields = {**vars(run), "downstream": {"sts-probe": TaskScores("spearman", points)}}
        return ArmRun(**fields)

    runs = (scored(RUNS[0], 0.1, 0.2, 0.5), scored(RUNS[3], 0.3, 0.6, 0.7), RUNS[2])
    task = make_cells(runs)[1]["downstream"]["sts-probe"]
    assert task["metric"] == "spearman"
    assert [point["mean"] for point in task["points"]] == [0.3, 0.6, 0.7]
    assert task["by_seed"] == {str(RUNS[3].seed): {"0": 0.3, "10": 0.6, "20": 0.7}}
    assert task["compute_saved_by_seed"] == pytest.approx({"0": 1 - (14 + 70) / 140})


def test_the_json_holds_one_entry_for_each_arm_of_a_cell():
    values = json.loads(json.dumps(standard_json(sample_comparison(planned=8).to_dict())))
    assert [cell["arm"] for cell in values["cells"]] == ["none", "impt", "rand"]
    impt = values["cells"][1]
    required = {"loss", "student", "arm", "seeds", "steps", "flops", "final_loss", "compute_saved"}
    assert required <= set(impt)
    assert impt["seeds"] == [0, 1]
    assert impt["flops"] == 14 + 20 * 7
    assert impt["compute_saved"] == pytest.approx(0.15)
    assert impt["compute_saved_range"] == pytest.approx([-0.1, 0.4])
    assert impt["curve"][1] == pytest.approx(
        {"step": 10, "flops": 84, "mean": 1.2, "low": 0.9, "high": 1.5}
    )
    assert values["cells"][0]["compute_saved"] is None
    assert values["cells"][2]["compute_saved_by_seed"] == {"0": None, "1": 0.5}
    assert (values["complete"], values["runs_finished"], values["runs_planned"]) == (False, 6, 8)
    assert {"machine", "data", "flags", "teacher"} <= set(values)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
