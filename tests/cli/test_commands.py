"""What holds for every command: quick help, no idle flag, shipped configurations that parse."""

import dataclasses
import importlib
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest

from etd_tf.cli.app import Command
from etd_tf.cli.flags import FlagSet
from tests.helpers import REPOSITORY

NAMES = sorted(path.stem for path in (REPOSITORY / "bin").glob("etd_*"))
CONFIGS = sorted((REPOSITORY / "configs").glob("*.flags"))


def _module(name):
    return importlib.import_module(f"etd_tf.cli.{name.removeprefix('etd_')}")


def _flags(command):
    return FlagSet(*command.settings)


def test_there_are_commands_and_configurations():
    assert "etd_distill" in NAMES
    assert CONFIGS


@pytest.mark.parametrize("absent", ["absl", "tensorflow"])
@pytest.mark.parametrize("has_environment", [True, False])
def test_an_incomplete_python_hands_over_or_says_what_it_lacks(tmp_path, absent, has_environment):
    shutil.copytree(REPOSITORY / "bin", tmp_path / "bin")
    python = tmp_path / ".venv" / "bin" / "python"
    if has_environment:
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\necho handed over "$@"\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, os\n"
        "find = importlib.util.find_spec\n"
        "if not os.environ.get('ETD_TF_LAUNCHED'):\n"
        f"    importlib.util.find_spec = lambda name: None if name == {absent!r} else find(name)\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "bin" / "etd_distill"), "--help"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if has_environment:
        first, second = done.stdout.splitlines()[:2]
        assert first == f"handed over {tmp_path}/bin/etd_distill --help"
        assert second.startswith("etd_distill: ")
    else:
        assert done.stderr == f"etd_tf needs {absent}; `make setup` installs everything.\n"
    assert done.returncode == (0 if has_environment else 1)


@pytest.mark.parametrize("name", NAMES)
def test_help_is_quick_and_loads_no_tensorflow(name):
    script = (
        "import sys; from etd_tf.cli.app import run_command\n"
        f"from etd_tf.cli.{name.removeprefix('etd_')} import COMMAND\n"
        "status = run_command(COMMAND, ['--help'])\n"
        "heavy = {'tensorflow', 'keras', 'torch', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy - {'numpy'} else status)\n"
    )
    # Processor time, because other work may be going on.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: ")
    assert done.stderr == ""
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


# A value for each flag of etd_distill that differs from its default.
_OTHER_VALUES = {
    "teacher": "other",
    "output_dir": "other",
    "student_layers": 2,
    "student_hidden": 9,
    "student_heads": 3,
    "student_intermediate": 7,
    "extraction": "rand",
    "head_mode": "heads",
    "layer_selection": "1,3",
    "importance_metric": "magnitude",
    "importance_loss": "mlm",
    "importance_examples": 7,
    "scores": __file__,
    "compensate": "true",
    "corpus": "a,b",
    "validation_corpus": "c",
    "tokenizer": "t",
    "sequence_length": 64,
    "cache_dir": "/tmp/c",
    "loss": "minilmv2",
    "tinybert_layers": "all",
    "teacher_layer": 1,
    "relation_heads": 3,
    "temperature": 2.0,
    "keep_map": "true",
    "matryoshka": "4,2",
    "loss_weights": "2",
    "student_loss_weight": 0.5,
    "masking_rate": 0.2,
    "cache_vectors": "false",
    "similar_lengths": "false",
    "min_fidelity": 0.5,
    "held_out_sequences": 9,
    "steps": 7,
    "batch_size": 8,
    "learning_rate": 0.1,
    "warmup_steps": 3,
    "weight_decay": 0.2,
    "clip_norm": 2.0,
    "gradient_accumulation": 2,
    "dropout": 0.3,
    "log_every": 3,
    "evaluate_every": 3,
    "checkpoint_every": 3,
    "keep_checkpoints": 3,
    "strategy": "mirrored",
    "jit_compile": "on",
    "precision": "mixed_float16",
    "teacher_precision": "mixed_bfloat16",
    "steps_per_call": 3,
    "overwrite": "true",
    "seed": 3,
    "export": "litert",
}
# Flags of one loss only.
_LOSS_OF = {
    "tinybert_layers": "tinybert",
    "relation_heads": "minilmv2",
    "temperature": "mlm",
    "keep_map": "embedding",
    "matryoshka": "embedding,similarity",
}


def test_every_flag_of_distill_changes_the_settings():
    from etd_tf.cli import distill

    def options(**changes):
        flag_set = _flags(distill.COMMAND)
        values = {"teacher": "t", "output_dir": "o", "corpus": "c", **changes}
        flag_set.values(["etd_distill", *(f"--{k}={v}" for k, v in values.items())])
        return dataclasses.replace(flag_set.read(distill.DistillOptions), settings={})

    known = {flag for group in _flags(distill.COMMAND).groups.values() for flag in group}
    assert known - {"dry_run"} == set(_OTHER_VALUES)
    for name, value in _OTHER_VALUES.items():
        base = {"loss": _LOSS_OF[name]} if name in _LOSS_OF else {}
        assert options(**base, **{name: value}) != options(**base), name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_parse(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#"), "say what it makes, on which hardware, and how long it takes"
    lines = [line for line in text.splitlines() if line.startswith("--")]
    flag_names = {re.match(r"--(?:no)?(\w+)", line)[1] for line in lines}
    fitting = []
    for name in NAMES:
        command: Command = _module(name).COMMAND
        known = {flag for group in _flags(command).groups.values() for flag in group}
        if {re.match(r"--(\w+)", line)[1] for line in lines} <= known or flag_names <= known:
            fitting.append(command)
    assert fitting, f"no command has all flags of {path.name}"
    for command in fitting:
        flag_set = _flags(command)
        rest = flag_set.values([command.name, f"--flagfile={path}", "--teacher=t"])
        assert len(rest) == 1


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
