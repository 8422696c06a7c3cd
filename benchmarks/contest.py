"""Times contestants in turn, each in a process of its own.

Whatever else the machine does hits all of them alike, none inherits another's threads or memory,
and peak memory is that of one contestant. Used by the other scripts of this folder.
"""

import argparse
import dataclasses
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Turn = Callable[[], object]
Maker = Callable[[], tuple[Turn, float]]
"""Builds what is timed; also returns the floating-point operations of one turn."""

GEMM = "matrix product float32"


@dataclasses.dataclass(frozen=True)
class Result:
    """What one contestant needed.

    Attributes:
        seconds: Median of a turn.
        gigabytes: Peak memory of its process.
        own_gigabytes: What of it came on top of libraries and models.
        flops: Operations of a turn, as its maker counts them.
    """

    seconds: float
    gigabytes: float
    own_gigabytes: float
    flops: float


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `contest` reads."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of a contestant in a round")
    parser.add_argument("--only", help="contestants whose names contain this")
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def contest(makers: Mapping[str, Maker], options: argparse.Namespace) -> dict[str, Result]:
    """Runs all contestants in turn.

    A process that this function starts runs the same script with `--worker`: there it serves
    its contestant and does not return.
    """
    if options.worker:
        _serve(makers[options.worker])
        sys.exit()
    names = [name for name in makers if (options.only or "") in name]
    workers = {name: _start(name) for name in names}
    flops = {name: float(_line(worker, name)) for name, worker in workers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    memory: dict[str, tuple[float, float]] = {}
    for _ in range(options.rounds):
        for name, worker in workers.items():
            worker.stdin.write(f"{options.steps}\n")
            worker.stdin.flush()
            elapsed, peak, own = map(float, _line(worker, name).split())
            seconds[name].append(elapsed / options.steps)
            memory[name] = peak, own
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return {n: Result(statistics.median(seconds[n]), *memory[n], flops[n]) for n in names}


def gemm() -> tuple[Turn, float]:
    """Builds a large float32 product, the yardstick of a share of the machine's peak."""
    import tensorflow as tf

    left, right = tf.ones([4096, 2048]), tf.ones([2048, 2048])
    product = tf.function(lambda: tf.matmul(left, right)[0, 0])
    return lambda: float(product()), 2.0 * 4096 * 2048 * 2048


def peak_fraction(result: Result, product: Result) -> float:
    """Share of the rate of `gemm` that a contestant reached."""
    return result.flops / result.seconds * product.seconds / product.flops


def print_results(results: Mapping[str, Result], *, items: int, unit: str) -> None:
    """Prints a line a contestant; `items` of a `unit` are done in a turn."""
    for name, result in results.items():
        if name == GEMM:
            print(f"  {name:<34} {result.flops / result.seconds / 1e9:8.1f} GFLOP/s")
            continue
        rate = items / result.seconds
        print(
            f"  {name:<34} {1e3 * result.seconds:8.1f} ms {rate:10,.0f} {unit}/s"
            f" {result.gigabytes:6.2f} GB peak, {result.own_gigabytes:.2f} by the steps"
        )


def against_torch(
    title: str, makers: Mapping[str, Maker], options: argparse.Namespace, *, items: int, unit: str
) -> None:
    """Runs `"etd_tf"` and contestants named after PyTorch, and prints how they compare."""
    results = contest({**makers, GEMM: gemm}, options)
    print(title)
    print_results(results, items=items, unit=unit)
    ours = results["etd_tf"]
    theirs = min(result.seconds for name, result in results.items() if "PyTorch" in name)
    fraction = peak_fraction(ours, results[GEMM])
    print(f"  ratio={theirs / ours.seconds:.3g}  peak_fraction={fraction:.3g}")


def _serve(maker: Maker) -> None:
    """Answers each line on stdin with the seconds of that many turns, and memory."""
    turn, flops = maker()
    before = resident_gigabytes()
    turn()
    turn()
    print(f"#{flops}", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            turn()
        elapsed = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"#{elapsed} {peak} {peak - before}", flush=True)


def resident_gigabytes() -> float:
    """Memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e9


def _start(name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *sys.argv, f"--worker={name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _line(worker: "subprocess.Popen[str]", name: str) -> str:
    while line := worker.stdout.readline():
        if line.startswith("#"):  # libraries print to standard output, too
            return line[1:]
    return sys.exit(f"The process of {name!r} ended; run it with --worker={name!r} to see why.")
