"""The official ESCI layout: file names, columns and types, and our two optional files.

This is the only place that knows them; readers, writers, the validator and the demo come here.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow as pa

EXAMPLES_FILE: Final = "shopping_queries_dataset_examples.parquet"
PRODUCTS_FILE: Final = "shopping_queries_dataset_products.parquet"
SOURCES_FILE: Final = "shopping_queries_dataset_sources.csv"
BEHAVIOURS_FILE: Final = "behaviours.parquet"
LINKS_FILE: Final = "product_links.parquet"

SPLITS: Final = ("train", "test")

EXAMPLES: Final = pa.schema(
    [
        ("example_id", pa.int64()),
        ("query", pa.string()),
        ("query_id", pa.int64()),
        ("product_id", pa.string()),
        ("product_locale", pa.string()),
        ("esci_label", pa.string()),
        ("small_version", pa.int64()),
        ("large_version", pa.int64()),
        ("split", pa.string()),
    ]
)
PRODUCTS: Final = pa.schema(
    [
        ("product_id", pa.string()),
        ("product_title", pa.string()),
        ("product_description", pa.string()),
        ("product_bullet_point", pa.string()),
        ("product_brand", pa.string()),
        ("product_color", pa.string()),
        ("product_locale", pa.string()),
    ]
)
SOURCES: Final = pa.schema([("query_id", pa.int64()), ("source", pa.string())])
BEHAVIOURS: Final = pa.schema(
    [
        ("query", pa.string()),
        ("product_id", pa.string()),
        ("product_locale", pa.string()),
        ("relation", pa.string()),
        ("weight", pa.float32()),
        ("date", pa.date32()),
    ]
)
LINKS: Final = pa.schema(
    [
        ("product_id_a", pa.string()),
        ("product_id_b", pa.string()),
        ("product_locale", pa.string()),
        ("relation", pa.string()),
        ("weight", pa.float32()),
    ]
)

SCHEMAS: Final[Mapping[str, pa.Schema]] = MappingProxyType(
    {
        EXAMPLES_FILE: EXAMPLES,
        PRODUCTS_FILE: PRODUCTS,
        SOURCES_FILE: SOURCES,
        BEHAVIOURS_FILE: BEHAVIOURS,
        LINKS_FILE: LINKS,
    }
)
# What a judgement is, apart from the versions of the dataset that it belongs to.
JUDGEMENT_COLUMNS: Final = (
    "example_id",
    "query",
    "query_id",
    "product_id",
    "product_locale",
    "esci_label",
    "split",
)

REQUIRED_FILES: Final = (EXAMPLES_FILE, PRODUCTS_FILE)

# Our word for a product's text (models.pairs.PRODUCT_FIELDS) and its column in the layout.
PRODUCT_COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "title": "product_title",
        "description": "product_description",
        "bullets": "product_bullet_point",
        "brand": "product_brand",
        "colour": "product_color",
    }
)

BEHAVIOUR_RELATIONS: Final = ("impression", "click", "add", "purchase", "consume")
LINK_RELATIONS: Final = ("co_buy", "co_view")


def is_dataset(folder: Path) -> bool:
    """Whether `folder` holds the two files no dataset can do without."""
    return all((folder / name).is_file() for name in REQUIRED_FILES)
