"""Mangled image files and data lists, by number: the same number is the same input everywhere.

``python -m tests.support.fuzzing FIRST COUNT [KIND ...]`` tries inputs of each kind in this process, and tells each on
a line of stdout.
"""

from __future__ import annotations

import gzip
import json
import re
import resource
import signal
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.image_files import metaimage, nifti, nrrd, oblique_affine, shifted, voxels_of

KINDS = ("nifti", "metaimage", "nrrd", "datalist")
SECONDS = 20
"""After which an input counts as a hang."""
MAX_BYTES = 2_000_000_000
"""What an input may take of memory, beyond what the libraries do."""

_NUMBERS = [
    *(
        "0",
        "-1",
        "1",
        "2",
        "3",
        "7",
        "8",
        "100",
        "65536",
        "4294967296",
        "99999999999999999999",
        "0x10",
        "1.5",
        "1,5",
        "x",
    ),
    *("1e30", "-1e30", "1e-30", "nan", "inf", "-inf", "None", "none", "True", "False", "()", "(1,0,0)"),
]
_WORDS = [
    *("", "LOCAL", "LIST", "LIST 3", "%03d.raw 1 3 1", "scan.mha", "..", ".", "/dev/zero", "/dev/null", "missing.raw"),
    *("MET_FLOAT", "MET_DOUBLE", "MET_OTHER", "MET_ASCII_CHAR", "MET_STRING", "MET_UCHAR_ARRAY"),
    *("gzip", "raw", "bzip2", "hex", "ascii", "zrl", "block", "float", "double", "int", "uint64", "big", "RAS"),
    *(
        "right-anterior-superior",
        "left-anterior-superior",
        "left-posterior-superior-time",
        "scanner-xyz",
        "3D-left-handed",
    ),
]
_NIFTI_EXTREMES = (0, 1, -1, 2, 3, 7, 8, 127, 255, -32768, 32767)
_FLOAT_EXTREMES = (0.0, -1.0, 1.0, 1e-30, 1e30, -1e30, np.nan, np.inf, -np.inf, 0.5, 352.0, 1e9)


def image_input(kind: str, number: int, folder: Path) -> Path:
    """Write a mangled image file of a kind."""
    rng = np.random.default_rng([number, KINDS.index(kind)])
    voxels = voxels_of(dtype=str(rng.choice(["int16", "uint8", "float32"])))
    if kind == "nifti":
        return _nifti_input(rng, voxels, folder)
    if kind == "metaimage":
        content = metaimage(voxels, pack=bool(rng.integers(2)), **_metaimage_extras(rng))
        path = folder / str(rng.choice(["scan.mha", "scan.mhd"]))
        end = content.index(b"ElementDataFile") + len(b"ElementDataFile = LOCAL\n")
    else:
        content = nrrd(voxels, encoding=str(rng.choice(["gzip", "raw", "ascii"])), **_nrrd_extras(rng))
        path = folder / "scan.nrrd"
        end = content.index(b"\n\n") + 2
    for _ in range(rng.integers(4)):
        header = _mangled_lines(rng, content[:end]) if rng.random() < 0.7 else _mangled_bytes(rng, content[:end])
        content, end = header + content[end:], len(header)
    path.write_bytes(_mangled_end(rng, content))
    return path


def _metaimage_extras(rng: np.random.Generator) -> dict[str, Any]:
    extras: list[dict[str, Any]] = [
        {},
        {"HeaderSize": -1},
        {"ElementNumberOfChannels": 1},
        {"ElementSize": "1 1 1"},
        {"AnatomicalOrientation": "RAI"},
        {"CenterOfRotation": "0 0 0"},
        {"Comment": "x"},
        {"ElementToIntensityFunctionSlope": 2},
    ]
    return extras[rng.integers(len(extras))]


def _nrrd_extras(rng: np.random.Generator) -> dict[str, Any]:
    directions = "(1,0,0) (0,1,0.5) (0,0.1,8)"
    extras: list[dict[str, Any]] = [
        {},
        {"space": "right-anterior-superior"},
        {"space": "LAS"},
        {"space": "left-handed"},
        {"space": None, "space_dimension": 3},
        {"space": None, "space_directions": None, "space_origin": None, "spacings": "1.5 1.25 8"},
        {"space": None, "space_directions": None, "space_origin": None},
        {"space_origin": None},
        {"kinds": None},
        {"kinds": "space space space"},
        {"space_directions": directions},
        {"space_units": '"mm" "mm" "mm"'},
        {"content": "x"},
        {"type": "int16"},
        {"endian": "big"},
        {"measurement_frame": "(1,0,0) (0,1,0) (0,0,1)"},
    ]
    return extras[rng.integers(len(extras))]


def _nifti_input(rng: np.random.Generator, voxels: np.ndarray, folder: Path) -> Path:
    version, endian = int(rng.choice([1, 1, 2])), str(rng.choice(["<", ">"]))
    affine = oblique_affine()
    forms = [(affine, affine), (affine, None), (None, affine), (None, None), (affine, shifted(affine, 12, 0, 0))]
    sform, qform = forms[rng.integers(len(forms))]
    content = bytearray(nifti(voxels, sform, qform, version, endian))
    size = 348 if version == 1 else 540
    dtype = np.dtype(_header_dtype(version)).newbyteorder(endian)
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.7:
            header = np.frombuffer(bytes(content[:size]), dtype)[0].copy()
            field = str(rng.choice(dtype.names or ()))
            _set_extreme(rng, header, field)
            content[:size] = header.tobytes()
        else:
            content[:size] = _mangled_bytes(rng, bytes(content[:size]), keep_length=True)
    packed = bool(rng.integers(2))
    data = _mangled_end(rng, bytes(content))
    if packed:
        data = _mangled_end(rng, gzip.compress(data, 1))
    path = folder / ("scan.nii.gz" if packed != (rng.random() < 0.03) else "scan.nii")
    path.write_bytes(data)
    return path


def _header_dtype(version: int) -> Any:
    import nibabel as nib

    return (nib.Nifti1Header if version == 1 else nib.Nifti2Header).template_dtype


def _set_extreme(rng: np.random.Generator, header: Any, field: str) -> None:
    dtype = header.dtype[field]
    base = dtype.base
    if base.kind == "S":
        header[field] = rng.bytes(max(base.itemsize, 1))
        return
    choices: list[Any] = list(_FLOAT_EXTREMES if base.kind == "f" else _NIFTI_EXTREMES)
    if base.kind in "iu":
        info = np.iinfo(base)
        choices = [value for value in [*choices, info.max, info.min] if info.min <= value <= info.max]
    value = choices[rng.integers(len(choices))]
    with np.errstate(all="ignore"):
        if dtype.shape:
            header[field][rng.integers(dtype.shape[0])] = value
        else:
            header[field] = value


def _mangled_bytes(rng: np.random.Generator, data: bytes, keep_length: bool = False) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(len(changed)))
        action = 0 if keep_length else rng.integers(3)
        if action == 0:
            changed[place] = int(rng.choice([0, 255, 10, 32, int(rng.integers(256))]))
        elif action == 1:
            del changed[place]
        else:
            changed.insert(place, int(rng.integers(256)))
    return bytes(changed)


def _mangled_lines(rng: np.random.Generator, header: bytes) -> bytes:
    """Change, drop, double or swap a line of a text header, or one number of it."""
    lines = header.decode("latin-1").split("\n")
    index = int(rng.integers(len(lines)))
    line = lines[index]
    separator = "=" if "=" in line else ":"
    key, _, value = line.partition(separator)
    action = rng.integers(7)
    if action == 0:
        lines[index] = f"{key}{separator} {rng.choice(_NUMBERS)}"
    elif action == 1:
        lines[index] = f"{key}{separator} {rng.choice(_WORDS)}"
    elif action in (2, 3):
        parts = value.split()
        if parts:
            parts[rng.integers(len(parts))] = str(rng.choice(_NUMBERS))
        lines[index] = f"{key}{separator} {' '.join(parts)}"
    elif action == 4:
        del lines[index]
    elif action == 5:
        lines.insert(index, line)
    else:
        other = int(rng.integers(len(lines)))
        lines[index], lines[other] = lines[other], lines[index]
    return "\n".join(lines).encode("latin-1") or b"\n"


def _mangled_end(rng: np.random.Generator, data: bytes) -> bytes:
    """Truncate a file at times, or change one byte anywhere, or add some."""
    chance = rng.random()
    if chance < 0.1:
        return data[: rng.integers(len(data) + 1)]
    if chance < 0.15 and data:
        changed = bytearray(data)
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    return data + rng.bytes(int(rng.integers(1, 40))) if chance < 0.2 else data


_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1,
        2.5,
        1e400,
        float("nan"),
        10**30,
        "",
        "x",
        "0.nii.gz",
        "..",
        "/",
        "\0",
        "a" * 5000,
        "full",
        "1",
    ),
    *([], {}, [None], [[]], ["0.nii.gz"], [0, 1], {"": None}, {"1": [3, 1]}, {"1": [0, None]}, {"0": "background"}),
)


def datalist_input(number: int, folder: Path) -> Path:
    """Write a mangled data list, beside two good cases."""
    rng = np.random.default_rng([number, KINDS.index("datalist")])
    affine = oblique_affine()
    for index in range(2):
        scan = voxels_of() + np.int16(index)
        (folder / f"{index}.nii.gz").write_bytes(gzip.compress(nifti(scan, affine, affine), 1))
        label = (scan > 100).astype(np.uint8)
        (folder / f"{index}_gt.nii.gz").write_bytes(gzip.compress(nifti(label, affine, affine), 1))
    items = [
        {
            "image": f"{i}.nii.gz",
            "label": f"{i}_gt.nii.gz",
            "patient": f"p{i}",
            "tags": {"1": True},
            "size_bounds": {"1": [0, 9]},
        }
        for i in range(2)
    ]
    datalist: Any = {
        "name": "mangled",
        "labels": {"0": "background", "1": "box"},
        "unannotated": 255,
        "modality": {"0": "MR"},
        "size_bounds": {"per": "volume", "unit": "mL", "bounds": {"1": [0.001, 100]}},
        "training": items[:1],
        "validation": items[1:],
    }
    if rng.random() < 0.7:
        for _ in range(rng.integers(1, 4)):
            _mangle_value(rng, datalist)
    content = json.dumps(datalist).encode()
    if rng.random() < 0.4:
        content = _mangled_end(rng, _mangled_bytes(rng, content))
    path = folder / "list.json"
    path.write_bytes(content)
    return path


def _mangle_value(rng: np.random.Generator, value: Any) -> None:
    """Replace, drop or add something at any depth."""
    while isinstance(value, (dict, list)) and value:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[rng.integers(len(keys))]
        if isinstance(value[key], (dict, list)) and value[key] and rng.random() < 0.75:
            value = value[key]
            continue
        action = rng.integers(4)
        if action == 0:
            del value[key]
        elif action == 1 and isinstance(value, dict):
            value[str(rng.choice(["0", "1", "x", "image", "label", "case", "tags", "per", ""]))] = _any(rng)
        else:
            value[key] = _any(rng)
        return


def _any(rng: np.random.Generator) -> Any:
    return json.loads(json.dumps(_VALUES[rng.integers(len(_VALUES))]))


def try_image(path: Path, folder: Path) -> str:
    """Write a mask of an image where it is accepted; the outcome in a word and a line."""
    from sizeloss_monai.errors import DataError
    from tests.support.routes import assert_on_scan, write_mask

    try:
        mask = write_mask(path, folder)
    except DataError as err:
        message = str(err)
    else:
        assert_on_scan(mask, path)
        return "mask"
    head, *problems = message.splitlines()  # "1 problem in 1 of 1 cases:", then a line for each
    assert len(problems) == int(head.split()[0]), f"not one line a problem: {message}"
    assert str(folder.parent) not in message, f"a folder's name: {message}"
    assert not re.search(r"\(0x[0-9a-f]{6,}\)", message), f"an address: {message}"
    return f"refused: {problems[0]}"


def try_datalist(path: Path, folder: Path) -> str:
    """Check a data list by the command line; the outcome in a word and its last line."""
    from sizeloss_monai.cli.main import main

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["check", str(path), "--output", str(folder / "check.json")])
    assert code in (0, 1)
    assert "Traceback" not in err.getvalue()
    told = [line for line in out.getvalue().splitlines() if line.startswith("error: ")]
    if code and not told:
        (line,) = [line for line in err.getvalue().splitlines() if "error: " in line]
        assert err.getvalue().strip().endswith(line), "more than one line"
        assert len(line) < 1000
        return f"refused: {line}"
    return f"refused: {told[0]}" if code else "passed"


def main() -> None:
    """Try inputs, each within a time and a memory limit; a line of JSON before and after each."""
    first, count, kinds = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or KINDS
    import torch  # noqa: F401 - before memory is limited

    from tests.support import routes  # noqa: F401

    limit = _address_space() + MAX_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for kind in kinds:
        for number in range(first, first + count):
            _tell(kind, number, "began")
            signal.alarm(SECONDS)
            _tell(kind, number, _outcome(kind, number))
            signal.alarm(0)


def _outcome(kind: str, number: int) -> str:
    with tempfile.TemporaryDirectory() as name:
        given, out = Path(name, "in"), Path(name, "out")
        given.mkdir()
        out.mkdir()
        try:
            if kind == "datalist":
                return try_datalist(datalist_input(number, given), out)
            return try_image(image_input(kind, number, given), out)
        except Exception as err:  # what is looked for
            return f"trace: {type(err).__name__}: {err}"


def _tell(kind: str, number: int, outcome: str) -> None:
    print(json.dumps({"kind": kind, "number": number, "outcome": outcome}), flush=True)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
