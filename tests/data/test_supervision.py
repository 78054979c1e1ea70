"""Marks: which cases are fully annotated, and which are not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeloss_monai.datalist import mark_supervision
from sizeloss_monai.errors import DataError

ITEMS = [{"case": f"p{i // 2}_{i % 2}", "patient": f"p{i // 2}", "image": "x"} for i in range(20)]


def full_cases(items):
    return {item["case"] for item in items if item["supervision"] == "full"}


@given(num_full=st.integers(0, 20), seed=st.integers(0, 1000), data=st.data())
@settings(deadline=None)
def test_as_many_as_asked_patient_by_patient(num_full, seed, data):
    marked = mark_supervision(ITEMS, num_full, seed)
    assert [item["case"] for item in marked] == [item["case"] for item in ITEMS]
    full = full_cases(marked)
    assert len(full) == num_full
    patients = [item["patient"] for item in ITEMS if item["case"] in full]
    assert sum(patients.count(p) == 1 for p in set(patients)) == num_full % 2
    shuffled = data.draw(st.permutations(ITEMS))
    assert full_cases(mark_supervision(shuffled, num_full, seed)) == full, "the draw depends on the order"
    assert full_cases(mark_supervision(ITEMS, max(num_full - 1, 0), seed)) <= full


def test_seeds_draw_differently():
    assert len({frozenset(full_cases(mark_supervision(ITEMS, 4, seed))) for seed in range(8)}) > 1


@pytest.mark.parametrize(("seed", "drawn"), [(0, "p3_0 p4_0 p4_1 p8_0 p8_1"), (1, "p3_0 p3_1 p4_0 p4_1 p9_0")])
def test_the_draw_is_the_same_everywhere(seed, drawn):
    # pinned: another draw would make old results incomparable
    assert full_cases(mark_supervision(ITEMS, 5, seed)) == set(drawn.split())


def test_marks_of_the_list_stay():
    items = [{**ITEMS[0], "supervision": "tags"}, {**ITEMS[1], "supervision": "full"}, *ITEMS[2:]]
    marked = mark_supervision(items, num_full=18)
    assert marked[0]["supervision"] == "tags"
    assert len(full_cases(marked)) == 19
    assert "supervision" not in ITEMS[2], "the items given were changed"


def test_only_full():
    chosen = mark_supervision(ITEMS, num_full=5, only_full=True)
    assert len(chosen) == 5
    assert all(item["supervision"] == "full" for item in chosen)


@pytest.mark.parametrize("num_full", [-1, 21])
def test_not_as_many(num_full):
    with pytest.raises(DataError, match=f"num_full must lie in 0\\.\\.20, the number of weak cases, got {num_full}"):
        mark_supervision(ITEMS, num_full)


def test_unknown_mark():
    with pytest.raises(DataError, match=r"full, weak, tags, got other marks: p0_0 \('Full'\)"):
        mark_supervision([{**ITEMS[0], "supervision": "Full"}])


def test_nothing_left():
    with pytest.raises(DataError, match="only_full leaves no case"):
        mark_supervision(ITEMS, only_full=True)
