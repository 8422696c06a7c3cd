"""Tests of the configuration: validation, JSON of both dialects, sizes and FLOPs."""

import json
import sys

import hypothesis
import pytest
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.modeling import BertConfig, BertEncoder, MaskedLMHead
from etd_tf.storage.json_files import read_json_object
from tests.helpers import tiny_config

BERT_BASE = BertConfig(30522, 12, 768, 12, 3072)


@hypothesis.settings(max_examples=25)
@hypothesis.given(
    hidden_size=st.integers(1, 400), num_heads=st.integers(1, 40).filter(lambda n: n > 1)
)
def test_the_heads_error_names_sizes_that_work(hidden_size, num_heads):
    if hidden_size % num_heads == 0:
        assert tiny_config(hidden_size=hidden_size, num_heads=num_heads).head_size >= 1
        return
    with pytest.raises(InputError) as caught:
        tiny_config(hidden_size=hidden_size, num_heads=num_heads)
    advice = str(caught.value).split("Nearest sizes that work: ")[1].split(";")[0]
    sizes = [int(size) for size in advice.split(" or ")]
    for size in sizes:
        assert abs(size - hidden_size) < num_heads
        assert tiny_config(hidden_size=size, num_heads=num_heads).hidden_size == size
    assert len(sizes) == (1 if hidden_size < num_heads else 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size=0 is not a positive integer"),
        ({"num_layers": True}, "num_layers=True is not a positive integer"),
        ({"num_layers": 1_000_000}, "more than 1000; check the configuration"),
        ({"vocab_size": 3.0}, r"vocab_size=3\.0 is not a positive integer"),
        ({"type_vocab_size": -1}, "type_vocab_size=-1"),
        ({"hidden_act": "swish"}, "Supported activations: gelu, "),
        ({"hidden_dropout": 1.0}, r"hidden_dropout=1\.0 is outside \[0, 1\)"),
        ({"attention_dropout": float("nan")}, r"attention_dropout=nan is outside \[0, 1\)"),
        ({"layer_norm_epsilon": 0.0}, r"layer_norm_epsilon=0\.0 is outside \(0, 1\)"),
        ({"pad_token_id": 86}, r"pad_token_id=86 is outside \[0, vocab_size=86\)"),
        ({"pad_token_id": -1}, r"pad_token_id=-1 is outside"),
    ],
)
def test_bad_fields_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("gelu", "gelu"), ("gelu_pytorch_tanh", "gelu_new"), ("gelu_new", "gelu_new")],
)
def test_activation_aliases_have_one_name(theirs, ours):
    assert tiny_config(hidden_act=theirs).hidden_act == ours


def test_replace_checks_again():
    assert tiny_config().replace(num_heads=5).head_size == 3
    with pytest.raises(InputError, match="12 or 16; or change num_heads"):
        tiny_config().replace(num_heads=4)


ODD = {
    "type_vocab_size": 1,
    "hidden_act": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.25,
    "pad_token_id": 3,
}


def test_huggingface_json_round_trip():
    config = tiny_config(**ODD)
    values = json.loads(json.dumps(config.to_huggingface()))
    assert BertConfig.from_huggingface(values) == config


def test_google_json_round_trip_loses_only_what_has_no_place():
    config = tiny_config(**ODD)
    values = json.loads(json.dumps(config.to_google()))
    assert "layer_norm_eps" not in values
    expected = config.replace(layer_norm_epsilon=1e-12, pad_token_id=0)
    assert BertConfig.from_google(values) == expected


def test_dictionary_round_trip():
    config = tiny_config(**ODD)
    assert BertConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_huggingface_and_google_files_as_they_are_published():
    common = {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "type_vocab_size": 2,
        "vocab_size": 30522,
    }
    more = {"architectures": ["BertForMaskedLM"], "layer_norm_eps": 1e-12, "model_type": "bert"}
    assert BertConfig.from_google(common) == BERT_BASE
    assert BertConfig.from_huggingface(common | more) == BERT_BASE
    assert BertConfig.from_google(common, hidden_act="gelu_new").hidden_act == "gelu_new"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"hidden_size": "768"}, "hidden_size='768' is not of type int"),
        ({"hidden_size": 768.0}, r"hidden_size=768\.0 is not of type int"),
        ({"layer_norm_eps": True}, "layer_norm_eps=True is not of type float"),
        ({"layer_norm_eps": 10**400}, "layer_norm_eps=1000.* is not of type float"),
        ({"hidden_act": 3}, "hidden_act=3 is not of type str"),
    ],
)
def test_wrong_json_values_are_refused(change, message):
    values = BERT_BASE.to_huggingface() | change
    values = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(InputError, match=message):
        BertConfig.from_huggingface(values)


def test_a_json_null_is_no_size():
    with pytest.raises(InputError, match="lacks intermediate_size"):
        BertConfig.from_google(BERT_BASE.to_google() | {"intermediate_size": None})


def test_a_json_null_means_the_default():
    values = BERT_BASE.to_huggingface() | {"pad_token_id": None}
    assert BertConfig.from_huggingface(values) == BERT_BASE


def test_a_list_is_not_a_configuration():
    with pytest.raises(InputError, match="holds a list, expected a JSON object"):
        BertConfig.from_huggingface([1])


@pytest.mark.parametrize("pooler", [False, True])
@pytest.mark.parametrize("type_vocab_size", [1, 2])
def test_num_parameters_counts_the_built_model(pooler, type_vocab_size):
    config = tiny_config(type_vocab_size=type_vocab_size)
    encoder, head = BertEncoder(config, pooler=pooler), MaskedLMHead(config)
    trainable = sum(v.value.shape.num_elements() for v in encoder.trainable_variables)
    assert config.num_parameters(pooler=pooler) == trainable
    with_head = trainable + sum(v.value.shape.num_elements() for v in head.trainable_variables)
    assert config.num_parameters(pooler=pooler, mlm_head=True) == with_head


def test_num_parameters_of_bert_base():
    assert BERT_BASE.num_parameters() == 109_482_240  # BertModel of bert-base-uncased
    assert BERT_BASE.num_parameters(pooler=False, mlm_head=True) == 109_514_298  # BertForMaskedLM


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "intermediate", "giga"),
    [(12, 768, 12, 3072, 22.35), (4, 312, 12, 1200, 1.25), (6, 768, 12, 3072, 11.17)],
)
def test_flops_of_published_sizes(layers, hidden, heads, intermediate, giga):
    config = BertConfig(30522, layers, hidden, heads, intermediate)
    assert round(config.flops(128) / 1e9, 2) == giga


def test_flops_of_one_layer_by_hand():
    config = tiny_config(num_layers=1, hidden_size=2, num_heads=1, intermediate_size=3)
    # T = 5: projections 4 * 5*2*2, feed-forward 2 * 5*2*3, scores and context 2 * 5*5*2.
    assert config.flops(5) == 2 * (4 * 5 * 2 * 2 + 2 * 5 * 2 * 3 + 2 * 5 * 5 * 2)
    assert config.replace(num_layers=2).flops(5) == 2 * config.flops(5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[1]", "holds a JSON list, expected an object"),
        (b'{"a": "' + b"x" * 200_000 + b'"}', "is larger than 150000 bytes"),
    ],
)
def test_bad_json_files_are_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_json_object(path, max_bytes=150_000)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read .*config\.json: No such file"):
        read_json_object(tmp_path / "config.json")


def test_a_json_file_is_read(tmp_path):
    (tmp_path / "config.json").write_text('{"ä": [1]}', encoding="utf-8")
    assert read_json_object(tmp_path / "config.json") == {"ä": [1]}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
