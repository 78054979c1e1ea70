"""Each wrong input: one clear error that names the case and the key, before the first epoch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from sizeloss_monai.bundle import ConfigError
from sizeloss_monai.errors import DataError
from tests.support import ROOT
from tests.support.bundle_runs import BUNDLE, Run, root_of

TRAIN = f"{BUNDLE}/train.yaml"


@pytest.fixture
def broken(phantoms: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to be broken."""
    return Path(shutil.copytree(phantoms, tmp_path / "data"))


def first_training_item(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "datalist.json").read_text())["training"][0]


def initialize(tiny: str, folder: Path, output: Path, *overlays: str, **overrides: Any) -> BaseException:
    """The error at the root of what stops the workflow in its first step."""
    workflow = ConfigWorkflow(
        config_file=[
            str(ROOT / TRAIN),
            tiny,
            *(str(ROOT / "configs" / "supervision" / overlay) for overlay in overlays),
        ],
        meta_file=str(ROOT / BUNDLE / "metadata.json"),
        logging_file=False,
        dataset_dir=str(folder),
        output_dir=str(output),
        **overrides,
    )
    with pytest.raises(Exception) as caught:  # noqa: PT011
        workflow.initialize()
    assert not output.exists(), "something was written before the input was known to be good"
    return root_of(caught.value)


def rewrite(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    volume = nib.load(path)
    data, affine = change(np.asarray(volume.dataobj), volume.affine.copy())
    nib.save(nib.Nifti1Image(data, affine), path)


def with_nan(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    data = data.astype(np.float32)
    data[3, 3, 1] = np.nan
    return data, affine


def with_unknown_id(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    data = data.copy()
    data[3, 3, 1] = 7
    return data, affine


def cropped(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return data[:-2], affine


def moved(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[0, 3] += 5
    return data, affine


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("image", with_nan, ["1 NaN"]),
        ("label", with_unknown_id, ["7"]),
        ("label", cropped, ["shape"]),
        ("label", moved, ["mm away from those of"]),
    ],
)
def test_broken_volume(
    broken: Path, tiny: str, tmp_path: Path, key: str, change: Callable[..., Any], words: list[str]
) -> None:
    item = first_training_item(broken)
    rewrite(broken / item[key], change)
    error = initialize(tiny, broken, tmp_path / "run")
    assert isinstance(error, DataError)
    for word in [f"case '{item['case']}'", f"key '{key}'", "expected", *words]:
        assert word in str(error)


def test_truncated_file(broken: Path, tiny: str, tmp_path: Path) -> None:
    item = first_training_item(broken)
    file = broken / item["image"]
    file.write_bytes(file.read_bytes()[:-2000])
    error = initialize(tiny, broken, tmp_path / "run")
    assert isinstance(error, DataError)
    assert f"case '{item['case']}', key 'image'" in str(error)


def test_missing_file(broken: Path, tiny: str, tmp_path: Path) -> None:
    item = first_training_item(broken)
    (broken / item["label"]).unlink()
    error = initialize(tiny, broken, tmp_path / "run")
    assert isinstance(error, DataError)
    assert item["case"] in str(error)
    assert "label" in str(error)


def test_empty_folder(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert isinstance(initialize(tiny, tmp_path / "empty", tmp_path / "run"), DataError)


def test_inverted_bounds(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    bounds = [[0, 1e9], [2000, 60]]
    error = initialize(
        tiny, phantoms, tmp_path / "run", **{"supervision#bounds": "common", "supervision#common_bounds": bounds}
    )
    assert isinstance(error, DataError)
    assert "common_bounds" in str(error)
    assert "2000" in str(error)


@pytest.mark.parametrize(
    ("override", "meant"),
    [({"epoch": 1}, "epochs"), ({"train#data_set": 1}, "train::dataset"), ({"resum": True}, "resume")],
)
def test_misspelt_override(phantoms: Path, tiny: str, tmp_path: Path, override: dict[str, Any], meant: str) -> None:
    error = initialize(tiny, phantoms, tmp_path / "run", **override)
    assert isinstance(error, ConfigError)
    assert f"did you mean '{meant}'" in str(error)


def test_unknown_unit(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    error = initialize(tiny, phantoms, tmp_path / "run", unit="cm")
    assert isinstance(error, ConfigError)
    assert "unit must be voxels, mm2 or mL, got 'cm'" in str(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overlay", ["full.yaml", "partial_ce.yaml", "lagrangian.yaml"])
def test_a_weight_of_what_the_loss_does_not_have(phantoms: Path, tiny: str, tmp_path: Path, overlay: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        monai.bundle.run(
            config_file=[str(ROOT / TRAIN), tiny, str(ROOT / "configs" / "supervision" / overlay)],
            meta_file=str(ROOT / BUNDLE / "metadata.json"),
            logging_file=False,
            dataset_dir=str(phantoms),
            output_dir=str(tmp_path / "run"),
            size_weight=0.1,
        )
    error = root_of(caught.value)
    assert isinstance(error, ConfigError)
    assert "found a value for 'size_weight'" in str(error)
    assert not (tmp_path / "run").exists()


def test_a_switch_given_as_text(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    error = initialize(tiny, phantoms, tmp_path / "run", resume="false")
    assert isinstance(error, ConfigError)
    assert "'resume', expected True or False" in str(error)


def test_a_class_the_network_does_not_have(phantoms: Path, tiny: str, tmp_path: Path) -> None:
    error = initialize(tiny, phantoms, tmp_path / "run", target_ids=[0, 1, 2, 3])
    assert isinstance(error, ConfigError)
    assert "target_ids must lie in 0..1" in str(error)


def test_the_command_line_ends_with_the_message_alone(
    tiny: str, run_bundle: Run, phantoms: Path, tmp_path: Path
) -> None:
    result = run_bundle(TRAIN, tiny, dataset_dir=phantoms, output_dir=tmp_path / "run", epoch=1)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "did you mean 'epochs'" in result.stderr


def test_inference_refuses_an_empty_folder(run_bundle: Run, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    result = run_bundle(f"{BUNDLE}/inference.yaml", dataset_dir=tmp_path / "scans", output_dir=tmp_path / "masks")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("DataError: key 'image'")
    assert not (tmp_path / "masks").exists()
