"""Name tables between canonical weights and the checkpoint formats, as data.

A table is an ordered tuple of rows `(canonical, theirs, transposed)`. `{i}` stands for the
layer number, counted from 0. `transposed` marks kernels that the format stores as
`[output, input]`. Formats that split attention kernels into heads differ from the canonical
arrays by a reshape only, which needs no entry here.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Row(NamedTuple):
    """One weight: our name, the format's name, whether its kernel is transposed."""

    canonical: str
    theirs: str
    transposed: bool = False


Table = tuple[Row, ...]

# Names of a dense layer's and a LayerNorm's two weights: PyTorch, then TensorFlow and Keras.
_TORCH = ("weight", "bias", "weight", "bias", ".")
_KERAS = ("kernel", "bias", "gamma", "beta", "/")


def _dense(canonical: str, theirs: str, style: tuple[str, ...]) -> Table:
    kernel, bias, _, _, separator = style
    return (
        Row(f"{canonical}.kernel", f"{theirs}{separator}{kernel}", style is _TORCH),
        Row(f"{canonical}.bias", f"{theirs}{separator}{bias}"),
    )


def _layer_norm(canonical: str, theirs: str, style: tuple[str, ...]) -> Table:
    _, _, gamma, beta, separator = style
    return (
        Row(f"{canonical}.gamma", f"{theirs}{separator}{gamma}"),
        Row(f"{canonical}.beta", f"{theirs}{separator}{beta}"),
    )


def _layer(parts: dict[str, str], style: tuple[str, ...]) -> Table:
    """Rows of one Transformer layer; `parts` maps our part names to full format names."""
    rows: list[Row] = []
    for part, theirs in parts.items():
        build = _layer_norm if part.endswith("layer_norm") else _dense
        rows += build(f"layers.{{i}}.{part}", theirs, style)
    return tuple(rows)


_HUGGINGFACE_EMBEDDINGS: Table = (
    Row("embeddings.token", "embeddings.word_embeddings.weight"),
    Row("embeddings.position", "embeddings.position_embeddings.weight"),
    Row("embeddings.segment", "embeddings.token_type_embeddings.weight"),
    *_layer_norm("embeddings.layer_norm", "embeddings.LayerNorm", _TORCH),
)

_HUGGINGFACE_BODY: Table = (
    *_HUGGINGFACE_EMBEDDINGS,
    *_layer(
        {
            "attention.query": "encoder.layer.{i}.attention.self.query",
            "attention.key": "encoder.layer.{i}.attention.self.key",
            "attention.value": "encoder.layer.{i}.attention.self.value",
            "attention.output": "encoder.layer.{i}.attention.output.dense",
            "attention_layer_norm": "encoder.layer.{i}.attention.output.LayerNorm",
            "intermediate": "encoder.layer.{i}.intermediate.dense",
            "output": "encoder.layer.{i}.output.dense",
            "output_layer_norm": "encoder.layer.{i}.output.LayerNorm",
        },
        _TORCH,
    ),
    *_dense("pooler", "pooler.dense", _TORCH),
)

HUGGINGFACE_BERT: Table = (
    *_HUGGINGFACE_BODY,
    *_dense("mlm.dense", "cls.predictions.transform.dense", _TORCH),
    *_layer_norm("mlm.layer_norm", "cls.predictions.transform.LayerNorm", _TORCH),
    Row("mlm.output_bias", "cls.predictions.bias"),
)

HUGGINGFACE_ROBERTA: Table = (
    *_HUGGINGFACE_BODY,
    *_dense("mlm.dense", "lm_head.dense", _TORCH),
    *_layer_norm("mlm.layer_norm", "lm_head.layer_norm", _TORCH),
    Row("mlm.output_bias", "lm_head.bias"),
)

HUGGINGFACE_DISTILBERT: Table = (
    *_HUGGINGFACE_EMBEDDINGS,
    *_layer(
        {
            "attention.query": "transformer.layer.{i}.attention.q_lin",
            "attention.key": "transformer.layer.{i}.attention.k_lin",
            "attention.value": "transformer.layer.{i}.attention.v_lin",
            "attention.output": "transformer.layer.{i}.attention.out_lin",
            "attention_layer_norm": "transformer.layer.{i}.sa_layer_norm",
            "intermediate": "transformer.layer.{i}.ffn.lin1",
            "output": "transformer.layer.{i}.ffn.lin2",
            "output_layer_norm": "transformer.layer.{i}.output_layer_norm",
        },
        _TORCH,
    ),
    *_dense("mlm.dense", "vocab_transform", _TORCH),
    *_layer_norm("mlm.layer_norm", "vocab_layer_norm", _TORCH),
    Row("mlm.output_bias", "vocab_projector.bias"),
)

GOOGLE_TF1: Table = (
    Row("embeddings.token", "bert/embeddings/word_embeddings"),
    Row("embeddings.position", "bert/embeddings/position_embeddings"),
    Row("embeddings.segment", "bert/embeddings/token_type_embeddings"),
    *_layer_norm("embeddings.layer_norm", "bert/embeddings/LayerNorm", _KERAS),
    *_layer(
        {
            "attention.query": "bert/encoder/layer_{i}/attention/self/query",
            "attention.key": "bert/encoder/layer_{i}/attention/self/key",
            "attention.value": "bert/encoder/layer_{i}/attention/self/value",
            "attention.output": "bert/encoder/layer_{i}/attention/output/dense",
            "attention_layer_norm": "bert/encoder/layer_{i}/attention/output/LayerNorm",
            "intermediate": "bert/encoder/layer_{i}/intermediate/dense",
            "output": "bert/encoder/layer_{i}/output/dense",
            "output_layer_norm": "bert/encoder/layer_{i}/output/LayerNorm",
        },
        _KERAS,
    ),
    *_dense("pooler", "bert/pooler/dense", _KERAS),
    *_dense("mlm.dense", "cls/predictions/transform/dense", _KERAS),
    *_layer_norm("mlm.layer_norm", "cls/predictions/transform/LayerNorm", _KERAS),
    Row("mlm.output_bias", "cls/predictions/output_bias"),
)

KERAS_HUB: Table = (
    Row("embeddings.token", "token_embedding/embeddings"),
    Row("embeddings.position", "position_embedding/embeddings"),
    Row("embeddings.segment", "segment_embedding/embeddings"),
    *_layer_norm("embeddings.layer_norm", "embeddings_layer_norm", _KERAS),
    *_layer(
        {
            "attention.query": "transformer_layer_{i}/self_attention_layer/query",
            "attention.key": "transformer_layer_{i}/self_attention_layer/key",
            "attention.value": "transformer_layer_{i}/self_attention_layer/value",
            "attention.output": "transformer_layer_{i}/self_attention_layer/attention_output",
            "attention_layer_norm": "transformer_layer_{i}/self_attention_layer_norm",
            "intermediate": "transformer_layer_{i}/feedforward_intermediate_dense",
            "output": "transformer_layer_{i}/feedforward_output_dense",
            "output_layer_norm": "transformer_layer_{i}/feedforward_layer_norm",
        },
        _KERAS,
    ),
    *_dense("pooler", "pooled_dense", _KERAS),
    *_dense("mlm.dense", "mlm_head/intermediate_dense", _KERAS),
    *_layer_norm("mlm.layer_norm", "mlm_head/intermediate_layer_norm", _KERAS),
    Row("mlm.output_bias", "mlm_head/output_bias"),
)

# TF2 object-based names of tf-models: `layer_with_weights-N` in the functional encoder,
# underscored attribute names in `BertEncoderV2`. Patterns match the whole name, without the
# root and the `/.ATTRIBUTES/VARIABLE_VALUE` suffix, in this order.
_TF2_LAYER = r"(?:layer_with_weights-(?P<shifted>\d+)|_transformer_layers/(?P<layer>\d+))"
_TF2_DENSE = r"/(?P<weight>kernel|bias)"
_TF2_NORM = r"/(?P<weight>gamma|beta)"
_TF2_ATTENTION = f"{_TF2_LAYER}/_attention_layer"
GOOGLE_TF2: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), canonical)
    for pattern, canonical in (
        (r"layer_with_weights-0/embeddings|_embedding_layer/embeddings", "embeddings.token"),
        (r"masked_lm/embedding_table", "embeddings.token"),
        (r"(?:layer_with_weights-1|_position_embedding_layer)/embeddings", "embeddings.position"),
        (r"(?:layer_with_weights-2|_type_embedding_layer)/embeddings", "embeddings.segment"),
        (rf"(?:layer_with_weights-3|_embedding_norm_layer){_TF2_NORM}", "embeddings.layer_norm"),
        (rf"{_TF2_ATTENTION}/_query_dense{_TF2_DENSE}", "layers.{i}.attention.query"),
        (rf"{_TF2_ATTENTION}/_key_dense{_TF2_DENSE}", "layers.{i}.attention.key"),
        (rf"{_TF2_ATTENTION}/_value_dense{_TF2_DENSE}", "layers.{i}.attention.value"),
        (rf"{_TF2_ATTENTION}/_output_dense{_TF2_DENSE}", "layers.{i}.attention.output"),
        (rf"{_TF2_LAYER}/_attention_output_dense{_TF2_DENSE}", "layers.{i}.attention.output"),
        (rf"{_TF2_LAYER}/_attention_layer_norm{_TF2_NORM}", "layers.{i}.attention_layer_norm"),
        (rf"{_TF2_LAYER}/_intermediate_dense{_TF2_DENSE}", "layers.{i}.intermediate"),
        (rf"{_TF2_LAYER}/_output_dense{_TF2_DENSE}", "layers.{i}.output"),
        (rf"{_TF2_LAYER}/_output_layer_norm{_TF2_NORM}", "layers.{i}.output_layer_norm"),
        (rf"(?:_pooler_layer|next_sentence\.\.pooler_dense){_TF2_DENSE}", "pooler"),
        (rf"layer_with_weights-(?P<pooler>\d+){_TF2_DENSE}", "pooler"),
        (rf"masked_lm/dense{_TF2_DENSE}", "mlm.dense"),
        (rf"masked_lm/layer_norm{_TF2_NORM}", "mlm.layer_norm"),
        (r"masked_lm/bias", "mlm.output_bias"),
    )
)
_TF2_FIRST_LAYER = 4  # `layer_with_weights-0` to `-3` are the embeddings
_TF2_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def tf2_canonical(name: str, num_layers: int) -> str | None:
    """Translates a name of a TF2 object-based checkpoint.

    Args:
        name: The full name in the checkpoint.
        num_layers: Layers of the model; tells the pooler from an embedding projection.

    Returns:
        The canonical name, or None where the name is no weight of the encoder or head.
    """
    if not name.endswith(_TF2_SUFFIX):
        return None
    plain = re.sub(r"^(?:(?:model|encoder)/)*", "", name.removesuffix(_TF2_SUFFIX))
    for pattern, canonical in GOOGLE_TF2:
        match = pattern.fullmatch(plain)
        if match is None:
            continue
        groups = match.groupdict()
        if groups.get("pooler") and int(groups["pooler"]) != num_layers + _TF2_FIRST_LAYER:
            return None
        layer = groups.get("layer")
        if groups.get("shifted"):
            layer = str(int(groups["shifted"]) - _TF2_FIRST_LAYER)
        weight = groups.get("weight")
        return canonical.replace("{i}", str(layer)) + (f".{weight}" if weight else "")
    return None


def expand(table: Table, num_layers: int) -> Iterator[Row]:
    """Repeats the rows of a layer for every layer, in model order."""
    repeated = [row for row in table if "{i}" in row.canonical]
    if not repeated:
        yield from table
        return
    first, last = table.index(repeated[0]), table.index(repeated[-1])
    yield from table[:first]
    for i in range(num_layers):
        for row in repeated:
            yield Row(row.canonical.format(i=i), row.theirs.format(i=i), row.transposed)
    yield from table[last + 1 :]
