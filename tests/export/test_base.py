"""Every format through one function, each loaded back."""

import sys

import numpy as np
import pytest

from etd_tf.checkpoints import FORMATS as CHECKPOINT_FORMATS
from etd_tf.checkpoints import load_checkpoint
from etd_tf.errors import InputError
from etd_tf.export import FORMATS, LiteRT, SavedModel
from etd_tf.export.base import size_on_disk
from tests.helpers import tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint(hidden_act="gelu_new", num_layers=1)  # KerasHub's activation


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_written_and_verified(checkpoint, tmp_path, form):
    export = FORMATS[form]().write(checkpoint, tmp_path / form)
    assert export.format == form
    assert export.path.startswith(str(tmp_path / form))
    assert export.bytes_on_disk > 4 * checkpoint.num_parameters()
    assert export.max_difference < 1e-4
    if form in CHECKPOINT_FORMATS:
        assert load_checkpoint(export.path).fingerprint() == checkpoint.fingerprint()
    with pytest.raises(InputError, match="exists already"):
        FORMATS[form]().write(checkpoint, tmp_path / form)


def test_litert_has_the_tokenizer_beside_it(checkpoint, tmp_path):
    export = LiteRT(quantize=True).write(checkpoint, tmp_path / "out")
    assert "int8" in export.note
    assert {"model.tflite", "vocab.txt"} <= {e.name for e in (tmp_path / "out").iterdir()}


def test_saved_model_options_and_note(checkpoint, tmp_path):
    import tensorflow as tf

    export = SavedModel(max_length=6).write(checkpoint, tmp_path / "out")
    assert "import tensorflow_text" in export.note
    serve = tf.saved_model.load(export.path).signatures["serving_default"]
    assert serve(text=tf.constant(["the " * 9]))["token_ids"].shape == (1, 6)


def test_note_says_why_there_is_no_text_input(tmp_path):
    export = SavedModel().write(tiny_checkpoint(vocab_size=9, num_layers=1), tmp_path / "out")
    assert "token ids only: the checkpoint has no tokenizer" in export.note


def test_size_on_disk(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(bytes(3))
    (tmp_path / "a" / "b" / "two").write_bytes(bytes(4))
    assert size_on_disk(tmp_path / "a") == 7
    assert size_on_disk(tmp_path / "a" / "one") == 3
    assert np.isscalar(size_on_disk(tmp_path))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
