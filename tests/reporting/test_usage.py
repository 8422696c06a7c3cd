"""The code that a report prints for its exports, run as it is printed."""

import html
import re
import sys

import numpy as np
import pytest

from etd_tf.export import HuggingFace, SavedModel
from etd_tf.reporting.page import render
from tests.helpers import tiny_checkpoint
from tests.reporting.sample import sample_report


def printed_code(export):
    page = render(sample_report(exports=(export,)))
    codes = map(html.unescape, re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL))
    (code,) = [code for code in codes if export.path in code]
    return compile(code, "report.html", "exec")


@pytest.mark.parametrize("takes_text", [True, False])
def test_a_saved_model_is_called_with_what_it_takes(tmp_path, takes_text):
    checkpoint = tiny_checkpoint(num_layers=1, **({} if takes_text else {"vocab_size": 9}))
    export = SavedModel().write(checkpoint, tmp_path / "out")
    assert export.takes_text is takes_text
    ones = np.ones((2, 5), np.int32)
    names = {"ids": ones, "segments": 0 * ones, "mask": ones}
    exec(printed_code(export), names)  # noqa: S102
    assert names["outputs"]["sequence_output"].shape[-1] == checkpoint.config.hidden_size


def test_a_hugging_face_directory_is_loaded(tmp_path):
    import transformers

    import etd_tf

    export = HuggingFace().write(tiny_checkpoint(num_layers=1), tmp_path / "out")
    names = {"etd_tf": etd_tf, "transformers": transformers}
    exec(printed_code(export), names)  # noqa: S102
    assert names["student"].config.num_hidden_layers == 1


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
