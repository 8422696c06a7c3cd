"""Text in, batches out: corpora, tokenizers, records, batches, masking and benchmarks' readers.

Names are loaded on first use: a tokenizer or a corpus needs no TensorFlow.
"""

import importlib
from typing import Any

_HOMES = {
    "Corpus": "corpus",
    "Masking": "masking",
    "RecordOptions": "prepare",
    "RecordSet": "records",
    "Tokenizer": "tokenizer",
    "Worker": "batches",
    "beam_engine": "beam",
    "cached_records": "prepare",
    "evaluation_batches": "batches",
    "input_errors": "batches",
    "load_examples": "batches",
    "make_batches": "batches",
    "mask_tokens": "masking",
    "open_corpus": "corpus",
    "open_records": "opening",
    "prepare_on_beam": "beam",
    "prepare_records": "prepare",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"etd_tf.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'etd_tf.data' has no attribute {name!r}")
