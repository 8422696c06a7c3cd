"""Settings that must be in place before TensorFlow and Keras are imported, and fixtures."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture
def tokenizer_dir(tmp_path):
    """A folder with the tiny tokenizer's files."""
    from tests.helpers import tiny_tokenizer

    folder = tmp_path / "tokenizer"
    folder.mkdir()
    tiny_tokenizer().save(folder)
    return folder
