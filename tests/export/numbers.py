"""Inputs and outputs of models without a graph: of the tokenizer, and of a head in NumPy."""

import numpy as np

from etd_tf.checkpoints.checkpoint import CLASSIFIER, TAGS, TaskHead
from tests.helpers import tiny_checkpoint


def encode(checkpoint, texts, *, max_length):
    """Encodes texts as `[CLS] pieces [SEP]`, truncated and padded to the longest."""
    tokenizer = checkpoint.tokenizer
    rows = [
        [tokenizer.cls_id, *ids[: max_length - 2], tokenizer.sep_id]
        for ids in tokenizer.encode_batch(texts)
    ]
    token_ids = np.full((len(rows), max(map(len, rows))), tokenizer.pad_id, np.int32)
    mask = np.zeros_like(token_ids)
    for place, row in enumerate(rows):
        token_ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return {"token_ids": token_ids, "segment_ids": np.zeros_like(mask), "padding_mask": mask}


def with_head(reading):
    """A checkpoint with a random classifier of three classes; no pooler without need."""
    checkpoint = tiny_checkpoint(num_layers=1, pooler=reading.needs_pooler)
    width = reading.width(checkpoint.config.hidden_size)
    kernel = np.random.default_rng(0).normal(size=(width, 3)).astype(np.float32)
    head = TaskHead(CLASSIFIER, kernel, np.arange(3, dtype=np.float32), reading=reading)
    return checkpoint.replace(task_head=head)


def with_tags():
    """A checkpoint with a random classifier of tokens."""
    kernel = np.random.default_rng(0).normal(size=(15, 3)).astype(np.float32)
    head = TaskHead(TAGS, kernel, np.arange(3, dtype=np.float32), ("O", "B-A", "I-A"))
    return tiny_checkpoint(num_layers=1, pooler=False).replace(task_head=head)


def read_logits(checkpoint, first, second):
    """The logits in NumPy, of each text's states alone; of no twins the first texts' only."""
    head = checkpoint.task_head

    def vector(batch):
        outputs = {name: np.asarray(value) for name, value in checkpoint.encoder(batch).items()}
        states, lengths = outputs["sequence_output"], batch["padding_mask"].sum(1)
        means = [row[:n].mean(0) for row, n in zip(states, lengths, strict=True)]
        choices = {"pooled": outputs.get("pooled_output"), "mean": means, "first": states[:, 0]}
        return np.asarray(choices[head.reading.pool])

    u = vector(first)
    if head.reading.is_twin:
        v = vector(second)
        u = np.concatenate([u, v, abs(u - v), u * v], axis=1)
    return u @ head.kernel + head.bias
