"""How customers put what they want into words, in each locale."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.demo.concepts import (
    AUDIENCES,
    BRAND_KANA,
    BRAND_NAMES,
    COLOURS,
    MATERIALS,
    PRODUCT_TYPES,
)
from pipelines.demo.words import VOCABULARIES
from pipelines.demo.words.es import COLOUR_FORM

US, ES, JP = range(3)

_UNACCENTED: Final = str.maketrans("áéíóúüñÁÉÍÓÚÜÑ", "aeiouunAEIOUUN")


@dataclass(frozen=True)
class Wish:
    """What one query says; an empty text is something it does not say."""

    locale: int
    type: int
    name: str  # the words for the type
    brand: str = ""
    colour: str = ""
    size: str = ""
    material: str = ""
    audience: str = ""
    model: str = ""
    device: str = ""
    feature: str = ""
    without: str = ""


def wish(
    locale: int,
    type_: int,
    codes: dict[str, int],
    *,
    name: str | None,
    model: str,
    device: str,
    draws: Sequence[float],
) -> Wish:
    """The words for the codes of an intent; `name` where the type's own is not what is typed."""
    words, spec = VOCABULARIES[locale], PRODUCT_TYPES[type_]
    names = words.types[spec.name]
    colour = ""
    if code := codes["colour"]:
        forms = words.colours[COLOURS[code - 1]]
        form = COLOUR_FORM.get(spec.name, 0) if locale == ES else int(draws[0] * len(forms))
        colour = forms[form]
    brands = BRAND_KANA if locale == JP and draws[1] < 0.5 else BRAND_NAMES
    return Wish(
        locale=locale,
        type=type_,
        name=names[int(draws[2] * len(names))] if name is None else name,
        brand=brands[codes["brand"]],
        colour=colour,
        size=words.sizes[spec.sizes][codes["size"] - 1] if codes["size"] else "",
        material=words.materials[MATERIALS[codes["material"] - 1]] if codes["material"] else "",
        audience=words.audiences[AUDIENCES[codes["audience"] - 1]] if codes["audience"] else "",
        model=model,
        device=device,
        feature=_feature(locale, spec.features, codes["wants"]),
        without=_feature(locale, spec.features, codes["avoids"]),
    )


def _feature(locale: int, features: tuple[str, ...], mask: int) -> str:
    return VOCABULARIES[locale].features[features[mask.bit_length() - 1]] if mask else ""


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _english(wish: Wish, draws: Sequence[float]) -> str:
    tail = wish.size
    if wish.feature:
        tail = _join(tail, "with", wish.feature)
    if wish.without:
        negation = int(draws[0] * 3)
        tail = _join(
            tail,
            f"{wish.without} free"
            if negation == 2
            else f"{('without', 'no')[negation]} {wish.without}",
        )
    if wish.device:
        tail = _join(tail, "for" if draws[1] < 0.6 else "", wish.device)
    possessive = {"men": "mens", "women": "womens", "kids": "kids"}.get(wish.audience, "")
    if wish.audience and draws[2] < 0.5:
        possessive, tail = "", _join(tail, "for", wish.audience)
    if draws[3] < 0.2:
        return _join(wish.name, wish.model, tail, wish.brand, wish.colour, wish.material)
    return _join(wish.brand, wish.model, possessive, wish.colour, wish.material, wish.name, tail)


def _spanish(wish: Wish, draws: Sequence[float]) -> str:
    audience = _join("para" if draws[2] < 0.4 else "de", wish.audience) if wish.audience else ""
    device = _join("para" if draws[1] < 0.6 else "", wish.device) if wish.device else ""
    return _join(
        wish.name,
        wish.brand if draws[3] >= 0.2 else "",
        wish.model,
        wish.material if draws[0] < 0.7 else wish.material.removeprefix("de "),
        wish.colour,
        audience,
        wish.size,
        f"con {wish.feature}" if wish.feature else "",
        f"sin {wish.without}" if wish.without else "",
        device,
        wish.brand if draws[3] < 0.2 else "",
    )


def _japanese(wish: Wish, draws: Sequence[float]) -> str:
    without = wish.without + ("なし", "無し", "不使用")[int(draws[0] * 3)] if wish.without else ""
    feature = wish.feature + ("付き", "あり")[draws[0] < 0.3] if wish.feature else ""
    device = wish.device + ("用" if draws[1] < 0.4 else "") if wish.device else ""
    rest = [wish.size, wish.audience, feature, without]
    if draws[2] < 0.25:  # as a phrase: 黒の本革スマホケース
        colour = f"{wish.colour}の" if wish.colour else ""
        head = f"{colour}{wish.material}{wish.name}"
        parts = [wish.brand, wish.model, device, head, *rest]
    else:  # as keywords
        parts = [wish.brand, wish.model, device, wish.name, wish.colour, wish.material, *rest]
    space = "\u3000" if draws[3] < 0.15 else " "
    return space.join(part for part in parts if part)


_PHRASINGS: Final = (_english, _spanish, _japanese)
_QUESTIONS: Final = (
    ("what is the best {}", "which {} should i buy", "can you recommend a good {}"),
    ("qué {} me recomiendas", "dónde comprar {} con buena relación calidad precio"),
    ("おすすめの{}はどれですか", "{}を探しています"),
)


def phrase(wish: Wish, draws: Sequence[float]) -> str:
    """The wish as a customer would type it, before any slip; takes six numbers from 0 up to 1."""
    text = _PHRASINGS[wish.locale](wish, draws)
    if wish.locale == JP:
        if draws[4] < 0.06:
            return full_width(text)
        return half_width(text) if draws[4] < 0.09 else text
    if draws[4] < 0.88:
        text = text.lower()
    return text.translate(_UNACCENTED) if wish.locale == ES and draws[5] < 0.15 else text


def ask(locale: int, text: str, draw: float) -> str:
    """`text` as a question in natural language."""
    questions = _QUESTIONS[locale]
    return questions[int(draw * len(questions))].format(text)


_FULL: Final = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


def full_width(text: str) -> str:
    """`text` with its ASCII characters as wide as kana."""
    return text.translate(_FULL)


# Half-width katakana in the order of their code points, U+FF66 to U+FF9F.
_HALF: Final = str.maketrans(
    "ヲァィゥェォャュョッーアイウエオカキクケコサシスセソタチツテト"
    "ナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン\u3099\u309a",
    "".join(map(chr, range(0xFF66, 0xFFA0))),
)

_KATAKANA: Final = re.compile("[\u30a1-\u30fc]+")


def half_width(text: str) -> str:
    """`text` with its katakana at half width; voiced marks become characters of their own."""
    return _KATAKANA.sub(
        lambda run: unicodedata.normalize("NFD", run.group()).translate(_HALF), text
    )
