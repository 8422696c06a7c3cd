"""Folding cut units into the kept ones that predict them.

A dropped unit that depends linearly on kept ones need not be lost: every reader of a cut
is a linear map, so the prediction becomes part of the reader's kernel and bias and costs
nothing at run time. With kept units K and dropped units d,

    x_d ~ (x_K - mean_K) B + mean_d,   B = (C_KK + ridge * mean(diag C_KK) * I)^-1 C_Kd,

a reader y = x W + b becomes y ~ x_K (W_K + B W_d) + b + (mean_d - mean_K B) W_d. The ridge
pulls B towards 0, that is the reader towards the plain slice W_K.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.slicing import kept_units, slice_parameters
from etd_tf.extraction.starts.statistics import RESOLUTION, ActivationStatistics
from etd_tf.modeling.structure import QUERY_KEY, SITES, readers
from etd_tf.types import Array, IntArray, Parameters

MEANS_ONLY = math.inf
"""The ridge at which dropped units are replaced by their means, in the biases alone."""


@dataclasses.dataclass(frozen=True)
class _Reader:
    """What a reader gains, up to the ridge: kernel += V diag(1 / (w + r)) rotated, ..."""

    name: str
    rotated: Array  # [K, O]: V^T C_Kd W_d
    constant: Array  # [O]: mean_d W_d


@dataclasses.dataclass(frozen=True)
class _Site:
    """One site of one layer, with the decomposition C_KK = V diag(w) V^T."""

    mean: Array
    eigenvalues: Array
    eigenvectors: Array
    readers: tuple[_Reader, ...]

    def damping(self, ridge: float) -> Array:
        """1 / (w + r); 0 for kept units whose variance is rounding alone: they predict nothing."""
        variance = self.eigenvalues.mean()
        if variance <= RESOLUTION * (variance + np.square(self.mean).mean()):
            return np.zeros_like(self.eigenvalues)
        damping: Array = 1.0 / (np.maximum(self.eigenvalues, 0.0) + ridge * variance)
        return damping


class FoldedSlices:
    """The students of one plan and teacher, at any ridge.

    Args:
        parameters: The teacher's weights by canonical name.
        statistics: Second moments for the plan's layers.

    Raises:
        InputError: The weights are not the plan's teacher's, or a layer was not measured.
    """

    def __init__(
        self,
        parameters: Mapping[str, Array],
        plan: ExtractionPlan,
        statistics: ActivationStatistics,
    ) -> None:
        self._sliced = slice_parameters(parameters, plan)
        self._sites: dict[tuple[int, str], _Site] = {}
        for index, layer in enumerate(plan.layers):
            for site in SITES:
                mean, covariance = statistics.moments(site, layer)
                kept = kept_units(plan, index)[readers(site)[0].axes[0]]
                dropped = np.setdiff1d(np.arange(mean.size), kept)
                if dropped.size:
                    self._sites[index, site] = _decompose(
                        parameters, plan, index, site, (mean, covariance, kept, dropped)
                    )

    def parameters(self, ridges: Mapping[str, float | None]) -> Parameters:
        """Returns a student's weights.

        Args:
            ridges: By site (`attention_input`, `context`, `ffn_input`, `inner`): the ridge
                as a multiple of the kept units' mean variance, `MEANS_ONLY`, or None for
                the plain slice. Sites left out are sliced plainly.

        Returns:
            Weights by canonical name, in the teacher's dtypes.
        """
        student = {name: value.copy() for name, value in self._sliced.items()}
        for (index, kind), site in self._sites.items():
            ridge = ridges.get(kind)
            if ridge is None:
                continue
            damping = site.damping(ridge)
            for reader in site.readers:
                kernel = site.eigenvectors @ (damping[:, None] * reader.rotated)
                bias = reader.constant - site.mean @ kernel
                for what, change in (("kernel", kernel), ("bias", bias)):
                    name = f"layers.{index}.{reader.name}.{what}"
                    student[name] = (student[name] + change).astype(student[name].dtype)
        return student


def _decompose(
    parameters: Mapping[str, Array],
    plan: ExtractionPlan,
    index: int,
    site: str,
    moments: tuple[Array, Array, IntArray, IntArray],
) -> _Site:
    mean, covariance, kept, dropped = moments
    eigenvalues, eigenvectors = np.linalg.eigh(covariance[np.ix_(kept, kept)])
    rotated = eigenvectors.T @ covariance[np.ix_(kept, dropped)]
    units = kept_units(plan, index)
    found = []
    for weight in readers(site):
        kernel = parameters[f"layers.{plan.layers[index] - 1}.{weight.name}"]
        weights = kernel[np.ix_(dropped, units[weight.axes[1]])].astype(np.float64)
        if weight.axes[1] == QUERY_KEY:
            weights = plan.attention_scale * weights
        name = weight.name.removesuffix(".kernel")
        found.append(_Reader(name, rotated @ weights, mean[dropped] @ weights))
    return _Site(mean[kept], eigenvalues, eigenvectors, tuple(found))
