"""Entities in tags: as seqeval finds and scores them, and the schemes that files keep."""

import random
import sys

import pytest

from etd_tf.tasks import entities
from etd_tf.tasks.entities import complete_names, count_entities, find_entities, first_break, total

GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["I-ORG", "O", "S-ORG", "B-LOC", "E-LOC"]]
FOUND = [["B-PER", "O", "O", "B-LOC"], ["B-ORG", "O", "S-PER", "I-LOC", "E-LOC"]]
# What seqeval 1.2.2 prints of them: precision, recall, F1 and the entities that are there.
REPORT = {
    "LOC": (1.0, 1.0, 1.0, 2),
    "ORG": (1.0, 0.5, 2 / 3, 2),
    "PER": (0.0, 0.0, 0.0, 1),
}


def test_scores_are_seqevals():
    counts = count_entities(GOLD, FOUND)
    assert list(counts) == list(REPORT)
    for kind, (precision, recall, f1, there) in REPORT.items():
        expected = {"precision": precision, "recall": recall, "f1": f1}
        assert counts[kind].scores() == pytest.approx(expected)
        assert counts[kind].there == there
    assert total(counts.values()).scores() == pytest.approx(
        {"precision": 0.6, "recall": 0.6, "f1": 0.6}
    )
    assert total([]).scores() == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


@pytest.mark.parametrize("letters", ["BI", "BIES", "I"])
def test_any_tags_score_as_in_seqeval(letters):
    """Also tags that break their scheme, as predictions do."""
    metrics = pytest.importorskip("seqeval.metrics")
    generator = random.Random(0)
    names = ["O", *(f"{letter}-{kind}" for letter in letters for kind in ("PER", "geo-loc"))]
    for _ in range(200):
        lengths = [generator.randint(1, 8) for _ in range(4)]
        gold, found = (
            [[generator.choice(names) for _ in range(n)] for n in lengths] for _ in range(2)
        )
        scores = total(count_entities(gold, found).values()).scores()
        assert scores["f1"] == pytest.approx(metrics.f1_score(gold, found, zero_division=0))


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("I-A I-A O I-A", [("A", 0, 2), ("A", 3, 4)]),
        ("I-A B-A I-A", [("A", 0, 1), ("A", 1, 3)]),
        ("B-A I-B I-B", [("A", 0, 1), ("B", 1, 3)]),
        ("S-A E-A B-A I-A E-A I-A", [("A", 0, 1), ("A", 1, 2), ("A", 2, 5), ("A", 5, 6)]),
        ("U-A B-A L-A", [("A", 0, 1), ("A", 1, 3)]),
        ("B-geo-loc I-geo-loc", [("geo-loc", 0, 2)]),
        ("NOUN NOUN VERB O", [("NOUN", 0, 2), ("VERB", 2, 3)]),
    ],
)
def test_entities_of_any_scheme(tags, found):
    assert find_entities(tags.split()) == found


@pytest.mark.parametrize(
    ("scheme", "tags", "broken"),
    [
        ("IOB2", "B-A I-A O B-A B-A", None),
        ("IOB2", "O I-A", "I-A after O; in IOB2 an entity begins with B-"),
        ("IOB2", "B-A I-B", "I-B after B-A; in IOB2"),
        ("IOB2", "B-A E-A", "E-A after B-A; in IOB2"),
        ("IOB1", "I-A B-A I-A O I-B", None),
        ("IOB1", "I-B B-A", "B-A after I-B; in IOB1"),
        ("IOB1", "B-A", "B-A after the beginning of the sentence; in IOB1"),
        ("IOBES", "S-A B-A I-A E-A O", None),
        ("IOBES", "B-A", "the end of the sentence after B-A; in IOBES"),
        ("IOBES", "B-A S-A", "S-A after B-A; in IOBES"),
        ("IOBES", "O E-A", "E-A after O; in IOBES"),
        ("IO", "A A O B", None),
        ("IO", "A B-A", "B-A after A; in IO tags have no B-"),
    ],
)
def test_the_first_tag_that_breaks_a_scheme_is_found(scheme, tags, broken):
    found = first_break([["O"], tags.split()], scheme)
    assert (found is None) == (broken is None)
    if found is not None:
        assert found.sentence == 1
        assert found.text.startswith(broken)


def test_all_tags_of_a_type_are_classes():
    assert complete_names(["O", "B-LOC", "I-PER"], "IOB2") == (
        *("O", "B-LOC", "I-LOC"),
        *("B-PER", "I-PER"),
    )
    assert complete_names(["S-X", "O"], "IOBES") == ("O", "B-X", "I-X", "E-X", "S-X")
    assert complete_names(["U-X", "O"], "IOBES") == ("O", "B-X", "I-X", "L-X", "U-X")
    assert complete_names(["VERB", "NOUN"], entities.IO) == ("NOUN", "VERB")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
