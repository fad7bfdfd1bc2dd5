"""Windows hold whole sentences, all of them, in order."""

from trlm_retrieval.citation.windows import windows

TEXT = " One two. Three four five.  Six.\nSeven eight. "


def count_words(texts):
    return [len(text.split()) for text in texts]


def cut(text, most):
    return [[s.of(text) for s in window.sentences] for window in windows(text, most, count_words)]


def test_windows_are_filled_up_to_the_limit():
    assert cut(TEXT, 5) == [["One two.", "Three four five."], ["Six.", "Seven eight."]]
    assert cut(TEXT, 100) == [["One two.", "Three four five.", "Six.", "Seven eight."]]


def test_a_longer_sentence_has_a_window_of_its_own():
    assert cut(TEXT, 2) == [["One two."], ["Three four five."], ["Six."], ["Seven eight."]]


def test_texts_without_sentences():
    assert cut(" 42 43 ", 5) == [["42 43"]]
    assert cut("", 5) == cut(" \n", 5) == []


def test_pieces_joined_are_the_window():
    [window] = windows(TEXT, 100, count_words)
    assert "".join(window.pieces(TEXT)) == window.span.of(TEXT) == TEXT.strip()
    assert window.pieces(TEXT)[1] == "Three four five.  "
