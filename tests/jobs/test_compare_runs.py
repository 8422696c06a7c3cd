"""Tests of comparing runs of etd_distill that were made apart."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.compare import COMMAND
from etd_tf.cli.distill import COMMAND as DISTILL
from etd_tf.errors import InputError
from etd_tf.jobs.compare_runs import is_finished, load_run, read_runs
from tests.jobs.tiny_job import SIZES, STEPS, job_flags, write_teacher, write_text

SIZE = "x".join(map(str, SIZES.values()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two finished runs, and a comparison of the same arms."""
    folder = tmp_path_factory.mktemp("runs")
    write_teacher(folder / "teacher")
    write_text(folder / "text.txt", 80)
    for arm in ("none", "impt"):
        flags = job_flags(folder, folder / arm, extraction=arm, held_out_sequences=8)
        assert run_command(DISTILL, flags) == 0
    own = ("evaluate_every", "export")
    shared = job_flags(folder, folder / "study", **dict.fromkeys((*SIZES, *own)))
    swept = [f"--students={SIZE}", "--arms=none,impt", f"--evaluate_at={STEPS // 2}"]
    flags = [*shared, *swept, "--snapshots=100", "--held_out_sequences=8"]
    assert run_command(COMMAND, flags) == 0
    return folder


def compare(folder: Path, *names: str, out: str = "apart") -> int:
    runs = ",".join(str(folder / name) for name in names)
    return run_command(COMMAND, [f"--runs={runs}", f"--output_dir={folder / out}"])


def test_runs_made_apart_compare_as_those_of_a_comparison(folder, capsys):
    assert compare(folder, "none", "impt") == 0
    assert "Report of 2 of 2 runs: " in capsys.readouterr().out
    apart, study = (
        json.loads((folder / name / "compare.json").read_text()) for name in ("apart", "study")
    )
    for values in (apart, study):
        assert [cell.pop("seconds") > 0 for cell in values["cells"]] == [True, True]
    assert apart["cells"] == study["cells"]
    assert apart["cells"][1]["scoring_flops"] > 0
    assert [point["step"] for point in apart["cells"][1]["curve"]] == [0, STEPS // 2, STEPS]
    for name in ("data", "teacher", "labels", "machine", "complete", "failures", "runs_planned"):
        assert apart[name] == study[name], name
    page = (folder / "apart" / "compare.html").read_text()
    assert f"minilm, student {SIZE}" in page
    arms = [f"study/minilm-{SIZE}/{arm}-seed0" for arm in ("none", "impt")]
    assert compare(folder, *arms, out="arms") == 0
    assert json.loads((folder / "arms/compare.json").read_text())["data"] == study["data"]
    assert compare(folder, "impt") == 0  # other runs of the same teacher and text


def changed_copy(folder: Path, to: Path, file: str, change) -> Path:
    """A copy of the run `impt` with another seed, and with a file that was changed."""
    shutil.copytree(folder / "impt", to)
    for name in {file, "report.json"}:
        values = json.loads((to / name).read_text())
        if name == "report.json":
            values["flags"]["seed"] = "1"
        if name == file:
            change(values)
        (to / name).write_text(json.dumps(values))
    return to


def set_value(*path):
    *places, name, value = path

    def change(values):
        for place in places:
            values = values[place]
        values[name] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("identity.json", set_value("teacher", "xyz"), 'another teacher .* received "xyz", expect'),
        ("identity.json", set_value("text", "corpus", ["x"]), "has another held-out text than"),
        ("report.json", set_value("data", "held-out sequences", 4), "received 4, expected 8"),
        (
            "report.json",
            set_value("flags", "masking_rate", "0.3"),
            "masking_rate of loss minilm .*0.3",
        ),
        (
            "report.json",
            set_value("flags", "teacher_layer", "2"),
            "teacher_layer of loss minilm than",
        ),
        ("report.json", set_value("flags", "seed", "0"), "are one arm twice: impt of minilm"),
        ("report.json", lambda values: values["data"].popitem(), "without held-out text"),
        ("report.json", lambda values: values["cost"].popitem(), "damaged .* make the run again"),
        ("report.json", set_value("flags", {}), "damaged"),
    ],
)
def test_runs_that_do_not_compare_are_refused_by_name(folder, tmp_path, file, change, message):
    other = changed_copy(folder, tmp_path / "other", file, change)
    with pytest.raises(InputError, match=message) as caught:
        read_runs([folder / "none", folder / "impt", other])
    assert str(other) in str(caught.value)


def test_other_training_text_with_the_same_held_out_text_compares(folder, tmp_path):
    def give_validation_corpus(values):
        values["text"]["validation_corpus"] = ["files"]

    def change_corpus(values):
        give_validation_corpus(values)
        values["text"]["corpus"] = ["others"]

    one = changed_copy(folder, tmp_path / "one", "identity.json", give_validation_corpus)
    two = changed_copy(folder, tmp_path / "two", "identity.json", change_corpus)
    report = json.loads((two / "report.json").read_text())
    report["extraction"]["scores"] = "magnitude, no loss"
    (two / "report.json").write_text(json.dumps(report))
    assert [found.run.arm for found in read_runs([one, two])] == ["impt", "impt-magnitude"]


def test_unfinished_runs_are_refused_by_name(folder, tmp_path, capsys):
    assert not is_finished(tmp_path)
    assert compare(folder, "none", "text.txt", out="new") == 2
    assert "--runs=" in (error := capsys.readouterr().err)
    assert "holds no finished run of etd_distill: there is no report.json" in error
    assert not (folder / "new").exists()
    assert load_run(folder / "none").seed == 0


def test_flags_beside_runs_are_refused(folder, capsys):
    flags = [f"--runs={folder / 'none'}", f"--output_dir={folder / 'x'}", "--steps=5"]
    assert run_command(COMMAND, flags) == 2
    assert "--steps has no effect here: --runs=... says all" in capsys.readouterr().err
    assert run_command(COMMAND, flags[:1]) == 2
    assert "--output_dir is missing" in capsys.readouterr().err
    assert run_command(COMMAND, flags[1:2]) == 2
    assert "--teacher is missing" in capsys.readouterr().err


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
