"""Opening prepared records: our own directories and other BERT pre-training TFRecords."""

import contextlib
import fcntl
import functools
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etd_tf.errors import InputError
from etd_tf.storage.heads import (
    damaged,
    is_packed,
    is_tfrecord,
    read_head,
    unpack_zlib,
    unpacked,
    unpacking_errors,
    zlib_content,
)
from etd_tf.storage.home import DEFAULT_CACHE, expand
from etd_tf.storage.tfrecord import first_record
from etd_tf.text.options import MAX_LENGTH
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

    Raises:
        InputError: Nothing there, unfinished, damaged, or of another length.
    """
    path = expand(path)
    try:
        prepared = (path / MANIFEST).is_file()
        records = _open_prepared(path) if prepared else _open_foreign(path, cache_dir)
    except (PermissionError, NotADirectoryError) as error:
        raise InputError(f"Cannot open {error.filename or path}: {error.strerror}.") from error
    records.check_sequence_length(sequence_length)
    return records


def is_record_path(path: str | Path) -> bool:
    """Whether a path means records rather than text."""
    path = expand(path)
    if path.is_dir():
        ours = (path / MANIFEST, path / PARTIAL_MANIFEST)
        return any(file.is_file() for file in ours) or bool(_record_files(path))
    # The first file tells: reading the corpus refuses records between texts, and the other way.
    found = next(iter(sorted(map(Path, [path] if path.is_file() else glob.glob(str(path))))), None)
    return ".tfrecord" in path.name or (found is not None and _holds_records(found))


def check_records(path: str | Path, sequence_length: int | None = None) -> None:
    """Looks at the first record of every file, without unpacking or counting them.

    Args:
        path: As for `open_records`.
        sequence_length: Refuse records of another length.

    Raises:
        InputError: As `open_records`.
    """
    path = expand(path)
    if (path / MANIFEST).is_file():
        open_records(path, sequence_length=sequence_length)
        return
    RecordSet(str(path), {}, _layout_of(path, _foreign_files(path))).check_sequence_length(
        sequence_length
    )


def _open_prepared(directory: Path) -> RecordSet:
    try:
        manifest = json.loads((directory / MANIFEST).read_text("utf-8"))
        shards = {
            split: [_checked_shard(directory, shard) for shard in listed]
            for split, listed in manifest["shards"].items()
        }
        length = manifest["options"]["sequence_length"]
        if type(length) is not int or not 0 < length <= MAX_LENGTH:
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


def _holds_records(path: Path) -> bool:
    try:
        return path.is_file() and is_tfrecord(read_head(path))
    except InputError:  # reading it says so
        return False


def _record_files(path: Path) -> list[Path]:
    """All files of a glob; those of a directory that are records by name or content."""
    whole = path.is_dir()
    found = sorted(path.iterdir() if whole else map(Path, glob.glob(str(path))))
    if not found and path.is_file():  # a name with the signs of a glob
        found = [path]
    files = [file for file in found if file.is_file() and not file.name.endswith(".npy")]
    if not whole:
        return files
    named = [file for file in files if ".tfrecord" in file.name]
    visible = [file for file in files if not file.name.startswith((".", "_"))]
    return sorted({*named, *filter(_holds_records, visible)})


def _foreign_files(path: Path) -> list[Path]:
    if (path / PARTIAL_MANIFEST).is_file():
        raise InputError(
            f"The preparation in {path} is not finished. Run the same etd_prepare command "
            "again: it continues after the last finished file."
        )
    files = _record_files(path)
    if not files:
        raise InputError(
            f"No records in {path}: expected {MANIFEST} or TFRecord files. Make them from "
            "text with etd_prepare --corpus=... --output_dir=..."
        )
    for file in files:
        _check_is_record_file(file)
    return files


def _check_is_record_file(path: Path) -> None:
    """Names what is in a file that holds no records; damage is found by reading it."""
    head = read_head(path)
    if content := zlib_content(head):
        raise InputError(f"{path} holds {content}. {unpack_zlib(path)}")
    if head and ".tfrecord" not in path.name and not is_tfrecord(head):
        raise InputError(
            f"{path} holds no TFRecords, but other files beside it do. Give records alone: one "
            "directory, or a glob that matches nothing else."
        )


def _open_foreign(path: Path, cache_dir: str | Path | None) -> RecordSet:
    files = _foreign_files(path)
    layout = _layout_of(path, files)
    shards: dict[str, list[Shard]] = {}
    for file in files:
        held_out = file.name.startswith(("valid", "dev", "eval", "test"))
        shard = Shard(_unzipped(file, cache_dir))
        shards.setdefault(VALIDATION if held_out else TRAIN, []).append(shard)
    return RecordSet(str(path), shards, layout)


def _layout_of(path: Path, files: Sequence[Path]) -> FeatureLayout:
    """The layout of the first record of every file, which must be the same."""
    layouts = {file: _peek(file, record) for file in files if (record := _first_record(file))}
    if not layouts:
        raise InputError(f"The record files in {path} are empty. Prepare the corpus again.")
    first, layout = next(iter(layouts.items()))
    for file, other in layouts.items():
        if other != layout:
            raise InputError(
                f"{path} mixes records of two kinds: {first.name} has {layout.sequence_length} "
                f"tokens an example and {layout.num_predictions} masked-LM targets, {file.name} "
                f"has {other.sequence_length} and {other.num_predictions}. Keep files of one kind "
                "in one directory."
            )
    return layout


def _first_record(path: Path) -> bytes:
    """Empty for a file without records."""
    try:
        with unpacked(path) as file:
            return first_record(path, file)
    except unpacking_errors() as error:
        raise damaged(path, 0, error) from error


def _unzipped(path: Path, cache_dir: str | Path | None) -> Path:
    if not is_packed(path):
        return path
    state = path.stat()
    key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = expand(cache_dir or DEFAULT_CACHE) / "unzipped"
    target = folder / f"{name}.tfrecord"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    for half in folder.glob(f".{name}-*"):
        _remove_if_abandoned(half)
    descriptor, scratch = tempfile.mkstemp(prefix=f".{name}-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as output, unpacked(path) as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(output, fcntl.LOCK_EX)
            for chunk in iter(functools.partial(file.read, 1 << 20), b""):
                _check_space(path, folder)
                output.write(chunk)
        os.replace(scratch, target)
    except BaseException as error:
        os.unlink(scratch)
        if isinstance(error, unpacking_errors()):
            raise InputError(f"{path} is damaged or cut short ({error}).") from error
        raise
    return target


def _remove_if_abandoned(half: Path) -> None:
    """Removes what a killed process has unzipped; one that is alive holds the file's lock."""
    with contextlib.suppress(OSError), half.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        half.unlink()


def _check_space(path: Path, folder: Path) -> None:
    """A small gzipped file can hold a thousand times its size: it must not fill the disk."""
    free = shutil.disk_usage(folder).free
    if free < _SPARED_BYTES:
        raise InputError(
            f"{path} does not fit unzipped into {folder}, where {free / 1e9:.1f} GB are left. "
            "Free some space, or name a roomier place with cache_dir=DIRECTORY."
        )


def _peek(path: Path, record: bytes) -> FeatureLayout:
    """Learns names and lengths from a file's first record."""
    lengths = feature_lengths(record)
    names = {
        key: next((name for name in options if name in lengths), "")
        for key, options in FEATURES.items()
    }
    missing = [" or ".join(FEATURES[key]) for key, name in names.items() if not name]
    if missing:
        raise InputError(
            f"{path} holds no BERT pre-training examples: no feature "
            f"{', '.join(missing)}; found {lengths or 'nothing that tf.train.Example reads'}."
        )
    found = {name: lengths[name] for name in names.values()}
    if len(set(found.values())) != 1:
        raise InputError(f"{path}: features of one example differ in length: {found}.")
    masked = {name: lengths.get(name, 0) for name in MASKED_FEATURES}
    predictions = set(masked.values())
    return FeatureLayout(
        found[names["token_ids"]], names, predictions.pop() if len(predictions) == 1 else 0
    )
