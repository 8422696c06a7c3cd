"""etd_tf: make a small BERT out of a big one (Extract Then Distill).

Names are loaded on first use, so that importing the package, and asking a command for
its help, starts neither Keras nor TensorFlow.
"""

from etd_tf.lazy import find_keras, lazy_names

__version__ = "0.1.0"

_HOMES = {
    "BertConfig": "modeling",
    "BertEncoder": "modeling",
    "Checkpoint": "checkpoints",
    "load_checkpoint": "checkpoints",
    "save_checkpoint": "checkpoints",
    "ExtractionPlan": "extraction",
    "UnitScores": "extraction",
    "extract": "extraction",
    "initial_student": "extraction",
    "plan_extraction": "extraction",
    "score_units": "extraction",
    "Distiller": "distillation",
    "Trainer": "distillation",
    "TrainerOptions": "training",
    "DivergenceError": "errors",
    "EtdError": "errors",
    "InputError": "errors",
    "errors": ".",
    "evaluation": ".",
    "export": ".",
    "losses": ".",
    "modeling": ".",
    "reporting": ".",
    "tasks": ".",
    "text": ".",
    "tokenization": ".",
}

__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604
__getattr__ = lazy_names(__name__, _HOMES)
find_keras()


def __dir__() -> list[str]:
    return sorted(__all__)
