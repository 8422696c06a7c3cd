"""What any training needs: optimizer, strategies, workers, signals, checkpoints, log."""

from etd_tf.lazy import lazy_names

_HOMES = {
    "TrainResult": "options",
    "TrainerOptions": "options",
}

__all__ = list(_HOMES)
__getattr__ = lazy_names(__name__, _HOMES)
