"""Damage to valid files: blind, and with knowledge of JSON, zip, NumPy and other layouts.

Every function takes a `random.Random`, so that an input can be made again from its seed.
"""

import ast
import gzip
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from etd_tf.storage.crc32c import masked_crc32c
from etd_tf.storage.tfrecord import frame_records

Mutator = Callable[[random.Random, bytes], bytes]

_HUGE = "@huge@"  # becomes a number of more digits than Python reads
_DEEP = "@deep"  # and a number: becomes that many lists in each other
_SIZES = (0, 1, 7, 127, 128, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 10**12, 2**63 - 1, 2**63)
_NUMBERS = (*_SIZES, -1, -(2**31), -(2**63), 2**64 - 1, 10**40, 10**400, _HUGE)
_REALS = (0.5, -0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"), -float("inf"))
_TEXTS = (
    *("", " ", "x", "0", "-1", "nan", "\0", "\ud800", "\U0001f600", "é", "\u2028", "a" * 3000),
    *("../", "..", "/etc/passwd", "..\\x", ".", "C:\\x", "%s%n", "{0}", "[MASK]", "null"),
)


def damage(generator: random.Random, content: bytes) -> bytes:
    """Changes bytes without knowing what they mean, at one to four places."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        _damage_once(generator, data)
    return bytes(data)


def _damage_once(generator: random.Random, data: bytearray) -> None:
    if not data:
        data += generator.randbytes(generator.randint(0, 20))
        return
    start = generator.randrange(len(data))
    end = min(len(data), start + generator.choice((1, 2, 4, 8, 30, 500)))
    kind = generator.randrange(9)
    if kind == 0:
        data[start] ^= 1 << generator.randrange(8)
    elif kind == 1:
        data[start] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x0A, 0x2E))
    elif kind == 2:
        del data[start:]
    elif kind == 3:
        del data[start:end]
    elif kind == 4:
        data[start:start] = generator.randbytes(end - start)
    elif kind == 5:
        data[start:end] = bytes(end - start)
    elif kind == 6:  # a piece of itself, elsewhere
        place = generator.randrange(len(data))
        data[place : place + generator.choice((0, end - start))] = data[start:end]
    elif kind == 7:
        width = generator.choice((1, 2, 4, 8))
        number = generator.choice([n for n in _NUMBERS if isinstance(n, int)])
        data[start : start + width] = (number % 256**width).to_bytes(width, "little")
    else:
        data += data[start:end] * generator.choice((1, 50))


def damage_json(generator: random.Random, content: bytes) -> bytes:
    """Changes the values of a JSON text: types, extremes, missing and repeated entries."""
    values = json.loads(content)
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        values = _damage_tree(generator, values)
    text = json.dumps(values, ensure_ascii=generator.random() < 0.8)
    text = text.replace(f'"{_HUGE}"', "9" * 5000)
    text = re.sub(
        f'"{_DEEP}(\\d+)@"', lambda found: "[" * int(found[1]) + "]" * int(found[1]), text
    )
    data = text.encode("utf-8", "surrogatepass")
    return damage(generator, data) if generator.random() < 0.1 else data


def _write_deep(found: re.Match[str]) -> str:
    depth = int(found[1])
    return "[" * depth + "]" * depth


def _damage_tree(generator: random.Random, root: Any) -> Any:
    if not isinstance(root, dict | list) or not root or generator.random() < 0.02:
        return _strange(generator, root)
    containers = [root]
    for node in containers:  # grows while it is walked
        children = node.values() if isinstance(node, dict) else node
        containers += [child for child in children if isinstance(child, dict | list) and child]
        if len(containers) > 2000:
            break
    node = generator.choice(containers)
    if isinstance(node, dict):
        _damage_dict(generator, node)
    else:
        _damage_list(generator, node)
    return root


def _damage_dict(generator: random.Random, node: dict[str, Any]) -> None:
    name, kind = generator.choice(list(node)), generator.randrange(8)
    if kind == 0:
        del node[name]
    elif kind == 1:
        node[generator.choice(_TEXTS)] = _strange(generator, node[name])
    elif kind == 2:
        node[name] = node[generator.choice(list(node))]
    elif kind == 3:
        node[name + generator.choice(_TEXTS)] = node.pop(name)
    else:
        node[name] = _strange(generator, node[name])


def _damage_list(generator: random.Random, node: list[Any]) -> None:
    place, kind = generator.randrange(len(node)), generator.randrange(7)
    if kind == 0:
        del node[place]
    elif kind == 1:
        node.insert(place, node[generator.randrange(len(node))])
    elif kind == 2:
        node.reverse()
    elif kind == 3:
        del node[place:]
    else:
        node[place] = _strange(generator, node[place])


def _strange(generator: random.Random, value: Any) -> Any:
    kind = generator.randrange(9)
    if kind == 0:
        return generator.choice(_NUMBERS)
    if kind == 1:
        return generator.choice(_REALS)
    if kind == 2:
        return generator.choice(_TEXTS)
    if kind == 3:
        return generator.choice((None, True, False, [], {}, [[]], [None], {"": None}))
    if kind == 4:
        return generator.choice(([value], {"x": value}, [value] * 100, str(value)[:500]))
    if kind == 5:
        return _nested(value, generator.choice((20, 200, 700, 900, 960, 980)))
    return _near(generator, value)


def _nested(value: Any, depth: int) -> Any:
    """Lists in lists; deep ones as a text to be replaced, since Python cannot write them."""
    if depth > 100:
        return f"{_DEEP}{depth}@"
    for _ in range(depth):
        value = [value]
    return value


def _near(generator: random.Random, value: Any) -> Any:
    """Something of the same type that is a little, or very, different."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return generator.choice(
            (value + 1, value - 1, -value, value * 10**6, value * 2, f"{value}.5")
        )
    if isinstance(value, float):
        return generator.choice((-value, value * 1e300, value + 1, repr(value)))
    if isinstance(value, str):
        place = generator.randint(0, len(value))
        text = generator.choice(_TEXTS)
        return generator.choice(
            (text + value, value + text, value[:place] + text + value[place:], value[:place])
        )
    return generator.choice((list(value), dict.fromkeys(map(str, value)), None))


def damage_zip(generator: random.Random, content: bytes, *, members: Mutator = damage) -> bytes:
    """Changes a zip archive: inside a member (checksums fit again), its list, or blindly."""
    if generator.random() < 0.3:
        return damage(generator, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = [(name, archive.read(name)) for name in archive.namelist()]
    place, kind = generator.randrange(len(files)), generator.randrange(10)
    name, inside = files[place]
    if kind == 0:
        del files[place]
    elif kind == 1:
        files[place] = (name + generator.choice(_TEXTS).replace("\ud800", ""), inside)
    elif kind == 2:
        files.append((generator.choice(("../", "/")) + name, inside))
    elif kind == 3:
        files[place] = (name, files[generator.randrange(len(files))][1])
    else:
        files[place] = (name, members(generator, inside))
    packed = zipfile.ZIP_DEFLATED if generator.random() < 0.05 else zipfile.ZIP_STORED
    return make_zip(files, packed)


def make_zip(files: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of names and contents; names may repeat."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, inside in files:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, inside)
    return buffer.getvalue()


def damage_npy(generator: random.Random, content: bytes) -> bytes:
    """Changes an array file: its header's claims, or blindly."""
    if generator.random() < 0.3:
        return damage(generator, content)
    (length,) = struct.unpack("<H", content[8:10])
    header = ast.literal_eval(content[10 : 10 + length].decode("latin1"))
    name = generator.choice(list(header))
    if name == "descr":
        header[name] = generator.choice(
            (
                "<f8",
                "<f4",
                ">i8",
                "<i8",
                "<u8",
                "|O",
                "<U9",
                "<U99999999",
                "|V8",
                "?",
                "<M8[s]",
                "c16",
                "x",
            )
        )
    elif name == "shape":
        sizes = list(header[name]) or [1]
        sizes[generator.randrange(len(sizes))] = generator.choice((*_SIZES, -1, 10**40))
        header[name] = tuple(generator.choice((sizes, sizes[:-1], [1, *sizes], sizes[::-1])))
    else:
        header[name] = generator.choice((True, None, 1))
    text = repr(header).encode("latin1") + b"\n"
    return content[:8] + struct.pack("<H", len(text)) + text + content[10 + length :]


def npy(array: Any) -> bytes:
    """An array file, also of objects: then a pickle that must not be loaded."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def damage_gzip(generator: random.Random, content: bytes, *, inside: Mutator = damage) -> bytes:
    """Changes a gzip file outside or inside."""
    if generator.random() < 0.3:
        return damage(generator, content)
    return gzip.compress(inside(generator, gzip.decompress(content)), 1)


def damage_safetensors(generator: random.Random, content: bytes) -> bytes:
    """Changes the header's JSON, its length, or blindly."""
    if generator.random() < 0.2:
        return damage(generator, content)
    length = int.from_bytes(content[:8], "little")
    header, data = damage_json(generator, content[8 : 8 + length]), content[8 + length :]
    claimed = len(header)
    if generator.random() < 0.1:
        claimed = generator.choice((*_SIZES, 10**12, 2**64 - 1))
    return claimed.to_bytes(8, "little") + header + data


def damage_tfrecord(generator: random.Random, content: bytes) -> bytes:
    """Changes records and frames them again with fitting checksums, or blindly."""
    if generator.random() < 0.25:
        return damage(generator, content)
    records, position = [], 0
    while position < len(content):
        (length,) = struct.unpack("<Q", content[position : position + 8])
        records.append(content[position + 12 : position + 12 + length])
        position += length + 16
    place, kind = generator.randrange(len(records)), generator.randrange(8)
    if kind == 0:
        del records[place]
    elif kind == 1:
        records.insert(place, records[generator.randrange(len(records))])
    elif kind == 2:
        records[place] = generator.randbytes(4)
    else:
        records[place] = damage(generator, records[place]).ljust(4, b"\0")
    return b"".join(frame_records(records))


def damage_tf_index(generator: random.Random, content: bytes) -> bytes:
    """Changes blocks of a TensorFlow checkpoint's index and corrects their checksums."""
    if generator.random() < 0.25:
        return damage(generator, content)
    data = bytearray(content)
    blocks = _table_blocks(content)
    start, size = generator.choice(blocks[:-2] * 8 + blocks)
    for _ in range(generator.choice((1, 1, 2, 4))):
        place = start + generator.randrange(max(size, 1))
        if generator.random() < 0.5:
            data[place] ^= 1 << generator.randrange(8)
        else:
            data[place] = generator.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
    for start, size in blocks:
        checked = bytes(data[start : start + size + 1])
        checksum = int(masked_crc32c([checked.ljust(4, b"\0")])[0]) if size > 2 else None
        if checksum is not None:
            data[start + size + 1 : start + size + 5] = checksum.to_bytes(4, "little")
    return bytes(data)


def _table_blocks(content: bytes) -> list[tuple[int, int]]:
    """(offset, size) of all blocks: data blocks, then the two that lead to them."""
    footer = content[-48:]
    meta_at, place = _varint(footer, 0)
    meta_size, place = _varint(footer, place)
    index_at, place = _varint(footer, place)
    index_size, _ = _varint(footer, place)
    index = content[index_at : index_at + index_size]
    (restarts,) = struct.unpack("<I", index[-4:])
    blocks, place, end = [], 0, len(index) - 4 - 4 * restarts
    while place < end:
        _, place = _varint(index, place)
        unshared, place = _varint(index, place)
        length, place = _varint(index, place)
        place += unshared
        at, after = _varint(index, place)
        size, _ = _varint(index, after)
        blocks.append((at, size))
        place += length
    return [*blocks, (meta_at, meta_size), (index_at, index_size)]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        shift, place = shift + 7, place + 1
        if byte < 128:
            return value, place


def mixed(first: Mutator, second: Mutator = damage, *, share: float = 0.7) -> Mutator:
    """The first one in a share of the cases, else the second."""

    def mutate(generator: random.Random, content: bytes) -> bytes:
        return (first if generator.random() < share else second)(generator, content)

    return mutate


def damage_lines(generator: random.Random, content: bytes) -> bytes:
    """Changes a text file by lines: missing, repeated, with other fields, or blindly."""
    if generator.random() < 0.3:
        return damage(generator, content)
    lines = content.split(b"\n")
    place, kind = generator.randrange(len(lines)), generator.randrange(7)
    text = generator.choice(_TEXTS).encode("utf-8", "surrogatepass")
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(place, lines[generator.randrange(len(lines))])
    elif kind == 2:
        fields = lines[place].split(b"\t")
        number = str(generator.choice(_NUMBERS)).replace(_HUGE, "9" * 5000)
        fields[generator.randrange(len(fields))] = generator.choice((text, number.encode()))
        lines[place] = b"\t".join(fields)
    elif kind == 3:
        lines[place] += generator.choice((b"\t", b"\r", b"\0", text))
    elif kind == 4:
        lines[place] = text
    elif kind == 5:
        generator.shuffle(lines)
    else:
        lines[place] = damage(generator, lines[place])
    return b"\n".join(lines)


def damage_json_lines(generator: random.Random, content: bytes) -> bytes:
    """Changes one object of a JSON lines file, or lines."""
    if generator.random() < 0.3:
        return damage_lines(generator, content)
    lines = content.strip(b"\n").split(b"\n")
    place = generator.randrange(len(lines))
    lines[place] = damage_json(generator, lines[place])
    return b"\n".join(lines) + generator.choice((b"\n", b""))
