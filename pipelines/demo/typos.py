"""Misspellings as fingers make them: swapped, dropped, doubled and neighbouring letters."""

import re
from typing import Final

# Only letters are misspelt: a wrong digit would ask for another product.
_WORD: Final = re.compile(r"[A-Za-zÀ-ÿ]{4,}|[\u30a1-\u30fa\u30fc]{3,}|[\u3041-\u3096]{3,}")
_ROWS: Final = ("qwertyuiop", "asdfghjklñ", "zxcvbnm")
_BESIDE: Final = {
    letter: row[place + 1] if place + 1 < len(row) else row[place - 1]
    for row in _ROWS
    for place, letter in enumerate(row)
}
# Kana that people mix up or leave out.
_KANA: Final = {"ヘ": "ベ", "バ": "パ", "ブ": "プ", "ド": "ト", "グ": "ク", "ッ": "ツ", "ォ": "オ"}


def misspell(text: str, which: float, where: float, how: float) -> str:
    """`text` with one slip in one word, chosen by three numbers from 0 up to 1.

    A text without a word long enough to misspell comes back as it is.
    """
    words = list(_WORD.finditer(text))
    if not words:
        return text
    match = words[int(which * len(words))]
    word = match.group()
    place = 1 + int(where * (len(word) - 2))  # people get the first letter right
    letter, after = word[place], word[place + 1 :]
    if how < 0.3 and after and after[0] != letter:
        slip = after[0] + letter + after[1:]
    elif how < 0.6:
        slip = after
    elif how < 0.8:
        slip = letter * 2 + after
    else:
        slip = _BESIDE.get(letter, _KANA.get(letter, "")) + after
    return text[: match.start()] + word[:place] + slip + text[match.end() :]
