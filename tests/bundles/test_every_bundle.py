"""What every bundle has in common: metadata, MONAI's properties, clear errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pydoc import locate
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, verify_net_in_out
from monai.transforms import ResizeWithPadOrCrop
from packaging.requirements import Requirement

from tests.support import ROOT
from tests.support.bundle_runs import BUNDLE, BUNDLES, make_workflow, root_of


def untrained(bundle: str, folder: Path) -> str:
    """A file of weights that fit the bundle's network."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / bundle / "configs" / "inference.yaml"))
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "untrained.pt")
    return str(folder / "untrained.pt")


every_bundle = pytest.mark.parametrize("bundle", BUNDLES)


@every_bundle
def test_a_bundle_is_complete(bundle: str) -> None:
    folder = ROOT / "bundles" / bundle
    configs = ("train", "evaluate", "inference", "multi_gpu_train")
    files = [*(f"configs/{name}.yaml" for name in configs), "configs/logging.conf", "configs/metadata.json"]
    for file in (*files, "docs/README.md", "docs/data_license.txt", "LICENSE"):
        text = (folder / file).read_text(encoding="utf-8")
        assert text.strip()
        assert "<task>" not in text
        if file.endswith(".yaml"):
            yaml.safe_load(text)
    assert "<dataset_dir>" not in (folder / "docs" / "README.md").read_text(encoding="utf-8")
    # MONAI Label and the Deploy SDK go by the name
    assert bundle.endswith("_segmentation")


@pytest.mark.parametrize("folder", [*(f"bundles/{bundle}/configs" for bundle in BUNDLES), "configs"])
def test_what_configs_name_can_be_called(folder: str) -> None:
    # of a name that is a module, and no function any more, MONAI makes the module
    files = sorted((ROOT / folder).rglob("*.yaml"))
    assert files
    for file in files:
        for name in set(re.findall(r"_target_: (sizeloss_monai[\w.]+)", file.read_text(encoding="utf-8"))):
            assert callable(locate(name)), f"{file.name}: {name}"


@every_bundle
@pytest.mark.parametrize("options", [{}, {"n": 4}])
def test_network_matches_the_metadata(bundle: str, options: dict[str, int]) -> None:
    configs = ROOT / "bundles" / bundle / "configs"
    verify_net_in_out(
        "network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.yaml"),
        **options,
    )


@every_bundle
def test_metadata_follows_the_schema(bundle: str) -> None:
    schema = ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("no copy of MONAI's metadata schema: it is downloaded by `monai.bundle verify_metadata`")
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text())
    jsonschema.validate(metadata, json.loads(schema.read_text()))


def test_metadata_names_the_tested_versions() -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    versions = {
        requirement.name.lower(): str(requirement.specifier)[2:]
        for requirement in map(Requirement, filter(None, lines))
    }
    metadata = json.loads((ROOT / BUNDLE / "metadata.json").read_text())
    named = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    named |= metadata["required_packages_version"]
    for name, version in named.items():
        if name != "sizeloss-monai":
            assert versions[name.lower()] == version, name


@every_bundle
@pytest.mark.parametrize(("file", "workflow_type"), [("train.yaml", "train"), ("inference.yaml", "infer")])
def test_workflow_has_monais_properties(
    data: dict[str, Path], tmp_path: Path, bundle: str, file: str, workflow_type: str
) -> None:
    # a folder of scans
    scans = next(
        path.parent for path in sorted(data[bundle].rglob("*")) if path.name.endswith((".nii.gz", ".nii", ".mhd"))
    )
    folder, options = (
        (data[bundle], {}) if workflow_type == "train" else (scans, {"checkpoint": untrained(bundle, tmp_path)})
    )
    workflow = make_workflow(bundle, [file], folder, tmp_path / "run", workflow_type, **options)
    workflow.initialize()
    assert workflow.check_properties() == []


@every_bundle
@pytest.mark.parametrize("file", ["train.yaml", "inference.yaml"])
@pytest.mark.parametrize(
    ("make", "override", "words"),
    [
        (Path.mkdir, {"output_dri": "x"}, "did you mean 'output_dir'"),
        (Path.mkdir, {}, "empty|no scan"),
        (lambda path: None, {}, "not a folder|nothing"),
    ],
)
def test_wrong_input_is_one_clear_error(
    tmp_path: Path, bundle: str, file: str, make: Any, override: dict[str, Any], words: str
) -> None:
    make(tmp_path / "data")
    options = {"checkpoint": untrained(bundle, tmp_path)} if file == "inference.yaml" else {}
    workflow = make_workflow(bundle, [file], tmp_path / "data", tmp_path / "run", **options, **override)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        workflow.initialize()
    error = root_of(caught.value)
    assert type(error).__name__ in ("ConfigError", "DataError")
    assert any(word in str(error) for word in words.split("|"))
    assert not (tmp_path / "run").exists()


@every_bundle
def test_training_and_inference_see_the_same_image(
    data: dict[str, Path], tiny_of: dict[str, str], tmp_path: Path, bundle: str
) -> None:
    training = make_workflow(bundle, ["train.yaml", tiny_of[bundle]], data[bundle], tmp_path / "run")
    training.initialize()
    item = training.parser.get_parsed_content("validate#dataset#data")[0]
    seen = training.parser.get_parsed_content("validate#preprocessing")(item)["image"]
    (tmp_path / "model.pt").touch()
    inference = make_workflow(
        bundle, ["inference.yaml", tiny_of[bundle]], Path(item["image"]), tmp_path / "masks", "infer",
        checkpoint=str(tmp_path / "model.pt"),
    )  # fmt: skip
    given = inference.parser.get_parsed_content("preprocessing")({"image": item["image"]})["image"]
    assert seen.std() > 0
    np.testing.assert_array_equal(ResizeWithPadOrCrop(seen.shape[1:])(given).numpy(), seen.numpy())
