"""The compiled training step, the same under every distribution strategy.

Forward pass, loss and gradients run in one `tf.function(jit_compile=...)` per replica;
gradients are summed over replicas, clipped by their global norm and applied outside of
it. Clipping must follow the reduction: clipping each replica's own gradient would train
differently from one device on the same global batch.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from etd_tf.distillation.distiller import Distiller
from etd_tf.types import Tensor

_SEEDS_PER_STEP = 4096  # more than the dropouts of one forward pass
_REPLICA_SEED, _MICRO_BATCH_SEED = 7919, 104_729  # primes, to keep the streams apart

TrainFunction = Callable[[Any, Tensor, Tensor], dict[str, Tensor]]


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """Settings of one optimizer step.

    Attributes:
        seed: Seed of dropout.
        jit_compile: Compile forward, loss and gradients with XLA.
        clip_norm: Largest global gradient norm; 0 turns clipping off.
        micro_batches: Equal parts in which a replica's batch is computed, one after the
            other, to save memory (gradient accumulation).
    """

    seed: int = 0
    jit_compile: bool = False
    clip_norm: float = 1.0
    micro_batches: int = 1


class TrainStep:
    """Runs optimizer steps of a distillation.

    Args:
        distiller: The losses and both models.
        optimizer: Already built over `variables`.
        variables: What is trained.
        strategy: Where it runs.
        options: Settings.
    """

    def __init__(
        self,
        distiller: Distiller,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
        *,
        strategy: tf.distribute.Strategy,
        options: StepOptions,
    ) -> None:
        self._distiller = distiller
        self._optimizer = optimizer
        self._variables = list(variables)
        self._strategy = strategy
        self._options = options
        self._forward_backward = tf.function(
            self._loss_and_gradients,
            autograph=False,
            jit_compile=options.jit_compile,
            reduce_retracing=True,
        )
        self.run: TrainFunction = tf.function(self._run, reduce_retracing=True)

    def _run(self, iterator: Any, first_step: Tensor, count: Tensor) -> dict[str, Tensor]:
        """Runs `count` steps on the host's side of one call; returns mean metrics."""
        metrics = self._one(next(iterator), first_step)
        for offset in tf.range(1, count):
            latest = self._one(next(iterator), first_step + offset)
            metrics = {name: metrics[name] + latest[name] for name in metrics}
        return {name: value / tf.cast(count, tf.float32) for name, value in metrics.items()}

    def _one(self, batch: Mapping[str, Tensor], step: Tensor) -> dict[str, Tensor]:
        per_replica = self._strategy.run(self._replica_step, args=(batch, step))
        mean = tf.distribute.ReduceOp.MEAN
        return {
            name: self._strategy.reduce(mean, value, axis=None)
            for name, value in per_replica.items()
        }

    def _replica_step(self, batch: Mapping[str, Tensor], step: Tensor) -> dict[str, Tensor]:
        context = tf.distribute.get_replica_context()
        replicas = self._strategy.num_replicas_in_sync
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        seed = tf.stack([self._options.seed + _REPLICA_SEED * replica, step * _SEEDS_PER_STEP])
        scale = tf.convert_to_tensor(self._optimizer.scale_loss(tf.constant(1.0)))
        metrics, gradients = self._accumulate(batch, seed, scale)
        # The optimizer's own apply() sums over replicas once more, so the mean goes in.
        if replicas > 1:
            gradients = [g / replicas for g in context.all_reduce("SUM", gradients)]
        norm = tf.linalg.global_norm(gradients) / scale
        if self._options.clip_norm > 0:
            factor = self._options.clip_norm / tf.maximum(norm, self._options.clip_norm)
            gradients = [gradient * factor for gradient in gradients]
        if replicas > 1:
            gradients = [gradient / replicas for gradient in gradients]
        self._optimizer.apply(gradients, self._variables)
        return {**metrics, "gradient_norm": norm}

    def _accumulate(
        self, batch: Mapping[str, Tensor], seed: Tensor, scale: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Means of metrics and gradients over the micro-batches."""
        parts = self._options.micro_batches
        if parts == 1:
            return self._forward_backward(dict(batch), seed, scale)
        split = {name: tf.split(value, parts) for name, value in batch.items()}
        metrics, gradients = self._forward_backward(
            {name: pieces[0] for name, pieces in split.items()}, seed, scale
        )
        for index in range(1, parts):
            # One after the other: running them side by side would save no memory.
            with tf.control_dependencies(gradients):
                piece = {name: tf.identity(pieces[index]) for name, pieces in split.items()}
                shift = tf.constant([index * _MICRO_BATCH_SEED, 0])
                more, addends = self._forward_backward(piece, seed + shift, scale)
            metrics = {name: metrics[name] + more[name] for name in metrics}
            gradients = [a + b for a, b in zip(gradients, addends, strict=True)]
        return (
            {name: value / parts for name, value in metrics.items()},
            [gradient / parts for gradient in gradients],
        )

    def _loss_and_gradients(
        self, batch: Mapping[str, Tensor], seed: Tensor, scale: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        with tf.GradientTape() as tape:
            loss, terms = self._distiller.distillation_loss(batch, training=True, dropout_seed=seed)
            scaled = loss * scale
        gradients = tape.gradient(scaled, [variable.value for variable in self._variables])
        # Dense, because the norm of row slices counts a repeated token's rows one by one.
        return {"loss": loss, **terms}, [tf.convert_to_tensor(g) for g in gradients]
