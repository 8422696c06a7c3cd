"""Fine-tuned models on disk: Hugging Face directories."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.checkpoints.huggingface import (
    find_family,
    read_config,
    read_parameters,
    write_huggingface,
)
from etd_tf.checkpoints.names import HUGGINGFACE_BERT, expand
from etd_tf.checkpoints.safetensors_file import SafetensorsFile
from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import SequenceClassifier, SpanClassifier, TaskModel
from etd_tf.storage.atomic import atomic_directory
from etd_tf.storage.json_files import read_json_object
from etd_tf.storage.sources import resolve_source
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, Parameters

_ARCHITECTURES = {
    "classifier": "BertForSequenceClassification",
    "qa_outputs": "BertForQuestionAnswering",
}
_HEAD = ("head.kernel", "head.bias")


@dataclasses.dataclass(frozen=True)
class FinetunedModel:
    """A task model with what is needed to use it.

    Attributes:
        model: The model.
        checkpoint: Its encoder and tokenizer.
        label_names: Class names in the order of the logits; empty for regression and
            for answer spans.
    """

    model: TaskModel
    checkpoint: Checkpoint
    label_names: tuple[str, ...]

    def check_head(self, wanted: str, task: str) -> None:
        """Checks that the head is of the kind that a task needs.

        Args:
            wanted: The head's name.
            task: The task's name.

        Raises:
            InputError: A classifier is used for answer spans, or the other way round.
        """
        if self.model.head_name != wanted:
            raise InputError(
                f"{self.checkpoint.source or 'The model'} has a head called "
                f"{self.model.head_name}; {task} needs {wanted}. Choose a model that was "
                "fine-tuned on it."
            )


def save_finetuned(
    model: TaskModel,
    directory: str | Path,
    *,
    tokenizer: Tokenizer | None,
    label_names: Sequence[str] = (),
    task: str = "",
    overwrite: bool = False,
) -> None:
    """Writes `BertForSequenceClassification` or `BertForQuestionAnswering`.

    Args:
        model: A `SequenceClassifier` or `SpanClassifier`.
        directory: The directory to create.
        tokenizer: Its tokenizer, if any.
        label_names: Class names in the order of the logits; empty for regression.
        task: Name of the task, kept in the configuration.
        overwrite: Replace an existing directory.

    Raises:
        InputError: The directory exists, or the number of names is not that of classes.
    """
    outputs = int(model.output_dense.kernel.shape[1])
    if label_names and len(label_names) != outputs:
        raise InputError(
            f"{len(label_names)} label names for {outputs} classes: {', '.join(label_names)}. "
            "Name every class once."
        )
    with atomic_directory(directory, overwrite=overwrite) as scratch:
        parameters = {k: v for k, v in model.get_parameters().items() if k not in _HEAD}
        write_huggingface(Checkpoint(model.config, parameters, tokenizer=tokenizer), scratch)
        config_file, weights = scratch / "config.json", scratch / "model.safetensors"
        values = {**read_json_object(config_file), **_head_settings(model, label_names, task)}
        config_file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        safetensors.numpy.save_file(_tensors(model), weights, {"format": "pt"})


def _head_settings(model: TaskModel, label_names: Sequence[str], task: str) -> dict[str, Any]:
    """What `config.json` says about the head."""
    outputs = int(model.output_dense.kernel.shape[1])
    values = {"architectures": [_ARCHITECTURES[model.head_name]], "finetuning_task": task}
    if model.head_name != "classifier":
        return values
    names = label_names or [f"LABEL_{index}" for index in range(outputs)]
    return {
        **values,
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "regression" if outputs == 1 else "single_label_classification",
    }


def _tensors(model: TaskModel) -> Parameters:
    """All weights under Hugging Face's names, dense kernels `[output, input]`."""
    parameters = model.get_parameters()
    tensors = {
        f"bert.{row.theirs}": parameters[row.canonical].T
        if row.transposed
        else parameters[row.canonical]
        for row in expand(HUGGINGFACE_BERT, model.config.num_layers)
        if row.canonical in parameters
    }
    tensors[f"{model.head_name}.weight"] = parameters["head.kernel"].T
    tensors[f"{model.head_name}.bias"] = parameters["head.bias"]
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def load_finetuned(directory: str | Path, *, dtype: Any = None) -> FinetunedModel:
    """Reads a fine-tuned Hugging Face BERT.

    Args:
        directory: Holds `config.json`, `model.safetensors` and a tokenizer; also
            `package:NAME/SUBDIR` and `hf://OWNER/NAME`.
        dtype: Keras dtype policy.

    Returns:
        The model.

    Raises:
        InputError: The directory is not a fine-tuned classifier or question answerer.
    """
    directory = resolve_source(directory)
    if not (directory / "model.safetensors").is_file():
        raise InputError(
            f"{directory} has no model.safetensors. A fine-tuned model is read from a Hugging Face "
            "directory with safetensors weights, such as the model/ of a fine-tuning run."
        )
    tensors = SafetensorsFile(directory / "model.safetensors")
    head = _find_head(tensors, directory)
    checkpoint = _load_encoder(tensors, head, directory, dtype)
    kernel, bias = tensors[f"{head}.weight"], tensors[f"{head}.bias"]
    model: TaskModel = (
        SequenceClassifier(checkpoint.config, len(bias), dtype=dtype)
        if head == "classifier"
        else SpanClassifier(checkpoint.config, dtype=dtype)
    )
    expected = (tuple(model.output_dense.kernel.shape)[::-1], tuple(model.output_dense.bias.shape))
    if (kernel.shape, bias.shape) != expected:
        raise InputError(
            f"{directory}: the head has shapes {kernel.shape} and {bias.shape}, expected "
            f"{expected[0]} and {expected[1]}. The file is not a BERT's of this configuration."
        )
    known = checkpoint.parameters()
    wanted = [name for name in model.get_parameters() if name not in _HEAD]
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(f"{directory} lacks {', '.join(missing)}. Save the whole model again.")
    weights = {name: known[name] for name in wanted}
    model.set_parameters({**weights, "head.kernel": kernel.T, "head.bias": bias})
    names = _label_names(directory, len(bias)) if head == "classifier" else ()
    return FinetunedModel(model, checkpoint, names)


def _find_head(tensors: Mapping[str, Array], directory: Path) -> str:
    heads = [name for name in _ARCHITECTURES if f"{name}.weight" in tensors]
    if len(heads) != 1 or f"{heads[0]}.bias" not in tensors:
        raise InputError(
            f"{directory} has no classifier.weight and no qa_outputs.weight: it is not fine-tuned. "
            "Leave out finetune=False to fine-tune it."
        )
    return heads[0]


def _load_encoder(
    tensors: Mapping[str, Array], head: str, directory: Path, dtype: Any
) -> Checkpoint:
    """Everything but the head, which a checkpoint has no place for."""
    config_file = directory / "config.json"
    values = read_json_object(config_file)
    family = find_family(values, str(config_file))
    config = read_config(values, family)
    body = {name: tensors[name] for name in tensors if not name.startswith(f"{head}.")}
    parameters = read_parameters(body, family, config, str(directory))
    tokenizer = Tokenizer.find(directory)
    return Checkpoint(config, parameters, tokenizer=tokenizer, source=str(directory), dtype=dtype)


def _label_names(directory: Path, outputs: int) -> tuple[str, ...]:
    """Class names from `id2label`; empty for regression."""
    if outputs == 1:
        return ()
    names = read_json_object(directory / "config.json").get("id2label")
    keys = [str(index) for index in range(outputs)]
    if not isinstance(names, dict) or sorted(names) != sorted(keys):
        raise InputError(
            f"{directory / 'config.json'} has no id2label with the {outputs} classes of the model. "
            'Add it, e.g. "id2label": {"0": "negative", "1": "positive"}.'
        )
    return tuple(str(names[key]) for key in keys)


def match_labels(model_names: Sequence[str], task_names: Sequence[str]) -> list[int]:
    """Finds the model's class for each of the task's, by name and never by position.

    Args:
        model_names: Class names in the order of the model's logits.
        task_names: Class names in the task's order.

    Returns:
        For each task class, its position among the logits.

    Raises:
        InputError: The names differ.
    """
    names = [name.casefold() for name in model_names]
    if sorted(names) != sorted(name.casefold() for name in task_names):
        raise InputError(
            f"The model's labels are {', '.join(model_names) or 'none'}; the task's are "
            f"{', '.join(task_names) or 'none'}. Put the task's names into id2label of the "
            "model's config.json, in the order of its logits."
        )
    return [names.index(name.casefold()) for name in task_names]
