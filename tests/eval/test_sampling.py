"""Draws are the same every time, and even over kinds where that is asked for."""

from trlm_retrieval.eval.sampling import draw, draw_evenly


def test_a_draw_is_seeded_and_without_replacement():
    items = list(range(20))
    assert draw(items, 5) == draw(items, 5) != draw(items, 5, seed=1)
    assert len(set(draw(items, 5))) == 5
    assert draw(items, None) == draw(items, 20) == draw(items, 99) == items


def test_an_even_draw_takes_as_many_of_each_kind():
    items = ["a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3"]
    drawn = draw_evenly(items, 6, lambda item: item[0])
    assert sorted(item[0] for item in drawn) == ["a"] * 3 + ["b"] * 3
    assert drawn == draw_evenly(items, 6, lambda item: item[0])
    assert sorted(draw_evenly(items, None, lambda item: item[0])) == items
