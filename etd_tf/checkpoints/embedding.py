"""Sentence vectors: texts in, one vector each out; `Checkpoint.embed` is the door."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from keras import backend, ops

from etd_tf.errors import InputError
from etd_tf.lazy import tf
from etd_tf.modeling.encoder import BertEncoder
from etd_tf.modeling.pooling import Pooling
from etd_tf.progress import track
from etd_tf.tokenization.sequences import Sequences
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, Tensor

_Forward = Callable[[dict[str, Tensor]], Tensor]

_TEXTS_AT_ONCE = 8192  # bounds the memory for tokens, and is sorted by length
_SHORT_SECONDS = 5.0  # work that shows no progress
_INPUTS = ("token_ids", "segment_ids", "padding_mask", "counted")


class TextEmbedder:
    """A tokenizer, an encoder and its pooling as one function of texts, compiled once.

    Args:
        encoder: The encoder; the weights that it has in a call count.
        pooling: How states become a vector.
    """

    def __init__(self, encoder: BertEncoder, tokenizer: Tokenizer, pooling: Pooling) -> None:
        self.encoder, self.tokenizer, self.pooling = encoder, tokenizer, pooling
        self._compiled: dict[bool | None, _Forward] = {}

    def embed(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None,
        batch_size: int,
        normalize: bool | None,
        max_length: int,
        show_progress: bool | None,
    ) -> Array:
        """Makes a vector of each text; arguments and result are those of `Checkpoint.embed`."""
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"Text {place} is a {type(text).__name__}, expected a string.")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size={batch_size!r} is not a whole number >= 1.")
        before = self.pooling.prompt(prompt)
        width = self.pooling.dimension(self.encoder.config.hidden_size)
        vectors = np.empty((len(texts), width), np.float32)
        if not len(texts):
            return vectors
        forward, left_out = self._forward(normalize), self.left_out(before)
        quiet = {None: _SHORT_SECONDS, True: 0.0, False: math.inf}[show_progress]
        with track("Embedding texts", len(texts), "texts", quiet_seconds=quiet) as tracker:
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                some = [before + text for text in texts[start : start + _TEXTS_AT_ONCE]]
                for rows, batch in _batches(self._tokens(some, max_length), batch_size):
                    batch["counted"] = batch["padding_mask"].copy()
                    batch["counted"][:, :left_out] = 0
                    vectors[start + rows] = ops.convert_to_numpy(forward(batch))
                    tracker.advance(len(rows))
        return vectors

    def embed_sequences(self, sequences: Sequences, *, batch_size: int = 32) -> Array:
        """Makes a vector of each token sequence, all of whose tokens are pooled.

        Args:
            sequences: n sequences with their special tokens.
            batch_size: Sequences at a time; those of a batch are of similar length.

        Returns:
            Float32 `[n, D]`, of length 1 where the pooling says so.
        """
        width = self.pooling.dimension(self.encoder.config.hidden_size)
        vectors, forward = np.empty((len(sequences), width), np.float32), self._forward(None)
        for rows, batch in _batches(sequences, batch_size):
            vectors[rows] = ops.convert_to_numpy(
                forward({**batch, "counted": batch["padding_mask"]})
            )
        return vectors

    def _forward(self, normalize: bool | None) -> _Forward:
        """Encoder and pooling as one function, for batches of every shape."""
        if normalize not in self._compiled:

            def forward(inputs: dict[str, Tensor]) -> Tensor:
                plain = {name: inputs[name] for name in _INPUTS[:3]}
                states, counted = self.encoder.trace(plain).sequence_output, inputs["counted"]
                mask = plain["padding_mask"]
                return self.pooling(states, mask, counted=counted, normalize=normalize)

            if backend.backend() == "tensorflow":
                spec = dict.fromkeys(_INPUTS, tf.TensorSpec([None, None], tf.int32))
                self._compiled[normalize] = tf.function(forward).get_concrete_function(spec)
            else:
                self._compiled[normalize] = forward
        return self._compiled[normalize]

    def left_out(self, prompt: str) -> int:
        """How many tokens at the beginning are not pooled, for texts after a prompt."""
        if not prompt or self.pooling.include_prompt:
            return 0
        return len(self._tokens([prompt], None).token_ids[0]) - 1  # all but the separator

    def _tokens(self, texts: Sequence[str], length: int | None) -> Sequences:
        """`[CLS] text [SEP]` of each text, cut to a length."""
        tokenizer, end = self.tokenizer, None if length is None else length - 2
        texts = [text.lower() for text in texts] if self.pooling.lowercase else texts
        rows = tuple(
            np.asarray([tokenizer.cls_id, *ids[:end], tokenizer.sep_id], np.int32)
            for ids in tokenizer.encode_batch(texts)
        )
        limit = max(map(len, rows)) if length is None else length
        return Sequences(rows, tuple(map(np.zeros_like, rows)), tokenizer.pad_id, limit)


def _batches(sequences: Sequences, batch_size: int) -> Iterator[tuple[Array, dict[str, Array]]]:
    """Batches of similar length, longest first, each with its positions."""
    order = np.argsort(-sequences.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, sequences.batch(rows)
