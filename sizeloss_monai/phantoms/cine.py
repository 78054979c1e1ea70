"""Synthetic short-axis cine-MRI volumes with ACDC's classes, for demos and tests that need no patient data.

The phantom has what makes the real task hard: a right ventricle, atria, and a descending aorta as bright as the left
ventricle, papillary muscles that are dark yet belong to the cavity, bright fat, slices without any heart, breath-hold
shifts between slices, a bias field, Rician noise, and partial volume. Anatomy is drawn in millimetres, so that the same
patient can be sampled on any grid, and every value is a function of the seed alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from sizeloss_monai.data.whole_files import save_nifti, write_whole

__all__ = [
    "PHANTOM_GROUPS",
    "PHANTOM_LABELS",
    "PhantomScan",
    "make_affine",
    "make_cine_phantom",
    "phantom_scans",
    "write_cine_phantoms",
    "write_volume",
]

Array = NDArray[np.floating[Any]]
Phase = Literal["ED", "ES"]

#: Class ids and names, as in ACDC.
PHANTOM_LABELS: dict[int, str] = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle cavity"}
#: Kinds of heart, named after ACDC's patient groups; they differ in size, wall thickness, and ejection fraction.
PHANTOM_GROUPS: tuple[str, ...] = ("normal", "dilated", "hypertrophic", "right_ventricle")

_PHASES: tuple[Phase, ...] = ("ED", "ES")
_SUFFIXES = (".nii.gz", ".mhd")
_SPLITS = ("training", "validation", "test")
_IGNORE_INDEX = 255
_FAR = np.float32(1e3)  # mm, a signed distance that means "not here"
_SLAB = (-0.3, 0.0, 0.3)  # positions inside a slice, in slices, averaged into its thickness; the middle one is labelled

# LV cavity radius, wall thickness, RV width at the base (mm, ED), and the ES/ED ratio of the cavity radius.
_GROUP_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "normal": {"cavity": (22.0, 26.0), "wall": (7.5, 10.0), "rv": (24.0, 32.0), "ratio": (0.58, 0.68)},
    "dilated": {"cavity": (28.0, 33.0), "wall": (7.0, 9.0), "rv": (22.0, 32.0), "ratio": (0.78, 0.88)},
    "hypertrophic": {"cavity": (19.0, 23.0), "wall": (12.0, 16.0), "rv": (22.0, 28.0), "ratio": (0.50, 0.60)},
    "right_ventricle": {"cavity": (19.0, 23.0), "wall": (7.0, 9.5), "rv": (36.0, 46.0), "ratio": (0.60, 0.70)},
}
# Matrix, spacing (mm), and number of slices of the simulated scanners.
_PROTOCOLS: tuple[tuple[tuple[int, int], tuple[float, float, float], int], ...] = (
    ((96, 96), (1.8, 1.8, 10.0), 8),
    ((112, 96), (1.6, 1.6, 8.0), 10),
    ((96, 112), (1.7, 1.7, 8.0), 9),
    ((104, 104), (1.5625, 1.5625, 10.0), 8),
    ((100, 96), (1.95, 1.95, 10.0), 7),
)
_WRITTEN = re.compile(r"patient\d{3,}_(ED|ES)(_gt|_scribble)?\.(nii\.gz|mhd|zraw)")


@dataclass(frozen=True)
class _Patient:
    """Anatomy shared by both phases of a patient: in mm, radians, and intensities relative to LV blood."""

    tilt: float  # of the whole body about the slice normal
    centre: tuple[float, float]  # LV axis in the image
    drift: tuple[float, float]  # of the LV axis from base to apex
    cavity: float  # LV cavity radius at the base, ED
    wall: float
    ratio: float  # ES/ED cavity radius
    apex: float  # depth of the cavity's end, as a fraction of the heart's length
    waves: tuple[float, float, float, float]  # amplitude and phase of the contours' second and third harmonic
    uneven_wall: tuple[float, float]  # amplitude and phase
    septum: float  # direction from LV to RV
    rv_width: float
    rv_height: float  # half height, relative to the epicardial radius
    rv_ratio: float  # ES/ED width
    rv_apex: float
    papillary: tuple[float, float]  # directions of the two muscles
    papillary_size: float  # radius relative to the cavity's
    outflow: float | None  # half angle of the wall's opening in the most basal slice
    skin: float  # position of the skin above the image's centre
    fat: float  # thickness under the skin
    diaphragm: float
    aorta: tuple[float, float]
    fat_side: float  # direction in which most epicardial fat lies
    empty: tuple[int, int]  # slices without heart above the base and below the apex
    myocardium: float
    rv_blood: float
    gain: float  # scanner units of LV blood


def _draw_patient(rng: np.random.Generator, group: str | None) -> _Patient:
    """Draw a patient; the order of the draws is part of the seed's meaning."""
    drawn = PHANTOM_GROUPS[int(rng.integers(len(PHANTOM_GROUPS)))]
    ranges = _GROUP_RANGES[group or drawn]

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    septum = np.pi + u(-0.15, 0.45)
    has_outflow, half_angle = rng.random() < 0.4, u(0.35, 0.55)
    return _Patient(
        tilt=u(-0.45, 0.45),
        centre=(u(4.0, 20.0), u(-8.0, 8.0)),
        drift=(u(-2.0, 10.0), u(-10.0, 4.0)),
        cavity=u(*ranges["cavity"]),
        wall=u(*ranges["wall"]),
        ratio=u(*ranges["ratio"]),
        apex=u(0.94, 0.99),
        waves=(u(0.02, 0.06), u(0.0, np.pi), u(0.0, 0.03), u(0.0, 2 * np.pi)),
        uneven_wall=(u(0.05, 0.2), u(0.0, 2 * np.pi)),
        septum=septum,
        rv_width=u(*ranges["rv"]),
        rv_height=u(0.95, 1.15),
        rv_ratio=u(0.65, 0.85),
        rv_apex=u(0.85, 1.0),
        papillary=(septum + np.pi + u(0.6, 1.0), septum + np.pi - u(0.6, 1.0)),
        papillary_size=u(0.15, 0.22),
        outflow=half_angle if has_outflow else None,
        skin=u(-84.0, -58.0),
        fat=u(6.0, 18.0),
        diaphragm=u(40.0, 50.0),
        aorta=(u(18.0, 42.0), u(54.0, 62.0)),
        fat_side=u(0.0, 2 * np.pi),
        empty=((1, 0), (0, 1), (1, 1))[int(rng.integers(3))],
        myocardium=u(0.3, 0.4),
        rv_blood=u(0.95, 1.03),
        gain=u(150.0, 600.0),
    )


def _rng(seed: int | Sequence[int], *stream: int) -> np.random.Generator:
    entropy = [int(seed)] if isinstance(seed, (int, np.integer)) else [int(s) for s in seed]
    # The length tells (1,) from (1, 0), which zero-padding would make the same.
    return np.random.default_rng(np.random.SeedSequence([len(entropy), *entropy], spawn_key=stream))


def _texture(rng: np.random.Generator, shape: tuple[int, int, int], sigma: float) -> Array:
    """Slice-wise smooth noise of zero mean and unit variance, repeated over each slice's slab."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (sigma, sigma, 0.0), mode="wrap")
    return np.repeat(noise / noise.std(), len(_SLAB), axis=2)


def _over(canvas: Array, value: Array | float, distance: Array, edge: float) -> Array:
    """Paint ``value`` where the signed distance (mm) is negative, with an edge ramp as wide as a voxel."""
    return canvas + (value - canvas) * np.clip(0.5 - distance / edge, 0.0, 1.0)


def _ellipse(x: Array, y: Array, semi_x: Array | float, semi_y: Array | float) -> Array:
    """Approximate signed distance (mm) to an ellipse around the origin."""
    rx, ry = np.maximum(semi_x, 1e-3), np.maximum(semi_y, 1e-3)
    return ((np.hypot(x / rx, y / ry) - 1.0) * np.minimum(rx, ry)).astype(np.float32)


@dataclass(frozen=True)
class _Heart:
    """Signed distances (mm, negative inside) to the chambers of one phase, and what surrounds them."""

    cavity: Array
    epicardium: Array
    rv: Array
    papillary: Array
    outflow: Array
    vessels: Array  # atria above the base and the aortic root, bright and unlabelled
    pericardium: Array


def _heart(p: _Patient, phase: Phase, x: Array, y: Array, depth: Array, first: NDArray[np.bool_]) -> _Heart:
    """Place the heart.

    Args:
        p: the patient.
        phase: end diastole or end systole.
        x: distance from the LV axis towards the patient's left, ``[H, W, S]`` in mm.
        y: distance from the LV axis towards the back, ``[H, W, S]`` in mm.
        depth: position between base (0) and apex (1), ``[1, 1, S]``.
        first: whether a position belongs to the most basal slice of the heart, ``[1, 1, S]``.
    """
    systole = phase == "ES"
    inside = (depth > 0.0) & (depth < 1.0)
    depth_in = np.clip(depth, 0.0, 1.0)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    a2, p2, a3, p3 = p.waves
    wave = 1.0 + a2 * np.cos(2.0 * (angle - p2)) + a3 * np.cos(3.0 * (angle - p3))

    # Half ellipsoids; the myocardium keeps its area from ED to ES, which thickens the wall as the cavity shrinks.
    endo_ed = p.cavity * np.sqrt(np.clip(1.0 - (depth_in / p.apex) ** 2.2, 0.0, 1.0))
    epi_ed = (p.cavity + p.wall) * np.sqrt(1.0 - depth_in**2.4)
    endo = endo_ed * (p.ratio if systole else 1.0)
    epi = np.sqrt(epi_ed**2 - endo_ed**2 + endo**2)
    uneven = 1.0 + p.uneven_wall[0] * np.cos(angle - p.uneven_wall[1])
    cavity = np.where(inside & (endo > 1.0), radius - endo * wave, _FAR)
    epicardium = np.where(inside, radius - (endo + (epi - endo) * uneven) * wave, _FAR)

    # Right ventricle: an ellipse that reaches behind the septum, pointed away from it; the LV is drawn over it.
    taper = np.sqrt(np.clip(1.0 - (depth_in / p.rv_apex) ** 2, 0.0, 1.0))
    width = p.rv_width * (p.rv_ratio if systole else 1.0) * taper
    towards = x * np.cos(p.septum) + y * np.sin(p.septum)
    across = -x * np.sin(p.septum) + y * np.cos(p.septum)
    half = 0.6 * epi + 0.5 * width
    offset = epi + width - half
    pointed = 1.0 - 0.3 * np.clip((towards - offset) / np.maximum(half, 1e-3), -1.0, 1.0)
    height = p.rv_height * (p.cavity + p.wall) * (0.88 if systole else 1.0) * taper**0.8 * pointed
    rv = np.where(inside & (taper > 0.15), _ellipse(towards - offset, across, half, height), _FAR)

    # Papillary muscles: mid-ventricular, they fuse with the wall towards the apex.
    belly = np.sqrt(np.clip(1.0 - ((depth - 0.55) / 0.4) ** 2, 0.0, 1.0))
    lumpy = 1.0 + 0.3 * np.sin(5.0 * angle + p.waves[3])
    papillary = np.full_like(radius, _FAR)
    for direction in p.papillary:
        reach = (0.6 + 0.25 * depth_in) * endo
        distance = np.hypot(x - reach * np.cos(direction), y - reach * np.sin(direction))
        papillary = np.minimum(papillary, distance - p.papillary_size * (endo + 2.0) * belly * lumpy)
    papillary = np.where((belly > 0.0) & (endo > 4.0), papillary, _FAR)

    # Aortic root, open to the cavity in the most basal slice; atria above the base.
    root = p.septum + 1.0
    root_x, root_y = x - epi * np.cos(root), y - epi * np.sin(root)
    if p.outflow is None:
        outflow = vessels = np.full_like(radius, _FAR)
    else:
        sector = np.abs(np.angle(np.exp(1j * (angle - root)))) - p.outflow
        outflow = np.where(first & inside, np.maximum(sector * radius, epicardium), _FAR)
        vessels = np.where(first & inside, np.hypot(root_x, root_y) - 11.0, _FAR)
    left_atrium = _ellipse(x - 4.0, y - 14.0, 0.85 * p.cavity, 0.65 * p.cavity)
    right_atrium = _ellipse(towards - p.cavity - 14.0, across - 4.0, 0.75 * p.rv_width, 0.8 * p.cavity)
    ascending = np.hypot(root_x + 14.0 * np.cos(root), root_y + 14.0 * np.sin(root)) - 12.0
    above = np.minimum(np.minimum(left_atrium, right_atrium), ascending)
    vessels = np.where(depth <= 0.0, above, vessels)

    # Epicardial fat in patches.
    patches = np.cos(2.0 * (angle - p.fat_side)) + 0.7 * np.cos(5.0 * angle + p.fat_side)
    pericardium = np.minimum(np.minimum(epicardium, rv - 3.0), vessels - 2.0) - 4.0 * np.clip(patches, 0.0, 1.5)
    return _Heart(cavity, epicardium, rv, papillary, outflow, vessels, pericardium)


def make_cine_phantom(
    seed: int | Sequence[int],
    phase: Phase = "ED",
    num_slices: int = 8,
    matrix: tuple[int, int] = (96, 96),
    spacing: tuple[float, float, float] = (1.8, 1.8, 10.0),
    noise: float = 0.05,
    bias: float = 0.35,
    group: str | None = None,
) -> tuple[Array, NDArray[np.uint8]]:
    """Make one short-axis cine-MRI-like volume and its segmentation.

    A seed is a patient: both phases of a seed share the anatomy, position, and slice shifts, and differ in
    contraction and noise. The first axis runs from the patient's right (right ventricle) to the left, the second from
    the chest wall to the back, and the third from base to apex: transpose a slice to see it as a radiologist does. One
    or two slices at the ends hold no heart. Lengths are in mm and never scaled to the matrix: a small field of view
    truncates the anatomy as it does on a scanner, except that the heart's length follows the number of slices.

    Args:
        seed: identity of the patient, a non-negative integer or several.
        phase: ``"ED"`` (end diastole) or ``"ES"`` (end systole: smaller cavity, thicker wall, same muscle).
        num_slices: number of slices D, at least 4.
        matrix: in-plane size (H, W) in voxels.
        spacing: distance of voxel centres along the three axes in mm.
        noise: standard deviation of the Rician noise's Gaussian parts, relative to the intensity of LV blood.
        bias: largest absolute logarithm of the multiplicative bias field; 0 for none.
        group: one of ``PHANTOM_GROUPS``; None lets the seed choose.

    Returns:
        The image, float32 ``[H, W, D]`` in arbitrary scanner units (non-negative; the gain differs by patient), and the
        label, uint8 ``[H, W, D]`` with the ids of ``PHANTOM_LABELS``.

    Raises:
        ValueError: When ``phase`` or ``group`` is unknown, when ``num_slices`` is less than 4, when a size or spacing
            is not positive, or when ``noise`` or ``bias`` is negative.

    Example::

        image, label = make_cine_phantom(seed=7, phase="ES")
        cavity_ml = (label == 3).sum() * 1.8 * 1.8 * 10.0 / 1000
    """
    if phase not in _PHASES:
        raise ValueError(f"phase must be one of {_PHASES}, got {phase!r}.")
    if group is not None and group not in PHANTOM_GROUPS:
        raise ValueError(f"group must be None or one of {PHANTOM_GROUPS}, got {group!r}.")
    if num_slices < 4:
        raise ValueError(f"num_slices must be at least 4 to hold heart and empty end slices, got {num_slices}.")
    if len(matrix) != 2 or min(matrix) < 1 or len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"matrix and spacing must be 2 and 3 positive numbers, got {matrix} and {spacing}.")
    if noise < 0 or bias < 0:
        raise ValueError(f"noise and bias must not be negative, got {noise} and {bias}.")

    p = _draw_patient(_rng(seed, 0), group)
    shape = (matrix[0], matrix[1], num_slices)
    shift = _rng(seed, 1).normal(0.0, 1.3, (2, num_slices)).astype(np.float32)  # mm, breath-hold positions

    # Coordinates: u, v of the image and z of the slab positions (S = 3 D), all with the volume's centre as origin.
    u = ((np.arange(matrix[0]) - (matrix[0] - 1) / 2) * spacing[0]).astype(np.float32)[:, None, None]
    v = ((np.arange(matrix[1]) - (matrix[1] - 1) / 2) * spacing[1]).astype(np.float32)[None, :, None]
    index = np.repeat(np.arange(num_slices), len(_SLAB))
    z = (index + np.tile(_SLAB, num_slices)).astype(np.float32)[None, None, :]
    first = index[None, None, :] == p.empty[0]
    depth = (z - (p.empty[0] - 0.5)) / (num_slices - sum(p.empty))
    body_x = u * np.cos(p.tilt) + v * np.sin(p.tilt) + 0.0 * depth
    body_y = -u * np.sin(p.tilt) + v * np.cos(p.tilt) + 0.0 * depth
    axis_x = p.centre[0] + p.drift[0] * (depth - 0.5) + shift[0][index]
    axis_y = p.centre[1] + p.drift[1] * (depth - 0.5) + shift[1][index]
    heart = _heart(p, phase, body_x - axis_x, body_y - axis_y, depth.astype(np.float32), first)

    image = _paint(p, heart, body_x, body_y, depth, 1.3 * float(np.sqrt(spacing[0] * spacing[1])), seed, shape)
    image = image.reshape(*shape, len(_SLAB)).mean(axis=3)
    image = ndimage.gaussian_filter(image, (0.45, 0.45, 0.0))
    image *= np.exp(_bias_field(_rng(seed, 3), shape, bias))
    real, imaginary = noise * _rng(seed, 4, _PHASES.index(phase)).standard_normal((2, *shape), dtype=np.float32)
    image = p.gain * np.hypot(image + real, imaginary)

    middle = slice(len(_SLAB) // 2, None, len(_SLAB))
    label = np.zeros(shape, np.uint8)
    label[heart.rv[..., middle] < 0] = 1
    label[heart.epicardium[..., middle] < 0] = 2
    label[heart.outflow[..., middle] < 0] = 0
    label[heart.cavity[..., middle] < 0] = 3
    return image.astype(np.float32), label


def _paint(
    p: _Patient,
    heart: _Heart,
    x: Array,
    y: Array,
    depth: Array,
    edge: float,
    seed: int | Sequence[int],
    shape: tuple[int, int, int],
) -> Array:
    """Paint thorax and heart from back to front, ``[H, W, S]`` with LV blood at about 1."""
    rng = _rng(seed, 2)
    fine, coarse, dots = (_texture(rng, shape, sigma) for sigma in (0.9, 4.0, 0.7))
    flow = np.repeat(rng.normal(1.0, 0.05, shape[2]), len(_SLAB)).astype(np.float32)  # in-flow differs by slice

    # Chest wall: air, skin fat, muscle with ribs, lung with vessels.
    below_skin = y - (p.skin + x**2 / 300.0)
    image = np.full_like(x, 0.02)
    image = _over(image, 1.2 + 0.08 * coarse, -below_skin, edge)
    image = _over(image, 0.3 + 0.04 * fine, p.fat - below_skin, edge)
    ribs = np.hypot((x + 4.0 * depth + 11.0) % 26.0 - 13.0, below_skin - p.fat - 5.0)
    image = _over(image, 0.08, ribs - 5.0, edge)
    image = _over(image, 0.55, ribs - 3.0, edge)
    image = _over(image, np.where(dots > 2.2, 0.7, 0.07 + 0.015 * fine), p.fat + 11.0 - below_skin, edge)

    # Mediastinum, then the diaphragm, which rises towards the apex, with liver, stomach, and its gas.
    image = _over(image, 0.3 + 0.06 * coarse, _ellipse(x + 60.0, y - 5.0, 38.0, 70.0), edge)
    dome = p.diaphragm - 9.0 * np.clip(depth, 0.0, 1.2)
    image = _over(image, 0.36 + 0.04 * fine + 0.05 * coarse, np.hypot(x + 10.0, y - dome - 110.0) - 110.0, edge)
    stomach = _ellipse(x - 46.0, y - dome - 26.0, 26.0, 17.0)
    image = _over(image, 0.9 + 0.25 * coarse, stomach, edge)
    image = _over(image, 0.03, np.maximum(stomach + 3.0, y - dome - 22.0), edge)
    aorta = np.hypot(x - p.aorta[0], y - p.aorta[1])
    image = _over(image, 0.25, aorta - 13.0, edge)
    image = _over(image, 0.98 * flow + 0.03 * fine, aorta - 11.0, edge)

    # Heart: fat, vessel walls, blood, myocardium, cavity, papillary muscles and trabeculae.
    muscle = p.myocardium + 0.03 * coarse
    blood = flow * (1.0 + 0.05 * fine + 0.04 * coarse)
    image = _over(image, 0.75 + 0.2 * coarse, heart.pericardium, edge)
    image = _over(image, muscle, np.minimum(heart.rv, heart.vessels) - 2.5, edge)
    trabeculae = np.where(coarse + 0.6 * fine > 1.9, 0.5, 1.0)
    image = _over(image, p.rv_blood * blood * trabeculae, heart.rv, edge)
    image = _over(image, muscle, heart.epicardium, edge)
    image = _over(image, blood, np.minimum(np.minimum(heart.vessels, heart.outflow), heart.cavity), edge)
    near_wall = np.where((heart.cavity > -5.0) & (fine + 0.5 * coarse > 0.9), heart.cavity, _FAR)
    image = _over(image, 0.6, near_wall, edge)
    return _over(image, muscle + 0.05, np.maximum(heart.papillary, heart.cavity), edge).astype(np.float32)


def _bias_field(rng: np.random.Generator, shape: tuple[int, int, int], bias: float) -> Array:
    """Logarithm of the coil's sensitivity: a random quadratic, brighter at the chest wall, within +-``bias``."""
    u, v, w = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij", sparse=True)
    c = rng.normal(0.0, 0.35, 6)
    field = -0.6 * v + c[0] * u + c[1] * v + c[2] * u * v + c[3] * u**2 + c[4] * v**2 + 0.5 * c[5] * w
    field = field - field.mean()
    return (bias * field / np.abs(field).max()).astype(np.float32)


def make_affine(
    spacing: Sequence[float],
    seed: int | Sequence[int] = 0,
    shape: Sequence[int] | None = None,
    max_angle: float = 35.0,
    flip: Sequence[bool] = (False, False, False),
) -> NDArray[np.float64]:
    """Make an oblique affine from voxel indices to RAS millimetres.

    The unrotated volume has the axes of a DICOM axial slice (first index to the patient's left, second to the back);
    it is turned about a random axis by a random angle, and its centre is moved off the scanner's origin.

    Args:
        spacing: voxel size along the three axes in mm.
        seed: determines rotation and position.
        shape: size of the volume in voxels, so that it turns about its centre; None turns it about its first voxel.
        max_angle: largest angle in degrees; 0 for none. Below 45 the axes keep their
            orientation codes.
        flip: index axes that run the other way round; an odd number of them makes the affine left-handed.

    Returns:
        The affine, float64 ``[4, 4]``, with orthogonal columns as long as the spacing.

    Raises:
        ValueError: When ``spacing`` or ``flip`` has not three entries, a spacing is not positive, or ``max_angle`` is
            not within 0..180.
    """
    if len(spacing) != 3 or min(spacing) <= 0 or len(flip) != 3:
        raise ValueError(f"spacing and flip must have 3 entries, spacing positive, got {spacing} and {flip}.")
    if not 0.0 <= max_angle <= 180.0:
        raise ValueError(f"max_angle must be within 0..180 degrees, got {max_angle}.")
    rng = _rng(seed, 5)
    turn_axis = rng.normal(size=3)
    angle = np.deg2rad(max_angle) * rng.uniform(0.5, 1.0)
    rotation = Rotation.from_rotvec(angle * turn_axis / np.linalg.norm(turn_axis)).as_matrix()
    axes = np.diag([-1.0, -1.0, 1.0]) @ np.diag(np.where(flip, -1.0, 1.0))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ axes @ np.diag(np.asarray(spacing, dtype=float))
    affine[:3, 3] = rng.uniform(-40.0, 40.0, 3)
    if shape is not None:
        affine[:3, 3] -= affine[:3, :3] @ ((np.asarray(shape, dtype=float) - 1.0) / 2.0)
    return affine


def _make_scribbles(label: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Scribble on every class of every slice: part of its ridge, or of a line around the heart for the background."""
    scribble = np.full_like(label, _IGNORE_INDEX)
    for z in range(label.shape[2]):
        plane = label[..., z]
        for k in PHANTOM_LABELS:
            mask = plane == k
            if not mask.any():
                continue
            inner = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            line = inner >= min(0.9 * inner.max(), 6.0)
            if k == 0:
                line &= inner < 7.0
            i, j = np.nonzero(line)
            turn = np.angle(np.exp(1j * (np.arctan2(j - j.mean(), i - i.mean()) - rng.uniform(-np.pi, np.pi))))
            keep = np.abs(turn) <= np.pi / 3
            keep |= not keep.any()
            scribble[i[keep], j[keep], z] = k
    return scribble


@dataclass(frozen=True)
class PhantomScan:
    """One phase of a phantom patient.

    Args:
        patient: its name, ``patientNNN``.
        phase: ``"ED"`` or ``"ES"``.
        group: one of ``PHANTOM_GROUPS``.
        image: int16 ``[H, W, D]``.
        label: uint8 ``[H, W, D]``, the ids of ``PHANTOM_LABELS``.
        affine: to RAS millimetres, float64 ``[4, 4]``.
        seed: of the scribbles.
    """

    patient: str
    phase: Phase
    group: str
    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    seed: tuple[int, int]

    @property
    def case(self) -> str:
        """The name of the scan, ``patientNNN_ED``."""
        return f"{self.patient}_{self.phase}"

    def scribble(self) -> NDArray[np.uint8]:
        """A scribble on every class of every slice: class ids, 255 where nobody annotated, ``[H, W, D]``."""
        return _make_scribbles(self.label, _rng(self.seed, 8, _PHASES.index(self.phase)))


def phantom_scans(seed: int, index: int, noise: float = 0.05, bias: float = 0.35) -> Iterator[PhantomScan]:
    """Make the scans of a phantom patient, end diastole and end systole on one oblique grid.

    Args:
        seed: of all patients.
        index: of the patient, from 0.
        noise: see :py:func:`make_cine_phantom`.
        bias: see :py:func:`make_cine_phantom`.

    Yields:
        The scan of each phase.
    """
    patient_seed = (seed, index + 1)
    group = PHANTOM_GROUPS[index % len(PHANTOM_GROUPS)]
    rng = _rng(patient_seed, 7)
    matrix, spacing, num_slices = _PROTOCOLS[int(rng.integers(len(_PROTOCOLS)))]
    flip = [bool(f) for f in rng.random(3) < 0.25]
    affine = make_affine(spacing, patient_seed, (*matrix, num_slices), flip=flip)
    for phase in _PHASES:
        image, label = make_cine_phantom(patient_seed, phase, num_slices, matrix, spacing, noise, bias, group)
        rounded = np.rint(image).astype(np.int16)
        yield PhantomScan(f"patient{index + 1:03d}", phase, group, rounded, label, affine, patient_seed)


def write_volume(path: Path, volume: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write ``[H, W, D]`` with an RAS affine as NIfTI (nibabel) or compressed MetaImage (SimpleITK, hence LPS).

    Args:
        path: ending in ``.nii.gz`` or ``.mhd``.
        volume: the voxels.
        affine: to RAS millimetres.
    """
    if path.name.endswith(".nii.gz"):
        nifti = nib.Nifti1Image(volume, affine)
        nifti.set_qform(affine, code=1)
        nifti.set_sform(affine, code=1)
        nifti.header.set_xyzt_units("mm")
        save_nifti(nifti, path)
        return
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def _split_patients(num_patients: int, splits: Sequence[float], rng: np.random.Generator) -> list[str]:
    """Name the split of each patient; a positive fraction gets at least one patient, training the rest."""
    held_out = [max(1, round(f * num_patients)) if f > 0 else 0 for f in splits[1:]]
    if sum(held_out) >= num_patients:
        raise ValueError(f"splits {tuple(splits)} leave none of {num_patients} patients for training.")
    names = [_SPLITS[0]] * (num_patients - sum(held_out))
    names += [_SPLITS[1]] * held_out[0] + [_SPLITS[2]] * held_out[1]
    return [names[i] for i in rng.permutation(num_patients)]


def write_cine_phantoms(
    output_dir: str | Path,
    num_patients: int = 12,
    seed: int = 0,
    suffixes: Sequence[str] = (".nii.gz",),
    splits: Sequence[float] = (0.6, 0.2, 0.2),
    with_scribbles: bool = False,
    noise: float = 0.05,
    bias: float = 0.35,
    overwrite: bool = False,
) -> Path:
    """Write phantom patients, both phases each, and a Decathlon-style ``datalist.json``.

    Patients differ in group, matrix, spacing, number of slices, and oblique affine; the two phases, image, label, and
    scribble of a patient share the grid. Images are int16, labels uint8. All splits are by patient.

    Args:
        output_dir: folder for the volumes (``patientNNN_ED.nii.gz``, ``patientNNN_ED_gt.nii.gz``, ...); made if absent.
        num_patients: number of patients.
        seed: of everything; the same seed gives the same arrays, affines, and splits. Patient i is the same whatever
            the number of patients.
        suffixes: file types, ``".nii.gz"`` or ``".mhd"`` (with ``.zraw`` beside it); patients take them in turn.
        splits: fractions of the patients for training, validation, and test, summing to 1. A positive fraction gets at
            least one patient.
        with_scribbles: also write ``_scribble`` files (class ids, 255 where nobody annotated), as ``weak_label``.
        noise: see :py:func:`make_cine_phantom`.
        bias: see :py:func:`make_cine_phantom`.
        overwrite: write into a folder that is not empty; phantoms of an earlier run in it are removed, other
            files kept.

    Returns:
        Path of ``datalist.json``: ``training``, ``validation``, and ``test`` list ``image`` and ``label`` (relative to
        ``output_dir``), ``case``, ``patient``, ``phase``, and ``group``.

    Raises:
        FileExistsError: When ``output_dir`` is not empty and ``overwrite`` is False.
        NotADirectoryError: When ``output_dir`` is a file.
        ValueError: When there are no patients, a suffix is unknown, ``splits`` are not three fractions summing to 1, or
            no patient is left for training.

    Example::

        datalist = write_cine_phantoms("demo/phantoms", num_patients=12, seed=0)
        training = load_decathlon_datalist(str(datalist), data_list_key="training")
    """
    root = Path(output_dir)
    if num_patients < 1:
        raise ValueError(f"num_patients must be positive, got {num_patients}.")
    if isinstance(suffixes, str) or not suffixes or any(s not in _SUFFIXES for s in suffixes):
        raise ValueError(f"suffixes must be a sequence with entries from {_SUFFIXES}, got {suffixes!r}.")
    if len(splits) != 3 or min(splits) < 0 or abs(sum(splits) - 1.0) > 1e-6:
        raise ValueError(f"splits must be three fractions that sum to 1, got {tuple(splits)}.")
    split_of = _split_patients(num_patients, splits, _rng(seed, 6))
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"output_dir is a file: {root}")
    if root.is_dir() and any(root.iterdir()):
        if not overwrite:
            raise FileExistsError(f"output_dir is not empty, pass overwrite=True to write into it: {root}")
        for stale in root.iterdir():
            if _WRITTEN.fullmatch(stale.name):
                stale.unlink()
    root.mkdir(parents=True, exist_ok=True)

    cases: dict[str, list[dict[str, str]]] = {name: [] for name in _SPLITS}
    for i in range(num_patients):
        suffix = suffixes[i % len(suffixes)]
        for scan in phantom_scans(seed, i, noise, bias):
            volumes: dict[str, tuple[str, NDArray[Any]]] = {}
            volumes["image"] = (f"{scan.case}{suffix}", scan.image)
            volumes["label"] = (f"{scan.case}_gt{suffix}", scan.label)
            if with_scribbles:
                volumes["weak_label"] = (f"{scan.case}_scribble{suffix}", scan.scribble())
            for name, volume in volumes.values():
                write_volume(root / name, volume, scan.affine)
            paths = {key: name for key, (name, _) in volumes.items()}
            of_patient = {"patient": scan.patient, "phase": scan.phase, "group": scan.group}
            cases[split_of[i]].append({**paths, "case": scan.case, **of_patient})

    datalist = {
        "name": "CinePhantoms",
        "description": "Synthetic short-axis cine-MRI volumes (ED and ES) with ACDC's classes; no patient data.",
        "labels": {str(k): name for k, name in PHANTOM_LABELS.items()},
        "modality": {"0": "MRI"},
        "seed": seed,
        **cases,
    }
    path = root / "datalist.json"
    write_whole(path, json.dumps(datalist, indent=2) + "\n")
    return path
