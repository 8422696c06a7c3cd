"""Tests of a job's directory: whose it is, when it is refused, what is never touched."""

import concurrent.futures
import errno
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation.run_record import RunRecord
from etd_tf.jobs.compare_study import LAYOUT as STUDY
from etd_tf.jobs.distill import LAYOUT as RUN
from etd_tf.jobs.extract import LAYOUT as CUT
from etd_tf.storage.workspace import Layout, Workspace, changes

SETTINGS = {"teacher": "a", "steps": "5", "log_every": "10"}


def open_run_directory(path, settings, **options):
    return Workspace(RUN, path, settings, **options).open()


def check_run_directory(path, settings, **options):
    Workspace(RUN, path, settings, **options).check()


def _begin(path, settings=SETTINGS, **options):
    with open_run_directory(path, settings, **options) as run:
        run.begin({})
        return run


def _tree(path):
    return {
        entry.relative_to(path).as_posix(): entry.read_bytes() if entry.is_file() else None
        for entry in path.rglob("*")
    }


def _fill(path):
    """What a whole run leaves."""
    for folder in ("checkpoints/step-00000005", "student", "saved_model/1", "tensorboard/train"):
        (path / folder).mkdir(parents=True)
        (path / folder / "file").write_text("x")
    for name in ("plan.json", "scores.npz", "metrics.jsonl", "report.html", "report.json"):
        (path / name).write_text("x")


def test_flags_are_written_when_the_run_begins(tmp_path):
    out = tmp_path / "a" / "out"
    with open_run_directory(out, SETTINGS) as run:
        assert not (out / "flags.txt").exists()
        run.begin({})
        run.begin({})
        assert run.path == out
    mark, *lines = (out / "flags.txt").read_text().splitlines()
    assert mark.startswith("# Flags of one run of etd_distill")
    assert lines == ["--log_every=10", "--steps=5", "--teacher=a"]


def test_a_refused_run_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="bad corpus"), open_run_directory(out, SETTINGS):
        raise InputError("bad corpus")
    assert not out.exists()
    out.mkdir()
    with pytest.raises(InputError, match="bad corpus"), open_run_directory(out, SETTINGS):
        raise InputError("bad corpus")
    assert out.is_dir()
    _begin(out, {**SETTINGS, "steps": "6"})  # the flags of the refused run do not count


def test_the_same_settings_continue_and_others_are_refused(tmp_path):
    _begin(tmp_path / "out")
    _begin(tmp_path / "out")
    _begin(tmp_path / "out", {**SETTINGS, "log_every": "1", "output_dir": "elsewhere"})
    others = {"steps": "6", "teacher": "a", "log_every": "10", "dropout": "0.1"}
    with pytest.raises(
        InputError, match=r"dropout was '' and is now '0\.1'; steps was '5' and is now '6'"
    ):
        check_run_directory(tmp_path / "out", others)
    check_run_directory(tmp_path / "out", others, overwrite=True)


def test_a_finished_run_is_kept_until_overwriting_begins(tmp_path):
    _begin(tmp_path)
    _fill(tmp_path)
    (tmp_path / "my_notes.txt").write_text("mine")
    before = _tree(tmp_path)
    with pytest.raises(InputError, match=r"holds a finished run\. Choose another output_dir, or"):
        _begin(tmp_path)
    assert _tree(tmp_path) == before
    with (
        pytest.raises(InputError, match="bad corpus"),
        open_run_directory(tmp_path, SETTINGS, overwrite=True),
    ):
        raise InputError("bad corpus")
    assert _tree(tmp_path) == before
    _begin(tmp_path, {"steps": "7"}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "flags.txt",
        "identity.json",
        "my_notes.txt",
    ]
    assert "--steps=7" in (tmp_path / "flags.txt").read_text()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["notes.txt", "student", "flags.txt", "report.json", "checkpoints"]
)
def test_files_that_no_run_made_are_never_touched(tmp_path, name, overwrite):
    if name in ("student", "checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("precious")
    else:
        (tmp_path / name).write_text("--steps=5\n")
    before = _tree(tmp_path)
    with pytest.raises(
        InputError, match=rf"no run of etd_distill made \({name}\)\. Choose an empty"
    ):
        _begin(tmp_path, overwrite=overwrite)
    assert _tree(tmp_path) == before


def test_a_removal_that_was_killed_can_be_repeated(tmp_path, monkeypatch):
    _begin(tmp_path)
    _fill(tmp_path)
    removed = []

    def remove(path):
        removed.append(path.name)
        if len(removed) > 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("etd_tf.storage.workspace.remove_path", remove)
    with pytest.raises(KeyboardInterrupt):
        _begin(tmp_path, overwrite=True)
    monkeypatch.undo()
    assert "flags.txt" not in removed
    assert removed[0] == "report.json"  # first, so that half a run never counts as finished
    _begin(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "flags.txt",
        "identity.json",
    ]


def test_leftovers_of_killed_writes_are_removed(tmp_path):
    _begin(tmp_path)
    for name in (".student.partial-x1", "checkpoints/.step-00000003.partial-y", "exports/.a.old-z"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("x")
    (tmp_path / ".report.html.partial-q").write_text("x")
    (tmp_path / ".mine").write_text("x")
    _begin(tmp_path)
    left = {path.name for path in tmp_path.rglob(".*")}
    assert left == {".mine"}


def test_two_runs_cannot_share_a_directory(tmp_path):
    with open_run_directory(tmp_path, SETTINGS) as run:
        run.begin({})
        with pytest.raises(InputError, match=r"Another run is working in .* Wait for it, or"):
            _begin(tmp_path, overwrite=True)
    _begin(tmp_path)


def test_other_workers_read_the_run_and_change_nothing(tmp_path):
    out = tmp_path / "out"
    with open_run_directory(out, SETTINGS, is_chief=False, overwrite=True) as other:
        assert not out.exists()
        with open_run_directory(out, SETTINGS) as chief:
            chief.begin({})
            chief.keep_seconds("scoring", 2.5)
            before = _tree(out)
            other.begin({})
            assert other.keep_seconds("scoring", 4.0) == 2.5
            assert (other.path, other.is_chief) == (out, False)
            assert _tree(out) == before


def test_other_workers_must_see_what_the_chief_began(tmp_path, monkeypatch):
    monkeypatch.setattr("etd_tf.storage.workspace._VISIBLE_SECONDS", 0.1)
    with (
        open_run_directory(tmp_path / "local", SETTINGS, is_chief=False) as run,
        pytest.raises(InputError, match=r"does not see it in .*local\. Give all workers one"),
    ):
        run.begin({})


def test_a_directory_that_a_worker_cannot_look_into_is_named(tmp_path, monkeypatch):
    def denied(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "listdir", denied)
    for is_chief in (True, False):
        with (
            pytest.raises(InputError, match=r"cannot be read \(Permission denied\)\. Choose"),
            open_run_directory(tmp_path, SETTINGS, is_chief=is_chief),
        ):
            pytest.fail("opened")


def test_other_workers_wait_for_slow_file_systems(tmp_path):
    with (
        open_run_directory(tmp_path, SETTINGS, is_chief=False) as run,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        begun = pool.submit(run.begin, {})
        with pytest.raises(TimeoutError):
            begun.result(0.2)
        _begin(tmp_path)
        begun.result(30)


def test_files_and_unwritable_places_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file; choose a directory"):
        _begin(tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\)\. Choose another"):
        _begin(tmp_path / "file" / "out")


def test_stage_times_outlive_a_sitting(tmp_path):
    assert _begin(tmp_path).keep_seconds("scoring", 0.0) == 0.0
    assert _begin(tmp_path).keep_seconds("scoring", 2.5) == 2.5
    assert _begin(tmp_path).keep_seconds("scoring", 0.0) == 2.5
    for damage in ("{", "[1]", '{"scoring": []}', '{"scoring": "x"}', "5", "[" * 100_000):
        (tmp_path / "timing.json").write_text(damage)
        assert _begin(tmp_path).keep_seconds("scoring", 0.0) == 0.0


def test_damaged_flags_are_other_settings(tmp_path):
    _begin(tmp_path)
    with open(tmp_path / "flags.txt", "ab") as file:
        file.write(b"--x=\xff\n")
    with pytest.raises(InputError, match="x was"):
        _begin(tmp_path)


def test_what_the_flags_named_must_stay_the_same(tmp_path):
    first = {"teacher": "a", "text": {"corpus": "b"}}
    with open_run_directory(tmp_path, SETTINGS) as run:
        run.begin(first)
    for change, what in (({"teacher": "x"}, "teacher"), ({"text": {}}, "text")):
        with (
            pytest.raises(InputError, match=f"begun with another {what} than the same settings"),
            open_run_directory(tmp_path, SETTINGS) as run,
        ):
            run.begin(first | change)
    with open_run_directory(tmp_path, SETTINGS, overwrite=True) as run:
        run.begin(first | {"teacher": "x"})
    with open_run_directory(tmp_path, SETTINGS) as run:
        run.begin(first | {"teacher": "x"})


def test_it_is_checked_again_once_it_is_held(tmp_path, monkeypatch):
    checks = []
    monkeypatch.setattr(Workspace, "check", lambda _: checks.append((tmp_path / ".lock").exists()))
    with Workspace(RUN, tmp_path).open():
        pass
    assert checks == [False, True]


def test_runs_can_be_added_to_what_never_ends(tmp_path):
    first = {"steps": "5", "arms": "none"}
    with Workspace(STUDY, tmp_path, first).open() as study:
        study.begin({})
    assert json.loads((tmp_path / "study.json").read_text()) == {"steps": "5"}
    Workspace(STUDY, tmp_path, first | {"arms": "impt"}).check()
    with pytest.raises(
        InputError, match=r"holds a run of etd_compare with other .*: steps was '5' and is now '6'"
    ) as refused:
        Workspace(STUDY, tmp_path, first | {"steps": "6"}).check()
    assert "overwrite" not in str(refused.value)
    (tmp_path / "study.json").unlink()
    with pytest.raises(InputError, match=r"no run of etd_compare made \(identity.json\)"):
        Workspace(STUDY, tmp_path, first).check()


def test_what_an_earlier_version_began_is_refused_by_name(tmp_path):
    layout = Layout("etd_new", "flags.txt", finished="end")
    with Workspace(layout, tmp_path).open() as run:
        run.begin({"teacher": "a"})
    (tmp_path / "identity.json").write_text('{"teacher": "a"}')  # continued while equal
    with Workspace(layout, tmp_path).open() as run:
        run.begin({"teacher": "a"})
        with pytest.raises(InputError, match=r"by an earlier version .* pass overwrite=True"):
            run.begin({"teacher": "b"})
    with Workspace(layout, tmp_path, overwrite=True).open() as run:
        run.begin({"teacher": "b"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flags.txt", "identity.json"]


@pytest.fixture
def earlier(tmp_path):
    """Directories as an earlier version of the library left them, without the large files."""
    shutil.copytree(Path(__file__).with_name("earlier"), tmp_path / "earlier")
    return tmp_path / "earlier"


def _flags_of(path):
    pairs = (line.strip("-").partition("=") for line in path.read_text().splitlines()[1:])
    return {name: value for name, _, value in pairs}


def test_an_unfinished_run_of_an_earlier_version_goes_on(earlier):
    settings = _flags_of(earlier / "run" / "flags.txt")
    identity = json.loads((earlier / "run" / "identity.json").read_text())
    before = _tree(earlier / "run")
    with Workspace(RUN, earlier / "run", settings | {"log_every": "7"}).open() as run:
        run.begin(identity)
        assert run.keep_seconds("scoring", 0.0) > 0
        with pytest.raises(InputError, match="by an earlier version of etd_tf"):
            run.begin(identity | {"teacher": "another"})
    assert _tree(earlier / "run") == before
    with pytest.raises(InputError, match="other settings: steps was '12' and is now '13'"):
        Workspace(RUN, earlier / "run", settings | {"steps": "13"}).check()
    (earlier / "run" / "report.json").touch()
    with pytest.raises(InputError, match="holds a finished run"):
        Workspace(RUN, earlier / "run", settings).check()


def test_other_directories_of_an_earlier_version_are_known(earlier):
    (earlier / "cut" / "student").mkdir()
    with pytest.raises(InputError, match="holds a finished run"):
        Workspace(CUT, earlier / "cut").check()
    settings = json.loads((earlier / "study" / "study.json").read_text())
    with Workspace(STUDY, earlier / "study", settings).open() as study:
        study.begin(json.loads((earlier / "study" / "identity.json").read_text()))
    record = json.loads((earlier / "eval" / "results.json").read_text())
    with pytest.raises(InputError, match="holds a finished run"):
        RunRecord.open(earlier / "eval", record["settings"], overwrite=False)
    (earlier / "eval" / "results.json").write_text(json.dumps(record | {"finished": False}))
    again = RunRecord.open(earlier / "eval", record["settings"], overwrite=False)
    assert [cell.seed for cell in again.cells] == [0, 1]


def test_differences_are_said_by_name():
    assert changes({"a": 1, "b": 2}, {"b": 2, "a": 1}) == ""
    assert changes({"a": 1, "b": 2}, {"b": 3}) == "a was 1 and is now ''; b was 2 and is now 3"
    assert changes({"a": 1, "b": 2}, {"b": 3}, frozenset("a")) == "b was 2 and is now 3"


def test_a_mapping_among_settings_counts_by_its_own_names():
    old = {"options": {"seed": 0, "packing": True}, "corpus": "a"}
    new = {"options": {"seed": 1, "packing": True}, "corpus": "b"}
    assert changes(old, new, frozenset({"corpus"})) == "seed was 0 and is now 1"
    assert changes(old, new, frozenset({"corpus", "options"})) == ""


def test_a_record_of_work_that_ends_with_a_file(tmp_path):
    layout = Layout("etd_toy", "partial.json", ("whole.json",), "whole.json", record="identity")
    workspace = Workspace(layout, tmp_path, {"size": 1})
    (tmp_path / "partial.json").write_text('{"identity": {"size": 1}}')
    assert workspace.continues()
    (tmp_path / "whole.json").write_text("{}")  # it ended before the record was removed
    assert workspace.continues()
    (tmp_path / "partial.json").unlink()
    with pytest.raises(InputError, match="holds a finished run"):
        workspace.check()
    (tmp_path / "whole.json").rename(tmp_path / "mine.txt")
    with pytest.raises(InputError, match="no run of etd_toy made"):
        workspace.check()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
