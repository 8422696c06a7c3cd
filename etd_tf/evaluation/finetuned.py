"""Fine-tuned models and their checkpoints."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etd_tf.checkpoints import Checkpoint, TaskHead, load_checkpoint, save_checkpoint
from etd_tf.checkpoints.checkpoint import CLASSIFIER, SPANS, TAGS
from etd_tf.errors import InputError
from etd_tf.evaluation.classifiers import (
    SequenceClassifier,
    SpanClassifier,
    TaskModel,
    TokenClassifier,
)
from etd_tf.modeling.layers import blank_weights
from etd_tf.modeling.reading import USUAL
from etd_tf.tokenization.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class FinetunedModel:
    """A task model with what is needed to use it.

    Attributes:
        checkpoint: Its encoder and tokenizer.
        label_names: Class names in the order of the logits; empty for regression and for answer
            spans.
    """

    model: TaskModel
    checkpoint: Checkpoint
    label_names: tuple[str, ...]

    def check_head(self, wanted: str, task: str) -> None:
        """Checks that the head is of the kind that a task needs.

        Raises:
            InputError: It is of another kind, e.g. a classifier of texts for answer spans.
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
    """Writes `BertForSequenceClassification`, `...TokenClassification` or `...QuestionAnswering`.

    Args:
        model: A `SequenceClassifier`, `TokenClassifier` or `SpanClassifier`.
        directory: The directory to create.
        tokenizer: Its tokenizer, if any.
        label_names: Class names in the order of the logits; empty for regression.
        task: Name of the task, kept in the configuration.
        overwrite: Replace an existing directory.

    Raises:
        InputError: The directory exists, or the number of names is not that of classes.
    """
    arrays = model.get_parameters()
    names = [name for name in ("head.hidden.kernel", "head.hidden.bias") if name in arrays]
    hidden = [arrays.pop(name) for name in names]
    head = TaskHead(
        model.head_name,
        arrays.pop("head.kernel"),
        arrays.pop("head.bias"),
        label_names=tuple(label_names),
        task=task,
        reading=model.reading if isinstance(model, SequenceClassifier) else USUAL,
        hidden=(hidden[0], hidden[1]) if hidden else None,
        hidden_act=model.hidden_act or "",
    )
    checkpoint = Checkpoint(model.config, arrays, tokenizer=tokenizer, task_head=head)
    save_checkpoint(checkpoint, directory, overwrite=overwrite)


def load_finetuned(directory: str | Path, *, dtype: Any = None) -> FinetunedModel:
    """Reads a fine-tuned Hugging Face BERT.

    Args:
        directory: As for `load_checkpoint`.
        dtype: Keras dtype policy.

    Raises:
        InputError: The directory is not a fine-tuned classifier or question answerer.
    """
    checkpoint = load_checkpoint(directory, dtype=dtype)
    head = checkpoint.task_head
    if head is None:
        raise InputError(
            f"{directory} is not fine-tuned, or its head is of a kind that is not read. Read are "
            f"BertForSequenceClassification, RoBERTa's and DistilBERT's ({CLASSIFIER} [C, H], one "
            "label a text), heads of ...ForTokenClassification and heads for question answering "
            f"({SPANS} [2, H]). Leave out finetune=False to fine-tune it."
        )
    if head.name != SPANS and head.num_outputs > 1 and not head.label_names:
        raise InputError(
            f"The config.json of {directory} has no id2label with the {head.num_outputs} classes "
            'of the model. Add it, e.g. "id2label": {"0": "negative", "1": "positive"}.'
        )
    with blank_weights():
        model = _task_model(head, checkpoint, dtype)
    weights = {
        **checkpoint.parameters(),
        **head.hidden_parameters(),
        "head.kernel": head.kernel,
        "head.bias": head.bias,
    }
    model.set_parameters({name: weights[name] for name in model.get_parameters()})
    return FinetunedModel(model, checkpoint, head.label_names)


def _task_model(head: TaskHead, checkpoint: Checkpoint, dtype: Any) -> TaskModel:
    if head.name == SPANS:
        return SpanClassifier(checkpoint.config, dtype=dtype)
    if head.name == TAGS:
        return TokenClassifier(checkpoint.config, head.num_outputs, dtype=dtype)
    return SequenceClassifier.of_checkpoint(checkpoint, head.num_outputs, head.reading, dtype=dtype)


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
