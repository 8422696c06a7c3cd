"""Warm-up requests for TensorFlow Serving, without depending on its API package.

TensorFlow Serving replays `assets.extra/tf_serving_warmup_requests` when it loads a
model, so that the first real request does not pay for lazy initialisation. The file holds
`PredictionLog` messages; the few fields needed are encoded here from their numbers in
`tensorflow_serving/apis/{prediction_log,predict,model}.proto`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from etd_tf.storage.protobuf import encode_field

_PREDICTION_LOG_PREDICT_LOG = 6
_PREDICT_LOG_REQUEST = 1
_REQUEST_MODEL_SPEC, _REQUEST_INPUTS = 1, 2
_MODEL_NAME, _MODEL_SIGNATURE = 1, 3
_MAP_KEY, _MAP_VALUE = 1, 2


class WarmupRequest(NamedTuple):
    """One request: the signature to call and its inputs by name (arrays or lists)."""

    signature: str
    inputs: Mapping[str, Any]


def write_warmup(
    version_directory: Path, model_name: str, requests: Iterable[WarmupRequest]
) -> None:
    """Writes the warm-up file of a SavedModel.

    Args:
        version_directory: The SavedModel's directory (`NAME/1`).
        model_name: Name under which the model is served.
        requests: What to replay.
    """
    folder = version_directory / "assets.extra"
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for request in requests:
            writer.write(encode_prediction_log(model_name, request))


def encode_prediction_log(model_name: str, request: WarmupRequest) -> bytes:
    """Encodes a `tensorflow.serving.PredictionLog` holding one predict request."""
    spec = encode_field(_MODEL_NAME, model_name.encode()) + encode_field(
        _MODEL_SIGNATURE, request.signature.encode()
    )
    message = encode_field(_REQUEST_MODEL_SPEC, spec)
    for name, value in request.inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        entry = encode_field(_MAP_KEY, name.encode()) + encode_field(_MAP_VALUE, tensor)
        message += encode_field(_REQUEST_INPUTS, entry)
    return encode_field(_PREDICTION_LOG_PREDICT_LOG, encode_field(_PREDICT_LOG_REQUEST, message))
