"""Every check of a dataset: its code, how grave it is, what was found, expected, and how to mend.

An **error** means that readers refuse the data or that a number computed from it would be wrong
(a pair with two labels, an id for two queries). A **warning** means that the data can be used, but
some rows are left out or count for more or less than they should. A **note** is a normal fact
worth knowing.

The sentences are templates: `{column}` and whatever else the place of the check hands in.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")


@dataclass(frozen=True)
class Check:
    """One kind of trouble."""

    code: str
    severity: Severity
    found: str
    expected: str
    mend: str


_FILES = (
    Check(
        "missing_file",
        "error",
        "the file is not there",
        "{file} in the dataset folder",
        "copy it in, or make the folder with `esci data import`, `esci data fetch` or "
        "`esci data demo`",
    ),
    Check(
        "unreadable_file",
        "error",
        "the file cannot be read as {format} from row {row:,} on: {reason}",
        "a whole {format} file",
        "it is truncated, damaged or of another format: copy, download or export it again",
    ),
    Check(
        "git_lfs_pointer",
        "error",
        "the file is a Git LFS pointer: a few lines that stand for the file, which is elsewhere",
        "the file itself",
        "run `git lfs pull` where it was cloned and copy it again, or download it with "
        "`esci data fetch --force`",
    ),
    Check(
        "empty_file",
        "error",
        "the file has no rows",
        "at least one row",
        "check the filter or the export that made it",
    ),
    Check(
        "empty_optional_file",
        "note",
        "the file has no rows",
        "some rows, or no such file: a dataset can do without",
        "nothing needs doing, unless an export should have filled it",
    ),
    Check(
        "unreadable_header",
        "error",
        "the first line is not UTF-8: {line}",
        "a header in UTF-8: {names}",
        "save the file again as UTF-8; what a spreadsheet calls Unicode is often UTF-16",
    ),
    Check(
        "missing_column",
        "error",
        "no column {column}; the file has {names}",
        "a column {column} of type {kind}",
        "rename the column that holds it: `esci data import --map {column}=YOUR_NAME`",
    ),
    Check(
        "repeated_column",
        "error",
        "column {column} occurs {times} times",
        "one column {column}",
        "drop the others: nobody can tell which one is meant",
    ),
    Check(
        "column_type",
        "error",
        "column {column} is {found_kind}",
        "{column} of type {kind}",
        "cast the column to {kind} where the file is written",
    ),
    Check(
        "column_type_castable",
        "note",
        "columns of another type: {kinds}",
        "the types of the layout, or types that can be cast to them without loss",
        "nothing needs doing: readers cast them",
    ),
    Check(
        "unknown_column",
        "note",
        "columns that are not part of the layout: {names}",
        "the columns of the layout alone",
        "nothing needs doing: readers ignore them",
    ),
    Check(
        "unreadable_row",
        "error",
        "lines that are not comma-separated values with {fields} fields",
        "{fields} fields in every line: {names}",
        "quote the fields that hold commas, or write the file again with a CSV library",
    ),
)

_VALUES = (
    Check(
        "null_value",
        "error",
        "{column} is null",
        "a value in every row of {column}",
        "fill it in or drop the rows",
    ),
    Check(
        "not_utf8",
        "error",
        "{column} holds bytes that are not UTF-8",
        "text in UTF-8",
        "decode the text from its true encoding (often windows-1252 or shift-jis) where the file "
        "is written",
    ),
    Check(
        "blank_value",
        "error",
        "{column} is blank",
        "some text in every row of {column} (HTML, white space and invisible characters are none)",
        "fill it in or drop the rows",
    ),
    Check(
        "not_an_integer",
        "error",
        "{column} is not a whole number",
        "whole numbers in {column}",
        "write {column} as int64; a NaN here usually means a missing value",
    ),
    Check(
        "unknown_label",
        "error",
        "{column} is none of the four labels",
        "one of {words}",
        "map your words when importing: `esci data import --label-map exact=E`",
    ),
    Check(
        "unknown_locale",
        "error",
        "{column} is no locale we know",
        "one of {words}",
        "map your words when importing: `esci data import --locale-map en_US=us`; drop the rows of "
        "other locales",
    ),
    Check(
        "unknown_split",
        "error",
        "{column} is neither training nor test",
        "one of {words}",
        "rename the values, or drop the column and let `esci data import --split-test` assign it",
    ),
    Check(
        "unknown_flag",
        "error",
        "{column} is neither 0 nor 1",
        "0 or 1: whether the pair belongs to that version of the dataset",
        "write 0 or 1; `esci data import` fills the column in where it is missing",
    ),
    Check(
        "overlong_text",
        "warning",
        "{column} is longer than {limit:,} characters",
        "at most {limit:,} characters",
        "look for a lost delimiter or a dumped page; if the text is meant, raise the limit: "
        "`--limit {column}=N`",
    ),
    Check(
        "control_character",
        "warning",
        "{column} holds control characters",
        "printable text",
        "strip them where the file is written: two values that look alike would not be the same",
    ),
)

_EXAMPLES = (
    Check(
        "empty_split",
        "warning",
        "no row is in {split}",
        "rows in train, to learn from, and in test, to judge by",
        "without train nothing can be trained, without test nothing judged: mark some queries, or "
        "let `esci data import --split-test` assign the split",
    ),
    Check(
        "repeated_example_id",
        "error",
        "example_id was used by an earlier row",
        "an example_id of its own for every row",
        "number the rows again, or drop repeated rows; `esci data import` numbers them",
    ),
    Check(
        "repeated_pair",
        "warning",
        "the same query text, product and locale as an earlier row, with the same label",
        "every pair once",
        "drop the repeated rows: they count double in training and in every metric",
    ),
    Check(
        "conflicting_pair",
        "error",
        "the same query text, product and locale as an earlier row, with another label",
        "one label per pair",
        "settle on one label (a majority, or the later judgement) and drop the other rows",
    ),
    Check(
        "absent_product",
        "error",
        "the product is not in the products file for that locale",
        "every (product_id, product_locale) of a pair among the products",
        "add the products, or drop the pairs; check whether ids differ in case, zeros or spaces",
    ),
    # No more than warnings, because training leaves these rows out (pipelines/split.py); the
    # official large version has some ("piano", 79706).
    Check(
        "query_id_in_two_splits",
        "warning",
        "training rows whose query_id also has test rows",
        "every query on one side of the split",
        "drop these training rows, or split again by query text; until then training leaves "
        "them out",
    ),
    Check(
        "query_text_in_two_splits",
        "warning",
        "training rows whose query text is also in test, under another query_id",
        "every query text, without regard to case, on one side of the split in all locales",
        "drop these training rows, or split again by query text; until then training leaves "
        "them out",
    ),
    Check(
        "query_id_with_several_texts",
        "error",
        "query_id stands for more than one query text",
        "one query text per query_id",
        "give each text an id of its own: metrics that rank by query would mix two queries",
    ),
    Check(
        "query_id_in_several_locales",
        "warning",
        "query_id occurs in more than one locale",
        "a query_id of its own for a text in each locale",
        "number queries by text and locale: one id for both mixes two rankings",
    ),
    Check(
        "query_text_with_several_ids",
        "note",
        "a query text occurs under more than one query_id",
        "in one locale, one query_id per text; in several, this is normal",
        "nothing needs doing: splits go by text; join the ids if the locale is the same",
    ),
)

_PRODUCTS = (
    Check(
        "repeated_product",
        "error",
        "the same product_id and locale as an earlier row",
        "every (product_id, product_locale) once",
        "keep the row that is up to date and drop the others",
    ),
    # Members can still judge by brand, bullets or description, so the rows are usable.
    Check(
        "product_without_title",
        "warning",
        "the title is null or blank, and another field has text",
        "a title for every product",
        "fill the title in: most members say most from it",
    ),
    # Nothing links such a product's labels to anything: they teach noise.
    Check(
        "product_without_text",
        "error",
        "no field of the product has any text",
        "at least a title for every product",
        "fill the title in, or drop the product and its pairs",
    ),
    Check(
        "product_id_in_several_locales",
        "note",
        "product_id was used by an earlier row in another locale",
        "products keyed by (product_id, product_locale)",
        "nothing needs doing: they are different products",
    ),
)

_RELATIONS = (
    Check(
        "unknown_product",
        "warning",
        "{column} is not in the products file for that locale",
        "products of the catalogue",
        "add the products, or let it be: readers leave such rows out",
    ),
    Check(
        "bad_weight",
        "error",
        "weight is negative, infinite or not a number",
        "a finite weight of zero or more",
        "write how often the relation was seen; drop rows without a meaning",
    ),
    Check(
        "self_link",
        "warning",
        "a product is linked with itself",
        "two different products",
        "drop the rows: they say nothing",
    ),
    Check(
        "missing_date",
        "warning",
        "the date is null",
        "the day of the behaviour",
        "fill it in: undated behaviours cannot be cut off or weighed by age",
    ),
    Check(
        "future_date",
        "warning",
        "the date is after {today}",
        "a day up to {today}",
        "check the clock, the time zone and the order of day and month of the log",
    ),
)

_SOURCES = (
    Check(
        "repeated_source",
        "warning",
        "query_id was listed by an earlier row",
        "every query_id once",
        "keep the row that is right: nobody can tell which source is meant",
    ),
    Check(
        "unknown_query_id",
        "warning",
        "query_id occurs in no pair",
        "query ids of the examples file",
        "drop the rows, or check that both files come from one version of the dataset",
    ),
)

CHECKS: Final = MappingProxyType(
    {
        check.code: check
        for check in (*_FILES, *_VALUES, *_EXAMPLES, *_PRODUCTS, *_RELATIONS, *_SOURCES)
    }
)
