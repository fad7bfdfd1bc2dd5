"""Combining first-stage scores with log-likelihoods."""

import numpy as np
import pytest

from trlm_retrieval.components.fusion import combine, standardised


def test_weight_zero_gives_the_log_likelihoods_and_one_the_first_stage_order():
    first, second = [3.0, 1.0, 2.0], [-9.0, -5.0, -7.0]
    assert combine(first, second, 0.0).tolist() == second
    assert np.argsort(-combine(first, second, 1.0)).tolist() == [0, 2, 1]


def test_scales_do_not_matter():
    first, second = [3.0, 1.0, 2.0, 0.5], [-9.0, -5.0, -7.0, -6.0]
    stretched = [100 * score + 7 for score in first]
    np.testing.assert_allclose(
        combine(first, second, 0.3), combine(stretched, second, 0.3), atol=1e-9
    )


def test_known_values():
    np.testing.assert_allclose(standardised([1.0, 3.0]), [-1, 1])
    np.testing.assert_allclose(combine([1.0, 3.0], [-2.0, -4.0], 0.25), [0.5, -0.5])


def test_equal_scores_and_nothing_at_all():
    assert standardised([2.0, 2.0]).tolist() == [0, 0]
    assert standardised([]).size == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0, 2.0]), "do not fit"),
        (([1.0], [1.0], 1.5), "0..1"),
        (([float("nan")], [1.0], 0.5), "finite"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        combine(*arguments)
