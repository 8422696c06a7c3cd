"""Type names shared by all packages.

Keras and TensorFlow ship no usable type information for tensors, so a tensor is
`Any` to the type checker; shapes and dtypes are in the docstrings.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # commands describe themselves without NumPy
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
    IntArray: TypeAlias = npt.NDArray[np.int64]
else:
    Array: TypeAlias = Any
    """A NumPy array of any dtype."""
    IntArray: TypeAlias = Any
    """A NumPy array of indices."""

Tensor: TypeAlias = Any
"""A backend tensor, Keras variable or KerasTensor."""

Parameters: TypeAlias = dict[str, Array]
"""Weights of an encoder and its head by canonical name (`modeling/parameters.py`)."""
