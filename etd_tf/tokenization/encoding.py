"""Text to token ids in bulk: what a tokenizer gives, several times as fast.

BERT's normaliser, splitter and WordPiece never look across a space. So the ids of a text
are those of its space-separated words in a row, and a cache of words replaces most of the
tokenizer's work. Other tokenizers are called on whole texts.
"""

import collections
import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeAlias, TypeVar

import numpy as np

from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import IntArray

Encoded: TypeAlias = tuple[IntArray, IntArray]
"""Int64 token ids of all texts in a row, and int64 `[texts]`: how many each text has."""

Tag = TypeVar("Tag")
BlockEncoder: TypeAlias = Callable[
    [Iterable[tuple[Tag, Sequence[str]]]], Iterator[tuple[Tag, Encoded]]
]

_MAX_WORDS = 1 << 19  # about 150 MB
_KEPT_WORDS = 1 << 17  # when the cache is full; the earliest words are the common ones
_AHEAD = 3  # blocks in flight for each process


class Encoder:
    """Encodes texts as `tokenizer.encode_batch` does.

    Args:
        tokenizer: Any tokenizer; BERT's own kind is fast.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._by_word = _splits_at_spaces(json.loads(tokenizer.backend.to_str()))
        self._index = {"": 0}
        self._ids: IntArray = np.zeros(0, np.int64)
        self._starts = np.zeros(2, np.int64)  # of word i: _ids[_starts[i] : _starts[i + 1]]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenises texts without special tokens.

        Args:
            texts: Raw texts; line breaks are white space.

        Returns:
            The ids and the number of ids of each text.
        """
        if not self._by_word:
            return _flatten(self._tokenizer.encode_batch(texts))
        words = [text.replace("\n", " ").split(" ") for text in texts]
        self._learn(set(itertools.chain.from_iterable(words)))
        num_words = np.fromiter(map(len, words), np.int64, len(words))
        index = np.fromiter(
            map(self._index.__getitem__, itertools.chain.from_iterable(words)),
            np.int64,
            int(num_words.sum()),
        )
        first, lengths = self._starts[index], self._starts[index + 1] - self._starts[index]
        ends = np.cumsum(lengths)
        # Each word's run of ids: its place in the cache plus 0, 1, 2, ...
        gather = np.repeat(first - (ends - lengths), lengths) + np.arange(lengths.sum())
        ends = np.concatenate([[0], ends])
        return self._ids[gather], np.diff(ends[np.concatenate([[0], np.cumsum(num_words)])])

    def _learn(self, words: set[str]) -> None:
        if len(self._index) + len(words) > _MAX_WORDS:
            self._forget()
        unknown = [word for word in words if word not in self._index]
        if not unknown:
            return
        ids, lengths = _flatten(self._tokenizer.encode_batch(unknown))
        self._index.update(zip(unknown, itertools.count(len(self._index)), strict=False))
        self._starts = np.concatenate([self._starts, self._starts[-1] + np.cumsum(lengths)])
        self._ids = np.concatenate([self._ids, ids])

    def _forget(self) -> None:
        self._index = dict(itertools.islice(self._index.items(), _KEPT_WORDS))
        self._starts = self._starts[: len(self._index) + 1]
        self._ids = self._ids[: self._starts[-1]]


def _flatten(encoded: Sequence[Sequence[int]]) -> Encoded:
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    flat = itertools.chain.from_iterable(encoded)
    return np.fromiter(flat, np.int64, int(lengths.sum())), lengths


def _splits_at_spaces(state: dict[str, Any]) -> bool:
    """Whether no token, and nothing that decides on one, reaches over a space."""
    kinds = [(state.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer")]
    added = [token["content"] for token in state["added_tokens"]]
    return (
        kinds == ["BertNormalizer", "BertPreTokenizer"]
        and state["model"].get("type", "WordPiece") == "WordPiece"
        and not any(" " in token for token in added)
    )


_encoder: Encoder  # of a worker process


@contextlib.contextmanager
def block_encoder(tokenizer: Tokenizer, workers: int) -> Iterator[BlockEncoder]:
    """Provides a function that encodes a stream of blocks.

    The results are the same, and in the same order, for any number of workers.

    Args:
        tokenizer: The tokenizer.
        workers: Processes; 1 encodes in this process. A script that asks for more must
            guard its main part by `if __name__ == "__main__":`.

    Yields:
        A function from pairs (tag, texts) to pairs (tag, encoded texts).
    """
    if workers == 1:
        encoder = Encoder(tokenizer)
        yield lambda blocks: ((tag, encoder.encode(texts)) for tag, texts in blocks)
        return
    # A fresh interpreter: forking a process that runs TensorFlow's threads may hang.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(tokenizer,),
    )
    try:
        yield lambda blocks: _ahead(pool, blocks, _AHEAD * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(
    pool: ProcessPoolExecutor, blocks: Iterable[tuple[Tag, Sequence[str]]], limit: int
) -> Iterator[tuple[Tag, Encoded]]:
    pending: collections.deque[tuple[Tag, Future[Encoded]]] = collections.deque()
    for tag, texts in blocks:
        pending.append((tag, pool.submit(_encode, texts)))
        if len(pending) >= limit:
            first, future = pending.popleft()
            yield first, future.result()
    for tag, future in pending:
        yield tag, future.result()


def _start_worker(tokenizer: Tokenizer) -> None:
    global _encoder  # noqa: PLW0603 - a process pool offers no other place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _encoder = Encoder(tokenizer)


def _end_with_parent() -> None:
    """Leaves no orphan behind when the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(texts: Sequence[str]) -> Encoded:
    return _encoder.encode(texts)
