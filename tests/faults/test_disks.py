"""A disk that is full, read-only, or shared with another run."""

import re
import sys
import time

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.distill import COMMAND
from tests.faults.disks import grow, read_only, small_disk
from tests.faults.processes import Job, make_folder, results_of
from tests.jobs.tiny_job import job_flags

SIZES = (24, 40, 56, 80, 128, 192, 256, 384, 1024, 4096)  # kilobytes


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_space(tmp_path, capfd):
    folder = make_folder(tmp_path)
    changes = {"export": "saved_model", "extraction": "impt"}
    reference = folder / "reference"
    assert run_command(COMMAND, job_flags(folder, reference, **changes)) == 0
    reached = []
    with small_disk(folder / "disk", SIZES[0]) as disk:
        flags = job_flags(folder, disk / "out", cache_dir=disk / "cache", **changes)
        for size in SIZES:
            grow(disk, size)
            capfd.readouterr()
            status = run_command(COMMAND, flags)
            if status == 0:
                break
            message = capfd.readouterr().err
            assert status in (1, 2), message
            assert "No space left on device" in message
            assert "Traceback" not in message
            written = sorted(path.name for path in (disk / "out").glob("[!.]*"))
            reached.append(f"{size} kB: {', '.join(written) or 'nothing'}")
        assert status == 0, reached
        assert results_of(disk / "out") == results_of(reference)
        assert not [path for path in (disk / "out").rglob(".*") if path.name != ".lock"]
    with capfd.disabled():
        sys.stderr.write("".join(f"full at {line}\n" for line in reached))
    assert len(reached) >= 3  # it was full in several stages


def test_a_read_only_disk_is_refused_before_any_work(tmp_path, capfd):
    folder = make_folder(tmp_path)
    for name, flag in (("out", "output_dir"), ("cache", "cache_dir")):
        (folder / name).mkdir()
        with read_only(folder / name):
            started = time.monotonic()
            assert run_command(COMMAND, job_flags(folder, folder / "out")) == 2
            assert time.monotonic() - started < 60.0
        message = capfd.readouterr().err
        assert flag in message
        assert "Read-only file system" in message
        assert "Choose another" in message or "Pass another" in message


def test_a_second_run_in_one_directory_is_refused(tmp_path, capfd):
    folder = make_folder(tmp_path)
    job = Job(folder, steps=100_000, extraction="rand")
    process = job.start()
    try:
        deadline = time.monotonic() + 120.0
        while not job.checkpoints():
            assert process.poll() is None, job.log()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert run_command(COMMAND, job.flags) == 2
        assert re.search("Another run is working in .*Wait for it", capfd.readouterr().err)
        assert process.poll() is None  # and was not disturbed
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
