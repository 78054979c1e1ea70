"""The check of a whole data list: every file read once, every problem told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from monai.config import PathLike

from sizeloss_monai.data.checks.across import (
    coverage_findings,
    outlier_findings,
    split_findings,
    without_consequences,
)
from sizeloss_monai.data.checks.cases import for_every_case
from sizeloss_monai.data.checks.classes import read_classes
from sizeloss_monai.data.checks.facts import gather_facts
from sizeloss_monai.data.checks.keys import key_findings
from sizeloss_monai.data.checks.size_bounds import bounds_findings
from sizeloss_monai.data.checks.slice_axis import choose_slice_axis
from sizeloss_monai.data.checks.summary import summarise
from sizeloss_monai.data.checks.supervision import supervision_findings
from sizeloss_monai.data.checks.tags import tag_findings
from sizeloss_monai.data.datalists import SECTIONS, parse_datalist
from sizeloss_monai.data.findings import Finding

__all__ = ["CheckReport", "check_datalist"]


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Args:
        findings: those of the list first, then case by case in the list's order; errors before warnings.
        summary: see :py:func:`sizeloss_monai.data.checks.summary.summarise`; and ``slice_axis``, where slices lie
            (``taken``) and how that is known (``reason``).
    """

    findings: tuple[Finding, ...]
    summary: Mapping[str, Any]

    @property
    def num_errors(self) -> int:
        """The number of errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def num_warnings(self) -> int:
        """The number of warnings."""
        return len(self.findings) - self.num_errors

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it: ``errors``, ``warnings`` (how many), ``findings``, ``summary``."""
        return {
            "errors": self.num_errors,
            "warnings": self.num_warnings,
            "findings": [asdict(finding) for finding in self.findings],
            "summary": dict(self.summary),
        }


def check_datalist(
    path: PathLike,
    base_dir: PathLike | None = None,
    num_workers: int = 0,
    progress: bool = False,
    slice_axis: Any = "auto",
) -> CheckReport:
    """Read every file of a data list once, and say what is wrong with each case and with all of them together.

    Nothing is written. See the modules of this package for what is an error and what a warning.

    Args:
        path: the data list (JSON).
        base_dir: the folder that its paths are relative to. Defaults to the folder of the file.
        num_workers: number of threads that read; 0 reads in the calling one.
        progress: whether to show a progress bar, on stderr.
        slice_axis: what the user says of where slices lie, as for :py:func:`choose_slice_axis`.

    Returns:
        The findings and a summary.

    Raises:
        DataError: if the file cannot be read or is no data list at all, or `slice_axis` is unknown.
    """
    datalist, findings = parse_datalist(path, base_dir)
    classes, of_classes = read_classes(datalist)
    findings += of_classes
    findings += key_findings(datalist)
    modality = datalist.get("modality")
    num_channels = len(modality) if isinstance(modality, Mapping) and modality else 1
    items = [(section, item) for section in SECTIONS for item in datalist[section]]
    slices = choose_slice_axis(datalist["training"], slice_axis, datalist, classes.unannotated, num_workers)
    findings += slices.doubts
    cases = for_every_case(
        lambda pair: gather_facts(*pair, classes, num_channels, slices.taken), items, num_workers, progress
    )
    for case in cases:
        findings += case.findings
        findings += supervision_findings(case.section, case.item, datalist)
        findings += tag_findings(case, classes)
    findings += bounds_findings(datalist, cases, classes)
    findings += split_findings(cases)
    findings += outlier_findings(cases)
    findings += coverage_findings(cases, classes)
    findings = without_consequences(findings)
    order = {name: index for index, name in enumerate(dict.fromkeys(case.case for case in cases))}

    def rank(finding: Finding) -> tuple[int, bool]:
        return -1 if finding.case is None else order.get(finding.case, -1), finding.severity == "warning"

    summary = summarise(cases, classes, datalist) | {"slice_axis": {"taken": slices.taken, "reason": slices.reason}}
    return CheckReport(tuple(sorted(findings, key=rank)), summary)
