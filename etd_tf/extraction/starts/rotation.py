"""Giving heads a basis in which the dims that a plan keeps hold most of what the head does.

Queries and keys act through their products alone, values through the kernel that reads
them. So any invertible A and orthogonal R make another teacher with the same outputs:

    (q A) . (k A^-T) = q . k,        (v R) (R^T W_O) = v W_O,

and R leaves v . v', which MiniLM's value relations read, as it is. Here A makes the kept
dims the D' largest terms of the singular value decomposition of the products q . k over
real tokens, which is the best approximation of that rank (Eckart and Young, 1936), and R
makes them the D' principal directions of the values. Slicing the plan out of that teacher
then loses as little of each head as D' dims can.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from etd_tf.extraction.plan import ExtractionPlan
from etd_tf.extraction.starts.statistics import RESOLUTION, ActivationStatistics
from etd_tf.types import Array, IntArray, Parameters


def rotate_heads(
    parameters: Mapping[str, Array], plan: ExtractionPlan, statistics: ActivationStatistics
) -> tuple[Parameters, ActivationStatistics]:
    """Changes the bases of a teacher's heads for a plan; the teacher computes what it did.

    Args:
        parameters: The teacher's weights by canonical name.
        plan: A plan for it; heads that it drops or keeps whole, and layers that it drops,
            stay as they are.
        statistics: Second moments for the plan's layers.

    Returns:
        The other teacher's weights, in the same dtypes, and its statistics.

    Raises:
        InputError: A layer was not measured.
    """
    rotated = {name: value.copy() for name, value in parameters.items()}
    contexts = list(statistics.grams["context"])
    for index, layer in enumerate(plan.layers):
        mean, covariance = statistics.moments("attention_input", layer)
        heads = _LayerHeads(rotated, layer, mean, covariance)
        basis = np.eye(mean.size + 1)
        for columns, query_key, value in _cut_heads(plan, index):
            heads.change_products(columns, query_key)
            basis[columns, columns] = heads.change_values(columns, value)
        heads.write_to(rotated)
        place = statistics.layers.index(layer)
        contexts[place] = basis.T @ contexts[place] @ basis
    grams = {**statistics.grams, "context": contexts}
    return rotated, dataclasses.replace(statistics, grams=grams)


def _cut_heads(plan: ExtractionPlan, index: int) -> list[tuple[slice, IntArray, IntArray]]:
    """Kept heads that lose dims: columns in the teacher, kept dims of q and k, and of v."""
    before, after = plan.teacher_config.head_size, plan.student_config.head_size
    if before == after:
        return []
    query_key = plan.query_key[index].reshape(-1, after)
    value = plan.value[index].reshape(-1, after)
    starts = query_key[:, 0] // before * before
    return [
        (slice(int(start), int(start) + before), ours - start, theirs - start)
        for start, ours, theirs in zip(starts, query_key, value, strict=True)
    ]


class _LayerHeads:
    """The attention weights of a layer in float64, changed head by head."""

    def __init__(
        self, parameters: Mapping[str, Array], layer: int, mean: Array, covariance: Array
    ) -> None:
        self._prefix = f"layers.{layer - 1}.attention."
        self._mean, self._covariance = mean, covariance
        self._weights = {
            name.removeprefix(self._prefix): value.astype(np.float64)
            for name, value in parameters.items()
            if name.startswith(self._prefix) and "layer_norm" not in name
        }

    def change_products(self, columns: slice, kept: IntArray) -> None:
        """Puts the largest terms of a head's query-key products where dims are kept."""
        queries, mean = self._moments("query", columns)
        query_root = _root(queries + np.outer(mean, mean), np.trace(queries) + mean @ mean)
        # q . k_i - q . mean(k) is all that a softmax over keys sees, so keys stay centred.
        keys, mean = self._moments("key", columns)
        key_root = _root(keys, np.trace(keys) + mean @ mean)
        left, terms, right = np.linalg.svd(query_root.T @ key_root)
        places = _places(kept, terms.size)
        for name, root, vectors in (("query", query_root, left), ("key", key_root, right.T)):
            # Each takes half of every term, so that one basis is the other's inverse transposed.
            basis = np.linalg.solve(root.T, vectors * np.sqrt(terms))[:, places]
            self._change_columns(name, columns, basis)

    def change_values(self, columns: slice, kept: IntArray) -> Array:
        """Puts the principal directions of a head's values where dims are kept.

        Args:
            columns: The head's.
            kept: Its kept dims.

        Returns:
            The orthogonal matrix `[D, D]` that its values, and so its contexts, got.
        """
        covariance, mean = self._moments("value", columns)
        _, directions = np.linalg.eigh(covariance + np.outer(mean, mean))
        basis: Array = directions[:, ::-1][:, _places(kept, directions.shape[0])]
        self._change_columns("value", columns, basis)
        reader = self._weights["output.kernel"]
        reader[columns] = basis.T @ reader[columns]
        return basis

    def write_to(self, parameters: Parameters) -> None:
        """Puts the weights back, in the dtypes that are there."""
        for name, value in self._weights.items():
            full = self._prefix + name
            parameters[full] = value.astype(parameters[full].dtype)

    def _moments(self, name: str, columns: slice) -> tuple[Array, Array]:
        """Covariance `[D, D]` and mean `[D]` of a head's queries, keys or values."""
        kernel = self._weights[f"{name}.kernel"][:, columns]
        mean: Array = self._mean @ kernel + self._weights[f"{name}.bias"][columns]
        return kernel.T @ self._covariance @ kernel, mean

    def _change_columns(self, name: str, columns: slice, basis: Array) -> None:
        kernel, bias = self._weights[f"{name}.kernel"], self._weights[f"{name}.bias"]
        kernel[:, columns] = kernel[:, columns] @ basis
        bias[columns] = bias[columns] @ basis


def _places(kept: IntArray, count: int) -> IntArray:
    """For each dim the rank of what goes there: the first ranks go to the kept dims."""
    dims = np.concatenate([kept, np.setdiff1d(np.arange(count), kept)])
    return np.argsort(dims)


def _root(moment: Array, power: float) -> Array:
    """An invertible R with R R^T = a second moment, but for directions that hardly vary.

    Those get the least variance that sums in float32 can tell from none: from rounding,
    a moment over few distinct tokens may even have negative eigenvalues.

    Args:
        moment: `[D, D]`.
        power: Mean square length of the vectors, before any centring.

    Returns:
        R.
    """
    variances, directions = np.linalg.eigh(moment)
    least = RESOLUTION * power / len(moment)
    # Of vectors that are all 0 rounding may leave a negative power.
    root: Array = directions * np.sqrt(np.maximum(variances, least if least > 0.0 else 1.0))
    return root
