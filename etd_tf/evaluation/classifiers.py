"""Task models: the encoder with one dense layer on top, its loss and what it serves."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.evaluation.task_losses import (
    classification_loss,
    regression_loss,
    span_loss,
    token_loss,
)
from etd_tf.modeling.checked_data import CheckedModel
from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.encoder import BertEncoder, EncoderTrace
from etd_tf.modeling.layers import Dense, SeedStream, activation, dropout
from etd_tf.modeling.parameters import get_parameters, set_parameters
from etd_tf.modeling.reading import USUAL, Reading
from etd_tf.types import Parameters, Tensor

_KERNEL_STDDEV = 0.02  # BERT's initializer_range
# Far beyond the seeds that the dropouts of any encoder use up in one call.
_HEAD_SEED_OFFSET = 1 << 20


class TaskModel(CheckedModel):
    """An encoder and a dense layer, built at construction.

    Args:
        config: A `BertConfig`, or the dictionary that `BertConfig.to_dict` returns.
        num_labels: C, the number of logits.
        dtype: Keras dtype policy; logits are float32 in any case.
        name: Model name.
        reading: What the layer reads; None for every token's last state.
        hidden_act: Activation of a layer of the head's own in place of the pooler; None: there is
            none.
    """

    head_name: ClassVar[str]
    """Name of the dense layer, as Hugging Face calls it."""
    model_name: ClassVar[str]
    """Name of the model where none is given."""
    drops: ClassVar[bool] = True
    """Whether there is dropout before the head."""
    serves_tokens: ClassVar[bool] = True
    """Whether who serves it needs the token ids, to understand one output a token."""

    def __init__(
        self,
        config: BertConfig | Mapping[str, Any],
        num_labels: int,
        *,
        dtype: Any = None,
        name: str | None = None,
        reading: Reading | None = None,
        hidden_act: str | None = None,
    ) -> None:
        super().__init__(dtype=dtype or "float32", name=name or self.model_name, autocast=False)
        if not isinstance(config, BertConfig):
            config = BertConfig(**config)
        self.config, self.num_labels, self.hidden_act = config, num_labels, hidden_act
        pooler = reading is not None and reading.needs_pooler and hidden_act is None
        width = config.hidden_size if reading is None else reading.width(config.hidden_size)
        self.encoder = BertEncoder(config, pooler=pooler, dtype=self.dtype_policy)
        self.output_dense = Dense(width, num_labels, dtype=self.dtype_policy, name=self.head_name)
        if hidden_act is not None:
            hidden = config.hidden_size
            self.hidden_dense = Dense(hidden, hidden, dtype=self.dtype_policy, name="head_hidden")
        self.built = True

    def call(
        self,
        inputs: Mapping[str, Tensor],
        training: bool = False,
        dropout_seed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes a batch.

        Args:
            inputs: As for `BertEncoder`; of twins `[2B, T]`.
            training: Apply dropout.
            dropout_seed: Integer tensor `[2]` that determines the dropout masks.

        Returns:
            What `named` makes of the logits.
        """
        trace = self.encoder.trace(inputs, training=training, dropout_seed=dropout_seed)
        read = self.head_input(trace, inputs)
        if training and self.drops:
            seed = self.encoder.seed_generator
            if dropout_seed is not None:
                seed = SeedStream(ops.add(dropout_seed, [0, _HEAD_SEED_OFFSET]))
            read = dropout(read, self.config.hidden_dropout, seed)
        return self.named(ops.cast(self.output_dense(read), "float32"))

    def head_input(self, trace: EncoderTrace, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the dense layer reads: every token's last state, `[B, T, H]`."""
        del inputs
        return trace.sequence_output

    @staticmethod
    def named(logits: Tensor) -> dict[str, Tensor]:
        """Names the float32 logits `[B, C]` or, of tokens, `[B, T, C]`; padding is not masked."""
        return {"logits": logits}

    @staticmethod
    @abc.abstractmethod
    def training_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The scalar that training reduces, of the model's outputs and a batch with labels."""

    @staticmethod
    def stack(outputs: Mapping[str, Tensor]) -> Tensor:
        """Joins the outputs to one tensor whose first axis is B and whose last one is C."""
        return outputs["logits"]

    def serve(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a served model computes: float32 `logits` and `probabilities`, the last axis C."""
        logits = self(inputs)["logits"]
        return {"logits": logits, "probabilities": ops.softmax(logits, axis=-1)}

    def head_variables(self) -> dict[str, Any]:
        """The head's variables: `head.kernel`, `head.bias`, and `head.hidden.` of the same."""
        layers = {"head": self.output_dense}
        if self.hidden_act is not None:
            layers["head.hidden"] = self.hidden_dense
        return {
            f"{name}.{part}": getattr(layer, part)
            for name, layer in layers.items()
            for part in ("kernel", "bias")
        }

    def get_parameters(self) -> Parameters:
        """Copies all weights: the encoder's canonical names, and those of `head_variables`."""
        arrays = {
            name: np.array(ops.convert_to_numpy(ops.cast(variable, "float32")))
            for name, variable in self.head_variables().items()
        }
        return {**get_parameters(self.encoder), **arrays}

    def set_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Assigns all weights.

        Args:
            parameters: Arrays by the names of `get_parameters`.

        Raises:
            InputError: An encoder weight is missing, left over or of another shape.
        """
        encoder = {k: v for k, v in parameters.items() if not k.startswith("head.")}
        set_parameters(encoder, self.encoder)
        for name, variable in self.head_variables().items():
            variable.assign(parameters[name])

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs: sizes and policy, no weights."""
        return {
            "config": self.config.to_dict(),
            "num_labels": self.num_labels,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="etd_tf")
class SequenceClassifier(TaskModel):
    """A vector of a text, dropout and a dense layer: one vector of logits a text, or a pair.

    Args:
        config: A `BertConfig`, or the dictionary that `BertConfig.to_dict` returns.
        num_labels: C, the number of classes; 1 for regression.
        reading: Which vector the head reads, and how a pair is read; default: the pooled output
            of both texts in one sequence. A `Reading`, or its fields in a dictionary.
        hidden_act: Activation of a layer of the head's own, which takes the place of the pooler;
            None: there is none.
        dtype: Keras dtype policy; logits are float32 in any case.
        name: Model name.

    Source: Devlin et al. 2018 (arXiv 1810.04805), section 4.1; with ReLU, Sanh et al. 2019
    (arXiv 1910.01108), whose code has such a head.
    """

    head_name, model_name = "classifier", "sequence_classifier"
    serves_tokens = False

    def __init__(
        self,
        config: BertConfig | Mapping[str, Any],
        num_labels: int,
        *,
        reading: Reading | Mapping[str, str] | None = None,
        hidden_act: str | None = None,
        dtype: Any = None,
        name: str | None = None,
    ) -> None:
        reading = reading if isinstance(reading, Reading) else Reading(**(reading or {}))
        super().__init__(
            config, num_labels, reading=reading, hidden_act=hidden_act, dtype=dtype, name=name
        )
        self.reading = reading

    @classmethod
    def of_checkpoint(
        cls, checkpoint: Checkpoint, num_labels: int, reading: Reading = USUAL, *, dtype: Any = None
    ) -> "SequenceClassifier":
        """Builds a classifier whose head has the layers that a checkpoint's head has."""
        head = checkpoint.task_head
        hidden_act = head.hidden_act if head is not None and reading == head.reading else ""
        return cls(
            checkpoint.config,
            num_labels,
            reading=reading,
            hidden_act=hidden_act or None,
            dtype=dtype,
        )

    def head_input(self, trace: EncoderTrace, inputs: Mapping[str, Tensor]) -> Tensor:
        """The vector of each text or pair, `[B, ...]`."""
        return self.reading.compared(self.vectors(trace, inputs))

    def vectors(self, trace: EncoderTrace, inputs: Mapping[str, Tensor]) -> Tensor:
        """One vector of each text `[N, H]`: the pooler's output, or its state."""
        if self.hidden_act is not None:
            act = activation(self.hidden_act, training=True)
            return self.hidden_dense(self.states(trace, inputs), act=act)
        return trace.pooled_output if self.reading.needs_pooler else self.states(trace, inputs)

    def states(self, trace: EncoderTrace, inputs: Mapping[str, Tensor]) -> Tensor:
        """One state of each text `[N, H]`: what the head, or the pooler before it, reads."""
        states = trace.sequence_output
        mask = inputs.get("padding_mask")
        mask = ops.ones(ops.shape(states)[:2]) if mask is None else mask
        return self.reading.states(states, mask)

    @staticmethod
    def training_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of classes, or squared error of the one score."""
        is_score = outputs["logits"].shape[-1] == 1
        return (regression_loss if is_score else classification_loss)(outputs, batch)

    def serve(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Float32 `logits` and `probabilities` `[B, C]`; of regression `score` `[B]`."""
        if self.num_labels == 1:
            return {"score": self(inputs)["logits"][:, 0]}
        return super().serve(inputs)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs: sizes and policy, no weights."""
        own = {"reading": dataclasses.asdict(self.reading), "hidden_act": self.hidden_act}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="etd_tf")
class TokenClassifier(TaskModel):
    """Dropout and a dense layer on every token: a vector of logits a token; see `TaskModel`.

    Source: Devlin et al. 2018 (arXiv 1810.04805), section 5.3.
    """

    head_name = model_name = "token_classifier"

    @staticmethod
    def training_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the tokens that have a class."""
        return token_loss(outputs, batch)


@keras.saving.register_keras_serializable(package="etd_tf")
class SpanClassifier(TaskModel):
    """A dense layer on every token: logits of being an answer's first or last token.

    Its arguments are those of `TaskModel` without the number of logits, which is 2.

    Source: Devlin et al. 2018 (arXiv 1810.04805), section 4.2.
    """

    head_name, model_name = "qa_outputs", "span_classifier"
    drops = False

    def __init__(
        self, config: BertConfig | Mapping[str, Any], *, dtype: Any = None, name: str | None = None
    ) -> None:
        super().__init__(config, 2, dtype=dtype, name=name)

    @staticmethod
    def named(logits: Tensor) -> dict[str, Tensor]:
        """`start_logits` and `end_logits`, float32 `[B, T]`; padding is not masked."""
        return {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}

    @staticmethod
    def training_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the answer's first and last token."""
        return span_loss(outputs, batch)

    @staticmethod
    def stack(outputs: Mapping[str, Tensor]) -> Tensor:
        """Start and end logits `[B, T, 2]`."""
        return ops.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1)

    def serve(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Float32 `start_logits` and `end_logits` `[B, T]`."""
        outputs: dict[str, Tensor] = self(inputs)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs: sizes and policy, no weights."""
        values = super().get_config()
        del values["num_labels"]
        return values


def initial_parameters(checkpoint: Checkpoint, model: TaskModel, seed: int) -> Parameters:
    """Weights to start fine-tuning from: the checkpoint's, with a fresh head.

    A checkpoint without a pooler gets a fresh one where the model needs it; a hidden layer of
    the head is kept; the masked-LM head, and a pooler that the model does not use, are left out.

    Args:
        checkpoint: The pre-trained encoder.
        model: The task model of the same configuration.
        seed: Seed of the fresh weights, which are normal with deviation 0.02.

    Returns:
        Arrays for `model.set_parameters`.
    """
    generator = np.random.default_rng(seed)
    known = checkpoint.parameters()
    if checkpoint.task_head is not None:
        known |= checkpoint.task_head.hidden_parameters()
    parameters: Parameters = {}
    for name, value in model.get_parameters().items():
        if name in known:
            parameters[name] = known[name]
        elif name.endswith("kernel"):
            fresh = generator.normal(0.0, _KERNEL_STDDEV, value.shape)
            parameters[name] = fresh.astype(np.float32)
        else:
            parameters[name] = np.zeros_like(value)
    return parameters
