"""The Checkpoint: what every stage takes and returns."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from keras import backend, ops

from etd_tf.checkpoints.embedding import TextEmbedder
from etd_tf.errors import InputError
from etd_tf.lazy import tf
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.encoder import BertEncoder
from etd_tf.modeling.heads import MaskedLMHead
from etd_tf.modeling.layers import blank_weights
from etd_tf.modeling.parameters import parameter_variables, set_parameters
from etd_tf.modeling.pooling import Pooling
from etd_tf.modeling.reading import USUAL, Reading
from etd_tf.modeling.structure import check_parameters, parameter_shapes
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, Parameters

CLASSIFIER, SPANS, TAGS = "classifier", "qa_outputs", "token_classifier"
"""Heads of fine-tuned models: a label a text, a span of the text, a label a token."""

_MIN_LENGTH = 6  # two separators in the middle of a pair, and one token of each text


@dataclasses.dataclass(frozen=True, eq=False)
class TaskHead:
    """What is on top of a fine-tuned encoder: a dense layer, and maybe one below it.

    Attributes:
        name: `CLASSIFIER` (it reads one vector of a text), `SPANS` or `TAGS` (every token).
        kernel: Float32 `[H, C]`; of twins `[4H, C]`.
        bias: Float32 `[C]`.
        label_names: Class names in the order of the logits; empty for regression and spans.
        task: Name of the task; may be empty.
        reading: What a classifier reads.
        hidden: Kernel `[H, H]` and bias `[H]` of a layer of the head's own on the first token,
            in place of the pooler (DistilBERT's); None: there is none.
        hidden_act: That layer's activation.

    Raises:
        InputError: The arrays do not fit each other, or the number of names is not that of classes.
    """

    name: str
    kernel: Array
    bias: Array
    label_names: tuple[str, ...] = ()
    task: str = ""
    reading: Reading = USUAL
    hidden: tuple[Array, Array] | None = None
    hidden_act: str = ""

    def __post_init__(self) -> None:
        if self.kernel.ndim != 2 or self.kernel.shape[1:] != self.bias.shape:
            raise InputError(
                f"A head's kernel {self.kernel.shape} does not fit its bias {self.bias.shape}; "
                "expected [H, C] and [C]."
            )
        if self.label_names and len(self.label_names) != self.num_outputs:
            raise InputError(
                f"{len(self.label_names)} label names for {self.num_outputs} classes: "
                f"{', '.join(self.label_names)}. Name every class once."
            )

    @property
    def num_outputs(self) -> int:
        """The number of logits, C."""
        return int(self.bias.shape[0])

    @property
    def of_tokens(self) -> bool:
        """Whether it reads every token, and not the pooled output."""
        return self.name != CLASSIFIER

    def hidden_parameters(self) -> Parameters:
        """The hidden layer's arrays by the names that they have in a task model."""
        if self.hidden is None:
            return {}
        return dict(zip(("head.hidden.kernel", "head.hidden.bias"), self.hidden, strict=True))

    def fits(self, hidden_size: int, *, pooler: bool) -> bool:
        """Whether it can sit on an encoder of this width, with or without a pooler."""
        if self.hidden is not None and self.hidden[0].shape != (hidden_size, hidden_size):
            return False
        of_texts = pooler or self.hidden is not None or not self.reading.needs_pooler
        of_this_kind = {CLASSIFIER: of_texts, SPANS: self.num_outputs == 2, TAGS: True}[self.name]
        return of_this_kind and self.kernel.shape[0] == self.reading.width(hidden_size)


class Checkpoint:
    """Weights as arrays with what belongs to them; nothing else passes between stages.

    The Keras models are built from the arrays on first use and kept. Whoever trains them
    trains the checkpoint: `parameters`, `fingerprint` and `save_checkpoint` see the new weights.

    Args:
        config: The architecture.
        parameters: Arrays by canonical name (see `parameter_shapes`). Whether there is a pooler
            and a masked-LM head follows from the names present. They are not copied.
        tokenizer: The tokenizer, if any.
        source: Where it came from, for messages and reports.
        dtype: Keras dtype policy of the models; None means float32, whatever Keras' global one.
        task_head: The head of a fine-tuned model, if any. It belongs to the file, not to the
            encoder: `parameters`, `num_parameters` and `fingerprint` leave it out.
        pooling: How a sentence encoder makes one vector of a text; None where no file says so.

    Attributes:
        config: As given, with the tokenizer's `pad_token_id`.
        dtype: The policy.

    Raises:
        InputError: The arrays, the tokenizer or the pooling do not fit the configuration.
    """

    def __init__(
        self,
        config: BertConfig,
        parameters: Mapping[str, Array],
        *,
        tokenizer: Tokenizer | None = None,
        source: str = "",
        dtype: Any = None,
        task_head: TaskHead | None = None,
        pooling: Pooling | None = None,
    ) -> None:
        if not isinstance(config, BertConfig):
            raise InputError(
                f"Checkpoint takes a BertConfig and arrays, received {type(config).__name__}. "
                "Make one of a Keras encoder by Checkpoint.from_encoder(encoder)."
            )
        self.config, self.tokenizer, self.source = config, tokenizer, source
        self.dtype: Any = dtype or "float32"
        self.task_head, self.pooling = task_head, pooling
        self._arrays = {name: _frozen(value) for name, value in parameters.items()}
        self._models: tuple[BertEncoder, MaskedLMHead | None] | None = None
        self._fingerprint: str | None = None
        self._embedder: TextEmbedder | None = None
        shapes = parameter_shapes(config, pooler=self.has_pooler, mlm_head=self.has_mlm_head)
        check_parameters(self._arrays, shapes, source)
        if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
            raise InputError(
                f"The tokenizer of {source or 'the checkpoint'} has {tokenizer.vocab_size} tokens, "
                f"but the model's vocab_size is {config.vocab_size}. Use the tokenizer that "
                "belongs to the model."
            )
        if tokenizer is not None and tokenizer.pad_id != config.pad_token_id:
            logging.warning(
                "%s: the configuration has pad_token_id=%d, the tokenizer's padding is %d; the "
                "tokenizer's is used.",
                source or "A checkpoint",
                config.pad_token_id,
                tokenizer.pad_id,
            )
            self.config = config.replace(pad_token_id=tokenizer.pad_id)
        if pooling is not None and not pooling.fits(config.hidden_size):
            raise InputError(
                f"The dense layer behind the pooling takes {pooling.dense[0].kernel.shape[0]} "
                f"dims, the pooled states have {len(pooling.modes) * config.hidden_size}. Use "
                "the layer that belongs to the model."
            )

    @classmethod
    def from_parameters(
        cls, config: BertConfig, parameters: Mapping[str, Array], **options: Any
    ) -> "Checkpoint":
        """The constructor, by the name that it had in version 0.1."""
        return cls(config, parameters, **options)

    @classmethod
    def from_encoder(
        cls,
        encoder: BertEncoder,
        mlm_head: MaskedLMHead | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        source: str = "",
    ) -> "Checkpoint":
        """Makes a checkpoint of Keras models, which it keeps.

        Args:
            encoder: The encoder.
            mlm_head: Its masked-LM head, or None.
            tokenizer: Its tokenizer, or None.
            source: Where it came from.

        Raises:
            InputError: The tokenizer does not fit.
        """
        values = {
            name: _value(variable)
            for name, variable in parameter_variables(encoder, mlm_head).items()
        }
        policy = encoder.dtype_policy
        checkpoint = cls(encoder.config, values, tokenizer=tokenizer, source=source, dtype=policy)
        encoder.config = checkpoint.config  # its padding is the tokenizer's
        checkpoint._models = encoder, mlm_head
        return checkpoint

    @property
    def encoder(self) -> BertEncoder:
        """The encoder."""
        return self.build()[0]

    @property
    def mlm_head(self) -> MaskedLMHead | None:
        """The masked-LM head, or None."""
        return self.build()[1]

    @property
    def has_pooler(self) -> bool:
        """Whether the encoder has a pooler."""
        return "pooler.kernel" in self._arrays

    @property
    def has_mlm_head(self) -> bool:
        """Whether there is a masked-LM head."""
        return "mlm.dense.kernel" in self._arrays

    def build(self) -> tuple[BertEncoder, MaskedLMHead | None]:
        """Builds the models where they are not built yet, under the current strategy.

        A compiled function may use them first, but is then traced twice: take the encoder
        before it.

        Returns:
            The encoder, and the masked-LM head or None.
        """
        if self._models is None:
            with _outside_graphs(), blank_weights():
                encoder = BertEncoder(self.config, pooler=self.has_pooler, dtype=self.dtype)
                head = MaskedLMHead(self.config, dtype=self.dtype) if self.has_mlm_head else None
                set_parameters(self._arrays, encoder, head)
            self._models = encoder, head
        return self._models

    def parameters(self) -> Parameters:
        """All weights by canonical name, as read-only float32 arrays.

        Returns:
            The arrays; of models that were trained, the weights that they have now.
        """
        if self._models is not None:
            self._read_trained()
        return dict(self._arrays)

    def _read_trained(self) -> None:
        """Takes over the weights that training has changed; comparing is cheaper than hashing."""
        current = parameter_variables(*self.build())
        values = ((name, _value(variable)) for name, variable in current.items())
        changed = {
            name: _frozen(value)
            for name, value in values
            if not np.array_equal(value, self._arrays[name])
        }
        if changed:
            self._arrays |= changed
            self._fingerprint = None

    def num_parameters(self) -> int:
        """Counts trainable scalars, head and pooler included where present."""
        return self.config.num_parameters(pooler=self.has_pooler, mlm_head=self.has_mlm_head)

    def replace(self, **changes: Any) -> "Checkpoint":
        """Returns a copy with other arguments; it shares the arrays and builds its own models.

        Raises:
            InputError: The parts do not fit together.
        """
        same = {
            "config": self.config,
            "parameters": self.parameters(),
            "tokenizer": self.tokenizer,
            "source": self.source,
            "dtype": self.dtype,
            "task_head": self.task_head,
            "pooling": self.pooling,
        }
        copy = Checkpoint(**(same | changes))
        if not changes.keys() & {"config", "parameters"}:
            copy._fingerprint = self._fingerprint
        return copy

    def astype(self, dtype: Any) -> "Checkpoint":
        """Returns a copy whose layers compute under another Keras dtype policy."""
        return self.replace(dtype=dtype)

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        batch_size: int = 32,
        normalize: bool | None = None,
        max_length: int | None = None,
        show_progress: bool | None = None,
    ) -> Array:
        """Makes a vector of each text, as the model's own `pooling` says.

        Without one the last states are averaged over all tokens, with a warning. The first
        call compiles the model once for texts of all lengths; later calls use the weights of
        that moment.

        Args:
            texts: n texts, or one as a plain string.
            prompt: Name of one of the model's prompts, or a text to put before each text; ""
                for none. Default: the model's default prompt.
            batch_size: Texts at a time; those of a batch are of similar length.
            normalize: Whether vectors get length 1. Default: what the model says.
            max_length: Longer texts are cut, special tokens included. Default: the model's.
            show_progress: Whether progress is shown. Default: only of long work.

        Returns:
            Float32 `[n, D]`, in the order of the texts; a plain string is n = 1.

        Raises:
            InputError: There is no tokenizer, a text is no string, or an argument is not valid.
        """
        length = self.max_seq_length if max_length is None else max_length
        tokenizer = self.need_tokenizer(length)
        if self._embedder is None:
            if self.pooling is None:
                logging.warning(
                    "%s does not say how to make a sentence vector: the last states of all "
                    "tokens are averaged.",
                    self.source or "The model",
                )
            self._embedder = TextEmbedder(self.encoder, tokenizer, self.pooling or Pooling())
        return self._embedder.embed(
            [texts] if isinstance(texts, str) else list(texts),
            prompt=prompt,
            batch_size=batch_size,
            normalize=normalize,
            max_length=length,
            show_progress=show_progress,
        )

    @property
    def max_seq_length(self) -> int:
        """Where `embed` cuts a text: what the pooling says, else what the tokenizer does."""
        said = self.pooling.max_seq_length if self.pooling else None
        if said is None and self.tokenizer is not None:
            said = self.tokenizer.settings.get("model_max_length")
        positions = self.config.max_positions
        return int(min(said, positions)) if isinstance(said, int | float) else positions

    def need_tokenizer(self, max_length: int) -> Tokenizer:
        """Returns the tokenizer after checking that it can be used.

        Args:
            max_length: Tokens a sequence, special tokens included.

        Raises:
            InputError: There is none, or sequences of that length do not fit.
        """
        if self.tokenizer is None:
            raise InputError(
                f"{self.source or 'The model'} has no tokenizer. Put its vocab.txt or "
                "tokenizer.json into the model's directory."
            )
        positions = self.config.max_positions
        if not _MIN_LENGTH <= max_length <= positions:
            raise InputError(
                f"max_length={max_length} does not fit {self.source or 'the model'}, which has "
                f"{positions} positions. Choose a value from {_MIN_LENGTH} to {positions}."
            )
        return self.tokenizer

    def fingerprint(self) -> str:
        """SHA-256 of the configuration and of every weight, independent of file format."""
        parameters = self.parameters()  # forgets the known one where a weight has changed
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.config, parameters)
        return self._fingerprint


def _outside_graphs() -> contextlib.AbstractContextManager[Any]:
    """Lets variables be made while a function is compiled that uses the model first."""
    if backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    scope: contextlib.AbstractContextManager[Any] = tf.init_scope()
    return scope


def _frozen(value: Array) -> Array:
    """A read-only contiguous float32 view, or copy where the array is no such array.

    Contiguous, because the last bits of sums and products depend on the layout.
    """
    view = np.ascontiguousarray(value, np.float32).view()
    view.flags.writeable = False
    return view


def _value(variable: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(ops.cast(variable, "float32")))


def fingerprint(config: BertConfig, parameters: Mapping[str, Array]) -> str:
    """SHA-256 of a configuration and its weights.

    Args:
        config: The architecture.
        parameters: Float32 arrays by canonical name.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    for name in sorted(parameters):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(parameters[name]).data)
    return digest.hexdigest()
