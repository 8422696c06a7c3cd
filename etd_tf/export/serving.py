"""Writes any function of token ids as a SavedModel that also takes text.

The part of the export that knows nothing of masked language models or classifiers: a
fine-tuned head is served by handing `write_serving_model` its own function.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from etd_tf.errors import EtdError, InputError
from etd_tf.export.base import check_error, largest_error
from etd_tf.export.text_encoder import TextEncoder, why_not_encodable
from etd_tf.export.warmup import WarmupRequest, write_warmup
from etd_tf.storage.atomic import atomic_directory, write_atomically
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Tensor

Predict: TypeAlias = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""Maps int32 `token_ids`, `segment_ids`, `padding_mask` `[B, T]` to named tensors."""

IDS_INPUTS = ("token_ids", "segment_ids", "padding_mask")
PAIR_INPUTS = tuple(f"pair_{name}" for name in IDS_INPUTS)
"""The same of the second texts, where each text of a pair is read alone."""

WARMUP_TEXTS = ("The cat sat on the mat.", "A second, slightly longer text to serve with it.")
VERSION = "1"

_TOLERANCE = 1e-4  # of the largest value; kernels differ between graph and eager execution


@dataclasses.dataclass(frozen=True)
class TextFunction:
    """A function of texts beside the default one; of token ids where no text goes in.

    Attributes:
        predict: The function of their token ids.
        max_length: Tokens that a text is cut to.
        before: Put before each text.
        lowercase: Whether texts are lowercased before they are split.
    """

    predict: Predict
    max_length: int
    before: str = ""
    lowercase: bool = False


@dataclasses.dataclass(frozen=True)
class ServingSpec:
    """What a serving model contains besides its function.

    Attributes:
        variables: All variables that the functions read (Keras or TensorFlow variables).
        max_length: Tokens of the longest sequence that text is cut to.
        max_positions: Tokens of the longest sequence that the model takes.
        num_segments: Segments that the model knows.
        vocab_size: Tokens that the model knows; None to leave that unchecked.
        tokenizer: Its tokenizer; None for a model that takes token ids only.
        text_inputs: Names of the text inputs, one or two (`("question", "context")`).
        return_tokens: Add `token_ids` and `padding_mask` to the outputs for text, for
            outputs that are one vector a token.
        extra: Further functions of token ids by signature name.
        text_extra: Further functions of one text by signature name.
        twin: Whether each text of a pair is read alone. The functions take `[2B, T]` then: the
            first texts, then the second ones.
        warmup_texts: Texts for TensorFlow Serving's warm-up, and for checking the result.
    """

    variables: Sequence[Any]
    max_length: int
    max_positions: int
    num_segments: int = 2
    vocab_size: int | None = None
    tokenizer: Tokenizer | None = None
    text_inputs: tuple[str, ...] = ("text",)
    return_tokens: bool = False
    extra: Mapping[str, Predict] = dataclasses.field(default_factory=dict)
    text_extra: Mapping[str, TextFunction] = dataclasses.field(default_factory=dict)
    twin: bool = False
    warmup_texts: tuple[str, ...] = WARMUP_TEXTS

    def __post_init__(self) -> None:
        if not 5 <= self.max_length <= self.max_positions:
            raise InputError(
                f"max_length={self.max_length} does not fit the model, which has "
                f"{self.max_positions} positions. Choose a value from 5 to {self.max_positions}."
            )
        if len(self.text_inputs) not in (1, 2) or not self.warmup_texts:
            raise InputError("A serving model needs one or two text inputs and a warm-up text.")
        if self.twin and len(self.text_inputs) == 1:
            raise InputError(
                f"The model compares two texts; received one input, {self.text_inputs[0]}. "
                "Name two."
            )

    @property
    def ids_inputs(self) -> tuple[str, ...]:
        """Names of the inputs for token ids."""
        return IDS_INPUTS + PAIR_INPUTS * self.twin


@dataclasses.dataclass(frozen=True)
class ServingModel:
    """A SavedModel that was written and checked.

    Attributes:
        path: The SavedModel's directory, `DIRECTORY/1`.
        max_difference: Largest difference of an output from the function's, relative to
            the largest value or 1.
        ids_only: Why `serving_default` takes token ids instead of text, or None.
    """

    path: Path
    max_difference: float
    ids_only: str | None


def write_serving_model(
    directory: str | Path, predict: Predict, spec: ServingSpec, *, overwrite: bool = False
) -> ServingModel:
    """Writes `DIRECTORY/1/`, the layout of TensorFlow Serving, and checks it.

    Signatures: `serving_default` and each of `spec.text_extra` take text (string `[None]`
    inputs), `serve_ids` and each of `spec.extra` take token ids. Where the tokenizer cannot be
    put in a graph, all take token ids. Programs that load a model with text
    input must `import tensorflow_text` first; TensorFlow Serving contains it.

    Args:
        directory: The model's directory; its name is the served model's name.
        predict: The function to serve.
        spec: Everything else.
        overwrite: Replace an existing directory.

    Raises:
        InputError: The directory exists, or Keras does not run on TensorFlow.
        EtdError: The written model, loaded again, gives other numbers than `predict`.
    """
    require_tensorflow()
    problem = why_not_encodable(spec.tokenizer)
    if problem is not None:
        logging.warning("The SavedModel takes token ids only, no text: %s.", problem)
    directory = Path(directory)
    endpoints = _Endpoints(predict, spec, with_text=problem is None)
    with (
        atomic_directory(directory, overwrite=overwrite) as scratch,
        tempfile.TemporaryDirectory() as temporary,
    ):
        module = tf.Module(name="serving_model")
        module.model_variables = raw_variables(spec.variables)
        if spec.tokenizer is not None and spec.tokenizer.wordpieces is not None:
            vocabulary = Path(temporary) / "vocab.txt"
            spec.tokenizer.save_vocabulary(vocabulary)
            module.vocabulary = tf.saved_model.Asset(str(vocabulary))
        tf.saved_model.save(module, str(scratch / VERSION), signatures=endpoints.functions)
        requests = endpoints.requests()
        write_warmup(scratch / VERSION, directory.name, requests)
        with tf.device("CPU:0"):  # GPUs round the inputs of a product to TF32
            difference = _check(scratch / VERSION, endpoints, requests)
    return ServingModel(directory / VERSION, difference, problem)


def write_labels(version: Path, names: Sequence[str]) -> None:
    """Writes the classes of the logits beside a SavedModel, one a line."""
    folder = version / "assets.extra"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "labels.txt", "".join(f"{name}\n" for name in names))


def require_tensorflow() -> None:
    """Raises InputError where Keras computes with another library than TensorFlow."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise InputError(
            f"This export needs Keras on TensorFlow, but KERAS_BACKEND is {backend}. Run it again "
            "with KERAS_BACKEND=tensorflow."
        )


def raw_variables(variables: Iterable[Any]) -> list[Any]:
    """The TensorFlow variables behind Keras variables."""
    return [v.value if isinstance(v, keras.Variable) else v for v in variables]


class _Endpoints:
    """The functions of a serving model, and requests that exercise each.

    Attributes:
        functions: A `tf.function` by signature name.
    """

    def __init__(self, predict: Predict, spec: ServingSpec, *, with_text: bool) -> None:
        self._predict, self._spec = predict, spec
        self._text_encoder: TextEncoder | None = None
        self._of_ids = {"serve_ids": predict, "serving_default": predict, **spec.extra}
        self._of_ids |= {name: one.predict for name, one in spec.text_extra.items()}
        self.functions = {name: self._ids_function(f) for name, f in self._of_ids.items()}
        self.functions["serving_default"] = self.functions["serve_ids"]
        if with_text and spec.tokenizer is not None:
            self._text_encoder = TextEncoder(
                spec.tokenizer, max_length=spec.max_length, num_segments=spec.num_segments
            )
            self.functions["serving_default"] = self._text_function()
            for name, one in spec.text_extra.items():
                text = tf.TensorSpec([None], tf.string, name=spec.text_inputs[0])
                serve = functools.partial(self._predict_text, one)
                self.functions[name] = tf.function(serve, input_signature=[text], autograph=False)

    def _ids_function(self, predict: Predict) -> Any:
        names = self._spec.ids_inputs

        def serve(*values: Tensor) -> Any:
            inputs = stacked_twins(dict(zip(names, values, strict=True)))
            token_ids, segment_ids, padding_mask = (inputs[name] for name in IDS_INPUTS)
            with tf.control_dependencies(_id_checks(self._spec, token_ids, segment_ids)):
                token_ids, segment_ids = tf.identity(token_ids), tf.identity(segment_ids)
            return predict(
                dict(zip(IDS_INPUTS, (token_ids, segment_ids, padding_mask), strict=True))
            )

        ids = [tf.TensorSpec([None, None], tf.int32, name=name) for name in names]
        return tf.function(serve, input_signature=ids, autograph=False)

    def _text_function(self) -> Any:
        names = self._spec.text_inputs
        specs = [tf.TensorSpec([None], tf.string, name=name) for name in names]
        return tf.function(self.predict_texts, input_signature=specs, autograph=False)

    def predict_texts(self, *texts: Tensor) -> dict[str, Tensor]:
        """What `serving_default` computes for text."""
        if self._text_encoder is None:
            raise EtdError("This model takes token ids only.")
        inputs = self._text_encoder(*self._together(texts))
        outputs = self._predict(inputs)
        if self._spec.return_tokens:
            outputs = {**outputs, **{name: inputs[name] for name in ("token_ids", "padding_mask")}}
        return outputs

    def _together(self, texts: Sequence[Tensor]) -> Sequence[Tensor]:
        """The texts as the encoder reads them: of twins the second ones below the first."""
        return [tf.concat(texts, axis=0)] if self._spec.twin else texts

    def _predict_text(self, one: TextFunction, text: Tensor) -> dict[str, Tensor]:
        if self._text_encoder is None:
            raise EtdError("This model takes token ids only.")
        text = tf.strings.join([one.before, text]) if one.before else text
        text = tf.strings.lower(text, encoding="utf-8") if one.lowercase else text
        return one.predict(self._text_encoder(text, max_length=one.max_length))

    def requests(self) -> list[WarmupRequest]:
        """One request for each signature."""
        texts = {name: list(self._spec.warmup_texts) for name in self._spec.text_inputs}
        if self._text_encoder is not None:
            _check_tokens(self._text_encoder, self._spec)
            given = [tf.constant(value) for value in texts.values()]
            inputs = self._text_encoder(*(given[:1] if self._spec.twin else given))
        else:
            inputs = {name: np.ones((2, 5), np.int32) for name in IDS_INPUTS}
            inputs["segment_ids"] = np.zeros((2, 5), np.int32)
        names = self._spec.ids_inputs
        ids = {name: np.asarray(inputs[name.removeprefix("pair_")]) for name in names}
        takers = ["serving_default", *self._spec.text_extra] if self._text_encoder else []
        return [
            WarmupRequest(name, texts if name in takers else ids) for name in sorted(self.functions)
        ]

    def expected(self, request: WarmupRequest) -> dict[str, Tensor]:
        """What a signature must return, computed without the SavedModel."""
        inputs = {name: tf.constant(value) for name, value in request.inputs.items()}
        if "token_ids" in inputs:
            return self._of_ids[request.signature](stacked_twins(inputs))
        if request.signature in self._spec.text_extra:
            return self._predict_text(self._spec.text_extra[request.signature], *inputs.values())
        return self.predict_texts(*inputs.values())


def stacked_twins(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts the second texts below the first ones, as wide as the longest.

    Args:
        inputs: `IDS_INPUTS` `[B, T]`, and perhaps `PAIR_INPUTS` `[B, U]`.

    Returns:
        `IDS_INPUTS`: as they are, or `[2B, max(T, U)]`.
    """
    if PAIR_INPUTS[0] not in inputs:
        return dict(inputs)
    stacked = {}
    for name, pair_name in zip(IDS_INPUTS, PAIR_INPUTS, strict=True):
        first, second = inputs[name], inputs[pair_name]
        width = tf.maximum(tf.shape(first)[1], tf.shape(second)[1])
        stacked[name] = tf.concat(
            [tf.pad(part, [[0, 0], [0, width - tf.shape(part)[1]]]) for part in (first, second)], 0
        )
    return stacked


def _id_checks(spec: ServingSpec, token_ids: Tensor, segment_ids: Tensor) -> list[Any]:
    """Operations that fail where ids are none of the model's; a GPU would take others for them."""
    length, longest = tf.shape(token_ids)[1], spec.max_positions
    checks = [
        tf.debugging.assert_less_equal(
            length, longest, f"Sequences are longer than {longest} tokens."
        ),
        tf.debugging.assert_positive(length, "Sequences have no token, not even [CLS]."),
    ]
    tables: dict[str, tuple[Tensor, int | None]] = {
        "token_ids": (token_ids, spec.vocab_size),
        "segment_ids": (segment_ids, spec.num_segments),
    }
    for name, (ids, limit) in tables.items():
        if limit is None:
            continue
        message = f"{name} must be from 0 to {limit - 1}; fill up with 0 and a padding_mask of 0."
        checks.append(tf.debugging.assert_non_negative(ids, message))
        checks.append(tf.debugging.assert_less(ids, limit, message))
    return checks


def _check_tokens(text_encoder: TextEncoder, spec: ServingSpec) -> None:
    """Compares the graph's tokens of the warm-up texts with the tokenizer's own."""
    if spec.tokenizer is None:
        return
    got = text_encoder.tokenize(tf.constant(spec.warmup_texts)).to_list()
    expected = spec.tokenizer.encode_batch(spec.warmup_texts)
    for text, ours, theirs in zip(spec.warmup_texts, got, expected, strict=True):
        if ours != theirs:
            raise EtdError(f"The exported tokenizer splits {text!r} into {ours}, not {theirs}.")


def _check(version: Path, endpoints: _Endpoints, requests: Sequence[WarmupRequest]) -> float:
    """Loads the SavedModel and compares every signature with the function it came from."""
    loaded, largest = tf.saved_model.load(str(version)), 0.0
    for request in requests:
        inputs = {name: tf.constant(value) for name, value in request.inputs.items()}
        outputs = loaded.signatures[request.signature](**inputs)
        for name, expected in endpoints.expected(request).items():
            error = largest_error(outputs[name], expected)
            check_error(f"SavedModel, {request.signature}, {name}", error, _TOLERANCE)
            largest = max(largest, error)
    return largest
