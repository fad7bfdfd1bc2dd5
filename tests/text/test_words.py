"""Words of any script, and one spelling for the same characters."""

import pytest

from trlm_retrieval.text.normalise import normalise
from trlm_retrieval.text.words import query_words, words


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("我昨天去了北京。", "北京"),
        ("我喜欢猫", "猫"),
        ("東京都に住んでいます", "東京"),
        ("ｺﾝﾋﾟｭｰﾀｰを買う", "コンピューター"),
        ("저는 서울에서 살아요", "서울"),
        ("ฉันชอบกินข้าวผัด", "ข้าว"),
        ("ຂ້ອຍຮັກປະເທດລາວ", "ລາວ"),
        ("यह मेरी किताब है", "किताब"),
        ("İstanbul güzel", "istanbul"),
        ("Isparta", "ısparta"),
        ("in der Straße", "STRASSE"),
        ("the cafe\u0301 is open", "caf\u00e9"),
        ("soft\u00adware and zero\u200bwidth", "software zerowidth"),
        ("می\u200cخواهم", "میخواهم"),
        ("the infor-\nmation desk", "information"),
        ("die Wörter-\r\n  bücher", "Wörterbücher"),
        ("the ﬁrst", "first"),
        ("iPhone在北京", "iphone 北京"),
        ("hard\u00a0space", "hard space"),
        ("call __enter__ now", "enter"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("مُحَمَّد كاتب", "محمد"),
        ("שָׁלוֹם עולם", "שלום"),
        ("في ٢٠٢٠", "2020"),
        ("साल २०२०", "2020"),
        ("২০২০ সাল", "২০২০ 2020"),
    ],
)
def test_a_query_finds_its_text(text, query):
    wanted = query_words(query)
    assert wanted and set(wanted) <= set(words(text))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("लाल कुर्सी", "किताब"),
        ("东京和北海", "北京"),
        ("a well known place", "wellknown"),
        ("x - \n y", "xy"),
    ],
)
def test_a_query_does_not_find_another_text(text, query):
    assert not set(query_words(query)) & set(words(text))


def test_english_words_are_as_they_were():
    text = "The Generators' __enter__ isn't x_1, e.g. 3.5 well-known"
    expected = "the generat __enter__ enter isn t x_1 x 1 e g 3 5 well known"
    assert words(text) == query_words(text) == expected.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("ﾃｽﾄ ｶﾞ", "テスト ガ"),
        ("Ａ１", "A1"),
        ("soft\u00adware", "software"),
        ("soft\u00ad\nware", "software"),
        ("a\u00a0b\u202fc\u3000d", "a b c d"),
        ("\ufeffstart, ze\u200bro, jo\u200din", "start, zero, join"),
        ("क्\u200dष می\u200cخواهم 👩\u200d👧", "क्\u200dष می\u200cخواهم 👩\u200d👧"),
        ("x² ½ \ud800", "x² ½ \ufffd"),
    ],
)
def test_one_spelling(text, expected):
    assert normalise(text) == expected
    assert normalise(expected) == expected
