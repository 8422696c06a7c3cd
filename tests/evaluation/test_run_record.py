"""The results file: written after every training, continued, protected."""

import json
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation.run_record import FINAL, SELECTION, Cell, RunRecord
from etd_tf.storage import workspace

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
    with pytest.raises(InputError, match=r"epochs was '' and is now 5; seeds was \[0, 1\] and"):
        RunRecord.open(tmp_path, other, overwrite=False)
    record.finish({"learning_rate": 1e-4})
    with pytest.raises(InputError, match=r"finished run.*overwrite=True"):
        RunRecord.open(tmp_path, SETTINGS, overwrite=False)
    assert RunRecord.open(tmp_path, SETTINGS, overwrite=True).cells == []
    assert json.loads((tmp_path / "results.json").read_text())["learning_rate"] == 1e-4


def test_a_run_without_trainings_gives_way(tmp_path):
    RunRecord.open(tmp_path, SETTINGS, overwrite=False)
    assert not list(tmp_path.iterdir())
    other = {"task": "glue/rte"}
    RunRecord.open(tmp_path, other, overwrite=False).add(cell())
    with pytest.raises(InputError, match="holds an unfinished run of etd_evaluate with other"):
        RunRecord.open(tmp_path, SETTINGS, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["model", "predictions", "saved_model"])
def test_what_no_evaluation_made_is_not_replaced(tmp_path, name, overwrite):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"holds {name}, of which no results.json says"):
        RunRecord.open(tmp_path, SETTINGS, overwrite=overwrite, outputs=("x", name))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    RunRecord.open(tmp_path, SETTINGS, overwrite=overwrite, outputs=("x",))


def test_a_page_of_another_run_stays(tmp_path, caplog):
    (tmp_path / "report.html").write_text("of etd_distill")
    outputs = ("model", "report.html")
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=True, outputs=outputs)
    assert "report.html is of another run and stays" in caplog.text
    record.finish({})
    assert json.loads((tmp_path / "results.json").read_text())["outputs"] == ["model"]
    (tmp_path / "report.html").unlink()
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=True, outputs=outputs)
    record.finish({})
    (tmp_path / "report.html").write_text("ours")
    RunRecord.open(tmp_path, SETTINGS, overwrite=True, outputs=outputs).add(cell())
    assert not (tmp_path / "report.html").exists()


def test_details_and_curves_are_continued(tmp_path):
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=False)
    record.details = {"dev": {"labels": ["a"]}}
    done = Cell(FINAL, 1e-4, 0, 0.5, 1.5, {}, {"training": [0.75, 0.5]})
    record.add(done)
    again = RunRecord.open(tmp_path, SETTINGS, overwrite=False)
    assert (again.details, again.cells) == (record.details, [done])
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "details": 5}))
    assert RunRecord.open(tmp_path, SETTINGS, overwrite=False).details == {}


def test_overwriting_removes_what_the_earlier_run_wrote(tmp_path):
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=False, outputs=("model", "saved_model"))
    for name in ("model", "saved_model"):
        record.output(name).mkdir()
    record.add(cell())
    record.finish({})
    other = {"task": "glue/rte"}
    record = RunRecord.open(tmp_path, other, overwrite=True, outputs=("model", "predictions"))
    assert (tmp_path / "saved_model").is_dir()  # until there are new results
    record.output("predictions").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions", "results.json"]
    record.output("model").mkdir()
    record.add(cell())
    assert (tmp_path / "model").is_dir()
    again = RunRecord.open(tmp_path, other, overwrite=False, outputs=("model", "predictions"))
    again.add(cell(seed=1))
    assert (tmp_path / "predictions").is_dir()  # of the same run, which goes on
    with pytest.raises(ValueError, match="no output 'saved_model'"):
        again.output("saved_model")
    RunRecord.open(tmp_path, SETTINGS, overwrite=True).finish({})
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_overwriting_goes_on_with_an_unfinished_run_of_the_same_settings(tmp_path):
    RunRecord.open(tmp_path, SETTINGS, overwrite=False).add(cell())
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=True)
    assert record.cells == [cell()]
    record.finish({})
    assert RunRecord.open(tmp_path, SETTINGS, overwrite=True).cells == []


def test_a_crash_while_removing_loses_track_of_nothing(tmp_path, monkeypatch):
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=False, outputs=("saved_model",))
    record.output("saved_model").mkdir()
    record.finish({})
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=True, outputs=("model",))
    with monkeypatch.context() as patch:
        patch.setattr(workspace, "remove_path", lambda _: sys.exit("killed"))
        with pytest.raises(SystemExit):
            record.output("model")
    record = RunRecord.open(tmp_path, SETTINGS, overwrite=True, outputs=("model",))
    record.output("model").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "results.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_record_of_something_else_gives_no_right_to_outputs(tmp_path, overwrite):
    """A probe whose results are beside a distilled student's SavedModel."""
    RunRecord.open(tmp_path, {"task": "sts-probe"}, overwrite=False)
    (tmp_path / "saved_model").mkdir()
    with pytest.raises(InputError, match="holds saved_model, of which no results"):
        RunRecord.open(tmp_path, SETTINGS, overwrite=overwrite, outputs=("saved_model",))
    forged = {"settings": SETTINGS, "cells": [], "outputs": ["../x", 7, "saved_model/../.."]}
    (tmp_path / "results.json").write_text(json.dumps(forged))
    (tmp_path.parent / "x").mkdir(exist_ok=True)
    RunRecord.open(tmp_path, SETTINGS, overwrite=True).finish({})
    assert (tmp_path / "saved_model").is_dir()
    assert (tmp_path.parent / "x").is_dir()


def test_damaged_files_and_unwritable_places_are_named(tmp_path):
    (tmp_path / "results.json").write_text(
        json.dumps({"settings": {"task": "x"}, "cells": [{"phase": "final"}]})
    )
    with pytest.raises(InputError, match=r"is damaged .* Pass overwrite=True to start anew"):
        RunRecord.open(tmp_path, {"task": "x"}, overwrite=False)
    assert RunRecord.open(tmp_path, {"task": "x"}, overwrite=True).cells == []
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        RunRecord.open(tmp_path, {"task": "x"}, overwrite=False)
    RunRecord.open(tmp_path, {"task": "x"}, overwrite=True).finish({})
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
