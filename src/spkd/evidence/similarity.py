"""Similarity maps as evidence: which windows to compare, the numbers of a map, and its pictures.

Contract: a map comes in as the raw product G = F F^T of one layer's features, (b, b), as losses.sp.similarity gives it;
its rows are scaled to length 1 here, as the sp loss does. Every picture of one layer shares one colour scale.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

SHORTEST_ROW = 1e-12
SMALLEST_IMAGE = 256
MAP_COLOURS, DIFFERENCE_COLOURS = "viridis", "RdBu_r"
Limits = tuple[float, float]


@dataclass(frozen=True)
class Layer:
    """The products of one tapped layer on the probe: the student's, and each teacher's by name. All (b, b)."""

    student: np.ndarray
    teachers: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """Row-normalised maps in the order of the columns: teachers, then the student."""
        named = {**self.teachers, "student": self.student}
        return {name: normalised(product) for name, product in named.items()}

    @property
    def differences(self) -> dict[str, np.ndarray]:
        """Student's map minus each teacher's."""
        student = normalised(self.student)
        return {name: student - normalised(product) for name, product in self.teachers.items()}

    @property
    def limits(self) -> Limits:
        """The colour scale of the layer's maps: the teachers', which stay put while the student learns."""
        return spread([normalised(p) for p in (self.teachers.values() or [self.student])])


def probe(labels: np.ndarray, per_class: int, subjects: np.ndarray | None = None) -> np.ndarray:
    """(rows,) int64: per_class windows of every class, sorted by class; the same for every run of a data set.

    labels: (n,) class indices, negative ones are never chosen. subjects: (n,) subject indices: the windows of a class
    are then spread over subjects. A class with fewer windows gives all it has.
    """
    order = np.arange(len(labels)) if subjects is None else np.argsort(subjects, kind="stable")
    chosen = []
    for wanted in np.unique(labels[labels >= 0]):
        own = order[labels[order] == wanted]
        count = min(per_class, len(own))
        places = ((np.arange(count) + 0.5) * len(own) / count).astype(np.int64)
        chosen.append(own[places])
    return np.concatenate(chosen).astype(np.int64) if chosen else np.zeros(0, np.int64)


def normalised(product: np.ndarray) -> np.ndarray:
    """The map: each ROW of the product scaled to length 1; an all-zero row stays zero. (b, b) float64."""
    product = np.asarray(product, np.float64)
    rows: np.ndarray = product / np.maximum(np.linalg.norm(product, axis=1, keepdims=True), SHORTEST_ROW)
    return rows


def distance(student: np.ndarray, teacher: np.ndarray) -> float:
    """||G_t - G_s||_F^2 / b^2 of the two row-normalised maps: the value of the sp loss on the probe."""
    return float(np.square(normalised(student) - normalised(teacher)).sum() / len(student) ** 2)


def contrast(product: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(mean of the map between two windows of one class, mean between two classes); a window's own entry is left out.

    NaN where there is no such pair.
    """
    rows = normalised(product)
    same = labels[:, None] == labels[None, :]
    off = ~np.eye(len(labels), dtype=bool)
    within, between = rows[same & off], rows[~same]
    return tuple(float(part.mean()) if part.size else float("nan") for part in (within, between))  # type: ignore[return-value]


def cka(student: np.ndarray, teacher: np.ndarray) -> float:
    """Linear CKA of two products: 1 = same geometry up to rotation and scale, 0 = unrelated. NaN for a constant one.

    Source: Kornblith et al., ICML 2019.
    """
    b = len(student)
    centring = np.eye(b) - 1 / b
    k, t = (centring @ np.asarray(g, np.float64) @ centring for g in (student, teacher))
    scale = np.linalg.norm(k) * np.linalg.norm(t)
    return float((k * t).sum() / scale) if scale > SHORTEST_ROW else float("nan")


def numbers(layer: Layer, labels: np.ndarray) -> dict[str, float]:
    """The numbers of one layer, by metric name.

    labels: (b,) classes of the probe. within, between, contrast (their difference) of the student's map, and for each
    teacher distance/<name>, cka/<name>, contrast/<name>. What is not defined (one class only, say) is left out.
    """
    within, between = contrast(layer.student, labels)
    found = {"within": within, "between": between, "contrast": within - between}
    for name, product in layer.teachers.items():
        own_within, own_between = contrast(product, labels)
        found[f"distance/{name}"] = distance(layer.student, product)
        found[f"cka/{name}"] = cka(layer.student, product)
        found[f"contrast/{name}"] = own_within - own_between
    return {key: value for key, value in found.items() if np.isfinite(value)}


def spread(maps: Sequence[np.ndarray]) -> Limits:
    """(low, high) of a colour scale: the entries between two windows, without the one per cent at either end."""
    off = ~np.eye(len(maps[0]), dtype=bool)
    entries = np.concatenate([m[off] for m in maps]) if off.any() else np.concatenate([m.ravel() for m in maps])
    low, high = np.percentile(entries, [1, 99])
    return (float(low), float(high)) if high - low > SHORTEST_ROW else (float(low) - 0.5, float(low) + 0.5)


def symmetric(differences: Sequence[np.ndarray]) -> Limits:
    """(-m, m) that holds 99 per cent of the entries of differences between maps."""
    high = float(np.percentile(np.abs(np.concatenate([d.ravel() for d in differences])), 99)) or 1.0
    return -high, high


def draw(entries: np.ndarray, limits: Limits, labels: np.ndarray, signed: bool = False) -> np.ndarray:
    """One map as an image, (h, h, 3) uint8 with h >= 256, a line between classes.

    entries: (b, b) map, or difference of maps if signed. limits: the colour scale; entries beyond it take its ends.
    """
    scale = -(-SMALLEST_IMAGE // len(entries))
    colours = colormaps[DIFFERENCE_COLOURS if signed else MAP_COLOURS]
    image = colours(Normalize(*limits, clip=True)(entries), bytes=True)[..., :3]
    image = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
    line = (0, 0, 0) if signed else (255, 255, 255)
    for edge in _edges(labels):
        image[edge * scale, :] = line
        image[:, edge * scale] = line
    return np.ascontiguousarray(image, np.uint8)


def images(layer: Layer, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Every picture of a layer by name: each teacher, `student`, and `student - <teacher>`; for log_image."""
    found = {name: draw(entries, layer.limits, labels) for name, entries in layer.maps.items()}
    differences = layer.differences
    if differences:
        limits = symmetric(list(differences.values()))
        found |= {f"student - {name}": draw(d, limits, labels, signed=True) for name, d in differences.items()}
    return found


def _edges(labels: np.ndarray) -> list[int]:
    return [int(edge) for edge in np.flatnonzero(np.diff(labels)) + 1]


def panel(layers: Mapping[str, Layer], labels: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """All layers in one figure: a row each, columns = teachers, student, differences.

    labels: (b,) sorted classes of the probe. classes: names by class index. title: run, step, simulated or not.
    A row has one colour scale for its maps and a symmetric one for its differences. All layers have the same teachers.
    """
    teachers = len(next(iter(layers.values())).teachers)
    maps = teachers + 1
    widths = [1.0] * maps + [0.05] + ([0.22] + [1.0] * teachers + [0.05] if teachers else [])
    size = 2.3 * sum(widths) + 1.9, 2.5 * len(layers) + 0.5
    figure = Figure(figsize=size, dpi=100)
    title = textwrap.fill(title, int(11 * size[0]))
    figure.suptitle(title, fontsize=10, x=0.01, y=1 - 0.12 / size[1], ha="left", va="top")
    # Placed by hand: the automatic layouts of matplotlib take longer than everything else here.
    edges = {"left": 1.25 / size[0], "right": 1 - 0.6 / size[0], "bottom": 0.05 / size[1], "top": 1 - 0.6 / size[1]}
    grid = figure.add_gridspec(len(layers), len(widths), width_ratios=widths, wspace=0.08, hspace=0.14, **edges)
    for row, (name, layer) in enumerate(layers.items()):
        gap = maps + 1
        axes = [figure.add_subplot(grid[row, column]) for column in range(len(widths)) if column != gap]
        _fill(axes[:maps], axes[maps], layer.maps, layer.limits, MAP_COLOURS, labels)
        if teachers:
            named = {f"student - {teacher}": d for teacher, d in layer.differences.items()}
            limits = symmetric(list(named.values()))
            _fill(axes[maps + 1 : -1], axes[-1], named, limits, DIFFERENCE_COLOURS, labels)
        _name_classes(axes[0], labels, classes)
        axes[0].set_ylabel(name, fontsize=10, fontweight="bold")
    return figure


def _fill(
    axes: Sequence[Any], bar: Any, maps: Mapping[str, np.ndarray], limits: Limits, colours: str, labels: np.ndarray
) -> None:
    """Draw maps of one scale into neighbouring axes, and their colour bar."""
    colour = "white" if colours == MAP_COLOURS else "grey"
    for axis, (name, entries) in zip(axes, maps.items(), strict=True):
        drawn = axis.imshow(entries, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
        axis.set_title(name, fontsize=8, pad=3)
        axis.xaxis.set_visible(False)
        axis.yaxis.set_visible(False)
        # One artist for all lines: an artist each is what takes longest to draw.
        edges, far = np.array(_edges(labels)) - 0.5, len(entries) - 0.5
        across = [[(-0.5, edge), (far, edge)] for edge in edges] + [[(edge, -0.5), (edge, far)] for edge in edges]
        axis.add_collection(LineCollection(across, colors=colour, linewidths=0.5), autolim=False)
    bar.figure.colorbar(drawn, cax=bar, extend="both").ax.tick_params(labelsize=7)


def _name_classes(axis: Any, labels: np.ndarray, classes: Sequence[str]) -> None:
    axis.yaxis.set_visible(True)
    present = np.unique(labels)
    centres = [float(np.flatnonzero(labels == label).mean()) for label in present]
    axis.set_yticks(centres, [classes[int(label)] for label in present], fontsize=6 if len(present) > 8 else 7)
    axis.tick_params(length=0)


def arrays(layers: Mapping[str, Layer], labels: np.ndarray, rows: np.ndarray, step: int) -> dict[str, np.ndarray]:
    """What the pictures show, for an .npz: `<layer>/student`, `<layer>/teacher/<name>`, labels, rows, step."""
    found = {"labels": np.asarray(labels), "rows": np.asarray(rows), "step": np.asarray(step)}
    for name, layer in layers.items():
        found[f"{name}/student"] = np.asarray(layer.student, np.float32)
        found |= {f"{name}/teacher/{t}": np.asarray(p, np.float32) for t, p in layer.teachers.items()}
    return found
