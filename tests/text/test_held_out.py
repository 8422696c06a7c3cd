"""Tests of the documents that may be held out."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.text.plan import Candidates

DOCUMENTS = [f"document {i % 150}" for i in range(200)]  # some of them twice


@settings(max_examples=20)
@given(fraction=st.sampled_from([1e-9, 0.05, 0.4]), order=st.permutations(range(200)))
def test_the_choice_does_not_depend_on_the_order_or_on_parts(fraction, order):
    whole = Candidates(fraction, 7)
    for number, document in enumerate(DOCUMENTS):
        whole.offer(number, document)
    merged = Candidates(fraction, 7)
    for part in (order[:30], order[30:31], order[31:]):
        some = Candidates(fraction, 7)
        for number in part:
            some.offer(number, DOCUMENTS[number])
        for candidate in some.kept():
            merged.add(*candidate)
    assert sorted(merged.kept()) == sorted(whole.kept())
    size = fraction * sum(map(len, DOCUMENTS))
    assert merged.choose(size, 200) == whole.choose(size, 200) != {}


def test_few_documents_are_kept():
    candidates = Candidates(0.01, 0)
    for number in range(20_000):
        candidates.offer(number, f"text {number}")
    assert 300 < len(candidates.kept()) < 600  # twice the share and 64 more
    none = Candidates(0.0, 0)
    none.offer(0, "text")
    assert none.kept() == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
