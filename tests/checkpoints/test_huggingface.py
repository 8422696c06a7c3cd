"""Hugging Face directories: all weight files, and what stock Transformers makes of ours."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from etd_tf.checkpoints.loading import load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from tests.checkpoints.fixtures import assert_same, torch_bert_state, write_config
from tests.helpers import random_parameters, tiny_checkpoint, tiny_config, tiny_tokenizer


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("mlm_head", [True, False])
def test_round_trip_is_bit_identical(pooler: bool, mlm_head: bool, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(pooler=pooler, mlm_head=mlm_head, layer_norm_epsilon=1e-6)
    report = save_checkpoint(checkpoint, tmp_path / "out")
    assert report.notes == ()
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.config == checkpoint.config
    assert loaded.fingerprint() == checkpoint.fingerprint()
    assert loaded.tokenizer is not None
    assert checkpoint.tokenizer is not None
    assert loaded.tokenizer.fingerprint() == checkpoint.tokenizer.fingerprint()


def test_names_and_layout_of_the_weights_file(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(mlm_head=True)
    save_checkpoint(checkpoint, tmp_path / "out")
    written = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    expected = torch_bert_state(checkpoint.parameters(), prefix="bert.")
    assert sorted(written) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(written[name], value, err_msg=name)
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o444 == 0o444


def test_other_precisions_are_widened(tmp_path: Path) -> None:
    config = tiny_config()
    expected = random_parameters(config)
    for dtype in (np.float16, np.float64):
        folder = tmp_path / np.dtype(dtype).name
        write_config(folder, config)
        state = {k: v.astype(dtype) for k, v in torch_bert_state(expected).items()}
        safetensors.numpy.save_file(state, folder / "model.safetensors")
        rounded = {k: v.astype(dtype).astype(np.float32) for k, v in expected.items()}
        assert_same(load_checkpoint(folder).parameters(), rounded)


def damage(folder: Path, change: Any) -> None:
    save_checkpoint(tiny_checkpoint(), folder)
    state = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file(change(state), folder / "model.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(value: float, tmp_path: Path) -> None:
    def change(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        name = next(name for name in state if name.endswith("layer.1.output.dense.weight"))
        state[name][0, 0] = value
        return state

    damage(tmp_path / "m", change)
    with pytest.raises(InputError, match=r"layer\.1\.output\.dense\.weight has 1 values"):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize(
    ("beside", "told"),
    [("SCB", "quantised"), ("weight.absmax", "quantised"), ("lora_A.weight", "adapter")],
)
def test_names_of_quantised_and_adapted_models(beside: str, told: str, tmp_path: Path) -> None:
    extra = {f"encoder.layer.0.output.dense.{beside}": np.ones(2, np.float32)}
    damage(tmp_path / "m", lambda state: state | extra)
    with pytest.raises(InputError, match=told):
        load_checkpoint(tmp_path / "m")


def test_integers_are_no_weights(tmp_path: Path) -> None:
    damage(
        tmp_path / "m",
        lambda state: {n: v.astype(np.int8) if v.ndim == 2 else v for n, v in state.items()},
    )
    with pytest.raises(InputError, match="has dtype int8"):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model.", "0.auto_model."])
def test_wrappers_are_taken_off_and_named(
    wrapper: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(tmp_path / "m", lambda state: {wrapper + n: v for n, v in state.items()})
    with caplog.at_level("WARNING"):
        assert_same(load_checkpoint(tmp_path / "m").parameters(), tiny_checkpoint().parameters())
    assert repr(wrapper) in caplog.text


def test_two_encoders_in_one_file_are_refused(tmp_path: Path) -> None:
    damage(
        tmp_path / "m",
        lambda state: {f"{side}.{n}": v for n, v in state.items() for side in ("query", "passage")},
    )
    with pytest.raises(InputError, match=r"several encoders: passage\., query\."):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt", "config.json"])
def test_pointers_and_links_are_named(name: str, tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(), tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n")
    with pytest.raises(InputError, match="Git LFS pointer"):
        load_checkpoint(tmp_path / "m")
    path.unlink()
    path.symlink_to("absent")
    with pytest.raises(InputError, match="is a link to absent"):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize(
    ("key", "value"), [("auto_map", {"AutoModel": "b.B"}), ("pruned_heads", {"0": [1]})]
)
def test_settings_that_are_named(key: str, value: Any, tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(), tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=key):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma"),
        ("pooler.dense.bias", "bert.pooler.dense.bias"),
    ],
)
def test_two_tensors_for_one_weight(first: str, second: str, tmp_path: Path) -> None:
    damage(tmp_path / "m", lambda state: state | {second: state[first].copy()})
    assert_same(load_checkpoint(tmp_path / "m").parameters(), tiny_checkpoint().parameters())
    damage(tmp_path / "n", lambda state: state | {second: state[first] + 1})
    with pytest.raises(InputError, match=rf"holds .*{second}.*two different tensors"):
        load_checkpoint(tmp_path / "n")


def test_a_model_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    parameters = checkpoint.parameters()
    parameters["pooler.bias"] = np.full_like(parameters["pooler.bias"], np.inf)
    with pytest.raises(InputError, match=r"The checkpoint: pooler\.bias has \d+ values"):
        save_checkpoint(checkpoint.replace(parameters=parameters), tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("flax_model.msgpack", "found flax_model.msgpack"),
        ("model-q4.gguf", "found model-q4.gguf"),
        ("adapter_config.json", "merge_and_unload"),
        ("README.md", "found nothing else"),
    ],
)
def test_weights_of_other_programs_are_named(name: str, told: str, tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(InputError, match=told):
        load_checkpoint(tmp_path)


def test_a_folder_of_the_hub_cache_names_its_snapshots(tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(), tmp_path / "models--a--b" / "snapshots" / "0abc")
    with pytest.raises(InputError, match=r"Pass the snapshot in it: .*snapshots/0abc"):
        load_checkpoint(tmp_path / "models--a--b")


def split(state: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """Writes two shards and returns the index."""
    names = sorted(state)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        safetensors.numpy.save_file({name: state[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    return {"metadata": {}, "weight_map": weight_map}


def sharded(folder: Path) -> tuple[dict[str, Any], Any]:
    config = tiny_config()
    parameters = random_parameters(config)
    write_config(folder, config)
    return split(torch_bert_state(parameters), folder), parameters


def write_index(folder: Path, index: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_sharded_weights(tmp_path: Path) -> None:
    index, expected = sharded(tmp_path)
    write_index(tmp_path, index)
    assert_same(load_checkpoint(tmp_path).parameters(), expected)


def test_shards_of_two_models_are_refused(tmp_path: Path) -> None:
    index, _ = sharded(tmp_path)
    write_index(tmp_path, index)
    name, file = next(iter(index["weight_map"].items()))
    (other,) = set(index["weight_map"].values()) - {file}
    state = safetensors.numpy.load_file(tmp_path / other)
    tensor = safetensors.numpy.load_file(tmp_path / file)[name]
    safetensors.numpy.save_file(state | {name: tensor}, tmp_path / other)
    load_checkpoint(tmp_path)
    safetensors.numpy.save_file(state | {name: tensor + 1}, tmp_path / other)
    with pytest.raises(InputError, match=f"{other} holds another tensor of this name"):
        load_checkpoint(tmp_path)


def test_shards_without_their_index_are_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    with pytest.raises(InputError, match=r"found model-00001-of-00002\.safetensors"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../elsewhere.safetensors",
        "/etc/passwd",
        "sub/x.safetensors",
        "..\\x.safetensors",
        "\0.safetensors",
        "\ud800.safetensors",
        3,
    ],
)
def test_index_must_not_leave_its_folder(name: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    index, _ = sharded(folder)
    (tmp_path / "elsewhere.safetensors").write_bytes(b"")
    index["weight_map"]["pooler.dense.bias"] = name
    write_index(folder, index)
    with pytest.raises(InputError, match="outside its own folder"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_map": {}}, "no weight_map"),
        ({"weight_map": []}, "no weight_map"),
        ({"weight_map": {"x": "config.json"}}, "expected a .safetensors file"),
        ({"weight_map": {"x": ".."}}, "expected a .safetensors file"),
        ({"weight_map": {"x": ""}}, "expected a .safetensors file"),
        ({"weight_map": {"x": "absent.safetensors"}}, "No such file"),
        ({"weight_map": {"x": "model-00001-of-00002.safetensors"}}, "has no such tensor"),
    ],
)
def test_malformed_index(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    index, _ = sharded(tmp_path)
    write_index(tmp_path, index | change)
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path)


def test_pytorch_bin(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    config = tiny_config()
    expected = random_parameters(config, mlm_head=True)
    write_config(tmp_path, config)
    state = torch_bert_state(expected, prefix="bert.", old_names=True)
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    file = tmp_path / "pytorch_model.bin"
    torch.save(tensors, file)
    assert_same(load_checkpoint(tmp_path).parameters(), expected)


def test_sharded_pytorch_bin(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    config = tiny_config()
    expected = random_parameters(config)
    write_config(tmp_path, config)
    tensors = {k: torch.from_numpy(v) for k, v in torch_bert_state(expected).items()}
    torch.save(tensors, tmp_path / "pytorch_model-00001-of-00001.bin")
    weight_map = dict.fromkeys(tensors, "pytorch_model-00001-of-00001.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_same(load_checkpoint(tmp_path).parameters(), expected)


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_weights_are_read_under_another_kind_s_name(tmp_path: Path, kind: str) -> None:
    torch = pytest.importorskip("torch")
    config = tiny_config()
    parameters = random_parameters(config)
    write_config(tmp_path, config)
    state = torch_bert_state(parameters)
    if kind == "pytorch_model.bin":
        safetensors.numpy.save_file(state, tmp_path / kind)
    else:
        torch.save({k: torch.tensor(v) for k, v in state.items()}, tmp_path / kind)
    found = load_checkpoint(tmp_path).parameters()
    for name, value in parameters.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hidden_act": "mish"}, "'mish' is not supported"), ({"vocab_size": "9"}, "not of type int")],
)
def test_a_configuration_that_is_refused_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_config(tmp_path, tiny_config())
    values = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text("\ufeff" + json.dumps(values | changes), "utf-8")
    with pytest.raises(InputError, match=f"{tmp_path}/config.json: .*{message}"):
        load_checkpoint(tmp_path)


def test_two_biases_of_one_head_are_not_chosen_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config()
    parameters = random_parameters(config, mlm_head=True)
    write_config(tmp_path, config)
    state = torch_bert_state(parameters)
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"] + 1
    safetensors.numpy.save_file(state, tmp_path / "model.safetensors")
    assert not load_checkpoint(tmp_path).has_mlm_head
    assert "two different biases" in caplog.text


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    config = tiny_config()
    write_config(tmp_path, config.replace(intermediate_size=23))
    safetensors.numpy.save_file(
        torch_bert_state(random_parameters(config)), tmp_path / "model.safetensors"
    )
    message = r"layers\.0\.intermediate\.kernel has shape \(15, 22\)"
    with pytest.raises(InputError, match=f"weights of {tmp_path} do not fit.* {message}"):
        load_checkpoint(tmp_path)


def test_directory_without_weights(tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config())
    with pytest.raises(InputError, match=r"Expected one of model\.safetensors"):
        load_checkpoint(tmp_path)


def test_tokenizer_larger_than_the_vocabulary(tmp_path: Path) -> None:
    config = tiny_config(vocab_size=30)
    write_config(tmp_path, config)
    state = torch_bert_state(random_parameters(config))
    safetensors.numpy.save_file(state, tmp_path / "model.safetensors")
    tiny_tokenizer().save(tmp_path)
    with pytest.raises(InputError, match="Use the tokenizer that belongs to the model"):
        load_checkpoint(tmp_path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
