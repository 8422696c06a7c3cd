"""Runs pytest on the files in the arguments, inside a Bazel test."""

import os
import sys

import pytest


def main() -> int:
    """Keeps every written file in Bazel's scratch folder; no test collected is a failure."""
    scratch = os.environ["TEST_TMPDIR"]
    os.environ.update({"HOME": scratch, "KERAS_HOME": os.path.join(scratch, "keras")})
    options = [
        "--config-file=pyproject.toml",
        "--rootdir=.",
        f"--basetemp={os.path.join(scratch, 'pytest')}",
        "-p",
        "no:cacheprovider",
    ]
    if report := os.environ.get("XML_OUTPUT_FILE"):
        options.append(f"--junitxml={report}")
    return int(pytest.main([*options, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
