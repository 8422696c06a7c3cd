"""Lines of text files, with the places that error messages need."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from etd_tf.errors import InputError
from etd_tf.storage.heads import (
    check_is_text,
    damaged,
    read_head,
    unpacked,
    unpacking_errors,
    unreadable,
)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_TEXT = 1 << 26  # bytes

Mark: TypeAlias = tuple[int, int]
"""Where reading can start: byte offset after unzipping (or number of an item), line from 1."""

BEGINNING: Mark = (0, 1)

HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair: JSON may hold it, but it is no text and cannot be encoded."""


def read_lines(
    path: Path, limit: int, *, cut: bool = True, start: Mark = BEGINNING
) -> Iterator[tuple[int, int, bytes]]:
    """Reads a file that may be packed by gzip, bzip2 or xz.

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
        with unpacked(path) as file:
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
    except unpacking_errors() as error:
        raise damaged(path, offset, error) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _safe_cut(raw: bytes) -> int:
    cut = raw.rfind(b" ") + 1
    if cut:
        return cut
    cut = len(raw)
    while cut > len(raw) - 4 and raw[cut - 1] & 0xC0 == 0x80:  # continuation bytes
        cut -= 1
    return cut - 1 if raw[cut - 1] >= 0xC0 else len(raw)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Reads the lines of a file that has to be text.

    Args:
        path: UTF-8, with or without a byte order mark; possibly packed by gzip, bzip2 or xz.

    Yields:
        Line number from 1, and the line without its end; line feeds alone end a line.

    Raises:
        InputError: It is no file, cannot be read, is no UTF-8 text, or has a line that is too
            long.
    """
    if path.is_dir() or not path.exists():
        raise InputError(f"{path} does not exist, or is no file.")
    check_is_text(path, read_head(path))
    for number, offset, raw in read_lines(path, _LONGEST_TEXT, cut=False):
        line = decode(raw, path, number, offset)
        yield number, line.removesuffix("\n").removesuffix("\r")


def read_texts(path: Path) -> list[str]:
    """Reads a file of one text a line, as `text_lines` does.

    Returns:
        The lines; an empty line is a text, too.

    Raises:
        InputError: As of `text_lines`.
    """
    return [line for _, line in text_lines(path)]


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
            f"({error.reason}). Convert it, e.g. iconv -f ENCODING -t UTF-8 {path}, where ENCODING "
            "is what wrote it: CP1252 in the west, CP1251 in Russian, GB18030 in Chinese."
        ) from error
