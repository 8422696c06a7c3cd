"""Model types of Hugging Face that are read as our encoder: how each differs from BERT."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from etd_tf.checkpoints.gathering import Lookup, check_names, check_same, gather, report_leftover
from etd_tf.checkpoints.names import (
    HUGGINGFACE_BERT,
    HUGGINGFACE_DISTILBERT,
    HUGGINGFACE_ROBERTA,
    Table,
    expand,
)
from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.types import Array, Parameters

WORDS = "embeddings.word_embeddings.weight"
"""The word embeddings, which every family calls so."""
HIDDEN = "classifier.hidden"
"""A head's own layer below its last one, where BERT has the pooler."""
_UNSUPPORTED = {
    "is_decoder": "only plain bidirectional encoders are supported",
    "add_cross_attention": "only plain bidirectional encoders are supported",
    "quantization_config": "quantised weights are not; pass the model that it was made of",
    "pruned_heads": "models with pruned heads are not supported",
}


@dataclasses.dataclass(frozen=True)
class Family:
    """How a Hugging Face model type differs from BERT.

    Attributes:
        prefix: Prefix of the encoder's names in files that hold a head as well.
        table: Names of the weights.
        tied: Names that repeat another weight, and that weight.
        config_names: Names in `config.json` that differ from BERT's, and BERT's.
        config_defaults: Values that the model type fixes, or that `config.json` may leave out.
        positions_after_padding: Whether real tokens start at position `pad_token_id + 1`.
        segments: Whether there is a segment table.
        head_names: Names of a sequence classification head that differ from BERT's, and BERT's;
            below `HIDDEN` is a layer that BERT has not.
        head_act: The activation of that layer.
    """

    prefix: str
    table: Table
    tied: Mapping[str, str]
    config_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    config_defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    positions_after_padding: bool = False
    segments: bool = True
    head_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    head_act: str = ""


_ROBERTA = Family(
    prefix="roberta.",
    table=HUGGINGFACE_ROBERTA,
    tied={"lm_head.decoder.weight": WORDS, "lm_head.decoder.bias": "lm_head.bias"},
    config_defaults={"pad_token_id": 1},
    positions_after_padding=True,
    # Its dense layer with tanh on the first token computes what BERT's pooler does.
    head_names={
        "classifier.dense.weight": "pooler.dense.weight",
        "classifier.dense.bias": "pooler.dense.bias",
        "classifier.out_proj.weight": "classifier.weight",
        "classifier.out_proj.bias": "classifier.bias",
    },
)
FAMILIES: dict[str, Family] = {
    "bert": Family(
        prefix="bert.",
        table=HUGGINGFACE_BERT,
        tied={
            "cls.predictions.decoder.weight": WORDS,
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Family(
        prefix="distilbert.",
        table=HUGGINGFACE_DISTILBERT,
        tied={"vocab_projector.weight": WORDS},
        config_names={
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "dim": "hidden_size",
            "hidden_dim": "intermediate_size",
            "activation": "hidden_act",
            "dropout": "hidden_dropout_prob",
            "attention_dropout": "attention_probs_dropout_prob",
        },
        config_defaults={"type_vocab_size": 1, "layer_norm_eps": 1e-12},
        segments=False,
        head_names={
            "pre_classifier.weight": f"{HIDDEN}.weight",
            "pre_classifier.bias": f"{HIDDEN}.bias",
        },
        head_act="relu",
    ),
}


def find_family(values: Mapping[str, Any], source: str) -> Family:
    """Picks the family of a `config.json` and refuses variants we cannot compute.

    Returns:
        The family; files without `model_type`, from before 2020, are BERT's.

    Raises:
        InputError: Another model type, or a decoder, relative positions or quantised weights.
    """
    model_type = values.get("model_type", "bert")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise InputError(
            f"{source}: model_type {model_type!r} is not supported. "
            f"Supported model types: {', '.join(FAMILIES)}."
        )
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(
            f"{source}: position_embedding_type {values['position_embedding_type']!r} is not "
            "supported; only models with absolute positions are."
        )
    for key, reason in _UNSUPPORTED.items():
        if values.get(key):
            raise InputError(f"{source}: {key} is set, but {reason}. Use a checkpoint without it.")
    custom = values.get("auto_map")
    if isinstance(custom, dict) and any(str(name).startswith("AutoModel") for name in custom):
        raise InputError(
            f"{source}: auto_map is set: the model is computed by custom code of its repository, "
            "which is never run here. Use a checkpoint of the plain architecture."
        )
    return FAMILIES[model_type]


def read_config(values: Mapping[str, Any], family: Family) -> BertConfig:
    """Translates a `config.json` of any family.

    Returns:
        The configuration; positions that only padding tokens use are not counted.

    Raises:
        InputError: A value is missing or malformed.
    """
    values = {**family.config_defaults, **{k: v for k, v in values.items() if v is not None}}
    for theirs, ours in family.config_names.items():
        if theirs in values:
            values[ours] = values[theirs]
    config = BertConfig.from_huggingface(values)
    if not family.segments:
        config = config.replace(type_vocab_size=1)
    if family.positions_after_padding:
        config = config.replace(max_positions=config.max_positions - config.pad_token_id - 1)
    return config


def read_parameters(
    tensors: Mapping[str, Array], family: Family, config: BertConfig, source: str
) -> Parameters:
    """Translates the weights of any family, by PyTorch name, for what `read_config` returned.

    Returns:
        Float32 arrays by canonical name. A masked-LM head whose output matrix is not the
        word embeddings is left out, with a warning.

    Raises:
        InputError: A weight is missing, or there are two for one place.
    """
    check_names(tensors, source)
    places: dict[str, tuple[Mapping[str, Array], str]] = {}
    for name in tensors:
        _, other = places.setdefault(_plain_name(name, family.prefix), (tensors, name))
        check_same(tensors, (other, name), source)
    for repeated, original in family.tied.items():
        if repeated in places:
            places.setdefault(original, places[repeated])
    lookup = Lookup(places)
    rows = list(expand(family.table, config.num_layers))
    unused = set(places) - {row.theirs for row in rows} - set(family.tied)
    if not family.segments:
        rows = [row for row in rows if row.canonical != "embeddings.segment"]
    if not _head_is_tied(lookup, family):
        logging.warning(
            "%s: the masked-LM head is left out, because its output matrix is not the word "
            "embedding matrix, or there are two different biases of it.",
            source,
        )
        rows = [row for row in rows if not row.canonical.startswith("mlm.")]
    parameters = gather(rows, lookup, source)
    report_leftover((n for n in unused if not n.endswith("position_ids")), source)
    if not family.segments:
        parameters["embeddings.segment"] = np.zeros((1, config.hidden_size), np.float32)
    if family.positions_after_padding:
        parameters["embeddings.position"] = parameters["embeddings.position"][
            config.pad_token_id + 1 :
        ]
    return parameters


def _plain_name(name: str, prefix: str) -> str:
    name = name.removeprefix(prefix)
    if name.endswith(".LayerNorm.gamma"):
        return name.removesuffix("gamma") + "weight"
    return name.removesuffix("beta") + "bias" if name.endswith(".LayerNorm.beta") else name


def _head_is_tied(tensors: Mapping[str, Array], family: Family) -> bool:
    """Whether what repeats another weight, where the file has both, holds the same numbers."""
    for repeated, original in family.tied.items():
        both = repeated in tensors and original in tensors
        if both and not np.array_equal(tensors[repeated], tensors[original]):
            return False
    return True
