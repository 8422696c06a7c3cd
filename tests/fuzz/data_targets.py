"""Readers of text, records and tasks."""

import gzip
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.errors import EtdError
from etd_tf.storage.tfrecord import frame_records
from etd_tf.tasks.glue import GLUE_TASKS
from etd_tf.tasks.glue_data import read_glue_file
from etd_tf.tasks.squad_data import read_squad
from etd_tf.text.corpus import open_corpus
from etd_tf.text.options import RecordOptions
from etd_tf.text.preparation_state import PreparationState
from etd_tf.text.prepare import prepare_records
from etd_tf.text.record_directories import open_records
from tests.fuzz.harness import Target
from tests.fuzz.mutation import (
    Mutator,
    damage,
    damage_gzip,
    damage_json,
    damage_json_lines,
    damage_lines,
    damage_npy,
    damage_tfrecord,
    mixed,
    npy,
)
from tests.helpers import tiny_tokenizer


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
    PreparationState(folder / "records").check({"options": {"seed": 0}}, overwrite=False)


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
    Target("prepared records", _records, _read_records, _record_extremes),
    Target("other TFRecords", _foreign, _read_foreign, _foreign_extremes),
    Target("unfinished preparation", _journal, _read_journal, weight=0.5),
    Target("GLUE", _glue, _read_glue, _glue_extremes),
    Target("SQuAD", _squad, _read_squad),
    Target("corpus", _corpus, _read_corpus, _corpus_extremes),
)
