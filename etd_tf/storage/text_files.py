"""Lines of text files, with the places that error messages need."""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias, cast

from etd_tf.errors import InputError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Mark: TypeAlias = tuple[int, int]
"""Where reading can start: byte offset after unzipping (or number of an item), line from 1."""

BEGINNING: Mark = (0, 1)

HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair: JSON may hold it, but it is no text and cannot be encoded."""


def read_lines(
    path: Path, limit: int, *, cut: bool = True, start: Mark = BEGINNING
) -> Iterator[tuple[int, int, bytes]]:
    """Reads a file that may be gzipped.

    Args:
        path: The file.
        limit: Most bytes of a line that are held in memory.
        cut: A longer line comes in pieces that end at a space where possible and never
            inside a character; otherwise it is refused.
        start: Offset and number of the line to start with.

    Yields:
        Line number from 1, byte offset (after unzipping) and raw line.

    Raises:
        InputError: The file cannot be read, is damaged, or has a line that is too long.
    """
    (offset, number), rest = start, b""
    try:
        with _open(path) as file:
            file.seek(offset)
            while raw := rest + file.readline(limit):
                ended = raw.endswith(b"\n") or len(raw) - len(rest) < limit
                if not ended and not cut:
                    raise InputError(
                        f"{path}, line {number}, is longer than {limit >> 20} MB. Cut it into "
                        "several documents."
                    )
                piece = raw if ended else raw[: _safe_cut(raw)]
                rest = raw[len(piece) :]
                if offset == 0 and piece.startswith(_BYTE_ORDER_MARK):
                    piece, offset = piece[3:], 3
                yield number, offset, piece
                offset += len(piece)
                number += ended
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path} is damaged or cut short after {offset} bytes of text ({error}). "
            "Fetch or compress it again."
        ) from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def _safe_cut(raw: bytes) -> int:
    cut = raw.rfind(b" ") + 1
    if cut:
        return cut
    cut = len(raw)
    while cut > len(raw) - 4 and raw[cut - 1] & 0xC0 == 0x80:  # continuation bytes
        cut -= 1
    return cut - 1 if raw[cut - 1] >= 0xC0 else len(raw)


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else open(path, "rb")


def decode(raw: bytes, path: Path, number: int, offset: int) -> str:
    """Decodes a line from `read_lines`.

    Raises:
        InputError: It is not UTF-8; names line and byte.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number}, byte {offset + error.start}: not UTF-8 "
            f"({error.reason}). Convert it, e.g. iconv -f LATIN1 -t UTF-8 {path.name}."
        ) from error
