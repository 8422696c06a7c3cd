"""The safetensors reader: what it reads, and what it refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.checkpoints.safetensors_file import SafetensorsFile
from etd_tf.errors import InputError


def write(path: Path, header: Any, data: bytes, *, length: int | None = None) -> Path:
    """Writes a file from raw parts; `length` overrides the header length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_what_the_reference_writes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = {
        "float": generator.normal(size=(3, 5)).astype(np.float32),
        "half": generator.normal(size=7).astype(np.float16),
        "double": generator.normal(size=(2, 1, 3)),
        "ids": np.arange(4, dtype=np.int64)[None],
        "flag": np.array([True, False]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors", {"format": "pt"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert sorted(file) == sorted(tensors)
    assert len(file) == len(tensors)
    for name, expected in tensors.items():
        assert file[name].dtype == expected.dtype
        np.testing.assert_array_equal(file[name], expected)


def test_bfloat16_becomes_float32_exactly(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(4, 3)).astype(ml_dtypes.bfloat16)
    path = write(tmp_path / "b.safetensors", {"w": entry([4, 3], 0, 24, "BF16")}, values.tobytes())
    actual = SafetensorsFile(path)["w"]
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, values.astype(np.float32))


def test_tensors_cannot_be_written_through(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": np.ones(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="read-only"):
        SafetensorsFile(tmp_path / "x.safetensors")["w"][0] = 2.0


BAD_HEADERS: dict[str, tuple[Any, bytes, str]] = {
    "no JSON": (b"{", b"", "not valid JSON"),
    "not UTF-8": (b"\xff\xfe", b"", "not valid JSON"),
    "deep nesting": (b"[" * 100_000, b"", "not valid JSON"),
    "no object": ([], b"", "not a JSON object"),
    "entry no object": ({"w": 3}, b"", "malformed"),
    "no offsets": ({"w": {"dtype": "F32", "shape": [1]}}, b"abcd", "malformed"),
    "one offset": ({"w": entry([1], 0, 4) | {"data_offsets": [0]}}, b"abcd", "malformed"),
    "float size": ({"w": entry([1.0], 0, 4)}, b"abcd", "no size"),  # type: ignore[list-item]
    "negative size": ({"w": entry([-1, -1], 0, 4)}, b"abcd", "no size"),
    "boolean size": ({"w": entry([True], 0, 4)}, b"abcd", "no size"),
    "dtype no string": ({"w": entry([1], 0, 4, ["F32"])}, b"abcd", "dtype"),  # type: ignore[arg-type]
    "wrong product": ({"w": entry([2], 0, 4)}, b"abcd", "needs 8 bytes, but claims 4"),
    "huge claim": ({"w": entry([2**62, 2**62], 0, 4)}, b"abcd", "needs"),
    "many dimensions": ({"w": entry([1] * 9, 0, 4)}, b"abcd", "9 dimensions"),
    "beyond the end": ({"w": entry([2], 0, 8)}, b"abcd", "need 8 bytes, but it holds 4"),
    "backwards": ({"w": entry([1], 8, 4)}, b"abcdefgh", "claims -4"),
    "overlap": (
        {"v": entry([2], 0, 8), "w": entry([2], 4, 12)},
        b"abcdefghijkl",
        "starts at byte 4, expected 8",
    ),
    "hole": (
        {"v": entry([1], 0, 4), "w": entry([1], 8, 12)},
        b"abcdefghijkl",
        "starts at byte 8, expected 4",
    ),
    "trailing bytes": ({"w": entry([1], 0, 4)}, b"abcdefgh", "need 4 bytes, but it holds 8"),
}


def test_a_dtype_that_is_not_read_is_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"w": entry([4], 0, 4, "F8_E4M3")}, b"abcd")
    with pytest.raises(InputError, match=r"'F8_E4M3'; .*F64.* If .* quantised.*float32\.$"):
        SafetensorsFile(path)


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_refuses_bad_headers(case: str, tmp_path: Path) -> None:
    header, data, message = BAD_HEADERS[case]
    path = write(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(InputError, match=message) as caught:
        SafetensorsFile(path)
    assert "bad.safetensors" in str(caught.value)
    assert "copy or download it again" in str(caught.value)


@pytest.mark.parametrize("length", [2**63, 2**40, 1000])
def test_refuses_a_header_longer_than_the_file(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {}, b"", length=length)
    with pytest.raises(InputError, match=f"claims a header of {length} bytes"):
        SafetensorsFile(path)


def test_refuses_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        SafetensorsFile(tmp_path / "absent.safetensors")


@settings(max_examples=40)
@given(st.data())
def test_no_prefix_of_a_file_is_accepted(tmp_path_factory: Any, data: Any) -> None:
    folder = tmp_path_factory.mktemp("cut")
    tensors = {"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 3), np.float16)}
    content = safetensors.numpy.save(tensors)
    size = data.draw(st.integers(0, len(content) - 1))
    (folder / "x.safetensors").write_bytes(content[:size])
    with pytest.raises(InputError, match=r"x\.safetensors"):
        SafetensorsFile(folder / "x.safetensors")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
