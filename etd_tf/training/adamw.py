"""AdamW with TensorFlow's fused update: one pass over a variable and its moments."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from etd_tf.types import Tensor


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
