"""Student models in the forms that other programs take."""

from etd_tf.export.base import Export, Format
from etd_tf.export.google import Google
from etd_tf.export.huggingface import HuggingFace
from etd_tf.export.keras_hub import KerasHub
from etd_tf.export.litert import LiteRT
from etd_tf.export.onnx_file import Onnx
from etd_tf.export.saved_model import SavedModel
from etd_tf.lazy import lazy_names

FORMATS: dict[str, type[Format]] = {
    form.name: form for form in (SavedModel, HuggingFace, KerasHub, Google, LiteRT, Onnx)
}
"""Every format that a model can be written in, by name."""

_HOMES = {
    "Predict": "serving",
    "ServingModel": "serving",
    "ServingSpec": "serving",
    "TextEncoder": "text_encoder",
    "why_not_encodable": "text_encoder",
    "write_serving_model": "serving",
}

__all__ = [  # noqa: PLE0604
    "FORMATS",
    "Export",
    "Format",
    "Google",
    "HuggingFace",
    "KerasHub",
    "LiteRT",
    "Onnx",
    "SavedModel",
    *_HOMES,
]
__getattr__ = lazy_names(__name__, _HOMES)
