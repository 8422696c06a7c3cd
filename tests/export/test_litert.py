"""LiteRT files run on built-in operators and give the model's numbers."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from etd_tf.errors import EtdError, InputError
from etd_tf.export import export_litert, litert
from etd_tf.export.litert import run_litert
from tests.helpers import random_batch, relative_error, tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(hidden_act="gelu_new", num_layers=2)


@pytest.fixture(scope="module")
def path(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("litert") / "made" / "model.tflite"
    assert export_litert(checkpoint, path) < 1e-5
    return path


@pytest.mark.parametrize(("batch_size", "length"), [(1, 1), (3, 7), (2, 23)])
def test_any_batch_and_length_equals_the_model(checkpoint, path, batch_size, length):
    batch = random_batch(checkpoint.config, batch_size=batch_size, length=length)
    outputs = run_litert(path.read_bytes(), batch)
    expected = checkpoint.encoder(batch)
    assert set(outputs) == {"sequence_output", "pooled_output"}
    for name, value in outputs.items():
        assert value.dtype == np.float32
        assert relative_error(value, expected[name]) < 1e-5


def test_signature_and_operators(path):
    interpreter = tf.lite.Interpreter(str(path))
    assert interpreter.get_signature_list() == {
        "serving_default": {
            "inputs": ["padding_mask", "segment_ids", "token_ids"],
            "outputs": ["pooled_output", "sequence_output"],
        }
    }
    operators = {details["op_name"] for details in interpreter._get_ops_details()}
    assert not {name for name in operators if name.startswith("Flex") or name == "CUSTOM"}


def test_exact_gelu_without_pooler_from_mixed_precision(tmp_path):
    checkpoint = tiny_checkpoint(pooler=False, num_layers=1)
    assert export_litert(checkpoint.astype("mixed_bfloat16"), tmp_path / "m.tflite") < 1e-5
    batch = random_batch(checkpoint.config)
    outputs = run_litert((tmp_path / "m.tflite").read_bytes(), batch)
    assert set(outputs) == {"sequence_output"}
    expected = checkpoint.encoder(batch)["sequence_output"]
    assert relative_error(outputs["sequence_output"], expected) < 1e-5
    assert not any(layer.portable for layer in checkpoint.encoder.encoder_layers)


def test_quantised_file_is_smaller_and_close(tmp_path):
    checkpoint = tiny_checkpoint(num_layers=1, hidden_size=64, num_heads=2, intermediate_size=256)
    exact, small = tmp_path / "exact.tflite", tmp_path / "small.tflite"
    export_litert(checkpoint, exact)
    difference = export_litert(checkpoint, small, quantize=True)
    assert 1e-4 < difference < 0.2
    assert small.stat().st_size < 0.5 * exact.stat().st_size


def test_wrong_numbers_are_not_written(checkpoint, tmp_path, monkeypatch):
    other = litert._convert(tiny_checkpoint(1, hidden_act="gelu_new", num_layers=2), quantize=False)
    monkeypatch.setattr(litert, "_convert", lambda *_, **__: other)
    with pytest.raises(EtdError, match="LiteRT check failed"):
        export_litert(checkpoint, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_refusals(checkpoint, path, tmp_path):
    with pytest.raises(InputError, match=r"end in \.tflite"):
        export_litert(checkpoint, tmp_path / "model.lite")
    with pytest.raises(InputError, match="pass overwrite=True"):
        export_litert(checkpoint, path)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
