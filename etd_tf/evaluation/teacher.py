"""What a fine-tuned teacher says about texts: computed once, kept by content."""

import dataclasses
import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from keras import ops

from etd_tf.evaluation.classifiers import SequenceClassifier, SpanClassifier, TaskModel
from etd_tf.evaluation.finetuned import FinetunedModel
from etd_tf.evaluation.imitation import STATE, TEACHER_LOGITS
from etd_tf.evaluation.inference import Forward, compile_forward, run_sequences
from etd_tf.storage.atomic import write_atomically
from etd_tf.tokenization.sequences import Sequences
from etd_tf.types import Array, IntArray, Tensor

_DAMAGE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True)
class TeacherOutputs:
    """What a fine-tuned teacher makes of some texts, or words.

    Attributes:
        logits: Float32 `[n, C]` in the order of the task's classes; of answer spans `[n, T, 2]`,
            filled up with 0.
        states: What its head, or a layer before it, reads of a text or a word, float32 `[n, H]`,
            of twins `[n, 2, H]`; None of answer spans.
    """

    logits: Array
    states: Array | None = None

    def labels(self) -> dict[str, Array]:
        """The arrays by the names that the losses know."""
        states = {} if self.states is None else {STATE: self.states}
        return {**states, TEACHER_LOGITS: self.logits}

    def take(self, rows: slice) -> "TeacherOutputs":
        """Those of some texts."""
        states = None if self.states is None else self.states[rows]
        return TeacherOutputs(self.logits[rows], states)


def teacher_outputs(
    teacher: FinetunedModel,
    sequences: Sequences,
    order: Sequence[int],
    description: str,
    *,
    words: Sequence[IntArray] = (),
) -> TeacherOutputs:
    """Runs a teacher once over texts, without dropout.

    Args:
        teacher: The fine-tuned model.
        sequences: The texts in its own tokens.
        order: For each class of the task its position among the teacher's logits; empty for a
            score and for spans.
        description: Text of the progress line.
        words: Of a classifier of tokens the positions of each sequence's words.

    Returns:
        Its states and logits.
    """
    model = teacher.model
    if isinstance(model, SpanClassifier):
        spans = compile_forward(lambda inputs: model.stack(model(inputs)))
        found = run_sequences(spans, sequences, description=description)
        return TeacherOutputs(_filled(found, sequences))
    found = run_sequences(
        compile_forward(_states_and_logits(model)), sequences, description=description
    )
    if words:
        rows = np.concatenate([row[places] for row, places in zip(found, words, strict=True)])
    else:
        rows = np.stack(found)
    split = rows.shape[1] - model.output_dense.bias.shape[0]
    states, logits = rows[:, :split], rows[:, split:]
    if split > model.config.hidden_size:  # twins
        states = states.reshape(len(rows), 2, -1)
    return TeacherOutputs(logits[:, list(order)] if order else logits, states)


def _states_and_logits(model: TaskModel) -> Forward:
    """Both of each example, or of each token, in one row."""

    def forward(inputs: Mapping[str, Tensor]) -> Tensor:
        trace = model.encoder.trace(inputs)
        states = read = trace.sequence_output
        if isinstance(model, SequenceClassifier):
            read = model.reading.compared(model.vectors(trace, inputs))
            states = model.reading.by_example(model.states(trace, inputs))
            width = model.config.hidden_size * (2 if model.reading.is_twin else 1)
            states = ops.reshape(states, (-1, width))
        parts = states, model.output_dense(read)
        return ops.concatenate([ops.cast(part, "float32") for part in parts], axis=-1)

    return forward


def _filled(rows: Sequence[Array], sequences: Sequences) -> Array:
    """Logits of tokens as one array, 0 for padding."""
    filled = np.zeros((len(rows), sequences.max_length, 2), np.float32)
    for place, (row, length) in enumerate(zip(rows, sequences.lengths, strict=True)):
        filled[place, :length] = row[:length]
    return filled


def outputs_key(
    teacher: FinetunedModel,
    sequences: Sequences,
    order: Sequence[int],
    words: Sequence[IntArray] = (),
) -> str:
    """Names what a teacher says about texts: by weights, head, tokens, order of classes, words."""
    content, head = hashlib.sha256(), teacher.checkpoint.task_head
    reads = (head.name, head.reading.describe(), head.hidden_act) if head else ()
    sizes = sequences.num_texts, sequences.max_length
    content.update(repr([teacher.checkpoint.fingerprint(), reads, list(order), sizes]).encode())
    arrays = [] if head is None else [head.kernel, head.bias, *head.hidden_parameters().values()]
    texts = [sequences.lengths, *sequences.token_ids, *sequences.segment_ids]
    for array in [*arrays, *texts, *words]:
        content.update(repr(array.shape).encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def kept_outputs(
    folder: Path,
    teacher: FinetunedModel,
    sequences: Sequences,
    order: Sequence[int],
    words: Sequence[IntArray] = (),
) -> TeacherOutputs:
    """What a teacher says about texts, read back where any run has computed it.

    Args:
        folder: Where the outputs of all teachers and texts are kept, a file each.
        teacher: See `teacher_outputs`.
        sequences: See `teacher_outputs`.
        order: See `teacher_outputs`.
        words: See `teacher_outputs`.
    """
    path = folder / f"{outputs_key(teacher, sequences, order, words)}.npz"
    try:
        with np.load(path, allow_pickle=False) as found:
            logging.info("Reading the teacher's outputs from %s.", path)
            return TeacherOutputs(**found)
    except FileNotFoundError:
        pass
    except _DAMAGE as error:
        logging.warning("%s cannot be read (%s); the teacher runs again.", path, error)
    outputs = teacher_outputs(teacher, sequences, order, "Teacher's outputs", words=words)
    content = io.BytesIO()
    arrays: dict[str, Any] = {k: v for k, v in vars(outputs).items() if v is not None}
    np.savez(content, **arrays)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
    return outputs
