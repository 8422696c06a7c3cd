"""The fine-tuning loop: AdamW over batches of similar length."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from etd_tf.errors import DivergenceError
from etd_tf.evaluation.options import MAX_SEED
from etd_tf.modeling.layers import SEEDS_PER_PASS
from etd_tf.progress import track
from etd_tf.tokenization.sequences import Sequences
from etd_tf.training.optimization import WarmupLinearDecay, make_optimizer
from etd_tf.types import Array, IntArray, Tensor

Loss = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""Maps the model's outputs and a batch (inputs and labels) to a scalar."""

Step = Callable[..., Tensor]

_POOL_BATCHES = 50  # batches sorted by length together
_CHECK_EVERY = 20  # steps between looks at the loss
_CURVE_POINTS = 50


@dataclasses.dataclass(frozen=True)
class WordTable:
    """Vectors of words by the tokens that stand for them; only what a batch needs is padded.

    Attributes:
        vectors: Float32 `[words, ...]`.
        places: Word of each token, `[n, T]`; negative where there is none.
    """

    vectors: Array
    places: Array

    def __getitem__(self, rows: IntArray) -> "WordTable":
        return WordTable(self.vectors, self.places[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The vectors `[n, T, ...]`, NaN where there is no word."""
        found = self.vectors[np.maximum(self.places, 0)]
        found[self.places < 0] = np.nan
        return found if dtype is None else found.astype(dtype)


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Labelled sequences.

    Attributes:
        sequences: n sequences.
        labels: Arrays `[n]` or `[n, ...]` by name, or tables that become such.
    """

    sequences: Sequences
    labels: Mapping[str, Array | WordTable]

    def __len__(self) -> int:
        return len(self.sequences)

    def take(self, rows: IntArray) -> "TrainingSet":
        """Returns the examples at the given positions, in that order."""
        return TrainingSet(
            self.sequences.take(rows), {name: value[rows] for name, value in self.labels.items()}
        )

    def reading(self, names: Collection[str]) -> "TrainingSet":
        """Returns the same examples with some of the labels."""
        return TrainingSet(self.sequences, {name: self.labels[name] for name in names})

    def joined(self, other: "TrainingSet") -> "TrainingSet":
        """Returns these examples and, behind them, others with the same kinds of labels."""
        return TrainingSet(
            self.sequences.joined(other.sequences),
            {name: np.concatenate([self.labels[name], other.labels[name]]) for name in self.labels},
        )

    def batch(self, rows: IntArray) -> dict[str, Array]:
        """Pads some examples; inputs `[B, T]` and labels `[B]` in one dictionary."""
        labels = {name: np.asarray(value[rows]) for name, value in self.labels.items()}
        return {**self.sequences.batch(rows), **labels}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Length and step size of one training.

    Attributes:
        learning_rate: Its peak.
        seed: Seed of batches and dropout.
        epochs: Passes over the data.
        batch_size: Examples a step.
        warmup_ratio: Share of the steps in which the learning rate rises.
    """

    learning_rate: float
    seed: int
    epochs: int = 3
    batch_size: int = 32
    warmup_ratio: float = 0.1

    def learning_rates(self, steps: int) -> Array:
        """Learning rate of each step, `[steps]`: linear warm-up, then linear decay."""
        warmup = math.ceil(self.warmup_ratio * steps)
        schedule = WarmupLinearDecay(self.learning_rate, steps, warmup)
        return np.asarray(ops.convert_to_numpy(schedule(np.arange(steps))), np.float32)


def shuffled_batches(lengths: IntArray, batch_size: int, seed: int, epoch: int) -> list[IntArray]:
    """Cuts one epoch into batches of similar length, in random order.

    Examples are shuffled, sorted by length within pools of 50 batches, and cut; the
    batches are then shuffled. Every example occurs once.

    Args:
        lengths: Tokens of each example, `[n]`.
        batch_size: B; the last batch may be smaller.
        seed: Seed of the run.
        epoch: Number of the epoch; the order is a function of both.

    Returns:
        Positions `[B]` of each batch.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    pool = batch_size * _POOL_BATCHES
    batches = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[place] for place in generator.permutation(len(batches))]


class FineTuner:
    """Trains one model again and again from given weights, compiled once.

    Args:
        model: Called with `(inputs, training=True, dropout_seed=...)`.
        loss: The training loss.
        weight_decay: Decoupled decay of everything but biases and LayerNorm weights.
        clip_norm: Largest global gradient norm.
        variables: What is trained; None for all of the model. The loss depends on each.

    Attributes:
        curve: Mean loss of each part of the last training, at most 50 of them.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        *,
        weight_decay: float = 0.01,
        clip_norm: float = 1.0,
        variables: Sequence[Any] | None = None,
    ) -> None:
        self.model = model
        self._loss = loss
        self._clip_norm = clip_norm
        self._variables = list(model.trainable_variables if variables is None else variables)
        self._optimizer = make_optimizer(0.0, weight_decay=weight_decay, variables=self._variables)
        self._steps: dict[str, Step] = {}
        self.curve: list[float] = []

    def _run_step(self, batch: Mapping[str, Tensor], seed: Tensor, learning_rate: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            outputs = self.model(batch, training=True, dropout_seed=seed)
            loss = self._loss(outputs, batch)
        gradients = tape.gradient(loss, [variable.value for variable in self._variables])
        # Dense, because the norm of row slices counts a repeated token's rows one by one.
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        clipped, _ = tf.clip_by_global_norm(dense, self._clip_norm)
        self._optimizer.learning_rate.assign(learning_rate)
        self._optimizer.apply(clipped, self._variables)
        return loss

    def _compiled(self, batch: Mapping[str, Array]) -> Step:
        """The training step for batches of any shape.

        Traced once, with no size in it: a step traced for the first batch it meets computes the
        last digits otherwise than one traced for others, and a run that goes on would show it.
        """
        kinds = {name: tf.TensorSpec([None] * v.ndim, v.dtype) for name, v in batch.items()}
        if repr(kinds) not in self._steps:
            seed, rate = tf.TensorSpec([2], tf.int32), tf.TensorSpec([], tf.float32)
            step = tf.function(self._run_step).get_concrete_function(kinds, seed, rate)
            self._steps[repr(kinds)] = step
        return self._steps[repr(kinds)]

    def fit(self, data: TrainingSet, schedule: Schedule, *, description: str) -> float:
        """Trains the model from its present weights with a fresh optimizer.

        Returns:
            Mean training loss of the last epoch.

        Raises:
            DivergenceError: The loss is not finite.
        """
        for variable in self._optimizer.variables:
            variable.assign(ops.zeros_like(variable))
        per_epoch = -(-len(data) // schedule.batch_size)
        rates = schedule.learning_rates(per_epoch * schedule.epochs)
        losses: list[Tensor] = []
        with track(description, len(rates), "steps") as tracker:
            for step, rows in enumerate(self._batches(data, schedule)):
                seed = np.asarray([schedule.seed, step * SEEDS_PER_PASS % MAX_SEED], np.int32)
                batch = data.batch(rows)
                losses.append(self._compiled(batch)(batch, seed, rates[step]))
                if step % _CHECK_EVERY == 0 or step + 1 == len(rates):
                    self._check(float(losses[-1]), step, schedule)
                tracker.advance(
                    1, f"loss {float(losses[-1]):.4f}" if step % _CHECK_EVERY == 0 else ""
                )
        values = np.asarray([float(loss) for loss in losses])
        parts = np.array_split(values, min(len(values), _CURVE_POINTS))
        self.curve = [float(np.mean(part)) for part in parts]
        return float(np.mean(values[-per_epoch:]))

    @staticmethod
    def _batches(data: TrainingSet, schedule: Schedule) -> Iterator[IntArray]:
        lengths = data.sequences.lengths
        for epoch in range(schedule.epochs):
            yield from shuffled_batches(lengths, schedule.batch_size, schedule.seed, epoch)

    @staticmethod
    def _check(loss: float, step: int, schedule: Schedule) -> None:
        if not math.isfinite(loss):
            raise DivergenceError(
                f"The loss is {loss} at step {step + 1} with learning rate "
                f"{schedule.learning_rate:g}, seed {schedule.seed}. Choose a lower learning rate."
            )
