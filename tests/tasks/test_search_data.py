"""Reading BEIR's layout, and SQuAD as a search."""

import gzip
import json
import sys

import pytest

from etd_tf.errors import InputError
from etd_tf.tasks.search_data import SearchData, read_beir, search_in_squad
from etd_tf.tasks.squad_data import load_squad
from tests.helpers import need_shared_data

DOCUMENTS = [
    {"_id": "d1", "title": "Cats", "text": "the cat sat", "metadata": {}},
    {"_id": "d2", "title": "", "text": "a dog ran"},
    {"_id": "q2", "text": "on the mat"},
]
QUERIES = [
    {"_id": "q1", "text": "cat?"},
    {"_id": "q2", "text": "mat?"},
    {"_id": "q3", "text": "not judged"},
    {"_id": "q4", "text": "nothing is relevant"},
]
JUDGED = "query-id\tcorpus-id\tscore\nq2\td2\t1\nq1\td1\t2\nq1\td2\t0\nq1\tq2\t1\nq4\td1\t0\n"


def write_beir(folder, documents=DOCUMENTS, queries=QUERIES, judged=JUDGED):
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", documents), ("queries", queries)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text(judged, encoding="utf-8")
    return folder


EXPECTED = SearchData(
    queries=("cat?", "mat?"),
    documents=("Cats the cat sat", "a dog ran", "on the mat"),
    relevant=({0: 2, 2: 1}, {1: 1}),
    left_out={1: 2},
)


def test_files_are_read(tmp_path):
    data = read_beir(write_beir(tmp_path), "test")
    assert data == EXPECTED
    bare = JUDGED.partition("\n")[2]  # without names of columns
    assert read_beir(write_beir(tmp_path, judged=bare.replace("\n", "\r\n")), "test") == EXPECTED
    assert data.fingerprint() == EXPECTED.fingerprint()
    more = read_beir(write_beir(tmp_path, judged=JUDGED + "q2\td1\t1\n"), "test")
    assert more.fingerprint() != data.fingerprint()


def test_packed_files_are_read(tmp_path):
    write_beir(tmp_path)
    for name in ("corpus", "queries"):
        plain = tmp_path / f"{name}.jsonl"
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    assert read_beir(tmp_path, "test") == EXPECTED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"documents": [*DOCUMENTS, "{"]}, r"corpus.jsonl, line 4: not JSON"),
        ({"documents": [*DOCUMENTS, "[1]"]}, r"corpus.jsonl, line 4: no text _id"),
        ({"queries": [{"_id": 3, "text": "x"}]}, r"queries.jsonl, line 1: no text _id"),
        ({"queries": ["", {"_id": "q1"}]}, r"queries.jsonl, line 2: no text text"),
        ({"documents": [*DOCUMENTS, DOCUMENTS[0]]}, r"line 4: _id 'd1' occurs twice"),
        ({"documents": []}, r"corpus.jsonl has no texts"),
        ({"judged": JUDGED + "q1\td1\n"}, r"test.tsv, line 7: expected query-id, corpus-id, score"),
        ({"judged": JUDGED + "q1\td1\t0.5\n"}, r"test.tsv, line 7: expected query-id"),
        ({"judged": JUDGED + "q1\td9\t1\n"}, r"test.tsv, line 7: there is no document 'd9'"),
        ({"judged": JUDGED + "q9\td1\t1\n"}, r"test.tsv, line 7: there is no query 'q9'"),
        ({"judged": "query-id\tcorpus-id\tscore\nq1\td1\t0\n"}, "names no relevant document"),
    ],
)
def test_malformed_rows_are_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_beir(write_beir(tmp_path, **changes), "test")


def test_missing_files_are_named(tmp_path):
    write_beir(tmp_path)
    with pytest.raises(InputError, match=r"dev.tsv does not exist.*retrieval_split is one of test"):
        read_beir(tmp_path, "dev")
    with pytest.raises(InputError, match="those that are there: none"):
        read_beir(tmp_path / "qrels", "test")
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(InputError, match=r"corpus\.jsonl does not exist"):
        read_beir(tmp_path, "test")


def test_questions_look_for_their_paragraphs():
    folder = need_shared_data("squad", "dev-v1.1.json").parent
    dataset = load_squad("v1.1", "dev", folder)
    data = search_in_squad(dataset)
    assert len(data.queries) == 10_570
    assert len(data.documents) == len({*dataset.contexts})
    question = dataset.questions[777]
    (place,) = data.relevant[777]
    assert data.queries[777] == question.text
    assert data.documents[place] == dataset.contexts[question.context]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
