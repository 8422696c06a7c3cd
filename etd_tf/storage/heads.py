"""What a file is by its first bytes: names are often missing, or wrong."""

import gzip
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from etd_tf.errors import InputError

HEAD = 1 << 16  # bytes that are enough to tell one format from another
_BZIP2 = (b"1AY&SY", b"\x17rE8P\x90")  # after its name and a digit: a block, or the end
_TFRECORD_HEADER = 12  # length of a record, and its checksum

# Offset, bytes, what such a file is called, and the command that makes text of it.
_SIGNATURES = (
    (0, b"\x28\xb5\x2f\xfd", "Zstandard", "Unpack it: zstd -d FILE"),
    (0, b"PK\x03\x04", "a zip archive (or an Office document)", "Unpack it: unzip FILE"),
    (0, b"PK\x05\x06", "an empty zip archive", "Give other files"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it: 7z x FILE"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "Unpack it: unrar x FILE"),
    (0, b"\x04\x22\x4d\x18", "LZ4", "Unpack it: lz4 -d FILE"),
    (0, b"\xff\x06\0\0sNaPpY", "Snappy", "Unpack it: snzip -d FILE"),
    (0, b"\x1f\x9d", "compressed by compress", "Unpack it: uncompress FILE"),
    (0, b"LZIP\x01", "Lzip", "Unpack it: lzip -d FILE"),
    (257, b"ustar", "a tar archive", "Unpack it: tar -xf FILE"),
    (0, b"%PDF-", "a PDF document", "Take its text: pdftotext FILE"),
    (0, b"{\\rtf", "an RTF document", "Save its text as UTF-8"),
    (0, b"\xd0\xcf\x11\xe0", "an Office document", "Save its text as UTF-8"),
    (0, b"version https://git-lfs.", "a Git LFS pointer, not its file", "Run: git lfs pull"),
    (0, b"SQLite format 3\0", "an SQLite database", "Export its text as JSON lines"),
    (0, b"\x89HDF\r\n", "HDF5", "Export its text as JSON lines"),
    (0, b"\x93NUMPY", "a NumPy array", "Give the text itself"),
    (0, b"\xff\xff\xff\xff", "an Arrow file of a Hugging Face data set", "Export it: to_json()"),
)
# These are words, too: they tell a format only where the rest is no text.
_WORDS = (
    (b"PAR1", "Parquet", "Write JSON lines: pandas.read_parquet('FILE').to_json(...)"),
    (b"ARROW1", "Arrow", "Write JSON lines: pandas.read_feather('FILE').to_json(...)"),
    (b"ORC", "ORC", "Write JSON lines: pandas.read_orc('FILE').to_json(...)"),
    (b"Obj\x01", "Avro", "Export its text as JSON lines"),
)
_TEXT_CONTROLS = frozenset(b"\b\t\n\v\f\r\x1a\x1b\x1c\x1d\x1e\x1f")
_UNZLIB = (
    "import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))"  # a line
)


def read_head(path: Path) -> bytes:
    """The first bytes of a file, unpacked where it is gzip, bzip2 or xz.

    Raises:
        InputError: It cannot be read, or it is a pipe or a device.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(
                f"{path} is a pipe or a device. Corpora are read more than once: save it as a file."
            )
        with unpacked(path) as file:
            return file.read(HEAD)
    except OSError as error:
        raise unreadable(path, error) from error
    except unpacking_errors() as error:
        raise damaged(path, 0, error) from error


def unpacked(path: Path) -> IO[bytes]:
    """Opens a file to read what is in it, unpacked where it is gzip, bzip2 or xz."""
    with open(path, "rb") as file:
        opener = _opener(file.read(10), path)
    return opener(path, "rb") if opener else open(path, "rb")


def is_packed(path: Path) -> bool:
    """Whether `unpacked` unpacks the file."""
    with open(path, "rb") as file:
        return _opener(file.read(10), path) is not None


def _opener(head: bytes, path: Path) -> Callable[..., IO[bytes]] | None:
    opener: Any = None  # not all Pythons are built with bzip2 and xz
    if head.startswith(b"\x1f\x8b") or path.suffix == ".gz":
        opener = gzip.open
    elif head.startswith(b"BZh") and head[4:] in _BZIP2:
        import bz2

        opener = bz2.open
    elif head.startswith(b"\xfd7zXZ\0"):
        import lzma

        opener = lzma.open
    return cast("Callable[..., IO[bytes]] | None", opener)


def unpacking_errors() -> tuple[type[Exception], ...]:
    """What unpacking a damaged file raises; bzip2 raises an `OSError` without a number."""
    errors: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
    try:
        import lzma
    except ImportError:  # a Python without it never gets that far
        return errors
    return (*errors, lzma.LZMAError)


def damaged(path: Path, offset: int, error: Exception) -> InputError:
    """Says that a packed file is damaged after some bytes of its content."""
    return InputError(
        f"{path} is damaged or cut short after {offset} bytes of text ({error}). "
        "Fetch or compress it again."
    )


def unreadable(path: Path, error: OSError) -> InputError:
    """Says why a file cannot be read."""
    if error.errno is None:  # of gzip and bzip2, for damage
        return damaged(path, 0, error)
    return InputError(f"Cannot read {path}: {error.strerror}.")


def is_tfrecord(head: bytes) -> bool:
    """Whether a file that begins so is made of TFRecords: the first length has its checksum."""
    if len(head) < _TFRECORD_HEADER or any(head[5:8]):  # no record has a terabyte
        return False
    from etd_tf.storage.crc32c import masked_crc32c

    return int(masked_crc32c([head[:8]])[0]) == int.from_bytes(head[8:_TFRECORD_HEADER], "little")


def zlib_content(head: bytes) -> str | None:
    """What a ZLIB stream that begins so holds; None for anything else."""
    if len(head) < 2 or head[0] != 0x78 or int.from_bytes(head[:2], "big") % 31:
        return None
    try:
        inside = zlib.decompressobj().decompress(head, HEAD)
    except zlib.error:
        return None
    return "TFRecords compressed with ZLIB" if is_tfrecord(inside) else "ZLIB data"


def unpack_zlib(path: Path) -> str:
    """The command that unpacks a ZLIB file."""
    return f"Unpack it: python3 -c '{_UNZLIB}' < {path} > {path.with_suffix('')}.unpacked"


def check_is_text(path: Path, head: bytes) -> None:
    """Refuses a file that begins as no UTF-8 text does.

    Raises:
        InputError: It is binary, or text in UTF-16 or UTF-32; says how to get its text.
    """
    if is_tfrecord(head):
        raise InputError(
            f"{path} holds TFRecords, where text is expected. A corpus is text only, or one "
            "directory or glob of records."
        )
    if b"\r" in head and b"\n" not in head and _is_utf8(head):
        raise InputError(
            f"{path} is text with the line ends of old Macs. Run: tr '\\r' '\\n' < {path} > "
            f"{path}.txt."
        )
    found = _binary(path, head)
    if found:
        kind, advice = found
        raise InputError(f"{path} is no text: it is {kind}. {advice.replace('FILE', str(path))}.")


def _binary(path: Path, head: bytes) -> tuple[str, str] | None:
    """The name of a format that is no UTF-8 text, and what to do."""
    if content := zlib_content(head):
        return content, unpack_zlib(path)
    for offset, mark, name, advice in _SIGNATURES:
        if head.startswith(mark, offset):
            return name, advice
    if encoding := _wide_encoding(head):
        return encoding, f"Convert it: iconv -f {encoding} -t UTF-8 FILE > FILE.txt"
    return _no_signs_of_text(head)


def _no_signs_of_text(head: bytes) -> tuple[str, str] | None:
    controls = set(head) & set(range(32)) - _TEXT_CONTROLS
    if controls or not _is_utf8(head):
        for mark, name, advice in _WORDS:
            if head.startswith(mark):
                return name, advice
    if head.count(0) * 100 > len(head) or (controls and not _is_utf8(head)):
        return "binary", "Give UTF-8 text, or JSON lines with a field 'text'"
    return None  # text with an odd sign, or in an old encoding: reading it names the place


def _wide_encoding(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 3 > len(head) and min(even, odd) * 20 < max(even, odd):
        return "UTF-16BE" if even > odd else "UTF-16LE"
    return None


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(head) == HEAD and error.start > len(head) - 4  # the head ends in a character
    return True
