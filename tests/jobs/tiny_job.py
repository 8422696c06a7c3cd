"""A distillation job of a second or two: a tiny teacher on disk, a tiny text, its flags."""

import random
import string
from pathlib import Path

from tests.helpers import tiny_checkpoint

SIZES = {
    "student_layers": 2,
    "student_hidden": 9,
    "student_heads": 3,
    "student_intermediate": 7,
}
STEPS = 12


def write_teacher(directory: Path, *, mlm_head: bool = False, **config_changes) -> Path:
    """Saves a tiny teacher with dropout, so that resuming has something to get wrong."""
    from etd_tf.checkpoints import save_checkpoint

    save_checkpoint(tiny_checkpoint(mlm_head=mlm_head, **config_changes), directory)
    return directory


def write_text(path: Path, documents: int = 40) -> Path:
    """Writes a corpus of different short documents."""
    generator = random.Random(0)
    words = ["the", "cat", "dog", "sat", "on", "a", "mat", "and", "ran"]
    words += ["".join(generator.choices(string.ascii_lowercase, k=3)) for _ in range(20)]
    lines = [
        " ".join(generator.choices(words, k=generator.randint(20, 40))) + "."
        for _ in range(documents)
    ]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return path


def job_flags(folder: Path, output_dir: Path, **changes: object) -> list[str]:
    """Flags of the job in `folder`, where `write_teacher` and `write_text` have been."""
    values: dict[str, object] = {
        "teacher": folder / "teacher",
        "corpus": folder / "text.txt",
        "cache_dir": folder / "cache",
        "output_dir": output_dir,
        **SIZES,
        "sequence_length": 16,
        "importance_examples": 16,
        "steps": STEPS,
        "batch_size": 4,
        "learning_rate": 0.01,
        "warmup_steps": 2,
        "log_every": 2,
        "evaluate_every": 6,
        "checkpoint_every": 3,
        "export": "",
        **changes,
    }
    return [f"--{name}={value}" for name, value in values.items() if value is not None]
