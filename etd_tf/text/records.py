"""Prepared examples on disk: which files there are, and reading any of them."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etd_tf.errors import InputError
from etd_tf.storage.tfrecord import find_records, how_to_replace, read_records
from etd_tf.text.vectors import UNREADABLE, VectorStore
from etd_tf.types import Array, IntArray

MANIFEST = "manifest.json"
PARTIAL_MANIFEST = f"partial-{MANIFEST}"
TRAIN, VALIDATION = "train", "validation"
# Batch key: names of the feature in google-research/bert and in tf-models' second version.
FEATURES = {
    "token_ids": ("input_ids", "input_word_ids"),
    "segment_ids": ("segment_ids", "input_type_ids"),
    "padding_mask": ("input_mask",),
}
# Masked-LM targets keep the names that they have in google-research/bert.
MASKED_WEIGHTS = "masked_lm_weights"
MASKED_FEATURES = ("masked_lm_positions", "masked_lm_ids", MASKED_WEIGHTS)
TEACHER_VECTOR = "teacher_vector"
"""Batch key of the teacher's sentence vectors, where they are known."""
_OTHER_TOKENIZER = (
    "The records were made with another tokenizer: prepare the text again with the model's own "
    "(etd_prepare --tokenizer=MODEL_DIR)."
)
_REMEDIES = {
    "token_ids": _OTHER_TOKENIZER,
    "masked_lm_ids": _OTHER_TOKENIZER,
    "segment_ids": "The records were made for a model with more segments: prepare the text again.",
    "masked_lm_positions": "Positions count the tokens of the example from 0: prepare the text "
    "again.",
}


@dataclasses.dataclass(frozen=True)
class Shard:
    """One uncompressed TFRecord file.

    Attributes:
        path: The file.
        index_path: `.npy` file of int64 `[records + 1]` offsets; None to scan `path`.
    """

    path: Path
    index_path: Path | None = None

    @functools.cached_property
    def offsets(self) -> IntArray:
        """Int64 `[records + 1]`; memory-mapped where there is an index file."""
        if self.index_path is None:
            return find_records(self.path)
        try:
            offsets = np.load(self.index_path, mmap_mode="r", allow_pickle=False)
            size = self.path.stat().st_size
        except UNREADABLE as error:
            raise InputError(
                f"{self.index_path} is missing or damaged. {how_to_replace(self.index_path)}"
            ) from error
        if not _are_offsets(offsets, size):
            raise InputError(
                f"{self.index_path} is no index of {self.path.name}; it may belong to another "
                f"file. {how_to_replace(self.index_path)}"
            )
        index: IntArray = offsets
        return index

    @property
    def num_records(self) -> int:
        """Number of records."""
        return len(self.offsets) - 1


@dataclasses.dataclass(frozen=True)
class FeatureLayout:
    """How examples are stored.

    Attributes:
        sequence_length: Tokens an example (T).
        names: Feature name by batch key.
        num_predictions: Length of the `masked_lm_*` features (P), 0 where there are none.
    """

    sequence_length: int
    names: Mapping[str, str]
    num_predictions: int = 0

    @property
    def widths(self) -> dict[str, int]:
        """Columns of each array of a batch by key."""
        widths = dict.fromkeys(FEATURES, self.sequence_length)
        if self.num_predictions:
            widths |= dict.fromkeys(MASKED_FEATURES, self.num_predictions)
        return widths


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """Examples of a corpus in splits.

    Attributes:
        source: Where they come from, for messages.
        shards: Files by split; `"train"` and, where documents were held out,
            `"validation"`.
        layout: How examples are stored.
        tokenizer_fingerprint: Of the tokenizer that made them; None where unknown.
        manifest: What `etd_prepare` recorded; empty for other records.
        vocab_size: Token ids must be below it; None where no model is known.
        num_segments: Segment ids must be below it; None where no model is known.
        teacher_vectors: A teacher's sentence vectors of the examples; None where unknown.
    """

    source: str
    shards: Mapping[str, Sequence[Shard]]
    layout: FeatureLayout
    tokenizer_fingerprint: str | None = None
    manifest: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    vocab_size: int | None = None
    num_segments: int | None = None
    teacher_vectors: VectorStore | None = None

    @property
    def columns(self) -> dict[str, tuple[type[np.generic], int]]:
        """Type and number of columns of each array that `read` returns, by key."""
        columns: dict[str, tuple[type[np.generic], int]] = {
            key: (np.float32 if key == MASKED_WEIGHTS else np.int32, width)
            for key, width in self.layout.widths.items()
        }
        if self.teacher_vectors is not None:
            columns[TEACHER_VECTOR] = np.float16, self.teacher_vectors.size
        return columns

    @property
    def sequence_length(self) -> int:
        """Tokens an example (T)."""
        return self.layout.sequence_length

    def num_examples(self, split: str = TRAIN) -> int:
        """Number of examples of a split.

        Raises:
            InputError: There is no such split.
        """
        self._split(split)
        return int(self._boundaries[split][-1])

    @functools.cached_property
    def _boundaries(self) -> dict[str, IntArray]:
        """By split: index of each shard's first example, and the total."""
        return {
            split: np.cumsum([0, *(shard.num_records for shard in shards)])
            for split, shards in self.shards.items()
        }

    def _split(self, split: str) -> Sequence[Shard]:
        if not self.shards.get(split):
            raise InputError(
                f"{self.source} has no {split} split, only {', '.join(sorted(self.shards))}. "
                "Prepare the text again with held_out_fraction above 0, or with "
                "validation_corpus=FILES."
            )
        return self.shards[split]

    def read(self, split: str, indices: Array) -> dict[str, Array]:
        """Reads examples.

        Args:
            split: `"train"` or `"validation"`.
            indices: Int `[k]` in `0 .. num_examples(split) - 1`.

        Returns:
            Int32 `[k, T]` arrays `token_ids, segment_ids, padding_mask`; where the records
            hold masked-LM targets also `masked_lm_positions, masked_lm_ids` (int32 `[k, P]`)
            and `masked_lm_weights` (float32 `[k, P]`), and with `teacher_vectors` also
            `teacher_vector` (float16 `[k, D]`).

        Raises:
            InputError: A file is damaged, an example has another length, or an id is in none
                of the model's tables; the message names file and record.
        """
        shards, boundaries = self._split(split), self._boundaries[split]
        which = np.searchsorted(boundaries, indices, side="right") - 1
        records: list[bytes] = [b""] * len(indices)
        for number in np.unique(which):
            shard, places = shards[number], np.flatnonzero(which == number)
            local = np.asarray(indices)[places] - boundaries[number]
            for place, record in zip(
                places, read_records(shard.path, shard.offsets, local), strict=True
            ):
                records[place] = record
        batch = _parse(records, self.layout, self.source)
        self._check_ids(split, indices, batch)
        batch = {
            name: value if name == MASKED_WEIGHTS else value.astype(np.int32)
            for name, value in batch.items()
        }
        if self.teacher_vectors is not None:
            token_ids = batch["token_ids"]
            batch[TEACHER_VECTOR] = self.teacher_vectors.read(split, indices, token_ids)
        return batch

    def _check_ids(self, split: str, indices: Array, batch: Mapping[str, Array]) -> None:
        """A device may take an id that a table lacks for another one, without a word."""
        most = 1 << 31
        limits = {
            "token_ids": self.vocab_size or most,
            "masked_lm_ids": self.vocab_size or most,
            "segment_ids": self.num_segments or most,
            "masked_lm_positions": self.sequence_length,
        }
        for name in limits.keys() & batch.keys():
            values, limit = batch[name], limits[name]
            if values.size and not (values.min() >= 0 and values.max() < limit):
                row, column = np.argwhere((values < 0) | (values >= limit))[0]
                raise InputError(
                    f"{self._place(split, int(indices[row]))} holds {values[row, column]} in "
                    f"{name}, but only 0 to {limit - 1} are known. {_REMEDIES[name]}"
                )

    def _place(self, split: str, index: int) -> str:
        """Says where an example is stored."""
        number = int(np.searchsorted(self._boundaries[split], index, side="right")) - 1
        record = index - int(self._boundaries[split][number])
        return f"Record {record} of {self._split(split)[number].path}"

    def check_sequence_length(self, sequence_length: int | None) -> None:
        """Refuses records of another length than asked for; None accepts any."""
        if sequence_length not in (None, self.sequence_length):
            raise InputError(
                f"{self.source} holds sequences of {self.sequence_length} tokens, but "
                f"sequence_length={sequence_length} was asked for. Pass sequence_length="
                f"{self.sequence_length}, or prepare the text again."
            )

    def check_tokenizer(self, fingerprint: str) -> None:
        """Refuses another tokenizer than the one that made the records."""
        if self.tokenizer_fingerprint not in (None, fingerprint):
            raise InputError(
                f"The records in {self.source} were made with another tokenizer than the "
                "model's. Prepare the corpus again with the model's own tokenizer "
                "(etd_prepare --tokenizer=MODEL_DIR)."
            )


def _are_offsets(values: Any, size: int) -> bool:
    """Whether an index file's content can be true of a record file of a size in bytes."""
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype != np.int64:
        return False
    whole = values.size > 0 and values[0] == 0 and values[-1] == size
    return bool(whole and (values[1:] > values[:-1]).all())


def index_path_of(path: Path) -> Path:
    """The file with the offsets of a record file."""
    return path.with_suffix(".offsets.npy")


def feature_lengths(record: bytes) -> dict[str, int]:
    """Number of values by feature name; empty where it is no `tf.train.Example`."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(record).features.feature
    except (DecodeError, ValueError):  # the latter for names that are not UTF-8
        return {}
    return {
        name: len(value.int64_list.value) or len(value.float_list.value)
        for name, value in sorted(features.items())
    }


def _parse(records: Sequence[bytes], layout: FeatureLayout, source: str) -> dict[str, Array]:
    import tensorflow as tf

    length, predictions = layout.sequence_length, layout.num_predictions
    spec = {
        name: tf.io.FixedLenFeature([length], tf.int64) for name in sorted(layout.names.values())
    }
    masked = MASKED_FEATURES if predictions else ()
    for name in masked:
        kind = tf.float32 if name == MASKED_WEIGHTS else tf.int64
        spec[name] = tf.io.FixedLenFeature([predictions], kind)
    try:
        with tf.device("cpu"):
            parsed = tf.io.parse_example(tf.constant(list(records), tf.string), spec)
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        # The latter where TensorFlow's own message quotes the bytes of a record.
        lengths = [feature_lengths(record) for record in records]
        found = {name: sorted({one.get(name, 0) for one in lengths}) for name in spec}
        wrong = {name: of for name, of in found.items() if of != [spec[name].shape[0]]}
        name, values = next(iter(wrong.items()), (layout.names["token_ids"], []))
        raise InputError(
            f"{source} holds examples that do not fit its first one: expected "
            f"{spec[name].shape[0]} values of {name}, found {values or 'others'}. Keep files of "
            "one kind in one directory."
        ) from error
    names = {**layout.names, **{name: name for name in masked}}
    return {key: parsed[name].numpy() for key, name in names.items()}
