"""Serving SavedModels of a checkpoint."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from etd_tf.errors import InputError
from etd_tf.export.base import Export, Format, size_on_disk
from etd_tf.lazy import ops
from etd_tf.settings import setting
from etd_tf.types import Tensor

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.export.serving import Predict, TextFunction

SENTENCE_EMBEDDING = "sentence_embedding"
"""Output with one vector a text."""

_CODE_FOR_TEXT = """# TensorFlow and TensorFlow Serving; text goes in
import tensorflow as tf, tensorflow_text
serve = tf.saved_model.load("{path}").signatures["serving_default"]
outputs = serve(text=tf.constant(["Some text."]))"""
_CODE_FOR_IDS = """# TensorFlow and TensorFlow Serving; token ids go in, int32 [batch, length]
import tensorflow as tf
serve = tf.saved_model.load("{path}").signatures["serve_ids"]
outputs = serve(token_ids=ids, segment_ids=segments, padding_mask=mask)"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedModel(Format):
    """A SavedModel for TensorFlow Serving, in the subdirectory `1`.

    Signatures and their outputs, all float32 unless said otherwise:

    - `serving_default`: `text` string `[B]` to `sequence_output` `[B, T, H]`,
      `pooled_output` `[B, H]` (with a pooler), `token_ids` and `padding_mask` int32
      `[B, T]`. Takes token ids where the tokenizer is not BERT's WordPiece.
    - `serve_ids`: int32 `token_ids`, `segment_ids`, `padding_mask` `[B, T]` to
      `sequence_output` and `pooled_output`.
    - `embed` (with a pooling): `text` to `sentence_embedding` `[B, D]`, as `Checkpoint.embed`
      makes it, the default prompt included. Takes token ids where `serving_default` does.
    - `masked_lm` (with a masked-LM head): the same inputs to `mlm_logits` `[B, T, V]`.

    With the head of a fine-tuned model the first two also give `logits`: `[B, C]`, of tokens
    `[B, T, C]`; the classes are in `assets.extra/labels.txt`. Where the head compares two texts
    read apart, the inputs are `text` and `text_pair`, and the logits are all that comes out.
    """

    name = "saved_model"
    summary = "TensorFlow Serving, text goes in"
    mark = "*/saved_model.pb"
    folder = "saved_model"
    limit = 1e-4

    max_length: int | None = setting(
        None, "saved_model: tokens that texts are cut to; default: the model's positions.", least=5
    )

    def write(
        self, checkpoint: "Checkpoint", directory: str | Path, *, overwrite: bool = False
    ) -> Export:
        """Writes it and compares its outputs; see the base class."""
        from etd_tf.checkpoints.checkpoint import Checkpoint
        from etd_tf.export.serving import ServingSpec, write_labels, write_serving_model
        from etd_tf.modeling.parameters import parameter_variables

        if not isinstance(checkpoint, Checkpoint):
            raise InputError(f"Expected a Checkpoint, received {type(checkpoint).__name__}.")
        # In variables of this process, whatever its precision and a strategy that spreads them.
        checkpoint = checkpoint.astype("float32")
        config, head, task_head = checkpoint.config, checkpoint.mlm_head, checkpoint.task_head
        twin = task_head is not None and task_head.reading.is_twin
        spec = ServingSpec(
            variables=list(parameter_variables(checkpoint.encoder, head).values()),
            max_length=config.max_positions if self.max_length is None else self.max_length,
            max_positions=config.max_positions,
            num_segments=config.type_vocab_size,
            vocab_size=config.vocab_size,
            tokenizer=checkpoint.tokenizer,
            text_inputs=("text", "text_pair") if twin else ("text",),
            return_tokens=not twin,
            twin=twin,
            extra={} if head is None else {"masked_lm": masked_lm_function(checkpoint)},
            text_extra=embed_functions(checkpoint, self.max_length),
        )
        predict = (encoder_function if task_head is None else logits_function)(checkpoint)
        model = write_serving_model(directory, predict, spec, overwrite=overwrite)
        if task_head is not None and task_head.label_names:
            write_labels(model.path, task_head.label_names)
        text = model.ids_only is None
        note = "Takes text; import tensorflow_text before loading it."
        if not text:
            note = f"Takes token ids only: {model.ids_only}."
        size = size_on_disk(model.path)
        return Export(self.name, str(model.path), size, model.max_difference, note, text)

    def usage(self, export: Export) -> str:
        """Loads it in TensorFlow and calls it with what it takes."""
        return (_CODE_FOR_TEXT if export.takes_text else _CODE_FOR_IDS).format(path=export.path)


def encoder_function(checkpoint: "Checkpoint") -> "Predict":
    """The function behind `serve_ids`: the encoder in inference mode."""
    return lambda inputs: checkpoint.encoder(inputs, training=False)


def pooled_function(checkpoint: "Checkpoint", *, left_out: int = 0) -> "Predict":
    """A function of token ids that returns sentence vectors.

    Args:
        checkpoint: The model, with a pooling.
        left_out: Tokens at the beginning that are not pooled.
    """
    encoder, pooling = checkpoint.encoder, checkpoint.pooling
    if pooling is None:
        raise InputError("The checkpoint does not say how to pool; pass a Pooling to replace().")

    def predict(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        states = encoder(inputs, training=False)["sequence_output"]
        mask = inputs["padding_mask"]
        place = ops.cumsum(ops.ones_like(mask), axis=1)
        counted = ops.multiply(mask, ops.cast(ops.greater(place, left_out), mask.dtype))
        return {SENTENCE_EMBEDDING: pooling(states, mask, counted=counted)}

    return predict


def embed_functions(checkpoint: "Checkpoint", max_length: int | None) -> dict[str, "TextFunction"]:
    """The function behind `embed`, of texts cut to a length, if at all; none without pooling."""
    from etd_tf.checkpoints.embedding import TextEmbedder
    from etd_tf.export.serving import TextFunction

    pooling = checkpoint.pooling
    if pooling is None:
        return {}
    before = pooling.prompt(None)
    length = min(checkpoint.max_seq_length, max_length or checkpoint.max_seq_length)
    left_out = 0
    if checkpoint.tokenizer is not None:
        left_out = TextEmbedder(checkpoint.encoder, checkpoint.tokenizer, pooling).left_out(before)
    predict = pooled_function(checkpoint, left_out=left_out)
    return {"embed": TextFunction(predict, length, before, pooling.lowercase)}


def logits_function(checkpoint: "Checkpoint") -> "Predict":
    """A function of token ids that returns a fine-tuned model's `logits`; of twins `[2B, T]`."""
    from etd_tf.modeling.layers import activation, linear  # help pages do without Keras

    encoder, head = checkpoint.encoder, checkpoint.task_head
    if head is None:
        raise InputError("The checkpoint has no head.")

    def predict(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = encoder(inputs, training=False)
        read = outputs["sequence_output"]
        if not head.of_tokens:
            read = head.reading.states(read, inputs["padding_mask"])
            if head.hidden is not None:
                read = linear(read, *head.hidden, act=activation(head.hidden_act, training=False))
            elif head.reading.needs_pooler:
                read = outputs["pooled_output"]
            read = head.reading.compared(read)
        logits = ops.add(ops.matmul(read, head.kernel), head.bias)
        return {"logits": logits} if head.reading.is_twin else {**outputs, "logits": logits}

    return predict


def masked_lm_function(checkpoint: "Checkpoint") -> "Predict":
    """The function behind `masked_lm`: vocabulary logits of every position."""
    head, encoder = checkpoint.mlm_head, checkpoint.encoder
    if head is None:
        raise InputError("The checkpoint has no masked-LM head.")

    def predict(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden = encoder(inputs, training=False)["sequence_output"]
        table = ops.convert_to_tensor(encoder.embeddings.token)
        return {"mlm_logits": head(hidden, table)}

    return predict
