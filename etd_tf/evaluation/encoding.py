"""Texts and pairs of texts to token sequences."""

from collections.abc import Iterator, Sequence

import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.tokenization.sequences import Sequences, TwinSequences
from etd_tf.tokenization.tokenizer import Tokenizer

_TEXTS_AT_ONCE = 8192


def middle_separators(tokenizer: Tokenizer) -> int:
    """Separators between the texts of a pair: 1 for BERT, 2 for RoBERTa and its kin."""
    # [CLS] and the last [SEP] are the other two; a bare vocabulary reports 0.
    return max(int(tokenizer.backend.num_special_tokens_to_add(is_pair=True)) - 2, 1)


def tokenize_all(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """Tokenises texts in parallel, some thousands at a time to bound the memory."""
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        yield from tokenizer.encode_batch(texts[start : start + _TEXTS_AT_ONCE])


def encode_texts(
    checkpoint: Checkpoint,
    texts: Sequence[tuple[str, ...]],
    *,
    max_length: int = 128,
    twin: bool = False,
) -> Sequences:
    """Encodes single texts as `[CLS] a [SEP]` and pairs as `[CLS] a [SEP] b [SEP]`.

    Pairs get two separators in the middle where the tokenizer's own template has them.

    A pair that is too long loses tokens at the end of the longer text first, as in
    BERT's pre-training and fine-tuning (Devlin et al. 2018, arXiv 1810.04805).

    Args:
        checkpoint: The model, for its tokenizer and number of segments.
        texts: One or two texts an example.
        max_length: Tokens a sequence, special tokens included.
        twin: Encode each text of a pair alone.

    Returns:
        The sequences in the order of `texts`; of twins `TwinSequences`.

    Raises:
        InputError: The model has no tokenizer or too few positions.
    """
    if twin:
        alone = [(group[place],) for place in (0, 1) for group in texts]
        found = encode_texts(checkpoint, alone, max_length=max_length)
        return TwinSequences(found.token_ids, found.segment_ids, found.pad_id, found.max_length)
    tokenizer = checkpoint.need_tokenizer(max_length)
    pieces = tokenize_all(tokenizer, [text for group in texts for text in group])
    middle = [tokenizer.sep_id] * middle_separators(tokenizer)
    last_segment = min(1, checkpoint.config.type_vocab_size - 1)
    token_ids, segment_ids = [], []
    for group in texts:
        special = 2 + len(middle) * (len(group) - 1)
        first, *rest = _truncate([next(pieces) for _ in group], max_length - special)
        ids = [tokenizer.cls_id, *first, *(middle if rest else [tokenizer.sep_id])]
        segments = [0] * len(ids)
        for part in rest:
            ids += [*part, tokenizer.sep_id]
            segments += [last_segment] * (len(part) + 1)
        token_ids.append(np.asarray(ids, np.int32))
        segment_ids.append(np.asarray(segments, np.int32))
    return Sequences(tuple(token_ids), tuple(segment_ids), tokenizer.pad_id, max_length)


def _truncate(parts: list[list[int]], room: int) -> list[list[int]]:
    """Shortens one or two parts so that they fit into `room` tokens.

    For two parts this is where popping tokens one at a time from the longer one (the
    second on a tie) ends.
    """
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = parts
    kept = min(len(first), max(room - len(second), room - room // 2))
    return [first[:kept], second[: room - kept]]
