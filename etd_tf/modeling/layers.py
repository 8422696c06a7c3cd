"""Building blocks of the encoder: dense, LayerNorm, dropout and embeddings.

Variables stay in the layer's variable dtype (float32 under the mixed policies); each
layer casts explicitly, so that LayerNorm always runs in float32 and matrix products
run in the compute dtype. Without a dtype a layer is float32, whatever Keras' global
policy and float type are: what the process around it has set changes no weight.

Shape legend: B batch, T tokens, H hidden, I and O a kernel's input and output width.
"""

import contextlib
import contextvars
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
from keras import ops

from etd_tf.modeling.config import BertConfig
from etd_tf.modeling.ids import check_length, refusable
from etd_tf.types import Tensor

_KERNEL_STDDEV = 0.02  # BERT's initializer_range
_INVERSE_SQRT_2 = 0.7071067811865476

Activation: TypeAlias = Callable[[Tensor], Tensor]


_blank = contextvars.ContextVar("blank", default=False)


def kernel_initializer() -> keras.initializers.Initializer:
    """BERT's weight initializer: a truncated normal of standard deviation 0.02."""
    if _blank.get():
        return keras.initializers.Zeros()
    return keras.initializers.TruncatedNormal(stddev=_KERNEL_STDDEV)


@contextlib.contextmanager
def blank_weights() -> Iterator[None]:
    """Builds layers with zeros for kernels, which is faster, where weights are assigned next.

    Python's random state, which Keras takes its seeds from, is left as it was: when a model is
    built must not change what others draw.
    """
    token, state = _blank.set(True), random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
        _blank.reset(token)


def linear(
    x: Tensor, kernel: Tensor, bias: Tensor | None = None, *, act: Activation | None = None
) -> Tensor:
    """Applies `act(x @ kernel + bias)` over the last axis as one two-dimensional product.

    A product of `[B, T, I]` with `[I, O]` left to broadcasting becomes B small products,
    and its gradient B kernel-sized arrays; flattening keeps both a single GEMM. Nothing
    comes between product, bias and activation, so that TensorFlow can run the three as
    one operation.

    Args:
        x: `[..., I]`.
        kernel: `[I, O]`.
        bias: `[O]`, or None.
        act: Elementwise function, or None.

    Returns:
        `[..., O]` in the dtype of `x`.
    """
    lead = ops.shape(x)[:-1]
    y = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    if bias is not None:
        y = ops.add(y, bias)
    if act is not None:
        y = act(y)
    return ops.reshape(y, (*lead, kernel.shape[-1]))


def activation(name: str, *, training: bool = False, portable: bool = False) -> Activation:
    """Returns the feed-forward activation: exact GELU, tanh GELU or ReLU.

    Args:
        name: `"gelu"`, `"gelu_new"` or `"relu"`.
        training: Compute in float32 whatever the input's dtype. Without it the function
            is written as the operations that TensorFlow fuses with the product before
            them; a product whose result the gradient needs is never fused.
        portable: Write exact GELU as Keras does, which converters to other runtimes know
            and TensorFlow does not fuse.

    Returns:
        An elementwise function that keeps the dtype.
    """
    if name == "relu":
        return ops.relu
    if portable:
        return functools.partial(ops.gelu, approximate=name == "gelu_new")
    gelu = _gelu_tanh if name == "gelu_new" else _gelu_erf
    if not training:
        return gelu
    return lambda x: ops.cast(gelu(ops.cast(x, "float32")), x.dtype)


def _gelu_erf(x: Tensor) -> Tensor:
    """Computes x * Phi(x) through erf; the erfc form of `keras.ops.gelu` is twice as slow."""
    erf = ops.erf(ops.multiply(x, _INVERSE_SQRT_2))
    return ops.multiply(ops.multiply(ops.add(erf, 1.0), 0.5), x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return ops.gelu(x, approximate=True)


SEEDS_PER_PASS = 4096
"""Seeds to leave free between two forward passes; more than the dropouts of one."""


class SeedStream(keras.random.SeedGenerator):
    """Dropout seeds derived from one seed tensor, without any variable.

    Keras' own generator keeps its position in a variable, so a run resumed in the middle
    needs that variable back and replicas share it. Here the caller's tensor decides all:
    the n-th dropout of a call uses `(seed[0], seed[1] + n)`.

    Args:
        seed: Integer tensor `[2]`. Second entries are `SEEDS_PER_PASS` apart.
    """

    def __init__(self, seed: Tensor) -> None:  # deliberately without super(): no variable
        # JAX keys are uint32; TensorFlow's stateless functions take signed integers only.
        self._dtype = "uint32" if keras.backend.backend() == "jax" else "int32"
        self._seed = ops.cast(seed, self._dtype)
        self._initial_seed = 0  # Keras' torch backend asks whether it is None
        self._drawn = 0

    def next(self, ordered: bool = True) -> Tensor:
        """Returns the next seed, an integer tensor `[2]`."""
        del ordered
        offset = ops.convert_to_tensor([0, self._drawn], dtype=self._dtype)
        self._drawn += 1
        return ops.add(self._seed, offset)


def dropout(x: Tensor, rate: float, seed: keras.random.SeedGenerator | None) -> Tensor:
    """Inverted dropout; the identity when `seed` is None or `rate` is 0.

    Drawing random bits costs more than all the rest, so every 32 of them decide about two
    elements. The rate is rounded to a multiple of 2^-16, and the scale is that one's.
    """
    if seed is None or rate == 0.0:
        return x
    size = ops.size(x)
    words = keras.random.randint(((size + 1) // 2,), -(2**31), 2**31 - 1, seed=seed)
    dropped = min(round(rate * 2**16), 2**16 - 1)
    bound = (dropped - 2**15) * 2**16  # of a signed word whose upper half decides
    lower_halves = ops.left_shift(words, 16)
    kept = ops.concatenate(
        [ops.greater_equal(words, bound), ops.greater_equal(lower_halves, bound)]
    )
    kept = ops.reshape(kept[:size], ops.shape(x))
    return ops.where(kept, ops.multiply(x, 2**16 / (2**16 - dropped)), 0.0)


class Dense(keras.layers.Layer):
    """A linear map with bias and public two-dimensional kernel.

    Args:
        input_size: I.
        output_size: O.
        dtype: Keras dtype policy.
        name: Layer name.
    """

    def __init__(self, input_size: int, output_size: int, *, dtype: Any = None, name: str) -> None:
        super().__init__(dtype=dtype or "float32", name=name, autocast=False)
        self.kernel = self.add_weight(
            shape=(input_size, output_size), initializer=kernel_initializer(), name="kernel"
        )
        self.bias = self.add_weight(shape=(output_size,), initializer="zeros", name="bias")
        self.built = True

    def call(self, x: Tensor, act: Activation | None = None) -> Tensor:
        """Maps `[..., I]` to `[..., O]` in the compute dtype, through `act` if given."""
        dtype = self.compute_dtype
        kernel, bias = ops.cast(self.kernel, dtype), ops.cast(self.bias, dtype)
        return linear(ops.cast(x, dtype), kernel, bias, act=act)


class LayerNorm(keras.layers.Layer):
    """Layer normalisation over the last axis, computed in float32.

    Args:
        size: Width H of the last axis.
        epsilon: Added to the variance.
        dtype: Keras dtype policy; the output has its variable dtype, so that the residual
            stream stays in float32 under the mixed policies.
        name: Layer name.
    """

    def __init__(self, size: int, epsilon: float, *, dtype: Any = None, name: str) -> None:
        super().__init__(dtype=dtype or "float32", name=name, autocast=False)
        self.epsilon = epsilon
        self.gamma = self.add_weight(shape=(size,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(size,), initializer="zeros", name="beta")
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Normalises `[..., H]`."""
        x = ops.cast(x, "float32")
        mean = ops.mean(x, axis=-1, keepdims=True)
        centred = ops.subtract(x, mean)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        scale = ops.multiply(
            ops.rsqrt(ops.add(variance, self.epsilon)), ops.cast(self.gamma, "float32")
        )
        y = ops.add(ops.multiply(centred, scale), ops.cast(self.beta, "float32"))
        return ops.cast(y, self.variable_dtype)


class Embeddings(keras.layers.Layer):
    """Sum of token, position and segment embeddings, then LayerNorm and dropout.

    Args:
        config: Sizes, epsilon and dropout rate.
        dtype: Keras dtype policy.
        name: Layer name.
    """

    def __init__(self, config: BertConfig, *, dtype: Any = None, name: str = "embeddings") -> None:
        super().__init__(dtype=dtype or "float32", name=name, autocast=False)
        self.config = config
        rows = {
            "token": config.vocab_size,
            "position": config.max_positions,
            "segment": config.type_vocab_size,
        }
        self.token, self.position, self.segment = (
            self.add_weight(
                shape=(count, config.hidden_size),
                initializer=kernel_initializer(),
                name=f"{what}_embeddings",
            )
            for what, count in rows.items()
        )
        self.layer_norm = LayerNorm(
            config.hidden_size,
            config.layer_norm_epsilon,
            dtype=self.dtype_policy,
            name="layer_norm",
        )
        self.built = True

    def call(
        self,
        token_ids: Tensor,
        segment_ids: Tensor | None,
        seed: keras.random.SeedGenerator | None = None,
    ) -> Tensor:
        """Embeds `[B, T]` ids as `[B, T, H]`; segments default to 0.

        Raises:
            InputError: T is known and larger than the position table.
        """
        length, config = token_ids.shape[1], self.config
        if length is None:
            length = ops.shape(token_ids)[1]
        else:
            check_length(length, config)
        x = ops.take(self.token, refusable(token_ids, config.vocab_size), axis=0)
        x = ops.add(x, self.position[None, :length])
        if segment_ids is None:
            x = ops.add(x, self.segment[0])
        else:
            segment_ids = refusable(segment_ids, config.type_vocab_size)
            x = ops.add(x, ops.take(self.segment, segment_ids, axis=0))
        return dropout(self.layer_norm(x), config.hidden_dropout, seed)
