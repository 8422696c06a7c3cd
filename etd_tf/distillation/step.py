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
from etd_tf.losses.base import Features
from etd_tf.modeling.layers import SEEDS_PER_PASS
from etd_tf.modeling.parameters import parameter_variables
from etd_tf.training.options import TrainerOptions
from etd_tf.training.strategy import use_xla
from etd_tf.types import Tensor

_REPLICA_SEED, _MICRO_BATCH_SEED = 7919, 104_729  # primes, to keep the streams apart
_STREAMS = 2  # students computed at a time; more would hold more activations at once

TOKENS = "tokens"
"""The metric that counts a replica's tokens, padding included, where batches differ in length."""

Metrics = dict[str, Tensor]
Batch = Mapping[str, Tensor]


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

    @property
    def scales_loss(self) -> bool:
        """Whether steps whose gradients overflow float16 are skipped."""
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    @property
    def updates(self) -> int:
        """Steps that changed the weights: all, but for those of float16 that overflowed."""
        optimizer = self.optimizer.inner_optimizer if self.scales_loss else self.optimizer
        return int(optimizer.iterations.numpy())

    def state(self) -> dict[str, keras.Variable]:
        """Everything a checkpoint holds, under names that are the same in every process."""
        student = self.distiller.student
        named = {
            f"student/{name}": variable
            for name, variable in parameter_variables(student.encoder, student.mlm_head).items()
        }
        for name, layer in self.distiller.projections.items():
            for index, variable in enumerate(layer.weights):
                named[f"projection/{name}/{index}"] = variable
        for index, variable in enumerate(self.optimizer.variables):
            named[f"optimizer/{index}"] = variable
        return named


class SharedTeacher:
    """Runs the teacher apart from the students, for just the features that their losses read.

    Between two compiled functions a feature is computed and kept whether it is read or not,
    unlike inside of one; so a trace of the losses finds out beforehand which ones are.

    Args:
        distillers: Distillers of equal teachers, one a student.
        strategy: What their variables were created under.
    """

    def __init__(self, distillers: Sequence[Distiller], strategy: tf.distribute.Strategy) -> None:
        self._distillers = tuple(distillers)
        self._used: list[int] = []
        self._empty: Any = None
        with strategy.scope():
            tf.function(lambda: strategy.run(self._trace), autograph=False).get_concrete_function()

    def read(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Runs the teacher.

        Args:
            batch: As for `Distiller.fit`.

        Returns:
            What the losses read, for `restore`.
        """
        leaves = tf.nest.flatten(shared_features(self._distillers, batch))
        return [leaves[index] for index in self._used]

    def restore(self, values: Sequence[Tensor]) -> Features | None:
        """Puts the features back in their places.

        Args:
            values: What `read` returned.

        Returns:
            The features, with None for those that no loss reads.
        """
        if self._empty is None:
            return None
        leaves: list[Any] = [None] * len(tf.nest.flatten(self._empty))
        for index, value in zip(self._used, values, strict=True):
            leaves[index] = value
        return tf.nest.pack_sequence_as(self._empty, leaves)

    def _trace(self) -> Tensor:
        specs = {k: v for one in self._distillers for k, v in one.input_specs().items()}
        batch = {name: tf.ones(spec.shape, spec.dtype) for name, spec in sorted(specs.items())}
        features = shared_features(self._distillers, batch)
        leaves = [None if leaf is None else tf.identity(leaf) for leaf in tf.nest.flatten(features)]
        given = tf.nest.pack_sequence_as(features, leaves)
        seed = tf.zeros([2], tf.int32)
        for distiller in self._distillers:
            distiller.distillation_loss(batch, training=True, dropout_seed=seed, teacher=given)
        self._used = [i for i, leaf in enumerate(leaves) if leaf is not None and leaf.consumers()]
        if features is not None:
            self._empty = tf.nest.map_structure(lambda _: None, features)
        return tf.constant(0.0)


def shared_features(
    distillers: Sequence[Distiller], batch: Mapping[str, Tensor]
) -> Features | None:
    """Runs the teacher of several distillers once, for all that their losses read.

    Returns:
        The features; None where no loss reads the teacher.
    """
    teacher, mlm, vectors = map(any, zip(*(one.reads for one in distillers), strict=True))
    source = max(distillers, key=lambda one: one.reads[::-1])
    return source.teacher_features(batch, (teacher, mlm, vectors))


class TrainStep:
    """Runs optimizer steps of one or several distillations on the same batches.

    Args:
        learners: The students, of equal teachers.
        strategy: Where it runs.
        options: Seed, compilation, clipping and micro-batches, the same for all.
        count_tokens: Whether the metrics have a replica's tokens, as `TOKENS`.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        *,
        strategy: tf.distribute.Strategy,
        options: TrainerOptions,
        count_tokens: bool = False,
    ) -> None:
        self._strategy = strategy
        self._options = options
        # With micro-batches, features of the whole batch would take the memory these save.
        whole = options.gradient_accumulation == 1
        runs = any(learner.distiller.runs_teacher for learner in learners)
        self._ahead = runs and whole and not use_xla(options.jit_compile) and _is_one_cpu(strategy)
        self._teacher: SharedTeacher | None = None
        if self._ahead or (runs and whole and len(learners) > 1):
            self._teacher = SharedTeacher([learner.distiller for learner in learners], strategy)
            self._read = _compiled(self._teacher.read, options)
        self._learners = [
            _LearnerStep(one, self._teacher, strategy, options, count_tokens) for one in learners
        ]
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
        options: TrainerOptions,
        count_tokens: bool,
    ) -> None:
        self._count_tokens = count_tokens
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
        metrics = {**metrics, "gradient_norm": norm}
        if self._count_tokens:
            metrics[TOKENS] = tf.cast(tf.size(batch["token_ids"]), tf.float32)
        return metrics

    def _accumulate(
        self, batch: Batch, taught: Sequence[Tensor], seed: Tensor, scale: Tensor
    ) -> tuple[Metrics, list[Tensor]]:
        """Means of metrics and gradients over the micro-batches."""
        parts = self._options.gradient_accumulation
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


def _compiled(function: Any, options: TrainerOptions) -> Any:
    return tf.function(
        function,
        autograph=False,
        jit_compile=use_xla(options.jit_compile),
        reduce_retracing=True,
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
