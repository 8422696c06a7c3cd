"""Fine-tuned models as SavedModels that take text."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from keras import ops

from etd_tf.evaluation.classifiers import SequenceClassifier, SpanClassifier, TaskModel
from etd_tf.export.serving import Predict, ServingSpec, write_serving_model
from etd_tf.modeling.parameters import parameter_variables
from etd_tf.storage.atomic import write_atomically
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Tensor

Model = TypeVar("Model", bound=TaskModel)


def export_classifier(
    model: SequenceClassifier,
    directory: str | Path,
    *,
    tokenizer: Tokenizer | None,
    label_names: Sequence[str],
    text_inputs: tuple[str, ...] = ("text",),
    max_length: int = 128,
    overwrite: bool = False,
) -> Path:
    """Writes a SavedModel from text to label probabilities.

    Signatures: `serving_default` takes strings `[B]` and `serve_ids` token ids; both
    return float32 `logits` `[B, C]` and `probabilities` `[B, C]` (regression: `score`
    `[B]`). The label names are in `assets.extra/labels.txt`, one a line.

    Args:
        model: The fine-tuned model.
        directory: The served model's directory.
        tokenizer: Its tokenizer.
        label_names: Class names in the order of the logits; empty for regression.
        text_inputs: Names of the one or two text inputs.
        max_length: Tokens that texts are cut to.
        overwrite: Replace an existing directory.

    Returns:
        The SavedModel's directory, `DIRECTORY/1`.

    Raises:
        InputError: The directory exists or `max_length` does not fit the model.
    """
    model = _float32_copy(model)
    spec = _serving_spec(model, tokenizer, text_inputs, max_length)
    predict = classifier_function(model)
    version = write_serving_model(directory, predict, spec, overwrite=overwrite).path
    extra = version / "assets.extra"
    extra.mkdir(exist_ok=True)
    write_atomically(extra / "labels.txt", "".join(f"{name}\n" for name in label_names))
    return version


def classifier_function(model: SequenceClassifier) -> Predict:
    """What a served classifier computes: logits and probabilities, or a score."""

    def predict(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = model(inputs)["logits"]
        if model.num_labels == 1:
            return {"score": logits[:, 0]}
        return {"logits": logits, "probabilities": ops.softmax(logits, axis=-1)}

    return predict


def export_question_answerer(
    model: SpanClassifier,
    directory: str | Path,
    *,
    tokenizer: Tokenizer | None,
    max_length: int = 384,
    overwrite: bool = False,
) -> Path:
    """Writes a SavedModel from question and context to start and end logits.

    Args:
        model: The fine-tuned model.
        directory: The served model's directory.
        tokenizer: Its tokenizer.
        max_length: Tokens that question and context are cut to together.
        overwrite: Replace an existing directory.

    Returns:
        The SavedModel's directory, `DIRECTORY/1`. Outputs: `start_logits` and
        `end_logits` `[B, T]`, `token_ids` and `padding_mask` `[B, T]`.

    Raises:
        InputError: The directory exists or `max_length` does not fit the model.
    """
    model = _float32_copy(model)
    spec = _serving_spec(model, tokenizer, ("question", "context"), max_length)
    spec = dataclasses.replace(spec, return_tokens=True)

    def predict(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = model(inputs)
        return outputs

    return write_serving_model(directory, predict, spec, overwrite=overwrite).path


def _float32_copy(model: Model) -> Model:
    """What is exported does not depend on the precision that the model was trained in."""
    copy: Model = type(model).from_config({**model.get_config(), "dtype": "float32"})
    copy.set_parameters(model.get_parameters())
    return copy


def _serving_spec(
    model: TaskModel, tokenizer: Tokenizer | None, text_inputs: tuple[str, ...], max_length: int
) -> ServingSpec:
    head = [model.output_dense.kernel, model.output_dense.bias]
    return ServingSpec(
        variables=[*parameter_variables(model.encoder).values(), *head],
        max_length=max_length,
        max_positions=model.config.max_positions,
        num_segments=model.config.type_vocab_size,
        tokenizer=tokenizer,
        text_inputs=text_inputs,
    )
