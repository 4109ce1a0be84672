"""Similarity maps as evidence: which windows to compare, the numbers of a map, and its pictures.

Contract: a map comes in as the raw product G = F F^T of one layer's features, (b, b), as losses.sp.similarity gives it;
its rows are scaled to length 1 here, as the sp loss does. Every picture of one layer shares one colour scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from spkd.evidence.charts import colours
from spkd.evidence.charts.colours import Limits
from spkd.evidence.charts.heatmaps import DIFFERENCE_COLOURS, MAP_COLOURS, edges

SHORTEST_ROW = 1e-12
SMALLEST_IMAGE = 256
ROUNDING = 1e-6
NARROWEST = 0.05  # of a scale of differences, to either side


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

    @property
    def signed_limits(self) -> Limits:
        """The colour scale of the differences, to either side as wide as that of the maps; it stays put, too."""
        low, high = self.limits
        wide = max(high - low, NARROWEST)
        return -wide, wide


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
    products = [np.asarray(g, np.float64) for g in (student, teacher)]
    k, t = (centring @ g @ centring for g in products)
    sizes = [float(np.linalg.norm(c)) for c in (k, t)]
    # What is left of a constant layer's products is rounding, of float32 as a rule.
    if any(size <= ROUNDING * np.linalg.norm(g) for size, g in zip(sizes, products, strict=True)):
        return float("nan")
    return float((k * t).sum() / (sizes[0] * sizes[1]))


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
    """(low, high) of a colour scale: the entries between two windows, without the one per cent at either end.

    Entries that are no numbers, as a diverged run has them, do not count; (-0.5, 0.5) where there are no others.
    """
    off = ~np.eye(len(maps[0]), dtype=bool)
    entries = np.concatenate([m[off] for m in maps]) if off.any() else np.concatenate([m.ravel() for m in maps])
    entries = entries[np.isfinite(entries)]
    low, high = np.percentile(entries, [1, 99]) if len(entries) else (0.0, 0.0)
    return (float(low), float(high)) if high - low > SHORTEST_ROW else (float(low) - 0.5, float(low) + 0.5)


def symmetric(differences: Sequence[np.ndarray]) -> Limits:
    """(-m, m) that holds 99 per cent of the entries of differences between maps; (-1, 1) where all are 0 or NaN."""
    sizes = np.abs(np.concatenate([d.ravel() for d in differences]))
    sizes = sizes[np.isfinite(sizes)]
    high = (float(np.percentile(sizes, 99)) if len(sizes) else 0.0) or 1.0
    return -high, high


def draw(entries: np.ndarray, limits: Limits, labels: np.ndarray, signed: bool = False) -> np.ndarray:
    """One map as an image, (h, h, 3) uint8 with h >= 256, a line between classes.

    entries: (b, b) map, or difference of maps if signed. limits: the colour scale; entries beyond it take its ends.
    """
    scale = -(-SMALLEST_IMAGE // len(entries))
    image = colours.pixels(entries, limits, DIFFERENCE_COLOURS if signed else MAP_COLOURS)
    image = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
    line = (0, 0, 0) if signed else (255, 255, 255)
    for edge in edges(labels):
        image[edge * scale, :] = line
        image[:, edge * scale] = line
    return np.ascontiguousarray(image, np.uint8)


def images(layer: Layer, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Every picture of a layer by name: each teacher, `student`, and `student - <teacher>`; for log_image."""
    found = {name: draw(entries, layer.limits, labels) for name, entries in layer.maps.items()}
    differences = layer.differences.items()
    return found | {f"student - {name}": draw(d, layer.signed_limits, labels, signed=True) for name, d in differences}


def arrays(layers: Mapping[str, Layer], labels: np.ndarray, rows: np.ndarray, step: int) -> dict[str, np.ndarray]:
    """What the pictures show, for an .npz: `<layer>/student`, `<layer>/teacher/<name>`, labels, rows, step."""
    found = {"labels": np.asarray(labels), "rows": np.asarray(rows), "step": np.asarray(step)}
    for name, layer in layers.items():
        found[f"{name}/student"] = np.asarray(layer.student, np.float32)
        found |= {f"{name}/teacher/{t}": np.asarray(p, np.float32) for t, p in layer.teachers.items()}
    return found


def stored(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[Layer, np.ndarray]]:
    """{layer: (its products, the classes of its rows)} of an .npz, of `arrays` or of a detector: `image/P3` and so on.

    A detector's has `student/<what>/<level>`, the same of `teacher`, and `<what>_class`.
    """
    found = {}
    for name, student in arrays.items():
        if name.startswith("student/"):
            layer = name.removeprefix("student/")
            teachers = {"teacher": arrays[f"teacher/{layer}"]} if f"teacher/{layer}" in arrays else {}
            found[layer] = Layer(student, teachers), arrays[f"{layer.split('/')[0]}_class"]
        elif name.endswith("/student"):
            layer = name.removesuffix("/student")
            start = f"{layer}/teacher/"
            teachers = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
            found[layer] = Layer(student, teachers), arrays["labels"]
    return found
