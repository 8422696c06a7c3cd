"""The compiled training step, the same under every distribution strategy.

Forward pass, loss and gradients run in one `tf.function(jit_compile=...)` per replica;
gradients are summed over replicas, clipped by their global norm and applied outside of
it. Clipping must follow the reduction: clipping each replica's own gradient would train
differently from one device on the same global batch.

A step may train several students of one teacher, which then runs once for all of them. On
one CPU device it runs a batch ahead, beside the students: two streams of work keep all cores
busy where one would leave some idle at every operation that does not use them all.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from etd_tf.distillation.distiller import Distiller
from etd_tf.distillation.teaching import SharedTeacher
from etd_tf.modeling.layers import SEEDS_PER_PASS
from etd_tf.types import Tensor

_REPLICA_SEED, _MICRO_BATCH_SEED = 7919, 104_729  # primes, to keep the streams apart
_STREAMS = 2  # students computed at a time; more would hold more activations at once

Metrics = dict[str, Tensor]
Batch = Mapping[str, Tensor]


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


@dataclasses.dataclass(frozen=True)
class Learner:
    """One student that a step trains.

    Attributes:
        distiller: The losses and both models.
        optimizer: Already built over `variables`.
        variables: What is trained.
    """

    distiller: Distiller
    optimizer: keras.optimizers.Optimizer
    variables: Sequence[keras.Variable]


class TrainStep:
    """Runs optimizer steps of one or several distillations on the same batches.

    Args:
        learners: The students, of equal teachers.
        strategy: Where it runs.
        options: Settings, the same for all.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        *,
        strategy: tf.distribute.Strategy,
        options: StepOptions,
    ) -> None:
        self._strategy = strategy
        self._options = options
        # With micro-batches, features of the whole batch would take the memory these save.
        whole = options.micro_batches == 1
        self._ahead = whole and not options.jit_compile and _is_one_cpu(strategy)
        self._teacher: SharedTeacher | None = None
        if self._ahead or (whole and len(learners) > 1):
            self._teacher = SharedTeacher([learner.distiller for learner in learners], strategy)
            self._read = _compiled(self._teacher.read, options)
        self._learners = [_LearnerStep(one, self._teacher, strategy, options) for one in learners]
        self._next: Any = None  # batch and teacher's features of the next step
        self._many = tf.function(self._run_many, reduce_retracing=True)
        self._overlapped = tf.function(self._run_overlapped, reduce_retracing=True)
        self._fetch = tf.function(self._prepare, reduce_retracing=True)
        self._last = tf.function(self._one, reduce_retracing=True)

    def run(
        self, iterator: Any, first_step: int, count: int, *, more: bool = False
    ) -> list[dict[str, float]]:
        """Runs some steps in one call.

        Args:
            iterator: Of the batches; the same one in every call.
            first_step: Finished steps, on which learning rate and dropout depend.
            count: Steps to run.
            more: Whether further steps will follow, so that a batch may be read ahead.

        Returns:
            Means over the steps by name, for each learner.
        """
        if not self._ahead:
            step = _whole_number(first_step)
            return _means([self._many(iterator, step, _whole_number(count))], count)
        # A call for each step: calls cost nothing beside a CPU's step, and TensorFlow's graph
        # optimizer breaks a compiled loop of which one half works for the next round.
        self._next = self._next or self._fetch(iterator)
        results = []
        for offset in range(count):
            step = _whole_number(first_step + offset)
            if more or offset + 1 < count:
                result, self._next = self._overlapped(iterator, *self._next, step)
            else:
                result, self._next = self._last(*self._next, step), None
            results.append(result)
        return _means(results, count)

    def _run_many(self, iterator: Any, first_step: Tensor, count: Tensor) -> list[Metrics]:
        sums = self._one(next(iterator), [], first_step)
        for offset in tf.range(1, count):
            more = self._one(next(iterator), [], first_step + offset)
            pairs = zip(sums, more, strict=True)
            sums = [{name: ours[name] + theirs[name] for name in ours} for ours, theirs in pairs]
        return sums

    def _run_overlapped(
        self, iterator: Any, batch: Batch, taught: Sequence[Tensor], step: Tensor
    ) -> tuple[list[Metrics], Any]:
        following = self._prepare(iterator)  # neither of the two waits for the other
        return self._one(batch, taught, step), following

    def _prepare(self, iterator: Any) -> tuple[dict[str, Tensor], list[Tensor]]:
        batch = dict(next(iterator))
        return batch, self._read(batch)

    def _one(self, batch: Batch, taught: Sequence[Tensor], step: Tensor) -> list[Metrics]:
        per_replica = self._strategy.run(self._replica_step, args=(batch, taught, step))
        mean = tf.distribute.ReduceOp.MEAN
        return [
            {name: self._strategy.reduce(mean, value, axis=None) for name, value in one.items()}
            for one in per_replica
        ]

    def _replica_step(self, batch: Batch, taught: Sequence[Tensor], step: Tensor) -> list[Metrics]:
        if self._teacher is not None and not self._ahead:
            taught = self._read(batch)
        results: list[Metrics] = []
        for index, learner in enumerate(self._learners):
            earlier = results[index - _STREAMS] if index >= _STREAMS else {}
            with tf.control_dependencies(list(earlier.values())):
                results.append(learner.run(batch, taught, step))
        return results


class _LearnerStep:
    """One student's part of a step on one replica."""

    def __init__(
        self,
        learner: Learner,
        teacher: SharedTeacher | None,
        strategy: tf.distribute.Strategy,
        options: StepOptions,
    ) -> None:
        self._distiller, self._optimizer = learner.distiller, learner.optimizer
        self._variables = list(learner.variables)
        self._teacher = teacher
        self._replicas = strategy.num_replicas_in_sync
        self._options = options
        self._forward_backward = _compiled(self._loss_and_gradients, options)

    def run(self, batch: Batch, taught: Sequence[Tensor], step: Tensor) -> Metrics:
        """Computes gradients, reduces and clips them, and updates the weights."""
        context, replicas = tf.distribute.get_replica_context(), self._replicas
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        seed = tf.stack([self._options.seed + _REPLICA_SEED * replica, step * SEEDS_PER_PASS])
        scale = tf.convert_to_tensor(self._optimizer.scale_loss(tf.constant(1.0)))
        metrics, gradients = self._accumulate(batch, taught, seed, scale)
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
        self, batch: Batch, taught: Sequence[Tensor], seed: Tensor, scale: Tensor
    ) -> tuple[Metrics, list[Tensor]]:
        """Means of metrics and gradients over the micro-batches."""
        parts = self._options.micro_batches
        if parts == 1:
            return self._forward_backward(dict(batch), list(taught), seed, scale)
        split = {name: tf.split(value, parts) for name, value in batch.items()}
        metrics, gradients = self._forward_backward(
            {name: pieces[0] for name, pieces in split.items()}, [], seed, scale
        )
        for index in range(1, parts):
            # One after the other: running them side by side would save no memory.
            with tf.control_dependencies(gradients):
                piece = {name: tf.identity(pieces[index]) for name, pieces in split.items()}
                shift = tf.constant([index * _MICRO_BATCH_SEED, 0])
                more, addends = self._forward_backward(piece, [], seed + shift, scale)
            metrics = {name: metrics[name] + more[name] for name in metrics}
            gradients = [a + b for a, b in zip(gradients, addends, strict=True)]
        return (
            {name: value / parts for name, value in metrics.items()},
            [gradient / parts for gradient in gradients],
        )

    def _loss_and_gradients(
        self, batch: Batch, taught: Sequence[Tensor], seed: Tensor, scale: Tensor
    ) -> tuple[Metrics, list[Tensor]]:
        teacher = None if self._teacher is None else self._teacher.restore(taught)
        with tf.GradientTape() as tape:
            loss, terms = self._distiller.distillation_loss(
                batch, training=True, dropout_seed=seed, teacher=teacher
            )
            scaled = loss * scale
        gradients = tape.gradient(scaled, [variable.value for variable in self._variables])
        # Dense, because the norm of row slices counts a repeated token's rows one by one.
        return {"loss": loss, **terms}, [tf.convert_to_tensor(g) for g in gradients]


def _compiled(function: Any, options: StepOptions) -> Any:
    return tf.function(
        function, autograph=False, jit_compile=options.jit_compile, reduce_retracing=True
    )


def _whole_number(value: int) -> Tensor:
    """An int32 scalar, by way of NumPy: TensorFlow keeps a tensor of every Python number."""
    return tf.constant(np.int32(value))


def _is_one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether all work is on one device that is a CPU; others run one stream anyway."""
    with strategy.scope():
        alone = not tf.distribute.has_strategy()
    return alone and not tf.config.list_logical_devices("GPU")


def _means(results: Sequence[Sequence[Metrics]], count: int) -> list[dict[str, float]]:
    """For each learner, the sums over calls divided by the number of steps."""
    return [
        {name: sum(float(part[name]) for part in parts) / count for name in parts[0]}
        for parts in zip(*results, strict=True)
    ]
