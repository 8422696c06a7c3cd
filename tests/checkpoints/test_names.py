"""The name tables cover every weight exactly once."""

import sys

import pytest

from etd_tf.checkpoints import names
from etd_tf.modeling.structure import parameter_shapes
from tests.helpers import tiny_config

COMPLETE = {
    "bert": (names.HUGGINGFACE_BERT, True),
    "roberta": (names.HUGGINGFACE_ROBERTA, True),
    "distilbert": (names.HUGGINGFACE_DISTILBERT, False),
    "tf1": (names.GOOGLE_TF1, True),
    "keras_hub": (names.KERAS_HUB, True),
}


@pytest.mark.parametrize("table", COMPLETE)
@pytest.mark.parametrize("num_layers", [1, 12])
def test_tables_name_every_weight_in_model_order(table: str, num_layers: int) -> None:
    rows, has_pooler = COMPLETE[table]
    config = tiny_config(num_layers=num_layers)
    expanded = list(names.expand(rows, num_layers))
    expected = list(parameter_shapes(config, pooler=has_pooler, mlm_head=True))
    assert [row.canonical for row in expanded] == expected
    assert len({row.theirs for row in expanded}) == len(expanded)


def test_only_pytorch_kernels_are_transposed() -> None:
    transposed = {row.canonical for row in names.HUGGINGFACE_BERT if row.transposed}
    assert transposed == {
        row.canonical for row in names.HUGGINGFACE_BERT if row.canonical.endswith("kernel")
    }
    assert not any(row.transposed for row in (*names.GOOGLE_TF1, *names.KERAS_HUB))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder/layer_with_weights-0/embeddings", "embeddings.token"),
        ("model/layer_with_weights-0/embeddings", "embeddings.token"),
        ("model/encoder/layer_with_weights-0/embeddings", "embeddings.token"),
        ("encoder/_embedding_layer/embeddings", "embeddings.token"),
        ("encoder/layer_with_weights-3/gamma", "embeddings.layer_norm.gamma"),
        (
            "encoder/layer_with_weights-5/_attention_layer/_key_dense/bias",
            "layers.1.attention.key.bias",
        ),
        (
            "encoder/layer_with_weights-4/_attention_layer/_output_dense/kernel",
            "layers.0.attention.output.kernel",
        ),
        (
            "encoder/layer_with_weights-4/_attention_output_dense/kernel",
            "layers.0.attention.output.kernel",
        ),
        ("encoder/layer_with_weights-4/_output_dense/kernel", "layers.0.output.kernel"),
        (
            "encoder/_transformer_layers/2/_output_layer_norm/beta",
            "layers.2.output_layer_norm.beta",
        ),
        ("encoder/layer_with_weights-7/kernel", "pooler.kernel"),
        ("next_sentence..pooler_dense/bias", "pooler.bias"),
        ("encoder/layer_with_weights-4/kernel", None),  # an embedding projection
        ("masked_lm/dense/kernel", "mlm.dense.kernel"),
        ("masked_lm/bias", "mlm.output_bias"),
        ("masked_lm/bias/.OPTIMIZER_SLOT/optimizer/m", None),
        ("save_counter", None),
    ],
)
def test_tf2_names(name: str, expected: str | None) -> None:
    actual = names.tf2_canonical(f"{name}/.ATTRIBUTES/VARIABLE_VALUE", num_layers=3)
    assert actual == expected


def test_tf2_names_without_suffix_are_ignored() -> None:
    assert names.tf2_canonical("masked_lm/bias", num_layers=3) is None


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
