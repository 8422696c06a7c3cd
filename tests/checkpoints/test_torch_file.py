"""`pytorch_model.bin` files, written by PyTorch, read without it."""

import contextlib
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.checkpoints.torch_file import TorchFile
from etd_tf.errors import InputError

torch = pytest.importorskip("torch")


def state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    big = torch.randn(6, 5, generator=generator)
    return {
        "float": big,
        "transposed": big.T,
        "slice": big[1:4, ::2],
        "half": torch.randn(3, generator=generator).half(),
        "bfloat16": torch.randn(2, 3, generator=generator).bfloat16(),
        "double": torch.randn(4, generator=generator).double(),
        "ids": torch.arange(7)[None],
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    }


def test_reads_what_pytorch_writes(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(state(), path)
    file = TorchFile(path)
    assert sorted(file) == sorted(state())
    assert len(file) == len(state())
    for name, tensor in state().items():
        expected = tensor.detach().float() if name == "bfloat16" else tensor.detach()
        np.testing.assert_array_equal(file[name], expected.numpy(), err_msg=name)
        assert file[name].shape == tuple(tensor.shape)


def test_module_state_with_version_numbers(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    torch.save(module.state_dict(), tmp_path / "m.bin")  # carries a `_metadata` attribute
    file = TorchFile(tmp_path / "m.bin")
    np.testing.assert_array_equal(file["0.weight"], module[0].weight.detach().numpy())


def test_the_state_dictionary_of_a_training_script(tmp_path: Path) -> None:
    state = {"layer.weight": torch.ones(2), "layer.bias": torch.zeros(2)}
    adam = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    saved = {
        "model": state,
        "optimizer": adam,
        "rng": {"cpu": torch.ones(2)},
        "step": torch.ones(1),
    }
    torch.save(saved, tmp_path / "m.bin")
    assert sorted(TorchFile(tmp_path / "m.bin")) == sorted(state)


def test_several_state_dictionaries_are_named(tmp_path: Path) -> None:
    state = {"layer.weight": torch.ones(2)}
    torch.save({"model": state, "model_ema": state, "epoch": 3}, tmp_path / "m.bin")
    with pytest.raises(InputError, match="several state dictionaries: model, model_ema"):
        TorchFile(tmp_path / "m.bin")


def test_whole_modules_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.bin")
    with pytest.raises(InputError, match="save_pretrained"):
        TorchFile(tmp_path / "m.bin")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(1000)}, path)
    content = path.read_bytes()
    for size in (0, 1, 10, 100, len(content) // 2, len(content) - 400):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="corrupt"):
            TorchFile(path)["w"]


def test_corrupt_storage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.full((1000,), 1.5)}, path)
    content = path.read_bytes()
    damaged = content.replace(b"\x00\x00\xc0\x3f" * 100, b"\x00\x00\xc1\x3f" * 100, 1)
    assert damaged != content
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="CRC"):
        TorchFile(path)["w"]


@settings(max_examples=100)
@given(st.data())
def test_damage_is_an_input_error_or_harmless(tmp_path_factory: Any, data: Any) -> None:
    path = tmp_path_factory.mktemp("damaged") / "pytorch_model.bin"
    torch.save({"w": torch.ones(2, 3)}, path)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        for value in TorchFile(path).values():
            assert isinstance(value, np.ndarray)


def test_damage_of_the_directory_is_an_input_error_or_harmless(tmp_path: Path) -> None:
    """The part of the archive that says where everything is, byte by byte."""
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(2, 3)}, path)
    content = path.read_bytes()
    refused = []
    for position in range(content.index(b"PK\x01\x02"), len(content)):
        for value in (0, 129):
            path.write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
            try:
                assert next(iter(TorchFile(path).values())).shape == (2, 3)
            except InputError as error:
                refused.append(str(error).count("is not a usable"))
    assert len(refused) > 100
    assert max(refused) == 1  # told once


def rewrite(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> None:
    """Copies a zip archive; `change` maps (name, content) to the new content or None."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            changed = change(name, content)
            if changed is not None:
                archive.writestr(name, changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, data: None if name.endswith("data.pkl") else data, "no data.pkl"),
        (lambda name, data: None if "/data/" in name else data, "storage '0' is missing"),
        (lambda name, data: data[:8] if "/data/" in name else data, "8 bytes, but 24 are claimed"),
        (lambda name, data: b"\x80\x02]." if name.endswith(".pkl") else data, "holds a list"),
    ],
    ids=["no pickle", "no storage", "short storage", "no dictionary"],
)
def test_malformed_archives_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(2, 3)}, path)
    rewrite(path, change)
    with pytest.raises(InputError, match=message):
        TorchFile(path)["w"]


def test_views_beyond_the_storage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(6, 5)}, path)
    # The pickled sizes are BININT1: K\x06K\x05 for the shape.
    rewrite(path, lambda name, data: data.replace(b"K\x06K\x05", b"K\xffK\x05"))
    with pytest.raises(InputError, match="beyond its storage"):
        TorchFile(path)["w"]


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(2, 3)}, path)
    rewrite(path, lambda _, data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        TorchFile(path)


def test_the_layout_before_version_1_6_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"before version 1\.6\. .*save_pretrained"):
        TorchFile(path)


def test_a_text_of_gigabytes_sets_no_memory_aside(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02X\xff\xff\xff\xffabc.")
    tracemalloc.start()
    with pytest.raises(InputError, match="corrupt"):
        TorchFile(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        TorchFile(tmp_path / "absent.bin")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
