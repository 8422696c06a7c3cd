"""The sizes and constants that define a BERT encoder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etd_tf.errors import InputError
from etd_tf.modeling.structure import Sizes, count_parameters, layer_flops

_ACTIVATION_ALIASES = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "relu": "relu",
}

# Our field name -> its name in a Hugging Face `config.json`. Google's
# `bert_config.json` uses the same names for the fields it has.
_HUGGINGFACE_NAMES = {
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "hidden_act": "hidden_act",
    "layer_norm_epsilon": "layer_norm_eps",
    "hidden_dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "pad_token_id": "pad_token_id",
}
_NOT_IN_GOOGLE = ("layer_norm_epsilon", "pad_token_id")
_MAX_LAYERS = 1000  # a configuration is untrusted, and names are listed layer by layer
_MAX_WHOLE = 1 << 53  # larger whole numbers are no floats
_REQUIRED = ("vocab_size", "num_layers", "hidden_size", "num_heads", "intermediate_size")


@dataclasses.dataclass(frozen=True)
class BertConfig(Sizes):
    """Architecture of a post-LayerNorm BERT encoder.

    Attributes:
        vocab_size: Number of word pieces, V.
        num_layers: Transformer layers, L.
        hidden_size: Width of the residual stream, H = num_heads * head_size.
        num_heads: Attention heads of each layer, N.
        intermediate_size: Inner width of the feed-forward block, F.
        max_positions: Longest sequence the position table covers.
        type_vocab_size: Rows of the segment table; 1 for models without segments.
        hidden_act: `"gelu"` (exact, erf), `"gelu_new"` (tanh form) or `"relu"`.
        layer_norm_epsilon: Added to the variance in every LayerNorm.
        hidden_dropout: Dropout rate of embeddings and block outputs in training.
        attention_dropout: Dropout rate of attention probabilities in training.
        pad_token_id: Token id that fills short sequences.

    Raises:
        InputError: A size is not positive, there are more than 1000 layers,
            `hidden_size` is not a multiple of `num_heads`, a rate or `pad_token_id` is
            out of range, or the activation is unknown.
    """

    hidden_act: str = "gelu"
    layer_norm_epsilon: float = 1e-12
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        sizes = (*_REQUIRED, "max_positions", "type_vocab_size")
        for name in sizes:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"BertConfig {name}={value!r} is not a positive integer.")
        if self.num_layers > _MAX_LAYERS:
            raise InputError(
                f"BertConfig num_layers={self.num_layers} is more than {_MAX_LAYERS}; "
                "check the configuration."
            )
        self._check_heads()
        if self.hidden_act not in _ACTIVATION_ALIASES:
            raise InputError(
                f"BertConfig hidden_act={self.hidden_act!r} is not supported. "
                f"Supported activations: {', '.join(sorted(_ACTIVATION_ALIASES))}."
            )
        object.__setattr__(self, "hidden_act", _ACTIVATION_ALIASES[self.hidden_act])
        for name in ("hidden_dropout", "attention_dropout"):
            rate = getattr(self, name)
            if not 0.0 <= rate < 1.0:
                raise InputError(f"BertConfig {name}={rate!r} is outside [0, 1).")
        if not 0.0 < self.layer_norm_epsilon < 1.0:
            raise InputError(
                f"BertConfig layer_norm_epsilon={self.layer_norm_epsilon!r} is outside (0, 1)."
            )
        if not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(
                f"BertConfig pad_token_id={self.pad_token_id!r} is outside "
                f"[0, vocab_size={self.vocab_size})."
            )

    def _check_heads(self) -> None:
        if self.hidden_size % self.num_heads == 0:
            return
        lower = self.hidden_size // self.num_heads * self.num_heads
        upper = lower + self.num_heads
        nearest = f"{lower} or {upper}" if lower else str(upper)
        raise InputError(
            f"hidden_size={self.hidden_size} is not a multiple of num_heads={self.num_heads}. "
            "BERT checkpoints need hidden_size == num_heads * head_size. "
            f"Nearest sizes that work: {nearest}; or change num_heads."
        )

    @property
    def head_size(self) -> int:
        """Channels of one attention head, D."""
        return self.hidden_size // self.num_heads

    def replace(self, **changes: Any) -> "BertConfig":
        """Returns a copy with some fields changed and everything checked again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a plain dictionary, readable by `BertConfig(**d)`."""
        return dataclasses.asdict(self)

    def num_parameters(self, *, pooler: bool = True, mlm_head: bool = False) -> int:
        """Counts trainable scalars.

        Args:
            pooler: Count the pooler's dense layer.
            mlm_head: Count the masked-LM head (its output embedding is tied).
        """
        return count_parameters(self, pooler=pooler, mlm_head=mlm_head)

    def flops(self, sequence_length: int) -> int:
        """Floating-point operations of one forward pass over one sequence, padding included.

        A multiply-add counts as 2. Embeddings, LayerNorm, softmax, biases, pooler and
        heads are left out, as in TinyBERT's table 1 (Jiao et al. 2019).

        Returns:
            L * [2T(4*H*A + 2*H*F) + 4*T*T*A] with attention width A = H.
        """
        return self.num_layers * layer_flops(self, sequence_length)

    @classmethod
    def from_huggingface(cls, values: Mapping[str, Any]) -> "BertConfig":
        """Reads the mapping of a Hugging Face `config.json` of type `bert`.

        Args:
            values: The parsed JSON object; unknown keys are ignored.

        Raises:
            InputError: A required key is missing or a value has the wrong type.
        """
        return cls._from_names(values, _HUGGINGFACE_NAMES, "Hugging Face config.json")

    @classmethod
    def from_google(
        cls, values: Mapping[str, Any], *, hidden_act: str | None = None
    ) -> "BertConfig":
        """Reads the mapping of Google's `bert_config.json`.

        Google writes `gelu` for both forms: the code computed erf until February 2019
        and the tanh form since. The exact form is the default here.

        Args:
            values: The parsed JSON object.
            hidden_act: Activation to use instead of the file's.

        Raises:
            InputError: As for `from_huggingface`.
        """
        names = {k: v for k, v in _HUGGINGFACE_NAMES.items() if k not in _NOT_IN_GOOGLE}
        config = cls._from_names(values, names, "bert_config.json")
        return config if hidden_act is None else config.replace(hidden_act=hidden_act)

    @classmethod
    def _from_names(
        cls, values: Mapping[str, Any], names: Mapping[str, str], what: str
    ) -> "BertConfig":
        if not isinstance(values, Mapping):
            raise InputError(f"{what} holds a {type(values).__name__}, expected a JSON object.")
        missing = [names[field] for field in _REQUIRED if values.get(names[field]) is None]
        if missing:
            raise InputError(
                f"{what} lacks {', '.join(missing)}; it does not describe a BERT model."
            )
        fields = {f.name: f for f in dataclasses.fields(cls)}
        arguments: dict[str, Any] = {}
        for field, name in names.items():
            value = values.get(name)
            if value is not None:
                arguments[field] = _coerce(value, fields[field].type, name, what)
        return cls(**arguments)

    def to_huggingface(self) -> dict[str, Any]:
        """Returns the architecture part of a Hugging Face `config.json` of type `bert`."""
        values = {theirs: getattr(self, ours) for ours, theirs in _HUGGINGFACE_NAMES.items()}
        fixed = {"position_embedding_type": "absolute", "initializer_range": 0.02}
        return {"model_type": "bert", **values, **fixed}  # some readers need the range

    def to_google(self) -> dict[str, Any]:
        """Returns the content of Google's `bert_config.json`; epsilon has no place there."""
        values = {theirs: getattr(self, ours) for ours, theirs in _HUGGINGFACE_NAMES.items()}
        for ours in _NOT_IN_GOOGLE:
            del values[_HUGGINGFACE_NAMES[ours]]
        return values


def _coerce(value: Any, kind: Any, name: str, what: str) -> Any:
    """Checks one JSON value against a field type; integers are legal floats."""
    if kind is float and type(value) is int and abs(value) <= _MAX_WHOLE:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise InputError(f"{what}: {name}={value!r} is not of type {kind.__name__}.")
    return value
