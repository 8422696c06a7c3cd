"""What a distillation loss reads, and the interface between losses and the Distiller."""

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from etd_tf.errors import InputError
from etd_tf.lazy import ops
from etd_tf.modeling.config import BertConfig
from etd_tf.settings import Settings, setting
from etd_tf.types import Array, Tensor

if TYPE_CHECKING:
    from etd_tf.modeling.encoder import EncoderTrace
    from etd_tf.modeling.pooling import Pooling


class ModelSpec(NamedTuple):
    """What a loss must know about a model before anything runs.

    Attributes:
        config: Its architecture.
        mlm_head: Whether it has a masked-LM head.
        pooling: How it, or its teacher, makes one vector of a text; None for the mean of its
            states.
    """

    config: BertConfig
    mlm_head: bool = False
    pooling: "Pooling | None" = None

    @property
    def vector_size(self) -> int:
        """Numbers of a sentence vector."""
        from etd_tf.modeling.pooling import Pooling

        pooling, width = self.pooling or Pooling(), self.config.hidden_size
        if not pooling.fits(width):  # a student's, without the teacher's dense layers
            pooling = dataclasses.replace(pooling, dense=())
        return pooling.dimension(width)


class Features(NamedTuple):
    """What one model computed for a batch.

    Attributes:
        trace: All internal states of the encoder; None of a teacher that did not run, because
            losses read its vectors alone.
        mlm_logits: Float32 `[B, P, V]` at the masked positions; None unless a loss needs it.
        mlm_labels: Int32 `[B, P]`, the original token ids there.
        mlm_weights: `[B, P]`, 1 for masked positions, 0 for filling.
        vectors: Float32 `[B, D]`, its sentence vectors, of any length; zeros for rows that are
            all padding. None unless a loss needs them.
        mapped: The student's sentence vectors in the teacher's space, of the teacher's D.
    """

    trace: "EncoderTrace | Any"
    mlm_logits: Tensor | None = None
    mlm_labels: Tensor | None = None
    mlm_weights: Tensor | None = None
    vectors: Tensor | None = None
    mapped: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Loss(Settings, abc.ABC):
    """Base of the losses that `etd_tf.Distiller` takes.

    A loss is a weighted sum of named terms, each a pure function of the features of both
    models. Its fields are its options; those with a flag are flags of the commands. Keras'
    own distillation losses see model outputs only, which for encoders of unequal width
    cannot be compared.

    Attributes:
        name: Its name in `etd_tf.losses.LOSSES` and on the command line.
        summary: One phrase for help pages: what is compared.
        terms: Names of its terms where each has the weight 1.
        needs_teacher: Whether it reads the teacher's features at all.
        needs_mlm: Whether it reads masked-LM logits, labels and weights.
        needs_internals: Whether it reads more of the teacher than its sentence vectors: states
            or logits. Losses that do not can train on vectors that were computed once.
        needs_vectors: Whether it reads sentence vectors, of which only the directions count.
        needs_map: Whether it compares states or vectors of the student with those of the
            teacher. Where the widths differ, the losses that do so share one map, which is
            then also the projection named `"map"`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    terms: ClassVar[tuple[str, ...]] = ()
    needs_teacher: ClassVar[bool] = True
    needs_mlm: ClassVar[bool] = False
    needs_internals: ClassVar[bool] = True
    needs_vectors: ClassVar[bool] = False
    needs_map: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.term_weights:
            raise InputError(f"All weights of {type(self).__name__} are 0; set at least one.")

    @property
    def term_weights(self) -> dict[str, float]:
        """Weight of each term by name; terms of weight 0 are absent and never computed."""
        return dict.fromkeys(self.terms, 1.0)

    @abc.abstractmethod
    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks that the loss is defined for two models.

        Raises:
            InputError: It is not; the message names the ways out.
        """

    @abc.abstractmethod
    def compute_terms(
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the unweighted terms.

        Args:
            teacher: The teacher's features; not to be read where `needs_teacher` is False.
            student: The student's features for the same batch.
            projections: The layers that `projections` made.

        Returns:
            Float32 scalars, with the keys of `term_weights`.
        """

    def projections(
        self, teacher: BertConfig, student: BertConfig, selection: Array | None
    ) -> dict[str, Any]:
        """Creates the layers to be trained along with the student and then dropped.

        Args:
            teacher: The teacher's architecture.
            student: The student's architecture.
            selection: `[H', H]` matrix that maps student channels to the teacher channels
                they were cut from, or None for a student that was not extracted.

        Returns:
            Keras layers by name; most losses need none.
        """
        del teacher, student, selection
        return {}

    def compute_loss(
        self,
        teacher: Any,
        student: Features,
        projections: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Computes the weighted sum of all terms.

        Args:
            teacher: The teacher's features; None only where `needs_teacher` is False.
            student: The student's features for the same batch.
            projections: The layers that `projections` made, if any.

        Returns:
            Float32 scalar.

        Raises:
            InputError: The teacher's features are missing.
        """
        if teacher is None and self.needs_teacher:
            raise InputError(f"{type(self).__name__} needs the teacher's features.")
        return self.weighted_sum(self.compute_terms(teacher, student, projections or {}))

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Sums unweighted terms, each times its weight; a float32 scalar."""
        total = ops.convert_to_tensor(0.0, dtype="float32")
        for name, value in terms.items():
            total = ops.add(total, ops.multiply(value, self.term_weights[name]))
        return total

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Refuses `keras.distillation.Distiller`, which calls this."""
        raise InputError(
            f"{type(self).__name__} reads internal states of BERT encoders, which "
            "keras.distillation.Distiller does not compute. Use etd_tf.Distiller."
        )


def read_vectors_alone(losses: Iterable[Loss]) -> bool:
    """Whether losses read sentence vectors of the teacher and nothing else of it."""
    reading = [loss for loss in losses if loss.needs_teacher]
    return bool(reading) and not any(loss.needs_internals for loss in reading)


def positive_weights(**weights: float) -> dict[str, float]:
    """Drops weights of 0."""
    return {name: float(value) for name, value in weights.items() if value > 0.0}


def layer_index(layer: int, num_layers: int, name: str) -> int:
    """Turns a layer number into an index.

    Args:
        layer: 1..L from the embeddings upwards, or -1..-L from the last layer downwards.
        num_layers: L.
        name: The argument's name, for the message.

    Returns:
        0..L-1.

    Raises:
        InputError: There is no such layer.
    """
    if layer == 0 or not -num_layers <= layer <= num_layers:
        raise InputError(
            f"{name}={layer} does not exist in a model of {num_layers} layers. Layers are "
            f"1 to {num_layers} from below, or -1 (the last) to -{num_layers} from above."
        )
    return layer - 1 if layer > 0 else num_layers + layer


def dims_setting() -> Any:
    """Declares the parts of sentence vectors that a loss compares on their own."""
    return setting(
        (),
        "Compare also the first so many numbers of sentence vectors, e.g. 192,96.",
        least=1,
        distinct=True,
    )


def check_dims(dims: Sequence[int], size: int, who: str) -> None:
    """Refuses parts of sentence vectors that are no parts.

    Raises:
        InputError: A part is as long as the vector, or longer.
    """
    if dims and max(dims) >= size:
        raise InputError(
            f"matryoshka={','.join(map(str, dims))}: the {who}'s sentence vectors have {size} "
            "numbers, and all of them are compared anyway. Give smaller numbers."
        )


def check_mlm_head(model: ModelSpec, who: str, what: str) -> None:
    """Refuses a model, the teacher or the student, without masked-LM head."""
    if not model.mlm_head:
        raise InputError(
            f"{what} needs a masked-LM head, but the {who} has none. Use a checkpoint with "
            "one, or a loss that needs none, such as minilmv2."
        )
