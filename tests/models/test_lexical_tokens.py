"""Laws of tokens: what counts as the same word, number, denial or head."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.lexical.matching.products import prepare_products
from models.lexical.reading import tokens as t
from models.lexical.reading.hashing import joined, mixed, polynomial
from models.lexical.reading.scopes import Stream, denials, heads, read_stream
from models.lexical.reading.tokens import Vocabulary, analyse, gram_hashes, number_tokens, stem
from models.locales import encode_locales
from models.pairs import Products
from models.text import fold


def stream_of(text: str, locale: str = "us") -> tuple[Stream, list[str]]:
    vocabulary = Vocabulary()
    locales = encode_locales([locale])
    indptr, numbers = number_tokens([text], locales, vocabulary, 100)
    stream = read_stream(indptr, vocabulary.columns().take(numbers))
    return stream, [vocabulary.words[number].stem for number in numbers]


def stems(text: str, locale: str = "us") -> list[str]:
    stream, words = stream_of(text, locale)
    return [word for word, kept in zip(words, stream.content, strict=True) if kept]


def marked(text: str, locale: str, mark: str) -> set[str]:
    stream, words = stream_of(text, locale)
    return {word for word, is_marked in zip(words, getattr(stream, mark), strict=True) if is_marked}


def head_of(text: str, locale: str) -> str:
    stream, words = stream_of(text, locale)
    head = heads(stream, encode_locales([locale]), np.zeros(len(words), bool))[0]
    return words[head] if head >= 0 else ""


@pytest.mark.parametrize(
    ("one", "other", "locale"),
    [
        ("shoe", "Shoes", "us"),
        ("battery", "batteries", "us"),
        ("box", "boxes", "us"),
        ("men", "Men's", "us"),
        ("l'oreal", "L’Oréal", "us"),
        ("cafe", "CAFÉ", "us"),
        ("zapatilla", "zapatillas", "es"),
        ("camión", "camiones", "es"),
        ("lápiz", "lapices", "es"),
        ("negra", "negros", "es"),
        ("nino", "NIÑO", "es"),
        ("ｹｰｽ", "ケース", "jp"),
        ("1,000", "1000", "us"),
        ("1,234.50", "1234.5", "jp"),
        ("1.000", "1000", "es"),
        ("1.234.567,8", "1234567.8", "es"),
        ("1.5", "1,50", "es"),
        ("0.500", "0,5", "es"),  # no thousands begin with 0
        ("2,5", "2.50", "us"),
        ("10 000 mAh", "10,000 mAh", "us"),
        ("10\u202f000 mAh", "10.000 mAh", "es"),
        ("non-stick", "nonstick", "us"),
        ("non stick", "nonstick", "us"),
        ("non\u2011slips", "nonslip", "es"),
        ("６４ｇｂ", "64GB", "jp"),
    ],
)
def test_forms_of_one_word_share_a_stem(one, other, locale):
    assert stems(one, locale) == stems(other, locale) != []


@pytest.mark.parametrize(
    ("one", "other", "locale"),
    [
        ("glass", "glas", "us"),
        ("bus", "bu", "us"),
        ("カキ", "ガキ", "jp"),  # a voicing mark is no accent
        ("64gb", "128gb", "us"),
        ("2.5", "25", "us"),
        ("1.000", "1000", "us"),
        ("1,500", "1500", "es"),
        ("11 128 gb", "11128 gb", "us"),  # an iPhone 11 of 128 GB
        ("10 000", "10000", "us"),  # without a unit, two numbers
        ("10 000 inchworms", "10000 inchworms", "us"),
        ("nonstick", "stick", "us"),
    ],
)
def test_different_words_stay_apart(one, other, locale):
    assert stems(one, locale) != stems(other, locale)


def test_an_accent_is_lost_in_the_stem_and_kept_in_the_surface():
    assert analyse("año", "es").root == analyse("ano", "es").root
    assert analyse("año", "es").surface != analyse("ano", "es").surface


@given(st.text(max_size=30))
def test_stemming_never_empties_a_word(text):
    for locale in ("us", "es", "jp"):
        stream, words = stream_of(text, locale)
        for word, is_break in zip(words, stream.flagged(t.BREAK), strict=True):
            assert bool(word) != is_break


def test_japanese_splits_where_the_script_changes():
    assert stems("コーヒーメーカー10杯 白い食器", "jp") == [
        "コーヒーメーカー",
        "10",
        "杯",
        "白",
        "食器",
    ]


@pytest.mark.parametrize(
    ("text", "locale", "denied"),
    [
        ("fan without light", "us", {"light"}),
        ("sugar free cola", "us", {"sugar"}),
        ("cola, no added sugar", "us", {"added", "sugar"}),
        ("no show socks, black", "us", {"show"}),  # not before the thing is named
        ("cups non 5g plastic", "us", {"5g"}),
        ("non-stick pan", "us", set()),  # one word, see below
        ("vitamina c sin azúcar", "es", {"azucar"}),
        ("camiseta sin mangas hombre", "es", {"mang"}),
        ("anti caída pelo", "es", set()),
        ("肘掛けなし ソファー", "jp", {"肘掛", "け"}),
        ("肘掛 不要 ソファー", "jp", {"肘掛"}),
        ("電源不要", "jp", {"電源"}),
        ("light fan", "us", set()),
        ("without, light", "us", set()),
    ],
)
def test_denials_reach_the_words_they_deny(text, locale, denied):
    assert marked(text, locale, "denied") == denied


@pytest.mark.parametrize(
    ("text", "locale", "denied"),
    [
        ("fan without light", "us", "light"),
        ("non-stick pan", "us", "stick"),
        ("non stick pan", "us", "stick"),
        ("nonstick pan", "us", "stick"),
        ("pintura non-toxic", "es", "toxic"),
        ("ノンアルコール ビール", "jp", "アルコール"),
        ("nonna pan", "us", ""),
        ("ノンノ 雑誌", "jp", ""),
    ],
)
def test_a_word_may_deny_in_itself(text, locale, denied):
    stream, _ = stream_of(text, locale)
    assert denials(stream)[1].tolist() == [polynomial(word)[0] for word in denied.split()]


@given(
    negator=st.sampled_from(["no", "non", "without", "sin"]),
    words=st.lists(st.sampled_from(["stick", "pan", "red", "show"]), min_size=2, max_size=5),
    locale=st.sampled_from(["us", "es"]),
)
def test_a_denial_in_front_leaves_the_thing_itself(negator, words, locale):
    stream, _ = stream_of(f"{negator} {' '.join(words)}", locale)
    assert (stream.content & ~stream.denied)[-1]


@pytest.mark.parametrize(
    ("text", "locale", "served"),
    [
        ("silicone case for iPhone 11", "us", {"iphone", "11"}),
        ("charger compatible with Dell, black", "us", {"dell"}),
        ("funda para portátil", "es", {"portatil"}),
        ("犬用 ベッド", "jp", {"犬"}),
        ("ケース スマホ 対応", "jp", {"ケース", "スマホ"}),
        ("phone", "us", set()),
    ],
)
def test_what_a_product_serves(text, locale, served):
    assert marked(text, locale, "served") == served


@pytest.mark.parametrize(
    ("text", "locale", "head"),
    [
        ("wireless headphones with mic", "us", "headphone"),
        ("red running shoes for men", "us", "shoe"),
        ("usb c cable 2m", "us", "cable"),
        ("non-stick pan", "us", "pan"),
        ("zapatillas rojas de correr", "es", "zapatill"),
        ("ナイキ パーカー", "jp", "パーカー"),
        ("with for", "us", ""),
        ("", "us", ""),
    ],
)
def test_the_head_names_the_thing(text, locale, head):
    assert head_of(text, locale) == head


@given(st.text(max_size=8), st.text(max_size=8))
def test_hashes_of_two_texts_join_to_the_hash_of_both(first, second):
    (one, _), (two, power) = polynomial(first), polynomial(second)
    whole = joined(*(np.array([value], np.uint64) for value in (one, two, power)))
    assert int(whole[0]) == polynomial(first + second)[0]


def test_hashes_agree_between_processes():
    code = (
        "from models.lexical.reading.tokens import analyse;"
        "from models.lexical.reading.hashing import mixed;"
        "import numpy as np; print(mixed(np.array([analyse('niño', 'es').root], np.uint64))[0])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = mixed(np.array([analyse("niño", "es").root], np.uint64))[0]
    assert found == {f"{here}\n"}


def plain_grams(word: t.Word) -> set[int]:
    text, marked_text = word.stem, f"\x01{word.stem}\x02"
    if word.flags & t.JAPANESE:
        grams = [(text[at : at + 2], 2) for at in range(len(text) - 1)]
        grams += [(one, 1) for one in text if one >= "\u3400" or len(text) == 1]
    elif len(text) >= 4 and not word.flags & (t.NUMBER | t.FUNCTION):
        grams = [(marked_text[at : at + 3], 3) for at in range(len(marked_text) - 2)]
    else:
        grams = []
    values = []
    for gram, salt in grams:
        value = 0
        for letter in gram:
            value = (value << 21) | ord(letter)
        values.append(int(mixed(np.array([value], np.uint64), salt)[0]))
    return set(values)


@given(
    st.lists(st.one_of(st.text(max_size=10), st.sampled_from(["ケース", "犬", "お茶"])), max_size=5)
)
def test_grams_equal_the_plain_ones(texts):
    vocabulary = Vocabulary()
    numbers = vocabulary.numbers("en")
    at = np.array([numbers[fold(text)] for text in texts], np.int64)
    indptr, grams = gram_hashes(vocabulary, at)
    for row, number in enumerate(at):
        found = set(grams[indptr[row] : indptr[row + 1]].tolist())
        assert found == plain_grams(vocabulary.words[number])


def test_an_unknown_stem_is_returned_as_it_is():
    assert stem("xyz", "en") == "xyz"
    assert stem("ｘ", "en") == "x"


def test_a_long_field_is_cut_and_costs_no_more():
    long = Products.of([{"product_id": "P", "locale": "us", "description": "word " * 50_000}])
    assert prepare_products(long).all_words[0] < 1000


def test_an_air_fryer_is_no_denial_of_a_fryer():
    assert analyse("ノンアルコール", "en").denies
    assert not analyse("ノンフライヤー", "en").denies
