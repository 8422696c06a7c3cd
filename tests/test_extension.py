"""Whatever a user can choose is one object in one place: adding one takes one file."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest

from etd_tf.cli import compare, distill, evaluate, export, extract
from etd_tf.cli.app import run_command
from etd_tf.export import FORMATS
from etd_tf.export.base import Export, Format, size_on_disk
from etd_tf.extraction.gates import UnitValues
from etd_tf.extraction.metrics import METRICS, Metric
from etd_tf.extraction.starts import STARTS, InitialStudent, Start
from etd_tf.lazy import LazyModule, ops
from etd_tf.losses import LOSSES, Loss
from etd_tf.settings import setting
from etd_tf.tasks import TASKS, Examples, ScoredTask, TextTask
from tests.jobs.tiny_job import job_flags, write_teacher, write_text


def test_heavy_modules_are_loaded_on_first_use():
    module = LazyModule("json.tool")
    assert "json.tool" not in vars(module)
    assert module.main is __import__("json.tool", fromlist=["main"]).main


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyLoss(Loss):
    """How far the mean of all states is from the teacher's."""

    name = "toy"
    summary = "the mean of all states"

    power: float = setting(2.0, "Power of the toy loss.", flag="toy_power", least=1.0)

    @property
    def term_weights(self):
        return {"toy_distance": 1.0}

    def validate(self, teacher, student):
        pass

    def compute_terms(self, teacher, student, projections):
        ours, theirs = (ops.mean(one.trace.sequence_output) for one in (student, teacher))
        gap = ops.abs(ops.subtract(ours, ops.stop_gradient(theirs)))
        return {"toy_distance": ops.add(ops.power(gap, self.power), 0.5)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyFormat(Format):
    """The student's width and nothing else."""

    name = "toy"
    summary = "toy readers"
    mark = "width.json"
    folder = "exports/toy"
    limit = 0.0

    indent: int = setting(0, "toy: spaces.", flag="toy_indent", least=0)

    def write(self, checkpoint, directory, *, overwrite=False):
        directory.mkdir(parents=True, exist_ok=overwrite)
        width = checkpoint.config.hidden_size
        (directory / self.mark).write_text(json.dumps({"width": width}, indent=self.indent))
        difference = abs(json.loads((directory / self.mark).read_text())["width"] - width)
        return Export(self.name, str(directory), size_on_disk(directory), float(difference))

    def usage(self, export):
        return f'width = toys.read("{export.path}")'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyTask(TextTask):
    """Whether a sentence is about a cat; its data is one list of sentences for all splits."""

    name: str = "toy/cats"
    label: str = "Cats"
    metrics: tuple[str, ...] = ("accuracy", "f1")
    label_names: tuple[str, ...] = ("other", "cat")
    toy_file: str | None = setting(None, "toy: file of sentences.")

    data_setting = "toy_file"
    data_hint = "toy_file=FILE with a sentence a line"

    def read(self, split):
        texts = pathlib.Path(self.source).read_text().splitlines()
        labels = np.asarray(["cat" in text.split() for text in texts], np.int64)
        return Examples(self, split, tuple((t,) for t in texts), labels, np.arange(len(texts)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyScore(ScoredTask):
    """How many layers a model has, which needs no training."""

    name: str = "toy-depth"
    label: str = "Depth"
    metrics: tuple[str, ...] = ("layers", "half")
    toy_file: str | None = setting(None, "toy: file of sentences.")

    data_setting = "toy_file"
    data_hint = "toy_file=FILE"

    def fingerprints(self):
        return {"dev": pathlib.Path(self.source).read_text()}

    def score(self, models):
        depths = {name: float(model.config.num_layers) for name, model in models.items()}
        return {name: {"layers": depth, "half": depth / 2} for name, depth in depths.items()}


class ToyMetric(Metric):
    """Later units are more important."""

    name = "toy"
    title = "place"
    summary = "later units first"
    reads_text = False

    def score(self, teacher, inputs, objective, *, batch_size, probes):
        config = teacher.config
        dims = (config.num_layers, config.num_heads, config.head_size)
        shapes = [(config.hidden_size,), (config.num_layers, config.intermediate_size)]
        shapes += [dims, dims, dims[:2]]
        return UnitValues(*(np.arange(np.prod(s), dtype=float).reshape(s) for s in shapes))

    def flops(self, teacher, loss, amount):
        return 123_000


class ToyStart(Start):
    """Random weights of a fixed seed."""

    def flops(self, work, amount, scores=None):
        return {"toying": 456_000}

    def make(self, work):
        from etd_tf.extraction import initial_student

        return InitialStudent(
            initial_student(work.teacher, work.config, seed=7), seconds={"toying": 0.25}
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    write_teacher(folder / "teacher")
    write_text(folder / "text.txt")
    return folder


def shown(capsys, command, *arguments: str) -> str:
    """What a command prints."""
    status = run_command(command, arguments)
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return " ".join(printed.out.split())


def test_a_loss_takes_one_file(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(LOSSES, "toy", ToyLoss)
    assert "toy: the mean of all states" in shown(capsys, distill.COMMAND, "--help")
    assert "Power of the toy loss." in shown(capsys, distill.COMMAND, "--help")
    assert "toy" in shown(capsys, compare.COMMAND, "--help")
    out = tmp_path / "out"
    flags = job_flags(folder, out, loss="toy", toy_power=3.0)
    shown(capsys, distill.COMMAND, *flags)
    line = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["toy_distance"] == line["loss"] >= 0.5
    assert json.loads((out / "report.json").read_text())["loss"] == "toy"
    assert "toy loss" in (out / "report.html").read_text()
    assert run_command(distill.COMMAND, [*flags, "--toy_power=0.5"]) == 2
    assert "toy_power" in capsys.readouterr().err
    flags = job_flags(folder, tmp_path / "other", toy_power=3.0)
    assert run_command(distill.COMMAND, flags) == 2
    assert "--toy_power has no effect" in capsys.readouterr().err


def test_a_format_takes_one_file(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(FORMATS, "toy", ToyFormat)
    assert "toy: toy readers" in shown(capsys, export.COMMAND, "--help")
    assert "toy: spaces." in shown(capsys, export.COMMAND, "--help")
    assert "onnx, toy" in shown(capsys, distill.COMMAND, "--help")
    out = tmp_path / "out"
    shown(capsys, distill.COMMAND, *job_flags(folder, out, export="toy", steps=2, warmup_steps=0))
    assert (out / ToyFormat.folder / ToyFormat.mark).is_file()
    report = json.loads((out / "report.json").read_text())
    assert [one["format"] for one in report["exports"]] == ["huggingface", "toy"]
    assert "toys.read(" in (out / "report.html").read_text()
    assert "toy, loaded back" in (out / "report.html").read_text()
    flags = [f"--model={out}", "--format=toy", f"--output_dir={tmp_path / 'exported'}"]
    assert "largest difference" in shown(capsys, export.COMMAND, *flags, "--toy_indent=3")
    written = (tmp_path / "exported" / "toy" / ToyFormat.mark).read_text()
    assert '\n   "width"' in written
    again = [*flags[:1], "--format=huggingface", f"--output_dir={tmp_path}", "--toy_indent=3"]
    assert run_command(export.COMMAND, again) == 2
    assert "--toy_indent has no effect here: it is for --format=toy" in capsys.readouterr().err


def test_a_task_takes_one_file(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TASKS, "toy/cats", ToyTask())
    for command in (evaluate.COMMAND, compare.COMMAND):
        help_page = shown(capsys, command, "--help")
        assert f"{list(TASKS)[-2]}, toy/cats" in help_page
        assert "toy: file of sentences." in help_page
    data, out = tmp_path / "toy.txt", tmp_path / "out"
    data.write_text("the cat sat\nthe dog ran\na cat\na mat\n" * 4)
    flags = [f"--model={folder / 'teacher'}", "--task=toy/cats", f"--toy_file={data}"]
    training = ["--epochs=2", "--batch_size=4", "--max_length=8", f"--output_dir={out}"]
    printed = shown(capsys, evaluate.COMMAND, *flags, *training)
    results = json.loads((out / "results.json").read_text())
    scores = results["cells"][0]["scores"]["dev"]
    assert set(scores) == {"accuracy", "f1"}
    assert results["settings"]["source"] == str(data)
    for metric, value in scores.items():
        assert f"dev {metric} {value:.4f}" in printed
    flags = [f"--model={out / 'model'}", *flags[1:], "--nofinetune", "--max_length=8"]
    assert f"dev accuracy {scores['accuracy']:.4f}" in shown(capsys, evaluate.COMMAND, *flags)
    assert run_command(evaluate.COMMAND, flags[:2]) == 2
    assert "toy/cats needs its data: pass --toy_file=FILE" in capsys.readouterr().err
    other = [flags[0], "--task=glue/sst2", "--glue_dir=glue", flags[2]]
    assert run_command(evaluate.COMMAND, other) == 2
    assert "--toy_file has no effect here: it is for --task=toy/cats" in capsys.readouterr().err


def test_a_task_without_training_takes_one_file(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TASKS, "toy-depth", ToyScore())
    (tmp_path / "toy.txt").write_text("text")
    model, out = folder / "teacher", tmp_path / "out"
    flags = [f"--model={model}", "--task=toy-depth", f"--toy_file={tmp_path / 'toy.txt'}"]
    printed = shown(capsys, evaluate.COMMAND, *flags, f"--output_dir={out}")
    results = json.loads((out / "results.json").read_text())["toy_depth"]
    assert results["values"][str(model)] == 2 * results["scores"][str(model)]["half"]
    assert printed.startswith("Depth dev Layers Half")


def test_an_importance_metric_takes_one_file(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(METRICS, "toy", ToyMetric())
    for command in (distill.COMMAND, extract.COMMAND):
        page = shown(capsys, command, "--help")
        assert "|toy" in page
        assert "toy: later units first" in page
    out = tmp_path / "out"
    flags = job_flags(folder, out, importance_metric="toy", steps=2, warmup_steps=0)
    assert "1.23e+05" in shown(capsys, distill.COMMAND, *flags, "--dry_run")
    shown(capsys, distill.COMMAND, *flags)
    plan = json.loads((out / "plan.json").read_text())
    assert plan["hidden"] == list(range(15 - 9, 15))
    with np.load(out / "scores.npz") as scores:
        assert json.loads(str(scores["metadata"]))["metric"] == "toy"
    report = json.loads((out / "report.json").read_text())
    assert "toy" in json.dumps(report["extraction"])
    assert 123_000 in json_numbers(report)
    assert "toy" in (out / "report.html").read_text()


def test_a_start_takes_one_file(folder, tmp_path, monkeypatch, capsys):
    toy = ToyStart(name="toy", title="Toy weights", summary="weights of a fixed seed")
    monkeypatch.setitem(STARTS, "toy", toy)
    for command in (distill.COMMAND, extract.COMMAND, compare.COMMAND):
        assert "toy: weights of a fixed seed" in shown(capsys, command, "--help")
    assert "|toy" in shown(capsys, distill.COMMAND, "--help")
    out = tmp_path / "out"
    flags = job_flags(folder, out, extraction="toy", steps=2, warmup_steps=0)
    assert "toying 4.56e+05 FLOPs" in shown(capsys, distill.COMMAND, *flags, "--dry_run")
    shown(capsys, distill.COMMAND, *flags)
    report = json.loads((out / "report.json").read_text())
    assert report["extraction"]["method"] == "Toy weights"
    assert (report["cost"]["toying_flops"], report["cost"]["toying_seconds"]) == (456_000, 0.25)
    assert "Toying" in (out / "report.html").read_text()

    study = tmp_path / "study"
    own = ("student_", "importance_", "evaluate_every", "checkpoint_every", "export")
    flags = job_flags(folder, study, steps=2, warmup_steps=0)
    shared = [flag for flag in flags if not flag.startswith(tuple(f"--{name}" for name in own))]
    shown(capsys, compare.COMMAND, *shared, "--students=2x9x3x7", "--arms=none,toy")
    values = json.loads((study / "compare.json").read_text())
    assert values["labels"]["toy"] == "Toy weights"
    costs = {cell["arm"]: cell["scoring_flops"] for cell in values["cells"]}
    assert costs == {"none": 0, "toy": 456_000}
    charts = (study / "compare.html").read_text().split("<figure")[1:]
    assert any("Toy weights" in chart.partition("</figure>")[0] for chart in charts)


def json_numbers(value) -> set:
    """All numbers inside a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(json_numbers, value))
    return {value} if isinstance(value, int | float) else set()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
