"""From folded text to tokens: what each one is, how it is stemmed, and columns of them.

Python touches a distinct token once; all that follows works on integer columns.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.lexical.matching.ragged import Indptr, indptr_of
from models.lexical.reading import words
from models.lexical.reading.hashing import Hashes, Polynomials, mixed, polynomial
from models.lexical.reading.words import LANGUAGE_OF_LOCALE, Language
from models.locales import LocaleCodes
from models.text import fold

# What a token is, as bits of one integer column.
STOP = 1 << 0  # says nothing of the product
BREAK = 1 << 1  # punctuation: a new phrase begins
BOUNDARY = 1 << 2  # what follows does not name the thing itself
FOR = 1 << 3  # what follows names what the product serves
FOR_BEFORE = 1 << 4  # what stands before does
SERVED = 1 << 5  # is itself what the product serves
NEGATOR = 1 << 6  # what follows is denied
NEGATED_BEFORE = 1 << 7  # what stands before is
NEGATED = 1 << 8  # is itself denied
NUMBER = 1 << 9  # starts with a value
UNIT = 1 << 10  # gives a preceding number its meaning
MEASURE = 1 << 11  # number and unit in one
MODEL = 1 << 12  # letters and digits that are no measure
JAPANESE = 1 << 13  # kanji, hiragana or katakana
ACCESSORY = 1 << 14  # a thing that serves another
COLOUR = 1 << 15
AUDIENCE = 1 << 16
SIZE = 1 << 17
MATERIAL = 1 << 18
HIRAGANA = 1 << 19  # mostly an ending of the word before it
NEGATOR_OF_ONE = 1 << 20  # a negator that reaches one word

# What a customer can ask for and a product can claim, each with its table.
CONCEPTS: Final[Mapping[int, Mapping[str, str]]] = MappingProxyType(
    {
        COLOUR: words.COLOURS,
        AUDIENCE: words.AUDIENCES,
        SIZE: words.SIZES,
        MATERIAL: words.MATERIALS,
    }
)
CONCEPT: Final = COLOUR | AUDIENCE | SIZE | MATERIAL
FUNCTION: Final = STOP | BREAK | FOR | FOR_BEFORE | NEGATOR | NEGATED_BEFORE  # carries no content

LONGEST_TOKEN: Final = 40  # characters; what is longer is an address or a key, cut to this

_JAPANESE: Final = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_LETTERS: Final = rf"[^\W_{_JAPANESE}]+(?:['’][^\W_{_JAPANESE}]+)*"  # words, 64gb, men's, l'oréal
# "10 000 mah": only a group that begins with 0 and has a unit behind it cannot be a number of its
# own, as the 128 of "iphone 11 128 gb" is.
_SPACED: Final = (
    r"[1-9]\d{0,2}(?:[ ]0\d\d)+(?=[ ]?(?:"
    + "|".join(rf"{re.escape(unit)}(?![^\W\d_{_JAPANESE}])" for unit in words.UNITS)
    + "))"
)
_TOKEN: Final = re.compile(
    rf"{_SPACED}|"
    r"\d+(?:[.,/]\d+)+|"  # 3.5  1/2  1,000
    rf"non[ ‐-](?=[^\W\d_{_JAPANESE}]){_LETTERS}|"  # "non-stick" and "non stick" are one word
    rf"{_LETTERS}|"
    r"[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+|"  # kanji
    r"[\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff]+|"  # katakana
    r"な[しい]|(?:(?!な[しい])[\u3041-\u3096\u309d\u309e])+|"  # hiragana, the "not" behind it apart
    r"(?<=\d)(?:[\"”%]|''|′′|['′])|"  # 5" 6' 100%
    r"&|[,;:|()\[\]{}【】「」『』、。・•!?/]|(?<=\s)[-–—~](?=\s)"  # phrase ends
)
_BREAKS: Final = frozenset(",;:|()[]{}【】「」『』、。・•!?/-–—~")
_MEASURE: Final = re.compile(r"(\d+(?:[.,/]\d+)*)([^\d\W]+)")
_NUMBER: Final = re.compile(r"\d+(?:[., /]\d+)*")
# A number in groups of three, and what parts its groups: a point in Spanish, elsewhere a comma.
_GROUPED: Final[Mapping[Language, tuple[str, re.Pattern[str]]]] = MappingProxyType(
    {
        "en": (",", re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")),
        "es": (".", re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")),
    }
)
_NON: Final = re.compile(r"^non[ ‐-]")
# Not "nonna"; and an air fryer ("ノンフライヤー") is a fryer for all its name says.
_DENIES: Final = re.compile(r"non([^\W\d_]{3,})|ノン(?!フライヤー|ストップ)(.{3,})")
_FIRST_JAPANESE: Final = re.compile(f"[{_JAPANESE}]")
_INCH: Final = MappingProxyType({"''": '"', "′′": '"', "′": "'", "”": '"'})
_JAPANESE_FOR_SELF: Final = ("専用", "対応", "用")
_JAPANESE_NEGATED_SELF: Final = ("不使用", "不要", "抜き", "無し", "無")


class Word(NamedTuple):
    """What is known of one token, without its surroundings."""

    stem: str
    surface: int  # polynomial of the token as written
    root: int  # polynomial of the stem
    power: int  # joins the stem to what stands before it
    flags: int
    value: int  # polynomial of a number's value or of a concept's
    group: int  # polynomial of a unit or of a concept's group
    denies: int = 0  # polynomial of the stem that the word itself denies: "stick" of "nonstick"


def without_accents(token: str) -> str:
    """`token` without accents; Japanese voicing marks are no accents and stay."""
    if token.isascii() or _FIRST_JAPANESE.match(token):
        return token
    letters = unicodedata.normalize("NFKD", token)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def stem(token: str, language: Language) -> str:
    """What inflected forms of a word share: no accents, no plural, in Spanish no gender.

    Light on purpose: "glass" and "bus" keep their s, and no two words become one by a lost ending
    of more than two letters.
    """
    plain = without_accents(token).replace("’", "'").removesuffix("'s").replace("'", "")
    if len(plain) <= 3 or not plain.isalpha() or not plain.isascii():
        return plain or token
    return _spanish_stem(plain) if language == "es" else _english_stem(plain)


def _english_stem(token: str) -> str:
    if token.endswith("ies") and len(token) > 4:
        return token[:-3] + "y"
    if token.endswith(("sses", "xes", "ches", "shes", "zes")):
        return token[:-2]
    if token.endswith("s") and not token.endswith(("ss", "us", "is")):
        return token[:-1]
    return token


def _spanish_stem(token: str) -> str:
    if token.endswith("ces"):
        token = token[:-3] + "z"
    elif token.endswith("es") and len(token) > 4:
        token = token[:-2]
    elif token.endswith("s") and not token.endswith("ss"):
        token = token[:-1]
    if len(token) > 4 and token[-1] in "aoe":
        token = token[:-1]
    return token


def number_value(text: str, language: Language) -> str:
    """The one spelling of a number: "2,5" is "2.5", "3.0" is "3".

    "1,000" is a thousand, and in Spanish one; "1.000" is one, and in Spanish a thousand.
    """
    text = text.replace(" ", "")
    mark, grouped = _GROUPED[language]
    if grouped.fullmatch(text):
        text = text.replace(mark, "")
    text = text.replace(",", ".")
    if "." in text and "/" not in text:
        text = text.rstrip("0").rstrip(".")
    return text.lstrip("0") or "0"


@lru_cache(maxsize=2)
def _lists(language: Language) -> tuple[Mapping[str, int], Mapping[str, tuple[str, str, int]]]:
    """Flags of listed words, and concepts of listed words, both by stem."""
    flags: dict[str, int] = {}
    for flag, listed in (
        (STOP, words.STOP[language]),
        (BOUNDARY, words.BOUNDARIES[language]),
        (FOR, words.FOR[language]),
        (NEGATOR, words.NEGATORS[language]),
        (NEGATOR_OF_ONE, words.NEGATORS_OF_ONE[language]),
        (NEGATED_BEFORE, words.NEGATED_BEFORE[language]),
        (ACCESSORY, words.ACCESSORIES[language]),
        (STOP, words.STOP_JAPANESE),
        (FOR_BEFORE, words.FOR_JAPANESE),
        (NEGATED_BEFORE, words.NEGATED_BEFORE_JAPANESE),
        (ACCESSORY, words.ACCESSORIES_JAPANESE),
    ):
        for word in listed:
            root = stem(word, language)
            flags[root] = flags.get(root, 0) | flag
    concepts = {
        stem(word, language): (str(flag), value, flag)
        for flag, table in CONCEPTS.items()
        for word, value in table.items()
    }
    return flags, concepts


@lru_cache(maxsize=1 << 16)
def analyse(token: str, language: Language) -> Word:
    """What `token`, a token of a folded text, is in `language`."""
    token = _NON.sub("non", _INCH.get(token[:LONGEST_TOKEN], token[:LONGEST_TOKEN]))
    surface, _ = polynomial(token)
    if token in _BREAKS:
        return Word("", surface, 0, 1, BREAK, 0, 0)
    flags, value, group = 0, "", ""
    root = stem(token, language)
    listed, concepts = _lists(language)
    if _FIRST_JAPANESE.match(token):
        flags |= JAPANESE | (HIRAGANA if token[0] < "\u30a0" and token[0] > "\u3040" else 0)
        if root not in listed:
            root, own = _japanese_stem(root)
            flags |= own
    flags |= listed.get(root, 0)
    if found := concepts.get(root):
        group, value, concept = found
        flags |= concept
    unit = words.UNITS.get(token) or words.UNITS.get(root)
    if unit:
        flags |= UNIT
        if not flags & CONCEPT:
            group = unit
    if _NUMBER.fullmatch(token):
        root = value = number_value(token, language)
        flags |= NUMBER
    elif match := _MEASURE.fullmatch(token):
        unit = words.UNITS.get(match[2])
        flags |= NUMBER | MEASURE if unit else MODEL
        if unit:
            value, group = number_value(match[1], language), unit
            root = value + unit
    elif any(map(str.isdigit, token)):
        flags |= MODEL
    root_value, power = polynomial(root)
    return Word(
        root,
        surface,
        root_value,
        power,
        flags,
        polynomial(value)[0],
        polynomial(group)[0],
        _denied_by(token, language),
    )


def _denied_by(token: str, language: Language) -> int:
    """The polynomial of the stem that a token denies in itself, zero for most."""
    match = _DENIES.fullmatch(token)
    return polynomial(stem(match[1] or match[2], language))[0] if match else 0


def _japanese_stem(token: str) -> tuple[str, int]:
    """A run without the ending that says what it is for or that it is absent, and that flag."""
    for endings, flag in ((_JAPANESE_FOR_SELF, SERVED), (_JAPANESE_NEGATED_SELF, NEGATED)):
        for ending in endings:
            if len(token) > len(ending) and token.endswith(ending):
                return token[: -len(ending)], flag
    return token, 0


class Vocabulary:
    """The distinct tokens of one call, by language, numbered as they come."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self._numbers: dict[Language, _Numbers] = {}

    def numbers(self, language: Language) -> "_Numbers":
        """The number of each token in `language`; a new token gets the next one."""
        return self._numbers.setdefault(language, _Numbers(self.words, language))

    def columns(self) -> "Columns":
        """What is known of the words, as arrays."""

        def column(name: str, kind: Any) -> NDArray[Any]:
            return np.array([getattr(word, name) for word in self.words], dtype=kind)

        root = column("root", np.uint64)
        return Columns(
            surface=mixed(column("surface", np.uint64)),
            root=root,
            power=column("power", np.uint64),
            hash=mixed(root),
            flags=column("flags", np.int32),
            value=column("value", np.uint64),
            group=column("group", np.uint64),
            denies=column("denies", np.uint64),
        )


class _Numbers(dict[str, int]):
    def __init__(self, seen: list[Word], language: Language) -> None:
        super().__init__()
        self._seen, self._language = seen, language

    def __missing__(self, token: str) -> int:
        self[token] = number = len(self._seen)
        self._seen.append(analyse(token, self._language))
        return number


@dataclass(frozen=True, eq=False)
class Columns:
    """The words of a vocabulary, one array per property."""

    surface: Hashes
    root: Polynomials
    power: Polynomials
    hash: Hashes  # of the stem
    flags: NDArray[np.int32]
    value: Polynomials
    group: Polynomials
    denies: Polynomials

    def take(self, numbers: NDArray[Any]) -> "Columns":
        """The words of `numbers`: a column per token of a text."""
        return Columns(**{name: column[numbers] for name, column in vars(self).items()})

    def __len__(self) -> int:
        return len(self.flags)


def number_tokens(
    texts: Iterable[str], locales: LocaleCodes, vocabulary: Vocabulary, limit: int
) -> tuple[Indptr, NDArray[np.int32]]:
    """The first `limit` tokens of each text, as numbers in `vocabulary`."""
    by_locale = [vocabulary.numbers(language) for language in LANGUAGE_OF_LOCALE]
    found: list[int] = []
    lengths = np.zeros(len(locales), np.int64)
    for row, (text, locale) in enumerate(zip(texts, locales.tolist(), strict=True)):
        if text:
            tokens = _TOKEN.findall(fold(text))[:limit]
            found += map(by_locale[locale].__getitem__, tokens)
            lengths[row] = len(tokens)
    return indptr_of(lengths), np.array(found, dtype=np.int32)


def gram_hashes(vocabulary: Vocabulary, numbers: NDArray[Any]) -> tuple[Indptr, NDArray[np.uint32]]:
    """The character n-grams of the words of `numbers`.

    Trigrams with the word's ends marked, for words of four letters and more; for Japanese, bigrams
    and single kanji, for its words stand without spaces and are found inside longer runs.
    """
    texts, is_japanese = [], []
    for number in numbers.tolist():
        word = vocabulary.words[number]
        japanese = bool(word.flags & JAPANESE)
        marked = word.stem if japanese else f"\x01{word.stem}\x02"
        long_enough = len(word.stem) >= 4 and not word.flags & (NUMBER | FUNCTION)
        texts.append(marked if japanese or long_enough else "")
        is_japanese.append(japanese)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    padded = np.append(points.astype(np.uint64), np.zeros(2, np.uint64))
    place = np.arange(len(points)) - np.repeat(indptr_of(lengths)[:-1], lengths)
    left = np.repeat(lengths, lengths) - place  # characters from here to the word's end
    japanese_at = np.repeat(np.array(is_japanese, dtype=bool), lengths)
    first, second, third = padded[:-2], padded[1:-1], padded[2:]
    word_at = np.repeat(np.arange(len(texts)), lengths)

    is_bigram, is_trigram = japanese_at & (left >= 2), ~japanese_at & (left >= 3)
    # A run of one character, and every kanji: U+3400 and above, hiragana and katakana lie below.
    is_single = japanese_at & ((first >= 0x3400) | (np.repeat(lengths, lengths) == 1))
    grams = np.concatenate(
        [
            mixed((first[is_trigram] << 42) | (second[is_trigram] << 21) | third[is_trigram], 3),
            mixed((first[is_bigram] << 21) | second[is_bigram], 2),
            mixed(first[is_single], 1),
        ]
    )
    owner = np.concatenate([word_at[is_trigram], word_at[is_bigram], word_at[is_single]])
    order = np.argsort(owner, kind="stable")
    return indptr_of(np.bincount(owner, minlength=len(texts))), grams[order]
