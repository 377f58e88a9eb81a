"""The demo catalogue: reproducible, of ESCI's make-up, and following from its own hidden rule."""

import csv
import json
import os
import re
import subprocess
import sys
import unicodedata
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from esci import build
from models.errors import ConfigError
from models.labels import COMPLEMENT, EXACT, IRRELEVANT, LABELS, SUBSTITUTE
from models.locales import LOCALES
from models.text import fold
from pipelines.dataset.layout import (
    BEHAVIOUR_RELATIONS,
    BEHAVIOURS_FILE,
    EXAMPLES_FILE,
    LINKS_FILE,
    PRODUCTS_FILE,
    SCHEMAS,
    SOURCES_FILE,
)
from pipelines.dataset.target import check_target
from pipelines.dataset.validate import ValidateOptions, validate
from pipelines.demo import concepts
from pipelines.demo.behaviours import PAGE_RESULTS, browse
from pipelines.demo.catalogue import make_catalogue, make_plan, product_ids
from pipelines.demo.generate import DemoOptions, generate
from pipelines.demo.intents import (
    ATTRIBUTE_COLUMNS,
    COMPATIBLE,
    INTENT,
    MANY_SENSES,
    WITHOUT,
    relevance,
)
from pipelines.demo.judgements import judge
from pipelines.demo.links import CO_BUY, CO_VIEW, link
from pipelines.demo.options import stream
from pipelines.demo.phrasing import full_width, half_width
from pipelines.demo.queries import make_queries
from pipelines.demo.retrieval import retrieve
from pipelines.demo.shelves import Shelves
from pipelines.demo.typos import misspell
from pipelines.demo.words import VOCABULARIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "data"
    generate(path, DemoOptions())
    return path


@pytest.fixture(scope="module")
def examples(folder):
    return pq.read_table(folder / EXAMPLES_FILE).to_pydict()


@pytest.fixture(scope="module")
def products(folder):
    return pq.read_table(folder / PRODUCTS_FILE).to_pydict()


@pytest.fixture(scope="module")
def behaviours(folder):
    return pq.read_table(folder / BEHAVIOURS_FILE).to_pydict()


class Shop:
    """The hidden side of the default catalogue, which the files do not tell."""

    def __init__(self, options):
        self.plan = make_plan(options)
        self.columns = make_catalogue(options, self.plan)
        self.shelves = Shelves(self.columns)
        self.log = make_queries(options, self.plan, self.columns, self.shelves)
        self.results = retrieve(
            stream(options.seed, "retrieval"),
            self.log.intents,
            self.columns,
            self.shelves,
            self.plan,
        )


@pytest.fixture(scope="module")
def shop():
    return Shop(DemoOptions())


def rows_of(table, *names):
    return list(zip(*(table[name] for name in names), strict=True))


def contents(folder):
    """A digest per file of what it says, whatever its bytes."""
    digests = {}
    for name in SCHEMAS:
        if name == SOURCES_FILE:
            digests[name] = sha256((folder / name).read_bytes()).hexdigest()
        else:
            rows = pq.read_table(folder / name).to_pydict()
            digests[name] = sha256(repr(rows).encode()).hexdigest()
    return digests


def test_equal_options_give_equal_tables_in_another_process(tmp_path):
    options = DemoOptions(products=400, seed=3)
    generate(tmp_path / "here", options)
    script = (
        "import sys; from pathlib import Path; import pyarrow; pyarrow.set_cpu_count(1); "
        "from pipelines.demo.generate import DemoOptions, generate; "
        "generate(Path(sys.argv[1]), DemoOptions(products=400, seed=3))"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "there")],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
    )
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_another_seed_gives_other_tables(tmp_path):
    generate(tmp_path / "a", DemoOptions(products=200, seed=1))
    generate(tmp_path / "b", DemoOptions(products=200, seed=2))
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert all(a[name] != b[name] for name in SCHEMAS)


def test_a_chunk_does_not_depend_on_how_many_follow(monkeypatch):
    monkeypatch.setattr("pipelines.demo.catalogue.CHUNK_PRODUCTS", 100)
    options = DemoOptions(products=500)
    plan = make_plan(options)
    whole = make_catalogue(options, plan)
    part = make_catalogue(DemoOptions(products=300), plan)
    np.testing.assert_array_equal(whole[:300], part)
    # The chunks themselves differ: a stream per chunk, not one stream for all.
    assert (whole["look"][:100] != whole["look"][100:200]).mean() > 0.9


@pytest.mark.parametrize("products", [1, 2, 12, 60])
def test_a_tiny_catalogue_is_still_a_dataset(tmp_path, products):
    summary = generate(tmp_path / "data", DemoOptions(products=products))
    assert summary.rows[PRODUCTS_FILE] == products
    assert summary.queries >= 1
    assert summary.rows[EXAMPLES_FILE] == sum(summary.pairs.values()) >= 1
    for name in set(SCHEMAS) - {SOURCES_FILE}:
        assert pq.read_schema(tmp_path / "data" / name).equals(SCHEMAS[name])
    found = validate(tmp_path / "data", ValidateOptions()).findings
    assert not [one for one in found if one.severity == "error"]
    # One query has one side of the split; everything else is as it should be.
    assert {one.code for one in found if one.severity == "warning"} <= {"empty_split"}


def test_the_tick_hears_of_every_step(tmp_path):
    heard = []
    options = DemoOptions(products=300)
    generate(tmp_path / "data", options, lambda units=1: heard.append(units))
    assert sum(heard) == options.steps()


@pytest.mark.parametrize(
    "wrong",
    [{"products": 0}, {"products": 10**9}, {"seed": -1}, {"queries": 0}, {"label_noise": 1.5}],
)
def test_options_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        DemoOptions(**wrong)


# What it is made of.


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=LOCALES)
def test_every_concept_has_words_in_every_locale(vocabulary):
    assert set(vocabulary.types) == set(concepts.NAMES)
    assert set(vocabulary.colours) == set(concepts.COLOURS)
    assert set(vocabulary.materials) == set(concepts.MATERIALS)
    assert set(vocabulary.features) == set(concepts.FEATURES)
    assert set(vocabulary.audiences) == set(concepts.AUDIENCES)
    assert set(vocabulary.departments) == set(concepts.BRANDS)
    sizes = {system: len(values) for system, values in vocabulary.sizes.items()}
    assert sizes == {name: count for name, count in concepts.SIZE_COUNTS.items() if name}


def test_shares_are_those_of_esci(examples, products):
    labels = np.array(examples["esci_label"])
    share = {label: float(np.mean(labels == label)) for label in LABELS}
    assert 0.59 <= share["E"] <= 0.66
    assert 0.20 <= share["S"] <= 0.25
    assert 0.09 <= share["I"] <= 0.125
    assert 0.025 <= share["C"] <= 0.045
    tests = np.array(examples["split"]) == "test"
    assert 0.01 < np.mean(labels[~tests] == "E") - np.mean(labels[tests] == "E") < 0.1
    locales = np.array(products["product_locale"])
    assert 0.62 <= np.mean(locales == "us") <= 0.73
    assert 0.09 <= np.mean(locales == "es") <= 0.18
    assert 0.13 <= np.mean(locales == "jp") <= 0.22
    judged = len(labels) / len(set(examples["query_id"]))
    assert 8 <= judged <= 20
    assert 0.65 <= np.mean(np.array(examples["split"]) == "train") <= 0.75
    small = np.array(examples["small_version"]) == 1
    assert 0.2 < small.mean() < 0.55
    assert np.mean(labels[small] == "E") < np.mean(labels[~small] == "E") - 0.2
    assert set(examples["large_version"]) == {1}


def test_the_mix_of_labels_stays_when_the_catalogue_grows(tmp_path):
    summary = generate(tmp_path / "data", DemoOptions(products=40_000))
    pairs = sum(summary.pairs.values())
    assert pairs / 40_000 == pytest.approx(2, abs=0.25)
    for label, share in (("E", 0.65), ("S", 0.21), ("C", 0.033), ("I", 0.10)):
        assert summary.pairs[label] / pairs == pytest.approx(share, rel=0.15), label


def test_no_query_text_is_in_both_splits(examples):
    sides = {}
    for query, split in rows_of(examples, "query", "split"):
        sides.setdefault(fold(query), set()).add(split)
    assert all(len(split) == 1 for split in sides.values())


def test_splits_agree_on_a_text_that_two_locales_share(shop):
    options = DemoOptions(queries=5000)
    log = make_queries(options, shop.plan, shop.columns, shop.shelves)
    sides = {}
    for text, train in zip(log.texts, log.trains, strict=True):
        sides.setdefault(fold(text), []).append(train)
    shared = [side for side in sides.values() if len(side) > 1]
    assert len(shared) > 5  # a brand is one text everywhere
    assert all(len(set(side)) == 1 for side in shared)


def test_every_pair_is_judged_once_and_its_product_is_there(examples, products):
    keys = rows_of(products, "product_id", "product_locale")
    assert len(set(keys)) == len(keys)
    assert set(rows_of(examples, "product_id", "product_locale")) <= set(keys)
    pairs = rows_of(examples, "query", "product_id", "product_locale")
    assert len(set(pairs)) == len(pairs)
    assert len(set(examples["example_id"])) == len(pairs)
    queries = set(rows_of(examples, "query_id", "query", "product_locale"))
    assert len(queries) == len(set(examples["query_id"]))


def test_some_products_are_sold_in_two_locales(products):
    counts = np.unique(products["product_id"], return_counts=True)[1]
    assert 0.002 < np.mean(counts > 1) < 0.02


def test_some_fields_are_null_and_some_descriptions_are_html(products):
    for column, low, high in (
        ("product_description", 0.4, 0.65),
        ("product_bullet_point", 0.1, 0.25),
        ("product_brand", 0.02, 0.12),
        ("product_color", 0.25, 0.5),
    ):
        absent = np.mean([text is None for text in products[column]])
        assert low < absent < high, column
    assert all(products["product_title"])
    descriptions = [text for text in products["product_description"] if text]
    assert any("<p>" in text and "&amp;" in text for text in descriptions)
    assert any("<" not in text for text in descriptions)


def test_accents_and_japanese_survive(examples, products):
    titles = {
        locale: [
            t for t, own in rows_of(products, "product_title", "product_locale") if own == locale
        ]
        for locale in LOCALES
    }
    assert any("ñ" in t or "ó" in t for t in titles["es"])
    japanese = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
    assert all(japanese.search(t) for t in titles["jp"])
    assert not any(japanese.search(t) for t in titles["us"])
    assert any(unicodedata.normalize("NFKC", t) != t for t in titles["jp"])
    queries = {q for q, own in rows_of(examples, "query", "product_locale") if own == "jp"}
    assert any(re.search("[\uff66-\uff9f]", q) for q in queries)  # half-width katakana


def test_sources_name_where_queries_come_from(folder, examples):
    with (folder / SOURCES_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["query_id"]) for row in rows} == set(examples["query_id"])
    sources = np.array([row["source"] for row in rows])
    known = {"other", "negations", "parse_pattern", "behavioral", "nlqec"}
    assert set(sources) <= known
    assert known - {"nlqec"} <= set(sources)  # so rare that a small catalogue may have none
    assert np.mean(sources == "other") > 0.7
    query_of = dict(rows_of(examples, "query_id", "query"))
    negated = [query_of[int(row["query_id"])] for row in rows if row["source"] == "negations"]
    for word in ("without ", "no ", "sin ", "なし"):
        assert any(word in query.lower() for query in negated), word


# The hidden rule.


def test_the_product_a_query_was_thought_up_from_is_exact(shop):
    target = shop.columns[shop.log.intents["target"]]
    assert (relevance(shop.log.intents, target, shop.plan) == EXACT).all()


def test_each_attribute_asked_for_matters(shop):
    """Change any attribute of a fitting product that the query names, and it fits no more."""
    intents = shop.log.intents
    for name in ATTRIBUTE_COLUMNS:
        asked = intents[intents[name] != 0]
        assert len(asked)
        other = shop.columns[asked["target"]].copy()
        other[name] += 1
        assert (relevance(asked, other, shop.plan) == SUBSTITUTE).all(), name
    negated = intents[intents["shape"] == WITHOUT]
    other = shop.columns[negated["target"]].copy()
    other["features"] |= negated["avoids"]
    assert (relevance(negated, other, shop.plan) == SUBSTITUTE).all()


def test_a_size_and_a_feature_count_within_their_kind(shop):
    """A code of another system of sizes, or a bit of another type, says nothing of the product."""
    near = np.argwhere(concepts.RELATIONS == concepts.NEAR)
    systems = [spec.sizes for spec in concepts.PRODUCT_TYPES]
    wanted, offered = np.zeros(1, INTENT), np.zeros(1, shop.columns.dtype)
    crossing = [(a, b) for a, b in near.tolist() if systems[a] != systems[b]]
    assert crossing
    for wanted["type"], offered["type"] in near.tolist():
        # Two specifications failed make a near type irrelevant, one does not.
        wanted["colour"], offered["colour"] = 1, 2
        wanted["wants"], offered["features"] = 1, 0
        assert relevance(wanted, offered, shop.plan) == SUBSTITUTE
        wanted["size"] = offered["size"] = 1
        alike = systems[int(wanted["type"][0])] == systems[int(offered["type"][0])]
        expected = SUBSTITUTE if alike else IRRELEVANT
        assert relevance(wanted, offered, shop.plan) == expected
        wanted["size"] = 0


def test_accessories_go_with_their_device_and_with_no_other(shop):
    case, phone = concepts.TYPE_OF["phone_case"], concepts.TYPE_OF["phone"]
    cases = shop.columns[(shop.columns["type"] == case) & (shop.columns["device"] != 0)]
    by_device = shop.log.intents[shop.log.intents["shape"] == COMPATIBLE]
    for_phones = by_device[(by_device["type"] == phone)]
    for_cases = by_device[(by_device["type"] == case)]
    assert len(for_phones)
    assert len(for_cases)
    fits = for_phones["device"][:, None] == cases["device"]
    labels = relevance(for_phones[:, None], cases[None], shop.plan)
    np.testing.assert_array_equal(labels, np.where(fits, COMPLEMENT, IRRELEVANT))
    labels = relevance(for_cases[:, None], cases[None], shop.plan)
    fits = for_cases["device"][:, None] == cases["device"]
    assert (labels[~fits] == IRRELEVANT).all()
    assert (labels[fits] != IRRELEVANT).mean() > 0.9
    phones = shop.columns[shop.columns["type"] == phone]
    labels = relevance(for_cases[:, None], phones[None], shop.plan)
    fits = for_cases["device"][:, None] == phones["device"]
    np.testing.assert_array_equal(labels, np.where(fits, COMPLEMENT, IRRELEVANT))


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_annotators_err_as_often_as_asked(shop, noise):
    truth = relevance(shop.log.intents[:, None], shop.columns[shop.results.rows], shop.plan)
    headness = np.ones(len(shop.log))
    queries, rows, labels = judge(
        stream(1, "judgements"), shop.results, headness, shop.log.trains, noise
    )
    at = np.argmax(
        (shop.results.rows[queries] == rows[:, None]) & np.isfinite(shop.results.scores[queries]),
        axis=1,
    )
    wrong = np.mean(truth[queries, at] != labels)
    assert wrong == pytest.approx(noise, abs=0.02)


# What customers did.


def test_nobody_behaves_because_somebody_judged(tmp_path, folder):
    """Other judgements over the same catalogue leave the log as it is, to the row."""
    options = DemoOptions(products=300)
    generate(tmp_path / "a", options)
    generate(tmp_path / "b", DemoOptions(products=300, label_noise=1.0))
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a[EXAMPLES_FILE] != b[EXAMPLES_FILE]
    assert a[BEHAVIOURS_FILE] == b[BEHAVIOURS_FILE]


def test_the_log_and_the_judgements_know_pairs_of_their_own(examples, behaviours):
    key = ("query", "product_id", "product_locale")
    judged, shown = set(rows_of(examples, *key)), set(rows_of(behaviours, *key))
    assert 0.2 < len(judged - shown) / len(judged) < 0.8
    assert len(shown - judged) / len(shown) > 0.3
    assert set(behaviours["query"]) - set(examples["query"])


def test_some_products_and_queries_are_cold(folder, examples, products, behaviours):
    keys = set(rows_of(products, "product_id", "product_locale"))
    shown = set(rows_of(behaviours, "product_id", "product_locale"))
    assert shown < keys
    assert 0.08 < 1 - len(shown) / len(keys) < 0.17
    unsearched = set(examples["query"]) - set(behaviours["query"])
    assert 0.05 < len(unsearched) / len(set(examples["query"])) < 0.25
    links = pq.read_table(folder / LINKS_FILE).to_pydict()
    columns = make_catalogue(DemoOptions(), make_plan(DemoOptions()))
    fresh = columns[columns["new"]]
    new = {
        (item.decode(), LOCALES[locale])
        for item, locale in zip(product_ids(fresh["item"], 7), fresh["locale"], strict=True)
    }
    for name in ("product_id_a", "product_id_b"):
        assert not new & set(rows_of(links, name, "product_locale"))
    assert not new & shown


def test_behaviours_come_in_the_order_of_their_funnel(behaviours):
    assert set(behaviours["relation"]) == set(BEHAVIOUR_RELATIONS)
    weights = {}
    key = ("query", "product_id", "product_locale", "date", "relation")
    for *where, relation, weight in rows_of(behaviours, *key, "weight"):
        assert (tuple(where), relation) not in weights
        weights[tuple(where), relation] = weight
    for (where, relation), weight in weights.items():
        assert weight >= 1
        if step := BEHAVIOUR_RELATIONS.index(relation):
            assert weights[where, BEHAVIOUR_RELATIONS[step - 1]] >= weight
    days = sorted(set(behaviours["date"]))
    assert 350 < (days[-1] - days[0]).days < 366


@pytest.fixture(scope="module")
def pages(shop):
    """Enough searches of every query for rates to be told apart."""
    searches = np.full(len(shop.log), 2000)
    return browse(stream(1, "log"), shop.results, shop.columns, searches)


def rates(pages, step, rows):
    seen, done = pages.counts[0][rows].sum(), pages.counts[step][rows].sum()
    return done / seen


def test_clicks_fall_with_the_rank_at_equal_label(pages):
    for label in (EXACT, SUBSTITUTE, IRRELEVANT):
        by_rank = [
            rates(pages, 1, (pages.labels == label) & (pages.ranks == rank))
            for rank in range(PAGE_RESULTS)
        ]
        assert by_rank[0] > 2 * by_rank[4] > 2 * by_rank[11] > 0
        slope = np.polyfit(np.log(np.arange(1, PAGE_RESULTS + 1)), np.log(by_rank), 1)[0]
        assert slope == pytest.approx(-0.6, abs=0.1)


def test_clicks_and_purchases_follow_relevance(pages):
    first = pages.ranks < 3
    clicks = [rates(pages, 1, first & (pages.labels == label)) for label in range(len(LABELS))]
    assert sorted(clicks, reverse=True) == clicks
    bought = [rates(pages, 3, pages.labels == label) for label in range(len(LABELS))]
    assert bought[EXACT] > 3 * bought[SUBSTITUTE] > 3 * bought[IRRELEVANT]


def test_behaviours_tell_what_an_ambiguous_word_means(shop, pages):
    """The words fit several types alike; customers click on the one they mean."""
    intents = shop.log.intents[pages.queries]
    offered = shop.columns[pages.products]
    ambiguous = intents["shape"] == MANY_SENSES
    meant = offered["type"] == intents["type"]
    assert rates(pages, 1, ambiguous & meant) > 2 * rates(pages, 1, ambiguous & ~meant)
    words = shop.log.intents[shop.log.intents["shape"] == MANY_SENSES]
    for sense in np.unique(words["sense"]):
        assert len(np.unique(words["type"][words["sense"] == sense])) == 1


def test_the_head_is_searched_far_more_than_the_tail(shop):
    searches = np.sort(shop.log.searches)[::-1]
    assert searches[0] > 50 * np.median(searches)
    assert searches[: len(searches) // 10].sum() > 0.5 * searches.sum()


def test_links_join_complements_and_substitutes(shop):
    a, b, relation, weights = link(stream(1, "links"), 0, 5000, shop.columns, shop.shelves)
    a_type, b_type = shop.columns["type"][a], shop.columns["type"][b]
    kind = concepts.RELATIONS[a_type, b_type]
    assert 0.85 < np.mean(kind[relation == CO_BUY] == concepts.GOES_WITH) < 1
    assert 0.85 < np.mean(kind[relation == CO_VIEW] == concepts.SAME) < 1
    assert (shop.columns["locale"][a] == shop.columns["locale"][b]).all()
    of_one_device = (a_type == concepts.TYPE_OF["phone_case"]) & (
        b_type == concepts.TYPE_OF["phone"]
    )
    devices = shop.columns["device"]
    assert (devices[a] == devices[b])[of_one_device & (devices[a] > 0)].mean() > 0.8
    assert (a != b).all()
    assert len(set(zip(a, b, relation, strict=True))) == len(a)
    assert weights.min() >= 1


# Words.

draws = st.floats(0, 1, exclude_max=True)


@given(st.text("abcñé 0123スマホケース", max_size=30), draws, draws, draws)
def test_a_misspelling_changes_one_word_and_no_number(text, which, where, how):
    slip = misspell(text, which, where, how)
    assert re.sub(r"\D", "", slip) == re.sub(r"\D", "", text)
    assert abs(len(slip) - len(text)) <= 1
    assert len(slip.split(" ")) == len(text.split(" "))
    assert sum(a != b for a, b in zip(slip.split(" "), text.split(" "), strict=True)) <= 1


def test_as_many_queries_are_misspelt_as_asked(shop):
    straight = Shop(DemoOptions(typo_share=0)).log.texts
    wrong = set(shop.log.texts) - set(straight)
    assert 0.04 < len(wrong) / len(shop.log) < 0.2
    assert any("running shoes" not in text and "shoes" not in text for text in wrong)


@given(st.text("スマホケースガパヲッー黒の枕éñaZ9-", max_size=20))
def test_other_widths_are_the_same_text(text):
    text = unicodedata.normalize("NFKC", text)
    assert unicodedata.normalize("NFKC", half_width(text)) == text
    assert unicodedata.normalize("NFKC", full_width(text)) == text
    assert not re.search("[ァ-ン]", half_width(text))
    assert "é" in half_width(text) or "é" not in text  # only katakana is taken apart


@given(st.lists(st.integers(0, 10**8), unique=True), st.integers(0, 2**63 - 1))
def test_no_two_items_share_an_id(items, seed):
    ids = product_ids(np.array(items, np.int32), seed).astype(str).tolist()
    assert len(set(ids)) == len(items)
    assert all(re.fullmatch("B0[0-9A-Z]{8}", item) for item in ids)


# The verb.


def run(*arguments):
    words = ["data", "demo", *map(str, arguments)]
    return CliRunner().invoke(build(words), words, catch_exceptions=False)


def test_the_verb_writes_a_dataset_and_says_what(tmp_path):
    outcome = run("--products", 200, "--seed", 4, "--out", tmp_path / "new", "--json")
    summary = json.loads(outcome.stdout)
    assert outcome.exit_code == 0
    assert sum(summary["products"].values()) == 200
    for name in set(SCHEMAS) - {SOURCES_FILE}:
        assert pq.read_metadata(tmp_path / "new" / name).num_rows == summary["rows"][name]


def test_the_verb_replaces_a_dataset_only_when_told(tmp_path):
    run("--products", 100, "--out", tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="--force"):
        run("--products", 150, "--out", tmp_path)
    assert contents(tmp_path) == before
    outcome = run("--products", 150, "--out", tmp_path, "--force")
    assert "150" in outcome.stdout
    assert contents(tmp_path) != before


def test_force_spares_what_is_no_dataset(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        check_target(tmp_path, force=True)
    with pytest.raises(ConfigError, match="is a file"):
        check_target(tmp_path / "thesis.tex", force=True)
    (tmp_path / "data" / SOURCES_FILE).mkdir(parents=True)
    with pytest.raises(ConfigError, match="no file of a dataset"):
        check_target(tmp_path / "data", force=True)
    assert check_target(tmp_path / "absent", force=False) == tmp_path / "absent"


def test_the_folder_one_stands_in_is_refused_before_anything_is_generated(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", tmp_path, Path("..") / "here"):
        with pytest.raises(ConfigError, match="the folder you are in"):
            run("--products", 10**8, "--out", name)
    run("--products", 12, "--out", "data")
    assert (tmp_path / "here" / "data" / PRODUCTS_FILE).is_file()


def test_a_link_to_a_dataset_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run("--products", 12, "--out", tmp_path / "link")
    run("--products", 12, "--out", tmp_path / "link", "--force")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / PRODUCTS_FILE).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
