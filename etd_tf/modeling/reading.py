"""What a head for whole texts reads of the encoder, and how it reads a pair of texts."""

import dataclasses

from etd_tf.errors import InputError
from etd_tf.lazy import ops
from etd_tf.types import Tensor

POOLS = {
    "pooled": "the pooler's output, as in BERT",
    "mean": "the mean of all tokens' last states",
    "first": "the first token's last state",
}
"""Which vector of a text the head reads."""

PAIRS = {
    "joint": "both texts in one sequence",
    "twin": "each text alone, and the head on u, v, |u - v| and u * v",
}
"""How a pair of texts is read."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the head of a classifier reads.

    A batch of twins is `[2B, T]`: the first texts of all pairs, then the second ones.

    Attributes:
        pool: One of `POOLS`.
        pairs: One of `PAIRS`.

    Raises:
        InputError: There is no such choice.

    Source: Devlin et al. 2018 (arXiv 1810.04805), section 4.1, for pooled and joint; Reimers and
    Gurevych 2019 (arXiv 1908.10084), section 3, for mean and twin, with u * v added.
    """

    pool: str = "pooled"
    pairs: str = "joint"

    def __post_init__(self) -> None:
        for name, known in (("pool", POOLS), ("pairs", PAIRS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name}={getattr(self, name)!r} is unknown; choose from {', '.join(known)}."
                )

    @property
    def is_usual(self) -> bool:
        """Whether it is what `BertForSequenceClassification` of Transformers reads."""
        return self == USUAL

    @property
    def is_twin(self) -> bool:
        """Whether each text of a pair is read alone."""
        return self.pairs == "twin"

    @property
    def needs_pooler(self) -> bool:
        """Whether the encoder needs its pooler."""
        return self.pool == "pooled"

    def width(self, hidden_size: int) -> int:
        """Inputs of the head on an encoder of this width."""
        return hidden_size * (4 if self.is_twin else 1)

    def changes(self) -> dict[str, str]:
        """What differs from the usual."""
        usual = dataclasses.asdict(USUAL)
        return {k: v for k, v in dataclasses.asdict(self).items() if v != usual[k]}

    def describe(self) -> str:
        """What differs from the usual, for messages."""
        return ", ".join(f"{name}={value}" for name, value in self.changes().items())

    def states(self, sequence_output: Tensor, mask: Tensor) -> Tensor:
        """One state of each text: the mean, or that of the first token, which a pooler reads, too.

        Args:
            sequence_output: Last states `[N, T, H]`.
            mask: 1 for tokens and 0 for padding, `[N, T]`.

        Returns:
            `[N, H]`; the mean is float32.
        """
        if self.pool == "mean":
            from etd_tf.modeling.pooling import Pooling  # help pages do without NumPy

            return Pooling(modes=("mean",))(sequence_output, mask)
        return sequence_output[:, 0]

    def by_example(self, vectors: Tensor) -> Tensor:
        """Vectors `[N, H]` as one row an example: as they are, of twins `[B, 2, H]`."""
        if not self.is_twin:
            return vectors
        return ops.stack(ops.split(vectors, 2, axis=0), axis=1)

    def compared(self, vectors: Tensor) -> Tensor:
        """What the head gets.

        Args:
            vectors: One of each text, `[B, H]`; of twins `[2B, H]`.

        Returns:
            The vectors, of twins u, v, |u - v| and u * v in a row, `[B, 4H]`.
        """
        if not self.is_twin:
            return vectors
        u, v = ops.split(vectors, 2, axis=0)
        return ops.concatenate([u, v, ops.abs(ops.subtract(u, v)), ops.multiply(u, v)], axis=-1)


USUAL = Reading()
"""The pooled output of both texts in one sequence."""
