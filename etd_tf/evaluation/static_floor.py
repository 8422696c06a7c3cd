"""The floor of sentence encoders: a student of the same teacher without a Transformer.

It is the teacher's token table alone: frequent tokens count less, and principal components
bring it to the student's width. It takes seconds to make and no training, so a student that
is not better has learnt nothing that was worth its layers.

Source: weights as in Arora et al. 2017 ("A Simple but Tough-to-Beat Baseline for Sentence
Embeddings", ICLR 2017), section 3; principal components as in Model2Vec (van Dongen and
Tulkens 2024). Tokens that pass alone through the teacher, as there, were no better.
"""

import dataclasses
import time
from collections.abc import Iterable, Sequence

import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, IntArray

_TOKEN_TABLE = "embeddings.token"
_RARE = 1e-4  # share of the text at which a token counts half (Arora et al.: 1e-3 to 1e-4)


@dataclasses.dataclass(frozen=True)
class StaticFloor:
    """Vectors of texts from a table of tokens.

    Attributes:
        table: Each token's vector times its weight, float32 `[V, D]`; special ones are 0.
        tokenizer: The teacher's.
        max_length: Longer texts are cut, special tokens included.
        lowercase: Whether texts are lowercased before the tokenizer sees them.
        seconds: What it took to make.
    """

    table: Array
    tokenizer: Tokenizer
    max_length: int
    lowercase: bool = False
    seconds: float = 0.0

    @property
    def dimension(self) -> int:
        """Dims of a vector."""
        return int(self.table.shape[1])

    def embed(self, texts: Sequence[str]) -> Array:
        """Makes a vector of each text.

        Args:
            texts: n texts.

        Returns:
            Float32 `[n, D]`; zeros for a text without tokens.
        """
        texts = [text.lower() for text in texts] if self.lowercase else texts
        rows = self.tokenizer.encode_batch(texts)
        return self.embed_ids([np.asarray(ids[: self.max_length - 2], np.int64) for ids in rows])

    def embed_ids(self, rows: Iterable[IntArray]) -> Array:
        """Makes a vector of each row of token ids; special ones do not count.

        Args:
            rows: n arrays `[T_i]`.

        Returns:
            Float32 `[n, D]`.
        """
        sums = [np.sum(self.table[ids], axis=0) for ids in rows]
        return np.asarray(sums, np.float32).reshape(len(sums), self.dimension)


def count_tokens(rows: Iterable[IntArray], vocab_size: int) -> IntArray:
    """Counts each token.

    Args:
        rows: Arrays of ids, of any shape.
        vocab_size: Ids are below this.

    Returns:
        Int64 `[V]`.
    """
    counts = np.zeros(vocab_size, np.int64)
    for ids in rows:
        counts += np.bincount(np.ravel(ids), minlength=vocab_size)
    return counts


def make_static_floor(teacher: Checkpoint, counts: IntArray, dimension: int) -> StaticFloor:
    """Makes the floor for students of a teacher.

    Args:
        teacher: The teacher, with its tokenizer.
        counts: How often each token is in typical text, `[V]`, as by `count_tokens`.
        dimension: Dims of the student's vectors; the token table has no more than it has.

    Raises:
        InputError: The teacher has no tokenizer.
    """
    start = time.monotonic()
    tokenizer = teacher.need_tokenizer(teacher.max_seq_length)
    counts = counts.astype(np.float64)
    special = [tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    counts[special] = 0.0
    shares = counts / max(counts.sum(), 1.0)
    weights = _RARE / (_RARE + shares)
    weights[special] = 0.0
    vectors = teacher.parameters()[_TOKEN_TABLE].astype(np.float64)
    # Mean and components are those of what is summed: tokens of text with their weights.
    table = _principal(vectors, shares * weights, dimension) * weights[:, None]
    pooling = teacher.pooling
    return StaticFloor(
        table.astype(np.float32),
        tokenizer,
        teacher.max_seq_length,
        lowercase=pooling is not None and pooling.lowercase,
        seconds=time.monotonic() - start,
    )


def _principal(vectors: Array, amounts: Array, dimension: int) -> Array:
    """Vectors without their mean, along the principal components of weighted rows."""
    if amounts.sum() <= 0:  # no text
        amounts = np.ones(len(vectors))
    amounts = amounts / amounts.sum()
    centred = vectors - amounts @ vectors
    if dimension >= vectors.shape[1]:
        return centred  # a rotation would change no cosine
    _, components = np.linalg.eigh((centred * amounts[:, None]).T @ centred)
    return centred @ components[:, ::-1][:, :dimension]
