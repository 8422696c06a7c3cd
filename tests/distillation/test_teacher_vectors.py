"""Tests of a teacher's sentence vectors that are computed once for all runs on a text."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from etd_tf.checkpoints import save_checkpoint
from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.cli.app import run_command
from etd_tf.cli.compare import COMMAND as COMPARE
from etd_tf.cli.distill import COMMAND
from etd_tf.distillation import Distiller, teacher_vectors
from etd_tf.distillation.features import compute_features
from etd_tf.distillation.teacher_vectors import with_teacher_vectors
from etd_tf.distillation.vectors import sentence_vectors
from etd_tf.errors import InputError, Interrupted
from etd_tf.losses import Embedding, MaskedLM, MiniLM, Similarity
from etd_tf.modeling.encoder import BertEncoder
from etd_tf.modeling.pooling import DenseLayer, Pooling
from etd_tf.text.batches import make_batches
from etd_tf.text.lengths import SimilarLengths
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import prepare_records
from etd_tf.text.records import TRAIN, VALIDATION
from etd_tf.text.vectors import VectorStore
from etd_tf.training.metrics_log import read_metrics
from tests.distillation.tiny_distiller import compiled, make_batch, make_student
from tests.distillation.tiny_distiller import make_teacher as make_plain_teacher
from tests.helpers import tiny_checkpoint, tiny_tokenizer
from tests.jobs.tiny_job import job_flags, write_text

POOLING = Pooling(("mean",), normalize=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    save_checkpoint(tiny_checkpoint().replace(pooling=POOLING), folder / "teacher")
    write_text(folder / "text.txt")
    write_text(folder / "held_out.txt", documents=30)
    options = RecordOptions(sequence_length=16, packing=False, held_out_fraction=0.2)
    lines = (folder / "text.txt").read_text("utf-8").split()
    short = "\n".join(" ".join(lines[i : i + 1 + i % 13]) for i in range(0, len(lines), 7))
    (folder / "short.txt").write_text(short.replace("\n", "\n\n"), "utf-8")
    tokenizer = tiny_tokenizer()
    prepare_records(str(folder / "short.txt"), tokenizer, folder / "rows", options=options)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["packed", "a line a row"])
def records(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("records")
    path = write_text(folder / "text.txt", documents=60)
    options = RecordOptions(sequence_length=48, packing=request.param, held_out_fraction=0.1)
    return prepare_records(str(path), tiny_tokenizer(), folder / "records", options=options)


def _teacher(**pooling):
    return tiny_checkpoint(max_positions=64).replace(pooling=Pooling(**pooling))


def _all(records):
    return {split: np.arange(records.num_examples(split)) for split in (TRAIN, VALIDATION)}


def _directions(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _files(cache):
    return sorted((cache / "vectors").glob("*/*/*.npy"))


@pytest.mark.parametrize("modes", [("mean",), ("cls", "max")])
def test_vectors_are_those_that_the_losses_read(records, tmp_path, modes, monkeypatch):
    monkeypatch.setattr(teacher_vectors, "_CHUNK", 16)
    monkeypatch.setattr(teacher_vectors, "_CPU_TOKENS", 100)
    dense = DenseLayer(np.eye(15 * len(modes), 6, dtype=np.float32), np.ones(6, np.float32))
    teacher = _teacher(modes=modes, dense=(dense,), truncate_dim=4)
    found = with_teacher_vectors(records, teacher, _all(records), cache_dir=tmp_path)
    for split, rows in _all(records).items():
        batch = found.read(split, rows[::-1])
        plain = records.read(split, rows[::-1])
        features = compute_features(teacher, plain, mlm=False)
        expected = _directions(np.asarray(sentence_vectors(teacher.pooling, features)))
        assert batch["teacher_vector"].dtype == np.float16
        np.testing.assert_allclose(batch["teacher_vector"], expected, atol=1e-3)
        assert plain.keys() == batch.keys() - {"teacher_vector"}
    assert len(_files(tmp_path)) > 2
    (batch,) = make_batches(found, batch_size=4, seed=0).take(1)
    assert batch["teacher_vector"].shape == (4, 4)


def test_vectors_are_computed_once_and_only_where_needed(records, tmp_path, monkeypatch):
    rows = []
    original = teacher_vectors._batches

    def counting(batch):
        rows.append(len(batch["token_ids"]))
        return original(batch)

    monkeypatch.setattr(teacher_vectors, "_batches", counting)
    with_teacher_vectors(records, _teacher(), {TRAIN: np.array([5, 2])}, cache_dir=tmp_path)
    with_teacher_vectors(records, _teacher(), {TRAIN: np.array([2, 5])}, cache_dir=tmp_path)
    assert rows == [2]
    with_teacher_vectors(records, _teacher(), {TRAIN: np.arange(7)}, cache_dir=tmp_path)
    assert rows == [2, 5]
    for other in ("max", "cls"):
        needed = {TRAIN: np.array([5])}
        with_teacher_vectors(records, _teacher(modes=(other,)), needed, cache_dir=tmp_path)
    dtype = "mixed_bfloat16"
    with_teacher_vectors(records, _teacher(), needed, cache_dir=tmp_path, dtype=dtype)
    changed = dataclasses.replace(records, manifest={**records.manifest, "corpus": "other"})
    with_teacher_vectors(changed, _teacher(), needed, cache_dir=tmp_path)
    assert rows == [2, 5, 1, 1, 1, 1]
    assert len({*(tmp_path / "vectors").iterdir()}) == 5


def test_a_killed_computation_goes_on_after_the_last_file(records, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_vectors, "_CHUNK", 8)
    written, original = [], VectorStore.add

    def killed(self, split, numbers, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(len(numbers))
        original(self, split, numbers, *rest)

    needed = {TRAIN: np.arange(30)}
    monkeypatch.setattr(VectorStore, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        with_teacher_vectors(records, _teacher(), needed, cache_dir=tmp_path / "cut")
    monkeypatch.setattr(VectorStore, "add", original)
    early = [path.stat().st_mtime_ns for path in _files(tmp_path / "cut")]
    with_teacher_vectors(records, _teacher(), needed, cache_dir=tmp_path / "cut")
    with_teacher_vectors(records, _teacher(), needed, cache_dir=tmp_path / "whole")
    assert [path.stat().st_mtime_ns for path in _files(tmp_path / "cut")[:2]] == early
    for cut, whole in zip(_files(tmp_path / "cut"), _files(tmp_path / "whole"), strict=True):
        assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("losses", [[Embedding()], [Embedding(matryoshka=(4,)), Similarity()]])
def test_losses_are_those_of_a_teacher_that_runs_along(losses):
    teacher, batch = make_plain_teacher().replace(pooling=POOLING), make_batch(6)
    running = Distiller(teacher, make_student(), losses)
    expected, terms = running.distillation_loss(batch, training=False)
    vectors = np.asarray(running.teacher_features(batch).vectors)
    for scale, dtype in ((1.0, np.float32), (0.02, np.float16)):
        given = Distiller(teacher, make_student(), losses, teacher_vectors=True)
        for name, layer in given.projections.items():
            layer.set_weights(running.projections[name].get_weights())
        with_vectors = {**batch, "teacher_vector": (scale * vectors).astype(dtype)}
        total, found = given.distillation_loss(with_vectors, training=False)
        tolerance = 1e-6 if dtype == np.float32 else 1e-3
        assert float(total) == pytest.approx(float(expected), rel=tolerance)
        assert found.keys() == terms.keys()


def test_the_teacher_is_not_even_built(monkeypatch):
    teacher, batch = make_plain_teacher().replace(pooling=POOLING), make_batch()
    distiller = Distiller(teacher, make_student(), Embedding(), teacher_vectors=True)
    built, original = [], Checkpoint.build
    monkeypatch.setattr(Checkpoint, "build", lambda self: built.append(self) or original(self))
    compiled(distiller)
    batch["teacher_vector"] = np.ones((4, teacher.config.hidden_size), np.float32)
    losses = [distiller.train_on_batch(batch, return_dict=True)["loss"] for _ in range(20)]
    assert losses[-1] < losses[0]
    assert teacher not in built
    del batch["teacher_vector"]
    with pytest.raises(InputError, match="teacher_vector"):
        distiller.train_on_batch(batch)


def test_other_losses_need_the_teacher_itself():
    teacher = make_plain_teacher().replace(pooling=POOLING)
    for losses in ([Embedding(), MiniLM()], [MaskedLM()]):
        with pytest.raises(InputError, match="teacher_vectors=True needs losses that read"):
            Distiller(teacher, make_student(), losses, teacher_vectors=True)
    both = [Embedding(), MaskedLM()]
    assert not Distiller(teacher, make_student(), both, teacher_vectors=True).runs_teacher


def _flags(folder, out, cache, **changes):
    changes = {"loss": "embedding", "extraction": "rand", "dropout": 0.1, **changes}
    changes = {"validation_corpus": folder / "held_out.txt", "cache_dir": cache, **changes}
    flags = job_flags(folder, out, **changes)
    return [*flags, "--keep_map"]


def _losses(out):
    return [line["loss"] for line in read_metrics(out / "metrics.jsonl")]


def test_a_run_uses_the_cache_and_trains_like_one_without(folder, tmp_path, monkeypatch, caplog):
    traced, original = [], BertEncoder.trace

    def counting(self, *args, **options):
        traced.append(self.config.hidden_size)
        return original(self, *args, **options)

    monkeypatch.setattr(BertEncoder, "trace", counting)
    cache = tmp_path / "cache"
    assert run_command(COMMAND, _flags(folder, tmp_path / "first", cache)) == 0
    with_cache, files = [*traced], _files(cache)
    assert {path.parent.name for path in files} == {TRAIN, VALIDATION}
    traced.clear()
    assert (
        run_command(COMMAND, [*_flags(folder, tmp_path / "plain", cache), "--nocache_vectors"]) == 0
    )
    assert with_cache.count(15) < traced.count(15)  # the teacher's width
    np.testing.assert_allclose(_losses(tmp_path / "first"), _losses(tmp_path / "plain"), rtol=0.01)
    flags = _flags(folder, tmp_path / "again", cache, seed=1, steps=3)
    before = [path.stat().st_mtime_ns for path in files]
    assert run_command(COMMAND, flags) == 0
    assert [path.stat().st_mtime_ns for path in files] == before
    first, plain = (
        json.loads((tmp_path / name / "report.json").read_text())["cost"]["training_flops"]
        for name in ("first", "plain")
    )
    assert first <= plain
    assert "not cached" not in caplog.text


@pytest.mark.parametrize("rows", [False, True], ids=["packed", "similar lengths"])
def test_an_interrupted_run_goes_on_bit_for_bit(folder, tmp_path, monkeypatch, rows):
    from etd_tf.distillation import loop

    whole, cut, cache = tmp_path / "whole", tmp_path / "cut", tmp_path / "cache"
    changes = {"corpus": folder / "rows", "validation_corpus": None} if rows else {}
    lengths, original_read = set(), SimilarLengths.read

    def reading(self, *args):
        batch = original_read(self, *args)
        lengths.add(batch["token_ids"].shape[1])
        return batch

    monkeypatch.setattr(SimilarLengths, "read", reading)
    assert run_command(COMMAND, _flags(folder, whole, cache, **changes)) == 0
    assert lengths == ({8, 16} if rows else set())
    original = loop.Run.advance

    def stopping(self, count, metrics):
        original(self, count, metrics)
        if self.step == 5:
            self.save()
            raise Interrupted(15, "")

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "advance", stopping)
        assert run_command(COMMAND, _flags(folder, cut, cache, **changes)) == 128 + 15
    assert run_command(COMMAND, _flags(folder, cut, cache, **changes)) == 0
    for path in sorted((whole / "student").rglob("*.safetensors")):
        assert path.read_bytes() == (cut / path.relative_to(whole)).read_bytes(), path
    assert len([*(whole / "student").rglob("*.safetensors")]) == 2  # with the map
    assert _losses(cut)[-3:] == _losses(whole)[-3:]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"loss": "embedding,minilm"}, "loss=minilm reads more of the teacher than its vector"),
        ({"masking_rate": 0.2}, "the teacher reads other masked tokens"),
    ],
)
def test_where_the_cache_is_of_no_use_a_run_says_so(folder, tmp_path, caplog, changes, reason):
    flags = _flags(folder, tmp_path / "out", tmp_path / "cache", steps=2, warmup_steps=0, **changes)
    assert run_command(COMMAND, flags) == 0
    assert f"Sentence vectors are not cached: {reason}" in caplog.text
    assert not (tmp_path / "cache" / "vectors").exists()


def test_a_damaged_cache_is_said(folder, tmp_path, capsys, caplog):
    cache = tmp_path / "cache"
    assert run_command(COMMAND, _flags(folder, tmp_path / "first", cache)) == 0
    for path in _files(cache):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    assert run_command(COMMAND, _flags(folder, tmp_path / "second", cache)) == 2
    assert "Remove the file; the same command computes" in capsys.readouterr().err
    for path in _files(cache):
        path.write_bytes(path.read_bytes()[:-1])
    assert run_command(COMMAND, _flags(folder, tmp_path / "second", cache)) == 0
    assert "its vectors are computed again" in caplog.text
    for name in ("model.safetensors", "2_Dense/model.safetensors"):
        first, second = (tmp_path / out / "student" / name for out in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_arms_of_a_comparison_share_the_cache(folder, tmp_path, monkeypatch):
    computed, original = [], VectorStore.add

    def counting(self, split, numbers, *rest):
        computed.append((split, len(numbers)))
        original(self, split, numbers, *rest)

    monkeypatch.setattr(VectorStore, "add", counting)
    flags = job_flags(
        folder,
        tmp_path / "study",
        validation_corpus=folder / "held_out.txt",
        cache_dir=tmp_path / "cache",
        arms="rand",
        losses="embedding,similarity",
        students="1x9x3x7",
        seeds="0,1",
        held_out_sequences=20,
        steps=80,
        **dict.fromkeys(
            (
                *("student_layers", "student_hidden", "student_heads", "student_intermediate"),
                *("export", "evaluate_every", "log_every", "checkpoint_every"),
            )
        ),
    )
    assert run_command(COMPARE, flags) == 0
    assert [split for split, _ in computed] == [TRAIN, VALIDATION]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
