"""Hugging Face model directories, read and written without PyTorch."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from etd_tf.checkpoints.contents import Contents
from etd_tf.checkpoints.families import find_family, read_config, read_parameters
from etd_tf.checkpoints.lookup import Lookup
from etd_tf.checkpoints.names import HUGGINGFACE_BERT, expand
from etd_tf.checkpoints.safetensors_file import SafetensorsFile
from etd_tf.checkpoints.tf_h5_file import read_tf_h5
from etd_tf.checkpoints.torch_file import TorchFile
from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.storage.json_files import read_json_object
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


def read_huggingface(directory: Path) -> Contents:
    """Reads a directory of type BERT, RoBERTa, XLM-R or DistilBERT.

    Args:
        directory: Holds `config.json`, a weights file and usually a tokenizer.

    Returns:
        What the directory holds.

    Raises:
        InputError: A file is missing or corrupt, or the model is of another kind.
    """
    config_file = directory / "config.json"
    values = read_json_object(config_file)
    family = find_family(values, str(config_file))
    config = read_config(values, family)
    weights_file = _find_weights(directory)
    parameters = read_parameters(_open_weights(weights_file), family, config, str(weights_file))
    return Contents(config, parameters, Tokenizer.find(directory))


def _find_weights(directory: Path) -> Path:
    for name in _WEIGHT_FILES:
        if (directory / name).is_file():
            return directory / name
    raise InputError(
        f"{directory} has a config.json but no weights. Expected one of {', '.join(_WEIGHT_FILES)}."
    )


def _open_weights(path: Path) -> Mapping[str, Array]:
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


def write_huggingface(
    config: BertConfig, parameters: Parameters, tokenizer: Tokenizer | None, directory: Path
) -> None:
    """Writes a directory that stock Transformers loads with `from_pretrained`.

    Args:
        config: The architecture.
        parameters: Arrays by canonical name.
        tokenizer: The tokenizer, if any.
        directory: An existing directory.
    """
    has_head = "mlm.dense.kernel" in parameters
    tensors = {}
    for row in expand(HUGGINGFACE_BERT, config.num_layers):
        if row.canonical not in parameters:
            continue
        inside = has_head and not row.theirs.startswith("cls.")
        value = parameters[row.canonical]
        tensors[f"bert.{row.theirs}" if inside else row.theirs] = np.ascontiguousarray(
            value.T if row.transposed else value
        )
    weights = directory / "model.safetensors"
    safetensors.numpy.save_file(tensors, weights, {"format": "pt"})
    values = config.to_huggingface()
    values["architectures"] = ["BertForMaskedLM" if has_head else "BertModel"]
    values["dtype"] = "float32"
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
        tokenizer.save(directory)
        settings = _tokenizer_settings(tokenizer, config)
        (directory / "tokenizer_config.json").write_text(
            json.dumps(settings, indent=2) + "\n", encoding="utf-8"
        )


def _tokenizer_settings(tokenizer: Tokenizer, config: BertConfig) -> dict[str, Any]:
    """Completes `tokenizer_config.json`, so that AutoTokenizer needs no guess."""
    settings = dict(tokenizer.settings)
    wordpiece = tokenizer.wordpieces is not None
    if "tokenizer_class" not in settings:
        fast = "tokenizer.json" in tokenizer.files
        other = "PreTrainedTokenizerFast" if fast else "RobertaTokenizer"  # of merges
        settings["tokenizer_class"] = "BertTokenizer" if wordpiece else other
        for role, token in tokenizer.special_tokens.items():
            settings.setdefault(f"{role}_token", token)
    if wordpiece:  # Transformers goes by these, whatever tokenizer.json says
        settings.setdefault("do_lower_case", tokenizer.lowercase)
        settings.setdefault("strip_accents", tokenizer.strip_accents)
    if config.type_vocab_size == 1:  # no table for the second segment of a pair
        settings.setdefault("model_input_names", ["input_ids", "attention_mask"])
    longest = settings.get("model_max_length")
    fits = isinstance(longest, int) and 0 < longest <= config.max_positions
    settings["model_max_length"] = longest if fits else config.max_positions
    return settings
