"""The cost model of the page on scale: what it prints, and by hand."""

import argparse
import contextlib
import io
import re
import shlex
import sys

import pytest

from tests.docs.pages import (
    DOCS,
    load_script,
    text_of,
)
from tests.helpers import REPOSITORY, tiny_tokenizer


def shown_outputs() -> list[tuple[str, str]]:
    pattern = r"^```\n(\S*python benchmarks/cost_model.py.*?)\n```\n+```text\n(.*?)```$"
    return re.findall(pattern, text_of(DOCS / "scaling.md"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("place", range(5))
def test_the_cost_model_prints_what_is_shown(place, capsys):
    shown = shown_outputs()
    assert len(shown) == 5
    command, output = shown[place]
    load_script("benchmarks/cost_model.py").main(shlex.split(command)[2:])
    assert capsys.readouterr().out == output


def test_the_cost_model_by_hand():
    from etd_tf.modeling import BertConfig

    model = load_script("benchmarks/cost_model.py")
    teacher, student = BertConfig(11, 4, 6, 2, 10), BertConfig(11, 2, 4, 2, 7)
    job = model.Job(teacher, student, batch_size=8, sequence_length=5)
    # L * [2T (4 H H + 2 H F) + 4 T T H]
    forward_t = 4 * (10 * (4 * 36 + 2 * 60) + 100 * 6)
    forward_s = 2 * (10 * (4 * 16 + 2 * 28) + 100 * 4)
    assert job.flops == 8 * (forward_t + 3 * forward_s)
    device = model.Device(rate=1e6, memory=1e5, bandwidth=1e4, latency=0.5, source="")
    step = model.predict(job, device, devices=4, efficiency=0.25)
    assert step.compute == pytest.approx(job.flops / 4 / 0.25e6)
    assert step.update == pytest.approx(40 * job.parameters / 1e5)
    assert step.exchange == pytest.approx(6 / 4 * 4 * job.parameters / 1e4 + 6 * 0.5)
    alone = model.predict(job, device, devices=1, efficiency=0.25)
    assert alone.exchange == 0
    share = model.calibrated(job, device, alone.seconds)
    assert share == pytest.approx(0.25)
    with pytest.raises(SystemExit, match="give a longer time"):
        model.calibrated(job, device, alone.update / 2)


def test_own_devices_need_all_rates():
    model = load_script("benchmarks/cost_model.py")
    with pytest.raises(SystemExit, match="needs --rate, --memory_bandwidth"):
        model.main(["--device=own", "--rate=1e12"])
    flags = model.read_flags(["--device=v100", "--bandwidth=1e9"])
    assert isinstance(flags, argparse.Namespace)
    device = model.chosen_device(flags)
    assert (device.rate, device.bandwidth) == (model.DEVICES["v100"].rate, 1e9)
    assert "By flag: bandwidth." in device.source


def test_records_are_as_long_as_those_on_disk(tmp_path):
    from etd_tf.text.options import RecordOptions
    from etd_tf.text.prepare import prepare_records

    (tmp_path / "text").write_text("the cat sat on the mat\n" * 200)
    options = RecordOptions(sequence_length=16, held_out_fraction=0.0)
    records = prepare_records(
        [str(tmp_path / "text")], tiny_tokenizer(), tmp_path / "out", options=options
    )
    (file,) = records.shards["train"]
    size = load_script("benchmarks/cost_model.py").record_bytes(16, tiny_tokenizer().vocab_size)
    assert file.path.stat().st_size == size * records.num_examples()


def test_the_timing_of_processes_explains_itself():
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        parser_of("benchmarks/processes.py")
    assert stop.value.code == 0
    assert "two workers" in out.getvalue()


def parser_of(script: str) -> None:
    """Runs a script's `--help`."""
    arguments, sys.argv = sys.argv, [script, "--help"]
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        load_script(script).main()
    finally:
        sys.path.remove(str(REPOSITORY / "benchmarks"))
        sys.argv = arguments


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
