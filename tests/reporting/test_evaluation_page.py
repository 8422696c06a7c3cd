"""The page of an evaluation, made of the content of `results.json` alone."""

import json
import re
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.reporting.evaluation_page import evaluation_page, write_evaluation_page

DEV = {
    "classes": {
        "<cat>": {"precision": 0.5, "recall": 0.25, "f1": 0.3333, "support": 4},
        "dog": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 12345},
    },
    "labels": ["<cat>", "dog"],
    "confusion": [[1, 3], [0, 12345]],
}
CELLS = [
    {
        "phase": "selection",
        "learning_rate": 1e-4,
        "seed": 0,
        "training_loss": None,
        "seconds": 3.0,
        "scores": {},
    },
    {
        "phase": "final",
        "learning_rate": 3e-4,
        "seed": 0,
        "training_loss": 0.125,
        "seconds": 75.0,
        "scores": {"dev": {"accuracy": 0.75}},
        "curves": {"training": [0.9, 0.5, 0.1]},
    },
]
VALUES = {
    "summary": {"dev": {"macro_f1": {"mean": 0.75, "std": 0.0125, "values": [0.7375, 0.7625]}}},
    "baseline": {"dev": {"macro_f1": 0.4321}},
    "settings": {"task": "classify", "model": "models/small", "source": "a.csv", "epochs": 3},
    "cells": CELLS,
    "details": {"dev": DEV},
    "outputs": ["report.html"],
}


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))


def test_everything_that_was_found_is_shown():
    page = evaluation_page(VALUES)
    text = text_of(page)
    assert "classify: small" in text
    assert "dev macro f1 0.7500 0.0125 0.4321" in text
    assert "0.4321 without looking at the example" in text
    assert "&lt;cat&gt; 0.5000 0.2500 0.3333 4" in text
    assert "<cat>" not in page
    assert "Confusion, dev" in text
    assert "&lt;cat&gt; 1 3 dog 0 12,345" in text
    assert 'style="--share: 0.75">3</td>' in page
    assert "nine tenths, rate 0.0001, seed 0 diverged" in text
    assert "all rows, rate 0.0003, seed 0 0.1250 dev accuracy 0.7500 1 min 15" in text
    assert page.count("<polyline") == 1
    assert "epochs 3" in text
    assert "Worst examples" not in text
    assert "teacher" not in text


def test_teacher_and_examples_stand_where_they_are_known():
    example = {"texts": ["a <b>", "c"], "label": "cat", "predicted": "dog", "loss": 2.5}
    details = {"dev": {**DEV, "examples": [example]}}
    found = {"teacher": {"dev": {"macro_f1": 0.9}}, "kept": {"dev": 0.8333}}
    text = text_of(evaluation_page({**VALUES, **found, "details": details}))
    assert "0.7500 0.0125 0.4321 0.9000" in text
    assert "83.3% of the teacher" in text
    assert "a &lt;b&gt; | c cat dog 2.5000" in text


def test_of_many_classes_the_most_frequent_confusions_are_shown():
    names = [f"c{number}" for number in range(30)]
    matrix = [[{0: 99, 1: r + 1}.get(abs(r - c), 0) for c in range(30)] for r in range(30)]
    details = {"dev": {"classes": {}, "labels": names, "confusion": matrix}}
    text = text_of(evaluation_page({**VALUES, "details": details}))
    assert "Most often confused, dev right predicted times c29 c28 30 c28 c27 29 c28 c29 29" in text
    assert "c19 c20 20" not in text


def test_a_model_that_was_only_scored_has_a_page():
    values = {
        "scores": {"dev": {"spearman": 0.5}, "test": {"spearman": 0.25}},
        "baseline": {"dev": {"spearman": 0.0}},
        "settings": {"task": "regress", "models": ["m"], "data_dir": "d.csv"},
        "cells": [],
    }
    text = text_of(evaluation_page(values))
    assert "dev spearman 0.5000 0.0000" in text
    assert "test spearman 0.2500" in text
    assert "Trainings" not in text


def test_it_is_written_where_the_record_says_so(tmp_path):
    results = tmp_path / "results.json"
    results.write_text(json.dumps({**VALUES, "outputs": []}))
    write_evaluation_page(tmp_path)
    assert not (tmp_path / "report.html").exists()
    results.write_text(json.dumps(VALUES))
    write_evaluation_page(tmp_path)
    assert (tmp_path / "report.html").read_text("utf-8") == evaluation_page(VALUES)
    results.unlink()
    with pytest.raises(InputError, match=r"results.json"):
        write_evaluation_page(tmp_path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
