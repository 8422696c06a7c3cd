"""Text to sharded TFRecords: streamed, resumable, the same bytes every time, and cached."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.text.journal import hold_directory
from etd_tf.text.opening import is_record_path, open_records
from etd_tf.text.options import RecordOptions
from etd_tf.text.preparation import Preparation
from etd_tf.text.records import MANIFEST, RecordSet
from etd_tf.tokenization.tokenizer import Tokenizer


def prepare_records(
    corpus: str | Sequence[str],
    tokenizer: Tokenizer,
    output_dir: str | Path,
    *,
    options: RecordOptions | None = None,
    validation_corpus: str | Sequence[str] | None = None,
    overwrite: bool = False,
    workers: int = 1,
) -> RecordSet:
    """Turns text into TFRecords of equally long examples.

    Memory does not grow with the corpus. The bytes of the files depend only on text,
    tokenizer and options. If the process ends early, the same call goes on after the last
    finished file.

    Args:
        corpus: Text sources, see `open_corpus`.
        tokenizer: The tokenizer.
        output_dir: Directory for the files and `manifest.json`.
        options: Lengths, shards and the held-out share.
        validation_corpus: Text for the validation split; then no document is held out.
        overwrite: Replace finished records, or an unfinished preparation of other text.
        workers: Processes that tokenise; the files do not depend on it. A script that asks
            for more than 1 must guard its main part by `if __name__ == "__main__":`.

    Returns:
        The records.

    Raises:
        InputError: The text cannot be read, is empty, or has too few documents to hold
            some out; or `output_dir` holds something else, or another process works in it.
    """
    job = Preparation.open(
        corpus, tokenizer, options, validation_corpus=validation_corpus, workers=workers
    )
    directory = Path(output_dir).expanduser()
    with hold_directory(directory):
        return job.run(directory, overwrite=overwrite)


def cached_records(
    corpus: str | Sequence[str],
    tokenizer: Tokenizer,
    *,
    options: RecordOptions | None = None,
    validation_corpus: str | Sequence[str] | None = None,
    cache_dir: str | Path = "~/.cache/etd_tf",
    workers: int = 1,
) -> RecordSet:
    """Prepares text once and finds the result again later.

    The key is the content of the text, the tokenizer and the options, not file names. Two
    processes may ask at once: one prepares, the other waits for it.

    Args:
        corpus: Text sources, see `open_corpus`; or one directory of records, which is
            opened as it is.
        tokenizer: The tokenizer.
        options: Lengths, shards and the held-out share.
        validation_corpus: Text for the validation split.
        cache_dir: Directory of the cache.
        workers: Processes that tokenise, see `prepare_records`.

    Returns:
        The records.

    Raises:
        InputError: As `prepare_records` and `open_records`; or the records in `corpus`
            were made with another tokenizer.
    """
    options = options or RecordOptions()
    cache = Path(cache_dir).expanduser()
    names = [corpus] if isinstance(corpus, str) else list(corpus)
    if any(map(is_record_path, names)):
        if len(names) > 1:
            raise InputError(
                f"Corpus {', '.join(names)} mixes records with something else. Give text only, "
                "or one directory or glob of records."
            )
        check_validation_corpus(names, validation_corpus)
        length = options.sequence_length
        records = open_records(names[0], sequence_length=length, cache_dir=cache)
        records.check_tokenizer(tokenizer.fingerprint())
        return dataclasses.replace(records, vocab_size=tokenizer.vocab_size)
    preparation = Preparation.open(
        corpus, tokenizer, options, validation_corpus=validation_corpus, workers=workers
    )
    identity = json.dumps(preparation.identity(), sort_keys=True)
    key = hashlib.sha256(identity.encode()).hexdigest()[:32]
    directory = cache / "records" / key
    with _locked(directory.with_suffix(".lock")):
        if (directory / MANIFEST).is_file():
            with contextlib.suppress(InputError):  # damaged: made again below
                return open_records(directory)
        return preparation.run(directory, overwrite=True)


def check_validation_corpus(
    corpus: Sequence[str], validation_corpus: str | Sequence[str] | None
) -> None:
    """Refuses held-out text for records, which have their own.

    Raises:
        InputError: Records and held-out text are both given.
    """
    records = [name for name in corpus if is_record_path(name)]
    if records and validation_corpus:
        raise InputError(
            f"--validation_corpus has no effect on the records in {records[0]}, whose validation "
            "split is their own. Leave it out, or give --corpus as text."
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that the system frees when the process ends, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise InputError(
            f"Cannot write to the cache {path.parent}: {error.strerror}. Pass another --cache_dir."
        ) from error
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("Another process is preparing this corpus; waiting for it.\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
