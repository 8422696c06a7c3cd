"""The results file: written after every training, continued, protected."""

import json
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation.run_record import FINAL, SELECTION, Cell, RunRecord

SETTINGS = {"task": "glue/sst2", "seeds": (0, 1)}


def cell(phase=FINAL, rate=1e-4, seed=0, loss=0.5):
    return Cell(phase, rate, seed, loss, 1.5, {"dev": {"accuracy": 0.75}})


def test_a_record_continues_where_it_stopped(tmp_path):
    record = RunRecord.open(tmp_path / "out", SETTINGS, overwrite=False)
    record.add(cell(SELECTION))
    record.add(cell(seed=1))
    again = RunRecord.open(tmp_path / "out", SETTINGS, overwrite=False)
    assert again.cells == record.cells
    assert again.find(FINAL, 1e-4, 1) == cell(seed=1)
    assert again.find(FINAL, 1e-4, 0) is None
    values = json.loads((tmp_path / "out" / "results.json").read_text())
    assert values["finished"] is False


def test_finished_and_foreign_runs_are_protected(tmp_path):
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=False)
    record.add(cell())
    other = {**SETTINGS, "epochs": 5, "seeds": (0,)}
    with pytest.raises(InputError, match=r"with another epochs, seeds. Repeat its settings"):
        RunRecord.open(tmp_path, other, overwrite=False)
    record.finish({"learning_rate": 1e-4})
    with pytest.raises(InputError, match=r"finished run.*--overwrite"):
        RunRecord.open(tmp_path, SETTINGS, overwrite=False)
    assert RunRecord.open(tmp_path, SETTINGS, overwrite=True).cells == []
    assert json.loads((tmp_path / "results.json").read_text())["learning_rate"] == 1e-4


def test_a_run_without_trainings_gives_way(tmp_path):
    RunRecord.open(tmp_path, SETTINGS, overwrite=False)
    assert json.loads((tmp_path / "results.json").read_text())["finished"] is False
    other = {"task": "glue/rte"}
    RunRecord.open(tmp_path, other, overwrite=False).add(cell())
    with pytest.raises(InputError, match="with another"):
        RunRecord.open(tmp_path, SETTINGS, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["model", "predictions", "saved_model"])
def test_what_no_evaluation_made_is_not_replaced(tmp_path, name, overwrite):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"holds {name} but no results.json"):
        RunRecord.open(tmp_path, SETTINGS, overwrite=overwrite, outputs=("x", name))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    RunRecord.open(tmp_path, SETTINGS, overwrite=overwrite, outputs=("x",))


def test_damaged_files_and_unwritable_places_are_named(tmp_path):
    (tmp_path / "results.json").write_text(
        json.dumps({"settings": {"task": "x"}, "cells": [{"phase": "final"}]})
    )
    with pytest.raises(InputError, match="is damaged"):
        RunRecord.open(tmp_path, {"task": "x"}, overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write to"):
        RunRecord.open(tmp_path / "file" / "out", SETTINGS, overwrite=False)


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = RunRecord.open(None, SETTINGS, overwrite=False)
    record.add(cell())
    record.finish({})
    assert record.find(FINAL, 1e-4, 0) == cell()
    assert not list(tmp_path.iterdir())


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
