"""The figures of a dataset as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from models.labels import LABEL_NAMES, LABELS
from models.pairs import PRODUCT_FIELDS
from pipelines.dataset.stats.summary import EVERY, Behaviours, DatasetStats, Graph, Links, Spread

# Brands and words to name; the JSON has more.
_WORDS: Final = 10


def tables(stats: DatasetStats) -> Iterator[Table]:
    """Every table that the dataset has something for, the most asked for first."""
    if stats.slices:
        yield _slices(stats)
        yield _judged(stats)
    if stats.shifts:
        yield _shifts(stats)
    if stats.catalogues:
        yield _coverage(stats)
        yield _lengths(stats)
    if stats.behaviours and stats.behaviours.rows:
        yield _behaviours(stats.behaviours)
        yield _months(stats.behaviours)
    if stats.links:
        yield _links(stats.links)
    if stats.graphs:
        yield _graphs(stats.graphs)


def sentences(stats: DatasetStats) -> Iterator[str]:
    """What needs no table, with rich's markup."""
    if unseen := stats.unseen:
        yield (
            f"{_part(unseen.unseen_products, unseen.products)} of the products in test, and "
            f"{_part(unseen.unseen_pairs, unseen.pairs)} of its pairs, have a product that no "
            "training pair names"
        )
    products = sum(catalogue.products for catalogue in stats.catalogues)
    yield f"{_part(stats.judged_in_catalogue, products)} of the products are judged in some pair"
    if stats.brands:
        yield f"{stats.brands:,} brands, most often: {_listed(stats.top_brands)}"
    for queries in stats.queries:
        yield f"words of {escape(queries.locale)} queries, most often: {_listed(queries.words)}"
    if stats.behaviours:
        cold, weight = stats.behaviours.cold, stats.behaviours.concentration
        yield (
            f"the heaviest 1 % of {weight.queries:,} queries carry {weight.top_percent:.1%} of the "
            f"weight of behaviours; without any are {_part(cold.cold_queries, cold.queries)} of "
            f"the judged queries and {_part(cold.cold_products, cold.products)} of the products"
        )
    for graph in stats.graphs:
        nodes = graph.products + graph.queries
        edges = ", ".join(f"{escape(name)} {count:,}" for name, count in graph.edges.items())
        yield (
            f"edges of the graph of {escape(graph.locale)}: {edges}; the largest of its "
            f"{graph.components:,} connected parts holds {_part(graph.largest, nodes)} of its nodes"
        )


def _slices(stats: DatasetStats) -> Table:
    table = _table("Pairs, and the shares of their labels", "locale", "split")
    strange = any(set(one.labels) - set(LABELS) for one in stats.slices)
    for name in ("pairs", "queries", "products", *LABELS, *(["other"] * strange)):
        table.add_column(name, justify="right")
    before = None
    for one in stats.slices:
        if before not in {None, one.locale}:
            table.add_section()
        before = one.locale
        shares = [one.share(label) for label in LABELS]
        table.add_row(
            escape(one.locale),
            escape(one.split),
            *(f"{n:,}" for n in (one.pairs, one.queries, one.products)),
            *(f"{share:.1%}" for share in ([*shares, 1 - sum(shares)] if strange else shares)),
            style="bold" if one.locale == one.split == EVERY else "",
        )
    return table


def _shifts(stats: DatasetStats) -> Table:
    table = _table("Shift of the label mix from train to test, in percentage points", "locale")
    for name in LABEL_NAMES.values():
        table.add_column(name, justify="right")
    table.add_column("total variation", justify="right")
    for shift in stats.shifts:
        moved = (f"{100 * shift.labels[label]:+.1f}" for label in LABELS)
        table.add_row(escape(shift.locale), *moved, f"{100 * shift.total_variation:.1f}")
    return table


def _judged(stats: DatasetStats) -> Table:
    table = _table("Judged products per query", "split")
    for name in ("queries", "mean", "median", "p95", "max", "one label only", "5 or more"):
        table.add_column(name, justify="right")
    for judged in stats.judged:
        table.add_row(
            escape(judged.split),
            *_spread(judged.products),
            f"{judged.single_level:.1%}",
            f"{judged.five_or_more:.1%}",
        )
    return table


def _coverage(stats: DatasetStats) -> Table:
    table = _table("Products, and the share that has each field", "locale")
    table.add_column("products", justify="right")
    for name in PRODUCT_FIELDS:
        table.add_column(name, justify="right")
    for catalogue in stats.catalogues:
        table.add_row(
            escape(catalogue.locale),
            f"{catalogue.products:,}",
            *(
                f"{catalogue.fields[name].present / catalogue.products:.1%}"
                for name in PRODUCT_FIELDS
            ),
        )
    return table


def _lengths(stats: DatasetStats) -> Table:
    table = _table("Lengths, where there is a text", "locale", "text")
    for name in ("median", "p95", "max"):
        table.add_column(f"{name}\ncharacters", justify="right")
    for name in ("median", "p95", "max"):
        table.add_column(f"{name}\ntokens", justify="right")
    texts = {catalogue.locale: dict(catalogue.fields) for catalogue in stats.catalogues}
    queries = {found.locale: found for found in stats.queries}
    for locale in dict.fromkeys([*texts, *queries]):
        if query := queries.get(locale):
            table.add_row(escape(locale), "query", *_two(query.characters, query.tokens))
        for name, field in texts.get(locale, {}).items():
            table.add_row(escape(locale), name, *_two(field.characters, field.tokens))
        table.add_section()
    return table


def _two(characters: Spread, tokens: Spread) -> list[str]:
    return [*_spread(characters)[2:], *_spread(tokens)[2:]]


def _listed(counts: Mapping[str, int]) -> str:
    first = list(counts.items())[:_WORDS]
    return ", ".join(f"{escape(word)} [dim]{count:,}[/]" for word, count in first)


def _behaviours(behaviours: Behaviours) -> Table:
    by_both = behaviours.by("relation", "locale")
    locales = [locale for (locale,) in behaviours.by("locale")]
    table = _table("Behaviours: rows and weight, and the weight in each locale", "relation")
    for name in ("rows", "weight", *(f"in {escape(locale)}" for locale in locales)):
        table.add_column(name, justify="right")
    for (relation,), (rows, weight) in behaviours.by("relation").items():
        of_locales = (by_both.get((relation, locale), (0, 0.0))[1] for locale in locales)
        table.add_row(escape(relation), f"{rows:,}", *(f"{w:,.0f}" for w in (weight, *of_locales)))
    return table


def _months(behaviours: Behaviours) -> Table:
    by_both = behaviours.by("month", "relation")
    relations = [relation for (relation,) in behaviours.by("relation")]
    table = _table("Behaviours: weight per month", "month")
    for relation in relations:
        table.add_column(escape(relation), justify="right")
    for (month,) in sorted(behaviours.by("month")):
        weights = (by_both.get((month, relation), (0, 0.0))[1] for relation in relations)
        table.add_row(month, *(f"{weight:,.0f}" for weight in weights))
    return table


def _links(links: Sequence[Links]) -> Table:
    table = _table("Product links, and links per linked product", "relation")
    for name in ("links", "weight", "products", "mean", "median", "p95", "max"):
        table.add_column(name, justify="right")
    for one in links:
        table.add_row(
            escape(one.relation), f"{one.links:,}", f"{one.weight:,.0f}", *_spread(one.degree)
        )
    return table


def _graphs(graphs: Sequence[Graph]) -> Table:
    table = _table("The graph of behaviours and links, and neighbours of a node", "locale", "nodes")
    for name in ("connected", "cold", "mean", "median", "p95", "max"):
        table.add_column(name, justify="right")
    for graph in graphs:
        catalogue = graph.products + graph.cold_products
        cold = f"{graph.cold_products / catalogue:.1%}" if catalogue else ""
        for name, share, degree in (
            ("products", cold, graph.product_degree),
            ("queries", "", graph.query_degree),
        ):
            count, *rest = _spread(degree)
            table.add_row(escape(graph.locale), name, count, share, *rest)
        table.add_section()
    return table


def _table(title: str, *names: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _spread(spread: Spread) -> list[str]:
    whole = (spread.median, spread.p95, spread.max)
    return [f"{spread.count:,}", f"{spread.mean:,.1f}", *(f"{value:,}" for value in whole)]


def _part(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.1%})" if whole else "0 of 0"
