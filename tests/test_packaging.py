"""Packaging: declared dependencies are the imported ones, pins agree, the wheel is whole."""

import ast
import importlib
import operator
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY
from tests.sources import PACKAGE, imported, sources

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
SOFT_IMPORTS = {"huggingface_hub", "onnxruntime"}  # each use names the install command in its error


def distribution(requirement: str) -> str:
    """The normalised project name at the start of a requirement."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def pins(name: str) -> dict[str, str]:
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([A-Za-z0-9._-]+)==([^\s\\;]+)", line) for line in lines)
    return {distribution(match[1]): match[2] for match in found if match}


def test_imported_packages_are_declared():
    heads = {module.partition(".")[0] for path in sources() for _, module in imported(path)}
    third_party = heads - set(sys.stdlib_module_names) - {"etd_tf"} - SOFT_IMPORTS
    names = {
        "absl": "absl-py",
        "google": "tensorflow",  # protobuf comes with it
        "kagglehub": "keras-hub",  # likewise
        "sklearn": "scikit-learn",
    }
    needed = {names.get(head, head.replace("_", "-")) for head in third_party}
    declared = {distribution(requirement) for requirement in PROJECT["dependencies"]}
    optional = {distribution(r) for name in ("datasets", "beam", "onnx") for r in EXTRAS[name]}
    assert needed <= declared | optional
    assert declared <= needed, "a dependency that nothing imports"


def test_every_direct_dependency_is_pinned():
    runtime, dev = pins("requirements.txt"), pins("requirements/dev.txt")
    extras = [*EXTRAS["datasets"], *EXTRAS["huggingface"]]
    assert set(runtime) == {distribution(r) for r in (*PROJECT["dependencies"], *extras)}
    assert set(dev) == {distribution(r) for r in EXTRAS["dev"]} - {"etd-tf"}
    assert set(pins("requirements/docs.txt")) == {distribution(r) for r in EXTRAS["docs"]}
    beam = pins("requirements/beam.txt")
    assert {distribution(r) for r in EXTRAS["beam"]} <= set(runtime) | set(beam)
    assert {name: beam[name] for name in set(beam) & set(dev)}.items() <= dev.items()


def test_datasets_can_be_looked_up():
    """TensorFlow Datasets imports packages that it does not declare."""
    pytest.importorskip("tensorflow_datasets")
    code = "import tensorflow_datasets as tfds; tfds.core.DatasetBuilder; "
    code += "from tensorflow_datasets.text.glue import Glue; print(Glue.code_path.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "importlib-resources" in {distribution(r) for r in EXTRAS["datasets"]}
    assert "importlib-resources" in {distribution(r) for r in EXTRAS["beam"]}


@pytest.mark.parametrize(
    ("lock", "inputs"),
    [
        ("requirements/runtime.lock", ["requirements.txt"]),
        ("requirements/dev.lock", ["requirements/runtime.lock", "requirements/dev.txt"]),
        ("requirements/docs.lock", ["requirements/docs.txt"]),
        ("requirements/beam.lock", ["requirements.txt", "requirements/beam.txt"]),
    ],
)
def test_locks_agree_with_their_inputs(lock, inputs):
    locked = pins(lock)
    for name in inputs:
        assert pins(name).items() <= locked.items(), f"{lock} is older than {name}: make lock"


def test_layers_of_the_environment_agree():
    """Each layer is installed over the one before and must not change what is there."""
    layers = ["requirements/runtime.lock", "requirements/dev.lock", "requirements/docs.lock"]
    versions: dict[str, set[str]] = {}
    for name in (*layers, "requirements/torch.txt", "requirements/quickstart.txt"):
        for package, version in pins(name).items():
            versions.setdefault(package, set()).add(version)
    assert not {package for package, found in versions.items() if len(found) > 1}


@pytest.mark.parametrize(
    "name",
    [
        "requirements/runtime.lock",
        "requirements/dev.lock",
        "requirements/docs.lock",
        "requirements/beam.lock",
        "requirements/quickstart.txt",
    ],
)
def test_locks_have_hashes(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    assert all("--hash=sha256:" in line and "==" in line for line in lines)


def test_the_quickstart_needs_no_pytorch():
    assert "torch" not in pins("requirements/runtime.lock")
    assert "sentence-transformers" not in pins("requirements/runtime.lock")


def test_version_is_said_once_everywhere():
    import etd_tf

    assert PROJECT["version"] == etd_tf.__version__
    module = (REPOSITORY / "MODULE.bazel").read_text(encoding="utf-8")
    assert f'version = "{etd_tf.__version__}"' in module


def test_commands_are_the_same_in_bin_and_in_the_wheel():
    scripts = PROJECT["scripts"]
    assert set(scripts) == {path.name for path in (REPOSITORY / "bin").glob("etd_*")}
    for name, target in scripts.items():
        module, _, function = target.partition(":")
        assert module == f"etd_tf.cli.{name.removeprefix('etd_')}"
        assert callable(operator.attrgetter(function)(importlib.import_module(module)))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the sources."""
    source = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, source / "etd_tf", ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(source / "dist"), str(source)],
        check=True,
        capture_output=True,
    )
    (path,) = (source / "dist").glob("etd_tf-*.whl")
    return path


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    info = f"etd_tf-{PROJECT['version']}.dist-info/"
    modules = {path.relative_to(REPOSITORY).as_posix() for path in PACKAGE.rglob("*.py")}
    library = {name for name in names if not name.startswith(info)}
    assert library == modules | {"etd_tf/py.typed"}
    assert {f"{info}licenses/LICENSE", f"{info}entry_points.txt", f"{info}METADATA"} <= names


def test_the_wheel_works_outside_the_repository(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import etd_tf, etd_tf.cli.distill, etd_tf.extraction\n"
        "print([etd_tf.__file__, etd_tf.extraction.__file__])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    files = ast.literal_eval(done.stdout.splitlines()[-1])
    assert all(Path(file).is_relative_to(tmp_path / "site") for file in files)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
