"""The Checkpoint: what every stage takes and returns."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from etd_tf.errors import InputError
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.encoder import BertEncoder
from etd_tf.modeling.heads import MaskedLMHead
from etd_tf.modeling.parameters import get_parameters, set_parameters
from etd_tf.modeling.structure import check_parameters, parameter_shapes
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Parameters


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An encoder with what belongs to it; nothing else passes between stages.

    Attributes:
        encoder: The encoder.
        mlm_head: Its masked-LM head, or None.
        tokenizer: Its tokenizer, or None.
        source: Where it came from, for messages and reports.
    """

    encoder: BertEncoder
    mlm_head: MaskedLMHead | None = None
    tokenizer: Tokenizer | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.tokenizer is None or self.tokenizer.vocab_size <= self.config.vocab_size:
            return
        raise InputError(
            f"The tokenizer of {self.source or 'the checkpoint'} has "
            f"{self.tokenizer.vocab_size} tokens, but the model's vocab_size is "
            f"{self.config.vocab_size}. Use the tokenizer that belongs to the model."
        )

    @classmethod
    def from_parameters(
        cls,
        config: BertConfig,
        parameters: Mapping[str, np.ndarray],
        *,
        tokenizer: Tokenizer | None = None,
        source: str = "",
        dtype: Any = None,
    ) -> "Checkpoint":
        """Builds a checkpoint from arrays.

        Whether there is a pooler and a masked-LM head follows from the names present.

        Args:
            config: The architecture.
            parameters: Arrays by canonical name (see `parameter_shapes`).
            tokenizer: The tokenizer, if any.
            source: Where the arrays came from.
            dtype: Keras dtype policy of the model to build.

        Returns:
            The checkpoint.

        Raises:
            InputError: The arrays do not fit the configuration.
        """
        pooler = "pooler.kernel" in parameters
        has_head = "mlm.dense.kernel" in parameters
        check_parameters(parameters, parameter_shapes(config, pooler=pooler, mlm_head=has_head))
        encoder = BertEncoder(config, pooler=pooler, dtype=dtype)
        mlm_head = MaskedLMHead(config, dtype=dtype) if has_head else None
        set_parameters(parameters, encoder, mlm_head)
        return cls(encoder, mlm_head, tokenizer, source)

    @property
    def config(self) -> BertConfig:
        """The encoder's configuration."""
        return self.encoder.config

    @property
    def has_pooler(self) -> bool:
        """Whether the encoder has a pooler."""
        return self.encoder.pooler is not None

    def parameters(self) -> Parameters:
        """Copies all weights into float32 NumPy arrays by canonical name."""
        return get_parameters(self.encoder, self.mlm_head)

    def num_parameters(self) -> int:
        """Counts trainable scalars, head and pooler included where present."""
        return self.config.num_parameters(
            pooler=self.has_pooler, mlm_head=self.mlm_head is not None
        )

    def astype(self, dtype: Any) -> "Checkpoint":
        """Returns a copy whose layers compute under another Keras dtype policy."""
        return Checkpoint.from_parameters(
            self.config,
            self.parameters(),
            tokenizer=self.tokenizer,
            source=self.source,
            dtype=dtype,
        )

    def fingerprint(self) -> str:
        """SHA-256 of the configuration and of every weight, independent of file format."""
        return fingerprint(self.config, self.parameters())


def fingerprint(config: BertConfig, parameters: Mapping[str, np.ndarray]) -> str:
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
