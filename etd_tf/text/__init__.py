"""Text in, batches out: corpora, records, batches and masking.

Names are loaded on first use: a corpus needs no TensorFlow.
"""

from etd_tf.lazy import lazy_names

_HOMES = {
    "Corpus": "corpus",
    "Masking": "masking",
    "RecordOptions": "options",
    "RecordSet": "records",
    "Worker": "batches",
    "beam_engine": "beam",
    "cached_records": "prepare",
    "evaluation_batches": "batches",
    "input_errors": "batches",
    "load_examples": "batches",
    "make_batches": "batches",
    "mask_tokens": "masking",
    "open_corpus": "corpus",
    "open_records": "record_directories",
    "prepare_on_beam": "beam",
    "prepare_records": "prepare",
}

__all__ = list(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)
