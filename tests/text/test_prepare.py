"""Tests of preparing records: contents, determinism, resuming and the cache."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import InputError
from etd_tf.storage.holding import hold
from etd_tf.text import executors, shard_writer
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import cached_records, prepare_records
from etd_tf.text.record_directories import open_records
from tests.helpers import REPOSITORY, contents, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
OPTIONS = RecordOptions(sequence_length=12, num_shards=3, held_out_fraction=0.2)


@pytest.fixture
def corpus(tmp_path):
    generator = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "mat", "ran", "xyz", "dogs,"]
    documents = [
        "\n".join(" ".join(generator.choice(words, 7)) for _ in range(generator.integers(1, 5)))
        for _ in range(40)
    ]
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(documents), "utf-8")
    return path


def prepare(corpus, directory, options=OPTIONS, **keys):
    return prepare_records([str(corpus)], TOKENIZER, directory, options=options, **keys)


def token_stream(records, split):
    """All ordinary tokens in file order."""
    batch = records.read(split, np.arange(records.num_examples(split)))
    return [int(i) for i in batch["token_ids"].ravel() if i > 4]


def test_no_token_is_lost_and_splits_are_disjoint(tmp_path, corpus):
    records = prepare(corpus, tmp_path / "out")
    documents = corpus.read_text("utf-8").split("\n\n")
    streams = token_stream(records, "train") + token_stream(records, "validation")
    expected = [i for ids in TOKENIZER.encode_batch(documents) for i in ids]
    assert sorted(streams) == sorted(expected)
    # Runs of train documents, cut nowhere but between shards.
    train = token_stream(records, "train")
    encoded = iter(TOKENIZER.encode_batch(documents))
    position = 0
    for ids in encoded:
        if train[position : position + len(ids)] == ids:
            position += len(ids)
    assert position == len(train)


def test_records_are_bert_pretraining_examples(tmp_path, corpus):
    records = prepare(corpus, tmp_path / "out")
    names = sorted(str(path) for path in (tmp_path / "out").glob("train-*.tfrecord"))
    assert [name[-29:] for name in names] == [f"train-0000{i}-of-00003.tfrecord" for i in range(3)]
    raw = list(tf.data.TFRecordDataset(names).as_numpy_iterator())
    batch = records.read("train", np.arange(len(raw)))
    for i, record in enumerate(raw):
        feature = tf.train.Example.FromString(record).features.feature
        assert sorted(feature) == ["input_ids", "input_mask", "segment_ids"]
        row = list(feature["input_ids"].int64_list.value)
        mask = list(feature["input_mask"].int64_list.value)
        assert len(row) == 12
        assert mask == [int(token != TOKENIZER.pad_id) for token in row]
        assert row[0] == TOKENIZER.cls_id
        assert row[sum(mask) - 1] == TOKENIZER.sep_id
        assert not any(feature["segment_ids"].int64_list.value)
        np.testing.assert_array_equal(batch["token_ids"][i], row)
        np.testing.assert_array_equal(batch["padding_mask"][i], mask)


def test_manifest_tells_what_is_there(tmp_path, corpus):
    prepare(corpus, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["options"]["sequence_length"] == 12
    assert manifest["tokenizer"] == TOKENIZER.fingerprint()
    assert sum(manifest["documents"].values()) == 40
    for shard in [s for split in manifest["shards"].values() for s in split]:
        content = (tmp_path / "out" / shard["name"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
        assert shard["bytes"] == len(content)


def test_unpacked_lines_start_their_own_examples(tmp_path):
    (tmp_path / "a.txt").write_text("the cat\nthe dog sat\n\non the mat", "utf-8")
    options = RecordOptions(sequence_length=5, packing=False, held_out_fraction=0.0)
    records = prepare(tmp_path / "a.txt", tmp_path / "out", options)
    batch = records.read("train", np.arange(records.num_examples()))
    wanted = TOKENIZER.encode_batch(["the cat", "the dog sat", "on the mat"])
    assert [[i for i in row if i > 4] for row in batch["token_ids"].tolist()] == wanted


@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_bytes_do_not_depend_on_blocks_or_place(tmp_path, corpus, monkeypatch, block):
    prepare(corpus, tmp_path / "one")
    monkeypatch.setattr(executors, "_BLOCK", block)
    moved = tmp_path / "elsewhere.txt"
    moved.write_bytes(corpus.read_bytes())
    prepare(moved, tmp_path / "two")
    first, second = contents(tmp_path / "one"), contents(tmp_path / "two")
    for content in (first, second):
        manifest = json.loads(content["manifest.json"])
        del manifest["description"]
        content["manifest.json"] = manifest
    assert first == second


def _write_some(written, survivors):
    """`write_shard`, noting names, until a process dies inside of a file."""
    original = executors.write_shard

    def write_then_die(path, *args, **keys):
        if len(written) == survivors:
            path.with_name(f".{path.name}.partial-shard").write_bytes(b"half a file")
            raise KeyboardInterrupt
        written.append(path.name)
        return original(path, *args, **keys)

    return write_then_die


@pytest.mark.parametrize("survivors", [0, 1, 3])
def test_a_killed_preparation_goes_on_after_the_last_file(tmp_path, corpus, monkeypatch, survivors):
    prepare(corpus, tmp_path / "whole")
    original, written = executors.write_shard, []
    monkeypatch.setattr(executors, "write_shard", _write_some(written, survivors))
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, tmp_path / "out")
    with pytest.raises(InputError, match="Run the same etd_prepare command again"):
        open_records(tmp_path / "out")
    monkeypatch.setattr(
        executors,
        "write_shard",
        lambda path, *args, **keys: (written.append(path.name), original(path, *args, **keys))[1],
    )
    prepare(corpus, tmp_path / "out")
    assert len(written) == len(set(written)) == 4  # nothing twice
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_failing_write_leaves_no_file(tmp_path, corpus, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer, "frame_records", fail)
    with pytest.raises(OSError, match="No space"):
        prepare(corpus, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["partial-manifest.json"]


def test_resuming_with_other_options_is_refused_by_name(tmp_path, corpus, monkeypatch):
    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(executors, "write_shard", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus, tmp_path / "out")
    other = RecordOptions(sequence_length=9, num_shards=3, held_out_fraction=0.2)
    with pytest.raises(InputError, match=r"sequence_length was 12 and is now 9.*overwrite=True"):
        prepare(corpus, tmp_path / "out", other)
    assert prepare(corpus, tmp_path / "out", other, overwrite=True).sequence_length == 9


@pytest.mark.parametrize(
    "state",
    [
        {"identity": {"options": 3}, "finished": []},
        {"identity": [], "finished": []},
        {"identity": {}, "finished": [{"x": 1}]},
    ],
)
def test_a_damaged_journal_is_no_preparation_of_ours(tmp_path, corpus, state):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "partial-manifest.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="overwrite=True"):
        prepare(corpus, tmp_path / "out")


def test_a_journal_with_impossible_names_counts_for_nothing(tmp_path, corpus, monkeypatch):
    prepare(corpus, tmp_path / "whole")
    written = []
    with monkeypatch.context() as patch:
        patch.setattr(executors, "write_shard", _write_some(written, survivors=1))
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus, tmp_path / "out")
    journal = tmp_path / "out" / "partial-manifest.json"
    assert written[0] in journal.read_text()
    journal.write_text(journal.read_text().replace(written[0], "a" * 300))
    prepare(corpus, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_finished_records_are_kept_unless_overwritten(tmp_path, corpus):
    prepare(corpus, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=r"holds a finished run.*pass overwrite=True"):
        prepare(corpus, tmp_path / "out", RecordOptions(sequence_length=9))
    assert contents(tmp_path / "out") == before
    (tmp_path / "out" / "notes.txt").write_text("mine", "utf-8")
    records = prepare(corpus, tmp_path / "out", RecordOptions(sequence_length=9), overwrite=True)
    assert records.sequence_length == 9
    names = set(contents(tmp_path / "out"))
    assert {"notes.txt", "train-00000-of-00001.tfrecord"} < names
    assert not any("of-00003" in name for name in names)


def test_bad_text_is_found_before_anything_is_written(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\n\nbad \xff\n")
    with pytest.raises(InputError, match="line 3"):
        prepare(tmp_path / "a.txt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_validation_corpus_replaces_the_held_out_share(tmp_path, corpus):
    (tmp_path / "valid.txt").write_text("the mat", "utf-8")
    records = prepare(corpus, tmp_path / "out", validation_corpus=str(tmp_path / "valid.txt"))
    assert records.manifest["documents"] == {"train": 40, "validation": 1}
    assert token_stream(records, "validation") == TOKENIZER.encode_batch(["the mat"])[0]


def test_more_shards_than_documents_become_fewer(tmp_path):
    (tmp_path / "a.txt").write_text("the\n\ncat\n\nsat", "utf-8")
    options = RecordOptions(sequence_length=8, num_shards=50, held_out_fraction=0.0)
    prepare(tmp_path / "a.txt", tmp_path / "out", options)
    assert len(list((tmp_path / "out").glob("train-*-of-00003.tfrecord"))) == 3


def test_text_without_a_single_token(tmp_path):
    (tmp_path / "a.txt").write_text("\x01\n\n\x02", "utf-8")
    options = RecordOptions(held_out_fraction=0.0)
    with pytest.raises(InputError, match="no token"):
        prepare(tmp_path / "a.txt", tmp_path / "out", options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 2}, "sequence_length=2: expected a whole number >= 3"),
        ({"num_shards": 0}, "num_shards=0: expected a whole number >= 1"),
        ({"held_out_fraction": 1.0}, r"held_out_fraction=1\.0: .* < 1"),
    ],
)
def test_refuses_impossible_options(options, message):
    with pytest.raises(InputError, match=message):
        RecordOptions(**options)


def test_cache_is_reused_by_content(tmp_path, corpus, monkeypatch):
    def cached(path, options=OPTIONS):
        return cached_records(str(path), TOKENIZER, options=options, cache_dir=tmp_path / "cache")

    first = cached(corpus)
    moved = tmp_path / "moved.txt"
    moved.write_bytes(corpus.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(executors, "write_shard", None)
        assert cached(moved).source == first.source
    assert cached(corpus, RecordOptions(sequence_length=9)).source != first.source
    moved.write_text("the\n\ncat\n\nmat", "utf-8")
    assert cached(moved).source != first.source


def test_damaged_cache_entry_is_made_again(tmp_path, corpus):
    first = cached_records(str(corpus), TOKENIZER, options=OPTIONS, cache_dir=tmp_path)
    path = first.shards["train"][0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    cached_records(str(corpus), TOKENIZER, options=OPTIONS, cache_dir=tmp_path)
    assert path.read_bytes() == whole


FILL_CACHE = """
import sys
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import cached_records
from tests.helpers import tiny_tokenizer

options = RecordOptions(sequence_length=12, num_shards=3, held_out_fraction=0.2)
records = cached_records(sys.argv[1], tiny_tokenizer(), options=options, cache_dir=sys.argv[2])
sys.stdout.write(records.source)
sys.exit("preparing imports TensorFlow" if "tensorflow" in sys.modules else 0)
"""


def test_two_processes_share_the_cache(tmp_path, corpus):
    command = [sys.executable, "-c", FILL_CACHE, str(corpus), str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, cwd=REPOSITORY, text=True, **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    prepared = sum("Preparing records" in errors for _, errors in outputs)
    assert prepared == 1
    single = cached_records(str(corpus), TOKENIZER, options=OPTIONS, cache_dir=tmp_path / "other")
    assert contents(tmp_path / "records" / Path(single.source).name) == contents(
        Path(single.source)
    )


def test_records_given_as_corpus_are_opened_as_they_are(tmp_path, corpus):
    records = prepare(corpus, tmp_path / "out")
    found = cached_records([str(tmp_path / "out")], TOKENIZER, options=OPTIONS)
    assert found.source == records.source
    with pytest.raises(InputError, match="Pass sequence_length=12"):
        cached_records([str(tmp_path / "out")], TOKENIZER)
    with pytest.raises(InputError, match="mixes records with something else"):
        cached_records([str(tmp_path / "out"), str(corpus)], TOKENIZER, options=OPTIONS)
    with pytest.raises(InputError, match="validation_corpus has no effect on the records"):
        cached_records(
            [str(tmp_path / "out")], TOKENIZER, options=OPTIONS, validation_corpus=[str(corpus)]
        )


def test_a_second_preparation_in_one_directory_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat\n\nthe dog ran\n\non the mat")

    def prepare():
        return prepare_records(
            str(tmp_path / "a.txt"),
            tiny_tokenizer(),
            tmp_path / "out",
            options=RecordOptions(sequence_length=8, held_out_fraction=0.0),
        )

    with (
        hold(tmp_path / "out"),
        pytest.raises(InputError, match="Another run is working in"),
    ):
        prepare()
    assert not (tmp_path / "out").exists()
    assert prepare().num_examples() > 0


def test_progress_ends_at_all_of_the_text(tmp_path, capsys):
    text = "\n\n".join(f"the cat number {n} sat on the mat " * 20 for n in range(30))
    (tmp_path / "a.txt").write_text(text)
    for seed in range(5):
        options = RecordOptions(sequence_length=16, held_out_fraction=0.4, seed=seed)
        out = tmp_path / f"out{seed}"
        prepare_records(str(tmp_path / "a.txt"), tiny_tokenizer(), out, options=options)
        assert "(100 %)" in capsys.readouterr().err.splitlines()[-1]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
