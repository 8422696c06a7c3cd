"""A teacher's sentence vectors, computed once for all runs on the same text."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.distillation.features import ENCODER_INPUTS, compute_features
from etd_tf.distillation.vectors import pooling_of, sentence_vectors
from etd_tf.losses.reductions import unit_vectors
from etd_tf.progress import Tracker, track
from etd_tf.storage.holding import hold
from etd_tf.storage.home import expand
from etd_tf.text.records import RecordSet
from etd_tf.text.vectors import VectorStore
from etd_tf.types import Array, IntArray, Tensor

_FORMAT = 1  # of the files; another one means another directory
_CHUNK = 4096  # vectors a file, so what a killed process loses at most
_CPU_TOKENS, _GPU_TOKENS = 4096, 16_384  # of a batch
_MULTIPLE = 16  # lengths of batches; more different shapes would be compiled more often
_QUIET_SECONDS = 2.0

_Forward = Callable[[dict[str, Array]], Tensor]


def with_teacher_vectors(
    records: RecordSet,
    teacher: Checkpoint,
    needed: Mapping[str, IntArray],
    *,
    cache_dir: str | Path,
    dtype: Any = None,
) -> RecordSet:
    """Computes the teacher's sentence vectors of records, or finds them in the cache.

    The key is the content of text and teacher, how the teacher pools, and its precision. Vectors
    of other records than the needed ones are not computed. If the process ends early, the same
    call goes on after the last finished file. Two processes may ask at once: one computes, the
    other waits for it.

    Args:
        records: The records.
        teacher: The teacher.
        needed: Numbers of the examples whose vectors are needed, by split.
        cache_dir: Directory of the cache.
        dtype: Keras dtype policy of the teacher; None for its own.

    Returns:
        The records; what is read of them has vectors of length 1 as `teacher_vector`.

    Raises:
        InputError: A record is damaged, or the cache cannot be written.
    """
    teacher = teacher if dtype in (None, teacher.dtype) else teacher.astype(dtype)
    pooling = pooling_of(teacher)
    folder = expand(cache_dir) / "vectors" / _key(records, teacher)
    store = VectorStore(folder, pooling.dimension(teacher.config.hidden_size))
    with hold(folder, wait=True, name="cache_dir"):
        missing = {split: store.missing(split, numbers) for split, numbers in needed.items()}
        total = sum(map(len, missing.values()))
        known = sum(map(len, needed.values())) - total
        if total:
            name = "Computing the teacher's sentence vectors"
            with track(name, known + total, "texts", done=known, quiet_seconds=_QUIET_SECONDS) as t:
                forward = _compiled(teacher)
                for split, numbers in missing.items():
                    _compute(records, split, numbers, store, forward, t)
    return dataclasses.replace(records, teacher_vectors=store)


def _key(records: RecordSet, teacher: Checkpoint) -> str:
    """Names everything that vectors depend on."""
    pooling = pooling_of(teacher)
    digest = hashlib.sha256(teacher.fingerprint().encode())
    for layer in pooling.dense:
        for part in (layer.activation.encode(), layer.kernel, layer.bias):
            digest.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
    facts = [_FORMAT, pooling.modes, pooling.truncate_dim, str(teacher.dtype), _text(records)]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _text(records: RecordSet) -> Any:
    """What tells some records from others; each vector also knows its record's tokens."""
    keys = ("format", "options", "tokenizer", "corpus", "validation_corpus")
    if records.manifest:
        return [records.manifest.get(key) for key in keys]
    shards = [shard.path for split in sorted(records.shards) for shard in records.shards[split]]
    return [[str(path.resolve()), *_stamp(path.stat())] for path in shards]


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _compiled(teacher: Checkpoint) -> _Forward:
    """The vectors of a batch of any shape, of length 1."""
    pooling = pooling_of(teacher)
    teacher.build()  # a function that is traced first would be traced twice

    def forward(batch: dict[str, Tensor]) -> Tensor:
        vectors = sentence_vectors(pooling, compute_features(teacher, batch, mlm=False))
        return unit_vectors(vectors)

    spec = dict.fromkeys(ENCODER_INPUTS, tf.TensorSpec([None, None], tf.int32))
    compiled: _Forward = tf.function(forward, autograph=False).get_concrete_function(spec)
    return compiled


def _compute(
    records: RecordSet,
    split: str,
    numbers: IntArray,
    store: VectorStore,
    forward: _Forward,
    tracker: Tracker,
) -> None:
    for start in range(0, len(numbers), _CHUNK):
        chunk = numbers[start : start + _CHUNK]
        batch = records.read(split, chunk)
        vectors = np.empty((len(chunk), store.size), np.float32)
        for rows, part in _batches(batch):
            vectors[rows] = forward(part).numpy()
            tracker.advance(len(rows))
        store.add(split, chunk, batch["token_ids"], vectors)


def _batches(batch: Mapping[str, Array]) -> Iterator[tuple[IntArray, dict[str, Array]]]:
    """Cuts examples into batches of similar length, without the padding that they share."""
    tokens = _GPU_TOKENS if tf.config.list_logical_devices("GPU") else _CPU_TOKENS
    mask = batch["padding_mask"] > 0
    lengths = np.where(mask.any(1), mask.shape[1] - mask[:, ::-1].argmax(1), 1)
    order, start = np.argsort(-lengths, kind="stable"), 0
    while start < len(order):
        length = min(-(-lengths[order[start]] // _MULTIPLE) * _MULTIPLE, mask.shape[1])
        rows = order[start : start + max(1, tokens // length)]
        yield rows, {name: batch[name][rows, :length] for name in ENCODER_INPUTS}
        start += len(rows)
