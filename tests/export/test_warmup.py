"""The warm-up file, decoded with message types built from the public field numbers."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

from etd_tf.export.warmup import WarmupRequest, encode_prediction_log, write_warmup

_STRING, _MESSAGE = 9, 11  # FieldDescriptorProto.Type
_OPTIONAL, _REPEATED = 1, 3


def _message(file, name, *fields):
    message = file.message_type.add(name=name)
    for number, label, kind, field, type_name in fields:
        message.field.add(
            name=field, number=number, label=label, type=kind, type_name=type_name or None
        )
    return message


@pytest.fixture(scope="module")
def prediction_log():
    """`tensorflow.serving.PredictionLog`, cut down to what a predict request needs."""
    pool = descriptor_pool.DescriptorPool()
    for dependency in (
        "tensorflow/core/framework/types.proto",
        "tensorflow/core/framework/tensor_shape.proto",
        "tensorflow/core/framework/resource_handle.proto",
        "tensorflow/core/framework/tensor.proto",
    ):
        source = descriptor_pool.Default().FindFileByName(dependency)
        pool.AddSerializedFile(source.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="serving.proto", package="serving", syntax="proto3"
    )
    file.dependency.append("tensorflow/core/framework/tensor.proto")
    _message(
        file,
        "ModelSpec",
        (1, _OPTIONAL, _STRING, "name", None),
        (3, _OPTIONAL, _STRING, "signature_name", None),
    )
    request = _message(
        file,
        "PredictRequest",
        (1, _OPTIONAL, _MESSAGE, "model_spec", ".serving.ModelSpec"),
        (2, _REPEATED, _MESSAGE, "inputs", ".serving.PredictRequest.InputsEntry"),
    )
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_OPTIONAL, type=_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=_OPTIONAL,
        type=_MESSAGE,
        type_name=".tensorflow.TensorProto",
    )
    _message(file, "PredictLog", (1, _OPTIONAL, _MESSAGE, "request", ".serving.PredictRequest"))
    _message(file, "PredictionLog", (6, _OPTIONAL, _MESSAGE, "predict_log", ".serving.PredictLog"))
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("serving.PredictionLog"))


def decode_tensor(message):
    proto = tensor_pb2.TensorProto.FromString(message.SerializeToString())
    return tf.make_ndarray(proto)


def test_a_request_decodes_to_what_was_encoded(prediction_log):
    ids = np.arange(600, dtype=np.int32).reshape(2, 300)  # long enough for two-byte lengths
    request = WarmupRequest("serve_ids", {"token_ids": ids, "text": ["one", "zw\u00f6lf"]})
    log = prediction_log.FromString(encode_prediction_log("student", request))
    decoded = log.predict_log.request
    assert decoded.model_spec.name == "student"
    assert decoded.model_spec.signature_name == "serve_ids"
    assert set(decoded.inputs) == {"token_ids", "text"}
    np.testing.assert_array_equal(decode_tensor(decoded.inputs["token_ids"]), ids)
    text = decode_tensor(decoded.inputs["text"])
    assert [value.decode() for value in text] == ["one", "zw\u00f6lf"]


def test_the_file_is_where_serving_looks_for_it(tmp_path, prediction_log):
    write_warmup(tmp_path, "student", [WarmupRequest(name, {"x": [1]}) for name in "ab"])
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    logs = [prediction_log.FromString(record) for record in records]
    names = [log.predict_log.request.model_spec.signature_name for log in logs]
    assert names == ["a", "b"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
