"""The two doors: format detection, refusals, atomic and verified writing."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tokenizers

from etd_tf.checkpoints import loading
from etd_tf.checkpoints.loading import FORMATS, load_checkpoint, save_checkpoint
from etd_tf.errors import EtdError, InputError
from etd_tf.tokenization.backends import byte_level_backend
from etd_tf.tokenization.directories import SIDECAR
from etd_tf.tokenization.tokenizer import Tokenizer
from tests.helpers import need_quickstart_teacher, tiny_checkpoint, tiny_tokenizer


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist\. Pass the directory"):
        load_checkpoint(tmp_path / "absent")


def test_file_instead_of_directory(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="is a file, not a directory"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_directory_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"expected config\.json .* found notes\.txt"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"model_type": "bert"}'])
def test_config_that_describes_no_model(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        load_checkpoint(tmp_path)


def test_dtype_policy_and_activation(tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(), tmp_path / "out")
    loaded = load_checkpoint(tmp_path / "out", dtype="mixed_bfloat16", hidden_act="relu")
    assert loaded.encoder.dtype_policy.name == "mixed_bfloat16"
    assert loaded.config.hidden_act == "relu"
    with pytest.raises(InputError, match="Supported activations"):
        load_checkpoint(tmp_path / "out", hidden_act="swish")


def test_loaded_weights_can_be_trained_and_the_file_stays(tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(), tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    before = file.read_bytes()
    loaded = load_checkpoint(tmp_path / "out")
    kernel = loaded.encoder.encoder_layers[0].intermediate.kernel
    old = keras.ops.convert_to_numpy(kernel)
    kernel.assign_add(keras.ops.ones_like(kernel))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), old + 1.0)
    assert file.read_bytes() == before


def test_a_directory_can_be_overwritten_by_its_own_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(), tmp_path / "out")
    loaded = load_checkpoint(tmp_path / "out")
    with pytest.raises(InputError, match="pass overwrite=True"):
        save_checkpoint(loaded, tmp_path / "out")
    save_checkpoint(loaded, tmp_path / "out", overwrite=True)
    assert load_checkpoint(tmp_path / "out").fingerprint() == tiny_checkpoint().fingerprint()


@pytest.mark.parametrize("format", FORMATS)
def test_report(format: str, tmp_path: Path) -> None:
    report = save_checkpoint(tiny_checkpoint(), tmp_path / "out", format=format)
    assert report.directory == tmp_path / "out"
    assert report.format == format
    assert (report.max_difference is not None) == (format == "keras_hub")
    assert entries(tmp_path) == ["out"]


def byte_level_vocabulary() -> dict[str, int]:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, "th", "<mask>"]
    return {token: index for index, token in enumerate(tokens)}


def byte_level_tokenizer() -> Tokenizer:
    backend = byte_level_backend(byte_level_vocabulary(), [("t", "h")], add_prefix_space=False)
    return Tokenizer({"tokenizer.json": backend.to_str().encode()})


@pytest.mark.parametrize("format", FORMATS)
def test_tokenizers_that_are_no_wordpiece(format: str, tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    base = tiny_checkpoint(vocab_size=tokenizer.vocab_size, pad_token_id=1, type_vocab_size=1)
    checkpoint = base.replace(tokenizer=tokenizer)
    report = save_checkpoint(checkpoint, tmp_path / "out", format=format)
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.fingerprint() == tokenizer.fingerprint()
    assert loaded.config == checkpoint.config
    assert any("Only WordPiece" in note for note in report.notes) == (format != "huggingface")
    if format == "huggingface":
        transformers = pytest.importorskip("transformers")
        theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
        texts = ["that <mask> is", "\u00e9t\u00e9 "]
        assert theirs(texts, add_special_tokens=False)["input_ids"] == tokenizer.encode_batch(texts)
        assert (theirs.pad_token_id, theirs.mask_token_id) == (1, tokenizer.mask_id)
        assert theirs.model_max_length == base.config.max_positions


def test_merges_alone_are_enough_for_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    vocabulary = json.dumps(byte_level_vocabulary()).encode()
    files = {"vocab.json": vocabulary, "merges.txt": b"#version: 0.2\nt h\n"}
    tokenizer = Tokenizer(files)
    base = tiny_checkpoint(vocab_size=tokenizer.vocab_size, pad_token_id=1, type_vocab_size=1)
    save_checkpoint(base.replace(tokenizer=tokenizer), tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    texts = ["that is", "\u00e9t\u00e9 "]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == tokenizer.encode_batch(texts)


def test_pairs_for_a_model_without_segments(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    base = tiny_checkpoint(type_vocab_size=1)
    assert base.tokenizer is not None
    plain = Tokenizer(
        {"vocab.txt": base.tokenizer.files["vocab.txt"], "tokenizer_config.json": b"{}"}
    )
    save_checkpoint(base.replace(tokenizer=plain), tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    assert sorted(theirs("the cat", "sat")) == ["attention_mask", "input_ids"]


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    """The folder that keeps what Google's format cannot express."""
    exact = {"layer_norm_epsilon": 1e-7, "hidden_act": "relu", "pad_token_id": 3}
    save_checkpoint(tiny_checkpoint(pooler=False, **exact), tmp_path / "out", format="google")
    return tmp_path / "out" / SIDECAR


def test_the_sidecar_completes_config_pooler_and_tokenizer(sidecar: Path) -> None:
    exact = tiny_checkpoint(
        pooler=False, layer_norm_epsilon=1e-7, hidden_act="relu", pad_token_id=3
    )
    loaded = load_checkpoint(sidecar.parent)
    assert loaded.config == exact.config
    assert list(loaded.parameters()) == list(exact.parameters())
    (sidecar.parent / "vocab.txt").unlink()
    loaded = load_checkpoint(sidecar.parent)
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.fingerprint() == tiny_tokenizer().fingerprint()
    values = json.loads((sidecar / "config.json").read_text())
    assert (values["pooler"], values["config"]["hidden_size"]) == (False, 15)


def test_a_pooler_that_stands_in_is_left_out(tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(pooler=False), tmp_path / "out", format="keras_hub")
    assert not load_checkpoint(tmp_path / "out").has_pooler
    shutil.rmtree(tmp_path / "out" / SIDECAR)
    assert load_checkpoint(tmp_path / "out").has_pooler


def test_without_the_sidecar_there_is_nothing_to_complete(sidecar: Path) -> None:
    shutil.rmtree(sidecar)
    assert load_checkpoint(sidecar.parent).config.layer_norm_epsilon == 1e-12


def test_a_sidecar_of_another_size_is_refused(sidecar: Path) -> None:
    values = json.loads((sidecar / "config.json").read_text())
    values["config"]["num_layers"] = 4
    (sidecar / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"num_layers=4, but the checkpoint has 3\. Remove"):
        load_checkpoint(sidecar.parent)


@pytest.mark.parametrize("content", ["{}", '{"config": {"x": 1}, "pooler": true}', "[", "3"])
def test_a_malformed_sidecar_is_refused(content: str, sidecar: Path) -> None:
    (sidecar / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        load_checkpoint(sidecar.parent)


def test_a_run_directory_stands_for_its_student(tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint(), tmp_path / "student")
    loaded = load_checkpoint(tmp_path)
    assert loaded.fingerprint() == tiny_checkpoint().fingerprint()
    assert loaded.source == str(tmp_path)


def test_unknown_format_and_wrong_object(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="huggingface, keras_hub, google"):
        save_checkpoint(tiny_checkpoint(), tmp_path / "out", format="onnx")
    wrong: Any = tiny_checkpoint().encoder
    with pytest.raises(InputError, match="Expected a Checkpoint, received BertEncoder"):
        save_checkpoint(wrong, tmp_path / "out")
    assert entries(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_failed_export_leaves_nothing(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "_verify", interrupted)  # everything is written by then
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tiny_checkpoint(), tmp_path / "out", format=format)
    assert entries(tmp_path) == []


def test_what_reads_back_differently_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = loading.write_huggingface

    def damaged(checkpoint: Any, directory: Path) -> None:
        parameters = checkpoint.parameters()
        changed = parameters | {"pooler.bias": parameters["pooler.bias"] + 1e-6}
        write(checkpoint.replace(parameters=changed), directory)

    monkeypatch.setattr(loading, "write_huggingface", damaged)
    with pytest.raises(EtdError, match=r"pooler\.bias"):
        save_checkpoint(tiny_checkpoint(), tmp_path / "out")
    assert entries(tmp_path) == []


def test_quickstart_teacher() -> None:
    teacher = load_checkpoint(need_quickstart_teacher())
    config = teacher.config
    assert (config.num_layers, config.hidden_size, config.num_heads) == (6, 384, 12)
    assert config.hidden_act == "gelu"
    assert teacher.has_pooler
    assert teacher.mlm_head is None
    assert teacher.tokenizer is not None
    assert teacher.tokenizer.vocab_size == config.vocab_size == 30522
    assert teacher.num_parameters() == 22_713_216


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
