"""Model inputs made with the tokenizer alone, without a graph."""

import numpy as np


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
