"""Times a student's inference in etd_tf, PyTorch and ONNX Runtime, in alternation.

The model is a Hugging Face directory, such as a run's `student/`. PyTorch reads that directory,
ONNX Runtime what PyTorch exports of it, and etd_tf is asked as Keras model (compiled for the
shape) and through the SavedModel's `serve_ids`. All return the last hidden state, float32.

    pip install onnxruntime onnx onnxscript     # with torch and transformers
    python benchmarks/inference.py --model=out/quickstart/student [--rounds=30]

Without ONNX Runtime the others are measured. Batches of 1 and 32 sequences of 128 tokens, none of
them padding; each contestant is a process of its own, so that thread pools do not meet.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = 128
CONTESTANTS = ("etd_tf, Keras", "etd_tf, SavedModel", "PyTorch sdpa", "ONNX Runtime")
Forward = Callable[[], Any]


def token_ids(batch: int) -> np.ndarray:
    """The same random tokens for everyone."""
    return np.random.default_rng(0).integers(1000, 30_000, (batch, LENGTH)).astype(np.int32)


def keras_forward(model: str, batch: int) -> Forward:
    """The encoder in a compiled function."""
    import tensorflow as tf

    import etd_tf

    encoder = etd_tf.load_checkpoint(model).encoder
    ids = tf.constant(token_ids(batch))
    inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    function = tf.function(lambda: encoder(inputs)["sequence_output"])
    return lambda: function().numpy()


def saved_model_forward(model: str, batch: int) -> Forward:
    """The exported SavedModel's signature on token ids."""
    import tensorflow as tf

    import etd_tf
    from etd_tf.export import SavedModel

    folder = tempfile.mkdtemp()
    SavedModel().write(etd_tf.load_checkpoint(model), folder)
    loaded = tf.saved_model.load(str(next(Path(folder).rglob("saved_model.pb")).parent))
    signature = loaded.signatures["serve_ids"]
    ids = tf.constant(token_ids(batch))
    offered = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    wanted = signature.structured_input_signature[1]
    inputs = {name: offered[name] for name in wanted}

    def forward() -> Any:
        return signature(**inputs)["sequence_output"].numpy()

    forward.keep = loaded  # its variables live as long as it does
    return forward


def torch_model(model: str) -> Any:
    """The model that PyTorch users load."""
    import transformers

    return transformers.BertModel.from_pretrained(model, attn_implementation="sdpa").eval()


def torch_forward(model: str, batch: int) -> Forward:
    """PyTorch's forward pass."""
    import torch

    encoder = torch_model(model)
    ids = torch.from_numpy(token_ids(batch)).long()
    mask = torch.ones_like(ids)

    def forward() -> Any:
        with torch.inference_mode():
            return encoder(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()

    return forward


def onnx_forward(model: str, batch: int) -> Forward:
    """ONNX Runtime on PyTorch's export, with all its graph optimisations."""
    import onnxruntime
    import torch

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch_model(model)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    ids = torch.from_numpy(token_ids(batch)).long()
    path = str(Path(tempfile.mkdtemp()) / "model.onnx")
    arguments = (ids, torch.ones_like(ids))
    names = {"input_names": ["ids", "mask"], "output_names": ["states"]}
    torch.onnx.export(States(), arguments, path, dynamo=True, verbose=False, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = dict(zip(names["input_names"], (a.numpy() for a in arguments), strict=True))
    return lambda: session.run(["states"], feeds)[0]


MAKERS = dict(
    zip(
        CONTESTANTS,
        (keras_forward, saved_model_forward, torch_forward, onnx_forward),
        strict=True,
    )
)


def serve(name: str, model: str) -> None:
    """Worker process: answers each line `BATCH COUNT` with milliseconds and the first states."""
    forwards: dict[int, Forward] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        batch, count = map(int, line.split())
        if batch not in forwards:
            forwards[batch] = MAKERS[name](model, batch)
        times = []
        for _ in range(count):
            started = time.perf_counter()
            states = forwards[batch]()
            times.append(1e3 * (time.perf_counter() - started))
        print(json.dumps([times, states[0, 0, :4].tolist()]), flush=True)


def measure(model: str, rounds: int) -> dict[int, dict[str, tuple[float, float]]]:
    """Runs the contestants in turn; returns median and 95th percentile by batch and name."""
    names = [n for n in CONTESTANTS if n != "ONNX Runtime" or _has_onnx()]
    workers = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--model", model, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name in names
    }
    results: dict[int, dict[str, tuple[float, float]]] = {}
    for batch, count in ((1, 20), (32, 2)):
        times: dict[str, list[float]] = {name: [] for name in names}
        reference = None
        for turn in range(rounds + 1):
            for name in names:
                found, states = _ask(workers[name], name, f"{batch} {count}")
                if turn:  # the first one compiles
                    times[name] += found
                reference = reference or states
                if not np.allclose(states, reference, atol=1e-4):
                    sys.exit(f"{name} computes {states}, but {names[0]} {reference}.")
        results[batch] = {
            name: (statistics.median(values), float(np.percentile(values, 95)))
            for name, values in times.items()
        }
    for worker in workers.values():
        worker.kill()
    return results


def _ask(worker: "subprocess.Popen[str]", name: str, request: str) -> Any:
    worker.stdin.write(request + "\n")
    worker.stdin.flush()
    while line := worker.stdout.readline():
        if line.startswith("[["):  # others print to standard output, too
            return json.loads(line)
    return sys.exit(f"The process of {name!r} ended; run it with --worker={name!r} to see why.")


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx", "onnxscript"))


def main() -> None:
    """Parses the flags and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker, options.model)
        return
    results = measure(options.model, options.rounds)
    for batch, rows in results.items():
        print(f"\nbatch {batch} x {LENGTH} tokens, milliseconds: median, 95th percentile")
        for name, (median, p95) in rows.items():
            print(f"  {name:<20} {median:8.2f} {p95:8.2f}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
