"""The tables agree with the tokenizer they were read off."""

import sys
import unicodedata

import numpy as np
import pytest
import tokenizers
from tokenizers import normalizers, pre_tokenizers

from etd_tf.errors import InputError
from etd_tf.export.code_points import (
    EXPANSION,
    ISOLATED,
    ORDINARY,
    SINGLE,
    SPACE,
    SPACED,
    PagedTable,
    build_tables,
)


def look_up(table, point):
    return int(table.pages[table.page_index[point // 256], point % 256])


def expand(tables, character):
    """Applies the rule of one character in plain Python."""
    rule = look_up(tables.rules, ord(character))
    kind, argument = rule % 4, rule // 4
    if kind == EXPANSION:
        start, end = tables.expansion_splits[argument : argument + 2]
        return "".join(map(chr, tables.expansion_values[start:end]))
    text = chr(ord(character) + argument)
    return f" {text} " if kind == SPACED else text


@pytest.fixture(scope="module")
def uncased():
    return build_tables(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer())


def test_rules_follow_the_definition_of_bert_normalisation(uncased):
    assert expand(uncased, "A") == "a"
    assert expand(uncased, "\u00e9") == "e"  # accent removed by NFD
    assert expand(uncased, "\u0301") == ""  # a combining accent on its own
    assert expand(uncased, "\u4e2d") == " \u4e2d "  # CJK stands alone
    assert expand(uncased, "\u00df") == "\u00df"  # lowercase, not case folding
    assert expand(uncased, "\u2026") == "\u2026"  # NFD, not NFKC
    assert expand(uncased, "\t") == " "
    assert expand(uncased, "\x00") == expand(uncased, "\ufffd") == ""


def test_kinds(uncased):
    assert look_up(uncased.rules, ord("a")) == SINGLE  # identity
    assert look_up(uncased.rules, 0x4E2D) == SPACED
    assert look_up(uncased.rules, 0xAC01) % 4 == EXPANSION  # Hangul falls into jamo


def test_classes_follow_unicode_categories(uncased):
    generator = np.random.default_rng(0)
    for point in generator.integers(0, 0xD800, 500).tolist():
        # Unicode 3.2: characters classified since are not known to every library.
        category = unicodedata.ucd_3_2_0.category(chr(point))
        if category in ("Ll", "Lu", "Nd"):
            assert look_up(uncased.classes, point) == ORDINARY
        elif category[0] == "P":
            assert look_up(uncased.classes, point) == ISOLATED
    for character in "!?|$+~-[]":
        assert look_up(uncased.classes, ord(character)) == ISOLATED
    for character in " \u00a0\u2003\n":
        assert look_up(uncased.classes, ord(character)) == SPACE


def test_cased_tables_keep_case_and_accents():
    tables = build_tables(
        normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()
    )
    assert expand(tables, "A") == "A"
    assert expand(tables, "\u00e9") == "\u00e9"
    assert expand(tables, "\u4e2d") == " \u4e2d "


def test_no_normalizer_is_the_identity():
    tables = build_tables(None, pre_tokenizers.BertPreTokenizer())
    assert expand(tables, "A") == "A"
    assert not tables.rules.pages.any()


def test_tables_of_one_tokenizer_are_built_once(uncased):
    again = build_tables(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer())
    assert again is uncased


def test_paged_table_round_trips():
    values = np.zeros(0x110000, np.int64)
    values[[0, 300, 70_000, 0x10FFFF]] = [5, -6, 7, 8]
    table = PagedTable.from_values(values)
    assert len(table.pages) == 5  # four pages with content and the empty one
    np.testing.assert_array_equal(table.pages[table.page_index].reshape(-1), values)


def test_a_normalizer_that_touches_the_separator_is_refused():
    with pytest.raises(InputError, match="token ids only"):
        build_tables(tokenizers.normalizers.Replace("|", ""), pre_tokenizers.BertPreTokenizer())


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
