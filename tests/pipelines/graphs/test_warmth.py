"""Cold products in the judge's slices: those that no behaviour and no link names."""

import pyarrow.parquet as pq

from models.text import fold
from pipelines.dataset.layout import BEHAVIOURS_FILE, EXAMPLES_FILE, LINKS_FILE
from pipelines.judging.judged import read_judged


def named_in(data, judged: set[str]) -> set[tuple[str, str]]:
    found = set()
    for row in pq.read_table(data / BEHAVIOURS_FILE).to_pylist():
        if fold(row["query"]) not in judged:
            found.add((row["product_id"], row["product_locale"]))
    for row in pq.read_table(data / LINKS_FILE).to_pylist():
        found.add((row["product_id_a"], row["product_locale"]))
        found.add((row["product_id_b"], row["product_locale"]))
    return found


def test_cold_pairs_are_a_slice_of_their_own(data):
    judged, examples = read_judged(data, "test"), pq.read_table(data / EXAMPLES_FILE).to_pylist()
    known = named_in(data, {fold(row["query"]) for row in examples if row["split"] == "test"})
    assert len(known) < len(named_in(data, set()))
    rows = {row["example_id"]: (row["product_id"], row["product_locale"]) for row in examples}
    slices = {one.value: one.rows for one in judged.slices if one.group == "behaviour"}
    ids = judged.example_ids.tolist()
    assert set(slices) == {"cold", "known"}
    for name, wanted in (("cold", False), ("known", True)):
        found = {ids[row] for row in slices[name].tolist()}
        assert found == {one for one in ids if (rows[one] in known) is wanted}


def test_without_behaviours_nobody_is_called_cold(data, tmp_path):
    (tmp_path / EXAMPLES_FILE).write_bytes((data / EXAMPLES_FILE).read_bytes())
    assert not [one for one in read_judged(tmp_path, "test").slices if one.group == "behaviour"]
