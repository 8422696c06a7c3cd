"""TinyBERT's losses: attention scores, hidden states and embeddings.

Source: Jiao et al. 2019, "TinyBERT: Distilling BERT for Natural Language Understanding"
(arXiv 1909.10351), equations 7 to 9.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etd_tf.errors import InputError
from etd_tf.lazy import keras, ops
from etd_tf.losses.base import Features, Loss, ModelSpec, layer_index, positive_weights
from etd_tf.losses.reductions import (
    check_same_shape,
    constant,
    masked_mean,
    mean_over_tokens,
    to_float32,
)
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.layer_map import layer_map
from etd_tf.settings import setting
from etd_tf.types import Array, Tensor

_HEADS_FIX = (
    "Use MiniLMv2, whose relation heads fit any two models; a student with the teacher's "
    "number of heads; or attention_weight=0."
)


def attention_score_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error between attention scores of real positions.

    Args:
        student: Float `[B, N, T, T]` (query, key), divided by sqrt(D), before mask,
            softmax and dropout.
        teacher: Same shape; gets no gradient.
        mask: `[B, T]`, 1 for real tokens. Padded queries and keys do not count.

    Returns:
        Float32 scalar: the mean over heads and real pairs of each example, then over the
        batch.

    Raises:
        InputError: The shapes differ.

    Source: Jiao et al. 2019, equation 7.
    """
    check_same_shape(student, teacher, "attention scores", _HEADS_FIX)
    difference = ops.subtract(to_float32(student), constant(teacher))
    # Heads go first: masking then works on [B, T, T] instead of N times as much.
    squares = ops.mean(ops.square(difference), axis=1)
    return mean_over_tokens(masked_mean(squares, mask[:, None, :]), mask)


def hidden_state_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error between hidden states (or embeddings) of real tokens.

    Args:
        student: Float `[B, T, H]`, already projected to the teacher's width.
        teacher: Same shape; gets no gradient.
        mask: `[B, T]`, 1 for real tokens.

    Returns:
        Float32 scalar: the mean over channels and real tokens of each example, then over
        the batch.

    Raises:
        InputError: The shapes differ.

    Source: Jiao et al. 2019, equations 8 and 9.
    """
    check_same_shape(student, teacher, "hidden states", "Project the student's to that width.")
    difference = ops.subtract(to_float32(student), constant(teacher))
    return mean_over_tokens(ops.mean(ops.square(difference), axis=-1), mask)


@dataclasses.dataclass(frozen=True)
class TinyBERT(Loss):
    """Attention-score, hidden-state and embedding losses of TinyBERT.

    The student's states are projected to the teacher's width by one dense layer with bias,
    shared by all layers and the embeddings and trained along; it starts as the selection
    matrix of an extracted student (every channel on the one it was cut from), else with
    Glorot's initialisation.

    Args:
        layers: `"last"` compares the last layers only; `"all"` compares every student
            layer m with teacher layer m * L / L'; a sequence, or text such as `"0,4,6"`, names
            the teacher layer (1 to L) of each student layer, 0 for a layer that is compared
            with none. Terms of several layers are summed.
        attention_weight: Weight of the attention-score term; 0 leaves it out.
        hidden_weight: Weight of the hidden-state term.
        embedding_weight: Weight of the embedding term; None means 1 where all layers are
            compared and 0 where only the last ones are.

    Raises:
        InputError: A weight or `layers` is not valid.

    Source: Jiao et al. 2019 (arXiv 1909.10351), equation 11; last layer only as in Wang et
    al. 2020 (arXiv 2002.10957), section 4.4, which found it better.
    """

    name = "tinybert"
    summary = "attention scores and hidden states"

    layers: str | tuple[int, ...] = setting(
        "last",
        "Layers of the tinybert loss: last, all (with embeddings), or the teacher's layer for "
        "each of the student's, counted from 1, such as 0,4,6; 0 leaves one out.",
        flag="tinybert_layers",
    )
    _: dataclasses.KW_ONLY
    attention_weight: float = setting(1.0, "Weight of the attention scores.", flag="", least=0.0)
    hidden_weight: float = setting(1.0, "Weight of the hidden states.", flag="", least=0.0)
    embedding_weight: float | None = setting(
        None, "Weight of the embeddings; default: 1 with all layers, else 0.", flag="", least=0.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers in ("last", "all"):
            return
        listed = self.layers.split(",") if isinstance(self.layers, str) else self.layers
        try:
            layers = tuple(int(layer) for layer in listed)
        except ValueError:
            layers = ()
        if not any(layers):
            raise InputError(
                f"TinyBERT layers={self.layers!r} compares no layer. Pass layers='last', 'all', or "
                "a teacher layer for each layer of the student, such as '0,4,6'; 0 leaves one out."
            )
        object.__setattr__(self, "layers", layers)

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of attention_loss, hidden_loss and embedding_loss, where positive."""
        embedding = self.embedding_weight
        if embedding is None:
            embedding = 0.0 if self.layers == "last" else 1.0
        return positive_weights(
            attention_loss=self.attention_weight,
            hidden_loss=self.hidden_weight,
            embedding_loss=embedding,
        )

    def layer_pairs(self, teacher_layers: int, student_layers: int) -> list[tuple[int, int]]:
        """Lists the compared layers.

        Returns:
            Pairs (teacher index, student index), from 0.

        Raises:
            InputError: `layers` does not fit the two models.
        """
        if self.layers == "last":
            return [(teacher_layers - 1, student_layers - 1)]
        if self.layers == "all":
            chosen: Sequence[int] = layer_map(teacher_layers, student_layers)
        else:
            chosen = [int(layer) for layer in self.layers]
        if len(chosen) != student_layers:
            raise InputError(
                f"TinyBERT layers={self.layers} names {len(chosen)} teacher layers, but the "
                f"student has {student_layers} layers. Name one teacher layer for each."
            )
        return [(layer_index(t, teacher_layers, "layers"), s) for s, t in enumerate(chosen) if t]

    def validate(self, teacher: ModelSpec, student: ModelSpec) -> None:
        """Checks head counts and layers; see the base class."""
        if self.layers == "all" and student.config.num_layers > teacher.config.num_layers:
            raise InputError(
                f"TinyBERT layers='all' cannot map {student.config.num_layers} student layers "
                f"to {teacher.config.num_layers} teacher layers. Use layers='last'."
            )
        self.layer_pairs(teacher.config.num_layers, student.config.num_layers)
        heads = (teacher.config.num_heads, student.config.num_heads)
        if "attention_loss" in self.term_weights and heads[0] != heads[1]:
            raise InputError(
                f"TinyBERT's attention loss compares head with head, but the teacher has "
                f"{heads[0]} heads and the student {heads[1]}. {_HEADS_FIX}"
            )

    def projections(
        self, teacher: BertConfig, student: BertConfig, selection: Array | None
    ) -> dict[str, Any]:
        """Creates the shared dense layer from student to teacher width."""
        from etd_tf.modeling.layers import Dense

        if self.term_weights.keys() <= {"attention_loss"}:
            return {}
        shape = (student.hidden_size, teacher.hidden_size)
        start = keras.initializers.GlorotUniform()
        kernel = start(shape, dtype="float32") if selection is None else selection
        if tuple(kernel.shape) != shape:
            raise InputError(
                f"The selection matrix has shape {tuple(kernel.shape)}; a student of width "
                f"{shape[0]} and a teacher of width {shape[1]} need {shape}. Pass the plan "
                "that this student was extracted with."
            )
        projection = Dense(*shape, dtype="float32", name="hidden_projection")
        projection.kernel.assign(kernel)
        return {"hidden": projection}

    def compute_terms(
        self, teacher: Features, student: Features, projections: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Computes the terms of positive weight; see the base class."""
        ours, theirs = student.trace, teacher.trace
        mask = ours.padding_mask
        pairs = self.layer_pairs(len(theirs.hidden_states), len(ours.hidden_states))
        terms: dict[str, list[Tensor]] = {name: [] for name in self.term_weights}
        for t, s in pairs:
            if "attention_loss" in terms:
                terms["attention_loss"].append(
                    attention_score_loss(ours.attention_scores[s], theirs.attention_scores[t], mask)
                )
            if "hidden_loss" in terms:
                projected = projections["hidden"](ours.hidden_states[s])
                terms["hidden_loss"].append(
                    hidden_state_loss(projected, theirs.hidden_states[t], mask)
                )
        if "embedding_loss" in terms:
            projected = projections["hidden"](ours.embedding_output)
            terms["embedding_loss"].append(
                hidden_state_loss(projected, theirs.embedding_output, mask)
            )
        return {name: ops.sum(ops.stack(values)) for name, values in terms.items()}
