"""Synthetic short-axis cine-MRI volumes with ACDC's classes, for demos and tests without patient data.

The phantom has what makes the real task hard: a right ventricle, atria and a descending aorta as bright as the left
ventricle, dark papillary muscles that belong to the cavity, bright fat, slices without a heart, breath-hold shifts
between slices, a bias field, Rician noise, and partial volume. Anatomy is drawn in millimetres, so that any grid can
sample the same patient. Every value depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sizeloss_monai.errors import check_option

__all__ = ["PHANTOM_GROUPS", "PHANTOM_LABELS", "Phase", "make_cine_phantom", "seeded"]

Array = NDArray[np.floating[Any]]
Phase = Literal["ED", "ES"]
Group = Literal["normal", "dilated", "hypertrophic", "right_ventricle"]

#: Class ids and names, as in ACDC.
PHANTOM_LABELS: dict[int, str] = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle cavity"}
#: Kinds of heart, named after ACDC's patient groups; they differ in size, wall thickness, and ejection fraction.
PHANTOM_GROUPS: tuple[str, ...] = get_args(Group)

_FAR = np.float32(1e3)  # mm, a signed distance that means "not here"
_SLAB = (-0.3, 0.0, 0.3)  # positions inside a slice, in slices, averaged into its thickness; the middle one is labelled

# LV cavity radius, wall thickness, RV width at the base (mm, ED), and the ES/ED ratio of the cavity radius.
_GROUP_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "normal": {"cavity": (22.0, 26.0), "wall": (7.5, 10.0), "rv": (24.0, 32.0), "ratio": (0.58, 0.68)},
    "dilated": {"cavity": (28.0, 33.0), "wall": (7.0, 9.0), "rv": (22.0, 32.0), "ratio": (0.78, 0.88)},
    "hypertrophic": {"cavity": (19.0, 23.0), "wall": (12.0, 16.0), "rv": (22.0, 28.0), "ratio": (0.50, 0.60)},
    "right_ventricle": {"cavity": (19.0, 23.0), "wall": (7.0, 9.5), "rv": (36.0, 46.0), "ratio": (0.60, 0.70)},
}


def seeded(seed: int | Sequence[int], *stream: int) -> np.random.Generator:
    """A generator that depends on ``seed`` and the number of the ``stream`` alone."""
    entropy = [int(seed)] if isinstance(seed, (int, np.integer)) else [int(s) for s in seed]
    # the length distinguishes (1,) from (1, 0), which zero-padding would make the same
    return np.random.default_rng(np.random.SeedSequence([len(entropy), *entropy], spawn_key=stream))


def _draw_patient(rng: np.random.Generator, group: str | None) -> SimpleNamespace:
    """Draw the anatomy of both phases, in mm, radians, and intensities relative to LV blood.

    The order of the draws is part of the seed's meaning.
    """
    drawn = PHANTOM_GROUPS[int(rng.integers(len(PHANTOM_GROUPS)))]
    ranges = _GROUP_RANGES[group or drawn]

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    septum = np.pi + u(-0.15, 0.45)
    has_outflow, half_angle = rng.random() < 0.4, u(0.35, 0.55)
    return SimpleNamespace(
        tilt=u(-0.45, 0.45),  # of the whole body about the slice normal
        centre=(u(4.0, 20.0), u(-8.0, 8.0)),  # LV axis in the image
        drift=(u(-2.0, 10.0), u(-10.0, 4.0)),  # of the LV axis from base to apex
        cavity=u(*ranges["cavity"]),  # LV cavity radius at the base, ED
        wall=u(*ranges["wall"]),
        ratio=u(*ranges["ratio"]),  # ES/ED cavity radius
        apex=u(0.94, 0.99),  # depth of the cavity's end, as a fraction of the heart's length
        waves=(u(0.02, 0.06), u(0.0, np.pi), u(0.0, 0.03), u(0.0, 2 * np.pi)),  # second and third harmonic of contours
        uneven_wall=(u(0.05, 0.2), u(0.0, 2 * np.pi)),  # amplitude and phase
        septum=septum,  # direction from LV to RV
        rv_width=u(*ranges["rv"]),
        rv_height=u(0.95, 1.15),  # half height, relative to the epicardial radius
        rv_ratio=u(0.65, 0.85),  # ES/ED width
        rv_apex=u(0.85, 1.0),
        papillary=(septum + np.pi + u(0.6, 1.0), septum + np.pi - u(0.6, 1.0)),  # directions of the two muscles
        papillary_size=u(0.15, 0.22),  # radius relative to the cavity's
        outflow=half_angle if has_outflow else None,  # half angle of the wall's opening in the most basal slice
        skin=u(-84.0, -58.0),  # position of the skin in front of the image's centre
        fat=u(6.0, 18.0),  # thickness under the skin
        diaphragm=u(40.0, 50.0),
        aorta=(u(18.0, 42.0), u(54.0, 62.0)),
        fat_side=u(0.0, 2 * np.pi),  # direction of most epicardial fat
        empty=((1, 0), (0, 1), (1, 1))[int(rng.integers(3))],  # slices without heart above the base, below the apex
        myocardium=u(0.3, 0.4),
        rv_blood=u(0.95, 1.03),
        gain=u(150.0, 600.0),  # scanner units of LV blood
    )


def _texture(rng: np.random.Generator, shape: tuple[int, int, int], sigma: float) -> Array:
    """Slice-wise smooth noise with unit variance, repeated over each slice's slab."""
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
    """Signed distances (mm, negative inside) to the chambers of one phase and their surroundings."""

    cavity: Array
    epicardium: Array
    rv: Array
    papillary: Array
    outflow: Array
    vessels: Array  # atria above the base and the aortic root, bright and unlabelled
    pericardium: Array


def _heart(p: SimpleNamespace, phase: Phase, x: Array, y: Array, depth: Array, first: NDArray[np.bool_]) -> _Heart:
    """Place the heart of patient ``p``.

    Args:
        p: see :func:`_draw_patient`.
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

    # Half ellipsoids. The myocardium keeps its area from ED to ES, so the wall thickens as the cavity shrinks.
    endo_ed = p.cavity * np.sqrt(np.clip(1.0 - (depth_in / p.apex) ** 2.2, 0.0, 1.0))
    epi_ed = (p.cavity + p.wall) * np.sqrt(1.0 - depth_in**2.4)
    endo = endo_ed * (p.ratio if systole else 1.0)
    epi = np.sqrt(epi_ed**2 - endo_ed**2 + endo**2)
    uneven = 1.0 + p.uneven_wall[0] * np.cos(angle - p.uneven_wall[1])
    cavity = np.where(inside & (endo > 1.0), radius - endo * wave, _FAR)
    epicardium = np.where(inside, radius - (endo + (epi - endo) * uneven) * wave, _FAR)

    # Right ventricle: an ellipse that starts behind the septum and points away from it; the LV covers its start.
    taper = np.sqrt(np.clip(1.0 - (depth_in / p.rv_apex) ** 2, 0.0, 1.0))
    width = p.rv_width * (p.rv_ratio if systole else 1.0) * taper
    towards = x * np.cos(p.septum) + y * np.sin(p.septum)
    across = -x * np.sin(p.septum) + y * np.cos(p.septum)
    half = 0.6 * epi + 0.5 * width
    offset = epi + width - half
    pointed = 1.0 - 0.3 * np.clip((towards - offset) / np.maximum(half, 1e-3), -1.0, 1.0)
    height = p.rv_height * (p.cavity + p.wall) * (0.88 if systole else 1.0) * taper**0.8 * pointed
    rv = np.where(inside & (taper > 0.15), _ellipse(towards - offset, across, half, height), _FAR)

    # Papillary muscles: mid-ventricular, fused with the wall towards the apex.
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


def _paint(
    p: SimpleNamespace,
    heart: _Heart,
    x: Array,
    y: Array,
    depth: Array,
    edge: float,
    rng: Any,
    shape: tuple[int, int, int],
) -> Array:
    """Paint thorax and heart from back to front, ``[H, W, S]``, with LV blood at about 1."""
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

    A seed is a patient. Both phases of a seed share anatomy, position and slice shifts, and differ in contraction and
    noise. The first axis runs from the patient's right (right ventricle) to the left, the second from the chest wall
    to the back, the third from base to apex: transpose a slice to see it as a radiologist does. One or two slices at
    the ends hold no heart. Lengths in mm do not scale with the matrix, so a small field of view truncates the anatomy;
    only the heart's length follows the number of slices.

    Args:
        seed: identity of the patient, one non-negative integer or several.
        phase: ``"ED"`` (end diastole) or ``"ES"`` (end systole: smaller cavity, thicker wall, same muscle).
        num_slices: number of slices D, at least 4.
        matrix: in-plane size (H, W) in voxels.
        spacing: distance of voxel centres along the three axes in mm.
        noise: standard deviation of the Rician noise's Gaussian parts, relative to the intensity of LV blood.
        bias: largest absolute logarithm of the multiplicative bias field; 0 for none.
        group: one of ``PHANTOM_GROUPS``; None lets the seed choose.

    Returns:
        Image, float32 ``[H, W, D]``, >= 0, in scanner units whose gain differs by patient, and label, uint8
        ``[H, W, D]``, the ids of ``PHANTOM_LABELS``.

    Raises:
        ValueError: when ``phase`` or ``group`` is unknown, ``num_slices`` is less than 4, a size or spacing is not
            positive, or ``noise`` or ``bias`` is negative.
    """
    check_option("phase", phase, Phase)
    if group is not None:
        check_option("group", group, Group)
    if num_slices < 4:
        raise ValueError(f"num_slices must be at least 4, for a heart and empty end slices, got {num_slices}.")
    if len(matrix) != 2 or min(matrix) < 1 or len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"matrix and spacing must be 2 and 3 positive numbers, got {matrix} and {spacing}.")
    if noise < 0 or bias < 0:
        raise ValueError(f"noise and bias must not be negative, got {noise} and {bias}.")

    p = _draw_patient(seeded(seed, 0), group)
    shape = (matrix[0], matrix[1], num_slices)
    shift = seeded(seed, 1).normal(0.0, 1.3, (2, num_slices)).astype(np.float32)  # mm, breath-hold positions

    # Coordinates: u, v of the image from its centre, and z of the slab positions (S = 3 D).
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

    image = _paint(
        p, heart, body_x, body_y, depth, 1.3 * float(np.sqrt(spacing[0] * spacing[1])), seeded(seed, 2), shape
    )
    image = image.reshape(*shape, len(_SLAB)).mean(axis=3)
    image = ndimage.gaussian_filter(image, (0.45, 0.45, 0.0))
    image *= np.exp(_bias_field(seeded(seed, 3), shape, bias))
    real, imaginary = noise * seeded(seed, 4, get_args(Phase).index(phase)).standard_normal(
        (2, *shape), dtype=np.float32
    )
    image = p.gain * np.hypot(image + real, imaginary)

    middle = slice(len(_SLAB) // 2, None, len(_SLAB))
    label = np.zeros(shape, np.uint8)
    label[heart.rv[..., middle] < 0] = 1
    label[heart.epicardium[..., middle] < 0] = 2
    label[heart.outflow[..., middle] < 0] = 0
    label[heart.cavity[..., middle] < 0] = 3
    return image.astype(np.float32), label
