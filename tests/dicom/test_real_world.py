"""Headers and folders as hospitals and anonymisers leave them: a valid segmentation, or one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import NuclearMedicineImageStorage, SecondaryCaptureImageStorage

from sizeloss_monai.dicom import (
    SegmentDescription,
    SegmentedPhase,
    decode_volume,
    find_instances,
    make_segmentation,
    pick_series,
    read_instances,
    split_phases,
    unused_files,
)
from sizeloss_monai.errors import DataError
from tests.support.dicom_series import some_pixels, strip_preamble, write_series

ARRAY = some_pixels(5, 12, 10)
MASK = (np.arange(600).reshape(10, 12, 5) % 3 == 0).astype(np.uint8)
SEGMENTS = {
    1: SegmentDescription("Höhle", ("91723000", "SCT", "Anatomical Structure"), ("87878005", "SCT", "Left ventricle"))
}
Change = Callable[[Dataset, int], Any]


def raw(**values: bytes) -> Change:
    """Elements with these bytes, as a scanner or an anonymiser may have written them."""

    def change(instance: Dataset, number: int) -> None:
        for keyword, value in values.items():
            tag = Tag(tag_for_keyword(keyword))
            value += b" " * (len(value) % 2)
            instance._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True, True)

    return change


def each(keyword: str, *values: bytes) -> Change:
    """Another writing in each slice."""
    return lambda instance, number: raw(**{keyword: values[number % len(values)]})(instance, number)


def without(*keywords: str, numbers: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Change:
    def change(instance: Dataset, number: int) -> None:
        for keyword in keywords if number in numbers else ():
            if keyword in instance:
                delattr(instance, keyword)

    return change


def setting(**values: Any) -> Change:
    return lambda instance, number: [setattr(instance, keyword, value) for keyword, value in values.items()]


def make(folder: Path, change: Change | None = None) -> Path:
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(folder, ARRAY, change)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{number}.dcm")
    return folder


def segment(folder: Path, saved: Path) -> hd.seg.Segmentation:
    """Segment a series with a given mask, and read back what was saved, on the grid of the series."""
    (phase,) = split_phases(pick_series(read_instances(folder)), "MR")
    image = decode_volume(phase)
    np.testing.assert_array_equal(np.asarray(image).T, ARRAY)
    segmentation = make_segmentation(phase, MASK, SEGMENTS, "model", "1.0", "ab" * 32, "model: PASS")
    SegmentedPhase(segmentation, {}, image).save(saved)
    with disable_value_validation():
        read = hd.seg.segread(saved)
        volume = read.get_volume(combine_segments=True)
    ids = np.argwhere(np.ones_like(volume.array))  # slice, row, column
    there = (ids @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * [-1, -1, 1]  # LPS to RAS
    affine = np.asarray(image.affine)
    voxels = (there - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    np.testing.assert_allclose(voxels, np.rint(voxels), atol=0.02)
    np.testing.assert_array_equal(volume.array[tuple(ids.T)], MASK[tuple(np.rint(voxels).astype(int).T)])
    return read


def errors_of(path: Path) -> list[str]:
    """What dciodvfy finds; nothing where it is not installed."""
    if shutil.which("dciodvfy") is None:
        return []
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, check=False)
    said = (done.stderr + done.stdout).decode(errors="replace")
    assert "Segmentation" in said
    return [line for line in said.splitlines() if line.startswith("Error")]


TYPE_2 = (
    *("StudyID", "AccessionNumber", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
OTHERS = (
    *("SeriesNumber", "FrameOfReferenceUID", "SliceThickness", "Manufacturer", "PositionReferenceIndicator"),
    *("InstanceNumber", "TriggerTime", "SpecificCharacterSet", "StudyDescription"),
)
USABLE: dict[str, Change] = {
    **{f"no {keyword}": without(keyword) for keyword in (*TYPE_2, *OTHERS)},
    "nothing optional": without(*TYPE_2, *OTHERS),
    "all empty": setting(**dict.fromkeys((*TYPE_2, *OTHERS))),
    "some slices lack the patient": without("PatientID", "PatientName", "StudyID", numbers=(0, 3)),
    "spacing": each("PixelSpacing", b"1.5\\1.25", b"1.50\\1.250", b"1.5E0\\125e-2", b"+1.5\\1.25", b"1.50001\\1.25"),
    "orientation": each(
        "ImageOrientationPatient",
        b"0.6\\0.8\\0\\0\\0\\-1",
        b"0.60\\0.80\\0.0\\0\\0\\-1.0",
        b"6E-1\\.8\\0\\0\\-0\\-1",
        b"0.599998\\0.800001\\0\\0\\0\\-1",
        b"0.6003\\0.7998\\0.004\\0\\0\\-1",
    ),
    "thickness of zero": setting(SliceThickness=0),
    "thickness with its unit": raw(SliceThickness=b"8 mm"),
    "spacing between slices that is wrong": setting(SpacingBetweenSlices=2),
    **{
        f"spacing between slices of {text}": raw(SpacingBetweenSlices=text.encode())
        for text in ("0", "0.0000", "-8", "1e-9", "nan", "x", "")
    },
    "age, weight and size": raw(PatientAge=b"45", PatientWeight=b"80 kg", PatientSize=b"1.7500000000000000001"),
    "dates": raw(StudyDate=b"2012.01.02", StudyTime=b"10:11:12", PatientBirthDate=b"1970-01-02"),
    "ranges of dates": raw(StudyDate=b"20120101-20120102", StudyTime=b"101112-", PatientBirthDate=b"00000000"),
    "several values": raw(PatientName=b"A^B\\C^D", StudyTime=b"1011\\1012", PatientID=b"A\\B", SeriesNumber=b"3\\4"),
    "sex": raw(PatientSex=b"female"),
    "no number": raw(SeriesNumber=b"x", InstanceNumber=b"x", NumberOfFrames=b"x", TriggerTime=b"x"),
    "largest number": raw(SeriesNumber=b"2147483647"),
    "negative number": raw(SeriesNumber=b"-4"),
    "name of four groups": raw(PatientName=b"A=B=C=D"),
    "secondary capture": setting(SOPClassUID=SecondaryCaptureImageStorage),
}


@pytest.mark.parametrize("name", USABLE)
def test_valid_segmentation(tmp_path, name):
    segmentation = segment(make(tmp_path / "series", USABLE[name]), tmp_path / "seg.dcm")
    assert errors_of(tmp_path / "seg.dcm") == []
    assert set(TYPE_2) <= set(segmentation.dir())
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices, measures.PixelSpacing) == (8, 8, [1.5, 1.25])


def test_thickness_comes_from_positions(tmp_path):
    def change(instance, number):
        del instance.SliceThickness
        instance.ImagePositionPatient = [1, 2, 3 + 2.5 * number]
        instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]

    segmentation = segment(make(tmp_path / "series", change), tmp_path / "seg.dcm")
    assert segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5


def test_what_one_slice_lacks_comes_from_another(tmp_path):
    folder = make(tmp_path / "series", without("PatientID", "StudyID", "FrameOfReferenceUID", numbers=(0, 1, 2)))
    segmentation = segment(folder, tmp_path / "seg.dcm")
    (frame,) = {i.header.FrameOfReferenceUID for i in read_instances(folder) if "FrameOfReferenceUID" in i.header}
    assert (segmentation.PatientID, segmentation.StudyID) == ("secret-7", "1")
    assert segmentation.FrameOfReferenceUID == frame


JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
KOREAN = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"
TEXTS = {
    "Japanese": (rb"\ISO 2022 IR 87", JAPANESE, "Yamada^Tarou=山田^太郎"),
    "Japanese, half-width": (
        rb"ISO 2022 IR 13\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    ),
    "without its backslash": (b"ISO 2022 IR 87", JAPANESE, "Yamada^Tarou=山田^太郎"),
    "Korean": (rb"\ISO 2022 IR 149", KOREAN, "Hong^Gildong=洪^吉洞"),
    "Chinese": (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    "alone, with another": (rb"GBK\ISO_IR 100", "Wang=王".encode("gbk"), "Wang=王"),
    "UTF-8": (b"ISO_IR 192", "Müller^Jörg".encode(), "Müller^Jörg"),
    "Latin": (b"ISO_IR 100", "Müller^Jörg".encode("latin1"), "Müller^Jörg"),
    "Latin, not said": (b"", "Müller^Jörg".encode("latin1"), "Müller^Jörg"),
    "Latin, misspelt": (b"ISO IR 100", "Müller^Jörg".encode("latin1"), "Müller^Jörg"),
    "Latin, Python's name": (b"iso-8859-1", "Müller^Jörg".encode("latin1"), "Müller^Jörg"),
    "extension alone": (b"ISO 2022 IR 100", "Müller^Jörg".encode("latin1"), "Müller^Jörg"),
    "Cyrillic": (b"ISO_IR 144", "Люксембург".encode("iso8859_5"), "Люксембург"),
    "unknown": (b"KLINGON", b"Doe^Jane", "Doe^Jane"),
    "a codec that is not of text": (rb"hex\rot13", b"Doe^Jane", "Doe^Jane"),
    "unknown beside a known one": (rb"ISO 2022 IR 6\ISO 2022 IR 999", b"Doe^Jane", "Doe^Jane"),
    "bytes": (b"\xff\xfe\x80\0", b"Doe^Jane", "Doe^Jane"),
}


def element(tag: bytes, value: bytes) -> bytes:
    """An element as it stands in an explicit little endian file, `tag` with its value representation."""
    value += b" " * (len(value) % 2)
    return tag + len(value).to_bytes(2, "little") + value


@pytest.mark.parametrize("name", TEXTS)
def test_character_sets(tmp_path, name):
    """The bytes go into the finished files: a library would write them as it takes them."""
    charset, written, expected = TEXTS[name]
    folder = make(tmp_path / "series", setting(SpecificCharacterSet="ISO_IR 6"))
    for path in folder.iterdir():
        data = path.read_bytes()
        for tag, old, new in ((b"\x08\0\x05\0CS", b"ISO_IR 6", charset), (b"\x10\0\x10\0PN", b"Doe^Jane", written)):
            assert data.count(element(tag, old)) == 1
            data = data.replace(element(tag, old), element(tag, new))
        path.write_bytes(data)
    segmentation = segment(folder, tmp_path / "seg.dcm")
    assert str(segmentation.PatientName).strip() == expected
    assert segmentation.SegmentSequence[0].SegmentLabel == "Höhle"
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName).strip() == expected
    assert errors_of(tmp_path / "seg.dcm") == []


def test_texts_in_sequences_have_their_own_character_set(tmp_path):
    def change(instance, number):
        code = Dataset()
        raw(SpecificCharacterSet=b"ISO_IR 100", CodeMeaning="Größe".encode("latin1"))(code, 0)
        code.CodeValue, code.CodingSchemeDesignator = "1", "99X"
        instance.ProcedureCodeSequence = [code]
        raw(SpecificCharacterSet=b"ISO_IR 144", StudyDescription="Люкс".encode("iso8859_5"))(instance, number)

    segmentation = segment(make(tmp_path / "series", change), tmp_path / "seg.dcm")
    assert segmentation.StudyDescription == "Люкс"
    assert segmentation.ProcedureCodeSequence[0].CodeMeaning == "Größe"
    assert errors_of(tmp_path / "seg.dcm") == []


REFUSED = {
    "study": (without("StudyInstanceUID"), "found no Study Instance UID"),
    "series": (without("SeriesInstanceUID"), "found no Series Instance UID"),
    "study of one": (without("StudyInstanceUID", numbers=(2,)), "found no Study Instance UID"),
    "series of one": (without("SeriesInstanceUID", numbers=(2,)), "found no Series Instance UID"),
    "empty study": (setting(StudyInstanceUID=""), "found no Study Instance UID"),
    "several studies": (raw(StudyInstanceUID=rb"1.2\1.3"), "found no Study Instance UID"),
    "two studies": (each("StudyInstanceUID", b"1.2", b"1.3"), "StudyInstanceUID 2 different values, expected one"),
    "class": (without("SOPClassUID"), "found no SOP Class UID"),
    "unknown class": (setting(SOPClassUID="1.3.46.670589.11.0.0.12.1"), "SOP class 1.3.46.670589.11.0.0.12.1"),
    "class of several frames": (setting(SOPClassUID=NuclearMedicineImageStorage), "SOP class Nuclear Medicine Image"),
    "modality": (without("Modality"), "found modality not given, expected modality MR"),
    "spacing": (each("PixelSpacing", rb"1.5\1.25", rb"1.6\1.25"), r"found PixelSpacing 1\.. 1\.25 and 1\.. 1\.25, exp"),
    "comma": (raw(PixelSpacing=rb"1,5\1,25"), "found no usable PixelSpacing in .*, expected 2 numbers"),
    "position": (each("ImagePositionPatient", rb"1\2"), "found ImagePositionPatient .*, expected 3 numbers"),
    "position that is not finite": (each("ImagePositionPatient", rb"nan\1\2"), "expected 3 numbers"),
    "turned by two degrees": (
        each("ImageOrientationPatient", rb"0.6\0.8\0\0\0\-1", rb"0.57\0.82\0\0\0\-1"),
        "slices that are not parallel",
    ),
    "absurd size": (setting(Rows=65535, Columns=65535), "claims 8589672450 bytes for one slice"),
    "scale": (raw(RescaleSlope=b"1,5", RescaleIntercept=b"0"), "a RescaleSlope that is not a number"),
    "two sizes": (lambda instance, number: setattr(instance, "Rows", 12 - number % 2), "Rows 12 and 11, expected one"),
    "modality of one": (each("Modality", b"MR", b"PR"), "found modality PR, expected modality MR"),
    "value of several lines": (raw(Modality=b"M\nR"), r"found modality M\?R, expected modality MR"),
    "no size": (without("Rows"), "no usable number of rows, columns or bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_line(tmp_path, name):
    change, message = REFUSED[name]
    with pytest.raises(DataError, match=f"^key 'image'.*{message}") as err:
        split_phases(pick_series(read_instances(make(tmp_path / "series", change))), "MR")
    assert "\n" not in str(err.value)
    assert not re.search("Doe|secret-7", str(err.value))


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("name", ["4.dcm", "IM0004"])
def test_file_without_preamble_is_read(tmp_path, implicit, name):
    folder = make(tmp_path / "series")
    strip_preamble(folder / "4.dcm", implicit)
    (folder / "4.dcm").rename(folder / name)
    segment(folder, tmp_path / "seg.dcm")
    assert errors_of(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("name", ["4.dcm", "IM0004", "1.2.3.4"])
@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.3, 0.6, 0.9, 0.99])
def test_cut_file_is_never_left_out(tmp_path, share, name, preamble):
    folder = make(tmp_path / "series")
    if not preamble:
        strip_preamble(folder / "4.dcm")
    data = (folder / "4.dcm").read_bytes()
    (folder / "4.dcm").unlink()
    (folder / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=re.escape(f"'{name}'")):
        split_phases(pick_series(read_instances(folder)), "MR")


def test_every_other_file_is_named(tmp_path):
    folder = make(tmp_path / "series")
    others = {
        "DICOMDIR": b"x",
        "notes.txt": b"hi",
        "README": "Größe".encode(),
        "picture.jpg": b"\xff\xd8\xff\xe0abc",
        "picture": b"\xff\xd8\xff\xe0abc",
        "._0.dcm": b"\0\5\26\7" + b"\0" * 60,
        ".DS_Store": b"\0\0\0\1Bud1",
        "empty.txt": b"",
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
    }
    for name, data in others.items():
        (folder / name).write_bytes(data)
    (folder / "gone.txt").symlink_to("nowhere.txt")
    os.mkfifo(folder / "pipe.txt")
    shutil.copy(folder / "0.dcm", folder / "0_copy.dcm")
    write_series(tmp_path / "series" / "other", ARRAY, seed="other", skip=(1, 2, 3, 4))
    contents = find_instances(folder)
    assert len(contents.instances) == 6
    uid = next(i.header.SeriesInstanceUID for i in contents.instances if i.path.parent == folder)
    reasons = {file.path.name: file.reason for file in unused_files(contents, pick_series(contents.instances, uid))}
    assert reasons.pop("0_copy.dcm") == "the same instance as '0.dcm'"
    assert reasons.pop("gone.txt") == "a link to nothing, 'nowhere.txt'"
    assert reasons.pop("pipe.txt") == "something that is not a regular file"
    (other,) = (folder / "other").iterdir()
    assert reasons.pop(other.name) == "an image of another series"
    assert set(reasons) == set(others)
    assert (reasons["picture"], reasons["README"]) == ("a JPEG picture", "a text")


def test_all_files_that_cannot_be_read_are_in_one_line(tmp_path):
    folder = make(tmp_path / "series")
    (folder / "3.dcm").write_bytes(b"")
    (folder / "4.dcm").unlink()
    (folder / "4.dcm").symlink_to("annexed/4.dcm")
    (folder / "picture.dcm").write_bytes(b"\xff\xd8\xff\xe0abc")
    with pytest.raises(DataError) as err:
        find_instances(folder)
    assert str(err.value) == (
        "key 'image', file '3.dcm': found an empty file, expected a whole DICOM file: the series may be incomplete. "
        "The same holds for '4.dcm' (a link to nothing, 'annexed/4.dcm'), 'picture.dcm' (a JPEG picture)."
    )


def test_linked_folders_are_read_once(tmp_path):
    folder, real = make(tmp_path / "series"), tmp_path / "real"
    (real / "deep").mkdir(parents=True)
    (folder / "0.dcm").rename(real / "0.dcm")
    (folder / "1.dcm").rename(real / "deep" / "1.dcm")
    (folder / "linked").symlink_to(real)
    (real / "back").symlink_to(folder)
    (tmp_path / "start").symlink_to(folder)
    segment(tmp_path / "start", tmp_path / "seg.dcm")
    unused = [(file.path.name, file.reason) for file in find_instances(tmp_path / "start").unused]
    assert unused == [("back", "a link to a folder that is read already")]
