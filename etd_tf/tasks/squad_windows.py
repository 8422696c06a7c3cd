"""SQuAD questions as overlapping windows of question and paragraph tokens."""

import dataclasses

import numpy as np

from etd_tf.checkpoints.checkpoint import Checkpoint
from etd_tf.errors import InputError
from etd_tf.evaluation.encoding import middle_separators, tokenize_all
from etd_tf.tasks.squad_data import SquadDataset, SquadQuestion
from etd_tf.tokenization.sequences import Sequences
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, IntArray

MAX_QUESTION_LENGTH = 64
_CHUNK = 1024  # paragraphs tokenised at once; offsets are objects and take memory


@dataclasses.dataclass(frozen=True)
class WindowOptions:
    """How long paragraphs are cut.

    Attributes:
        max_length: Tokens of a window, question and special tokens included.
        doc_stride: Paragraph tokens between the starts of neighbouring windows.
    """

    max_length: int = 384
    doc_stride: int = 128

    def __post_init__(self) -> None:
        if self.doc_stride < 1:
            raise InputError(f"doc_stride={self.doc_stride} is not positive. Usual: 128.")


@dataclasses.dataclass(frozen=True)
class Windows:
    """All windows of a dataset, `[CLS] question [SEP] paragraph part [SEP]` each.

    Attributes:
        sequences: Their tokens.
        question: Position in `SquadDataset.questions`, `[w]`.
        prefix: Position of the first paragraph token in the window, `[w]`.
        first_token: Number of that token in its paragraph, `[w]`.
        count: Paragraph tokens in the window, `[w]`.
        offsets: Of each paragraph, int32 `[tokens, 2]`: the characters where its tokens
            start and end.
    """

    sequences: Sequences
    question: IntArray
    prefix: IntArray
    first_token: IntArray
    count: IntArray
    offsets: tuple[Array, ...]


def make_windows(
    checkpoint: Checkpoint, dataset: SquadDataset, options: WindowOptions = WindowOptions()
) -> Windows:
    """Tokenises questions and paragraphs, each once, and cuts them into windows.

    Args:
        checkpoint: The model, for its tokenizer and sizes.
        dataset: The questions.
        options: Window length and stride.

    Returns:
        The windows, those of a question one after the other.

    Raises:
        InputError: The model has no tokenizer or too few positions, or a window has no
            room for the paragraph.
    """
    tokenizer = checkpoint.need_tokenizer(options.max_length)
    queries = [
        ids[:MAX_QUESTION_LENGTH]
        for ids in tokenize_all(tokenizer, [question.text for question in dataset.questions])
    ]
    longest = max(len(query) for query in queries)
    middle = [tokenizer.sep_id] * middle_separators(tokenizer)
    if options.max_length <= longest + len(middle) + 2:
        raise InputError(
            f"max_length={options.max_length} leaves no room for paragraphs beside questions of "
            f"{longest} tokens. Choose at least {longest + len(middle) + 2 + options.doc_stride}."
        )
    paragraphs, offsets = _tokenize(tokenizer, dataset)
    rows: list[tuple[int, int, int, int]] = []
    token_ids, segment_ids = [], []
    last_segment = min(1, checkpoint.config.type_vocab_size - 1)
    for number, (entry, query) in enumerate(zip(dataset.questions, queries, strict=True)):
        paragraph, head = paragraphs[entry.context], [tokenizer.cls_id, *query, *middle]
        start = len(head)
        room = options.max_length - start - 1
        for first in _starts(len(paragraph), room, options.doc_stride):
            part = paragraph[first : first + room]
            rows.append((number, start, first, len(part)))
            token_ids.append(np.concatenate([head, part, [tokenizer.sep_id]]).astype(np.int32))
            segments = np.full(len(token_ids[-1]), last_segment, np.int32)
            segments[:start] = 0
            segment_ids.append(segments)
    question, prefix, first_token, count = np.asarray(rows, np.int64).T
    sequences = Sequences(
        tuple(token_ids), tuple(segment_ids), tokenizer.pad_id, options.max_length
    )
    return Windows(sequences, question, prefix, first_token, count, offsets)


def _tokenize(tokenizer: Tokenizer, dataset: SquadDataset) -> tuple[list[Array], tuple[Array, ...]]:
    """Token ids and character offsets of every paragraph that has a question."""
    used = sorted({question.context for question in dataset.questions})
    ids = [np.empty(0, np.int32)] * len(dataset.contexts)
    offsets = [np.empty((0, 2), np.int32)] * len(dataset.contexts)
    for start in range(0, len(used), _CHUNK):
        chunk = used[start : start + _CHUNK]
        encodings = tokenizer.backend.encode_batch(
            [dataset.contexts[place] for place in chunk], add_special_tokens=False
        )
        for place, encoding in zip(chunk, encodings, strict=True):
            ids[place] = np.asarray(encoding.ids, np.int32)
            offsets[place] = np.asarray(encoding.offsets, np.int32).reshape(-1, 2)
    return ids, tuple(offsets)


def _starts(length: int, room: int, stride: int) -> range:
    """First tokens of the windows; the last window reaches the paragraph's end."""
    if length <= room:
        return range(1)
    stride = min(stride, room)
    return range(0, length - room + stride, stride)


def answer_positions(windows: Windows, dataset: SquadDataset) -> dict[str, IntArray]:
    """Training targets: where each window's answer starts and ends.

    Only the first answer that has a place counts. Windows that do not hold all of it point at
    `[CLS]`, which stands for "no answer" (Devlin et al. 2018, section 4.3).

    Returns:
        `start_positions` and `end_positions`, int64 `[w]`, positions in the window.
    """
    spans = [
        _token_span(windows.offsets[question.context], question) for question in dataset.questions
    ]
    first, last = np.asarray(spans, np.int64)[windows.question].T
    inside = (first >= windows.first_token) & (last < windows.first_token + windows.count)
    inside &= first >= 0
    shift = windows.prefix - windows.first_token
    return {
        "start_positions": np.where(inside, first + shift, 0),
        "end_positions": np.where(inside, last + shift, 0),
    }


def _token_span(offsets: Array, question: SquadQuestion) -> tuple[int, int]:
    """First and last token that share a character with the answer; -1 for none."""
    placed = [(text, start) for text, start in question.answers if start >= 0]
    if not placed:
        return -1, -1
    text, start = placed[0]
    start += len(text) - len(text.lstrip())
    touched = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < start + len(text.strip())))
    return (int(touched[0]), int(touched[-1])) if len(touched) else (-1, -1)
