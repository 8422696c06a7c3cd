"""Tokenizers: the files that define them, and text to token ids in bulk."""

from etd_tf.lazy import lazy_names

_HOMES = {
    "Tokenizer": "tokenizer",
}

__all__ = list(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)
