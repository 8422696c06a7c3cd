"""The HTML page: self-contained, escaped, and every number from the report."""

import dataclasses
import html.parser
import re
import sys

import pytest

from etd_tf.evaluation.fidelity import Fidelity
from etd_tf.reporting import Check, Cost, Curve, Export, ExtractionFacts, FidelityFacts, Stage
from etd_tf.reporting.page import render
from tests.reporting.sample import STUDENT, TEACHER, latency, sample_report


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    _VOID = ("meta", "line", "polyline")

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.words, self.tags = [], [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.tags.add(tag)
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in self._VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace("\u202f", " ").split())


@pytest.fixture(scope="module")
def page():
    return Page(render(sample_report()))


def test_markup_is_balanced(page):
    assert page.open == []


def test_the_page_needs_nothing_else(page):
    source = render(sample_report())
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert "@import" not in source
    assert "url(" not in source
    for name, value in page.attributes:
        assert name not in ("src", "href", "srcset", "data", "action") or value.startswith("#")
        assert "http" not in (value or "")


def test_headline_is_in_the_first_screen(page):
    start = page.text[: page.text.index("Teacher and student")]
    for words in ("3.1\u00d7 smaller", "5.1\u00d7 faster", "\u221280 % held-out loss"):
        assert words in start
    assert "22.7M \u2192 7.33M parameters" in start
    assert "31.3 \u2192 6.17 ms" in start
    assert "2.328 at the start \u2192 0.4717" in start
    assert "24 min 06 s of work 132 TFLOP, 1,000 steps" in start


def test_all_parts_are_there(page):
    for words in (
        "FLOPs, 128 tokens 2.87 GFLOP 372 MFLOP 7.7\u00d7",
        "Student: ETD-Impt from teacher layers 2, 4, 6 (of 6)",
        "32 \u00d7 128 640 (704) 132 (158)",
        "Attention",
        "Learning rate",
        "Importance scores 4.41 TFLOP 1 min 02 s 512 sequences",
        'etd_tf.load_checkpoint("out/student")',
        'tf.saved_model.load("out/saved_model/1")',
        "saved_model out/saved_model/1 32.5 MB 2.4e-7 takes text",
        "student/ loaded back, sequence output 0 1.0e-5 passed",
        "Example CPU 3.1 GHz, 4 cores",
        "tensorflow 2.21.0",
        "Training sequences 12.3K",
        "bin/etd_distill --flagfile=out/flags.txt",
        "--steps=1000",
    ):
        assert words in page.text, words


def test_numbers_come_from_the_report():
    """Changing every number of the report changes every number of the text."""
    before = sample_report()

    def scaled(value, factor):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return type(value)(value * factor)

    def changed(record, factor):
        return dataclasses.replace(
            record,
            **{
                field.name: scaled(getattr(record, field.name), factor)
                for field in dataclasses.fields(record)
            },
        )

    after = sample_report(
        sequence_length=256,
        teacher=changed(TEACHER, 3),
        student=changed(STUDENT, 7),
        latency=(latency(2, 77.7, 8.88), latency(64, 701.0, 55.5)),
        cost=changed(before.cost, 17),
        curves=tuple(
            Curve(c.name, c.split, tuple(3 * s for s in c.steps), tuple(3 * v for v in c.values))
            for c in before.curves
        ),
    )
    for words in ("22.7M", "7.33M", "2.87 GFLOP", "31.3", "6.17", "640", "2.328", "132 TFLOP"):
        assert words in Page(render(before)).text
        assert words not in Page(render(after)).text


def test_text_from_outside_is_escaped():
    evil = "<script>alert('x')</script>&"
    source = render(
        sample_report(
            title=evil,
            command=evil,
            loss=evil,
            created=evil,
            teacher=dataclasses.replace(TEACHER, source=evil),
            extraction=ExtractionFacts(evil, (1,), scores=evil),
            curves=(Curve(evil, evil, (1, 2), (1.0, 2.0)), Curve("loss", evil, (1,), (1.0,))),
            data={evil: evil},
            checks=(Check(evil, 1.0, 2.0),),
            exports=(Export("huggingface", evil, 1, None, evil), Export(evil, evil, 1)),
            flags={evil: evil},
            machine=dataclasses.replace(
                sample_report().machine, cpu=evil, accelerators=(evil,), platform=evil
            ),
        )
    )
    assert "<script" not in source
    assert Page(source).text.count(evil) >= 15


def test_a_bare_report_has_no_empty_sections():
    source = render(
        sample_report(
            latency=(),
            curves=(),
            checks=(),
            exports=(),
            flags={},
            extraction=ExtractionFacts("random initialisation"),
            cost=Cost(10, 2.5, 1, 1, 100.0),
        )
    )
    text = Page(source).text
    for title in ("Measured latency", "Training", "Use the student", "Self-checks", "All flags"):
        assert f"<h2>{title}</h2>" not in source
    assert "Importance scores none" in text
    assert "faster" not in text


def test_compensation_is_a_row_of_its_own():
    stages = (Stage("scoring", 10**12, 60.0), Stage("compensation", 2 * 10**12, 30.0))
    cost = Cost(10**14, 900.0, 1000, 32000, 3000.0, before=stages)
    text = Page(render(sample_report(cost=cost))).text
    assert "Compensation 2.00 TFLOP 30.0 s" in text
    assert "Total 103 TFLOP 16 min 30 s" in text
    assert "Compensation" not in Page(render(sample_report())).text


def test_a_failed_check_stands_out():
    text = Page(render(sample_report(checks=(Check("parity", 0.5, 1e-5),)))).text
    assert "parity 0.50 1.0e-5 FAILED" in text


def test_chart_of_each_loss_term(page):
    source = render(sample_report())
    assert len(re.findall("<svg", source)) == 4
    assert source.index("training") < source.index("held-out</span>")


def test_a_term_that_repeats_the_loss_is_not_drawn_twice():
    curves = tuple(
        Curve(name, "train", (1, 2), values)
        for name, values in (
            ("loss", (2.0, 1.0)),
            ("distillation_loss", (2.0, 1.0)),
            ("gradient_norm", (9.0, 8.0)),
        )
    )
    source = render(sample_report(curves=curves))
    assert len(re.findall("<svg", source)) == 2
    assert "Gradient norm" in source
    assert "Distillation loss" not in source


@pytest.mark.parametrize("skipped", [(0, 0), (0, 3)])
def test_steps_that_float16_did_not_skip_are_not_drawn(skipped):
    curves = (
        Curve("loss", "train", (1, 2), (2.0, 1.0)),
        Curve("skipped_steps", "train", (1, 2), skipped),
    )
    assert ("Skipped steps" in render(sample_report(curves=curves))) == any(skipped)


def test_fidelity_is_shown_beside_the_floor():
    curve = Curve("fidelity_neighbours", "validation", (10,), (0.6125,))
    floor = Fidelity(0.4, 0.3, None, 300, 4000)
    initial, student = (Fidelity(share, 0.75, 0.5, 300, 4000) for share in (0.31, 0.6125))
    facts = FidelityFacts(student, initial, floor, floor_seconds=0.5)
    report = dataclasses.replace(sample_report(), fidelity=facts, curves=(curve,))
    page = Page(render(report))
    assert page.open == []
    assert "61 % of the teacher's neighbours found; 40 % without a Transformer" in page.text
    assert "Student 0.613 0.750 0.500" in page.text or "Student 0.612 0.750 0.500" in page.text
    assert "The same before its training 0.310 0.750" in page.text
    assert "without a Transformer 0.400 0.300" in page.text
    assert "Share of the teacher's neighbours that are found" in page.text
    assert "300 held-out sequences, 4,000 pairs" in page.text
    assert "does not beat it" not in page.text
    assert "Fidelity neighbours" not in page.text
    worse = dataclasses.replace(report, fidelity=dataclasses.replace(facts, student=floor))
    assert "The student does not beat it." in Page(render(worse)).text
    assert worse.to_dict()["headline"]["fidelity_neighbours"] == 0.4


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
