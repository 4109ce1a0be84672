"""Speed and peak memory of our COCO label conversion against ultralytics' convert_coco, on the size of train2017.

Both read the same generated JSON (860,000 annotations with polygons, 117,266 images, 80 classes in the 91-id space)
and write its label files. Each run is a process of its own, the two take turns, also at being first, and nothing is
deleted before the end (ext4 creates files slowly just after many were deleted). Seconds count from after the imports.
Expected: >= 8x faster, <= 1/4 of the memory.

    python benchmarks/coco_conversion.py [annotations] [repeats] [folder ...]
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _measure
import numpy as np

IMAGES_PER_ANNOTATION = 117_266 / 860_001


def generate(to: Path, n: int) -> None:
    """An instances JSON as long and as wide as the official one."""
    rng, n_images = np.random.default_rng(0), max(1, int(n * IMAGES_PER_ANNOTATION))
    ids = [c for c in range(1, 91) if c not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    corner = (rng.random((n, 2)) * (560, 400)).round(2).tolist()
    extent = (5 + rng.random((n, 2)) * 75).round(2).tolist()
    image, label = rng.integers(0, n_images, n).tolist(), rng.choice(ids, n).tolist()
    corners = rng.gamma(1.5, 16, 2000).astype(int) + 3
    outlines = [json.dumps((rng.random(2 * k) * 480).round(2).tolist(), separators=(",", ":")) for k in corners]
    host = "http://images.cocodataset.org/train2017"
    with to.open("w") as file:
        file.write('{"info":{"description":"generated"},"licenses":[],"images":[')
        for i in range(n_images):
            file.write(
                f'{"," if i else ""}{{"license":3,"file_name":"{i:012d}.jpg","coco_url":"{host}/{i:012d}.jpg",'
                f'"height":480,"width":640,"date_captured":"2013-11-14 17:02:52",'
                f'"flickr_url":"{host}/{i:012d}_z.jpg","id":{i}}}'
            )
        file.write('],"annotations":[')
        for i in range(n):
            (x, y), (w, h) = corner[i], extent[i]
            file.write(
                f'{"," if i else ""}{{"segmentation":[{outlines[i % 2000]}],"area":{w * h:.4f},"iscrowd":0,'
                f'"image_id":{image[i]},"bbox":[{x},{y},{w},{h}],"category_id":{label[i]},"id":{i + 1}}}'
            )
        names = [{"supercategory": "any", "id": c, "name": f"class {c}"} for c in ids]
        file.write(f'],"categories":{json.dumps(names)}}}')


def ours(folder: Path, out: Path) -> float:
    """Seconds of the conversion in this process."""
    from spkd.detect import coco
    from spkd.detect.coco import instances
    from spkd.detect.coco.boxes import Drops

    started = time.perf_counter()
    found = instances.read(folder / "instances_train2017.json")
    usable = np.ones(len(found.files), bool)
    coco.write_labels(found, usable, found.files, out / "labels" / "train2017", Drops())
    return time.perf_counter() - started


def ultralytics(folder: Path, out: Path) -> float:
    """Seconds of the peer's conversion in this process."""
    from ultralytics.data.converter import convert_coco

    started = time.perf_counter()
    convert_coco(str(folder), str(out))
    return time.perf_counter() - started


def measure(which: str, folder: Path, out: Path) -> dict[str, float]:
    """Run one converter in a child: seconds without its imports, wall seconds of the process, peak resident memory."""
    os.sync()
    private = {
        "YOLO_CONFIG_DIR": str(out.parent / "settings"),
        "YOLO_OFFLINE": "true",
        "PYTHONPATH": str(_measure.ROOT / "src"),
    }
    Path(private["YOLO_CONFIG_DIR"]).mkdir(exist_ok=True)
    log, started = out.with_suffix(".log"), time.perf_counter()
    with log.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", which, str(folder), str(out)],
            stdout=file, stderr=subprocess.STDOUT, env=os.environ | private,
        )  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    if child.returncode:
        raise SystemExit(f"{which} failed:\n{text[-3000:]}")
    seconds = float(text.strip().splitlines()[-1])
    peak = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"seconds": seconds, "wall_s": time.perf_counter() - started, "peak_mib": peak}


def rows_in(labels: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in labels.rglob("*.txt"))


def compare(place: Path, n: int, repeats: int) -> list[dict]:
    """Both converters in turn on the file system of `place`."""
    work = Path(tempfile.mkdtemp(prefix="coco-", dir=place))
    try:
        (work / "json").mkdir()
        generate(work / "json" / "instances_train2017.json", n)
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "ultralytics": []}
        for i in range(repeats):
            for which in sorted(runs, reverse=i % 2 == 1):
                runs[which].append(measure(which, work / "json", work / f"{which}{i}"))
                print(place, which, runs[which][-1], flush=True)
        rows = {which: rows_in(work / f"{which}0" / "labels") for which in runs}
    finally:
        shutil.rmtree(work)
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(place)], capture_output=True, text=True, check=True)
    seconds, memory = ({w: [one[key] for one in runs[w]] for w in runs} for key in ("seconds", "peak_mib"))
    where = f"COCO conversion, {n} annotations, {kind.stdout.strip()}"
    peer = f"ultralytics' convert_coco ({rows['ours']} rows against {rows['ultralytics']})"
    return [
        _measure.faster(where, peer, seconds, "ours", "ultralytics", 8),
        _measure.dearer(f"{where}: peak memory", peer, memory, "ours", "ultralytics", 0.25),
    ]


def main(words: list[str]) -> None:
    n = int(words[0]) if words else 860_000
    repeats = int(words[1]) if len(words) > 1 else 3
    places = [Path(w) for w in words[2:]] or [Path(tempfile.gettempdir())]
    rows = [row for place in places for row in compare(place, n, repeats)]
    _measure.keep("coco_conversion", rows, ("numpy", "msgspec", "ultralytics-opencv-headless"), "Wall clock.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print({"ours": ours, "ultralytics": ultralytics}[sys.argv[2]](Path(sys.argv[3]), Path(sys.argv[4])))
    else:
        main(sys.argv[1:])
