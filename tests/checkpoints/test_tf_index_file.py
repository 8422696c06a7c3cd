"""The index of TensorFlow checkpoints, checked before TensorFlow ends the process over it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from etd_tf.checkpoints.google import _Variables
from etd_tf.checkpoints.tf_index_file import check_index
from etd_tf.errors import InputError
from etd_tf.storage.crc32c import masked_crc32c
from tests.checkpoints.fixtures import write_tf_checkpoint

VALUES: dict[str, np.ndarray] = {
    "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/kernel_more": np.arange(4, dtype=np.float32),
    "b": np.array(7, np.int64),
    "graph": np.array(b"text"),
}


def written(folder: Path) -> Path:
    write_tf_checkpoint(folder / "model.ckpt", VALUES)
    return folder / "model.ckpt"


def change(prefix: Path, old: bytes, new: bytes) -> None:
    """Replaces bytes of the first block and corrects its checksum."""
    path = Path(f"{prefix}.index")
    before = path.read_bytes()
    assert before.count(old) == 1
    assert len(old) == len(new)
    end = next(
        place
        for place in range(4, len(before))
        if before[place:].startswith(sealed(before[:place]))
    )
    after = before[:end].replace(old, new)
    path.write_bytes(after + sealed(after) + before[end + 4 :])


def sealed(block: bytes) -> bytes:
    """The checksum behind a block and its type."""
    return int(masked_crc32c([block])[0]).to_bytes(4, "little")


def test_accepts_what_tensorflow_writes(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    check_index(prefix)
    variables = _Variables(prefix)
    np.testing.assert_array_equal(variables["a/kernel"], VALUES["a/kernel"])
    with pytest.raises(InputError, match="graph is no array of numbers"):
        variables["graph"]


def test_many_variables_in_several_blocks(tmp_path: Path) -> None:
    names = [f"layer_{i}/{'x' * 200}/kernel" for i in range(3000)]
    write_tf_checkpoint(tmp_path / "m", {name: np.float32([i]) for i, name in enumerate(names)})
    check_index(tmp_path / "m")
    assert len(_Variables(tmp_path / "m")) == 3000


def test_a_wrong_shape_is_refused(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    change(prefix, b"\x12\x02\x08\x02\x12\x02\x08\x03", b"\x12\x02\x08\x02\x12\x02\x08\x04")
    with pytest.raises(
        InputError, match=r"a/kernel has 24 bytes, which do not fit its shape \[2, 4\]"
    ):
        check_index(prefix)


def test_an_entry_that_ends_tensorflow_is_refused(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    change(prefix, b"\x12\x02\x08\x02\x12\x02\x08\x03", b"\x12\x42\x08\x02\x12\x02\x08\x03")
    with pytest.raises(InputError, match=r"model\.ckpt\.index is not a readable"):
        check_index(prefix)


def test_a_short_data_file_is_refused(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(InputError, match="lies outside of its data file"):
        check_index(prefix)
    data.unlink()
    with pytest.raises(InputError, match="No such file"):
        check_index(prefix)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    path = Path(f"{prefix}.index")
    content = path.read_bytes()
    accepted = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            check_index(prefix)
            accepted += 1
        except InputError:
            pass
    assert accepted < 60  # padding of the footer, and the block of properties


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
