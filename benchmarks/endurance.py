"""Memory and open files of a long training of a tiny model.

    .venv/bin/python benchmarks/endurance.py --steps=20000

Trains with checkpoints, held-out evaluations and logs every few hundred steps, and prints the
process's memory, its open files and the checkpoints on disk at intervals. After a first quarter,
in which TensorFlow fills its caches, memory and files should no longer grow: the last line is
the slope of a straight line through the rest, but for the very last step.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
from contest import resident_gigabytes

from etd_tf import losses
from etd_tf.checkpoints import Checkpoint
from etd_tf.distillation import Distiller, Trainer
from etd_tf.modeling import BertConfig, BertEncoder
from etd_tf.text.batches import evaluation_batches, make_batches
from etd_tf.text.options import RecordOptions
from etd_tf.text.prepare import prepare_records
from etd_tf.tokenization.tokenizer import Tokenizer
from etd_tf.training import TrainerOptions

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tiny_model(hidden: int, tokenizer: Tokenizer) -> Checkpoint:
    config = BertConfig(
        vocab_size=tokenizer.vocab_size,
        num_layers=2,
        hidden_size=hidden,
        num_heads=3,
        intermediate_size=2 * hidden,
        max_positions=16,
    )
    return Checkpoint.from_encoder(BertEncoder(config), tokenizer=tokenizer, source="tiny model")


def write_text(path: Path) -> None:
    generator = random.Random(0)
    lines = ["".join(generator.choices(LETTERS + "    ", k=200)) for _ in range(500)]
    path.write_text("\n\n".join(lines), encoding="utf-8")


class Watcher:
    """Prints a line at each evaluation, and keeps its numbers."""

    def __init__(self, checkpoints: Path) -> None:
        self.rows: list[tuple[int, float, int]] = []
        self._checkpoints = checkpoints
        self._started = time.monotonic()

    def __call__(self, step: int) -> None:
        """Notes and prints what there is after a step."""
        files = len(os.listdir("/proc/self/fd"))
        kept = len(list(self._checkpoints.glob("step-*"))) if self._checkpoints.is_dir() else 0
        self.rows.append((step, 1e3 * resident_gigabytes(), files))
        seconds = time.monotonic() - self._started
        print(
            f"{step:>8} {self.rows[-1][1]:10.1f} MB {files:6} files {kept:4} kept {seconds:8.0f} s"
        )
        sys.stdout.flush()


def slopes(rows: list[tuple[int, float, int]]) -> tuple[float, float]:
    """Kilobytes a thousand steps, and files a thousand steps, after the first quarter."""
    # The last step of all is compiled on its own, which takes memory once.
    rest = np.array([row for row in rows[:-1] if row[0] >= rows[-1][0] / 4], np.float64)
    thousands = rest[:, 0] / 1000
    return float(np.polyfit(thousands, rest[:, 1], 1)[0] * 1e3), float(
        np.polyfit(thousands, rest[:, 2], 1)[0]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=500, help="steps between lines")
    parser.add_argument("--loss", default="minilm")
    options = parser.parse_args()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{x}" for x in LETTERS)]
    tokenizer = Tokenizer.from_wordpieces(pieces)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / "text.txt")
        records = prepare_records(
            str(folder / "text.txt"),
            tokenizer,
            folder / "records",
            options=RecordOptions(sequence_length=8),
        )
        teacher, student = tiny_model(12, tokenizer), tiny_model(6, tokenizer)
        trainer = Trainer(
            lambda: Distiller(teacher, student, losses.get(options.loss)),
            TrainerOptions(
                steps=options.steps,
                batch_size=4,
                checkpoint_every=options.every,
                evaluate_every=options.every,
                log_every=100,
                keep_checkpoints=2,
            ),
            run_dir=folder / "run",
        )
        watcher = Watcher(folder / "run" / "checkpoints")
        trainer.fit(
            lambda start, count, index: make_batches(
                records, batch_size=4, seed=0, start_step=start
            ),
            evaluation_batches(records, batch_size=4, split="validation").take(2).cache(),
            on_evaluate=watcher,
        )
    kilobytes, files = slopes(watcher.rows)
    print(f"slope after the first quarter: {kilobytes:.1f} kB and {files:.3f} files a 1000 steps")


if __name__ == "__main__":
    main()
