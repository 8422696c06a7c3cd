"""RoBERTa, XLM-R and DistilBERT read as our encoder; other kinds refused."""

import sys
from typing import Any

import numpy as np
import pytest

from etd_tf.checkpoints.families import FAMILIES, find_family, read_config, read_parameters
from etd_tf.errors import InputError
from tests.checkpoints.fixtures import assert_same, torch_bert_state
from tests.helpers import random_parameters, tiny_config

SIZES = {
    "vocab_size": 99,
    "num_hidden_layers": 2,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 34,
}


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize("pad", [1, 0, 3])
def test_roberta_positions_start_after_padding(model_type: str, pad: int) -> None:
    values = {**SIZES, "model_type": model_type, "type_vocab_size": 1, "pad_token_id": pad}
    config = read_config(values, find_family(values, "config.json"))
    assert config.max_positions == 34 - pad - 1
    assert config.type_vocab_size == 1
    assert config.pad_token_id == pad


def test_roberta_padding_id_defaults_to_one() -> None:
    config = read_config({**SIZES, "pad_token_id": None}, FAMILIES["roberta"])
    assert config.pad_token_id == 1
    assert config.max_positions == 32


def test_distilbert_config() -> None:
    values = {
        "model_type": "distilbert",
        "vocab_size": 99,
        "n_layers": 2,
        "n_heads": 3,
        "dim": 12,
        "hidden_dim": 20,
        "activation": "gelu",
        "dropout": 0.2,
        "attention_dropout": 0.3,
        "max_position_embeddings": 34,
    }
    config = read_config(values, find_family(values, "config.json"))
    assert (config.num_layers, config.num_heads, config.hidden_size) == (2, 3, 12)
    assert (config.intermediate_size, config.type_vocab_size) == (20, 1)
    assert (config.hidden_dropout, config.attention_dropout) == (0.2, 0.3)
    assert config.layer_norm_epsilon == 1e-12


@pytest.mark.parametrize("model_type", ["gpt2", "albert", 3, None, ["bert"]])
def test_other_model_types_are_refused(model_type: Any) -> None:
    with pytest.raises(InputError, match="bert, roberta, xlm-roberta, camembert, distilbert"):
        find_family({"model_type": model_type}, "config.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("quantization_config", {"bits": 4}),
    ],
)
def test_variants_that_compute_something_else_are_refused(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=key):
        find_family({"model_type": "bert", key: value}, "config.json")


def test_old_files_without_model_type_are_bert() -> None:
    assert find_family({}, "config.json") is FAMILIES["bert"]


def bert_state(**options: Any) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    config = tiny_config()
    parameters = random_parameters(config, mlm_head=True)
    return config, parameters, torch_bert_state(parameters, **options)


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("old_names", [False, True])
def test_spellings_of_bert(prefix: str, old_names: bool) -> None:
    config, parameters, state = bert_state(prefix=prefix, old_names=old_names)
    assert_same(read_parameters(state, FAMILIES["bert"], config, "x"), parameters)


def test_tied_weights_under_their_second_name_only() -> None:
    config, parameters, state = bert_state(prefix="bert.")
    name = "bert.embeddings.word_embeddings.weight"
    state["cls.predictions.decoder.weight"] = state.pop(name)
    state["cls.predictions.decoder.bias"] = state.pop("cls.predictions.bias")
    assert_same(read_parameters(state, FAMILIES["bert"], config, "x"), parameters)


def test_untied_head_is_left_out_with_a_warning(caplog: Any) -> None:
    config, parameters, state = bert_state(prefix="bert.")
    state["cls.predictions.decoder.weight"] = parameters["embeddings.token"] + 1.0
    actual = read_parameters(state, FAMILIES["bert"], config, "x")
    assert "masked-LM head is left out" in caplog.text
    assert not any(name.startswith("mlm.") for name in actual)


def test_leftover_weights_are_named(caplog: Any) -> None:
    config, _, state = bert_state()
    state["classifier.weight"] = np.zeros((2, 15), np.float32)
    state["encoder.layer.3.output.dense.bias"] = np.zeros(15, np.float32)
    read_parameters(state, FAMILIES["bert"], config, "x")
    assert "2 weights are not used: classifier.weight, encoder.layer.3" in caplog.text


def test_expected_companions_are_not_worth_a_word(caplog: Any) -> None:
    config, _, state = bert_state()
    state["embeddings.position_ids"] = np.arange(9)[None]
    state["cls.predictions.decoder.weight"] = state["embeddings.word_embeddings.weight"]
    read_parameters(state, FAMILIES["bert"], config, "x")
    assert caplog.text == ""


@pytest.mark.parametrize(
    "name",
    ["embeddings.LayerNorm.weight", "encoder.layer.2.output.dense.bias", "pooler.dense.bias"],
)
def test_missing_weights_are_an_error(name: str) -> None:
    config, _, state = bert_state()
    del state[name]
    with pytest.raises(InputError, match=rf"x lacks 1 of the .*{name}.*Check that"):
        read_parameters(state, FAMILIES["bert"], config, "x")


def test_half_a_head_is_an_error() -> None:
    config, _, state = bert_state()
    del state["cls.predictions.bias"]
    with pytest.raises(InputError, match=r"cls\.predictions\.bias"):
        read_parameters(state, FAMILIES["bert"], config, "x")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
