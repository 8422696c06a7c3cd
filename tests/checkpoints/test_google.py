"""Google's checkpoints: TF1 names, both generations of TF2 names, and our writer."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etd_tf.checkpoints.google import find_prefix, read_google
from etd_tf.checkpoints.loading import load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from tests.checkpoints.fixtures import (
    assert_same,
    tf1_bert_variables,
    tf2_bert_variables,
    write_tf_checkpoint,
)
from tests.helpers import random_parameters, tiny_checkpoint, tiny_config, tiny_tokenizer


def directory_with(variables: dict[str, np.ndarray], folder: Path) -> Path:
    config = tiny_config()
    folder.mkdir(exist_ok=True)
    if variables:
        write_tf_checkpoint(folder / "bert_model.ckpt", variables)
    values = {
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
    }
    (folder / "bert_config.json").write_text(json.dumps(values))
    tiny_tokenizer().save_vocabulary(folder / "vocab.txt")
    return folder


def expected_parameters() -> Any:
    return random_parameters(tiny_config(), mlm_head=True)


def test_tf1(tmp_path: Path) -> None:
    directory_with(tf1_bert_variables(expected_parameters()), tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert_same(checkpoint.parameters(), expected_parameters())
    assert checkpoint.config == tiny_config()
    assert checkpoint.tokenizer is not None
    assert checkpoint.tokenizer.lowercase
    same = load_checkpoint(tmp_path / "bert_model.ckpt")
    assert same.fingerprint() == checkpoint.fingerprint()


def test_file_of_a_tf1_saver(tmp_path: Path) -> None:
    import tensorflow as tf

    directory_with({}, tmp_path / "empty")  # only for its bert_config.json
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in tf1_bert_variables(expected_parameters()).items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), global_step=7)
    (tmp_path / "empty" / "bert_config.json").rename(tmp_path / "bert_config.json")
    for source in (tmp_path, tmp_path / "model.ckpt-7"):
        assert_same(load_checkpoint(source).parameters(), expected_parameters())


@pytest.mark.parametrize("generation", ["functional", "v2"])
def test_tf2(generation: str, tmp_path: Path) -> None:
    variables = tf2_bert_variables(expected_parameters(), tiny_config(), generation=generation)
    directory_with(variables, tmp_path)
    assert_same(load_checkpoint(tmp_path).parameters(), expected_parameters())


def test_activation_can_be_overridden(tmp_path: Path) -> None:
    directory_with(tf1_bert_variables(expected_parameters()), tmp_path)
    assert load_checkpoint(tmp_path).config.hidden_act == "gelu"
    assert load_checkpoint(tmp_path, hidden_act="gelu_new").config.hidden_act == "gelu_new"


def test_missing_variable(tmp_path: Path) -> None:
    variables = tf1_bert_variables(expected_parameters())
    del variables["bert/encoder/layer_1/output/dense/kernel"]
    directory_with(variables, tmp_path)
    with pytest.raises(InputError, match=r"lacks 1 of .*bert/encoder/layer_1/output/dense/kernel"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("generation", ["tf1", "v2"])
def test_variable_of_another_size(generation: str, tmp_path: Path) -> None:
    parameters = expected_parameters()
    parameters["pooler.bias"] = np.zeros(16, np.float32)
    variables = (
        tf1_bert_variables(parameters)
        if generation == "tf1"
        else tf2_bert_variables(parameters, tiny_config(), generation=generation)
    )
    directory_with(variables, tmp_path)
    with pytest.raises(InputError, match=r"pooler\.bias has shape \(16,\), expected \(15,\)"):
        load_checkpoint(tmp_path)


def test_truncated_data(tmp_path: Path) -> None:
    directory_with(tf1_bert_variables(expected_parameters()), tmp_path)
    data = tmp_path / "bert_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:500])
    with pytest.raises(InputError, match="may be truncated"):
        load_checkpoint(tmp_path)


def test_corrupt_index(tmp_path: Path) -> None:
    directory_with(tf1_bert_variables(expected_parameters()), tmp_path)
    (tmp_path / "bert_model.ckpt.index").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a readable TensorFlow checkpoint"):
        load_checkpoint(tmp_path)


def test_a_size_beyond_64_bits_is_refused(tmp_path: Path) -> None:
    directory_with(tf1_bert_variables(expected_parameters()), tmp_path)
    values = json.loads((tmp_path / "bert_config.json").read_text())
    (tmp_path / "bert_config.json").write_text(json.dumps(values | {"vocab_size": 10**30}))
    with pytest.raises(InputError, match="configuration belongs to the weights"):
        load_checkpoint(tmp_path)


def test_missing_config(tmp_path: Path) -> None:
    directory_with(tf1_bert_variables(expected_parameters()), tmp_path)
    (tmp_path / "bert_config.json").unlink()
    with pytest.raises(InputError, match=r"Cannot read .*bert_config\.json"):
        load_checkpoint(tmp_path)


def test_several_checkpoints_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("model.ckpt-1", "model.ckpt-2"):
        write_tf_checkpoint(tmp_path / name, {"x": np.zeros(1, np.float32)})
    with pytest.raises(InputError, match=r"name one of them: model\.ckpt-1, model\.ckpt-2"):
        find_prefix(tmp_path)
    (tmp_path / "model.ckpt-2.index").unlink()
    assert find_prefix(tmp_path) == tmp_path / "model.ckpt-1"


def test_only_real_leftovers_are_named(tmp_path: Path, caplog: Any) -> None:
    directory_with(tf1_bert_variables(expected_parameters()), tmp_path)
    read_google(tmp_path / "bert_model.ckpt")
    assert "not used: cls/seq_relationship/output_weights." in caplog.text


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("complete", [True, False])
def test_round_trip_is_bit_identical(hidden_act: str, complete: bool, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(
        pooler=complete, mlm_head=complete, hidden_act=hidden_act, layer_norm_epsilon=1e-5
    )
    report = save_checkpoint(checkpoint, tmp_path / "out", format="google")
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.config == checkpoint.config
    assert loaded.fingerprint() == checkpoint.fingerprint()
    assert any("epsilon" in note for note in report.notes)
    assert any("tanh GELU" in note for note in report.notes) == (hidden_act == "gelu")


def test_written_file_is_googles(tmp_path: Path) -> None:
    import tensorflow as tf

    checkpoint = tiny_checkpoint(mlm_head=True, hidden_act="gelu_new")
    save_checkpoint(checkpoint, tmp_path / "out", format="google")
    reader = tf.train.load_checkpoint(str(tmp_path / "out" / "bert_model.ckpt"))
    extra = ("adam_m", "global_step", "seq_relationship")
    expected = {
        name: value
        for name, value in tf1_bert_variables(checkpoint.parameters()).items()
        if not any(word in name for word in extra)
    }
    assert set(reader.get_variable_to_shape_map()) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value, err_msg=name)
    values = json.loads((tmp_path / "out" / "bert_config.json").read_text())
    assert values["hidden_act"] == "gelu"
    vocabulary = (tmp_path / "out" / "vocab.txt").read_text().split("\n")
    assert checkpoint.tokenizer is not None
    assert vocabulary[:-1] == checkpoint.tokenizer.wordpieces


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
