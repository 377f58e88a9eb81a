import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.texts import Texts

STRINGS = st.lists(st.text(), max_size=20)


@given(STRINGS)
def test_strings_come_back_as_they_went_in(strings):
    texts = Texts.of(strings)
    assert list(texts) == strings == [texts[row] for row in range(len(texts))]
    assert texts.lengths().tolist() == [len(text.encode()) for text in strings]


@given(st.data(), st.lists(st.text(), min_size=1, max_size=20))
@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_take_is_list_indexing(block, data, strings):
    rows = data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.texts._BLOCK_BYTES", block)
        taken = Texts.of(strings).take(np.array(rows, dtype=np.int32))
    assert list(taken) == [strings[row] for row in rows]


def test_taking_every_row_in_order_copies_nothing():
    texts = Texts.of(["a", "b"])
    assert texts.take(np.arange(2)) is texts
    assert list(texts.take(np.array([1, 0]))) == ["b", "a"]
    with pytest.raises(DataError, match="rows come as bool"):
        texts.take(np.array([False, True]))


@given(STRINGS, STRINGS)
def test_texts_are_equal_when_their_strings_are(first, second):
    assert (Texts.of(first) == Texts.of(second)) == (first == second)


def test_a_lone_surrogate_becomes_a_replacement_and_spoils_no_neighbour():
    assert list(Texts.of(["año", "a\ud800b", "ケース"])) == ["año", "a\ufffdb", "ケース"]


def test_rows_beyond_the_end_are_refused():
    with pytest.raises(IndexError, match="row 2 of 2"):
        Texts.of(["a", "b"])[2]
    assert Texts.of(["a", "b"])[-1] == "b"
