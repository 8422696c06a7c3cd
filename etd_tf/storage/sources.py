"""From the name a user types to a directory on disk."""

import importlib.util
import os
import re
from pathlib import Path

from etd_tf.errors import InputError
from etd_tf.storage.home import expand

_PACKAGE, _HUGGINGFACE, _KAGGLE = "package:", "hf://", "kaggle://"
_EXPECTED = (
    "Expected a checkpoint directory, package:NAME/SUBDIR, hf://OWNER/NAME, kaggle://HANDLE or "
    "the name of a KerasHub preset such as bert_base_en_uncased"
)
_PRESET = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+")
_CHECKPOINT_FILES = ("config.json", "bert_config.json", "*.index")
# What describes a checkpoint, and its weights: the first kind that there is.
_DESCRIPTION = ("*.json", "*.txt", "*.model", "README.md", "assets/*", "etd_tf/*", "*_Dense/*")
_WEIGHTS = (
    ("*.safetensors",),
    ("*.h5",),
    ("pytorch_model*.bin",),
    ("*.index", "*.data-*"),
)
_LONGEST_NAME = 255  # bytes, of every usual file system
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def check_present(path: Path) -> None:
    """Checks that the content of a file, if it exists, is on this disk.

    Raises:
        InputError: It is a link to nothing, or a Git LFS pointer, or no file can be called so.
    """
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise InputError(f"Cannot read {path.name[:80]}...: the name is too long for a file.")
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{path} is a link to {path.readlink()}, which does not exist. "
            "Download the model again, or copy it with its links resolved (cp -rL)."
        )
    small = path.is_file() and path.stat().st_size < 1024  # as the specification demands
    if small and path.read_bytes().startswith(_LFS_POINTER):
        raise InputError(
            f"{path} is a Git LFS pointer, not the file itself. "
            "Run git lfs pull in its repository, or download the file."
        )


def find_student(folder: Path) -> Path:
    """The student inside of a run directory; anything else stays as it is."""
    student = folder / "student"
    # A checkpoint that happens to have such a folder is meant itself.
    is_checkpoint = any(any(folder.glob(pattern)) for pattern in _CHECKPOINT_FILES)
    return student if student.is_dir() and not is_checkpoint else folder


def resolve_source(source: str | Path) -> Path:
    """Finds the file or directory that a checkpoint's name stands for.

    Args:
        source: A path; a run directory, which stands for its student; `package:NAME/SUBDIR` (a
            folder inside an installed Python package); `hf://OWNER/NAME` (the Hugging Face Hub);
            `kaggle://HANDLE` or a KerasHub preset name (Kaggle). Remote ones are downloaded into
            the library's own cache.

    Returns:
        A path; it need not exist where `source` was a path.

    Raises:
        InputError: The package, repository or preset does not exist.
    """
    name = str(source)
    if not name:
        raise InputError(f"The name of a checkpoint is empty. {_EXPECTED}.")
    if name.startswith(_PACKAGE):
        return _package_folder(name.removeprefix(_PACKAGE))
    if name.startswith(_HUGGINGFACE):
        return _huggingface_snapshot(name.removeprefix(_HUGGINGFACE))
    if name.startswith(_KAGGLE):
        return _kaggle_download(name.removeprefix(_KAGGLE))
    path = expand(name)
    # Google's checkpoints are named without the ends of their files.
    if not path.exists() and not Path(f"{path}.index").exists() and _PRESET.fullmatch(name):
        return _keras_hub_preset(name)
    return find_student(path)


def _package_folder(name: str) -> Path:
    package, _, folder = name.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"Python package {package!r} is not installed, so package:{name} cannot be found. "
            f"Install it (pip install {package}) or pass a checkpoint directory."
        )
    path = Path(next(iter(spec.submodule_search_locations))) / folder
    if not path.is_dir():
        raise InputError(f"Python package {package!r} has no folder {folder!r}.")
    return path


def _huggingface_snapshot(name: str) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            f"hf://{name} needs huggingface_hub: pip install huggingface_hub. {_EXPECTED}."
        ) from error
    try:
        for weights in _WEIGHTS:
            patterns = [*_DESCRIPTION, *weights]
            folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
            if any(any(folder.glob(pattern)) for pattern in weights):
                break
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise InputError(f"hf://{name} cannot be downloaded ({error}).") from error
    return folder


def _kaggle_download(handle: str) -> Path:
    import kagglehub

    try:
        return Path(kagglehub.model_download(handle))
    except Exception as error:  # its errors share no base class
        raise InputError(f"kaggle://{handle} cannot be downloaded ({error}).") from error


def _keras_hub_preset(name: str) -> Path:
    import keras_hub

    presets = keras_hub.models.BertBackbone.presets
    if name not in presets:
        raise InputError(
            f"{name!r} is neither an existing path nor a KerasHub preset of BertBackbone. "
            f"{_EXPECTED}. Presets: {', '.join(sorted(presets))}."
        )
    return _kaggle_download(str(presets[name]["kaggle_handle"]).removeprefix(_KAGGLE))
