"""Encoding many blocks of text on several cores, in order."""

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeAlias, TypeVar

from etd_tf.tokenization.encoding import Encoded, Encoder
from etd_tf.tokenization.tokenizer import Tokenizer

Tag = TypeVar("Tag")
BlockEncoder: TypeAlias = Callable[
    [Iterable[tuple[Tag, Sequence[str]]]], Iterator[tuple[Tag, Encoded]]
]

_AHEAD = 3  # blocks in flight for each process
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
        initargs=(tokenizer.files,),
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


def _start_worker(files: dict[str, bytes]) -> None:
    global _encoder  # noqa: PLW0603 - a process pool offers no other place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _encoder = Encoder(Tokenizer(files))


def _end_with_parent() -> None:
    """Leaves no orphan behind when the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(texts: Sequence[str]) -> Encoded:
    return _encoder.encode(texts)
