"""Student models in the forms that other programs take."""

from etd_tf.export.formats import (
    FORMATS,
    Export,
    ExportOptions,
    export_checkpoint,
    holds_export,
)
from etd_tf.export.litert import export_litert
from etd_tf.export.saved_model import export_saved_model
from etd_tf.export.serving import Predict, ServingModel, ServingSpec, write_serving_model
from etd_tf.export.text_encoder import TextEncoder, why_not_encodable

__all__ = [
    "FORMATS",
    "Export",
    "ExportOptions",
    "Predict",
    "ServingModel",
    "ServingSpec",
    "TextEncoder",
    "export_checkpoint",
    "export_litert",
    "export_saved_model",
    "holds_export",
    "why_not_encodable",
    "write_serving_model",
]
