"""The files of a sentence-transformers directory beside the model: pooling, prompts, length.

Read are the files of versions 2 to 6; written are the older names, which version 6 and
Hugging Face's text-embeddings-inference read, too.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.families import FAMILIES
from etd_tf.checkpoints.gathering import read_weight
from etd_tf.checkpoints.huggingface import find_weights, open_weights
from etd_tf.errors import InputError
from etd_tf.modeling.pooling import POOLING_MODES, DenseLayer, Pooling
from etd_tf.storage.json_files import read_json_list, read_json_object

_MODULES, _SETTINGS = "modules.json", "config_sentence_transformers.json"
_LENGTH_FILES = tuple(f"sentence_{family}_config.json" for family in FAMILIES)
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")
_MODE_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_TORCH = {
    "linear": "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "silu": "torch.nn.modules.activation.SiLU",
}
_ELSE = (
    "To use the encoder alone, load a copy of the directory without modules.json and pass "
    "pooling=Pooling(...) to Checkpoint.replace."
)


@dataclasses.dataclass(frozen=True)
class _Module:
    """A line of `modules.json`: one of `_ORDER`, and its folder."""

    kind: str
    folder: Path

    def settings(self) -> dict[str, Any]:
        path = self.folder / "config.json"
        return read_json_object(path) if path.is_file() else {}


def read_pooling(directory: Path) -> Pooling | None:
    """Reads how a model makes a vector of a text.

    Returns:
        The pooling; None where there is no `modules.json`.

    Raises:
        InputError: A file is damaged, or says what we cannot compute.
    """
    if not (directory / _MODULES).is_file():
        return None
    modules = _read_modules(directory)
    model, *rest = modules
    found = _read_pooling_config(rest[0]) if rest and rest[0].kind == "Pooling" else {}
    settings_file = directory / _SETTINGS
    settings = read_json_object(settings_file) if settings_file.is_file() else {}
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise InputError(f"{settings_file}: prompts is no object of texts by name.")
    return Pooling(
        dense=tuple(_read_dense(module) for module in rest if module.kind == "Dense"),
        normalize=any(module.kind == "Normalize" for module in rest),
        truncate_dim=_size(settings, "truncate_dim", settings_file),
        prompts={str(name): str(text or "") for name, text in prompts.items()},
        default_prompt_name=settings.get("default_prompt_name"),
        similarity_fn_name=settings.get("similarity_fn_name"),
        **_read_length(model.folder),
        **found,
    )


def _read_modules(directory: Path) -> list[_Module]:
    path = directory / _MODULES
    modules = []
    for line in read_json_list(path):
        if not isinstance(line, dict) or not isinstance(line.get("type"), str):
            raise InputError(f"{path} is malformed: expected objects with a type, not {line!r}.")
        package, _, kind = line["type"].rpartition(".")
        if package.partition(".")[0] != "sentence_transformers" or kind not in _ORDER:
            raise InputError(
                f"{path}: the module {line['type']} is not supported. Supported are "
                f"sentence-transformers' {', '.join(_ORDER)}. {_ELSE}"
            )
        name = str(line.get("path") or "")
        if Path(name).name != name or "\\" in name or name == "..":
            raise InputError(
                f"{path} points to {name!r}, outside its own folder. Do not trust this model."
            )
        modules.append(_Module(kind, directory / name))
    kinds = [module.kind for module in modules]
    once = all(kinds.count(kind) <= 1 for kind in _ORDER if kind != "Dense")
    if kinds != sorted(kinds, key=_ORDER.index) or not once or kinds[:1] != ["Transformer"]:
        raise InputError(
            f"{path} has the modules {', '.join(kinds) or 'of nothing'}. Supported is the order "
            f"{', '.join(_ORDER)}, with any number of Dense. {_ELSE}"
        )
    if kinds[1:] and kinds[1] != "Pooling":
        raise InputError(f"{path}: {kinds[1]} follows Transformer, expected Pooling. {_ELSE}")
    return modules


def _read_pooling_config(module: _Module) -> dict[str, Any]:
    """Modes and treatment of prompts, in the words of any version."""
    values, path = module.settings(), module.folder / "config.json"
    modes = values.get("pooling_mode")
    if modes is None:
        modes = [mode for mode, key in _MODE_KEYS.items() if values.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not {*map(str, modes)} <= {*POOLING_MODES}:
        raise InputError(
            f"{path}: pooling_mode {modes!r} is not supported. Supported: "
            f"{', '.join(POOLING_MODES)}. {_ELSE}"
        )
    return {"modes": tuple(modes), "include_prompt": bool(values.get("include_prompt", True))}


def _read_dense(module: _Module) -> DenseLayer:
    values, path = module.settings(), module.folder / "config.json"
    activation = values.get("activation_function", _TORCH["tanh"])  # theirs where none is said
    names = {theirs: ours for ours, theirs in _TORCH.items()}
    if activation not in names:
        raise InputError(
            f"{path}: activation_function {activation!r} is not supported. Supported: "
            f"{', '.join(names)}. {_ELSE}"
        )
    place = ("module_input_name", "module_output_name")
    other = [key for key in place if values.get(key) not in (None, "sentence_embedding")]
    if other or values.get("use_residual"):
        raise InputError(
            f"{path}: {', '.join(other) or 'use_residual'} is set. Supported are plain layers of "
            f"the sentence's vector. {_ELSE}"
        )
    file = find_weights(module.folder)
    weights = open_weights(file)
    if "linear.weight" not in weights:
        raise InputError(f"{module.folder} has no tensor linear.weight; copy the model again.")
    kernel = np.ascontiguousarray(read_weight(weights, "linear.weight", str(file)).T)
    if "linear.bias" in weights:
        bias = read_weight(weights, "linear.bias", str(file))
    else:
        bias = np.zeros(kernel.shape[-1:], np.float32)
    return DenseLayer(kernel, bias, names[activation])


def _read_length(folder: Path) -> dict[str, Any]:
    """Where a text is cut, and whether it is lowercased."""
    for name in _LENGTH_FILES:
        if (folder / name).is_file():
            values = read_json_object(folder / name)
            return {
                "max_seq_length": _size(values, "max_seq_length", folder / name),
                "lowercase": bool(values.get("do_lower_case", False)),
            }
    return {}


def _size(values: Mapping[str, Any], key: str, path: Path) -> int | None:
    value = values.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"{path}: {key} is {value!r}, expected a whole number >= 1 or null.")
    return value


def as_written(checkpoint: Checkpoint) -> Pooling | None:
    """The pooling as `write_pooling` writes it: with a length in any case."""
    if checkpoint.pooling is None:
        return None
    return dataclasses.replace(checkpoint.pooling, max_seq_length=checkpoint.max_seq_length)


def write_pooling(checkpoint: Checkpoint, directory: Path) -> None:
    """Writes what makes a Hugging Face directory one of sentence-transformers, for a pooling."""
    pooling = as_written(checkpoint)
    if pooling is None:
        return
    folders = ["", "1_Pooling"]
    folders += [f"{2 + place}_Dense" for place in range(len(pooling.dense))]
    folders += [f"{len(folders)}_Normalize"] * pooling.normalize
    for folder in folders[1:]:
        (directory / folder).mkdir()
    kinds = [folder.partition("_")[2] or "Transformer" for folder in folders]
    lines = [
        {"idx": i, "name": f"{i}", "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (folder, kind) in enumerate(zip(folders, kinds, strict=True))
    ]
    _write(directory / _MODULES, lines)
    width = checkpoint.config.hidden_size
    _write(directory / "1_Pooling" / "config.json", _pooling_config(pooling, width))
    for layer, folder in zip(pooling.dense, folders[2:], strict=False):
        _write_dense(layer, directory / folder)
    if pooling.normalize:
        _write(directory / folders[-1] / "config.json", {})
    _write(
        directory / _LENGTH_FILES[0],
        {"max_seq_length": pooling.max_seq_length, "do_lower_case": pooling.lowercase},
    )
    _write(
        directory / _SETTINGS,
        {
            "model_type": "SentenceTransformer",
            "prompts": dict(pooling.prompts),
            "default_prompt_name": pooling.default_prompt_name,
            "similarity_fn_name": pooling.similarity_fn_name,
            "truncate_dim": pooling.truncate_dim,
        },
    )


def _pooling_config(pooling: Pooling, width: int) -> dict[str, Any]:
    values: dict[str, Any] = {"word_embedding_dimension": width}
    values |= {key: mode in pooling.modes for mode, key in _MODE_KEYS.items()}
    values["include_prompt"] = pooling.include_prompt
    if [mode for mode in POOLING_MODES if mode in pooling.modes] != list(pooling.modes):
        values["pooling_mode"] = list(pooling.modes)  # an order that only version 6 can say
    return values


def _write_dense(layer: DenseLayer, folder: Path) -> None:
    kernel = np.ascontiguousarray(layer.kernel.T)
    tensors = {"linear.weight": kernel, "linear.bias": np.ascontiguousarray(layer.bias)}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    _write(
        folder / "config.json",
        {
            "in_features": layer.kernel.shape[0],
            "out_features": layer.kernel.shape[1],
            "bias": True,
            "activation_function": _TORCH[layer.activation],
        },
    )


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
