"""What the worker processes of one training run must agree on."""

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from etd_tf.errors import InputError, WorkerLostError
from etd_tf.training.strategy import worker_layout

# What collective operations raise, depending on how and when the other side ended.
_COLLECTIVE_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


def _checksum(value: Any) -> int:
    """24 bits, which `Workers.gather` carries exactly."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode()) >> 8


class Workers:
    """The worker processes of a strategy; all of them call the same methods in the same order.

    Args:
        strategy: Any strategy; most have one worker.

    Attributes:
        count: Worker processes.
        index: This one; worker 0 is the chief, the only one that writes to the run
            directory.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count, self.index = worker_layout(strategy)
        self._sum = tf.function(self._sum_over_replicas)

    @property
    def is_chief(self) -> bool:
        """Whether this is the worker that writes."""
        return self.index == 0

    def gather(self, value: int) -> list[int]:
        """Exchanges one number.

        Args:
            value: This worker's, below 2^24.

        Returns:
            Every worker's, the same list everywhere.
        """
        if self.count == 1:
            return [value]
        one_hot = tf.one_hot(self.index, self.count) * float(value)
        replicas = self.strategy.num_replicas_in_sync // self.count
        total = self.strategy.experimental_local_results(self._sum(one_hot))[0]
        return [round(float(number) / replicas) for number in total]

    def _sum_over_replicas(self, values: tf.Tensor) -> tf.Tensor:
        def replica() -> tf.Tensor:
            placed = tf.identity(values)  # on the replica's device, which the reduction needs
            return tf.distribute.get_replica_context().all_reduce("SUM", placed)

        return self.strategy.run(replica)

    @contextlib.contextmanager
    def chief_first(self) -> Iterator[None]:
        """Runs a block in the chief, and in the other workers when the chief's has ended.

        So the others can read what the chief wrote in it.

        Raises:
            WorkerLostError: Another worker is gone.
        """
        if not self.is_chief:
            self._meet()
        yield
        if self.is_chief:
            self._meet()

    def _meet(self) -> None:
        with self.loss_reported():
            self.gather(0)

    @contextlib.contextmanager
    def loss_reported(self) -> Iterator[None]:
        """Tells in plain words that another worker is gone.

        Raises:
            WorkerLostError: A collective operation failed.
        """
        try:
            yield
        except _COLLECTIVE_ERRORS as error:
            if self.count == 1:
                raise
            raise WorkerLostError(
                f"Another of the {self.count} workers is gone ({type(error).__name__}). Start all "
                "of them again with the same command; they continue from the last checkpoint."
            ) from error

    def check_same_run(self, identity: Mapping[str, Any]) -> None:
        """Refuses workers that would train different students, or on different text."""
        differing = [
            name
            for name, value in sorted(identity.items())
            if len(set(self.gather(_checksum(value)))) > 1
        ]
        if differing:
            raise InputError(
                f"The workers would make different runs: not the same {', '.join(differing)}. They "
                "need equal flags, teacher, text and versions of the software."
            )

    def check_same_step(self, step: int) -> None:
        """Refuses to continue where the workers found different checkpoints."""
        steps = self.gather(step)
        if len(set(steps)) > 1:
            raise InputError(
                f"The workers would continue from different steps: {steps}. They need one "
                "output_dir on a file system that all of them see."
            )
