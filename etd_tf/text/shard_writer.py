"""One shard: encoded text in, a TFRecord file with its index out, whole or not at all."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from etd_tf.storage.atomic import sync, write_atomically
from etd_tf.storage.tfrecord import frame_records, serialize_examples
from etd_tf.text.packing import Packer
from etd_tf.text.records import index_path_of
from etd_tf.tokenization.encoding import Encoded
from etd_tf.types import Array, IntArray


@dataclasses.dataclass(frozen=True)
class ShardSummary:
    """What a manifest says about a record file.

    Attributes:
        name: File name.
        bytes: File size.
        sha256: Of the file.
        records: Number of examples.
        tokens: Real tokens, special ones included.
    """

    name: str
    bytes: int
    sha256: str
    records: int
    tokens: int


def write_shard(path: Path, blocks: Iterable[Encoded], *, packer: Packer) -> ShardSummary:
    """Writes encoded texts as examples; on an error nothing is left at `path`.

    Args:
        path: The TFRecord file; the index goes beside it.
        blocks: Encoded texts, see `Encoder.encode`.
        packer: Ids to rows; left empty.
    """
    scratch = path.with_name(f".{path.name}.partial-shard")  # see remove_leftovers
    digest, tokens = hashlib.sha256(), 0
    sizes = [np.zeros(1, np.int64)]
    try:
        with open(scratch, "wb") as file:
            for rows, lengths in _rows(blocks, packer):
                frames = frame_records(serialize_examples(rows, lengths))
                content = b"".join(frames)
                file.write(content)
                digest.update(content)
                sizes.append(np.fromiter(map(len, frames), np.int64, len(frames)))
                tokens += int(lengths.sum())
            file.flush()
            sync(file.fileno())
        offsets = np.cumsum(np.concatenate(sizes))
        _write_index(index_path_of(path), offsets)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return ShardSummary(path.name, int(offsets[-1]), digest.hexdigest(), len(offsets) - 1, tokens)


def _write_index(path: Path, offsets: IntArray) -> None:
    content = io.BytesIO()
    np.save(content, offsets, allow_pickle=False)
    write_atomically(path, content.getvalue())


def _rows(blocks: Iterable[Encoded], packer: Packer) -> Iterator[tuple[Array, IntArray]]:
    for ids, lengths in blocks:
        yield packer.add(ids, lengths)
    yield packer.finish()
