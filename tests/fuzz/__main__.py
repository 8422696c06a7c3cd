"""Reads many damaged files with every reader of untrusted files, and prints a table.

    .venv/bin/python -m tests.fuzz --inputs=100000

A process a reader, so that a crash is a defect and not the end; two at a time. The exit status
is 1 if there was any defect. `--only=NAME --seed=N` repeats a reader's inputs.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests.fuzz.harness import Outcome, Target, run_target

_MAX_CRASHES = 20  # of one reader
_FAST = Path("/dev/shm")


def targets() -> tuple[Target, ...]:
    """All readers."""
    from tests.fuzz import checkpoint_targets, data_targets, run_targets

    return (*checkpoint_targets.TARGETS, *data_targets.TARGETS, *run_targets.TARGETS)


def fast_folder() -> str | None:
    """Where many small files are written quickly."""
    return str(_FAST) if os.access(_FAST, os.W_OK) else None


def _work(name: str, inputs: int, seed: int, first: int, folder: str) -> None:
    """One reader, in this process; the outcome goes to standard output as JSON."""
    target = next(target for target in targets() if target.name == name)
    outcome = run_target(target, Path(folder), inputs=inputs, seed=seed, first=first)
    sys.stdout.write(json.dumps(dataclasses.asdict(outcome)) + "\n")


def _start(name: str, inputs: int, seed: int) -> Outcome:
    """One reader, in a process of its own and, after a crash, in another one."""
    total, first = Outcome(name), 0
    for _ in range(_MAX_CRASHES):
        with tempfile.TemporaryDirectory(prefix="etd-fuzz-", dir=fast_folder()) as folder:
            command = [sys.executable, "-m", "tests.fuzz", "--work", f"--only={name}"]
            command += [f"--inputs={inputs}", f"--seed={seed}", f"--first={first}"]
            done = subprocess.run(
                [*command, f"--folder={folder}"],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode == 0:
                total.add(Outcome(**json.loads(done.stdout.splitlines()[-1])))
                return total
            last = Path(folder) / "last"
            begun = int(last.read_text()) if last.exists() else inputs
        where = f"seed {seed} input {begun}"
        total.add_defect(f"ended with {done.returncode}", f"{where}\n{done.stderr[-2000:]}")
        total.inputs += begun + 1 - first
        first = begun + 1
        if first >= inputs:
            break
    return total


def _row(name: str, inputs: int, refused: int, accepted: int, defects: int) -> str:
    return f"{name:<32}{inputs:>9,}{refused:>9,}{accepted:>9,}{defects:>9,}"


def main() -> int:
    """Runs all readers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    names = [target.name for target in targets()]
    parser.add_argument("--only", choices=names, help="one reader; all inputs are its")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        _work(options.only, options.inputs, options.seed, options.first, options.folder)
        return 0
    chosen = [target for target in targets() if options.only in (None, target.name)]
    share = options.inputs / sum(target.weight for target in chosen)
    started, outcomes = time.monotonic(), []
    sys.stdout.write(f"{'reader':<32}{'inputs':>9}{'refused':>9}{'accepted':>9}{'defects':>9}\n")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(_start, t.name, max(round(share * t.weight), 1), options.seed)
            for t in chosen
        ]
        for job in jobs:
            found = job.result()
            outcomes.append(found)
            bad = sum(found.defects.values())
            row = _row(found.name, found.inputs, found.refused, found.accepted, bad)
            sys.stdout.write(f"{row}   {found.slowest:5.2f} s {found.largest >> 20:5d} MB\n")
            sys.stdout.flush()
    sums = [sum(getattr(o, name) for o in outcomes) for name in ("inputs", "refused", "accepted")]
    defects = sum(sum(outcome.defects.values()) for outcome in outcomes)
    sys.stdout.write(_row("all", *sums, defects) + f"   {time.monotonic() - started:,.0f} s\n")
    for outcome in outcomes:
        for kind, count in sorted(outcome.defects.items()):
            sys.stdout.write(f"\n{outcome.name}: {count} x {kind}\n")
        sys.stdout.writelines(f"  {example}\n" for example in outcome.examples)
    return int(defects > 0)


if __name__ == "__main__":
    sys.exit(main())
