"""etd_tf: make a small BERT out of a big one (Extract Then Distill).

Names are loaded on first use, so that importing the package, and asking a command for
its help, starts neither Keras nor TensorFlow.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BertConfig": "etd_tf.modeling",
    "BertEncoder": "etd_tf.modeling",
    "Checkpoint": "etd_tf.checkpoints",
    "load_checkpoint": "etd_tf.checkpoints",
    "save_checkpoint": "etd_tf.checkpoints",
    "ExtractionPlan": "etd_tf.extraction",
    "UnitScores": "etd_tf.extraction",
    "extract": "etd_tf.extraction",
    "initial_student": "etd_tf.extraction",
    "plan_extraction": "etd_tf.extraction",
    "score_units": "etd_tf.extraction",
    "Distiller": "etd_tf.distillation",
    "Trainer": "etd_tf.distillation",
    "TrainerOptions": "etd_tf.distillation",
    "DivergenceError": "etd_tf.errors",
    "EtdError": "etd_tf.errors",
    "InputError": "etd_tf.errors",
}
_MODULES = ("data", "errors", "evaluation", "export", "losses", "modeling", "reporting")

__all__ = [*_HOMES, *_MODULES, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"etd_tf.{name}")
    raise AttributeError(f"module 'etd_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
