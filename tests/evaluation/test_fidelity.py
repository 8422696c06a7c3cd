"""Fidelity of vectors to a teacher's, against brute force and SciPy."""

import sys
import tracemalloc

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from etd_tf.errors import InputError
from etd_tf.evaluation import fidelity
from etd_tf.evaluation.fidelity import measure_fidelity, random_pairs, rank_correlation


def vectors(number=60, width=7, seed=0):
    return np.random.default_rng(seed).normal(size=(number, width)).astype(np.float32)


def noisy(clean, amount, seed=1):
    return clean + amount * vectors(*clean.shape, seed=seed)


def cosines(rows):
    rows = rows.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def nearest(rows, count):
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(rows)
    return search.kneighbors(return_distance=False)  # without the rows themselves


@pytest.mark.parametrize("block", [1, 200, 1 << 22])
def test_numbers_are_those_of_scipy_and_sklearn(monkeypatch, block):
    monkeypatch.setattr(fidelity, "_BLOCK", block)
    teacher = vectors()
    student = noisy(teacher, 0.5)
    found = measure_fidelity(teacher, student)
    sets = zip(nearest(teacher, 10), nearest(student, 10), strict=True)
    shares = [len({*a} & {*b}) / 10 for a, b in sets]
    assert found.neighbours == pytest.approx(np.mean(shares), abs=1e-12)
    upper = np.triu_indices(60, 1)
    expected = spearmanr(cosines(teacher)[upper], cosines(student)[upper]).statistic
    assert found.spearman == pytest.approx(expected, abs=1e-4)
    both = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(teacher, student)]  # noqa: B905
    assert found.cosine == pytest.approx(np.mean(both), abs=1e-6)
    assert (found.num_texts, found.num_pairs) == (60, 60 * 59 // 2)
    assert 0.3 < found.neighbours < 0.9


def test_the_teacher_itself_has_all():
    teacher = vectors(500, 33)
    for same in (teacher, teacher.copy(), 4 * teacher):
        found = measure_fidelity(teacher, same, num_pairs=5_000)
        assert (found.neighbours, found.spearman, found.cosine) == (1.0, 1.0, 1.0)
        assert found.num_pairs == 5_000


def test_a_rotation_keeps_relations_and_loses_the_space():
    teacher = vectors(200, 16)
    rotation, _ = np.linalg.qr(vectors(16, 16, seed=3))
    found = measure_fidelity(teacher, teacher @ rotation)
    assert found.neighbours == pytest.approx(1.0, abs=2e-3)
    assert found.spearman == pytest.approx(1.0, abs=1e-6)
    assert found.cosine is not None
    assert abs(found.cosine) < 0.5


def test_random_vectors_have_chance():
    found = measure_fidelity(vectors(2000, 24), vectors(2000, 24, seed=9))
    assert found.neighbours == pytest.approx(10 / 1999, abs=3e-3)
    assert found.spearman == pytest.approx(0.0, abs=0.02)
    assert found.cosine == pytest.approx(0.0, abs=0.02)


def test_vectors_of_another_width_have_no_cosine_to_the_teacher():
    found = measure_fidelity(vectors(50, 7), vectors(50, 5))
    assert found.cosine is None


def test_noise_costs_all_three():
    teacher = vectors(300, 12)
    steps = [measure_fidelity(teacher, noisy(teacher, amount)) for amount in (0.1, 0.5, 2.0)]
    for name in ("neighbours", "spearman", "cosine"):
        values = [getattr(step, name) for step in steps]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[2] + 0.3


def test_the_order_of_texts_changes_nothing_even_with_ties():
    teacher, student = vectors(80), noisy(vectors(80), 0.4)
    teacher[40:] = teacher[:40]  # each text twice
    student[20:40] = student[0]  # and a student that takes many for one
    order = np.random.default_rng(5).permutation(80)
    one = measure_fidelity(teacher, student)
    other = measure_fidelity(teacher[order], student[order])
    assert other.neighbours == pytest.approx(one.neighbours, abs=1e-12)
    assert other.spearman == pytest.approx(one.spearman, abs=1e-5)


def test_equal_texts_are_no_loss():
    teacher = np.repeat(vectors(20), 15, axis=0)  # 14 equal texts for 10 places
    assert measure_fidelity(teacher, teacher[:, ::-1]).neighbours == 1.0
    assert measure_fidelity(teacher, teacher).neighbours == 1.0


def test_a_student_that_says_the_same_of_all_texts_has_chance():
    found = measure_fidelity(vectors(101), np.ones((101, 3), np.float32))
    assert found.neighbours == pytest.approx(10 / 100, abs=1e-12)
    assert found.spearman == 0.0
    zeros = measure_fidelity(vectors(101), np.zeros((101, 7), np.float32))
    assert (zeros.cosine, zeros.spearman) == (0.0, 0.0)


def test_pairs_are_seeded_and_of_different_texts():
    pairs = random_pairs(1000, 5_000, seed=4)
    assert pairs.shape == (5_000, 2)
    assert np.all(pairs[:, 0] != pairs[:, 1])
    assert pairs.min() >= 0
    assert pairs.max() < 1000
    np.testing.assert_array_equal(pairs, random_pairs(1000, 5_000, seed=4))
    assert not np.array_equal(pairs, random_pairs(1000, 5_000, seed=5))
    np.testing.assert_array_equal(random_pairs(3, 9), [[0, 1], [0, 2], [1, 2]])
    assert np.all(np.bincount(pairs.ravel(), minlength=1000) < 40)


def test_ranks_of_equal_numbers_are_their_mean():
    first = np.asarray([3.0, 1.0, 3.0, 2.0, 1.0, 9.0])
    second = np.asarray([1.0, 1.0, 4.0, 2.0, 0.0, 1.0])
    expected = spearmanr(first, second).statistic
    assert rank_correlation(first, second) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation(first, -first) == pytest.approx(-1.0, abs=1e-12)
    assert rank_correlation(first, np.ones(6)) == 0.0


def test_many_texts_take_little_memory():
    teacher, student = vectors(4000, 8), vectors(4000, 8, seed=1)
    tracemalloc.start()
    measure_fidelity(teacher, student)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 4 * 4000**2  # bytes of both whole matrices


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match=r"\(60, 7\) and \(59, 7\): expected"):
        measure_fidelity(vectors(), vectors(59))
    with pytest.raises(InputError, match=r"\(60, 7\) and \(60,\): expected"):
        measure_fidelity(vectors(), vectors()[:, 0])
    with pytest.raises(InputError, match="Give at least 12, better some hundreds"):
        measure_fidelity(vectors(11), vectors(11))
    assert measure_fidelity(vectors(12), vectors(12)).neighbours == 1.0
    damaged = vectors()
    damaged[3, 2] = np.nan
    with pytest.raises(InputError, match="student's vectors are not all finite"):
        measure_fidelity(vectors(), damaged)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
