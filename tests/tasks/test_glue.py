"""The task table against GLUE's own conventions."""

import sys

import pytest

from etd_tf.tasks.glue import GLUE_TASKS

SUBMISSIONS = {  # what gluebenchmark.com accepts
    *("CoLA", "SST-2", "MRPC", "STS-B", "MNLI-m", "MNLI-mm"),
    *("QNLI", "QQP", "RTE", "WNLI", "AX"),
}
METRICS = {
    "cola": ("matthews",),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("spearman", "pearson"),
    "qqp": ("f1", "accuracy"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
    "ax": ("matthews",),
}


def test_all_tasks_with_their_official_metrics():
    assert set(GLUE_TASKS) == set(METRICS)
    for name, metrics in METRICS.items():
        assert set(metrics) <= set(GLUE_TASKS[name].metrics)
        assert GLUE_TASKS[name].metrics[0] == metrics[0]


def test_submission_names_are_the_servers():
    found = [file.submission for task in GLUE_TASKS.values() for file in task.files.values()]
    assert {name for name in found if name} == SUBMISSIONS


def test_label_spellings_of_the_files():
    spellings = {name: list(task.spellings) for name, task in GLUE_TASKS.items()}
    for name in ("cola", "sst2", "mrpc", "qqp", "wnli"):
        assert spellings[name] == ["0", "1"]
    for name in ("qnli", "rte"):
        assert spellings[name] == ["entailment", "not_entailment"]
    assert GLUE_TASKS["wnli"].label_names == ("not_entailment", "entailment")
    assert spellings["mnli"] == spellings["ax"]


def test_splits():
    assert GLUE_TASKS["mnli"].evaluation_splits == ("dev_matched", "dev_mismatched")
    assert GLUE_TASKS["mnli"].test_splits == ("test_matched", "test_mismatched")
    assert GLUE_TASKS["ax"].evaluation_splits == ()
    assert GLUE_TASKS["stsb"].is_regression
    assert not GLUE_TASKS["rte"].is_regression


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
