"""Hugging Face model directories, read and written without PyTorch."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from absl import logging

from etd_tf.checkpoints.checkpoint import CLASSIFIER, SPANS, TAGS, Checkpoint, TaskHead
from etd_tf.checkpoints.families import (
    FAMILIES,
    HIDDEN,
    WORDS,
    Family,
    find_family,
    read_config,
    read_parameters,
)
from etd_tf.checkpoints.gathering import Lookup, read_weight
from etd_tf.checkpoints.names import expand
from etd_tf.checkpoints.safetensors_file import SafetensorsFile
from etd_tf.checkpoints.tf_h5_file import read_tf_h5
from etd_tf.checkpoints.torch_file import TorchFile
from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.reading import Reading
from etd_tf.storage.json_files import read_json_object
from etd_tf.storage.sources import check_present
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
# Weights of other programs, which are named where there are none that we read.
_OTHER_WEIGHTS = (
    *("onnx/*.onnx", "openvino/*.xml", "*.keras"),
    *("*.msgpack", "*.onnx", "*.ot", "*.gguf", "*.mlmodel", "*.ckpt*", "adapter_*"),
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.h5"),
)
_MULTI_LABEL = "multi_label_classification"
_TAGGER, _OTHER_TASK = "ForTokenClassification", "ForMultipleChoice"
# Head -> the class that has it, and what the class calls its dense layer.
_CLASSES = {
    CLASSIFIER: ("BertForSequenceClassification", "classifier"),
    SPANS: ("BertForQuestionAnswering", "qa_outputs"),
    TAGS: (f"Bert{_TAGGER}", "classifier"),
}
# The layer of a head that no class of Transformers has, and what `config.json` says of it.
_OWN_HEAD = "etd_tf_head"


def read_huggingface(directory: Path) -> Checkpoint:
    """Reads a directory of type BERT, RoBERTa, XLM-R or DistilBERT.

    Args:
        directory: Holds `config.json`, a weights file and usually a tokenizer.

    Raises:
        InputError: A file is missing or corrupt, or the model is of another kind.
    """
    config_file = directory / "config.json"
    values = read_json_object(config_file)
    family = find_family(values, str(config_file))
    try:
        config = read_config(values, family)
    except InputError as error:
        raise InputError(f"{config_file}: {error}") from error
    weights_file = find_weights(directory)
    tensors = _unwrapped(open_weights(weights_file), family.prefix, str(weights_file))
    tensors = _with_plain_head(tensors, family)
    head = _read_task_head(tensors, values, config, str(weights_file))
    if head is not None and head.hidden is not None:
        head = dataclasses.replace(head, hidden_act=family.head_act)
    if head is None:
        _report_head(values, str(config_file))
    else:
        own = f"{_layer_name(head.name, head.reading)}."
        tensors = Lookup({name: (tensors, name) for name in tensors if not name.startswith(own)})
    return Checkpoint(
        config,
        read_parameters(tensors, family, config, str(weights_file)),
        tokenizer=Tokenizer.find(directory),
        source=str(directory),
        task_head=head,
    )


def _unwrapped(tensors: Mapping[str, Array], prefix: str, source: str) -> Mapping[str, Array]:
    """Takes off what wrappers put in front of all names: `module.`, `_orig_mod.`, `model.`."""
    outer = {
        name.removesuffix(WORDS).removesuffix(prefix) for name in tensors if name.endswith(WORDS)
    }
    if not outer or "" in outer:
        return tensors
    if len(outer) > 1:
        raise InputError(
            f"{source} holds several encoders: {', '.join(sorted(outer))}. Save the one to use "
            "in a directory of its own: model.save_pretrained(directory)."
        )
    (wrapper,) = outer
    logging.warning("%s: all names begin with %r, which is taken off.", source, wrapper)
    return Lookup({name.removeprefix(wrapper): (tensors, name) for name in tensors})


def _with_plain_head(tensors: Mapping[str, Array], family: Family) -> Mapping[str, Array]:
    """Gives the parts of a head the names that they have in BERT, where it has all of them."""
    if not all(name in tensors for name in family.head_names):
        return tensors
    ours = {plain: (tensors, name) for name, plain in family.head_names.items()}
    # A pooler of the encoder's own is in old files, but the head never read it.
    unread = {*family.head_names, *ours, *(family.prefix + plain for plain in ours)}
    return Lookup({name: (tensors, name) for name in tensors if name not in unread} | ours)


def _report_head(values: Mapping[str, Any], source: str) -> None:
    """Warns of a task's head that is lost."""
    for name in _architectures(values):
        _, separator, task = name.partition("For")
        if separator and task not in ("MaskedLM", "PreTraining"):
            logging.warning(
                "%s: the head of %s is not read, only the encoder is. Read are heads with one "
                "label a text (without problem_type=%s), heads with one label a token and heads "
                "for question answering.",
                source,
                name,
                _MULTI_LABEL,
            )


def _architectures(values: Mapping[str, Any]) -> list[str]:
    names = values.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def _read_task_head(
    tensors: Mapping[str, Array], values: Mapping[str, Any], config: BertConfig, source: str
) -> TaskHead | None:
    """The head of a fine-tuned BERT; None where there is none, or one of another kind."""
    classes, reading = _architectures(values), _reading(values, source)
    of_tokens = any(name.endswith(_TAGGER) for name in classes)
    # Layers of one name read other states in other classes.
    known = [TAGS if of_tokens else CLASSIFIER, SPANS]
    heads = [(name, _layer_name(name, reading)) for name in known]
    heads = [(name, layer) for name, layer in heads if f"{layer}.weight" in tensors]
    if values.get("problem_type") == _MULTI_LABEL or len(heads) != 1:
        return None
    ((kind, layer),) = heads
    if any(name.endswith(_OTHER_TASK) for name in classes) or f"{layer}.bias" not in tensors:
        return None
    kernel, bias = (read_weight(tensors, f"{layer}.{part}", source) for part in ("weight", "bias"))
    if kernel.ndim != 2 or bias.shape != kernel.shape[:1]:
        return None
    hidden = None
    if kind == CLASSIFIER and f"{HIDDEN}.weight" in tensors:
        weight, offset = (read_weight(tensors, f"{HIDDEN}.{p}", source) for p in ("weight", "bias"))
        hidden = weight.T, offset
    head = TaskHead(
        kind,
        kernel.T,
        bias,
        () if kind == SPANS else _label_names(values, len(bias)),
        str(values.get("finetuning_task") or ""),
        reading,
        hidden,
    )
    pooler = any(name.endswith("pooler.dense.weight") for name in tensors)
    return head if head.fits(config.hidden_size, pooler=pooler) else None


def _layer_name(head: str, reading: Reading) -> str:
    """What the dense layer is called: programs that would read something else do not find it."""
    return _OWN_HEAD if head == CLASSIFIER and not reading.is_usual else _CLASSES[head][1]


def _reading(values: Mapping[str, Any], source: str) -> Reading:
    """What the head reads; `BertForSequenceClassification` says nothing of it."""
    said = values.get(_OWN_HEAD, {})
    try:
        return Reading(**said)
    except TypeError as error:
        raise InputError(
            f"The config.json of {source} says {_OWN_HEAD}={said!r}; expected pool and pairs. "
            "Fetch the model again."
        ) from error


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
        check_present(directory / name)
        if (directory / name).is_file():
            return directory / name
    others = sorted(
        str(path.relative_to(directory)) for kind in _OTHER_WEIGHTS for path in directory.glob(kind)
    )
    found = ", ".join(others) or "nothing else"
    raise InputError(
        f"{directory} has a config.json but no weights. Expected one of "
        f"{', '.join(_WEIGHT_FILES)}, found {found}. Load the model with the library that wrote "
        "it and save it with save_pretrained(directory)."
    )


def has_weights(directory: Path) -> bool:
    """Whether a directory holds a weights file of Hugging Face, or a link to one."""
    return any(os.path.lexists(directory / name) for name in _WEIGHT_FILES)


def open_weights(path: Path) -> Mapping[str, Array]:
    """Opens what `find_weights` found: arrays by PyTorch name, read on access."""
    return _open_shards(path) if path.suffix == ".json" else _open_file(path)


def _open_file(path: Path) -> Mapping[str, Array]:
    """Opens a file by what it begins with: people rename weights."""
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    kinds = ((b"PK\x03\x04", ".bin"), (b"\x80\x02", ".bin"), (b"\x89HDF", ".h5"))
    named = ".safetensors" if head[8:] == b"{" else path.suffix
    return _READERS[next((kind for mark, kind in kinds if head.startswith(mark)), named)](path)


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
            check_present(index.parent / name)
            shards[name] = _open_file(index.parent / name)
    for tensor, name in weight_map.items():
        if tensor not in shards[name]:
            raise InputError(
                f"{index} places {tensor} in {name}, but that file has no such tensor."
            )
    for name, shard in shards.items():
        for tensor in shard:
            placed = shards.get(weight_map.get(tensor, name), shard)
            if placed is not shard and not np.array_equal(placed[tensor], shard[tensor]):
                raise InputError(
                    f"{index} places {tensor} in {weight_map[tensor]}, but {name} holds another "
                    "tensor of this name. The files belong to two models; download one again."
                )
    return Lookup({tensor: (shards[name], tensor) for tensor, name in weight_map.items()})


def write_huggingface(checkpoint: Checkpoint, directory: Path) -> None:
    """Writes a directory that stock Transformers loads with `from_pretrained`."""
    head, parameters = checkpoint.task_head, checkpoint.parameters()
    family = FAMILIES[_model_type(checkpoint)]
    tensors: Parameters = {}
    if head is not None:
        layer = _layer_name(head.name, head.reading)
        tensors = {f"{layer}.weight": head.kernel.T, f"{layer}.bias": head.bias}
        if head.hidden is not None:
            ours = {f"{HIDDEN}.weight": head.hidden[0].T, f"{HIDDEN}.bias": head.hidden[1]}
            tensors |= {theirs: ours[plain] for theirs, plain in family.head_names.items()}
    for row in expand(family.table, checkpoint.config.num_layers):
        left_out = not family.segments and row.canonical == "embeddings.segment"
        if row.canonical not in parameters or left_out:
            continue
        inside = _has_head(checkpoint) and not row.canonical.startswith("mlm.")
        value = parameters[row.canonical]
        tensors[f"{family.prefix}{row.theirs}" if inside else row.theirs] = (
            value.T if row.transposed else value
        )
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    safetensors.numpy.save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    write_description(checkpoint, directory)


def write_description(checkpoint: Checkpoint, directory: Path) -> None:
    """Writes the directory without its weights: `config.json` and the tokenizer."""
    config, head = checkpoint.config, checkpoint.task_head
    values, model_type = config.to_huggingface(), _model_type(checkpoint)
    family = FAMILIES[model_type]
    for theirs, plain in family.config_names.items():
        values[theirs] = values.pop(plain)
    for plain in family.config_defaults:
        values.pop(plain, None)
    values["model_type"] = model_type
    values["architectures"] = ["BertForMaskedLM" if _has_head(checkpoint) else "BertModel"]
    values["dtype"] = "float32"
    if head is not None:
        values |= _head_settings(head)
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    write_tokenizer(checkpoint, directory)


def write_tokenizer(checkpoint: Checkpoint, directory: Path) -> None:
    """Writes the files of the tokenizer, if there is one, as Transformers reads them."""
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    if tokenizer is not None:
        limits = {"max_length": config.max_positions, "num_segments": config.type_vocab_size}
        save_for_transformers(tokenizer, directory, **limits)


def _model_type(checkpoint: Checkpoint) -> str:
    """BERT's, but for heads that only DistilBERT has."""
    head = checkpoint.task_head
    return "bert" if head is None or head.hidden is None else "distilbert"


def without_segments(checkpoint: Checkpoint) -> Checkpoint:
    """Makes of a checkpoint one that the format can hold, and that gives the same outputs.

    DistilBERT has no segments: the one that its models have here is added to the positions.

    Raises:
        InputError: There are several segments below a head that only DistilBERT has.
    """
    if FAMILIES[_model_type(checkpoint)].segments:
        return checkpoint
    if checkpoint.config.type_vocab_size > 1:
        raise InputError(
            "A head with a hidden layer is written as DistilBERT's, which knows no segments; the "
            f"model has {checkpoint.config.type_vocab_size}. Fine-tune it with a head as BERT's."
        )
    parameters = checkpoint.parameters()
    position, segment = parameters["embeddings.position"], parameters["embeddings.segment"]
    parameters |= {
        "embeddings.position": position + segment,
        "embeddings.segment": np.zeros_like(segment),
    }
    return checkpoint.replace(parameters=parameters) if segment.any() else checkpoint


def _has_head(checkpoint: Checkpoint) -> bool:
    head = checkpoint.task_head
    return checkpoint.has_mlm_head or (head is not None and head.reading.is_usual)


def _head_settings(head: TaskHead) -> dict[str, Any]:
    """What `config.json` says about the head."""
    values: dict[str, Any] = {"finetuning_task": head.task}
    if head.reading.is_usual:
        values["architectures"] = ["Distil" * (head.hidden is not None) + _CLASSES[head.name][0]]
    else:
        values[_OWN_HEAD] = dataclasses.asdict(head.reading)
    if head.name == SPANS:
        return values
    names = head.label_names or [f"LABEL_{index}" for index in range(head.num_outputs)]
    values |= {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }
    if head.name == TAGS:
        return values
    kind = "regression" if head.num_outputs == 1 else "single_label_classification"
    return {**values, "problem_type": kind}
