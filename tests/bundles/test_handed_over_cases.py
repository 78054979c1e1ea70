"""Training on cases that no data list names: MONAI Label hands over images and masks of the network's classes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from sizeloss_monai.errors import DataError
from sizeloss_monai.phantoms import make_cine_phantom
from tests.support.bundle_runs import BUNDLES, CINE, SCRIBBLES, VOLUMES, make_workflow

CAVITY, MYOCARDIUM = 3, 2
KEYS = ("train#dataset#data", "validate#dataset#data")


def write_cases(folder: Path, bundle: str, number: int = 3, factor: int = 1) -> list[dict[str, str]]:
    """Images and masks, the ids of which are those of the classes times `factor`."""
    cases = []
    for seed in range(number):
        image, label = make_cine_phantom(seed, num_slices=5, matrix=(64, 64), spacing=(2.7, 2.7, 10.0))
        mask = (label == CAVITY) * 1
        if bundle == VOLUMES:
            mask = np.where(label == CAVITY, 2, (label == MYOCARDIUM) * 1)
        files = {key: folder / key / f"{seed}.nii.gz" for key in ("image", "label")}
        for key, array in (("image", image.astype(np.float32)), ("label", (mask * factor).astype(np.uint8))):
            files[key].parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([2.7, 2.7, 10.0, 1.0])), files[key])
        cases.append({key: str(file) for key, file in files.items()})
    return cases


def make(bundle: str, tiny: str, folder: Path, cases: list[dict[str, str]]) -> ConfigWorkflow:
    overrides: dict[str, Any] = dict(zip(KEYS, (cases[:2], cases[2:]), strict=True))
    return make_workflow(bundle, ["train.yaml", tiny], folder / "no_such_folder", folder / "run", **overrides)


@pytest.mark.parametrize("bundle", [bundle for bundle in BUNDLES if bundle != SCRIBBLES])
def test_every_class_is_learnt(bundle: str, tiny_of: dict[str, str], tmp_path: Path) -> None:
    cases = write_cases(tmp_path, bundle)
    workflow = make(bundle, tiny_of[bundle], tmp_path, cases)
    workflow.initialize()
    batches = list(workflow.parser.get_parsed_content("train#dataloader"))
    classes = set(range(3 if bundle == VOLUMES else 2))
    found = {
        k: {*torch.cat([batch[k].flatten() for batch in batches]).unique().tolist()} for k in ("label", "weak_label")
    }
    assert found["label"] == classes
    assert classes - {0} <= found["weak_label"] <= {*classes, 255}


def test_ids_that_are_no_classes_are_refused(tiny: str, tmp_path: Path) -> None:
    cases = write_cases(tmp_path, CINE, factor=CAVITY)
    workflow = make(CINE, tiny, tmp_path, cases)
    with pytest.raises(RuntimeError) as caught:
        workflow.initialize()
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, DataError):
        error = error.__cause__
    assert f"case '{cases[0]['image']}', key 'label': found ids 3, expected 0, 1" in str(error)
    assert not (tmp_path / "run").exists()


def test_each_run_gets_a_folder_of_its_own(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cases = write_cases(tmp_path, CINE)
    named = [{**case, "case": str(number)} for number, case in enumerate(cases)]
    for given, name in ((cases, "handed_over_2"), (named, "individual_bounds")):
        workflow = make(CINE, tiny, tmp_path, given)
        workflow.parser["output_dir"] = "$'runs/' + @experiment"
        with contextlib.suppress(RuntimeError):  # there is no data list
            workflow.initialize()
        assert workflow.parser.get_parsed_content("output_dir").startswith(f"runs/{name}")
