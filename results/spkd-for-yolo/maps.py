"""What a real teacher's similarity maps look like, level by level: prints the table of docs/spkd-for-yolo.md.

python results/spkd-for-yolo/maps.py WEIGHTS.pt DATA_FOLDER [--splits val2017] [--imgsz 640] [--threads 1]

For every level and every way of comparing: the row-normalised map's off-diagonal mean and sd (n - 1), its diagonal,
and the correlation of a pair's similarity with what the pair has in common: for images the share of classes
(intersection over union of their class sets), for objects whether they are of one class. In brackets: 95 % bootstrap
interval over images (seed 0; 1000 draws, 100 where more than 100 things are compared, as objects are; an object goes
with its image; pairs of a thing with itself are left out).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from spkd import plugin
from spkd.detect import features, hermetic, networks, probe
from spkd.detect.checks import scan

DRAWS = 1000


def shared_classes(labels: list[dict], order: list[str]) -> np.ndarray:
    """(n, n) intersection over union of the images' class sets."""
    sets = {entry["im_file"]: set(entry["cls"].reshape(-1).astype(int).tolist()) for entry in labels}
    return np.array([[len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for b in order] for a in order])


def correlation(entries: np.ndarray, target: np.ndarray, chosen: np.ndarray) -> float:
    """Correlation over the pairs of the chosen rows, without pairs of a row with itself."""
    pairs = chosen[:, None] != chosen[None, :]
    a, b = entries[np.ix_(chosen, chosen)][pairs], target[np.ix_(chosen, chosen)][pairs]
    return float(np.corrcoef(a, b)[0, 1])


def row(name: str, level: str, x: torch.Tensor, target: np.ndarray, image: np.ndarray, n_images: int) -> dict:
    """One line. x: (n, d) compared. target: (n, n) what a pair shares. image: (n,) which image a row is of."""
    part = plugin.load("losses", "sp")
    entries = part.normalise(part.similarity(x)).numpy()
    off = ~np.eye(len(entries), dtype=bool)
    rng = np.random.default_rng(0)
    rows_of = [np.flatnonzero(image == i) for i in range(n_images)]
    draws = range(DRAWS if len(entries) <= 100 else DRAWS // 10)
    drawn = []
    for _ in draws:
        rows = np.concatenate([rows_of[i] for i in rng.integers(0, n_images, n_images)])
        drawn.append(correlation(entries, target, rows))
    return {
        "level": level, "compared": name, "n": len(entries),
        "off-diagonal mean": float(entries[off].mean()), "off-diagonal sd": float(entries[off].std(ddof=1)),
        "diagonal": float(np.diag(entries).mean()),
        "correlation": correlation(entries, target, np.arange(len(entries))),
        "interval": [float(v) for v in np.percentile(drawn, [2.5, 97.5])],
    }  # fmt: skip


def main() -> None:
    """Print the table as markdown and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", nargs="+", default=["val2017"])
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    hermetic.quiet()
    folders = [str(given.data / "images" / split) for split in given.splits]
    seen = scan.split("all", folders, folders, 80).seen
    labels = [{"im_file": s.image, "cls": s.rows[:, :1], "bboxes": s.rows[:, 1:]} for s in seen if s.rows is not None]
    chosen = probe.choose(labels, len(labels), 10**6, given.imgsz)
    common = shared_classes(labels, chosen.paths)
    same = (chosen.object_class[:, None] == chosen.object_class[None, :]).astype(float)
    n, of_image = len(chosen.paths), chosen.box_image[chosen.object_order].numpy()
    model = networks.load(given.weights)
    with torch.no_grad():
        levels = [torch.cat(p) for p in zip(*(features.of(model(i)) for i in chosen.images.split(8)), strict=True)]
    table = []
    for name, x in zip(features.level_names(torch.as_tensor(model.stride)), levels, strict=True):
        shape = f"{name} ({' x '.join(map(str, x.shape[1:]))})"
        pooled, objects = x.mean((2, 3)), features.under_boxes(x, chosen.boxes, chosen.box_image)[chosen.object_order]
        table += [
            row("images, flattened (batch)", shape, x.flatten(1), common, np.arange(n), n),
            row("images, pooled, not centred", shape, pooled, common, np.arange(n), n),
            row("images, pooled, centred (pooled)", shape, pooled - pooled.mean(0), common, np.arange(n), n),
            row("objects, pooled, not centred", shape, objects, same, of_image, n),
            row("objects, pooled, centred (object)", shape, objects - objects.mean(0), same, of_image, n),
        ]
    print("| level | compared | n | off-diagonal | diagonal | correlation |\n|---|---|---|---|---|---|")
    for r in table:
        off = f"{r['off-diagonal mean']:.3f} +- {r['off-diagonal sd']:.3f}"
        corr = f"{r['correlation']:.3f} ({r['interval'][0]:.2f} to {r['interval'][1]:.2f})"
        print(f"| {r['level']} | {r['compared']} | {r['n']} | {off} | {r['diagonal']:.3f} | {corr} |")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
