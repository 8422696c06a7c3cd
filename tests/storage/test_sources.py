"""From names to directories; nothing here touches the network."""

import sys
from pathlib import Path
from typing import Any

import pytest

from etd_tf.checkpoints.loading import load_checkpoint, save_checkpoint
from etd_tf.errors import InputError
from etd_tf.storage.sources import check_present, resolve_source
from tests.helpers import need_quickstart_teacher, tiny_checkpoint


def test_paths_stay_paths(tmp_path: Path) -> None:
    assert resolve_source(tmp_path) == tmp_path
    assert resolve_source("some/model") == Path("some/model")


def test_names_that_no_file_has_are_refused(tmp_path: Path) -> None:
    check_present(tmp_path / ("e" * 255))
    with pytest.raises(InputError, match="the name is too long for a file"):
        check_present(tmp_path / ("\u00e9" * 128))


def test_package_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_models" / "tiny").mkdir(parents=True)
    (tmp_path / "some_models" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve_source("package:some_models/tiny") == tmp_path / "some_models" / "tiny"
    with pytest.raises(InputError, match="has no folder 'absent'"):
        resolve_source("package:some_models/absent")


@pytest.mark.parametrize("name", ["no_such_package_here/x", "", "/x", "..", "a.b.c/x"])
def test_package_that_is_not_installed(name: str) -> None:
    with pytest.raises(InputError, match="pip install"):
        resolve_source(f"package:{name}")


def test_hugging_face_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tiny_checkpoint()
    save_checkpoint(checkpoint, tmp_path / "snapshot")
    calls: list[tuple[str, Any]] = []

    def snapshot_download(name: str, *, allow_patterns: Any) -> str:
        calls.append((name, allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    loaded = load_checkpoint("hf://owner/tiny")
    assert loaded.fingerprint() == checkpoint.fingerprint()
    assert loaded.source == "hf://owner/tiny"
    assert [name for name, _ in calls] == ["owner/tiny"]
    assert not any(pattern.endswith(".bin") for pattern in calls[0][1])


def test_hugging_face_repository_with_pytorch_bin_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns: list[Any] = []

    def snapshot_download(name: str, *, allow_patterns: Any) -> str:
        del name
        patterns.append(allow_patterns)
        if "pytorch_model*.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve_source("hf://owner/old") == tmp_path
    assert "pytorch_model*.bin" in patterns[-1]
    weights = ("*.safetensors", "*.h5", "pytorch_model*.bin")  # never two kinds of them
    assert [[name for name in weights if name in asked] for asked in patterns] == [
        [name] for name in weights
    ]


@pytest.mark.parametrize(
    "file",
    [
        "modules.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "2_Dense/pytorch_model.bin",
        "sentence_bert_config.json",
        "README.md",
    ],
)
def test_files_of_a_sentence_encoder_are_fetched(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.utils import filter_repo_objects

    found: list[str] = []

    def snapshot_download(name: str, *, allow_patterns: Any) -> str:
        del name
        found.extend(filter_repo_objects([file, "model.onnx"], allow_patterns=allow_patterns))
        (tmp_path / "model.safetensors").touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    resolve_source("hf://owner/encoder")
    assert found == [file]


def test_paths_are_no_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert_model.index").touch()
    assert resolve_source("bert_model") == Path("bert_model")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_source("~/teacher") == tmp_path / "teacher"


def test_hugging_face_name_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, *, allow_patterns: Any) -> str:
        raise OSError(f"no network for {name}: {allow_patterns}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(InputError, match=r"hf://owner/tiny cannot be downloaded \(no network"):
        resolve_source("hf://owner/tiny")


def test_kaggle_handle_and_keras_hub_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles: list[str] = []

    def model_download(handle: str) -> str:
        handles.append(handle)
        return str(tmp_path)

    monkeypatch.setattr("kagglehub.model_download", model_download)
    assert resolve_source("kaggle://keras/bert/keras/bert_tiny_en_uncased") == tmp_path
    assert resolve_source("bert_base_en_uncased") == tmp_path
    assert handles[0] == "keras/bert/keras/bert_tiny_en_uncased"
    assert handles[1].startswith("keras/bert/keras/bert_base_en_uncased")


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="bert_base_en_uncased"):
        resolve_source("gpt2_base_en")
    with pytest.raises(InputError, match="Expected a checkpoint directory"):
        resolve_source("")


def test_quickstart_teacher() -> None:
    assert (resolve_source(need_quickstart_teacher()) / "config.json").is_file()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
