"""Fine-tuned models as SavedModels that take text."""

from collections.abc import Sequence
from pathlib import Path

from etd_tf.evaluation.classifiers import SequenceClassifier, TaskModel
from etd_tf.export.serving import ServingSpec, write_labels, write_serving_model
from etd_tf.modeling.parameters import parameter_variables
from etd_tf.tokenization.tokenizer import Tokenizer


def export_finetuned(
    model: TaskModel,
    directory: str | Path,
    *,
    tokenizer: Tokenizer | None,
    label_names: Sequence[str] = (),
    text_inputs: tuple[str, ...] = ("text",),
    max_length: int = 128,
    overwrite: bool = False,
) -> Path:
    """Writes a SavedModel from text to what the model's `serve` returns, as float32.

    Signatures: `serving_default` takes strings `[B]` and `serve_ids` token ids; of twins those of
    the second texts are called `pair_token_ids` and so on. A classifier
    gives `logits` `[B, C]` and `probabilities` `[B, C]` (regression: `score` `[B]`), a
    question answerer `start_logits` and `end_logits` `[B, T]` with `token_ids` and
    `padding_mask`, a token classifier `logits` and `probabilities` `[B, T, C]` with these.
    Label names are in `assets.extra/labels.txt`, one a line.

    Args:
        model: The fine-tuned model.
        directory: The served model's directory.
        tokenizer: Its tokenizer.
        label_names: Class names in the order of the logits; empty where there are none.
        text_inputs: Names of the one or two text inputs.
        max_length: Tokens that texts are cut to together.
        overwrite: Replace an existing directory.

    Returns:
        The SavedModel's directory, `DIRECTORY/1`.

    Raises:
        InputError: The directory exists or `max_length` does not fit the model.
    """
    model = _float32_copy(model)
    spec = ServingSpec(
        variables=[*parameter_variables(model.encoder).values(), *model.head_variables().values()],
        max_length=max_length,
        max_positions=model.config.max_positions,
        num_segments=model.config.type_vocab_size,
        vocab_size=model.config.vocab_size,
        tokenizer=tokenizer,
        text_inputs=text_inputs,
        return_tokens=model.serves_tokens,
        twin=isinstance(model, SequenceClassifier) and model.reading.is_twin,
    )
    version = write_serving_model(directory, model.serve, spec, overwrite=overwrite).path
    if label_names or not model.serves_tokens:
        write_labels(version, label_names)
    return version


def _float32_copy(model: TaskModel) -> TaskModel:
    """What is exported does not depend on the precision that the model was trained in."""
    copy: TaskModel = type(model).from_config({**model.get_config(), "dtype": "float32"})
    copy.set_parameters(model.get_parameters())
    return copy
