"""The pickle interpreter: harmless files are read, no file is executed."""

import collections
import io
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from etd_tf.checkpoints.torch_pickle import read_pickle
from etd_tf.errors import InputError


def read(content: bytes) -> Any:
    return read_pickle(io.BytesIO(content), "weights.bin")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_plain_containers(protocol: int) -> None:
    value = {
        "a": [1, -2, 300, 70_000, 2**70],
        "b": (1.5, None, True),
        "c": {"d": (False, (), ("x", "y"), (1, 2, 3, 4))},
        "e": collections.OrderedDict([("k", 1)]),
    }
    assert read(pickle.dumps(value, protocol)) == value


def test_shared_values_are_read_once() -> None:
    shared = ["x"]
    actual = read(pickle.dumps([shared, shared], 2))
    assert actual[0] is actual[1]


class _Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


MALICIOUS = {
    "system": (os.system, "touch {path}"),
    "eval": (eval, "open({path!r}, 'w')"),
    "exec": (exec, "open({path!r}, 'w')"),
    "open": (open, "{path}", "w"),
    "getattr": (getattr, "x", "upper"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("case", MALICIOUS)
def test_calls_are_refused_and_not_made(case: str, protocol: int, tmp_path: Path) -> None:
    function, *arguments = MALICIOUS[case]
    marker = tmp_path / "executed"
    call = _Call(function, *(argument.format(path=str(marker)) for argument in arguments))
    with pytest.raises(InputError, match="was executed"):
        read(pickle.dumps({"weight": call}, protocol))
    assert not marker.exists()


RAW = {
    "INST": b"(S'touch executed'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'true'\no.",
    "a reference alone": b"cos\nsystem\n.",
    "torch.load": b"ctorch\nload\n.",
    "a call of a string": b"\x80\x02X\x02\x00\x00\x00os)R.",
    "a call of a list": b"\x80\x02])R.",
    "BUILD on a reference": b"ccollections\nOrderedDict\n}b.",
    "extension": b"\x82\x01.",
    "NEWOBJ": b"ccollections\nOrderedDict\n)\x81.",
    "empty": b"",
    "no end": b"\x80\x02}",
    "stack underflow": b"\x80\x02R.",
    "mark missing": b"\x80\x02u.",
    "memo missing": b"\x80\x02h\x05.",
    "text": b"hello, this is no pickle",
    "huge string": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "storage without tag": b"\x80\x02)Q.",
}


DEEP = b")" + b"\x85" * 300_000  # a tuple in a tuple in a tuple ...; hashing it crashes Python
HOSTILE = {
    "deep key": b"\x80\x02}" + DEEP + b"K\x01s.",
    "deep callable": b"\x80\x02" + DEEP + b")R.",
    "deep names": b"\x80\x04" + DEEP + DEEP + b"\x93.",
    "deep storage type": b"\x80\x02(X\x07\x00\x00\x00storage" + DEEP + b"X\x01\x00\x00\x00k"
    b"X\x01\x00\x00\x00cK\x01tQ.",
    "deep keys": b"\x80\x02}(" + DEEP + b"K\x01u.",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_values_that_crash_python_are_refused(case: str) -> None:
    with pytest.raises(InputError, match=r"weights\.bin"):
        read(HOSTILE[case])


def test_many_marks_take_linear_time() -> None:
    started = time.process_time()
    value = read(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".")
    assert isinstance(value, tuple)
    assert time.process_time() - started < 20.0  # a minute where each mark is searched for


@pytest.mark.parametrize("case", RAW)
def test_other_instructions_are_refused(case: str) -> None:
    with pytest.raises(InputError, match=r"weights\.bin"):
        read(RAW[case])


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
