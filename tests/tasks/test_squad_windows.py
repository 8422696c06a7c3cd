"""Windows: coverage, stride, answers through offsets."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etd_tf.errors import InputError
from etd_tf.tasks.squad_data import SquadDataset, SquadQuestion, load_squad
from etd_tf.tasks.squad_windows import WindowOptions, answer_positions, make_windows
from tests.helpers import need_quickstart_teacher, need_shared_data, tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    return tiny_checkpoint()


def dataset(context, question="cat?", *answers, version="v1.1"):
    entry = SquadQuestion("q", question, 0, answers)
    return SquadDataset(version, (context,), (0,), (entry,))


def test_short_paragraphs_are_the_tokenizers_own_pair(checkpoint):
    windows = make_windows(checkpoint, dataset("The cat sat."), WindowOptions(16, 4))
    encoding = checkpoint.tokenizer.backend.encode("cat?", "The cat sat.")
    assert windows.sequences.token_ids[0].tolist() == encoding.ids
    assert windows.sequences.segment_ids[0].tolist() == encoding.type_ids
    assert (windows.prefix[0], windows.first_token[0], windows.count[0]) == (4, 0, 4)


@settings(max_examples=40)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(7, 23))
def test_windows_cover_the_paragraph_at_the_stride(checkpoint, length, stride, max_length):
    context = " ".join("a" * length)
    windows = make_windows(checkpoint, dataset(context, "b c"), WindowOptions(max_length, stride))
    room = max_length - 2 - 3
    covered = set()
    for first, count in zip(windows.first_token, windows.count, strict=True):
        assert count <= room
        covered |= set(range(first, first + count))
    assert covered == set(range(length))
    assert set(np.diff(windows.first_token)) <= {min(stride, room)}
    assert all(windows.count[:-1] == room)
    if len(windows.count) > 1:  # the window before the last does not reach the end
        assert windows.first_token[-2] + room < length
    assert max(windows.sequences.lengths) <= max_length


def window_text(windows, data, row, first, last):
    """The characters behind positions `first` to `last` of a window."""
    question = data.questions[windows.question[row]]
    offsets = windows.offsets[question.context]
    shift = windows.first_token[row] - windows.prefix[row]
    start, end = offsets[first + shift][0], offsets[last + shift][1]
    return data.contexts[question.context][start:end]


def test_answers_are_found_through_offsets(checkpoint):
    context = "A dog ran, the CAT  sat; on THE mat."
    answer = ("CAT  sat", context.index("CAT"))
    data = dataset(context, "dog?", answer)
    windows = make_windows(checkpoint, data, WindowOptions(12, 3))
    positions = answer_positions(windows, data)
    inside = np.flatnonzero(positions["start_positions"])
    assert 0 < len(inside) < len(windows.question)
    for row in inside:
        span = [positions[f"{side}_positions"][row] for side in ("start", "end")]
        assert window_text(windows, data, row, *span) == "CAT  sat"
    outside = np.setdiff1d(np.arange(len(windows.question)), inside)
    assert not positions["end_positions"][outside].any()


def test_answers_inside_a_word_take_its_token(checkpoint):
    data = dataset("the mat, sat", "cat?", ("m", 4))
    windows = make_windows(checkpoint, data, WindowOptions(16, 4))
    positions = answer_positions(windows, data)
    span = [positions[f"{side}_positions"][0] for side in ("start", "end")]
    assert window_text(windows, data, 0, *span) == "mat"


def test_neighbours_that_touch_the_answer_stay_outside(checkpoint):
    data = dataset("on (mat)!", "cat?", ("mat", 4))
    windows = make_windows(checkpoint, data, WindowOptions(16, 4))
    positions = answer_positions(windows, data)
    span = [positions[f"{side}_positions"][0] for side in ("start", "end")]
    assert window_text(windows, data, 0, *span) == "mat"


def test_questions_without_answer_point_at_the_first_token(checkpoint):
    data = dataset("the cat sat", "dog?", version="v2.0")
    positions = answer_positions(make_windows(checkpoint, data, WindowOptions(16, 4)), data)
    assert positions["start_positions"].tolist() == positions["end_positions"].tolist() == [0]


def test_empty_paragraphs_make_an_empty_window(checkpoint):
    windows = make_windows(checkpoint, dataset(""), WindowOptions(16, 4))
    assert windows.count.tolist() == [0]
    assert len(windows.sequences) == 1


def test_limits_are_checked(checkpoint):
    with pytest.raises(InputError, match=r"questions of 8 tokens. Choose at least 16"):
        make_windows(checkpoint, dataset("a", "a b c d e f g h"), WindowOptions(11, 5))
    with pytest.raises(InputError, match="max_length=24 does not fit"):
        make_windows(checkpoint, dataset("a"), WindowOptions(24, 4))
    with pytest.raises(InputError, match="doc_stride=0 is not positive"):
        WindowOptions(16, 0)


def test_real_dev_set_gives_the_known_number_of_windows():
    """10,833 windows are what BERT's own script makes of SQuAD v1.1 dev at 384 and 128."""
    from etd_tf.checkpoints.loading import load_checkpoint

    data = load_squad("v1.1", "dev", need_shared_data("squad"))
    checkpoint = load_checkpoint(need_quickstart_teacher())
    windows = make_windows(checkpoint, data)
    assert len(windows.sequences) == 10_833
    starts = answer_positions(windows, data)["start_positions"]
    answered = np.unique(windows.question[starts > 0])
    assert len(answered) > 0.999 * len(data.questions)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
