"""The losses' definitions in float64 NumPy, and random features to feed them with."""

import numpy as np

from etd_tf.modeling.encoder import EncoderTrace


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def example_mean(x, weights):
    """Weighted mean inside each example, then over the batch."""
    weights = np.broadcast_to(weights, x.shape)
    axes = tuple(range(1, x.ndim))
    return (np.where(weights > 0, x * weights, 0).sum(axes) / weights.sum(axes)).mean()


def attention_score_loss(student, teacher, mask):
    pairs = mask[:, None, :, None] * mask[:, None, None, :]
    return example_mean((student - teacher) ** 2, pairs)


def hidden_state_loss(student, teacher, mask):
    return example_mean((student - teacher) ** 2, mask[:, :, None])


def relation_loss(student, teacher, mask):
    """Divergence of the softmax over real keys, of float64 scores [B, N, T, T]."""
    keys = mask[:, None, None, :] > 0
    log_t, log_s = (log_softmax(np.where(keys, x, -1e30)) for x in (teacher, student))
    terms = np.where(keys, np.exp(log_t) * (log_t - log_s), 0).sum(-1) * mask[:, None, :]
    return (terms.sum((1, 2)) / (teacher.shape[1] * mask.sum(1))).mean()


def relation_scores(x, y=None):
    y = x if y is None else y
    return x @ y.swapaxes(-1, -2) / np.sqrt(x.shape[-1])


def split_relation_heads(x, relation_heads):
    batch, heads, length, size = x.shape
    joined = x.swapaxes(1, 2).reshape(batch, length, relation_heads, -1)
    assert joined.shape[-1] * relation_heads == heads * size
    return joined.swapaxes(1, 2)


def prediction_loss(student, teacher, weights, temperature=1.0):
    log_s, log_t = log_softmax(student / temperature), log_softmax(teacher / temperature)
    return example_mean(-(np.exp(log_t) * log_s).sum(-1), weights)


def masked_lm_loss(logits, labels, weights):
    picked = np.take_along_axis(log_softmax(logits), labels[..., None], -1)[..., 0]
    return example_mean(-picked, weights)


def cosine(x, y):
    """Along the last axis; 1 for two zeros."""
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.where(lengths > 0, (x * y).sum(-1) / np.where(lengths > 0, lengths, 1), 1)


def embedding_loss(student, teacher, dims=()):
    sizes = (teacher.shape[1], *dims)
    return np.mean([1 - cosine(student[:, :n], teacher[:, :n]).mean() for n in sizes])


def states_loss(student, teacher, mask):
    return example_mean(1 - cosine(student, teacher), mask)


def similarity_loss(student, teacher, texts):
    """Row by row over the pairs of texts."""
    found = []
    for i in np.flatnonzero(texts):
        pairs = [(student[i], student[j], teacher[i], teacher[j]) for j in np.flatnonzero(texts)]
        found.append(np.mean([(cosine(a, b) - cosine(c, d)) ** 2 for a, b, c, d in pairs]))
    return sum(found) / len(texts)


def random_mask(lengths, padded_length):
    return (np.arange(padded_length) < np.asarray(lengths)[:, None]).astype(np.int32)


def random_trace(seed, mask, *, layers=2, heads=3, size=5):
    """A float64 trace whose scores are those of its queries and keys."""
    generator = np.random.default_rng(seed)
    batch, length = mask.shape

    def draw(*shape):
        return generator.normal(size=(batch, *shape))

    queries, keys, values = (
        tuple(draw(heads, length, size) for _ in range(layers)) for _ in range(3)
    )
    return EncoderTrace(
        embedding_output=draw(length, heads * size),
        hidden_states=tuple(draw(length, heads * size) for _ in range(layers)),
        queries=queries,
        keys=keys,
        values=values,
        attention_scores=tuple(relation_scores(q, k) for q, k in zip(queries, keys, strict=True)),
        pooled_output=None,
        padding_mask=mask,
    )
