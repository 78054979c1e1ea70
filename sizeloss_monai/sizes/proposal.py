"""Size bounds for a data list: propose them, review them against its cases, and add them to it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from sizeloss_monai.data.slice_axis import SliceAxis
from sizeloss_monai.datalist.classes import read_classes, unannotated_id_of
from sizeloss_monai.datalist.layouts import SECTIONS
from sizeloss_monai.errors import DataError, check_option, counted, listed
from sizeloss_monai.options import UNIT_OF, Method, Per, PublishedName, Unit
from sizeloss_monai.sizes.bounds import case_bounds
from sizeloss_monai.sizes.from_cases import (
    MIN_SIZES,
    TOLERANCE,
    CaseSizes,
    count_outside,
    leave_one_out,
    measure_grid,
    measure_sizes,
    round_outward,
    size_interval,
)
from sizeloss_monai.sizes.published import published_range

__all__ = [
    "BoundsProposal",
    "ClassEvidence",
    "add_bounds",
    "label_names",
    "propose_from_cases",
    "propose_published",
    "review_bounds",
]


@dataclass(frozen=True)
class ClassEvidence:
    """The sizes that the bounds of a class come from.

    Args:
        count: number of sizes: one a case, or one a slice that has the class.
        smallest, largest: of them, in the unit of the bounds.
        outside: how many held-out sizes fall outside the bounds.
        tested: how many sizes were held out.
    """

    count: int
    smallest: float
    largest: float
    outside: int
    tested: int

    @property
    def counted(self) -> str:
        """How many held-out sizes fall outside: ``"2 of 7"``, or ``"not known"`` without any."""
        return f"{self.outside} of {self.tested}" if self.tested else "not known"


@dataclass(frozen=True)
class BoundsProposal:
    """Size bounds per class.

    Args:
        per: ``"slice"`` or ``"volume"``.
        unit: ``"mm2"`` or ``"mL"``.
        source: their origin, in a sentence.
        bounds: by class id, lower and upper bound.
        evidence: by class id, for bounds from cases.
        held_out: which sizes were held out, or why none was, for bounds from cases.
        notes: what else a user should know of the cases, a line each.
    """

    per: Per
    unit: Unit
    source: str
    bounds: Mapping[int, tuple[float, float]]
    evidence: Mapping[int, ClassEvidence] = field(default_factory=dict)
    held_out: str = ""
    notes: tuple[str, ...] = ()


def label_names(datalist: Mapping[str, Any]) -> dict[int, str]:
    """The classes of a data list that may have bounds: name by id, without 0 and the background."""
    classes, _ = read_classes(datalist)
    return {class_id: name for class_id, name in classes.names.items() if class_id not in (0, classes.background)}


def propose_from_cases(
    datalist: Mapping[str, Any],
    per: Per = "volume",
    method: Method = "lognormal",
    coverage: float = 0.95,
    margin: float = 1.0,
    names: Sequence[str] | None = None,
    num_cases: int | None = None,
    progress: bool = False,
    slice_axis: SliceAxis = "widest",
) -> BoundsProposal:
    """Propose bounds from the full annotations of a few training cases.

    It uses training cases with `label`, and without a `supervision` other than ``"full"`` (unless `names` has them),
    never validation or test cases. Where some of these cases are chosen, those of other patients tell how often sizes
    fall outside; otherwise each patient in turn is left out.

    Args:
        datalist: with absolute paths, from :py:func:`sizeloss_monai.datalist.load_datalist`.
        per: ``"slice"`` for mm2 of each slice that has the class, ``"volume"`` for mL of each volume that has it.
        method, coverage, margin: see :py:func:`sizeloss_monai.sizes.size_interval`.
        names: cases or patients to use.
        num_cases: instead, how many to use, the first ones. None for all.
        progress: whether to show a progress bar.
        slice_axis: where slices lie.

    Returns:
        The proposal, rounded outward to four digits.

    Raises:
        DataError: when there are too few such cases, a file cannot be read or is not an annotation, or an argument is
            out of range.
    """
    try:
        check_option("per", per, Per)
    except ValueError as err:
        raise DataError(str(err)) from None
    usable = [item for item in datalist["training"] if item.get("label") and item.get("supervision", "full") == "full"]
    chosen = _choose(datalist, usable, names, num_cases)
    patients = {item["patient"] for item in chosen}
    others = [item for item in usable if item["patient"] not in patients]
    known = label_names(datalist)
    background = read_classes(datalist)[0].background
    allowed = sorted({0, *known, *([] if background is None else [background])}) if known else None
    measured = [
        measure_sizes(item, "label", per, allowed, slice_axis=slice_axis)
        for item in tqdm([*chosen, *others], desc="annotated cases", disable=not progress)
    ]
    used, rest = measured[: len(chosen)], measured[len(chosen) :]
    found = sorted({class_id for case in used for class_id in case.sizes} - {background})
    notes = _notes(chosen, usable, {class_id: known[class_id] for class_id in set(known) - set(found)})
    bounds, evidence = {}, {}
    for class_id in found:
        groups = _by_patient(used, class_id)
        sizes = np.concatenate(groups)
        bounds[class_id] = _interval(sizes, class_id, method, coverage, margin)
        if own := count_outside(sizes, bounds[class_id]):
            notes.append(f"class {class_id}: {own} of the {len(sizes)} sizes used are outside the bounds themselves")
        if rest:
            tests = np.concatenate([np.empty(0), *_by_patient(rest, class_id)])
            outside, tested = count_outside(tests, bounds[class_id]), len(tests)
        else:
            outside, tested = leave_one_out(groups, method, coverage, margin)
        evidence[class_id] = ClassEvidence(len(sizes), float(sizes.min()), float(sizes.max()), outside, tested)
    if not bounds:
        raise DataError(f"no class is annotated in {listed([case.case for case in used])}.")
    how = f"{method}{'' if method == 'range' else f' with coverage {coverage:g}'}{_margin_text(margin)}"
    cases = f"{counted(len(used), 'annotated case')} of {counted(len(patients), 'patient')}"
    held_out = "sizes of each patient left out in turn"
    if rest:
        held_out = f"sizes in {counted(len(rest), 'other annotated training case')}"
    if not any(one.tested for one in evidence.values()):
        held_out = "not known, there are too few sizes of other patients to hold any out"
    counts = [f"class {class_id} {one.counted}" for class_id, one in evidence.items()]
    return BoundsProposal(
        per,
        UNIT_OF[per],
        f"{how}, from {cases}: {listed([c.case for c in used], 10)}; held-out sizes outside: {', '.join(counts)}",
        bounds,
        evidence,
        held_out,
        tuple(notes),
    )


def propose_published(
    datalist: Mapping[str, Any], entries: Mapping[int, PublishedName], margin: float = 1.0
) -> BoundsProposal:
    """Propose bounds per volume from published normal ranges.

    Args:
        datalist: the data list.
        entries: by class id, the name of a published range.
        margin: what to divide lower bounds and multiply upper bounds by, at least 1: many patients lie outside normal
            ranges.

    Returns:
        The proposal, in mL, rounded outward to four digits.

    Raises:
        DataError: when the data list lacks a class, a name is unknown, or the margin is below 1.
    """
    if not 1 <= margin < math.inf:
        raise DataError(f"margin must be at least 1, got {margin:g}.")
    known = label_names(datalist)
    unknown = [str(class_id) for class_id in entries if class_id < 1 or (known and class_id not in known)]
    if unknown:
        classes = listed([f"{class_id} ({name})" for class_id, name in known.items()]) or "ids from 1"
        raise DataError(f"found no class {listed(unknown)} in the data list, expected {classes}.")
    bounds, sources = {}, []
    for class_id, name in entries.items():
        try:
            published = published_range(name)
        except ValueError as err:
            raise DataError(f"class {class_id}: {err}") from err
        lower, upper = published.bounds
        bounds[class_id] = round_outward((lower / margin, upper * margin))
        sources.append(f"class {class_id}: published normal range {name} ({'; '.join(published.references)})")
    return BoundsProposal("volume", "mL", "; ".join(sources) + _margin_text(margin), bounds)


def add_bounds(datalist: Mapping[str, Any], proposal: BoundsProposal) -> dict[str, Any]:
    """Put proposed bounds into a copy of a data list. Its bounds of other classes stay.

    Args:
        datalist: the data list.
        proposal: the bounds.

    Returns:
        A new data list, with `size_bounds` before its sections.

    Raises:
        DataError: when the list has bounds per something else or in another unit: a list cannot mix them.
    """
    old = datalist.get("size_bounds")
    new: dict[str, Any] = {"per": proposal.per, "unit": proposal.unit, "source": proposal.source, "bounds": {}}
    if old is not None:
        case_bounds(datalist, {"case": "every case"})  # raises where the list's bounds have another form
        if (old["per"], old["unit"]) != (proposal.per, proposal.unit):
            raise DataError(
                f"the data list has size_bounds per {old['per']} in {old['unit']}, the proposed ones are per "
                f"{proposal.per} in {proposal.unit}: a list has bounds of one kind only. Remove 'size_bounds' from it "
                "to replace them."
            )
        kept = {key: pair for key, pair in old.get("bounds", {}).items() if int(key) not in proposal.bounds}
        new["bounds"] = kept
        if kept and old.get("source"):
            new["source"] = f"classes {', '.join(kept)}: {old['source']} | {proposal.source}"
    for class_id, (lower, upper) in proposal.bounds.items():
        new["bounds"][str(class_id)] = [lower, None if math.isinf(upper) else upper]
    others = {key: value for key, value in datalist.items() if key != "size_bounds"}
    before = {key: value for key, value in others.items() if key not in SECTIONS}
    return {**before, "size_bounds": new, **others}


def review_bounds(
    datalist: Mapping[str, Any],
    proposal: BoundsProposal,
    progress: bool = False,
    slice_axis: SliceAxis = "widest",
) -> tuple[list[str], list[str]]:
    """Compare proposed bounds with the images and weak labels of the training cases.

    Bounds are infeasible for a case with a larger annotation than the upper bound allows, or with an image smaller than
    the lower bound. They are vacuous where the lower bound is less than a voxel, or the upper one more than half of
    the image. A case whose own bounds replace the proposed ones does not count.

    Args:
        datalist: with absolute paths and the proposed bounds, see :py:func:`add_bounds`.
        proposal: the bounds.
        progress: whether to show a progress bar.
        slice_axis: where slices lie.

    Returns:
        One line for each class and way in which bounds are infeasible, and one where they are vacuous.

    Raises:
        DataError: when a file cannot be read or is not an annotation.
    """
    above: dict[int, list[str]] = {class_id: [] for class_id in proposal.bounds}
    beyond: dict[int, list[str]] = {class_id: [] for class_id in proposal.bounds}
    vacuous: Counter[tuple[int, str]] = Counter()
    num_cases: Counter[int] = Counter()
    unannotated = unannotated_id_of(datalist)
    for item in tqdm(datalist["training"], desc="bounds against cases", disable=not progress):
        if item.get("weak_label"):
            case = measure_sizes(item, "weak_label", proposal.per, None, unannotated, slice_axis)
        else:
            case = measure_grid(item, "image", proposal.per, slice_axis)
        effective = case_bounds(datalist, item)
        for class_id, (lower, upper) in proposal.bounds.items():
            if effective is None or effective.bounds.get(class_id) != (lower, upper):
                continue
            num_cases[class_id] += 1
            annotated = float(case.sizes[class_id].max()) if class_id in case.sizes else 0.0
            if annotated > upper * (1 + TOLERANCE):
                above[class_id].append(f"{case.case} ({annotated:.4g})")
            if lower > case.whole:
                beyond[class_id].append(f"{case.case} ({case.whole:.4g})")
            vacuous[class_id, "lower"] += lower < case.voxel
            vacuous[class_id, "upper"] += upper > 0.5 * case.whole
    infeasible, notes = [], []
    in_slice, image = (" in a slice", "slice") if proposal.per == "slice" else ("", "image")
    for class_id, pair in proposal.bounds.items():
        lower_bound, upper_bound = (
            f"class {class_id}: the {side} bound, {bound:g} {proposal.unit}, is"
            for side, bound in zip(("lower", "upper"), pair, strict=True)
        )
        if names := above[class_id]:
            infeasible.append(f"{upper_bound} below what is annotated{in_slice} in {listed(names, 5)}")
        if names := beyond[class_id]:
            infeasible.append(f"{lower_bound} above the whole {image} of {listed(names, 5)}")
        of_cases = f"of {num_cases[class_id]} training cases"
        if number := vacuous[class_id, "lower"]:
            notes.append(f"{lower_bound} vacuous, less than a voxel, in {number} {of_cases}")
        if number := vacuous[class_id, "upper"]:
            notes.append(f"{upper_bound} vacuous, more than half of the {image}, in {number} {of_cases}")
    return infeasible, notes


def _choose(
    datalist: Mapping[str, Any],
    usable: Sequence[Mapping[str, Any]],
    names: Sequence[str] | None,
    num_cases: int | None,
) -> list[Mapping[str, Any]]:
    """The training cases to make bounds from."""
    if names is not None:
        chosen = {}
        for name in names:
            matching = _named(datalist["training"], name)
            if not matching:
                elsewhere = [section for section in SECTIONS if _named(datalist[section], name)]
                where = f"; it is in '{elsewhere[0]}', whose masks are never used" if elsewhere else ""
                raise DataError(f"found no training case or patient named '{name}'{where}.")
            for item in matching:
                if not item.get("label"):
                    raise DataError(
                        f"case '{item['case']}', key 'label': found no such key, expected a full annotation."
                    )
                chosen[item["case"]] = item
        return list(chosen.values())
    if not usable:
        raise DataError(
            "found no training case with a full annotation ('label', and no 'supervision' other than 'full'): annotate "
            "a few, or take published ranges."
        )
    if num_cases is not None and not 1 <= num_cases <= len(usable):
        raise DataError(f"num_cases must lie in 1..{len(usable)}, the annotated training cases, got {num_cases}.")
    return list(usable[:num_cases])


def _named(items: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """The items of a case or a patient."""
    return [item for item in items if name in (item["case"], item["patient"])]


def _notes(
    chosen: Sequence[Mapping[str, Any]], usable: Sequence[Mapping[str, Any]], missing: Mapping[int, str]
) -> list[str]:
    """What a user should know of the cases that bounds come from."""
    notes = []
    if missing:
        classes = listed([f"{class_id} ({name})" for class_id, name in sorted(missing.items())])
        notes.append(f"no bounds for class {classes}, which is in none of these cases")
    groups = {str(item.get("group")) for item in chosen}
    others = {str(item["group"]) for item in usable if item.get("group") is not None} - groups
    if others and len(groups) == 1:
        notes.append(
            f"all these cases are of group {groups.pop()}, the list also has {listed(sorted(others))}: "
            "choose cases of several groups with --cases"
        )
    return notes


def _interval(sizes: np.ndarray, class_id: int, method: Method, coverage: float, margin: float) -> tuple[float, float]:
    """The bounds that sizes of a class give, rounded outward."""
    if method in MIN_SIZES and len(sizes) < MIN_SIZES[method]:
        raise DataError(
            f"class {class_id}: found {counted(len(sizes), 'size')} of it in the cases used, expected at least "
            f"{MIN_SIZES[method]} for method '{method}': take more cases, or method 'range'."
        )
    try:
        return round_outward(size_interval(sizes, method, coverage, margin))
    except ValueError as err:
        raise DataError(str(err)) from err


def _by_patient(cases: Sequence[CaseSizes], class_id: int) -> list[np.ndarray]:
    """The sizes of a class in each patient that has it."""
    groups: dict[str, list[np.ndarray]] = {}
    for case in cases:
        if class_id in case.sizes:
            groups.setdefault(case.patient, []).append(case.sizes[class_id])
    return [np.concatenate(group) for group in groups.values()]


def _margin_text(margin: float) -> str:
    """A margin as a source names it."""
    return "" if margin == 1 else f", widened by {margin:g} on both sides"
