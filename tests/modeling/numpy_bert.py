"""BERT's forward pass in float64 NumPy, written from the papers as an oracle for tests.

Nothing here imports the library: weights come as arrays by canonical name.
"""

import math
from typing import Any, NamedTuple

import numpy as np


class NumpyTrace(NamedTuple):
    """What `BertEncoder.trace` returns, as float64 arrays."""

    embedding_output: np.ndarray
    hidden_states: list[np.ndarray]
    queries: list[np.ndarray]
    keys: list[np.ndarray]
    values: list[np.ndarray]
    attention_scores: list[np.ndarray]
    pooled_output: np.ndarray | None


def gelu(x):
    """x times the standard normal distribution function."""
    return x * 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def gelu_tanh(x):
    """Hendrycks and Gimpel's tanh approximation."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh, "relu": lambda x: np.maximum(x, 0.0)}


def layer_norm(x, gamma, beta, epsilon):
    """Layer normalisation with the biased variance."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * (
        gamma
    ) + beta


def softmax(x):
    """Softmax over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def forward(config: Any, parameters: dict[str, np.ndarray], batch: dict[str, np.ndarray]):
    """Runs the encoder; `batch` needs token_ids, segment_ids and padding_mask."""
    w = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    act, epsilon = ACTIVATIONS[config.hidden_act], config.layer_norm_epsilon

    def dense(name, x):
        return x @ w[f"{name}.kernel"] + w[f"{name}.bias"]

    def norm(name, x):
        return layer_norm(x, w[f"{name}.gamma"], w[f"{name}.beta"], epsilon)

    def heads(name, x):  # [B, T, H] -> [B, N, T, D]
        y = dense(name, x)
        parts = np.split(y, config.num_heads, axis=-1)
        return np.stack(parts, axis=1)

    token_ids, mask = batch["token_ids"], batch["padding_mask"]
    x = w["embeddings.token"][token_ids]
    x = x + w["embeddings.position"][: token_ids.shape[1]]
    x = x + w["embeddings.segment"][batch["segment_ids"]]
    x = norm("embeddings.layer_norm", x)
    trace = NumpyTrace(x, [], [], [], [], [], None)
    for index in range(config.num_layers):
        layer = f"layers.{index}"
        q, k, v = (heads(f"{layer}.attention.{part}", x) for part in ("query", "key", "value"))
        scores = np.einsum("bnqd,bnkd->bnqk", q, k) / math.sqrt(q.shape[-1])
        weights = softmax(np.where(mask[:, None, None, :] > 0, scores, -np.inf))
        context = np.concatenate(list(np.moveaxis(weights @ v, 1, 0)), axis=-1)
        x = norm(f"{layer}.attention_layer_norm", x + dense(f"{layer}.attention.output", context))
        inner = act(dense(f"{layer}.intermediate", x))
        x = norm(f"{layer}.output_layer_norm", x + dense(f"{layer}.output", inner))
        for values, value in zip(trace[1:6], (x, q, k, v, scores), strict=True):
            values.append(value)
    pooled = np.tanh(dense("pooler", x[:, 0])) if "pooler.kernel" in w else None
    return trace._replace(pooled_output=pooled)
