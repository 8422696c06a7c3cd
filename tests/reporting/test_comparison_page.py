"""The comparison's page: self-contained, escaped, every number from the runs."""

import dataclasses
import json
import re
import sys

import pytest

from etd_tf.reporting.comparison import TaskScores
from etd_tf.reporting.comparison_page import (
    render_comparison,
    saved_text,
    spread_text,
    write_comparison,
)
from tests.helpers import REPOSITORY
from tests.reporting.test_comparison import RUNS, sample_comparison
from tests.reporting.test_comparison_runs import arm_run
from tests.reporting.test_page import Page


class ComparisonPage(Page):
    _VOID = (*Page._VOID, "polygon")


def source_of(*args, **fields) -> str:
    return render_comparison(sample_comparison(*args, **fields).to_dict())


def page_of(*args, **fields) -> ComparisonPage:
    return ComparisonPage(source_of(*args, **fields))


def test_markup_is_balanced_and_self_contained():
    page = page_of()
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert all("http" not in (value or "") for _, value in page.attributes)


def test_the_headline_is_the_compute_saved():
    text = page_of().text
    first = text[: text.index("Compute saved against random initialisation")]
    assert "15 % (\u221210 to 40) saved by ETD-Impt minilm, 2x9x3x7, 2 seeds" in first
    assert "6 of 6 runs finished" in first


def test_tables_hold_losses_and_steps():
    text = page_of().text
    assert "impt 2 2.100 0.6000 (0.5000 to 0.7000) 15 steps" in text
    assert "rand 2 4.000 1.200 not reached" in text
    assert "not reached by 1 of 2" in text


def test_neighbours_are_a_column_where_they_are_known():
    assert "Neighbours found" not in page_of().text
    known = [dataclasses.replace(run, neighbours=0.5 + run.seed / 10) for run in RUNS[:4]]
    text = page_of((*known, *RUNS[4:])).text
    assert "Compute saved Neighbours found" in text
    assert "0.550 (0.500 to 0.600)" in text


def test_a_partial_comparison_says_so():
    assert "2 of 6 runs so far" in page_of(RUNS[:2], planned=6).text
    assert "0 of 6 runs so far" in page_of((), planned=6).text
    assert "no baseline" in page_of(RUNS[2:3]).text


def test_downstream_scores_stand_beside_the_teachers():
    scores = TaskScores("spearman", ((0, 0.25), (20, 0.5)))
    runs = tuple(dataclasses.replace(run, downstream={"sts-probe": scores}) for run in RUNS)
    text = page_of(runs, teacher_scores={"sts-probe": 0.875}).text
    assert "sts-probe, spearman 0 % 100 % Saved none 0.250 0.500" in text
    assert "teacher 0.875" in text


def test_everything_is_escaped():
    evil = "<script>alert('x')</script>&"
    source = source_of(
        tuple(dataclasses.replace(run, loss=evil, student=evil) for run in RUNS),
        title=evil,
        command=evil,
        created=evil,
        labels={"none": evil, "impt": evil, "rand": evil},
        data={evil: evil},
        flags={evil: evil},
        failures=(evil,),
        planned=9,
    )
    assert "<script" not in source
    assert ComparisonPage(source).open == []
    assert evil in ComparisonPage(source).text


def test_charts_split_the_ablations():
    arms = ("none", "rand", "impt", "impt-ffn", "impt-heads", "impt-magnitude", "depth")
    source = source_of(tuple(arm_run(arm, [3, 2, 1]) for arm in arms))
    titles = re.findall(r'aria-label="([^:"]+): held-out loss', source)
    assert titles == ["Initialisations", "Importance in one kind of unit", "Importance metrics"]
    few = source_of()
    assert few.count("<svg") == 1
    assert "polygon" in few  # the spread over seeds
    assert "dashed" in few  # the level to reach


@pytest.mark.parametrize(
    ("by_seed", "text"),
    [
        ({0: 0.7}, "70\u202f%"),
        ({0: 0.7, 1: 0.6}, "65\u202f% (60 to 70)"),
        ({0: None}, "not reached"),
        ({0: 0.5, 1: None, 2: None}, "not reached by 2 of 3"),
        ({}, "no baseline"),
    ],
)
def test_savings_in_words(by_seed, text):
    values = [value for value in by_seed.values() if value is not None]
    known = values and len(values) == len(by_seed)
    saving = {
        "compute_saved": sum(values) / len(values) if known else None,
        "compute_saved_range": [min(values), max(values)] if known else None,
        "compute_saved_by_seed": by_seed,
    }
    assert saved_text(saving, "impt") == text
    none = {"compute_saved": None, "compute_saved_range": None, "compute_saved_by_seed": {}}
    assert saved_text(none, "none") == ""


def test_spreads_in_words():
    assert spread_text(0.5, 0.5, 0.5) == "0.5000"
    assert spread_text(0.5, 0.25, 0.75, digits=2) == "0.50 (0.25 to 0.75)"


def test_files_are_standard_json_and_html(tmp_path):
    runs = (*RUNS, arm_run("impt", [float("nan"), 1.0, 0.5], seed=2))
    write_comparison(tmp_path, sample_comparison(runs))
    values = json.loads((tmp_path / "compare.json").read_text(), parse_constant=pytest.fail)
    assert values["cells"][1]["curve"][0]["mean"] is None
    assert (tmp_path / "compare.html").read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.html", "compare.json"]


def test_the_page_follows_from_the_stored_json(tmp_path):
    scores = TaskScores("spearman", ((0, 0.25), (20, 0.5)))
    runs = tuple(dataclasses.replace(run, downstream={"sts-probe": scores}) for run in RUNS)
    lost = arm_run("impt", [float("nan"), 1.0, float("nan")], seed=2)
    write_comparison(tmp_path, sample_comparison((*runs, lost), planned=9, failures=("one",)))
    values = json.loads((tmp_path / "compare.json").read_text())
    assert render_comparison(values) == (tmp_path / "compare.html").read_text()


@pytest.mark.parametrize("name", ["study-main", "compensate-600", "ablation-600-seed1"])
def test_pages_of_stored_comparisons_can_be_made(name):
    values = json.loads((REPOSITORY / "benchmarks" / "results" / f"{name}.json").read_text())
    page = ComparisonPage(render_comparison(values))
    assert page.open == []
    assert f"{values['runs_finished']} of {values['runs_planned']} runs finished" in page.text


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
