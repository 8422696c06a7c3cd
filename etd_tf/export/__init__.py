"""Student models in the forms that other programs take."""

from etd_tf.export.saved_model import export_saved_model
from etd_tf.export.serving import Predict, ServingSpec, write_serving_model
from etd_tf.export.text_encoder import TextEncoder, why_not_encodable

__all__ = [
    "Predict",
    "ServingSpec",
    "TextEncoder",
    "export_saved_model",
    "why_not_encodable",
    "write_serving_model",
]
