"""What the process around the library has set for Keras changes no bit of what it makes."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from etd_tf.checkpoints import FORMATS, load_checkpoint, save_checkpoint
from etd_tf.distillation import Distiller
from etd_tf.evaluation.classifiers import SequenceClassifier
from etd_tf.export import SavedModel
from etd_tf.extraction import initial_student, score_units
from etd_tf.extraction.scores import ARRAYS
from etd_tf.lazy import find_keras
from etd_tf.losses import LOSSES
from etd_tf.training.optimization import make_optimizer
from tests.distillation.tiny_distiller import compiled, make_dataset
from tests.helpers import REPOSITORY, random_batch, tiny_checkpoint

# Several at a time, as each costs half a minute.
SETTINGS = {
    "half": ("mixed_bfloat16", "float16", 0.1),
    "other": ("int8_from_float32", "float64", 1e-7),
}


def set_keras(policy: Any, floatx: str, epsilon: float) -> None:
    keras.config.set_floatx(floatx)
    keras.config.set_epsilon(epsilon)
    keras.config.set_dtype_policy(policy)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    known = keras.config.dtype_policy(), keras.config.floatx(), keras.config.epsilon()
    yield
    set_keras(*known)


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file with weights."""
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in {".safetensors", ".index"}]
    files += sorted(folder.rglob("*.data-*"))
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def everything(folder: Path) -> dict[str, Any]:
    """Loads, scores, extracts, embeds, trains and exports a tiny model."""
    keras.utils.set_random_seed(1)
    save_checkpoint(tiny_checkpoint(0, mlm_head=True), folder / "teacher")
    teacher = load_checkpoint(folder / "teacher")
    found: dict[str, Any] = {"loaded": teacher.fingerprint()}
    batch = random_batch(teacher.config)
    for metric in ("magnitude", "taylor"):
        scores = score_units(teacher, batch, metric=metric)
        found[metric] = [getattr(scores, name) for name in ARRAYS]
    found["vectors"] = teacher.embed(["the cat sat", "dog"])
    student = initial_student(teacher, teacher.config.replace(num_layers=1), seed=3)
    for name, loss in LOSSES.items():
        distiller = Distiller(teacher, student.replace(), loss())
        variables = distiller.trainable_variables
        optimizer = make_optimizer(0.01, weight_decay=0.1, variables=variables)
        compiled(distiller, optimizer, run_eagerly=True)
        found[f"{name} loss"] = distiller.fit(make_dataset(1), verbose=0).history["loss"]
        found[name] = distiller.student.fingerprint()
    classifier = SequenceClassifier(student.config, 3)
    found["fine-tuning"] = {str(variable.dtype) for variable in classifier.variables}
    for format in FORMATS:
        report = save_checkpoint(student, folder / format, format=format)
        found[format] = digest(folder / format), report.max_difference
    exported = SavedModel().write(student, folder / "served")
    found["served"] = exported.max_difference
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return everything(tmp_path_factory.mktemp("expected"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_keras_change_nothing(
    setting: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    set_keras(*SETTINGS[setting])
    found = everything(tmp_path)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_equal(value, expected[name], err_msg=name)


def test_commands_read_no_settings_of_keras(tmp_path: Path) -> None:
    teacher = tiny_checkpoint()
    save_checkpoint(teacher, tmp_path / "teacher")
    (tmp_path / ".keras").mkdir()
    settings = {"backend": "theano", "floatx": "bfloat16", "epsilon": 1}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    environment = {"HOME": str(tmp_path), "KERAS_BACKEND": "jax", "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, str(REPOSITORY / "bin" / "etd_export"), "--format=saved_model"]
    done = subprocess.run(
        [*command, f"--model={tmp_path / 'teacher'}", f"--output_dir={tmp_path / 'served'}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["jax", "theano", "torch", "tensorflow", ""])
@pytest.mark.parametrize("in_file", [True, False])
def test_a_backend_that_is_not_installed_is_passed_over(
    backend: str, in_file: bool, tmp_path: Path
) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": backend} if in_file else [1]))
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    environment |= {"KERAS_HOME": str(tmp_path)} | ({} if in_file else {"KERAS_BACKEND": backend})
    code = "import os, etd_tf; print(os.environ.get('KERAS_BACKEND', 'file'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    asked = backend if backend and not in_file else "file" if in_file else ""
    is_there = backend in ("", "tensorflow") or (
        backend == "torch" and importlib.util.find_spec("torch") is not None
    )
    if backend != "jax" or importlib.util.find_spec("jax") is None:
        assert done.stdout.strip() == (asked if is_there else "tensorflow")


def test_a_float_type_that_keras_has_not_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": "bfloat16"}))
    done = subprocess.run(
        [sys.executable, "-c", "import etd_tf, keras; print(keras.config.floatx())"],
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "float32", done.stderr


@pytest.mark.parametrize("installed", [True, False])
def test_legacy_keras_is_asked_for_only_where_it_is_installed(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if installed else None)
    find_keras()
    assert ("TF_USE_LEGACY_KERAS" in os.environ) is installed


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
