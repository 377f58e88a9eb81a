"""What the demo shop sells, without a word of any language: product types and how they relate.

A concept is a key here and a phrase in `words.us`, `words.es` and `words.jp`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ProductType:
    """A sort of product and the attributes that its products have."""

    name: str
    department: str
    share: float  # how much of the catalogue it takes, relative to the others
    sizes: str = ""  # a size system; empty where products come in one size
    materials: tuple[str, ...] = ()
    features: tuple[str, ...] = ()  # each present or absent: what "with" and "without" speak of
    near: tuple[str, ...] = ()  # types a customer would take instead
    goes_with: tuple[str, ...] = ()  # types a customer would use together with it
    fits: str = ""  # the type of device that an accessory is made for
    coloured: bool = True
    worn: bool = False  # made for men, women or children
    numbered: bool = False  # lines carry a model number such as KX-2040
    is_device: bool = False  # lines are device models that accessories name


COLOURS: Final = (
    "black", "white", "red", "blue", "green", "pink",
    "grey", "silver", "gold", "brown", "navy", "purple",
)  # fmt: skip
AUDIENCES: Final = ("men", "women", "kids")
_SOFT: Final = ("cotton", "polyester", "nylon")
_HARD: Final = ("plastic", "steel", "glass")

PRODUCT_TYPES: Final = (
    ProductType("phone", "electronics", 3.0, "storage", features=("dual_sim", "jack"),
                near=("tablet",), is_device=True,
                goes_with=("phone_case", "charger", "screen_protector", "earbuds")),
    ProductType("phone_case", "electronics", 6.0, materials=("silicone", "leather", "plastic"),
                features=("stand", "strap", "card_holder"), fits="phone"),
    ProductType("charger", "electronics", 2.5, "charger_power", features=("cable",),
                fits="phone", numbered=True),
    ProductType("screen_protector", "electronics", 3.0, "pack", materials=("glass", "plastic"),
                features=("blue_light_filter", "frame"), fits="phone", coloured=False),
    ProductType("headphones", "electronics", 2.5, features=("microphone", "cable", "noise"),
                near=("earbuds",), numbered=True),
    ProductType("earbuds", "electronics", 2.5, features=("microphone", "cable", "ear_hooks"),
                near=("headphones",), numbered=True),
    ProductType("printer", "electronics", 1.5, features=("scanner", "wifi"), goes_with=("ink",),
                is_device=True),
    ProductType("ink", "electronics", 2.5, "pack", features=("chip",), fits="printer"),
    ProductType("camera", "electronics", 1.5, features=("flash", "viewfinder"),
                goes_with=("lens", "tripod"), is_device=True),
    ProductType("lens", "electronics", 1.5, "focal_length", features=("stabiliser",), fits="camera",
                coloured=False),
    ProductType("tripod", "electronics", 1.5, "height", ("aluminium", "carbon"), ("phone_mount",),
                numbered=True),
    ProductType("tablet", "electronics", 1.5, "storage", features=("stylus", "sim_slot"),
                near=("laptop",), goes_with=("tablet_case",), is_device=True),
    ProductType("tablet_case", "electronics", 2.0, materials=("leather", "plastic", "silicone"),
                features=("keyboard", "stand"), fits="tablet"),
    ProductType("laptop", "electronics", 1.5, "laptop_screen", features=("touch_screen", "drive"),
                goes_with=("mouse", "laptop_bag", "monitor"), is_device=True),
    ProductType("mouse", "electronics", 2.0, features=("cable", "side_buttons"), numbered=True),
    ProductType("laptop_bag", "electronics", 1.5, "laptop_screen", ("leather", "nylon"),
                ("strap", "wheels"), near=("backpack",)),
    ProductType("monitor", "electronics", 1.5, "monitor_screen", features=("speakers", "stand"),
                numbered=True),
    ProductType("coffee_machine", "kitchen", 1.5, features=("grinder", "frother", "timer"),
                goes_with=("capsules", "coffee_filters"), is_device=True),
    ProductType("capsules", "kitchen", 2.0, "count", features=("caffeine", "sugar"),
                fits="coffee_machine", coloured=False),
    ProductType("coffee_filters", "kitchen", 1.0, "count", ("paper", "cotton"), ("chlorine",),
                coloured=False),
    ProductType("water_bottle", "kitchen", 3.0, "bottle_volume", _HARD,
                ("straw", "handle", "bpa"), near=("thermos",)),
    ProductType("thermos", "kitchen", 1.5, "bottle_volume", ("steel", "plastic"),
                ("straw", "handle")),
    ProductType("frying_pan", "kitchen", 2.0, "diameter", ("steel", "ceramic", "iron"),
                ("lid", "nonstick"), near=("saucepan",)),
    ProductType("saucepan", "kitchen", 1.5, "diameter", ("steel", "ceramic"), ("lid", "nonstick")),
    ProductType("vacuum", "home", 1.5, features=("bag", "cable"), near=("robot_vacuum",),
                goes_with=("vacuum_bags",), is_device=True),
    ProductType("vacuum_bags", "home", 1.5, "pack", ("paper", "cotton"), ("scent",), fits="vacuum",
                coloured=False),
    ProductType("robot_vacuum", "home", 1.0, features=("mop", "wifi"), numbered=True),
    ProductType("pillow", "home", 1.5, "bedding", ("foam", "cotton"), ("feathers",),
                goes_with=("pillowcase",)),
    ProductType("pillowcase", "home", 1.5, "bedding", ("cotton", "silk", "polyester"), ("zip",)),
    ProductType("desk_lamp", "home", 1.5, materials=("steel", "plastic", "wood"),
                features=("clamp", "dimmer"), goes_with=("light_bulb",), numbered=True),
    ProductType("light_bulb", "home", 1.5, "bulb_power", features=("dimmer",), coloured=False,
                numbered=True),
    ProductType("running_shoes", "fashion", 4.0, "shoe", features=("laces", "reflectors"),
                near=("hiking_boots",), goes_with=("socks",), worn=True),
    ProductType("hiking_boots", "fashion", 2.0, "shoe", ("leather", "nylon"), ("laces", "toe_cap"),
                goes_with=("socks",), worn=True),
    ProductType("socks", "fashion", 2.0, "clothing", ("cotton", "wool"), ("seam",), worn=True),
    ProductType("rain_jacket", "fashion", 2.5, "clothing", ("polyester", "nylon"),
                ("hood", "pockets"), near=("fleece_jacket",), worn=True),
    ProductType("fleece_jacket", "fashion", 2.0, "clothing", ("polyester", "wool"),
                ("hood", "zip"), worn=True),
    ProductType("t_shirt", "fashion", 3.0, "clothing", _SOFT, ("pockets", "print"), worn=True),
    ProductType("backpack", "fashion", 2.5, "litres", ("nylon", "leather", "polyester"),
                ("wheels", "laptop_sleeve")),
    ProductType("dog_food", "pets", 2.0, "weight", features=("grain", "chicken"), coloured=False),
    ProductType("cat_toy", "pets", 1.5, "pack", ("cotton", "silk"), ("catnip", "bell")),
    ProductType("baby_bottle", "baby", 1.5, "bottle_volume", ("glass", "plastic"),
                ("bpa", "handle"), goes_with=("bottle_teat",)),
    ProductType("bottle_teat", "baby", 1.0, "pack", ("silicone", "latex"), ("bpa",),
                coloured=False),
    ProductType("baby_monitor", "baby", 1.0, features=("camera_feature", "wifi"), numbered=True),
    ProductType("face_cream", "beauty", 2.5, "jar", features=("fragrance", "alcohol", "parabens"),
                near=("sunscreen",), coloured=False),
    ProductType("sunscreen", "beauty", 1.5, "jar", features=("fragrance", "alcohol"),
                coloured=False),
    ProductType("shampoo", "beauty", 2.0, "jar", features=("sulphates", "silicones", "fragrance"),
                goes_with=("conditioner",), coloured=False),
    ProductType("conditioner", "beauty", 1.5, "jar", features=("silicones", "fragrance"),
                coloured=False),
    ProductType("green_tea", "grocery", 1.5, "count", features=("caffeine", "sugar"),
                near=("black_tea",), coloured=False),
    ProductType("black_tea", "grocery", 1.5, "count", features=("caffeine", "sugar"),
                coloured=False),
    ProductType("protein", "grocery", 1.5, "weight", features=("sugar", "lactose", "gluten"),
                goes_with=("shaker",), coloured=False),
    ProductType("shaker", "grocery", 1.0, "bottle_volume", _HARD, ("bpa", "handle")),
    ProductType("drill", "tools", 1.5, "voltage", features=("battery", "carry_case"),
                goes_with=("drill_bits",), numbered=True),
    ProductType("drill_bits", "tools", 1.5, "pack", ("steel", "titanium"), ("carry_case",),
                coloured=False),
    ProductType("guitar", "music", 1.5, "guitar_size", ("wood", "carbon"), ("pickup",),
                goes_with=("guitar_strings", "guitar_case"), numbered=True),
    ProductType("guitar_strings", "music", 1.0, "gauge", ("steel", "nylon"), ("coating",),
                coloured=False),
    ProductType("guitar_case", "music", 1.0, "guitar_size", ("nylon", "wood"),
                ("wheels", "pockets")),
)  # fmt: skip

# Invented names, with the katakana a Japanese customer may type instead.
BRANDS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = MappingProxyType({
    "electronics": (
        ("Zentara", "ゼンタラ"), ("Velqor", "ベルコア"), ("Nuvixo", "ヌビクソ"),
        ("Ombrik", "オンブリック"), ("Talvero", "タルベロ"), ("Quandel", "クアンデル"),
        ("Rivenox", "リベノックス"), ("Solvyn", "ソルビン"), ("Kaitoro", "カイトーロ"),
        ("Draximo", "ドラクシモ"), ("Mirvanta", "ミルバンタ"), ("Hexolane", "ヘキソレーン"),
    ),
    "kitchen": (
        ("Brennick", "ブレニック"), ("Casolvia", "カソルビア"), ("Ovendra", "オーベンドラ"),
        ("Kestwick", "ケストウィック"), ("Morabelle", "モラベル"), ("Tarnwell", "ターンウェル"),
        ("Panniola", "パンニオラ"), ("Fjelmo", "フィエルモ"),
    ),
    "home": (
        ("Dunvara", "ダンバラ"), ("Lumivar", "ルミバー"), ("Hearthlo", "ハースロ"),
        ("Restora", "レストーラ"), ("Sweepano", "スウィーパノ"), ("Calvento", "カルベント"),
        ("Noctelle", "ノクテル"),
    ),
    "fashion": (
        ("Stridova", "ストリドバ"), ("Altivara", "アルティバラ"), ("Corvelle", "コーベル"),
        ("Windrath", "ウィンドラス"), ("Pasolune", "パソルーン"), ("Tresqual", "トレスカル"),
        ("Ferrowe", "フェローウェ"), ("Liskara", "リスカラ"), ("Vantrope", "バントロープ"),
        ("Bruñela", "ブルニェラ"),
    ),
    "pets": (
        ("Pawlento", "ポーレント"), ("Whiskaro", "ウィスカロ"), ("Tailmere", "テイルミア"),
        ("Bonvero", "ボンベロ"), ("Grufflin", "グラフリン"),
    ),
    "baby": (
        ("Nidolino", "ニドリーノ"), ("Bambrella", "バンブレラ"), ("Sleepory", "スリーポリー"),
        ("Cradlune", "クレイドルーン"), ("Mimovy", "ミモビー"),
    ),
    "beauty": (
        ("Dermavelle", "ダーマベル"), ("Aquelis", "アクエリス"), ("Sunvaia", "サンバイア"),
        ("Botaniqa", "ボタニカ"), ("Lirosé", "リローゼ"), ("Hanamiya", "花美屋"),
        ("Velouria", "ベルーリア"),
    ),
    "grocery": (
        ("Chasuri", "茶すり"), ("Teavanto", "ティーバント"), ("Fortivo", "フォルティボ"),
        ("Musclaro", "マスクラロ"), ("Harvestine", "ハーベスティン"), ("Midorien", "みどり苑"),
    ),
    "tools": (
        ("Torqueva", "トルケバ"), ("Gritstad", "グリットスタッド"), ("Boltaric", "ボルタリック"),
        ("Ferranox", "フェラノックス"), ("Hammerond", "ハマロンド"),
    ),
    "music": (
        ("Cantorel", "カントレル"), ("Sonavier", "ソナビエ"), ("Strumwell", "ストラムウェル"),
        ("Arpeglio", "アルペリオ"),
    ),
})  # fmt: skip

NAMES: Final = tuple(spec.name for spec in PRODUCT_TYPES)
TYPE_OF: Final[Mapping[str, int]] = MappingProxyType({name: t for t, name in enumerate(NAMES)})
N_TYPES: Final = len(PRODUCT_TYPES)
MATERIALS: Final = tuple(sorted({m for spec in PRODUCT_TYPES for m in spec.materials}))
FEATURES: Final = tuple(sorted({f for spec in PRODUCT_TYPES for f in spec.features}))
# What a product boasts of when it is not there, and otherwise only admits.
ADDITIVES: Final = frozenset(
    ("alcohol", "bpa", "chlorine", "gluten", "lactose", "parabens", "silicones", "sulphates")
)
MAX_FEATURES: Final = max(len(spec.features) for spec in PRODUCT_TYPES)
DEVICE_TYPES: Final = tuple(t for t, spec in enumerate(PRODUCT_TYPES) if spec.is_device)

# Sizes a system has; every locale words each of them.
SIZE_COUNTS: Final[Mapping[str, int]] = MappingProxyType({
    "": 0, "storage": 4, "charger_power": 4, "pack": 5, "focal_length": 4, "height": 3,
    "laptop_screen": 4, "monitor_screen": 4, "count": 5, "bottle_volume": 4, "diameter": 4,
    "bedding": 3, "bulb_power": 4, "shoe": 8, "clothing": 5, "litres": 4, "weight": 4, "jar": 4,
    "voltage": 3, "guitar_size": 3, "gauge": 3,
})  # fmt: skip
MAX_SIZES: Final = max(SIZE_COUNTS.values())

# Brand codes run through the departments in order; 0 stands for "no brand asked for".
BRAND_NAMES: Final = ("", *(latin for names in BRANDS.values() for latin, _ in names))
BRAND_KANA: Final = ("", *(kana for names in BRANDS.values() for _, kana in names))


def department_brands(department: str) -> NDArray[np.int64]:
    """The codes of the brands of a department."""
    first = 1
    for name, brands in BRANDS.items():
        if name == department:
            return np.arange(first, first + len(brands))
        first += len(brands)
    raise KeyError(department)


# How a product's type stands to the type a customer wants.
FAR, SAME, NEAR, GOES_WITH = range(4)


def _relations() -> NDArray[np.int8]:
    table = np.full((N_TYPES, N_TYPES), FAR, np.int8)
    for t, spec in enumerate(PRODUCT_TYPES):
        for names, relation in ((spec.near, NEAR), (spec.goes_with, GOES_WITH)):
            for other in names:
                table[t, TYPE_OF[other]] = table[TYPE_OF[other], t] = relation
        if spec.fits:
            table[t, TYPE_OF[spec.fits]] = table[TYPE_OF[spec.fits], t] = GOES_WITH
    np.fill_diagonal(table, SAME)
    return table


RELATIONS: Final = _relations()  # (types, types): [wanted, offered]
