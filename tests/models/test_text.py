import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.text import FIELD_MARKERS, fold, normalise, product_text, truncate

MARKS = "<b>|</b>|<br/>|<|>|&|&amp;|&lt;|&#34;|&nbsp;|lt;|amp;|<script>|</script>|!--"
MARKUP = st.lists(st.sampled_from([*MARKS.split("|"), *"a1 ñｱ\u200b\x00\ud800＜"])).map("".join)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  two\twords\n", "two words"),
        ("Crème &amp; sugar", "Crème & sugar"),
        ("12&#34; pipe", '12" pipe'),
        ("<p>One<br/>two</p>", "One two"),
        ("&amp;lt;b&amp;gt;bold&amp;lt;/b&amp;gt;", "bold"),
        ("a < b and c > d, I <3 it, 1<2", "a < b and c > d, I <3 it, 1<2"),
        ("<script>steal()</script>tea", "tea"),
        ("<!-- hidden -->tea", "tea"),
        ("ｽﾏﾎ ｹｰｽ ６４ＧＢ", "スマホ ケース 64GB"),
        ("año nin\u0303o", "año niño"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("bad\ud800 surrogate\x00", "bad surrogate"),
        ("日本語　全角", "日本語 全角"),
        ("", ""),
        ("<!DOCTYPE html><p>tea</p>", "tea"),
        ("<!-- open tea", "<!-- open tea"),
        ("pens&notebooks salt&paraffin", "pens&notebooks salt&paraffin"),
        ("a &notit; &copy; b", "a &notit; © b"),
        ("100&nbsp g &amp tea", "100 g & tea"),
        ("1½ inch, ¾ cup", "1 1/2 inch, 3/4 cup"),
        ("10⁵ m²", "10^5 m2"),
        ("Zentara™ N7™", "Zentara N7"),
        ("葛\U000e0100飾区", "葛飾区"),
        ("\u3164\u1160", ""),
    ],
)
def test_normalise(raw, clean):
    assert normalise(raw) == clean


@pytest.mark.parametrize(
    "part",
    ["<!--", "<a", "&amp;", "amp;&", "<script>", "&#38;", "#38;", "<!--<", "</script ", "<b "],
)
def test_a_hostile_text_costs_no_more_than_its_length(part):
    # Without a bound, a text of this size takes minutes: each layer is a pass over the rest.
    text = "&" + part * 100_000 + ">" * 100_000
    assert normalise(normalise(text)) == normalise(text)


# Marks of two orders in turn; one that becomes two marks; half-width marks of Japanese.
PILES = ["\u0301" * 500_000 + "\u0316" * 500_000, "\u0f73" * 1_000_000, "\u0301\uff9e" * 500_000]


@pytest.mark.parametrize("pile", PILES, ids=["orders", "double", "half-width"])
def test_marks_piled_on_a_letter_are_cut_and_their_order_costs_nothing(pile):
    # Sorted by insertion, these would take most of an hour.
    clean = normalise("a" + pile + "b")
    assert clean == normalise(clean)
    assert len(clean) < 80
    assert clean.endswith("b")


@pytest.mark.parametrize("mark", ["\u0301", "\uff9f"])
def test_the_smallest_pile_is_found_wherever_it_begins(mark):
    for before in range(7):
        text = "日" * 1_000 + "a" * before + "q" + mark * 31 + "z"
        piled = unicodedata.normalize("NFKC", mark)
        assert normalise(text).count(piled) == 30


def test_every_mark_is_known_to_pile_up():
    for at in range(0x110000):
        if unicodedata.combining(unicodedata.normalize("NFKD", chr(at))[0]):
            assert len(normalise("a" + chr(at) * 1_100)) < 100, hex(at)


@given(st.text() | MARKUP)
@example("&amp;amp;lt;b&gt;")
@example("<a" * 20 + ">" * 20)
@example("&#38;" * 20 + "#38;" * 20 + "lt;")
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip()
    assert unicodedata.is_normalized("NFKC", once)
    once.encode()


@given(st.text() | MARKUP)
@example("İẞﬀ")
@example("ᾳ\u0345")
def test_folding_twice_changes_nothing_and_ignores_case(text):
    once = fold(text)
    assert fold(once) == once
    assert fold(normalise(text)) == once


def test_folding_joins_cases_and_keeps_accents_apart():
    assert fold("NIÑO") == fold("niño") != fold("nino")
    assert fold("STRASSE") == fold("straße")


@given(st.text(), st.integers(-1, 30))
def test_truncation_keeps_a_start_within_the_budget(text, tokens):
    short = truncate(text, tokens)
    assert text.startswith(short)
    assert truncate(short, tokens) == short
    assert truncate(text, len(text) + 1) == text


def test_a_word_and_a_japanese_character_are_a_token_each():
    assert truncate("one two three", 2) == "one two"
    assert truncate("送料無料です", 4) == "送料無料"
    assert truncate("iphone用ケース", 2) == "iphone用"
    assert truncate("word", 0) == ""


def test_every_field_stands_behind_its_marker_within_its_budget():
    fields = {"title": "a b c", "brand": "", "colour": "<b>Red</b>", "description": "x y z"}
    text = product_text(fields, {"title": 2, "brand": 5, "colour": 5, "description": 1})
    assert text == (
        f"{FIELD_MARKERS['title']} a b {FIELD_MARKERS['colour']} Red "
        f"{FIELD_MARKERS['description']} x"
    )
    assert product_text({}) == ""
