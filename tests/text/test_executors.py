"""Tests of the executors of a preparation; workers run one after another in this process."""

import os
import pickle
import sys
import time

import numpy as np
import pytest

from etd_tf import progress
from etd_tf.errors import InputError
from etd_tf.text import executors
from etd_tf.text.executors import SharedFilesExecutor, WriteJob
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import Preparation, prepare_records
from etd_tf.text.sources import TextFile
from tests.helpers import contents, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
OPTIONS = RecordOptions(sequence_length=12, num_shards=4, held_out_fraction=0.2)


@pytest.fixture
def corpus(tmp_path):
    generator = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "mat", "ran", "xyz", "dogs,"]
    for name in ("a", "b", "c"):
        documents = [
            "\n".join(" ".join(generator.choice(words, 7)) for _ in range(generator.integers(1, 5)))
            for _ in range(17)
        ]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(documents), "utf-8")
    return [str(tmp_path / f"{name}.txt") for name in ("a", "b", "c")]


def unordered(job, tasks):
    """Other workers, any order, and one task twice, as after a worker was given up."""
    order = np.random.default_rng(1).permutation(len(tasks)).tolist()
    for i in [*order, order[0]]:
        sent_job, sent_task = pickle.loads(pickle.dumps((job, tasks[i])))  # noqa: S301
        sent_job.start()(sent_task)


def run(corpus, directory, *, engine=unordered, options=OPTIONS, validation=None, **keys):
    job = Preparation.open(corpus, TOKENIZER, options, validation)
    executor = SharedFilesExecutor(engine, directory)
    return job.run(directory, executor, **({"overwrite": False} | keys))


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("held_out", [False, True])
def test_bytes_are_those_of_the_local_path(tmp_path, corpus, packing, held_out):
    options = RecordOptions(12, packing, num_shards=4, held_out_fraction=0.2, seed=5)
    validation = corpus.pop() if held_out else None
    prepare_records(
        corpus, TOKENIZER, tmp_path / "one", options=options, validation_corpus=validation
    )
    records = run(corpus, tmp_path / "two", options=options, validation=validation)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert records.num_examples("validation") > 0
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == {"a.txt", "b.txt", "c.txt", "one", "two"}  # nothing is left over


def test_relative_paths_reach_workers_elsewhere(tmp_path, corpus, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def elsewhere(job, tasks):
        with monkeypatch.context() as patch:
            patch.chdir("/")
            unordered(job, tasks)

    run(["a.txt"], tmp_path / "out", engine=elsewhere)
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_either_path_goes_on_where_the_other_ended(tmp_path, corpus):
    prepare_records(corpus, TOKENIZER, tmp_path / "whole", options=OPTIONS)
    written, damaged = [], "train-00001-of-00004.tfrecord"

    def dies(job, tasks):
        if not isinstance(job, WriteJob):
            return unordered(job, tasks)
        for task in tasks[:3]:
            job.start()(task)
            written.append(task[1][0])
        raise RuntimeError("cluster lost")

    for i in range(2):
        with pytest.raises(RuntimeError, match="cluster lost"):
            run(corpus, tmp_path / f"out{i}", engine=dies)
    os.truncate(tmp_path / "out0" / damaged, 5)
    os.truncate(tmp_path / "out1" / damaged, 5)
    stamps = {path: path.stat().st_mtime_ns for path in written if path.name != damaged}
    run(corpus, tmp_path / "out0")
    prepare_records(corpus, TOKENIZER, tmp_path / "out1", options=OPTIONS)
    for i in range(2):
        assert contents(tmp_path / f"out{i}") == contents(tmp_path / "whole")
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    assert len(stamps) == 4


def test_workers_go_on_where_the_local_path_ended(tmp_path, corpus, monkeypatch):
    prepare_records(corpus, TOKENIZER, tmp_path / "whole", options=OPTIONS)
    write, paths = executors.write_shard, []

    def dies(path, *args, **keys):
        if len(paths) == 2:
            raise KeyboardInterrupt
        paths.append(path)
        return write(path, *args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(executors, "write_shard", dies)
        with pytest.raises(KeyboardInterrupt):
            prepare_records(corpus, TOKENIZER, tmp_path / "out", options=OPTIONS)
    stamps = [path.stat().st_mtime_ns for path in paths]
    run(corpus, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert stamps == [path.stat().st_mtime_ns for path in paths]


def test_files_of_another_preparation_do_not_count(tmp_path, corpus, monkeypatch):
    def dies(job, tasks):
        unordered(job, tasks)
        if isinstance(job, WriteJob):
            raise RuntimeError("cluster lost")

    with pytest.raises(RuntimeError, match="cluster lost"):
        run(corpus, tmp_path / "out", engine=dies)
    other = RecordOptions(sequence_length=9, num_shards=4, held_out_fraction=0.2)
    with pytest.raises(InputError, match=r"sequence_length .*pass overwrite=True"):
        run(corpus, tmp_path / "out", options=other)

    def stops(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(executors, "write_shard", stops)
        with pytest.raises(KeyboardInterrupt):
            prepare_records(corpus, TOKENIZER, tmp_path / "out", options=other, overwrite=True)
    assert set(contents(tmp_path / "out")) == {"partial-manifest.json"}
    run(corpus, tmp_path / "out", options=other)
    prepare_records(corpus, TOKENIZER, tmp_path / "whole", options=other)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_remains_of_killed_workers_are_removed(tmp_path, corpus):
    def killed(job, tasks):
        unordered(job, tasks)
        if isinstance(job, WriteJob):
            (tmp_path / "out" / ".train-00000-of-00004.attempt-x").mkdir()

    (tmp_path / ".out.scan-x").mkdir()
    run(corpus, tmp_path / "out", engine=killed)
    assert not list((tmp_path / "out").glob(".*"))
    assert not list(tmp_path.glob(".*"))


def test_input_errors_of_workers_are_told(tmp_path, corpus):
    (tmp_path / "a.txt").write_bytes(b"fine\n\n\xff")
    with pytest.raises(InputError, match=r"a\.txt, line 3, byte 6: not UTF-8"):
        run(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_text_that_changes_between_the_rounds_is_an_input_error(tmp_path, corpus):
    def changes(job, tasks):
        unordered(job, tasks)
        (tmp_path / "b.txt").write_text("the cat", "utf-8")

    with pytest.raises(InputError, match="Run the command again"):
        run(corpus, tmp_path / "out", engine=changes)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_workers_without_the_shared_folder_are_noticed_before_they_work(tmp_path, corpus):
    def elsewhere(job, tasks):
        """As on a machine that has the text, but not the folder of the results."""
        moved = [(tmp_path / "absent" / path.name, item) for path, item in tasks]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TextFile, "documents", lambda *_: pytest.fail("read the text"))
            unordered(job, moved)

    with pytest.raises(InputError, match="mount at the same place"):
        run(corpus, tmp_path / "out", engine=elsewhere)
    assert not (tmp_path / "absent").exists()

    def writes_elsewhere(job, tasks):
        (elsewhere if isinstance(job, WriteJob) else unordered)(job, tasks)

    with pytest.raises(InputError, match="mount at the same place"):
        run(corpus, tmp_path / "out", engine=writes_elsewhere)


def scans_only(job, tasks):
    if not isinstance(job, WriteJob):
        unordered(job, tasks)


def test_an_error_that_was_mended_is_forgotten(tmp_path, corpus, monkeypatch):
    write = executors.write_shard

    def fails(path, *args, **keys):
        if path.name.startswith("train-00002"):
            raise InputError("no such luck")
        return write(path, *args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(executors, "write_shard", fails)
        with pytest.raises(InputError, match="no such luck"):
            run(corpus, tmp_path / "out")
    with pytest.raises(InputError, match="mount at the same place"):
        run(corpus, tmp_path / "out", engine=scans_only)
    run(corpus, tmp_path / "out")
    prepare_records(corpus, TOKENIZER, tmp_path / "whole", options=OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_progress_counts_what_workers_leave(tmp_path, corpus, monkeypatch, capsys):
    monkeypatch.setattr(executors, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)

    def slowly(job, tasks):
        for task in tasks:
            unordered(job, [task])
            time.sleep(0.1)

    run(corpus, tmp_path / "out", engine=slowly)
    shown = capsys.readouterr().err
    assert "Reading the corpus: 1/3 sources" in shown
    assert "Preparing records: 5/5 files" in shown


def test_a_taken_directory_is_refused_before_any_work(tmp_path, corpus):
    run(corpus, tmp_path / "out")
    with pytest.raises(InputError, match="pass overwrite=True"):
        run(corpus, tmp_path / "out", engine=lambda job, tasks: pytest.fail("worked"))
    run(corpus, tmp_path / "out", overwrite=True)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
