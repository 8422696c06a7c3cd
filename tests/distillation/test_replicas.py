"""Two replicas train like one device on the same global batch."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY


@pytest.fixture(scope="module")
def report():
    done = subprocess.run(
        [sys.executable, "-m", "tests.distillation.replicas"],
        cwd=REPOSITORY,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("jit_compile", ["off", "on"])
@pytest.mark.parametrize("case", ["clipped", "accumulated"])
def test_losses_norms_and_weights_are_equal(report, case, jit_compile):
    found = report[case][f"xla_{jit_compile}"]
    assert found["lines"] == 7  # five steps, and before and after them the held-out loss
    assert found["loss"] < 2e-6
    assert found["gradient_norm"] < 1e-5
    assert found["weights"] < 2e-5
    # The comparison means something: the loss moved, and clipping was active.
    assert report[case]["moved"] > 1e-3
    assert report[case]["largest_norm"] > 0.02


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
