"""Running sequences in batches of similar length gives the rows of one by one."""

import sys

import numpy as np
import pytest

from etd_tf.evaluation.encoding import encode_texts
from etd_tf.evaluation.inference import compile_forward, run_sequences
from tests.helpers import tiny_checkpoint


@pytest.mark.parametrize("tokens", [1, 48, 100_000])
def test_results_are_in_order_whatever_the_batches(tokens):
    checkpoint = tiny_checkpoint(num_layers=1)
    texts = [(" ".join("abcdefghijklmnop"[:n]),) for n in (3, 16, 1, 9, 9, 4)]
    sequences = encode_texts(checkpoint, texts, max_length=20)
    encoder, traces = checkpoint.encoder, []

    def forward(inputs):
        traces.append(inputs["token_ids"].shape)
        return encoder(inputs)["sequence_output"]

    results = run_sequences(
        compile_forward(forward), sequences, description="Running", tokens_per_batch=tokens
    )
    assert len(traces) == 1  # one compilation for every shape
    for ids, result in zip(sequences.token_ids, results, strict=True):
        alone = checkpoint.encoder({"token_ids": ids[None]})["sequence_output"][0]
        np.testing.assert_allclose(result[: len(ids)], np.asarray(alone), atol=1e-5)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
