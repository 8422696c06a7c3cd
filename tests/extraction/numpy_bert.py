"""A gated BERT in float64 NumPy, without Keras: the expected values of these tests."""

import math
from typing import NamedTuple

import numpy as np

from tests.modeling.numpy_bert import ACTIVATIONS, softmax
from tests.modeling.numpy_bert import layer_norm as _layer_norm


class Gates(NamedTuple):
    """Float64 gates of a batch: `[B, L+1, H]`, `[B, L, F]` and twice `[B, L, N, D]`."""

    hidden: np.ndarray
    ffn: np.ndarray
    query_key: np.ndarray
    value: np.ndarray


def ones(config, batch_size):
    layers, heads, size = config.num_layers, config.num_heads, config.head_size
    return Gates(
        np.ones((batch_size, layers + 1, config.hidden_size)),
        np.ones((batch_size, layers, config.intermediate_size)),
        np.ones((batch_size, layers, heads, size)),
        np.ones((batch_size, layers, heads, size)),
    )


def layer_norm(p, name, x, epsilon):
    return _layer_norm(x, p[f"{name}.gamma"], p[f"{name}.beta"], epsilon)


def dense(p, name, x):
    return x @ p[f"{name}.kernel"] + p[f"{name}.bias"]


def states(parameters, config, batch, gates=None):
    """All hidden states, embedding output first, as float64 `[B, T, H]` arrays."""
    p = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    ids, mask = batch["token_ids"], batch["padding_mask"]
    count, length = ids.shape
    g = ones(config, count) if gates is None else gates
    x = p["embeddings.token"][ids] + p["embeddings.position"][:length]
    x = layer_norm(
        p,
        "embeddings.layer_norm",
        x + p["embeddings.segment"][batch["segment_ids"]],
        config.layer_norm_epsilon,
    )
    x = x * g.hidden[:, 0, None]
    found = [x]
    for index in range(config.num_layers):
        x = _layer(p, config, f"layers.{index}", x, mask, [part[:, index] for part in g[1:]])
        x = x * g.hidden[:, index + 1, None]
        found.append(x)
    return found


def _layer(p, config, name, x, mask, gates):
    ffn, query_key, value = gates
    shape = (*x.shape[:2], config.num_heads, config.head_size)

    def split(part):
        return dense(p, f"{name}.attention.{part}", x).reshape(shape).transpose(0, 2, 1, 3)

    q, k, v = split("query"), split("key"), split("value")
    scores = np.einsum("bnqd,bnkd,bnd->bnqk", q, k, query_key) / math.sqrt(config.head_size)
    scores = np.where(mask[:, None, None, :] > 0, scores, -1e30)
    context = softmax(scores) @ v * value[:, :, None]
    context = context.transpose(0, 2, 1, 3).reshape(x.shape)
    epsilon = config.layer_norm_epsilon
    x = layer_norm(
        p,
        f"{name}.attention_layer_norm",
        x + dense(p, f"{name}.attention.output", context),
        epsilon,
    )
    inner = ACTIVATIONS[config.hidden_act](dense(p, f"{name}.intermediate", x)) * ffn[:, None]
    return layer_norm(
        p, f"{name}.output_layer_norm", x + dense(p, f"{name}.output", inner), epsilon
    )


def mlm_losses(parameters, config, x, positions, labels, weights):
    """Mean cross-entropy over each example's own masked positions, `[B]`."""
    p = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    picked = x[np.arange(len(x))[:, None], positions]
    y = ACTIVATIONS[config.hidden_act](dense(p, "mlm.dense", picked))
    y = layer_norm(p, "mlm.layer_norm", y, config.layer_norm_epsilon)
    logits = y @ p["embeddings.token"].T + p["mlm.output_bias"]
    logits = logits - logits.max(-1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    errors = -np.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
    return (errors * weights).sum(-1) / np.maximum(weights.sum(-1), 1.0)


def gate_differences(function, config, batch_size, step=1e-5):
    """Central differences of `function(gates) -> [B, ...]` for every gate of every example.

    Examples do not interact, so one unit is moved in all of them at once.

    Returns:
        `Gates` of arrays `[B, ..., *trailing]`, trailing being the function's axes after B.
    """
    found = []
    for field, base in enumerate(ones(config, batch_size)):
        columns = []
        for place in np.ndindex(base.shape[1:]):
            upper, lower = (ones(config, batch_size) for _ in range(2))
            upper[field][(slice(None), *place)] += step
            lower[field][(slice(None), *place)] -= step
            columns.append((function(upper) - function(lower)) / (2 * step))
        stacked = np.stack(columns, axis=1)
        found.append(stacked.reshape(base.shape + stacked.shape[2:]))
    return Gates(*found)
