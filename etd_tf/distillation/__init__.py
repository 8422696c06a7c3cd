"""Distilling a student: the Distiller (`model.fit`) and the Trainer (the full loop)."""

from etd_tf.distillation.distiller import Distiller
from etd_tf.distillation.trainer import Trainer, fit_together

__all__ = ["Distiller", "Trainer", "fit_together"]
