"""Combining first-stage scores with log-likelihoods."""

import numpy as np
import pytest

from trlm_retrieval.components.fusion import combine, mixed_gains, standardised


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


@pytest.mark.parametrize("weight", [0.0, 0.2, 0.45, 0.9])
def test_mixed_gains_keep_the_order_of_the_mixture(weight):
    chosen = np.random.default_rng(0)
    for _ in range(20):
        first = chosen.normal(size=12)
        log_likelihoods = chosen.normal(-40, 9, size=12)
        gains = (log_likelihoods + 55) / 7  # less a prior of -55 nats, for each of 7 tokens
        mixed = mixed_gains(gains, first, weight)
        assert (
            np.argsort(mixed).tolist()
            == np.argsort(combine(first, log_likelihoods, weight)).tolist()
        )
        assert mixed.mean() == pytest.approx(gains.mean())


def test_one_candidate_keeps_its_gain():
    assert mixed_gains([1.5], [0.3], 0.45).tolist() == [1.5]
    assert mixed_gains([], [], 0.45).size == 0


def test_a_first_stage_alone_has_no_gains():
    with pytest.raises(ValueError, match="leaves the likelihood out"):
        mixed_gains([1.0, 2.0], [1.0, 2.0], 1.0)
