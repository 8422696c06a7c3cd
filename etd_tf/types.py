"""Type names shared by all packages.

Keras and TensorFlow ship no usable type information for tensors, so a tensor is
`Any` to the type checker; shapes and dtypes are in the docstrings.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Tensor: TypeAlias = Any
"""A backend tensor, Keras variable or KerasTensor."""

Array: TypeAlias = npt.NDArray[Any]
"""A NumPy array of any dtype."""

IntArray: TypeAlias = npt.NDArray[np.int64]
"""A NumPy array of indices."""

Parameters: TypeAlias = dict[str, Array]
"""Weights of an encoder and its head by canonical name (`modeling/parameters.py`)."""
