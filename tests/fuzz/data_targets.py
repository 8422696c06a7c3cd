"""Readers of text, records, tasks, and of what the commands themselves have written."""

import dataclasses
import functools
import gzip
import json
import os
import pickle
import shutil
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from etd_tf.data.corpus import open_corpus
from etd_tf.data.glue import read_glue_file
from etd_tf.data.glue_tasks import GLUE_TASKS
from etd_tf.data.journal import Journal
from etd_tf.data.opening import open_records
from etd_tf.data.prepare import RecordOptions, prepare_records
from etd_tf.data.squad import read_squad
from etd_tf.data.tfrecord import frame_records
from etd_tf.distillation.metrics_log import MetricsLog, read_metrics
from etd_tf.distillation.state import StateStore
from etd_tf.errors import EtdError
from etd_tf.evaluation.run_record import Cell, RunRecord
from etd_tf.extraction import ExtractionPlan, UnitScores, plan_extraction
from etd_tf.files import sha256
from etd_tf.jobs.compare_arm import load_run
from etd_tf.jobs.compare_study import check_study
from etd_tf.jobs.compare_types import RunSpec, parse_student
from etd_tf.jobs.run_directory import RunDirectory, check_run_directory
from etd_tf.reporting import make_curves
from tests.fuzz.harness import Target
from tests.fuzz.mutation import (
    Mutator,
    damage,
    damage_gzip,
    damage_json,
    damage_json_lines,
    damage_lines,
    damage_npy,
    damage_safetensors,
    damage_tfrecord,
    damage_zip,
    make_zip,
    mixed,
    npy,
)
from tests.helpers import tiny_config, tiny_tokenizer

_SETTINGS = {"--x": "1", "teacher": "t", "steps": "5"}
_SPEC = RunSpec("minilm", parse_student("1x3x1x5"), "impt", 0)


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


def _records(folder: Path) -> Mapping[str, Mutator]:
    text = "\n\n".join(f"the cat {i} sat on mat {i * 7} and ran." * 3 for i in range(12))
    (folder / "text.txt").write_text(text)
    options = RecordOptions(sequence_length=9, num_shards=2, held_out_fraction=0.2)
    out = folder / "records"
    prepare_records(str(folder / "text.txt"), tiny_tokenizer(), out, options=options)
    (folder / "text.txt").unlink()
    return {
        "records/manifest.json": damage_json,
        "records/train-00000-of-00002.tfrecord": damage_tfrecord,
        "records/train-00000-of-00002.offsets.npy": mixed(damage_npy, damage, share=0.5),
    }


def _read_records(folder: Path) -> None:
    records = open_records(folder / "records", cache_dir=folder / "cache")
    for split in records.shards:
        count = records.num_examples(split)
        rows = np.array([0, count // 2, count - 1])
        batch = records.read(split, rows)
        shapes = {batch[key].shape[1] for key in ("token_ids", "segment_ids", "padding_mask")}
        if shapes != {records.sequence_length}:
            raise RuntimeError(f"{records.sequence_length} tokens promised, {shapes} read")
    records.check_tokenizer(records.tokenizer_fingerprint or "")


def _record_extremes() -> list[tuple[str, bytes]]:
    name = "records/train-00000-of-00002.offsets.npy"
    arrays: list[Any] = [
        np.array([0, -5, 10**12]),
        np.array([0.0, 1.0]),
        np.array([[0, 1], [2, 3]]),
        np.array(5),
        np.array([], np.int64),
        np.array([0]),
        np.array([0, 2**62]),
        np.array(["a", "b"]),
        np.array([None]),
    ]
    return [*((name, npy(array)) for array in arrays), (name, b"")]


def _foreign(folder: Path) -> Mapping[str, Mutator]:
    (folder / "records").mkdir()
    framed = b"".join(frame_records([_example(row) for row in range(5)]))
    (folder / "records" / "a.tfrecord").write_bytes(framed)
    (folder / "records" / "b.tfrecord.gz").write_bytes(gzip.compress(framed))
    return {
        "records/a.tfrecord": damage_tfrecord,
        "records/b.tfrecord.gz": lambda generator, content: damage_gzip(
            generator, content, inside=damage_tfrecord
        ),
    }


def _example(row: int) -> bytes:
    import tensorflow as tf

    def integers(values: list[int]) -> Any:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {name: integers([row] * 6) for name in ("input_ids", "input_mask", "segment_ids")}
    features |= {name: integers([1, 2]) for name in ("masked_lm_positions", "masked_lm_ids")}
    weights = tf.train.FloatList(value=[1.0, 0.0])
    features["masked_lm_weights"] = tf.train.Feature(float_list=weights)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _foreign_extremes() -> list[tuple[str, bytes]]:
    small = [_example(row) for row in range(40)]
    large = b"".join(frame_records([*small, bytes(1_050_000), *small]))
    return [
        ("records/a.tfrecord", large),
        ("records/a.tfrecord", b"".join(frame_records([b"1234"]))),
    ]


def _read_foreign(folder: Path) -> None:
    try:
        records = open_records(folder / "records", cache_dir=folder / "cache")
        for split in records.shards:
            records.read(split, np.arange(records.num_examples(split)))
    finally:
        shutil.rmtree(folder / "cache", ignore_errors=True)


def _journal(folder: Path) -> Mapping[str, Mutator]:
    """An unfinished preparation, and the same call again."""
    _records(folder)
    manifest = json.loads((folder / "records/manifest.json").read_text())
    finished = [summary for split in manifest["shards"].values() for summary in split]
    state = {"identity": {"options": {"seed": 0}}, "finished": finished}
    (folder / "records" / "partial-manifest.json").write_text(json.dumps(state))
    (folder / "records" / "manifest.json").unlink()
    return {"records/partial-manifest.json": damage_json}


def _read_journal(folder: Path) -> None:
    journal = Journal(folder / "records", {"options": {"seed": 0}})
    journal.check_directory(overwrite=False)


def _glue(folder: Path) -> Mapping[str, Mutator]:
    lines = {
        "cola.train": "gj04\t1\t\tThe cat sat.\ngj04\t0\t*\tCat the sat.\n",
        "sst2.train": "sentence\tlabel\nfine film\t1\nbad film\t0\n",
        "sst2.test": "index\tsentence\n0\tfine film\n1\tbad film\n",
        "stsb.dev": "index\tgenre\tsentence1\tsentence2\tscore\n0\tx\ta cat\ta dog\t2.500\n",
        "qqp.dev": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\twhy?\thow?\t0\n",
        "qnli.dev": "index\tquestion\tsentence\tlabel\n0\twhy?\tso.\tentailment\n",
    }
    for name, text in lines.items():
        (folder / f"{name}.tsv").write_text(text)
    return {f"{name}.tsv": damage_lines for name in lines}


def _glue_extremes() -> list[tuple[str, bytes]]:
    head = b"index\tsentence\n"
    return [
        ("sst2.test.tsv", head + b"9" * 5000 + b"\tx\n"),
        ("sst2.test.tsv", head + b"9" * 30 + b"\tx\n"),
        ("sst2.test.tsv", b"\n" * 5_000_000),
        ("stsb.dev.tsv", b"\t" * 2_000_000),
    ]


def _read_glue(folder: Path) -> None:
    problem = None
    for path in sorted(folder.glob("*.tsv")):
        task, split, _ = path.name.split(".")
        try:
            examples = read_glue_file(GLUE_TASKS[task], split, path)
            if examples.indices.dtype != np.int64:
                raise RuntimeError(f"indices of {examples.indices.dtype}")
        except EtdError as error:
            problem = error
    if problem is not None:
        raise problem


def _squad(folder: Path) -> Mapping[str, Mutator]:
    answer = {"text": "cat", "answer_start": 4}
    questions = [
        {"id": "1", "question": "Who?", "answers": [answer], "is_impossible": False},
        {"id": "2", "question": "When?", "answers": [], "is_impossible": True},
    ]
    paragraphs = [{"context": "The cat sat on the mat.", "qas": questions}]
    values = {"version": "v2.0", "data": [{"title": "Cats", "paragraphs": paragraphs}]}
    (folder / "dev.json").write_text(json.dumps(values))
    return {"dev.json": damage_json}


def _read_squad(folder: Path) -> None:
    read_squad(folder / "dev.json", "v2.0")


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
    RunDirectory(run, _SETTINGS).begin()
    (run / "timing.json").write_text(json.dumps({"scoring": 1.5}))
    record = {"settings": {"a": 1}, "cells": [dataclasses.asdict(_CELL)], "finished": False}
    (folder / "results.json").write_text(json.dumps(record))
    (folder / "study").mkdir()
    (folder / "study/study.json").write_text(json.dumps(_SETTINGS))
    arm = folder / "study" / _SPEC.folder
    arm.mkdir(parents=True)
    values = {"steps": 5, "step_flops": 10, "scoring_flops": 3, "seconds": 1.5}
    values |= {"curve": [[0, 1.5], [5, None]], "loss": "minilm", "seed": 0}
    (arm / "arm.json").write_text(json.dumps(values))
    return {
        "run/flags.txt": damage_lines,
        "run/timing.json": damage_json,
        "results.json": damage_json,
        "study/study.json": damage_json,
        f"study/{_SPEC.folder}/arm.json": damage_json,
    }


_CELL = Cell("final", 1e-4, 0, 0.5, 1.0, {"dev": {"accuracy": 0.5}})


def _read_run_files(folder: Path) -> None:
    study: Any = types.SimpleNamespace(folder=folder / "study")
    run = load_run(study, _SPEC)
    if run is not None:
        run.final_loss, run.steps + run.step_flops + run.scoring_flops + run.seconds
    check_study(folder / "study", _SETTINGS)
    check_run_directory(folder / "run", _SETTINGS)
    RunDirectory(folder / "run", _SETTINGS).keep_seconds("scoring", 0)
    found = RunRecord.open(folder, {"a": 1}, overwrite=False)
    found.find("final", 1e-4, 0)


def _corpus(folder: Path) -> Mapping[str, Mutator]:
    text = "The cat sat.\nIt ran é.\n\nA dog.\n".encode() * 3
    lines = b"".join(
        json.dumps({"text": f"the cat {i}\n\nran", "id": i}).encode() + b"\n" for i in (1, 2)
    )
    (folder / "a.txt").write_bytes(text)
    (folder / "b.txt.gz").write_bytes(gzip.compress(text))
    (folder / "c.jsonl").write_bytes(lines)
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(lines))
    return {
        "a.txt": damage_lines,
        "b.txt.gz": damage_gzip,
        "c.jsonl": damage_json_lines,
        "d.jsonl.gz": lambda generator, content: damage_gzip(
            generator, content, inside=damage_json_lines
        ),
    }


def _corpus_extremes() -> list[tuple[str, bytes]]:
    blank = gzip.compress(b" " * (150 << 20), 1)  # one line of 150 MB in 700 kB
    return [("b.txt.gz", blank), ("d.jsonl.gz", blank), ("a.txt", b"\xf0\x9f\x98" * 1_000_000)]


def _read_corpus(folder: Path) -> None:
    problem = None
    for path in sorted(folder.iterdir()):
        try:
            tiny = open_corpus([str(path)])
            tiny.content_hash()
            sum(map(len, tiny.documents()))
        except EtdError as error:
            problem = error
    if problem is not None:
        raise problem


TARGETS = (
    Target("extraction plan", _plan, _read_plan),
    Target("unit scores (.npz)", _scores, _read_scores, _score_extremes, weight=2),
    Target("prepared records", _records, _read_records, _record_extremes),
    Target("other TFRecords", _foreign, _read_foreign, _foreign_extremes),
    Target("unfinished preparation", _journal, _read_journal, weight=0.5),
    Target("GLUE", _glue, _read_glue, _glue_extremes),
    Target("SQuAD", _squad, _read_squad),
    Target("metrics.jsonl", _metrics, _read_metrics, weight=0.5),
    Target("training checkpoint", _state, _read_state, weight=0.5),
    Target("training checkpoint (forged)", _forged, _forged_state, weight=0.5),
    Target("run directory files", _run_files, _read_run_files),
    Target("corpus", _corpus, _read_corpus, _corpus_extremes),
)
