"""The folder of stores that members take their own from."""

import dataclasses

import pytest

from models.errors import ReleaseError
from models.members.lexical import LexicalMember
from models.vectors.embedder import Embedder
from models.vectors.packing import Packing
from models.vectors.shelf import Shelf
from models.vectors.store import ABOUT_FILE, ProductVectors
from models.vectors.tally import Counts

OLD, NEW = "0" * 12 + "a" * 52, "1" * 12 + "a" * 52


@dataclasses.dataclass(frozen=True)
class Towers:
    """As much of a member as a shelf asks for."""

    name: str
    identity: str = NEW
    source: ProductVectors | None = None

    def vectors_identity(self):
        return self.identity

    def precompute(self, products, folder, tick=None):  # noqa: ARG002
        return ProductVectors.create(folder, self.identity, Packing("fp16", 4))

    def with_vectors(self, source):
        assert source.identity == self.identity
        return dataclasses.replace(self, source=source)

    def product_counts(self):
        return Counts(0, 0)

    def similarities(self, pairs):  # noqa: ARG002
        raise AssertionError


def stored(shelf: Shelf, member: Towers) -> Towers:
    member.precompute([], shelf.place_of(member))
    return member


def test_every_member_finds_its_own_store(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    mine, twin, again = Towers("bi"), Towers("other"), Towers("bi", OLD)
    assert isinstance(mine, Embedder)
    assert shelf.find(mine) is None
    for member in (mine, twin, again):
        stored(shelf, member)
    places = {member: shelf.place_of(member) for member in (mine, twin, again)}
    assert len(set(places.values())) == 3
    assert {path.parent for path in places.values()} == {shelf.folder}
    for member, place in places.items():
        assert shelf.get(member).folder == place
        assert shelf.get(member).identity == member.identity


def test_members_come_back_in_their_order_with_what_they_found(tmp_path):
    shelf = Shelf(tmp_path)
    mine, twin, lexical = stored(shelf, Towers("bi")), Towers("other"), LexicalMember("lexical")
    found = shelf.supply([lexical, twin, mine], required=False)
    assert found.members[:2] == [lexical, twin]
    assert found.members[2].source.folder == shelf.place_of(mine)
    assert found.embedders == found.members[1:]
    assert (found.products, found.damaged) == ({"bi": 0}, {})
    assert list(found.missing) == ["other"]
    # A folder with nothing in it is how most have it; one with others' vectors wants a word.
    assert shelf.place_of(mine).name in found.missing["other"]
    assert Shelf(tmp_path / "none").supply([twin], required=False).missing == {"other": ""}


def test_where_vectors_are_required_every_member_has_its_own(tmp_path):
    shelf = Shelf(tmp_path)
    mine, twin, lexical = (
        stored(shelf, Towers("bi", OLD)),
        Towers("other"),
        LexicalMember("lexical"),
    )
    assert not shelf.supply([lexical, mine], required=True).missing
    with pytest.raises(ReleaseError, match=r"'other' .*but bi-000000000000: compute them"):
        shelf.supply([mine, twin], required=True)
    with pytest.raises(ReleaseError, match=r"'bi' .*\(bi-111111111111\), but bi-000000000000"):
        shelf.supply([Towers("bi")], required=True)
    with pytest.raises(ReleaseError, match="no member compares any: lexical; leave the vectors"):
        shelf.supply([lexical], required=True)


def test_a_damaged_store_is_passed_over_unless_it_was_asked_for(tmp_path):
    shelf = Shelf(tmp_path)
    mine = stored(shelf, Towers("bi"))
    (shelf.place_of(mine) / ABOUT_FILE).write_text("{}")
    with pytest.raises(ReleaseError, match="compute the product vectors again"):
        shelf.supply([mine], required=True)
    found = shelf.supply([mine], required=False)
    assert found.members == [mine]
    assert not found.products
    assert not found.missing
    assert "compute the product vectors again" in found.damaged["bi"]
