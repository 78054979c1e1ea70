from __future__ import annotations

import math
from typing import get_args

import pytest
from scipy import stats

from sizeloss_monai.options import PublishedName
from sizeloss_monai.sizes.published import published_range


@pytest.mark.parametrize("name", get_args(PublishedName))
def test_every_row_has_its_source(name: str) -> None:
    entry = published_range(name)
    assert entry.title
    assert entry.note
    assert entry.rows
    for row in entry.rows:
        assert 0 < row.lower < row.upper
        assert row.population
        assert any(mark in row.reference for mark in ("doi:", "PMC", ";")), row.reference
    lower, upper = entry.bounds
    assert lower == min(row.lower for row in entry.rows)
    assert upper == max(row.upper for row in entry.rows)


def test_phases() -> None:
    """The numbers of the review: limits of men and women, 106-214 and 86-178 mL, 26-82 and 22-66 mL."""
    assert published_range("lv_cavity_ed").bounds == (86, 214)
    assert published_range("lv_cavity_es").bounds == (22, 82)
    assert published_range("lv_cavity").bounds == (22, 214)
    assert {row.phase for row in published_range("rv_cavity_es").rows} == {"ES"}


def test_mass_over_density() -> None:
    assert published_range("lv_myocardium").bounds == pytest.approx(((98 - 42) / 1.05, (134 + 42) / 1.05))


def test_quartiles_become_a_lognormal_range() -> None:
    lower, upper = published_range("prostate").bounds
    sigma = math.log(upper / lower) / (2 * stats.norm.ppf(0.975))
    found = stats.lognorm.ppf([0.25, 0.75], sigma, scale=math.sqrt(lower * upper))
    assert found == pytest.approx([23, 38])


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"a published range must be one of \('lv_cavity', .*, got 'spleen'"):
        published_range("spleen")
    with pytest.raises(ValueError, match="got 'prostate_ed'"):
        published_range("prostate_ed")
