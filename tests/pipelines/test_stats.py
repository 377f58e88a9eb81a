"""The figures of a dataset against pandas, and the laws they keep whatever the rows."""

import json
import re
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.errors import ConfigError, DataError, MissingDataError
from models.text import truncate
from pipelines.commands.data.stats import stats as stats_command
from pipelines.console import silent
from pipelines.dataset.layout import (
    BEHAVIOURS_FILE,
    EXAMPLES_FILE,
    LINKS_FILE,
    PRODUCT_COLUMNS,
    PRODUCTS_FILE,
    SCHEMAS,
)
from pipelines.dataset.stats import stream
from pipelines.dataset.stats.compute import compute_stats
from pipelines.dataset.stats.picture import check_picture_path, draw
from pipelines.dataset.stats.relations import concentration
from pipelines.dataset.stats.stream import Histogram, Tally
from pipelines.dataset.stats.summary import ABSENT, EVERY, DatasetStats, Slice, Spread
from pipelines.dataset.stats.tables import sentences, tables
from pipelines.dataset.stats.tokens import count_tokens
from pipelines.dataset.write import dataset_writer

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "esci_real"


def make(folder: Path, seed: int, *, relations: bool = True) -> Path:
    """A dataset with products in several locales, cold ones, missing fields and undated rows."""
    rng = np.random.default_rng(seed)
    locales, texts = ["us", "es", "jp"], ["red shoe", "zapato rojo", "赤い靴 M", "", "  ", None]

    def pick(options: list[str], size: int) -> list[str]:
        return [options[at] for at in rng.integers(len(options), size=size)]

    n = 60
    products = {
        "product_id": [f"P{at % 50}" for at in range(n)],  # some ids in two locales
        "product_locale": ["us"] * 50 + ["jp"] * 10,
        **{column: pick(texts, n) for column in PRODUCT_COLUMNS.values()},
    }
    m = 400
    queries = [f"query {at}" for at in range(40)] + ["Rojo ZAPATO", "赤い 靴"]
    examples = {
        "example_id": range(m),
        "query": pick(queries, m),
        "query_id": [0] * m,
        "product_id": [f"P{at}" for at in rng.integers(70, size=m)],  # some in no catalogue
        "product_locale": pick(locales, m),
        "esci_label": pick(["E", "E", "S", "C", "I"], m),
        "small_version": [0] * m,
        "large_version": [1] * m,
        "split": pick(["train", "train", "test"], m),
    }
    k = 500
    behaviours = {
        "query": pick([*queries[:20], "never judged"], k),
        "product_id": [f"P{at}" for at in rng.integers(30, size=k)],
        "product_locale": pick(locales, k),
        "relation": pick(["click", "purchase", "gift"], k),
        "weight": rng.random(k) * 10,
        "date": pick([date(2024, 1, 31), date(2024, 2, 1), date(2025, 12, 31), None], k),
    }
    links = {
        "product_id_a": [f"P{at}" for at in rng.integers(8, size=k)],
        "product_id_b": [f"P{at}" for at in rng.integers(50, size=k)],
        "product_locale": pick(["us", "jp"], k),
        "relation": pick(["co_view", "co_buy"], k),
        "weight": rng.random(k),
    }
    with dataset_writer(folder) as writer:
        for at in range(0, m, 100):  # several row groups
            writer.append(
                EXAMPLES_FILE, {name: column[at : at + 100] for name, column in examples.items()}
            )
        writer.append(PRODUCTS_FILE, products)
        if relations:
            writer.append(BEHAVIOURS_FILE, behaviours)
            writer.append(LINKS_FILE, links)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("stats") / "data", 1)


@pytest.fixture(scope="module")
def stats(folder: Path) -> DatasetStats:
    return compute_stats(folder, silent)


def frame(folder: Path, name: str) -> pd.DataFrame:
    return pq.read_table(folder / name).to_pandas()


def datasets() -> list[object]:
    real = pytest.param(
        "real",
        marks=pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/esci_real is absent"),
    )
    return ["made", real]


@pytest.fixture(params=datasets())
def any_folder(request: pytest.FixtureRequest, folder: Path) -> Path:
    return folder if request.param == "made" else REAL


class TestPairs:
    def test_slices_count_what_pandas_counts(self, any_folder):
        found = {(one.locale, one.split): one for one in compute_stats(any_folder, silent).slices}
        rows = frame(any_folder, EXAMPLES_FILE)
        rows["query"] += "\t" + rows.product_locale
        rows["product"] = rows.product_id + "\t" + rows.product_locale
        expected = {(EVERY, EVERY): rows}
        expected |= {(locale, EVERY): part for locale, part in rows.groupby("product_locale")}
        expected |= {(EVERY, split): part for split, part in rows.groupby("split")}
        expected |= dict(rows.groupby(["product_locale", "split"]).__iter__())
        assert found.keys() == expected.keys()
        for key, part in expected.items():
            assert found[key] == Slice(
                *key,
                len(part),
                part["query"].nunique(),
                part["product"].nunique(),
                {label: int((part.esci_label == label).sum()) for label in "ESCI"},
            )

    def test_judged_lists_are_as_deep_as_pandas_says(self, any_folder):
        judged = compute_stats(any_folder, silent).judged
        rows = frame(any_folder, EXAMPLES_FILE)
        assert [one.split for one in judged] == [EVERY, "train", "test"]
        for one in judged:
            part = rows if one.split == EVERY else rows[rows.split == one.split]
            groups = part.groupby(["query", "product_locale"]).esci_label
            depths = groups.size()
            assert one.products.count == len(depths)
            assert one.products.mean == pytest.approx(depths.mean())
            assert one.products.median == depths.quantile(0.5, interpolation="lower")
            assert one.products.max == depths.max()
            assert one.single_level == pytest.approx((groups.nunique() == 1).mean())
            assert one.five_or_more == pytest.approx((depths >= 5).mean())
            assert sum(one.histogram) == len(depths)
            assert one.histogram[2] == (depths == 2).sum()

    def test_a_shift_is_the_difference_of_the_mixes(self, stats):
        by_key = {(one.locale, one.split): one for one in stats.slices}
        for shift in stats.shifts:
            train, test = by_key[shift.locale, "train"], by_key[shift.locale, "test"]
            for label in "ESCI":
                expected = test.labels[label] / test.pairs - train.labels[label] / train.pairs
                assert shift.labels[label] == pytest.approx(expected)
            assert sum(shift.labels.values()) == pytest.approx(0)
            assert 0 < shift.total_variation <= 1
        assert len(stats.shifts) == 4

    def test_unseen_products_are_those_train_never_names(self, any_folder):
        unseen = compute_stats(any_folder, silent).unseen
        rows = frame(any_folder, EXAMPLES_FILE)
        rows["product"] = rows.product_id + "\t" + rows.product_locale
        train, test = (rows[rows.split == split] for split in ("train", "test"))
        assert unseen is not None
        assert unseen.pairs == len(test)
        assert unseen.unseen_pairs == (~test["product"].isin(train["product"])).sum()
        assert unseen.products == test["product"].nunique()
        assert unseen.unseen_products == len(set(test["product"]) - set(train["product"]))

    def test_words_are_those_of_distinct_queries_without_case(self, folder, stats):
        rows = frame(folder, EXAMPLES_FILE)
        for queries in stats.queries:
            texts = rows[rows.product_locale == queries.locale]["query"].unique()
            words = Counter(word for text in texts for word in text.lower().split())
            assert queries.characters.count == len(texts)
            assert dict(queries.words) == {word: words[word] for word in queries.words}
            assert min(queries.words.values()) >= max(
                (n for word, n in words.items() if word not in queries.words), default=0
            )
            assert "zapato" in queries.words or "query" in queries.words

    def test_the_official_readme_numbers_of_the_sample_come_out(self):
        if not REAL.is_dir():
            pytest.skip("../shared/data/esci_real is absent")
        whole = compute_stats(REAL, silent).slices[0]
        assert (whole.pairs, whole.queries, whole.products) == (13_115, 3_621, 11_930)
        assert whole.labels == {"E": 7_855, "S": 3_115, "C": 539, "I": 1_606}


class TestProducts:
    def test_fields_are_as_present_and_as_long_as_pandas_says(self, any_folder):
        stats = compute_stats(any_folder, silent)
        rows = frame(any_folder, PRODUCTS_FILE)
        assert [one.locale for one in stats.catalogues] == list(
            dict.fromkeys(sorted(rows.product_locale, key=["us", "es", "jp"].index))
        )
        for catalogue in stats.catalogues:
            part = rows[rows.product_locale == catalogue.locale]
            assert catalogue.products == len(part)
            for name, column in PRODUCT_COLUMNS.items():
                texts = [text for text in part[column] if isinstance(text, str) and text.strip()]
                found = catalogue.fields[name]
                lengths = sorted(map(len, texts))
                assert found.present == len(texts)
                assert found.characters.mean == pytest.approx(np.mean(lengths))
                assert found.characters.max == lengths[-1]
                assert found.characters.p95 == lengths[int(np.ceil(0.95 * len(lengths))) - 1]

    def test_brands_are_counted_without_the_empty_one(self, any_folder):
        stats = compute_stats(any_folder, silent)
        brands = frame(any_folder, PRODUCTS_FILE).product_brand.dropna().str.strip()
        counts = brands[brands != ""].value_counts()
        assert stats.brands == len(counts)
        assert list(stats.top_brands.values()) == counts.head(20).tolist()
        assert all(counts[brand] == count for brand, count in stats.top_brands.items())

    def test_judged_products_of_the_catalogue(self, folder, stats):
        key = ["product_id", "product_locale"]
        pairs = frame(folder, EXAMPLES_FILE)[key].drop_duplicates()
        products = frame(folder, PRODUCTS_FILE)[key]
        assert stats.judged_in_catalogue == len(pairs.merge(products, on=key))


class TestRelations:
    def test_amounts_are_the_sums_pandas_makes(self, folder, stats):
        rows = frame(folder, BEHAVIOURS_FILE)
        rows["month"] = [day.strftime("%Y-%m") if day else ABSENT for day in rows.date]
        expected = rows.groupby(["relation", "product_locale", "month"]).weight.agg(["size", "sum"])
        found = {(a.relation, a.locale, a.month): a for a in stats.behaviours.amounts}
        assert found.keys() == set(expected.index)
        for key, amount in found.items():
            assert amount.rows == expected.loc[key, "size"]
            assert amount.weight == pytest.approx(expected.loc[key, "sum"], rel=1e-6)
        by_relation = stats.behaviours.by("relation")
        assert list(by_relation) == [("click",), ("purchase",), ("gift",)]
        assert sum(n for n, _ in by_relation.values()) == stats.behaviours.rows == len(rows)

    def test_cold_is_what_has_no_behaviour_in_its_locale(self, folder, stats):
        behaviours = frame(folder, BEHAVIOURS_FILE)

        def without(rows: pd.DataFrame, name: str) -> tuple[int, int]:
            key = [name, "product_locale"]
            distinct = set(map(tuple, rows[key].to_numpy()))
            return len(distinct), len(distinct - set(map(tuple, behaviours[key].to_numpy())))

        cold = stats.behaviours.cold
        queries = without(frame(folder, EXAMPLES_FILE), "query")
        products = without(frame(folder, PRODUCTS_FILE), "product_id")
        assert (cold.queries, cold.cold_queries) == queries
        assert (cold.products, cold.cold_products) == products
        assert 0 < cold.cold_queries < cold.queries
        assert 0 < cold.cold_products < cold.products

    def test_the_head_is_that_of_pandas(self, folder, stats):
        rows = frame(folder, BEHAVIOURS_FILE)
        weights = rows.groupby(["query", "product_locale"]).weight.sum().sort_values()[::-1]
        head = stats.behaviours.concentration
        assert head.queries == len(weights)
        top = int(np.ceil(len(weights) / 100))
        assert head.top_percent == pytest.approx(weights.head(top).sum() / weights.sum(), rel=1e-6)

    def test_a_link_counts_at_both_of_its_ends(self, folder, stats):
        rows = frame(folder, LINKS_FILE)
        assert [links.relation for links in stats.links] == ["co_buy", "co_view"]
        for links in stats.links:
            part = rows[rows.relation == links.relation]
            ends = pd.concat(
                [
                    part[[end, "product_locale"]].set_axis(["product", "locale"], axis=1)
                    for end in ("product_id_a", "product_id_b")
                ]
            )
            degrees = ends.groupby(["product", "locale"]).size()
            assert links.links == len(part)
            assert links.weight == pytest.approx(part.weight.sum(), rel=1e-6)
            assert (
                links.products == len(degrees) == links.degree.count == sum(links.degrees.values())
            )
            assert links.degree.max == degrees.max()
            assert links.degrees["2-3"] == degrees.between(2, 3).sum()

    def test_the_graph_is_that_of_sets(self, any_folder):
        stats, catalogue = compute_stats(any_folder, silent), frame(any_folder, PRODUCTS_FILE)
        if not stats.behaviours:
            assert not stats.graphs
            return
        behaviours, links = frame(any_folder, BEHAVIOURS_FILE), frame(any_folder, LINKS_FILE)
        assert len(stats.graphs) > 1
        for graph in stats.graphs:
            known = set(catalogue[catalogue.product_locale == graph.locale].product_id)
            edges: dict[str, set[frozenset[str]]] = {}
            for row in behaviours[behaviours.product_locale == graph.locale].itertuples():
                if row.product_id in known:
                    ends = frozenset({f"query {row.query}", row.product_id})
                    edges.setdefault(row.relation, set()).add(ends)
            for row in links[links.product_locale == graph.locale].itertuples():
                ends = frozenset({row.product_id_a, row.product_id_b})
                if ends <= known:
                    edges.setdefault(row.relation, set()).add(ends)
            assert graph.edges == {name: len(found) for name, found in edges.items()}
            neighbours: dict[str, set[str]] = {}
            for ends in set().union(*edges.values()):
                for end in ends:
                    neighbours.setdefault(end, set()).update(ends - {end} or ends)
            connected = known & set(neighbours)
            assert graph.products == len(connected)
            assert graph.queries == len(neighbours) - len(connected)
            assert graph.cold_products == len(known - connected)
            left, parts = set(neighbours), []
            while left:
                reached = frontier = {next(iter(left))}
                while frontier:
                    frontier = set().union(*(neighbours[one] for one in frontier)) - reached
                    reached = reached | frontier
                parts.append(len(reached))
                left -= reached
            assert (graph.components, graph.largest) == (len(parts), max(parts))

    @given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
    def test_the_curve_of_the_head_rises_above_equality(self, weights):
        found = concentration(np.array(weights))
        x, y = np.array(found.shares_of_queries), np.array(found.shares_of_weight)
        if not sum(weights):
            assert (found.top_percent, len(x)) == (0.0, 0)
            return
        assert x[-1] == 1
        assert y[-1] == pytest.approx(1)
        assert (np.diff(x) > 0).all()
        assert (np.diff(y) >= -1e-12).all()
        assert (y >= x - 1e-9).all()


TEXTS = st.lists(st.none() | st.text(st.sampled_from("aZ1é_-. \u3000日ーカ😀\U00020000\u0301\n")))


def tokens_one_by_one(text: str) -> int:
    """How often the first token can be cut off."""
    count = 0
    while rest := text[len(truncate(text, 1)) :] if len(text) > 1 else "":
        # `truncate` gives all of the text where it holds one token or none.
        count += 1
        text = rest
    return count + bool(re.search(r"\S", text))


class TestStreams:
    @given(TEXTS)
    @example(["ab", "ab", "", None, "ab 日本", "日"])
    def test_tokens_are_counted_as_truncate_counts_them(self, texts):
        counts = count_tokens(pa.array(texts, pa.string()))
        assert counts.tolist() == [tokens_one_by_one(text or "") for text in texts]
        for text, count in zip(texts, counts.tolist(), strict=True):
            assert truncate(text or "", count).rstrip() == (text or "").rstrip() or not count

    @given(TEXTS, st.integers(0, 5))
    def test_tokens_of_a_slice_are_the_slice_of_the_tokens(self, texts, start):
        array = pa.array(texts, pa.large_string())
        assert count_tokens(array[start:]).tolist() == count_tokens(array).tolist()[start:]

    @given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)))))
    @settings(max_examples=50)
    def test_a_tally_adds_up_whatever_the_parts(self, parts):
        tally, expected = Tally(), Counter()
        for part in parts:
            keys, weights = np.array(part).reshape(-1, 2).T
            tally.add(keys.astype(np.uint64), weights.astype(np.float64))
            for key, weight in part:
                expected[key] += weight
        keys, sums = tally.result()
        assert keys.tolist() == sorted(expected)
        assert sums.tolist() == [expected[key] for key in sorted(expected)]

    @given(st.lists(st.integers(0, 80_000), min_size=1), st.integers(0, 5))
    def test_a_histogram_knows_its_quantiles(self, lengths, at):
        histogram = Histogram()
        histogram.add(np.array(lengths[:at], dtype=np.int64))
        histogram.add(np.array(lengths[at:], dtype=np.int64))
        found, ordered = histogram.spread(), sorted(lengths)
        assert found.count == len(lengths)
        assert found.mean == pytest.approx(np.mean(lengths))
        assert found.max == ordered[-1]
        for quantile, value in ((0.5, found.median), (0.95, found.p95)):
            expected = ordered[int(np.ceil(quantile * len(ordered))) - 1]
            assert value == min(expected, 65_535)

    def test_the_figures_do_not_depend_on_how_the_rows_are_batched(
        self, folder, stats, monkeypatch
    ):
        monkeypatch.setattr(stream.batches, "__kwdefaults__", {"rows": 7, "plain": ()})
        monkeypatch.setattr("pipelines.dataset.stats.products._BATCH_ROWS", 7)
        monkeypatch.setattr(stream, "_PENDING_KEYS", 10)
        again = compute_stats(folder, silent).to_json()
        assert_alike(again, stats.to_json())


def assert_alike(found: object, expected: object) -> None:
    """Equal, but for the order in which floats were added."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_alike(found[key], value)
    elif isinstance(expected, list):
        assert isinstance(found, list)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    else:
        assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


class TestTrouble:
    def test_rows_that_are_wrong_are_counted_along(self, tmp_path):
        folder = make(tmp_path / "data", 2)
        rows = frame(folder, EXAMPLES_FILE)
        rows.loc[0, "product_locale"] = "fr"
        rows.loc[1, "esci_label"] = "X"
        rows.loc[2, "split"] = None
        rows.loc[3, "query"] = None
        pq.write_table(pa.Table.from_pandas(rows), folder / EXAMPLES_FILE)
        stats = compute_stats(folder, silent)
        assert stats.slices[0].pairs == len(rows)
        assert stats.slices[0].labels["X"] == 1
        assert {"fr", EVERY} < {one.locale for one in stats.slices}
        assert ABSENT in {one.split for one in stats.slices}
        assert list(tables(stats))
        draw(stats, tmp_path / "picture.png")

    def test_a_file_that_cannot_be_read_says_where_to_ask(self, tmp_path):
        folder = make(tmp_path / "data", 3)
        path = folder / EXAMPLES_FILE
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=r"cannot be read.*esci data validate"):
            compute_stats(folder, silent)
        path.write_bytes(whole)
        rows = pq.read_table(folder / BEHAVIOURS_FILE)
        pq.write_table(rows.drop_columns(["weight"]), folder / BEHAVIOURS_FILE)
        with pytest.raises(DataError, match="no column 'weight'"):
            compute_stats(folder, silent)
        wrong = rows.set_column(1, "product_id", pa.array(range(len(rows))))
        pq.write_table(wrong, folder / BEHAVIOURS_FILE)
        with pytest.raises(DataError, match="column 'product_id' is int64; expected string"):
            compute_stats(folder, silent)

    def test_a_query_that_is_absent_or_a_list_is_refused_by_name(self, tmp_path):
        folder = make(tmp_path / "data", 3)
        rows = pq.read_table(folder / EXAMPLES_FILE)
        lists = pa.array([["a", "b"]] * len(rows))
        for wrong, trouble in (
            (rows.drop_columns(["query"]), "no column 'query'"),
            (rows.set_column(1, "query", lists), r"column 'query' is list<.*expected string"),
            (rows.append_column("query", rows["query"]), "2 columns 'query'"),
        ):
            pq.write_table(wrong, folder / EXAMPLES_FILE)
            with pytest.raises(DataError, match=trouble):
                compute_stats(folder, silent)

    def test_days_may_be_timestamps(self, tmp_path):
        folder = make(tmp_path / "data", 3)
        before = compute_stats(folder, silent).behaviours
        rows = pq.read_table(folder / BEHAVIOURS_FILE)
        place = rows.schema.get_field_index("date")
        noon = pc.add(rows["date"].cast(pa.timestamp("s")), pa.scalar(12 * 3600, pa.duration("s")))
        pq.write_table(rows.set_column(place, "date", noon), folder / BEHAVIOURS_FILE)
        assert compute_stats(folder, silent).behaviours == before

    def test_text_that_is_not_utf8_is_refused_by_name(self, tmp_path):
        folder = make(tmp_path / "data", 4)
        rows = pq.read_table(folder / PRODUCTS_FILE)
        broken = pa.array([b"\xff\xfe"] * len(rows)).view(pa.string())
        pq.write_table(rows.set_column(1, "product_title", broken), folder / PRODUCTS_FILE)
        with pytest.raises(DataError, match=rf"{PRODUCTS_FILE}.*esci data validate"):
            compute_stats(folder, silent)

    def test_a_folder_without_the_files_says_how_to_get_them(self, tmp_path):
        with pytest.raises(MissingDataError, match="esci data demo"):
            compute_stats(tmp_path, silent)

    def test_an_empty_dataset_has_empty_figures(self, tmp_path):
        with dataset_writer(tmp_path / "data") as writer:
            for name in (EXAMPLES_FILE, PRODUCTS_FILE, BEHAVIOURS_FILE, LINKS_FILE):
                writer.append(name, SCHEMAS[name].empty_table())
        stats = compute_stats(tmp_path / "data", silent)
        assert stats.slices == []
        assert stats.judged[0].products == Spread()
        assert list(tables(stats)) == []
        json.dumps(stats.to_json(), allow_nan=False)
        draw(stats, tmp_path / "picture.png")


class TestViews:
    def test_every_unit_of_progress_is_a_row(self, folder):
        ticked = []
        stats = compute_stats(folder, ticked.append)
        assert sum(ticked) == sum(stats.rows.values())

    @pytest.mark.parametrize("relations", [True, False])
    def test_the_picture_has_a_panel_for_what_there_is(self, tmp_path, relations):
        folder = make(tmp_path / "data", 5, relations=relations)
        before = sorted(path.name for path in folder.iterdir())
        draw(compute_stats(folder, silent), tmp_path / "picture.svg")
        assert sorted(entry.name for entry in folder.iterdir()) == before
        drawn = (tmp_path / "picture.svg").read_text()
        assert drawn.count('id="axes_') == (6 if relations else 4)

    def test_a_picture_is_refused_where_it_cannot_be(self, folder):
        for name, trouble in ((folder / "x.png", "dataset folder"), (Path("x.jpg"), r"\.png")):
            with pytest.raises(ConfigError, match=trouble):
                check_picture_path(name, folder)
        check_picture_path(folder.parent / "x.PNG", folder)
        (folder.parent / "folder.png").mkdir()
        (folder.parent / "file").touch()
        for path, trouble in (
            (folder.parent / "folder.png", "is a folder"),
            (folder.parent / "file" / "x.png", "cannot be written"),
            (Path("/proc/nope.png"), "cannot be written"),
        ):
            with pytest.raises(ConfigError, match=trouble):
                check_picture_path(path, folder)

    def test_sentences_say_what_needs_no_table(self, stats):
        said = " ".join(sentences(stats))
        assert "the heaviest 1 %" in said
        assert "of the products in test" in said

    def test_the_command_prints_one_document_and_writes_where_it_is_told(self, folder, tmp_path):
        picture = tmp_path / "picture.png"
        command = [sys.executable, "-m", "esci", "data", "stats", str(folder)]
        done = subprocess.run(
            [*command, "--json", "--picture", str(picture)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == compute_stats(folder, silent).to_json()
        assert picture.read_bytes().startswith(b"\x89PNG")

    def test_the_tables_fit_a_narrow_terminal(self, folder, capsys):
        stats_command(folder)
        shown = capsys.readouterr()
        assert "Judged products per query" in shown.out
        assert "…" not in shown.out
        assert "--picture" in shown.err
