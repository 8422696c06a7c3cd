"""Hugging Face model directories, read and written without PyTorch.

Families that are read as our encoder: BERT, RoBERTa, XLM-R and DistilBERT.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from absl import logging

from etd_tf.checkpoints.checkpoint import CLASSIFIER, SPANS, Checkpoint, TaskHead
from etd_tf.checkpoints.gathering import Lookup, gather, report_leftover
from etd_tf.checkpoints.names import (
    HUGGINGFACE_BERT,
    HUGGINGFACE_DISTILBERT,
    HUGGINGFACE_ROBERTA,
    Table,
    expand,
)
from etd_tf.checkpoints.safetensors_file import SafetensorsFile
from etd_tf.checkpoints.tf_h5_file import read_tf_h5
from etd_tf.checkpoints.torch_file import TorchFile
from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.json_files import read_json_object
from etd_tf.tokenization.saving import save_for_transformers
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, Parameters

_READERS: dict[str, Callable[[Path], Mapping[str, Array]]] = {
    ".safetensors": SafetensorsFile,
    ".bin": TorchFile,
    ".h5": read_tf_h5,
}
_WEIGHT_FILES = (  # the first that exists is read
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
)
_ARCHITECTURES = {
    CLASSIFIER: "BertForSequenceClassification",
    SPANS: "BertForQuestionAnswering",
}
_WORDS = "embeddings.word_embeddings.weight"


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
    """

    prefix: str
    table: Table
    tied: Mapping[str, str]
    config_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    config_defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    positions_after_padding: bool = False
    segments: bool = True


_ROBERTA = Family(
    prefix="roberta.",
    table=HUGGINGFACE_ROBERTA,
    tied={"lm_head.decoder.weight": _WORDS, "lm_head.decoder.bias": "lm_head.bias"},
    config_defaults={"pad_token_id": 1},
    positions_after_padding=True,
)
FAMILIES: dict[str, Family] = {
    "bert": Family(
        prefix="bert.",
        table=HUGGINGFACE_BERT,
        tied={
            "cls.predictions.decoder.weight": _WORDS,
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": Family(
        prefix="distilbert.",
        table=HUGGINGFACE_DISTILBERT,
        tied={"vocab_projector.weight": _WORDS},
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
    ),
}


def find_family(values: Mapping[str, Any], source: str) -> Family:
    """Picks the family of a `config.json` and refuses variants we cannot compute.

    Args:
        values: The parsed `config.json`.
        source: The file, for messages.

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
    for key in ("is_decoder", "add_cross_attention", "quantization_config"):
        if values.get(key):
            raise InputError(
                f"{source}: {key} is set, but only plain bidirectional encoders are supported. "
                "Use a checkpoint without it."
            )
    return FAMILIES[model_type]


def read_config(values: Mapping[str, Any], family: Family) -> BertConfig:
    """Translates a `config.json` of any family.

    Args:
        values: The parsed JSON object.
        family: The model's family.

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
    """Translates the weights of any family.

    Args:
        tensors: Arrays by PyTorch name.
        family: The model's family.
        config: What `read_config` returned.
        source: The file, for messages.

    Returns:
        Float32 arrays by canonical name. A masked-LM head whose output matrix is not the
        word embeddings is left out, with a warning.

    Raises:
        InputError: A weight is missing.
    """
    places = {_plain_name(name, family.prefix): (tensors, name) for name in tensors}
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
            "embedding matrix.",
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
    """Whether an output matrix, where the file has one, repeats the word embeddings."""
    for repeated, original in family.tied.items():
        if original == _WORDS and repeated in tensors and original in tensors:
            return np.array_equal(tensors[repeated], tensors[original])
    return True


def read_huggingface(directory: Path) -> Checkpoint:
    """Reads a directory of type BERT, RoBERTa, XLM-R or DistilBERT.

    Args:
        directory: Holds `config.json`, a weights file and usually a tokenizer.

    Returns:
        The checkpoint.

    Raises:
        InputError: A file is missing or corrupt, or the model is of another kind.
    """
    config_file = directory / "config.json"
    values = read_json_object(config_file)
    family = find_family(values, str(config_file))
    config = read_config(values, family)
    weights_file = find_weights(directory)
    tensors = open_weights(weights_file)
    head = _read_task_head(tensors, values, config)
    if head is not None:
        own = f"{head.name}."
        tensors = Lookup({name: (tensors, name) for name in tensors if not name.startswith(own)})
    return Checkpoint(
        config,
        read_parameters(tensors, family, config, str(weights_file)),
        tokenizer=Tokenizer.find(directory),
        source=str(directory),
        task_head=head,
    )


def _read_task_head(
    tensors: Mapping[str, Array], values: Mapping[str, Any], config: BertConfig
) -> TaskHead | None:
    """The head of a fine-tuned BERT; None where there is none, or one of another kind."""
    heads = [name for name in _ARCHITECTURES if f"{name}.weight" in tensors]
    if len(heads) != 1 or f"{heads[0]}.bias" not in tensors:
        return None
    kernel, bias = (tensors[f"{heads[0]}.{part}"] for part in ("weight", "bias"))
    if kernel.ndim != 2 or bias.shape != kernel.shape[:1]:
        return None
    head = TaskHead(
        heads[0],
        kernel.T.astype(np.float32),
        bias.astype(np.float32),
        _label_names(values, len(bias)) if heads[0] == CLASSIFIER else (),
        str(values.get("finetuning_task") or ""),
    )
    pooler = any(name.endswith("pooler.dense.weight") for name in tensors)
    return head if head.fits(config.hidden_size, pooler=pooler) else None


def _label_names(values: Mapping[str, Any], outputs: int) -> tuple[str, ...]:
    """Class names from `id2label`; empty for regression, or where they are not known."""
    names = values.get("id2label")
    keys = [str(index) for index in range(outputs)]
    if outputs == 1 or not isinstance(names, dict) or sorted(names) != sorted(keys):
        return ()
    return tuple(str(names[key]) for key in keys)


def find_weights(directory: Path) -> Path:
    """Finds the file with the weights in a directory, or the index of such files."""
    for name in _WEIGHT_FILES:
        if (directory / name).is_file():
            return directory / name
    raise InputError(
        f"{directory} has a config.json but no weights. Expected one of {', '.join(_WEIGHT_FILES)}."
    )


def open_weights(path: Path) -> Mapping[str, Array]:
    """Opens what `find_weights` found: arrays by PyTorch name, read on access."""
    return _open_shards(path) if path.suffix == ".json" else _READERS[path.suffix](path)


def _open_shards(index: Path) -> Mapping[str, Array]:
    """Opens the files that an index names; they must lie beside it."""
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index} has no weight_map; it is not the index of a sharded model.")
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    shards: dict[str, Mapping[str, Array]] = {}
    for name in weight_map.values():
        plain = isinstance(name, str) and Path(name).name == name and name.isprintable()
        if not plain or "\\" in name:
            raise InputError(
                f"{index} points to {name!r}, outside its own folder. "
                "Expected plain file names; do not trust this checkpoint."
            )
        if not name.endswith(suffix):
            raise InputError(f"{index} points to {name!r}, expected a {suffix} file.")
        if name not in shards:
            shards[name] = _READERS[suffix](index.parent / name)
    for tensor, name in weight_map.items():
        if tensor not in shards[name]:
            raise InputError(
                f"{index} places {tensor} in {name}, but that file has no such tensor."
            )
    return Lookup({tensor: (shards[name], tensor) for tensor, name in weight_map.items()})


def write_huggingface(checkpoint: Checkpoint, directory: Path) -> None:
    """Writes a directory that stock Transformers loads with `from_pretrained`.

    Args:
        checkpoint: What to write.
        directory: An existing directory.
    """
    config, tokenizer, parameters = (
        checkpoint.config,
        checkpoint.tokenizer,
        checkpoint.parameters(),
    )
    head = checkpoint.task_head
    has_head = checkpoint.has_mlm_head or head is not None
    tensors: Parameters = {}
    if head is not None:
        tensors = {f"{head.name}.weight": head.kernel.T, f"{head.name}.bias": head.bias}
    for row in expand(HUGGINGFACE_BERT, config.num_layers):
        if row.canonical not in parameters:
            continue
        inside = has_head and not row.theirs.startswith("cls.")
        value = parameters[row.canonical]
        tensors[f"bert.{row.theirs}" if inside else row.theirs] = (
            value.T if row.transposed else value
        )
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    safetensors.numpy.save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    values = config.to_huggingface()
    values["architectures"] = ["BertForMaskedLM" if has_head else "BertModel"]
    values["dtype"] = "float32"
    if head is not None:
        values |= _head_settings(head)
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
        save_for_transformers(
            tokenizer,
            directory,
            max_length=config.max_positions,
            num_segments=config.type_vocab_size,
        )


def _head_settings(head: TaskHead) -> dict[str, Any]:
    """What `config.json` says about the head."""
    values = {"architectures": [_ARCHITECTURES[head.name]], "finetuning_task": head.task}
    if head.name != CLASSIFIER:
        return values
    names = head.label_names or [f"LABEL_{index}" for index in range(head.num_outputs)]
    return {
        **values,
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "regression" if head.num_outputs == 1 else "single_label_classification",
    }
