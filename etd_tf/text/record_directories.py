"""Opening prepared records: our own directories and other BERT pre-training TFRecords."""

import functools
import glob
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.errors import InputError
from etd_tf.storage.home import DEFAULT_CACHE, expand
from etd_tf.storage.tfrecord import read_records
from etd_tf.text.records import (
    FEATURES,
    MANIFEST,
    MASKED_FEATURES,
    PARTIAL_MANIFEST,
    TRAIN,
    VALIDATION,
    FeatureLayout,
    RecordSet,
    Shard,
    feature_lengths,
    index_path_of,
)

_MAX_LENGTH = 1 << 16  # tokens an example
_GZIP_MAGIC = b"\x1f\x8b"
_SPARED_BYTES = 1 << 30  # of the disk that files are unzipped to


def open_records(
    path: str | Path, *, sequence_length: int | None = None, cache_dir: str | Path | None = None
) -> RecordSet:
    """Opens prepared records.

    Args:
        path: A directory made by `prepare_records`, or a directory or glob of other
            BERT pre-training TFRecords (google-research/bert or tf-models names, GZIP or
            not). Files whose name starts with `valid`, `dev`, `eval` or `test` are the
            validation split.
        sequence_length: Refuse records of another length.
        cache_dir: Where GZIP files are unpacked, as they cannot be read at random.

    Returns:
        The records.

    Raises:
        InputError: Nothing there, unfinished, damaged, or of another length.
    """
    path = Path(path).expanduser()
    try:
        prepared = (path / MANIFEST).is_file()
        records = _open_prepared(path) if prepared else _open_foreign(path, cache_dir)
    except (PermissionError, NotADirectoryError) as error:
        raise InputError(f"Cannot open {error.filename or path}: {error.strerror}.") from error
    records.check_sequence_length(sequence_length)
    return records


def is_record_path(path: str | Path) -> bool:
    """Whether a path means records rather than text."""
    path = Path(path).expanduser()
    if path.is_dir():
        ours = (path / MANIFEST, path / PARTIAL_MANIFEST)
        return any(file.is_file() for file in ours) or bool(_record_files(path))
    return ".tfrecord" in path.name


def _open_prepared(directory: Path) -> RecordSet:
    try:
        manifest = json.loads((directory / MANIFEST).read_text("utf-8"))
        shards = {
            split: [_checked_shard(directory, shard) for shard in listed]
            for split, listed in manifest["shards"].items()
        }
        length = manifest["options"]["sequence_length"]
        if type(length) is not int or not 0 < length <= _MAX_LENGTH:
            raise ValueError(f"sequence_length is {length!r}")
        fingerprint = str(manifest["tokenizer"])
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{directory / MANIFEST} is damaged ({error}). Prepare again.") from error
    names = {key: options[0] for key, options in FEATURES.items()}
    layout = FeatureLayout(length, names)
    return RecordSet(str(directory), shards, layout, fingerprint, manifest)


def _checked_shard(directory: Path, listed: Mapping[str, Any]) -> Shard:
    name = listed["name"]
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no plain file name")
    path = directory / name
    size = path.stat().st_size if path.is_file() else None
    if size != listed["bytes"]:
        found = "is missing" if size is None else f"has {size} bytes"
        raise InputError(
            f"{path} {found}; {MANIFEST} says {listed['bytes']} bytes. Prepare the corpus "
            "again or copy the file again."
        )
    return Shard(path, index_path_of(path))


def _record_files(path: Path) -> list[Path]:
    found = path.glob("*tfrecord*") if path.is_dir() else map(Path, glob.glob(str(path)))
    files = [file for file in sorted(found) if file.is_file()]
    return [file for file in files if not file.name.endswith(".npy")]


def _open_foreign(path: Path, cache_dir: str | Path | None) -> RecordSet:
    if (path / PARTIAL_MANIFEST).is_file():
        raise InputError(
            f"The preparation in {path} is not finished. Run the same etd_prepare command "
            "again: it continues after the last finished file."
        )
    files = _record_files(path)
    if not files:
        raise InputError(
            f"No records in {path}: expected {MANIFEST} or *.tfrecord files. Make them from "
            "text with etd_prepare --corpus=... --output_dir=..."
        )
    shards: dict[str, list[Shard]] = {}
    for file in files:
        held_out = file.name.startswith(("valid", "dev", "eval", "test"))
        shard = Shard(_unzipped(file, cache_dir))
        shards.setdefault(VALIDATION if held_out else TRAIN, []).append(shard)
    first = next((s for split in shards.values() for s in split if s.num_records), None)
    if first is None:
        raise InputError(f"The record files in {path} are empty. Prepare the corpus again.")
    layout = _peek(first)
    return RecordSet(str(path), shards, layout)


def _unzipped(path: Path, cache_dir: str | Path | None) -> Path:
    with open(path, "rb") as file:
        if file.read(2) != _GZIP_MAGIC:
            return path
    state = path.stat()
    key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = expand(cache_dir or DEFAULT_CACHE) / "unzipped"
    target = folder / f"{name}.tfrecord"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as output, gzip.open(path, "rb") as file:
            for chunk in iter(functools.partial(file.read, 1 << 20), b""):
                _check_space(path, folder)
                output.write(chunk)
        os.replace(scratch, target)
    except BaseException as error:
        os.unlink(scratch)
        if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error):
            raise InputError(f"{path} is damaged or cut short ({error}).") from error
        raise
    return target


def _check_space(path: Path, folder: Path) -> None:
    """A small gzipped file can hold a thousand times its size: it must not fill the disk."""
    free = shutil.disk_usage(folder).free
    if free < _SPARED_BYTES:
        raise InputError(
            f"{path} does not fit unzipped into {folder}, where {free / 1e9:.1f} GB are left. "
            "Free some space, or name a roomier place with --cache_dir."
        )


def _peek(shard: Shard) -> FeatureLayout:
    """Learns names and lengths from the first record."""
    record = read_records(shard.path, shard.offsets, np.zeros(1, np.int64))[0]
    lengths = feature_lengths(record)
    names = {
        key: next((name for name in options if name in lengths), "")
        for key, options in FEATURES.items()
    }
    missing = [" or ".join(FEATURES[key]) for key, name in names.items() if not name]
    if missing:
        raise InputError(
            f"{shard.path} holds no BERT pre-training examples: no feature "
            f"{', '.join(missing)}; found {lengths or 'nothing that tf.train.Example reads'}."
        )
    found = {name: lengths[name] for name in names.values()}
    if len(set(found.values())) != 1:
        raise InputError(f"{shard.path}: features of one example differ in length: {found}.")
    masked = {name: lengths.get(name, 0) for name in MASKED_FEATURES}
    predictions = set(masked.values())
    return FeatureLayout(
        found[names["token_ids"]], names, predictions.pop() if len(predictions) == 1 else 0
    )
