"""Words of common knowledge: function words, units, colours, audiences, accessories.

Every word is written folded and without accents; the tokens beside this file compare stems, so one
form of a word is enough. Lists hold what is common knowledge of a language, nothing of a catalogue.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

Language = Literal["en", "es"]

# Stemming and function words go by language; a Japanese text carries its own scripts, and its
# Latin words are mostly English.
LANGUAGE_OF_LOCALE: Final[tuple[Language, ...]] = ("en", "es", "en")  # in the order of LOCALES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(rows: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({word: value for value, text in rows.items() for word in text.split()})


# Words that say nothing of the product; matching them is no evidence.
STOP: Final[Mapping[Language, frozenset[str]]] = MappingProxyType(
    {
        "en": _words(
            "a an and the of or to in on at by from with is are be it its this that these those "
            "your my our you i me we as into than then so w & best good cheap new buy sale"
        ),
        "es": _words(
            "a al de del el la lo los las un una unos unas y e o u en con por su sus tu mi que es "
            "se como mas barato barata baratos baratas mejor mejores nuevo nueva oferta ofertas & "
            "the and of with"
        ),
    }
)
STOP_JAPANESE: Final = _words(
    "の に は を が と で も や へ から まで より など な い です ます する した して できる お ご "
    "おすすめ オススメ 人気 安い 送料無料 セール 新品"
)

# What ends the part of a text that names the thing itself: "lamp WITH usb", "cup OF tea".
BOUNDARIES: Final[Mapping[Language, frozenset[str]]] = MappingProxyType(
    {
        "en": _words("with of in on at by from that w and or to"),
        "es": _words("con de del en por que y o al"),
    }
)

# What names the thing that the product serves.
FOR: Final[Mapping[Language, frozenset[str]]] = MappingProxyType(
    {
        "en": _words("for fits fit compatible replaces"),
        "es": _words("para compatible for"),
    }
)
FOR_JAPANESE: Final = _words("用 対応 専用 適用 互換 交換用 専用品")  # behind what they speak of

NEGATORS: Final[Mapping[Language, frozenset[str]]] = MappingProxyType(
    {
        "en": _words("without no not minus except excluding non"),
        "es": _words("sin no excepto without"),
    }
)
# Those that reach one word: Spanish goes on to the next thing where English has not yet said which,
# "sin mangas HOMBRE" but "without built-in LIGHT".
NEGATORS_OF_ONE: Final[Mapping[Language, frozenset[str]]] = MappingProxyType(
    {"en": _words("non"), "es": _words("sin no excepto")}
)
NEGATED_BEFORE: Final[Mapping[Language, frozenset[str]]] = MappingProxyType(
    {"en": _words("free less"), "es": _words("free libre")}
)
NEGATED_BEFORE_JAPANESE: Final = _words(
    "なし 無し 無 ナシ 不要 抜き 不使用 レス フリー 以外 ない 未使用"
)

# A product of this sort serves another one.
ACCESSORIES: Final[Mapping[Language, frozenset[str]]] = MappingProxyType(
    {
        "en": _words(
            "case cover charger cable cord adapter adaptor strap band holder mount stand "
            "replacement protector sleeve skin bag pouch filter refill refills accessory "
            "accessories kit part parts battery lid bracket hook hanger organizer "
            "cleaner brush liner pad mat sticker decal remote keychain screw blade "
            "tray stylus lens hose connector clip tool storage"
        ),
        "es": _words(
            "funda carcasa cargador cable adaptador correa soporte repuesto recambio protector "
            "estuche bolsa mochila filtro accesorio accesorios kit pieza piezas bateria tapa "
            "gancho percha organizador limpiador cepillo alfombrilla pegatina mando "
            "llavero tornillo cuchilla bandeja lente manguera conector herramienta pulsera cristal "
            "templado"
        ),
    }
)
ACCESSORIES_JAPANESE: Final = _words(
    "ケース カバー フィルム 保護フィルム 充電器 ケーブル アダプター アダプタ バンド ベルト "
    "ストラップ ホルダー スタンド 交換 交換用 替え 部品 パーツ アクセサリー 収納 "
    "収納ケース フィルター バッテリー ブラシ ステッカー シール リモコン キーホルダー ホース "
    "コネクタ ポーチ マウント 工具 フード 本 入門"
)

# What stands behind a number and gives it a meaning; values name the unit.
UNITS: Final = _table(
    {
        "in": 'in inch inche inches " ” pulgada pulgadas pulg インチ 型',
        "ft": "ft foot feet ' pie pies フィート",
        "yd": "yd yard yards yarda yardas",
        "mm": "mm millimeter millimeters milimetro milimetros ミリ",
        "cm": "cm centimeter centimeters centimetro centimetros センチ",
        "m": "m meter meters metre metres metro metros メートル",
        "g": "g gr gram grams gramo gramos グラム",
        "kg": "kg kilo kilos kilogram kilograms キロ",
        "mg": "mg milligram milligrams miligramos",
        "mcg": "mcg µg",
        "oz": "oz ounce ounces onza onzas オンス",
        "lb": "lb lbs pound pounds libra libras",
        "l": "l lt liter liters litre litres litro litros リットル",
        "ml": "ml cc milliliter milliliters mililitros",
        "gal": "gal gallon gallons galon galones",
        "qt": "qt quart quarts",
        "gb": "gb gigabyte gigabytes go",
        "tb": "tb terabyte terabytes",
        "mb": "mb megabyte megabytes",
        "w": "w watt watts vatio vatios ワット",
        "v": "v volt volts volt voltio voltios ボルト",
        "a": "a amp amps amperios",
        "ah": "ah",
        "mah": "mah",
        "hz": "hz",
        "ghz": "ghz",
        "k": "k kelvin",
        "lm": "lm lumen lumens lumenes",
        "mp": "mp megapixel megapixels",
        "%": "%",
        "ct": "ct count pack packs pk pcs pc piece pieces set unidades unidad uds piezas pares "
        "個 枚 本 個入 枚入 本入 セット 個セット 枚セット 本セット パック 袋 箱 点",
        "tier": "tier tiers shelf shelves 段",
        "month": "month months mo mes meses ヶ月 か月 ヵ月",
        "year": "year years yr yo ano anos 歳 年",
        "gauge": "gauge ga",
        "seat": "seater seat plaza plazas persona personas 人掛け 人用 人",
        "thread": "thread hilos",
    }
)

COLOURS: Final = _table(
    {
        "black": "black negro negra ブラック 黒 黒色 blk",
        "white": "white blanco blanca ホワイト 白 白色 wht",
        "grey": "grey gray gris グレー 灰色 グレイ",
        "red": "red rojo roja レッド 赤 赤色",
        "blue": "blue azul ブルー 青 青色",
        "navy": "navy marino ネイビー 紺",
        "green": "green verde グリーン 緑 緑色",
        "yellow": "yellow amarillo amarilla イエロー 黄色 黄",
        "orange": "orange naranja オレンジ",
        "pink": "pink rosa ピンク",
        "purple": "purple violet morado morada violeta lila パープル 紫",
        "brown": "brown marron ブラウン 茶 茶色",
        "beige": "beige ベージュ crema",
        "gold": "gold golden dorado dorada oro ゴールド 金 金色",
        "silver": "silver plateado plateada plata シルバー 銀 銀色",
        "turquoise": "turquoise teal turquesa ターコイズ",
        "khaki": "khaki caqui カーキ",
        "clear": "clear transparent transparente クリア 透明",
        "multicolour": "multicolor multicolour multicoloured multicolored rainbow",
    }
)

AUDIENCES: Final = _table(
    {
        "men": "men man mens male hombre hombres caballero メンズ 男性 紳士",
        "women": "women woman womens ladies lady female mujer mujeres senora レディース 女性 婦人 "
        "ウィメンズ",
        "boys": "boy boys nino ninos 男の子 ボーイズ 男児",
        "girls": "girl girls nina ninas 女の子 ガールズ 女児",
        "kids": "kid kids child children youth junior infantil キッズ 子供 子ども こども ジュニア",
        "baby": "baby babies infant toddler newborn bebe bebes ベビー 赤ちゃん 新生児",
        "adults": "adult adults adulto adultos 大人",
        "dogs": "dog dogs puppy perro perros 犬 愛犬 ドッグ",
        "cats": "cat cats kitten gato gatos 猫 キャット",
    }
)

SIZES: Final = _table(
    {
        "small": "small pequeno pequena 小型 スモール",
        "medium": "medium mediano mediana 中型",
        "large": "large big grande 大型 大きい",
        "xl": "xl xlarge",
        "xxl": "xxl 2xl",
        "xs": "xs",
        "mini": "mini ミニ",
        "queen": "queen クイーン",
        "king": "king キング",
        "twin": "twin シングル",
        "full": "double ダブル",
    }
)

MATERIALS: Final = _table(
    {
        "leather": "leather cuero piel レザー 革 本革",
        "cotton": "cotton algodon コットン 綿",
        "wool": "wool lana ウール 羊毛",
        "silk": "silk seda シルク 絹",
        "wood": "wood wooden madera 木製 木 ウッド",
        "metal": "metal metalico metalica メタル 金属",
        "steel": "steel acero inox スチール ステンレス",
        "plastic": "plastic plastico プラスチック 樹脂",
        "glass": "glass vidrio cristal ガラス",
        "ceramic": "ceramic porcelain ceramica porcelana 陶器 セラミック",
        "silicone": "silicone silicona シリコン シリコーン",
        "paper": "paper carton papel 紙",
        "bamboo": "bamboo bambu 竹 バンブー",
        "velvet": "velvet terciopelo ベルベット",
        "linen": "linen lino リネン 麻",
        "aluminium": "aluminum aluminium aluminio アルミ",
        "rubber": "rubber goma caucho ゴム ラバー",
    }
)
