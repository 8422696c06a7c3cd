"""LiteRT (TensorFlow Lite) files, for phones and other small machines."""

import contextlib
import dataclasses
import importlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etd_tf.errors import InputError
from etd_tf.export.base import Export, Format, check_error, largest_error, size_on_disk
from etd_tf.export.saved_model import (
    SENTENCE_EMBEDDING,
    encoder_function,
    logits_function,
)
from etd_tf.lazy import tf
from etd_tf.settings import setting
from etd_tf.storage.atomic import atomic_directory
from etd_tf.types import Array, Tensor

if TYPE_CHECKING:
    from etd_tf.checkpoints.checkpoint import Checkpoint
    from etd_tf.export.serving import Predict

_FILE = "model.tflite"
_TOLERANCE = 1e-4  # of the largest value
_QUANTIZED_TOLERANCE = 0.5  # int8 weights of a small model; catches a broken file only


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiteRT(Format):
    """The encoder as one LiteRT file of built-in operators, with the tokenizer beside it.

    The signature `serving_default` takes int32 `token_ids`, `segment_ids` and
    `padding_mask` `[B, T]` of any batch and length, and returns float32 `sequence_output`,
    with a pooler `pooled_output`, with a pooling `sentence_embedding` `[B, D]`, and with a head
    `logits`. Where the head compares two texts read apart, it takes `pair_token_ids` and so on,
    too, and returns the logits alone.
    """

    name = "litert"
    summary = "one .tflite file for phones"
    mark = _FILE
    folder = "exports/litert"
    code = (
        "# LiteRT, on phones and small machines: pip install ai-edge-litert\n"
        "from ai_edge_litert.interpreter import Interpreter\n"
        'student = Interpreter("{path}").get_signature_runner()\n'
        "outputs = student(token_ids=ids, segment_ids=segments, padding_mask=mask)  # int32 arrays"
    )
    limit = 1e-4

    quantize: bool = setting(False, "litert and onnx: int8 kernels, a quarter of the size.")

    def write(
        self, checkpoint: "Checkpoint", directory: str | Path, *, overwrite: bool = False
    ) -> Export:
        """Writes it and runs it on two batches of different shapes; see the base class."""
        from etd_tf.checkpoints.huggingface import write_tokenizer
        from etd_tf.export.serving import require_tensorflow

        require_tensorflow()
        with atomic_directory(directory, overwrite=overwrite) as scratch:
            copy = checkpoint.astype("float32")
            content = _convert(copy, quantize=self.quantize)
            error = _difference(content, copy)
            allowed = _QUANTIZED_TOLERANCE if self.quantize else _TOLERANCE
            check_error("LiteRT", error, allowed)
            (scratch / _FILE).write_bytes(content)
            write_tokenizer(checkpoint, scratch)
        note = "Takes token ids" + (", kernels are int8." if self.quantize else ".")
        path = Path(directory) / _FILE
        return Export(self.name, str(path), size_on_disk(path), error, note)


def _convert(checkpoint: "Checkpoint", *, quantize: bool) -> bytes:
    from etd_tf.export.serving import raw_variables, stacked_twins
    from etd_tf.modeling.parameters import parameter_variables

    for layer in checkpoint.encoder.encoder_layers:
        layer.portable = True
    predict, names = _function(checkpoint), _input_names(checkpoint)

    def serve(*values: Tensor) -> Any:
        return predict(stacked_twins(dict(zip(names, values, strict=True))))

    module = tf.Module()
    module.model_variables = raw_variables(parameter_variables(checkpoint.encoder).values())
    ids = [tf.TensorSpec([None, None], tf.int32, name=name) for name in names]
    function = tf.function(serve, input_signature=ids, autograph=False)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        tf.saved_model.save(module, folder, signatures={"serving_default": function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # no Flex
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        content: bytes = converter.convert()
    return content


def _input_names(checkpoint: "Checkpoint") -> tuple[str, ...]:
    from etd_tf.export.serving import IDS_INPUTS, PAIR_INPUTS

    head = checkpoint.task_head
    return IDS_INPUTS + PAIR_INPUTS * (head is not None and head.reading.is_twin)


def _function(checkpoint: "Checkpoint") -> "Predict":
    """The encoder's outputs, and the sentence's vector where the model says how to pool."""
    head, pooling = checkpoint.task_head, checkpoint.pooling
    encode = encoder_function(checkpoint) if head is None else logits_function(checkpoint)

    def predict(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = encode(inputs)
        if pooling is None or "sequence_output" not in outputs:
            return outputs
        vectors = pooling(outputs["sequence_output"], inputs["padding_mask"])
        return {**outputs, SENTENCE_EMBEDDING: vectors}

    return predict


def run_litert(content: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Runs a LiteRT model in this process.

    Raises:
        InputError: Nothing is installed that runs it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the class is moving to another package
        interpreter = _interpreter_class()(model_content=content)
    outputs: dict[str, Array] = interpreter.get_signature_runner("serving_default")(**inputs)
    return outputs


def _interpreter_class() -> Any:
    """The class that runs LiteRT files: TensorFlow's, as long as it has one, or its successor."""
    if hasattr(tf.lite, "Interpreter"):
        return tf.lite.Interpreter
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError as error:
        raise InputError(
            "A LiteRT file is checked by running it, for which this TensorFlow has no interpreter. "
            "Install it: pip install ai-edge-litert."
        ) from error


def _difference(content: bytes, checkpoint: "Checkpoint") -> float:
    """Runs two batches of different shape through the file and through the model."""
    import numpy as np

    from etd_tf.export.serving import stacked_twins

    generator = np.random.default_rng(0)
    largest = 0.0
    for batch, length in ((1, 3), (2, min(16, checkpoint.config.max_positions))):
        shape = (batch, length)
        mask = np.ones(shape, np.int32)
        mask[-1, length - 1 :] = 0
        inputs = {
            "token_ids": generator.integers(0, checkpoint.config.vocab_size, shape, np.int32),
            "segment_ids": np.zeros(shape, np.int32),
            "padding_mask": mask,
        }
        if _input_names(checkpoint)[len(inputs) :]:
            inputs |= {f"pair_{name}": value[:, ::-1][:, 1:] for name, value in inputs.items()}
        outputs = run_litert(content, inputs)
        with tf.device("CPU:0"):  # GPUs round the inputs of a product to TF32
            expected = _function(checkpoint)(stacked_twins(inputs))
        for name, value in expected.items():
            largest = max(largest, largest_error(outputs[name], value))
    return largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the converter's chatter, which Python code prints to standard output."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
