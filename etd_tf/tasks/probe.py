"""Zero-shot sentence similarity: a health check of an encoder that needs no training."""

from collections.abc import Mapping

import numpy as np
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.evaluation.encoding import encode_texts
from etd_tf.evaluation.inference import compile_forward, run_sequences
from etd_tf.tasks.glue_data import GlueExamples
from etd_tf.tasks.metrics import spearman
from etd_tf.types import Array, Tensor


def sentence_embeddings(
    checkpoint: Checkpoint, texts: list[str], *, max_length: int = 128
) -> Array:
    """Averages the last hidden states over all real tokens, special ones included.

    Args:
        checkpoint: The encoder with its tokenizer.
        texts: n sentences.
        max_length: Longer sentences are cut.

    Returns:
        Float32 `[n, H]`.

    Raises:
        InputError: The checkpoint has no tokenizer or too few positions.
    """
    sequences = encode_texts(checkpoint, [(text,) for text in texts], max_length=max_length)

    def forward(inputs: Mapping[str, Tensor]) -> Tensor:
        states = ops.cast(checkpoint.encoder.trace(inputs).sequence_output, "float32")
        mask = ops.cast(inputs["padding_mask"], "float32")[:, :, None]
        return ops.divide(ops.sum(ops.multiply(states, mask), axis=1), ops.sum(mask, axis=1))

    rows = run_sequences(compile_forward(forward), sequences, description="Embedding sentences")
    return np.stack(rows)


def sts_probe(checkpoint: Checkpoint, examples: GlueExamples, *, max_length: int = 128) -> float:
    """Spearman correlation of cosine similarities with STS-B's human scores.

    Args:
        checkpoint: The encoder with its tokenizer.
        examples: A labelled STS-B split.
        max_length: Longer sentences are cut.

    Returns:
        The correlation, from -1 to 1; 0 where all similarities are equal.

    Raises:
        InputError: The checkpoint has no tokenizer, or the examples have no scores.
    """
    texts = sorted({text for pair in examples.texts for text in pair})
    place = {text: row for row, text in enumerate(texts)}
    embeddings = sentence_embeddings(checkpoint, texts, max_length=max_length)
    norms = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    unit = embeddings / norms
    first, second = (unit[[place[pair[side]] for pair in examples.texts]] for side in range(2))
    return spearman(np.sum(first * second, axis=1), examples.need_labels())


def compare_sts(
    models: Mapping[str, Checkpoint], examples: GlueExamples, *, max_length: int = 128
) -> dict[str, float]:
    """Runs `sts_probe` on several models, e.g. a teacher and its students.

    Args:
        models: Checkpoints by the name to report.
        examples: A labelled STS-B split.
        max_length: Longer sentences are cut.

    Returns:
        The correlation by name, in the order of `models`.

    Raises:
        InputError: As for `sts_probe`.
    """
    return {
        name: sts_probe(checkpoint, examples, max_length=max_length)
        for name, checkpoint in models.items()
    }
