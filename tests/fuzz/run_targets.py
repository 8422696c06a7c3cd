"""Readers of what the commands themselves have written."""

import dataclasses
import functools
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from etd_tf.evaluation.run_record import Cell, RunRecord
from etd_tf.extraction import ExtractionPlan, UnitScores, plan_extraction
from etd_tf.jobs import compare_study, distill
from etd_tf.jobs.compare_runs import is_finished, load_run
from etd_tf.jobs.compare_types import RunSpec
from etd_tf.jobs.options import StudentSize
from etd_tf.reporting import make_curves
from etd_tf.storage.atomic import sha256
from etd_tf.storage.workspace import Workspace
from etd_tf.training.metrics_log import MetricsLog, read_metrics
from etd_tf.training.state import StateStore
from tests.fuzz.harness import Target
from tests.fuzz.mutation import (
    Mutator,
    damage,
    damage_json,
    damage_json_lines,
    damage_lines,
    damage_npy,
    damage_safetensors,
    damage_zip,
    make_zip,
    mixed,
    npy,
)
from tests.helpers import tiny_config

_SETTINGS = {"--x": "1", "teacher": "t", "steps": "5"}
_IDENTITY = {"teacher": "0f", "text": {"corpus": "e1"}}


_SPEC = RunSpec("minilm", StudentSize.parse("1x3x1x5"), "impt", 0)


def _plan(folder: Path) -> Mapping[str, Mutator]:
    student = tiny_config(num_layers=2, hidden_size=9, intermediate_size=7)
    plan_extraction(tiny_config(), student, seed=3).save(folder / "plan.json")
    return {"plan.json": damage_json}


def _read_plan(folder: Path) -> None:
    plan = ExtractionPlan.load(folder / "plan.json")
    plan.to_json()
    ExtractionPlan.from_json((folder / "plan.json").read_text("utf-8"))
    plan.selection_matrix()


def _scores(folder: Path) -> Mapping[str, Mutator]:
    shapes = {"hidden": (6,), "ffn": (2, 5), "query_key": (2, 3, 2), "value": (2, 3, 2)}
    arrays = {name: np.ones(shape) for name, shape in shapes.items()}
    UnitScores(**arrays, heads=np.ones((2, 3)), metric="taylor").save(folder / "scores.npz")
    inside = mixed(damage_npy, damage, share=0.8)
    return {"scores.npz": lambda generator, content: damage_zip(generator, content, members=inside)}


class _Runs:
    """Leaves a folder behind where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("unpickled",)


def _score_extremes() -> list[tuple[str, bytes]]:
    good = {"hidden": np.ones(6), "ffn": np.ones((2, 5)), "heads": np.ones((2, 3))}
    good |= {"query_key": np.ones((2, 3, 2)), "value": np.ones((2, 3, 2))}
    metadata = {"format": "etd_tf unit scores 1", "metric": "x", "loss": "none", "seed": 0}
    metadata |= {"num_examples": 0, "probes": 1, "teacher_fingerprint": None}
    objects = np.array([_Runs()], object)
    found = []
    for change in (
        {"hidden": objects},
        {"metadata": objects},
        {"metadata": np.array(json.dumps(metadata | {"seed": [[]]}))},
        {"metadata": np.array("[" * 100_000)},
        {"metadata": np.array("9" * 5000)},
        {"hidden": np.zeros(20 << 20)},  # 160 MB of zeros in 160 kB
    ):
        arrays = good | {"metadata": np.array(json.dumps(metadata))} | change
        files = [(f"{name}.npy", npy(array)) for name, array in arrays.items()]
        found.append(("scores.npz", make_zip(files, zipfile.ZIP_DEFLATED)))
    return [*found, ("scores.npz", npy(objects)), ("scores.npz", pickle.dumps(_Runs()))]


def _read_scores(folder: Path) -> None:
    teacher = tiny_config(num_layers=2, hidden_size=6, intermediate_size=5)
    UnitScores.load(folder / "scores.npz").check_teacher(teacher)
    if Path("unpickled").exists():
        os.rmdir("unpickled")
        raise RuntimeError("a pickle was run")


def _metrics(folder: Path) -> Mapping[str, Mutator]:
    lines = [
        {"step": step, "split": split, "loss": 2.5 / step, "tokens": step * 100}
        for step in (1, 2, 3)
        for split in ("train", "validation")
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"metrics.jsonl": damage_json_lines}


def _read_metrics(folder: Path) -> None:
    make_curves(read_metrics(folder / "metrics.jsonl"))
    MetricsLog(folder / "metrics.jsonl", resume_step=2).close()


def _state(folder: Path) -> Mapping[str, Mutator]:
    StateStore(folder, {"steps": 9, "loss": ["a", {}]}).save(3, _variables(), seconds=1.5)
    return {
        "step-00000003/state.json": damage_json,
        "step-00000003/state.safetensors": damage_safetensors,
    }


@functools.cache
def _variables() -> dict[str, keras.Variable]:
    return {
        "student/a": keras.Variable(np.ones((2, 3), np.float32)),
        "optimizer/0": keras.Variable(np.asarray(3), dtype="int64"),
    }


def _read_state(folder: Path) -> None:
    """Also with a checksum that fits, as someone who changes a file on purpose has it."""
    StateStore(folder, {"steps": 9, "loss": ["a", {}]}).restore(_variables())


def _forged_state(folder: Path) -> None:
    manifest = folder / "step-00000003" / "state.json"
    values = json.loads(manifest.read_text())
    values["sha256"] = sha256(folder / "step-00000003" / "state.safetensors")
    manifest.write_text(json.dumps(values))
    _read_state(folder)


def _forged(folder: Path) -> Mapping[str, Mutator]:
    name = "step-00000003/state.safetensors"
    return {name: _state(folder)[name]}


def _run_files(folder: Path) -> Mapping[str, Mutator]:
    run = folder / "run"
    run.mkdir()
    Workspace(distill.LAYOUT, run, _SETTINGS).begin(_IDENTITY)
    (run / "timing.json").write_text(json.dumps({"scoring": 1.5}))
    record = {"settings": {"a": 1}, "cells": [dataclasses.asdict(_CELL)], "finished": False}
    (folder / "results.json").write_text(json.dumps(record))
    (folder / "study").mkdir()
    (folder / "study/study.json").write_text(json.dumps(_SETTINGS))
    arm = folder / "study" / _SPEC.folder
    arm.mkdir(parents=True)
    values = {"steps": 5, "step_flops": 10, "scoring_flops": 3, "seconds": 1.5}
    values |= {"curve": [[0, 1.5], [5, None]], "loss": "minilm", "seed": 0}
    values |= {"student": str(_SPEC.size), "arm": _SPEC.arm}
    (arm / "arm.json").write_text(json.dumps(values))
    cost = {"training_steps": 5, "training_flops": 50, "total_flops": 53, "total_seconds": 1.5}
    report = {"loss": "minilm", "cost": cost, "extraction": {"scores": "taylor, mlm loss"}}
    report |= {"flags": {"seed": "0", "extraction": "impt"}}
    report |= {"student": dataclasses.asdict(_SPEC.size)}
    done = folder / "done"
    done.mkdir()
    (done / "report.json").write_text(json.dumps(report))
    lines = ({"step": step, "split": "validation", "loss": 1.5} for step in (0, 5))
    (done / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return {
        "run/flags.txt": damage_lines,
        "run/timing.json": damage_json,
        "run/identity.json": damage_json,
        "done/report.json": damage_json,
        "done/metrics.jsonl": damage_lines,
        "results.json": damage_json,
        "study/study.json": damage_json,
        f"study/{_SPEC.folder}/arm.json": damage_json,
    }


_CELL = Cell("final", 1e-4, 0, 0.5, 1.0, {"dev": {"accuracy": 0.5}})


def _read_run_files(folder: Path) -> None:
    for place in (folder / "study" / _SPEC.folder, folder / "done"):
        if is_finished(place):
            run = load_run(place)
            run.final_loss, run.steps + run.step_flops + run.scoring_flops + run.seconds
    Workspace(compare_study.LAYOUT, folder / "study", _SETTINGS).check()
    workspace = Workspace(distill.LAYOUT, folder / "run", _SETTINGS)
    workspace.begin(_IDENTITY)
    workspace.check()
    workspace.keep_seconds("scoring", 0)
    found = RunRecord.open(folder, {"a": 1}, overwrite=False)
    found.find("final", 1e-4, 0)


TARGETS = (
    Target("extraction plan", _plan, _read_plan),
    Target("unit scores (.npz)", _scores, _read_scores, _score_extremes, weight=2),
    Target("metrics.jsonl", _metrics, _read_metrics, weight=0.5),
    Target("training checkpoint", _state, _read_state, weight=0.5),
    Target("training checkpoint (forged)", _forged, _forged_state, weight=0.5),
    Target("run directory files", _run_files, _read_run_files),
)
