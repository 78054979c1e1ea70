import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.data import load_decathlon_datalist

from scripts.tools import make_phantoms
from sizeloss_monai.phantoms import (
    FOLDER_LABELS,
    PHANTOM_GROUPS,
    PHANTOM_LABELS,
    make_affine,
    make_cine_phantom,
    write_cine_phantoms,
    write_phantom_folder,
)

COARSE = {"matrix": (48, 48), "spacing": (3.6, 3.6, 10.0)}  # the usual field of view, quick to render
SPLITS = ("training", "validation", "test")


def cavity(label):
    return int((label == 3).sum())


def sitk_array_and_ras_affine(path):
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms") / "cine"
    path = write_cine_phantoms(root, num_patients=6, seed=3, suffixes=(".nii.gz", ".mhd"), with_scribbles=True)
    return root, json.loads(path.read_text())


class TestMakeCinePhantom:
    def test_is_a_function_of_the_seed(self):
        image, label = make_cine_phantom(5)
        again, label_again = make_cine_phantom(5)
        other, label_other = make_cine_phantom(6)
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(label, label_again)
        assert not np.array_equal(image, other)
        assert not np.array_equal(label, label_other)

    def test_sequences_of_seeds_are_distinct(self):
        images = [make_cine_phantom(s, matrix=(32, 32))[0] for s in (1, (1, 0), (0, 1), (1, 1))]
        assert len({image.tobytes() for image in images}) == 4

    @pytest.mark.parametrize(("matrix", "num_slices"), [((96, 96), 8), ((80, 112), 5)])
    def test_shapes_types_and_ids(self, matrix, num_slices):
        image, label = make_cine_phantom(1, "ES", num_slices, matrix)
        assert image.shape == label.shape == (*matrix, num_slices)
        assert image.dtype == np.float32
        assert label.dtype == np.uint8
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert set(np.unique(label)) == set(PHANTOM_LABELS)

    @pytest.mark.parametrize("group", PHANTOM_GROUPS)
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_contraction(self, group, seed):
        _, ed = make_cine_phantom(seed, "ED", group=group, **COARSE)
        _, es = make_cine_phantom(seed, "ES", group=group, **COARSE)
        assert 0 < cavity(es) < 0.85 * cavity(ed)
        assert (es == 1).sum() < (ed == 1).sum()
        # The muscle is the same, wrapped around a smaller cavity.
        assert (es == 2).sum() == pytest.approx((ed == 2).sum(), rel=0.15)

    def test_phases_share_the_patient(self):
        ed, es = (make_cine_phantom(4, phase, **COARSE)[1] for phase in ("ED", "ES"))
        np.testing.assert_array_equal((ed > 0).any((0, 1)), (es > 0).any((0, 1)))
        for z in np.flatnonzero((es == 3).any((0, 1))):
            centres = [np.argwhere(label[..., z] == 3).mean(0) for label in (ed, es)]
            np.testing.assert_allclose(*centres, atol=1.5)

    @pytest.mark.parametrize("seed", range(8))
    def test_empty_end_slices_and_a_heart_without_gaps(self, seed):
        _, label = make_cine_phantom(seed, **COARSE)
        present = np.flatnonzero((label > 0).any((0, 1)))
        assert label.shape[2] - len(present) in (1, 2)
        assert np.all(np.diff(present) == 1)
        areas = (label == 3).sum((0, 1))[present]
        assert areas[-1] < 0.5 * areas[0]  # shrinks to the apex

    def test_both_ends_may_be_empty(self):
        labels = [make_cine_phantom(seed, **COARSE)[1] for seed in range(12)]
        assert any(not label[..., 0].any() for label in labels)
        assert any(not label[..., -1].any() for label in labels)

    @pytest.mark.parametrize("group", PHANTOM_GROUPS)
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_right_ventricle_is_as_bright_as_the_left(self, group, seed):
        image, label = make_cine_phantom(seed, group=group, bias=0.0)
        rv, muscle, lv = (np.median(image[label == k]) for k in (1, 2, 3))
        assert rv == pytest.approx(lv, rel=0.1)
        assert muscle < 0.6 * lv

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_papillary_muscles_are_dark_and_belong_to_the_cavity(self, seed):
        spacing = (1.0, 1.0, 10.0)
        image, label = make_cine_phantom(
            seed, matrix=(160, 160), spacing=spacing, noise=0.0, bias=0.0, group="dilated", num_slices=10
        )
        z = 5
        blood = np.median(image[..., z][label[..., z] == 3])
        muscle = np.median(image[..., z][label[..., z] == 2])
        centre = np.argwhere(label[..., z] == 3).mean(0)
        i, j = np.nonzero(label[..., z] == 3)
        values = image[i, j, z]
        # Well inside the cavity, away from the partial volume of its border.
        reach = np.hypot(i - centre[0], j - centre[1])
        dark = values[reach < 0.8 * reach.max()] < 0.5 * (blood + muscle)
        assert 20 < dark.sum() < 0.3 * len(values)

    def test_noise_and_bias_act_on_the_image_alone(self):
        clean, label = make_cine_phantom(2, noise=0.0, bias=0.0)
        noisy, label_noisy = make_cine_phantom(2, noise=0.1, bias=0.0)
        shaded, _ = make_cine_phantom(2, noise=0.0, bias=0.3)
        np.testing.assert_array_equal(label, label_noisy)
        dark = clean <= np.quantile(clean, 0.05)
        assert noisy[dark].mean() > 2 * clean[dark].mean()  # Rician noise lifts the background
        ratio = np.log(shaded / clean)
        assert np.abs(ratio).max() == pytest.approx(0.3, rel=1e-3)

    @pytest.mark.parametrize(
        "kwargs",
        [
            {"phase": "systole"},
            {"group": "healthy"},
            {"num_slices": 3},
            {"matrix": (0, 96)},
            {"spacing": (1.8, -1.8, 10.0)},
            {"noise": -0.1},
            {"bias": -0.1},
        ],
    )
    def test_bad_arguments(self, kwargs):
        with pytest.raises(ValueError, match=next(iter(kwargs))):
            make_cine_phantom(0, **kwargs)


class TestMakeAffine:
    @pytest.mark.parametrize("flip", [(False, False, False), (True, False, False), (True, False, True)])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_orthogonal_with_the_spacing_and_handedness(self, seed, flip):
        spacing = (1.5, 1.7, 8.0)
        affine = make_affine(spacing, seed, flip=flip)
        gram = affine[:3, :3].T @ affine[:3, :3]
        np.testing.assert_allclose(gram, np.diag(np.square(spacing)), atol=1e-9)
        assert (np.linalg.det(affine[:3, :3]) < 0) == bool(sum(flip) % 2)
        straight = make_affine(spacing, seed, max_angle=0.0, flip=flip)
        assert nib.aff2axcodes(affine) == nib.aff2axcodes(straight)
        assert np.count_nonzero(np.abs(affine[:3, :3]) > 0.05) > 3  # oblique

    def test_turns_about_the_volume_centre(self):
        shape = (96, 112, 9)
        centre = [*((np.array(shape) - 1) / 2), 1.0]
        oblique, straight = (make_affine((1.8, 1.8, 8.0), 4, shape, angle) for angle in (35.0, 0.0))
        np.testing.assert_allclose(oblique @ centre, straight @ centre)

    @pytest.mark.parametrize("kwargs", [{"spacing": (1, 1)}, {"spacing": (1, 1, 0)}, {"max_angle": -1.0}])
    def test_bad_arguments(self, kwargs):
        with pytest.raises(ValueError, match=next(iter(kwargs))):
            make_affine(**{"spacing": (1, 1, 1), **kwargs})


class TestWriteCinePhantoms:
    def test_datalist(self, written):
        root, datalist = written
        assert datalist["labels"] == {str(k): v for k, v in PHANTOM_LABELS.items()}
        assert datalist["modality"] == {"0": "MRI"}
        assert datalist["seed"] == 3
        cases = [case for split in SPLITS for case in datalist[split]]
        assert len({case["case"] for case in cases}) == len(cases) == 12
        for case in cases:
            assert case["case"] == f"{case['patient']}_{case['phase']}"
            assert case["group"] in PHANTOM_GROUPS
            for key in ("image", "label", "weak_label"):
                assert (root / case[key]).is_file()
        loaded = load_decathlon_datalist(str(root / "datalist.json"), data_list_key="validation")
        assert Path(loaded[0]["image"]) == root / datalist["validation"][0]["image"]

    def test_split_is_by_patient(self, written):
        patients = [{case["patient"] for case in written[1][split]} for split in SPLITS]
        assert [len(p) for p in patients] == [4, 1, 1]
        assert len(set.union(*patients)) == 6
        assert [len(written[1][split]) for split in SPLITS] == [8, 2, 2]

    def test_readers_agree_on_array_and_oblique_geometry(self, written, tmp_path):
        root, datalist = written
        suffixes = set()
        for case in (case for split in SPLITS for case in datalist[split]):
            paths = [root / case[key] for key in ("image", "label", "weak_label")]
            suffixes.add("".join(paths[0].suffixes))
            (array, affine), *others = [sitk_array_and_ras_affine(path) for path in paths]
            assert array.dtype == np.int16
            assert np.abs(affine[:3, :3]).min() > 1e-3
            for other, other_affine in others:
                assert other.shape == array.shape
                np.testing.assert_allclose(other_affine, affine)
            if paths[0].name.endswith(".nii.gz"):
                nifti = nib.load(paths[0])
            else:  # through another format, written by SimpleITK, to nibabel
                sitk.WriteImage(sitk.ReadImage(str(paths[0])), str(tmp_path / "converted.nii.gz"))
                nifti = nib.load(tmp_path / "converted.nii.gz")
            np.testing.assert_array_equal(np.asarray(nifti.dataobj), array)
            np.testing.assert_allclose(nifti.affine, affine, atol=1e-4)
        assert suffixes == {".nii.gz", ".mhd"}

    def test_suffix_changes_neither_array_nor_affine(self, tmp_path):
        for suffix in (".nii.gz", ".mhd"):
            write_cine_phantoms(tmp_path / suffix[1:4], 1, seed=8, suffixes=(suffix,), splits=(1, 0, 0))
        assert (tmp_path / "mhd" / "patient001_ED.zraw").is_file()
        nifti = nib.load(tmp_path / "nii" / "patient001_ED.nii.gz")
        array, affine = sitk_array_and_ras_affine(tmp_path / "mhd" / "patient001_ED.mhd")
        np.testing.assert_array_equal(np.asarray(nifti.dataobj), array)
        np.testing.assert_allclose(nifti.affine, affine, atol=1e-4)

    def test_same_bytes_for_the_same_seed(self, tmp_path):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            write_cine_phantoms(tmp_path / name, 2, seed=seed, splits=(0.5, 0.5, 0))
        files = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert len(files) == 2 * 2 * 2 + 1
        assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
        assert any((tmp_path / "a" / f).read_bytes() != (tmp_path / "c" / f).read_bytes() for f in files)

    def test_patients_differ_in_grid(self, tmp_path):
        write_cine_phantoms(tmp_path, 5)
        images = [nib.load(path) for path in sorted(tmp_path.glob("*_ED.nii.gz"))]
        assert len({image.shape for image in images}) > 1
        assert len({tuple(np.round(image.header.get_zooms(), 3)) for image in images}) > 1
        for image in images:
            es = nib.load(image.get_filename().replace("_ED", "_ES_gt"))
            np.testing.assert_array_equal(image.affine, es.affine)
            assert image.shape == es.shape

    def test_scribbles_are_sparse_and_true(self, written):
        root, datalist = written
        for case in datalist["training"]:
            label, scribble = (sitk_array_and_ras_affine(root / case[key])[0] for key in ("label", "weak_label"))
            drawn = scribble != 255
            np.testing.assert_array_equal(scribble[drawn], label[drawn])
            assert 0.005 < drawn.mean() < 0.03
            for z in range(label.shape[2]):
                assert set(np.unique(scribble[..., z])) - {255} == set(np.unique(label[..., z]))

    def test_refuses_to_overwrite(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(FileExistsError, match="overwrite"):
            write_cine_phantoms(tmp_path, 2, splits=(0.5, 0.5, 0))
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
        with pytest.raises(NotADirectoryError):
            write_cine_phantoms(tmp_path / "notes.txt", 2, splits=(0.5, 0.5, 0))

    def test_overwriting_leaves_no_stale_phantoms_and_keeps_other_files(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        write_cine_phantoms(tmp_path, 2, suffixes=(".mhd",), splits=(0.5, 0.5, 0), overwrite=True)
        write_cine_phantoms(tmp_path, 1, splits=(1, 0, 0), overwrite=True)
        names = {path.name for path in tmp_path.iterdir()}
        volumes = {f"patient001_{phase}{kind}.nii.gz" for phase in ("ED", "ES") for kind in ("", "_gt")}
        assert names == volumes | {"notes.txt", "datalist.json"}

    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [
            ({"num_patients": 0}, "num_patients"),
            ({"suffixes": (".nrrd",)}, "suffixes"),
            ({"suffixes": ".mhd"}, "suffixes"),
            ({"splits": (0.5, 0.2)}, "splits"),
            ({"splits": (0.5, 0.2, 0.2)}, "splits"),
            ({"num_patients": 2}, "training"),
        ],
    )
    def test_bad_arguments_write_nothing(self, tmp_path, kwargs, match):
        with pytest.raises(ValueError, match=match):
            write_cine_phantoms(tmp_path / "out", **kwargs)
        assert not (tmp_path / "out").exists()


class TestFolder:
    def test_is_what_annotation_programs_leave(self, tmp_path):
        root = write_phantom_folder(tmp_path / "own", num_patients=2, num_masks=1, seed=1)
        listed = json.loads(write_cine_phantoms(tmp_path / "list", 3, seed=1, with_scribbles=True).read_text())
        cases = {f"patient{i:03d}_{phase}": i for i in (1, 2) for phase in ("ED", "ES")}
        of_patient_1 = {f"{case}.nii.gz" for case, patient in cases.items() if patient == 1}
        assert {path.name for path in (root / "labels").iterdir()} == of_patient_1
        for section in SPLITS:
            for item in listed[section]:
                if item["case"] in cases:
                    name = f"{item['case']}.nii.gz"
                    pairs = {"images": "image", "weak_labels": "weak_label", "labels": "label"}
                    own = {key: nib.load(root / key / name) for key in pairs if (root / key / name).exists()}
                    other = {key: nib.load(tmp_path / "list" / item[pairs[key]]) for key in own}
                    for key in own:
                        np.testing.assert_array_equal(own[key].affine, other[key].affine)
                    arrays = {key: np.asarray(volume.dataobj) for key, volume in own.items()}
                    expected = {key: np.asarray(volume.dataobj) for key, volume in other.items()}
                    for key in arrays.keys() - {"weak_labels"}:
                        np.testing.assert_array_equal(arrays[key], expected[key])
                    ids = np.choose(np.minimum(expected["weak_labels"], 4), [4, 1, 2, 3, 0])
                    np.testing.assert_array_equal(arrays["weak_labels"], ids)
        new, third = nib.load(root / "new_scan.nii.gz"), nib.load(tmp_path / "list" / "patient003_ED.nii.gz")
        np.testing.assert_array_equal(np.asarray(new.dataobj), np.asarray(third.dataobj))
        assert FOLDER_LABELS == {1: "right ventricle", 2: "myocardium", 3: "left ventricle cavity", 4: "background"}

    def test_refuses_what_it_cannot_write(self, tmp_path):
        for numbers in ({"num_patients": 0}, {"num_patients": 1, "num_masks": 2}):
            with pytest.raises(ValueError, match="num_patients must be >= 1"):
                write_phantom_folder(tmp_path / "out", **numbers)
        assert not (tmp_path / "out").exists()
        (tmp_path / "notes.txt").write_text("mine")
        for path in (tmp_path, tmp_path / "notes.txt"):
            with pytest.raises(FileExistsError, match="must be absent or empty"):
                write_phantom_folder(path)


class TestScript:
    @pytest.mark.parametrize(
        "options", [["--layout", "folder", "--scribbles"], ["--layout", "folder", "--overwrite"], ["--masks", "1"]]
    )
    def test_options_of_the_other_layout(self, tmp_path, options):
        with pytest.raises(SystemExit, match="2"):
            make_phantoms.main(["--output_dir", str(tmp_path / "out"), *options])
        assert not (tmp_path / "out").exists()

    def test_writes_and_refuses(self, tmp_path, capsys):
        command = ["--output_dir", str(tmp_path / "out"), "--patients", "3", "--seed", "1", "--suffix", ".mhd"]
        make_phantoms.main(command)
        assert "datalist.json" in capsys.readouterr().out
        assert len(list((tmp_path / "out").glob("*.mhd"))) == 12
        with pytest.raises(SystemExit, match="2"):
            make_phantoms.main(command)
        assert "must be empty" in capsys.readouterr().err
        make_phantoms.main([*command, "--overwrite"])
