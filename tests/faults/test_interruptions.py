"""A job that is killed and started again ends with the bytes of an undisturbed one."""

import random
import re
import signal
import sys
import time

import pytest

from etd_tf.cli.app import run_command
from etd_tf.cli.distill import COMMAND
from tests.faults.processes import LONG_RUN, Job, make_folder, results_of
from tests.jobs.tiny_job import job_flags

KILLS = 25


def test_kills_and_signals_change_nothing(tmp_path):
    folder = make_folder(tmp_path)
    job = Job(folder, extraction="rand")

    # While training, asked politely: the step is saved and its number told.
    status, seconds = job.end_when(lambda: len(job.checkpoints()) > 1, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert seconds < 10.0
    saved = re.search(
        r"etd_distill: interrupted\. Step (\d+) of 150 is saved\. The same command continues",
        job.log(),
    )
    assert saved, job.log()
    assert job.checkpoints()[-1] == int(saved[1])
    assert "Traceback" not in job.log()

    # While training, without warning.
    newest = job.checkpoints()[-1]
    status, _ = job.end_when(lambda: job.checkpoints()[-1] > newest)
    assert status == -signal.SIGKILL

    # While writing the student.
    status, _ = job.end_when(lambda: any(job.out.glob(".student.partial-*")), signal.SIGINT)
    assert status == 128 + signal.SIGINT
    assert not (job.out / "report.json").exists()

    job.finish()
    reference = folder / "reference"
    flags = job_flags(folder, reference, **LONG_RUN, extraction="rand")
    assert run_command(COMMAND, flags) == 0
    assert results_of(job.out) == results_of(reference)


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path):
    """Reports what was there at each kill on standard error; run with -s to see it."""
    folder = make_folder(tmp_path)
    job = Job(folder, export="saved_model")
    started = time.monotonic()
    job.finish()
    length = time.monotonic() - started
    expected = results_of(job.out)
    job.reset()

    generator = random.Random(time.time_ns())
    kills, equal = [], 0
    while len(kills) < KILLS:
        for _ in range(generator.randint(1, 6)):  # kills of one run
            delay = generator.uniform(0.1, 1.0) * length
            started = time.time()
            status = job.end_at(time.monotonic() + delay)
            if status == 0:  # before the kill: the machine is less busy than at first
                length = min(length, delay)
                break
            assert status == -signal.SIGKILL, job.log()
            kills.append(job.phase(started))
            sys.stderr.write(f"kill {len(kills)} after {delay:.1f} s: {kills[-1]}\n")
            if (job.out / "report.json").exists():  # finished just before the kill
                break
        if not (job.out / "report.json").exists():
            job.finish()
        assert results_of(job.out) == expected
        assert job.hidden() <= {".lock"}
        equal += 1
        job.reset()
    phases = {phase: kills.count(phase) for phase in sorted(set(kills))}
    sys.stderr.write(f"{len(kills)} kills of {equal} runs, all equal at the end; {phases}\n")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
