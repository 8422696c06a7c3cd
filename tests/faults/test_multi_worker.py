"""Two worker processes of the real command on one machine, against one process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from etd_tf.checkpoints import load_checkpoint
from etd_tf.cli.app import run_command
from etd_tf.cli.distill import COMMAND
from etd_tf.training.metrics_log import read_metrics
from tests.faults.processes import make_folder
from tests.helpers import REPOSITORY
from tests.jobs.tiny_job import job_flags, write_text

PATIENCE_SECONDS = 300.0
# Without dropout, whose masks differ with the number of replicas.
JOB = {"dropout": 0, "masking_rate": 0.2, "clip_norm": 0.05}


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """Two workers of one job."""

    def __init__(self, folder, **flags):
        self.out = folder / "cluster"
        self._folder, self._flags = folder, job_flags(folder, self.out, **{**JOB, **flags})

    def start(self):
        addresses = [f"localhost:{port}" for port in _free_ports(2)]
        return [self._worker(addresses, index) for index in range(2)]

    def _worker(self, addresses, index):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        with open(self._folder / f"log{index}.txt", "wb") as log:
            return subprocess.Popen(
                [sys.executable, str(REPOSITORY / "bin" / "etd_distill"), *self._flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": config},
            )

    def log(self, index):
        return (self._folder / f"log{index}.txt").read_text(errors="replace")

    def end(self, workers):
        """Waits for both; returns their statuses."""
        try:
            return [worker.wait(PATIENCE_SECONDS) for worker in workers]
        finally:
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    worker.kill()
                worker.wait()

    def wait_for_step(self, step, workers):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self.out / "checkpoints" / f"step-{step:08d}").exists():
            assert time.monotonic() < deadline
            assert all(worker.poll() is None for worker in workers), self.log(0) + self.log(1)
            time.sleep(0.005)


def _train_lines(out):
    return [line for line in read_metrics(out / "metrics.jsonl") if line["split"] == "train"]


def _largest_weight_difference(one, other):
    a, b = (load_checkpoint(out / "student").parameters() for out in (one, other))
    return max(float(np.max(np.abs(a[name] - b[name]))) for name in a)


def test_two_workers_train_like_one_process(tmp_path):
    folder = make_folder(tmp_path)
    cluster = Cluster(folder, compensate=True)
    assert cluster.end(cluster.start()) == [0, 0], cluster.log(0) + cluster.log(1)
    alone = folder / "alone"
    assert run_command(COMMAND, job_flags(folder, alone, compensate=True, **JOB)) == 0

    together, expected = _train_lines(cluster.out), _train_lines(alone)
    differences = [abs(a["loss"] - b["loss"]) for a, b in zip(together, expected, strict=True)]
    weights = _largest_weight_difference(cluster.out, alone)
    sys.stderr.write(f"losses differ by {max(differences):.2g}, weights by {weights:.2g}\n")
    assert max(differences) < 2e-6
    assert weights < 1e-4
    assert expected[0]["gradient_norm"] > JOB["clip_norm"]
    assert (cluster.out / "plan.json").read_bytes() == (alone / "plan.json").read_bytes()
    # Only the chief scored, extracted and wrote.
    for doing in ("Scoring units", "Choosing folds", "Made "):
        assert doing in cluster.log(0)
        assert doing not in cluster.log(1)
    names = {path.name for path in cluster.out.iterdir()}
    assert names == {path.name for path in alone.iterdir()}
    for split in ("train", "validation"):
        assert len(list((cluster.out / "tensorboard" / split).iterdir())) == 1


@pytest.mark.slow
def test_a_chief_that_dies_before_training_does_not_leave_the_others_waiting(tmp_path):
    folder = make_folder(tmp_path)
    write_text(folder / "text.txt", documents=20_000)  # scoring takes long enough to be hit
    cluster = Cluster(folder, importance_examples=100_000)
    workers = cluster.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "Scoring units" not in cluster.log(0):
        assert time.monotonic() < deadline
        assert all(worker.poll() is None for worker in workers), cluster.log(0) + cluster.log(1)
        time.sleep(0.005)
    workers[0].kill()
    assert cluster.end(workers) == [-signal.SIGKILL, 1]
    assert "etd_distill: Another of the 2 workers is gone" in cluster.log(1)
    assert "Traceback" not in cluster.log(1)


@pytest.mark.slow
def test_workers_stop_together_and_come_back(tmp_path):
    folder = make_folder(tmp_path)
    changes = {"steps": 150, "checkpoint_every": 10, "extraction": "rand", "dropout": 0.1}
    cluster = Cluster(folder, **changes)
    assert cluster.end(cluster.start()) == [0, 0], cluster.log(0) + cluster.log(1)
    undisturbed = folder / "undisturbed"
    cluster.out.rename(undisturbed)

    workers = cluster.start()  # a signal to one worker ends both, with one saved step
    cluster.wait_for_step(10, workers)
    workers[1].send_signal(signal.SIGTERM)
    assert cluster.end(workers) == [128 + signal.SIGTERM] * 2
    assert "is saved. The same command continues" in cluster.log(0)

    workers = cluster.start()  # a worker dies: the other says so
    cluster.wait_for_step(40, workers)
    workers[1].kill()
    assert cluster.end(workers) == [1, -signal.SIGKILL]
    assert "etd_distill: Another of the 2 workers is gone" in cluster.log(0)
    assert "Traceback" not in cluster.log(0)

    workers = cluster.start()  # the chief dies
    cluster.wait_for_step(80, workers)
    workers[0].kill()
    assert cluster.end(workers) == [-signal.SIGKILL, 1]

    assert cluster.end(cluster.start()) == [0, 0], cluster.log(0) + cluster.log(1)
    weights = _largest_weight_difference(cluster.out, undisturbed)
    sys.stderr.write(f"after three interruptions the weights differ by {weights:.2g}\n")
    assert weights == 0.0
    assert _train_lines(cluster.out) == _train_lines(undisturbed)
    assert not [path for path in cluster.out.glob(".*") if path.name != ".lock"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
