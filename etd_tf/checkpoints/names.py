"""Name tables between canonical weights and the checkpoint formats, as data.

A table is an ordered tuple of rows `(canonical, theirs, transposed)`. `{i}` stands for the
layer number, counted from 0. `transposed` marks kernels that the format stores as
`[output, input]`.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One weight: our name, the format's name, whether its kernel is transposed."""

    canonical: str
    theirs: str
    transposed: bool = False


def _dense(canonical: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{canonical}.kernel", f"{theirs}.weight", True),
        Row(f"{canonical}.bias", f"{theirs}.bias"),
    )


def _layer_norm(canonical: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{canonical}.gamma", f"{theirs}.weight"),
        Row(f"{canonical}.beta", f"{theirs}.bias"),
    )


_LAYER = "encoder.layer.{i}"
HUGGINGFACE_BERT: tuple[Row, ...] = (
    Row("embeddings.token", "embeddings.word_embeddings.weight"),
    Row("embeddings.position", "embeddings.position_embeddings.weight"),
    Row("embeddings.segment", "embeddings.token_type_embeddings.weight"),
    *_layer_norm("embeddings.layer_norm", "embeddings.LayerNorm"),
    *_dense("layers.{i}.attention.query", f"{_LAYER}.attention.self.query"),
    *_dense("layers.{i}.attention.key", f"{_LAYER}.attention.self.key"),
    *_dense("layers.{i}.attention.value", f"{_LAYER}.attention.self.value"),
    *_dense("layers.{i}.attention.output", f"{_LAYER}.attention.output.dense"),
    *_layer_norm("layers.{i}.attention_layer_norm", f"{_LAYER}.attention.output.LayerNorm"),
    *_dense("layers.{i}.intermediate", f"{_LAYER}.intermediate.dense"),
    *_dense("layers.{i}.output", f"{_LAYER}.output.dense"),
    *_layer_norm("layers.{i}.output_layer_norm", f"{_LAYER}.output.LayerNorm"),
    *_dense("pooler", "pooler.dense"),
    *_dense("mlm.dense", "cls.predictions.transform.dense"),
    *_layer_norm("mlm.layer_norm", "cls.predictions.transform.LayerNorm"),
    Row("mlm.output_bias", "cls.predictions.bias"),
)


def expand(table: tuple[Row, ...], num_layers: int) -> list[Row]:
    """Repeats the rows of a layer for every layer, in model order."""
    before = [row for row in table if "{i}" not in row.canonical and row.canonical < "layers"]
    repeated = [row for row in table if "{i}" in row.canonical]
    after = [row for row in table if "{i}" not in row.canonical and row.canonical >= "layers"]
    layers = [
        Row(row.canonical.format(i=i), row.theirs.format(i=i), row.transposed)
        for i in range(num_layers)
        for row in repeated
    ]
    return before + layers + after
