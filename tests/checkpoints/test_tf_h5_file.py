"""`tf_model.h5` files of older Transformers releases."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from etd_tf.checkpoints.loading import load_checkpoint
from etd_tf.checkpoints.tf_h5_file import read_tf_h5, torch_name
from etd_tf.errors import InputError
from tests.checkpoints.fixtures import assert_same, torch_bert_state, write_config
from tests.helpers import random_parameters, tiny_config


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "bert/tf_bert_model/bert/encoder/layer_._10/attention/self/query/kernel:0",
            "bert.encoder.layer.10.attention.self.query.weight",
        ),
        (
            "bert/tf_bert_for_masked_lm_1/bert/embeddings/position_embeddings/embeddings:0",
            "bert.embeddings.position_embeddings.weight",
        ),
        (
            "bert/tf_bert_model/bert/embeddings/word_embeddings/weight:0",
            "bert.embeddings.word_embeddings.weight",
        ),
        (
            "mlm___cls/tf_bert_for_pre_training/mlm___cls/predictions/transform/LayerNorm/beta:0",
            "cls.predictions.transform.LayerNorm.bias",
        ),
        (
            "mlm___cls/tf_bert_for_masked_lm/mlm___cls/predictions/bias:0",
            "cls.predictions.bias",
        ),
        (
            "distilbert/tf_distil_bert_model/distilbert/transformer/layer_._0/ffn/lin1/bias:0",
            "distilbert.transformer.layer.0.ffn.lin1.bias",
        ),
    ],
)
def test_names(path: str, expected: str) -> None:
    assert torch_name(path) == expected


def write_tf_model(path: Path, state: dict[str, np.ndarray]) -> None:
    """Writes a PyTorch state the way TFBertForMaskedLM did: kernels `[input, output]`."""
    with h5py.File(path, "w") as file:
        for name, array in state.items():
            value = array
            *body, leaf = name.replace("encoder.layer.", "encoder.layer_@_").split(".")
            layer = "bert" if body[0] == "bert" else "mlm___cls"
            if body[-1] == "LayerNorm":
                leaf = "gamma" if leaf == "weight" else "beta"
            elif leaf == "weight" and body[-1] in ("position_embeddings", "token_type_embeddings"):
                leaf = "embeddings"
            elif leaf == "weight" and body[-1] != "word_embeddings":
                leaf, value = "kernel", value.T
            full = "/".join([layer, "tf_bert_for_masked_lm", layer, *body[1:], f"{leaf}:0"])
            file.create_dataset(full.replace("@", "."), data=value)


def test_directory_with_masked_lm_head(tmp_path: Path) -> None:
    config = tiny_config()
    expected = random_parameters(config, mlm_head=True)
    write_config(tmp_path, config)
    write_tf_model(tmp_path / "tf_model.h5", torch_bert_state(expected, prefix="bert."))
    assert_same(load_checkpoint(tmp_path).parameters(), expected)


def test_truncated_file(tmp_path: Path) -> None:
    write_tf_model(tmp_path / "x.h5", {"bert.pooler.dense.weight": np.ones((300, 300))})
    content = (tmp_path / "x.h5").read_bytes()
    (tmp_path / "x.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="may be truncated or corrupt"):
        read_tf_h5(tmp_path / "x.h5")


def test_a_huge_claim_takes_no_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("bert/m/bert/kernel:0", (10**6, 10**6), "<f4", chunks=(9, 9))
    with pytest.raises(InputError, match="compressed or incomplete"):
        read_tf_h5(tmp_path / "x.h5")


def test_external_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        external = [(str(tmp_path / "secret"), 0, 16)]
        file.create_dataset("bert/m/bert/kernel:0", (4,), "<f4", external=external)
    with pytest.raises(InputError, match="no plain array"):
        read_tf_h5(tmp_path / "x.h5")


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("a/bqq/c:0", data=np.ones(2))
    content = (tmp_path / "m.h5").read_bytes()
    (tmp_path / "m.h5").write_bytes(content.replace(b"bqq", b"b\xffq"))
    with pytest.raises(InputError, match=r"m\.h5: b'a/b\\xff.* is no name of a weight"):
        read_tf_h5(tmp_path / "m.h5")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
