"""Tests that run under pytest, one target a file."""

load("@rules_python//python:defs.bzl", "py_test")

_MAIN = "//third_party/bazel:pytest_main.py"

def pytest_tests(srcs, deps, data = [], **kwargs):
    """Makes a test target of every file, named as the file without `.py`.

    A plain `py_test` runs its file as a script, which passes without running one function
    of a pytest file; here a runner hands the file to pytest.

    Args:
      srcs: Test files.
      deps: Libraries that the tests import.
      data: Files that the tests read.
      **kwargs: Further attributes of every `py_test`.
    """
    for src in srcs:
        py_test(
            name = src[:-len(".py")],
            srcs = [_MAIN, src],
            main = _MAIN,
            args = ["$(location %s)" % src],
            data = data + ["//:pyproject.toml"],
            python_version = "PY3",
            srcs_version = "PY3",
            deps = deps,
            **kwargs
        )
