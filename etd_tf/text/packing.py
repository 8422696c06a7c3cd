"""Token ids of documents cut into rows of one length."""

import dataclasses

import numpy as np

from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.types import Array, IntArray


@dataclasses.dataclass
class Packer:
    """Makes rows `[CLS] tokens [SEP] [PAD]...` out of texts.

    Packed: the texts run on, with one `[SEP]` between two of them, and are cut every
    T - 2 tokens, so only the last row has padding (RoBERTa's FULL-SENTENCES, Liu et al.
    2019, arXiv 1907.11692, section 4.2, but cut at tokens). Not packed: every text starts
    a row, and a long one goes on in the next rows. Either way no token is lost or doubled.

    Attributes:
        tokenizer: Gives the special ids.
        sequence_length: Tokens a row (T), at least 3.
        packing: Whether texts share rows.
    """

    tokenizer: Tokenizer
    sequence_length: int
    packing: bool

    def __post_init__(self) -> None:
        self._rest: IntArray = np.zeros(0, np.int64)  # tokens that do not fill a row yet
        self._begun = False  # whether a text came before: the next one needs a separator

    def add(self, ids: IntArray, lengths: IntArray) -> tuple[Array, IntArray]:
        """Takes texts and gives the rows that are full.

        Args:
            ids: Token ids of all texts in a row.
            lengths: Int `[texts]`: number of ids of each text.

        Returns:
            Int32 rows `[n, T]` and the numbers of real tokens `[n]`.
        """
        lengths = lengths[lengths > 0]
        if not self.packing:
            return self._rows(ids, lengths)
        if not len(lengths):
            return self._rows(ids, lengths)
        starts = np.cumsum(lengths) - lengths
        separated = np.insert(ids, starts[0 if self._begun else 1 :], self.tokenizer.sep_id)
        self._begun = True
        stream = np.concatenate([self._rest, separated])
        whole = len(stream) - len(stream) % (self.sequence_length - 2)
        self._rest = stream[whole:]
        return self._rows(stream[:whole], np.array([whole]))

    def finish(self) -> tuple[Array, IntArray]:
        """Gives the last row, if tokens are left, and starts afresh."""
        rest, self._rest, self._begun = self._rest, np.zeros(0, np.int64), False
        return self._rows(rest, np.array([len(rest)]))

    def _rows(self, ids: IntArray, lengths: IntArray) -> tuple[Array, IntArray]:
        """Cuts each text into rows of its own."""
        inner = self.sequence_length - 2
        rows_of_text = -(-lengths // inner)
        first_row = np.cumsum(rows_of_text) - rows_of_text
        within = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        row = np.repeat(first_row, lengths) + within // inner
        total = int(rows_of_text.sum())
        rows = np.full((total, self.sequence_length), self.tokenizer.pad_id, np.int32)
        rows[row, within % inner + 1] = ids
        counts = np.bincount(row, minlength=total).astype(np.int64)
        rows[:, 0] = self.tokenizer.cls_id
        rows[np.arange(total), counts + 1] = self.tokenizer.sep_id
        return rows, counts + 2
