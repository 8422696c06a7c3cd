"""Tests of a comparison's downstream tasks."""

import dataclasses
import shutil
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.evaluation.options import FinetuneOptions
from etd_tf.jobs.compare_tasks import DownstreamOptions, fingerprint_tasks
from tests.evaluation.fixtures import write_squad, write_sst2, write_stsb


def test_downstream_tasks_need_data():
    with pytest.raises(InputError, match="pass glue_dir=DIR"):
        DownstreamOptions(tasks=("sts-probe",))
    with pytest.raises(InputError, match=r"choose from sts-probe, .*glue/cola"):
        DownstreamOptions(tasks=("mnli",), data={"glue_dir": "glue"})
    with pytest.raises(InputError, match="tasks=sts-probes is unknown"):
        DownstreamOptions(tasks=("sts-probes",), data={"glue_dir": "glue"})
    with pytest.raises(InputError, match=r"squad/v1\.1 needs its data: pass squad_dir=DIR"):
        DownstreamOptions(tasks=("sts-probe", "squad/v1.1"), data={"glue_dir": "glue"})
    with pytest.raises(InputError, match="none twice"):
        DownstreamOptions(tasks=("glue/rte", "glue/rte"), data={"glue_dir": "glue"})


def test_squad_has_epochs_of_its_own():
    finetune = FinetuneOptions(learning_rates=(3e-4,), epochs=5)
    options = DownstreamOptions(
        ("squad/v1.1",), data={"squad_dir": "squad"}, finetune=finetune, squad_epochs=1
    )
    assert options.finetuning("glue/rte") == finetune
    assert options.finetuning("squad/v1.1") == dataclasses.replace(finetune, epochs=1)
    assert (options.task("squad/v1.1").source, options.task("sts-probe").source) == ("squad", "")


@pytest.mark.parametrize(
    ("task", "lost"),
    [
        ("sts-probe", "glue/STS-B/dev.tsv"),
        ("glue/sst2", "glue/SST-2/dev.tsv"),
        ("glue/sst2", "glue/SST-2/train.tsv"),
        ("squad/v1.1", "squad/train-v1.1.json"),
        ("squad/v1.1", "squad/dev-v1.1.json"),
    ],
)
def test_missing_data_is_found(task, lost, tmp_path):
    write_stsb(tmp_path / "glue")
    write_sst2(tmp_path / "glue")
    write_squad(tmp_path / "squad")
    glue, squad = str(tmp_path / "glue"), str(tmp_path / "squad")
    options = DownstreamOptions((task,), {"glue_dir": glue, "squad_dir": squad})
    fingerprint_tasks(options)
    (tmp_path / lost).unlink()
    with pytest.raises(InputError, match="does not exist"):
        fingerprint_tasks(options)


@pytest.mark.parametrize(
    ("task", "changed"),
    [
        ("sts-probe", "glue/STS-B/dev.tsv"),
        ("glue/sst2", "glue/SST-2/train.tsv"),
        ("squad/v1.1", "squad/train-v1.1.json"),
    ],
)
def test_the_fingerprint_is_of_the_content(task, changed, tmp_path):
    write_stsb(tmp_path / "glue")
    write_sst2(tmp_path / "glue")
    write_squad(tmp_path / "squad")
    shutil.copytree(tmp_path / "glue", tmp_path / "copy/glue")
    shutil.copytree(tmp_path / "squad", tmp_path / "copy/squad")

    def fingerprint(folder):
        return fingerprint_tasks(
            DownstreamOptions(
                (task,), {f"{name}_dir": str(folder / name) for name in ("glue", "squad")}
            )
        )

    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path / "copy") == before
    path = tmp_path / "copy" / changed
    path.write_text(path.read_text().replace("cat", "mat"))
    assert fingerprint(tmp_path / "copy") != before


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
