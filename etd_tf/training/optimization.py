"""AdamW as BERT uses it: warm-up, linear decay, no decay on biases and LayerNorms, in one pass."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from etd_tf.lazy import float32_keras
from etd_tf.types import Tensor

# Keras matches these against a variable's own name, not its path.
NO_DECAY = ("bias", "gamma", "beta")


@keras.saving.register_keras_serializable(package="etd_tf")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly over the warm-up, then falls linearly.

    No step is spent at 0: the first has `peak / warmup_steps`, and 0 would be reached one
    step after the last.

    Args:
        peak: Learning rate at the end of the warm-up.
        steps: Optimizer steps of the whole run.
        warmup_steps: Steps of the warm-up, at most `steps`.

    Source: BERT's and MiniLM's published settings (Wang et al. 2020, section 4.1).
    """

    def __init__(self, peak: float, steps: int, warmup_steps: int) -> None:
        self.peak, self.steps, self.warmup_steps = peak, steps, warmup_steps

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the learning rate of optimizer step `step`, counted from 0."""
        position = ops.cast(step, "float32") + 1.0
        warmup = position / max(self.warmup_steps, 1)
        remaining = (self.steps + 1.0 - position) / max(self.steps + 1.0 - self.warmup_steps, 1.0)
        factor = ops.where(position <= self.warmup_steps, warmup, ops.maximum(remaining, 0.0))
        return ops.multiply(self.peak, factor)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "steps": self.steps, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable(package="etd_tf")
class FusedAdamW(keras.optimizers.AdamW):
    """Keras' AdamW, which computes the same with fewer passes over memory.

    Most of a small BERT is its word embeddings. Their update reads and writes far more
    memory than caches hold, a dozen times over where every operation of the formula is a
    kernel of its own. That is a quarter of the time of fine-tuning on short sentences.

    Takes the arguments of `keras.optimizers.AdamW` but `amsgrad`. Variables of another type
    than float32 are updated as Keras does it.
    """

    def update_step(self, gradient: Tensor, variable: tf.Variable, learning_rate: Tensor) -> None:
        """Updates one variable; see the base class."""
        if variable.dtype != tf.float32:  # the kernel ends the process where dtypes differ
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), tf.float32),
        )

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Shrinks what decays, in one pass instead of three."""
        if not self.weight_decay:
            return
        kept = 1.0 - self.weight_decay * tf.cast(self.learning_rate, tf.float32)

        def shrink(variable: tf.Variable) -> None:
            if self._use_weight_decay(variable):
                variable.assign(variable * tf.cast(kept, variable.dtype))

        def shrink_all(
            distribution: tf.distribute.Strategy, variables: Sequence[keras.Variable], **_: Any
        ) -> None:
            for variable in variables:
                distribution.extended.update(variable.value, shrink, group=False)

        tf.__internal__.distribute.interim.maybe_merge_call(
            shrink_all, self._distribution_strategy, variables
        )


def make_optimizer(
    schedule: keras.optimizers.schedules.LearningRateSchedule | float,
    *,
    weight_decay: float,
    variables: Sequence[keras.Variable],
    loss_scaling: bool = False,
) -> keras.optimizers.Optimizer:
    """Builds AdamW over `variables`.

    Args:
        schedule: Learning rate, or its schedule.
        weight_decay: Decoupled decay of everything but biases and LayerNorm weights.
        variables: What it will update; its state is created here.
        loss_scaling: Wrap it for float16 gradients.
    """
    with float32_keras():  # that of a constant learning rate
        adamw = FusedAdamW(
            learning_rate=schedule,
            weight_decay=weight_decay,
            beta_1=0.9,
            beta_2=0.999,
            epsilon=1e-6,
        )
    # Must precede build(): the exclusion list is fixed there.
    adamw.exclude_from_weight_decay(var_names=list(NO_DECAY))
    optimizer = keras.optimizers.LossScaleOptimizer(adamw) if loss_scaling else adamw
    optimizer.build(list(variables))
    return optimizer
