"""The one normalisation of text, and the one way a product becomes a text.

Training and serving both come through here, so a string means the same at both ends.
"""

import html
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from html.entities import html5
from types import MappingProxyType
from typing import Final

# Only what HTML could have written: "a < b", "<3" and "1<2>0" are text. No pattern looks past the
# next "<", so that no text costs more than its length.
_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9:-]*(?:\s[^<>]*|\s*/)?>|<![a-zA-Z][^<>]*>")
_COMMENT = re.compile(r"<!--(?:(?!<!--).)*?-->", re.DOTALL)
# A script's or style sheet's content is no text either.
_RAW = re.compile(
    r"<(script|style)\b[^<>]*>(?:(?!<(?:script|style)\b).)*?</\1\s*>", re.DOTALL | re.IGNORECASE
)
# "&amp;amp;lt;" is "&lt;" escaped twice over; all layers come off at once.
_LAYERS = re.compile(r"&(?:amp;|AMP;|#0{0,4}38;|#[xX]0{0,4}26;)+")
# With its semicolon, which only the commonest may lack at a word's end: "pens&notebooks" holds no
# "&not".
_ENTITY = re.compile(
    r"&(?:(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});"
    r"|(?:nbsp|amp|quot|lt|gt)(?![\w;=]))"
)

# Control characters, lone surrogates, and invisible format characters: soft hyphen, zero-width
# space and joiners, direction marks, fillers, variation selectors, tags, byte-order mark.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_INVISIBLE = re.compile(
    r"[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
# What NFKC would glue to its neighbour: "1½" is not "11/2", "10⁵" not "105", "N7™" not "N7TM".
_FRACTION = re.compile(r"(?<=\d)(?=[\xbc-\xbe\u2150-\u215f\u2189])")
_EXPONENT = re.compile(r"(?<=\d)(?=[\xb2\xb3\xb9\u2070\u2074-\u2079])")
_LEGAL_MARK = re.compile("[™℠℗]")
# Whether any of the above can be there at all; most texts are done with after this one look.
_SPECIAL = re.compile(
    r"[\xad\xb2\xb3\xb9\xbc-\xbe\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u202a-\u202e\u2044\u2060-\u2079\u2117\u2120\u2122\u2150-\u215f\u2189\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\U000e0000-\U000e0fff]"
)
# Where combining marks may be piled up: they are no word characters, but for the half-width
# voicing marks of Japanese.
_PILE = re.compile(r"(?:[^\w\s\x00-\x7f]|[\uff9e\uff9f]){31}")

# After this many layers of HTML within HTML a text is hostile and loses its marks for good.
_MOST_LAYERS: Final = 8
_NO_HTML = str.maketrans({"<": " ", "&": " "})
# In a text of so few characters no pile of marks costs more than a millisecond.
_SHORT: Final = 1_000
# Of a pile of 31, every seventh character shows four in a row; to look at those takes a seventh.
_EVERY: Final = 7
_GLIMPSE: Final = re.compile(r"(?:[^\w\s\x00-\x7f]|[\uff9e\uff9f]){4}")

# One token of a budget: a run of letters and digits, a single Japanese or Chinese character (which
# stand without spaces between words), or a single mark.
_CJK = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_BUDGET_TOKEN = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+|[^\w\s]|_")


def normalise(text: str) -> str:
    """`text` in NFKC, without HTML, control or invisible characters, with single spaces.

    Letters keep their accents and their case. Normalising twice changes nothing more: catalogues
    escape HTML several times over ("&amp;lt;b&amp;gt;"), so the steps repeat until none applies.
    """
    # First, for line breaks are all that most texts need rid of: then one round finds them clean.
    text = _single_spaced(text)
    for _ in range(_MOST_LAYERS):
        clean = _once(text)
        if clean == text:
            return clean
        text = clean
    return _once(_once(_single_spaced(text.translate(_NO_HTML))))


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _once(given: str) -> str:
    """One round of every step over a text with single spaces."""
    text = given
    if "<" in text:
        text = _TAG.sub(" ", _RAW.sub(" ", _COMMENT.sub(" ", text)))
    if "&" in text:
        text = _ENTITY.sub(_unescape, _LAYERS.sub("&", text))
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    if not text.isascii():
        text = _compatible(text)
    return text if text == given else _single_spaced(text)


def _compatible(text: str) -> str:
    """`text` in NFKC, without what is invisible, and without what NFKC would glue together."""
    if _SPECIAL.search(text):
        text = _LEGAL_MARK.sub("", _INVISIBLE.sub("", text))
        text = _EXPONENT.sub("^", _FRACTION.sub(" ", text))
    if len(text) > _SHORT and _GLIMPSE.search(text[::_EVERY]) and _PILE.search(text):
        text = _piled_marks().sub(r"\1", text)
    # The fraction slash is what NFKC writes "½" with.
    return unicodedata.normalize("NFKC", text).replace("\u2044", "/")


@cache
def _piled_marks() -> re.Pattern[str]:
    """Combining marks beyond thirty on one letter, the limit of Unicode's stream-safe format.

    NFKC sorts the marks of a letter by insertion: ten thousand of them took half a second.
    """
    # Looked up rather than listed, and so only when a text is long enough for it to matter. It
    # counts what a character becomes: U+0F73 has no order itself, and is two marks taken apart.
    marks = "".join(
        chr(at)
        for at in range(0x300, 0x1E94B)
        if unicodedata.combining(unicodedata.normalize("NFKD", chr(at))[0])
    )
    return re.compile(f"([{marks}]{{30}})[{marks}]+")


def _unescape(entity: re.Match[str]) -> str:
    found = entity[0]
    # html.unescape would take the "&not" of an unknown "&notit;".
    return html.unescape(found) if found[1] == "#" else html5.get(found[1:], found)


def fold(text: str) -> str:
    """`text` normalised and without case: what two texts must share to count as the same.

    Accents stay: "ano" and "año" are different words.
    """
    folded = normalise(text)
    # Case folding can leave NFKC ("ẞ", "İ"), and the law fold(fold(x)) == fold(x) is relied upon.
    while (again := normalise(folded.casefold())) != folded:
        folded = again
    return folded


# What each field is announced by. Language members add these to their tokenizer as tokens.
FIELD_MARKERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "title": "[P_TITLE]",
        "brand": "[P_BRAND]",
        "colour": "[P_COLOUR]",
        "bullets": "[P_BULLETS]",
        "description": "[P_DESCRIPTION]",
    }
)

# Tokens a field may take: what it says per token falls in this order, and one long description
# must not push the brand out of a short window.
DEFAULT_BUDGET: Final[Mapping[str, int]] = MappingProxyType(
    {"title": 64, "brand": 8, "colour": 8, "bullets": 96, "description": 96}
)


def truncate(text: str, tokens: int) -> str:
    """The start of `text` that holds at most `tokens` tokens; a Japanese character is a token."""
    if tokens <= 0:
        return ""
    if len(text) <= tokens:  # a token has at least one character
        return text
    end = 0
    for count, match in enumerate(_BUDGET_TOKEN.finditer(text), start=1):
        if count > tokens:
            return text[:end]
        end = match.end()
    return text


def product_text(fields: Mapping[str, str], budget: Mapping[str, int] = DEFAULT_BUDGET) -> str:
    """One text for a product: every non-empty field behind its marker, within its budget.

    Fields come in the order of `budget`; one that `budget` does not name is left out.
    """
    parts = []
    for field, tokens in budget.items():
        if text := truncate(normalise(fields.get(field, "")), tokens):
            parts += [FIELD_MARKERS[field], text]
    return " ".join(parts)
