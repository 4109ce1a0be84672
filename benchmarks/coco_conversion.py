"""Speed and peak memory of our COCO label conversion against ultralytics' convert_coco, on the size of train2017.

Both read the same generated JSON (860,000 annotations with polygons, 117,266 images, 80 classes in the 91-id space)
and write its label files. Each run is a process of its own, the two take turns, and nothing is deleted before the end
(ext4 creates files slowly just after many were deleted). Seconds count from after the imports. Expected: >= 8x faster,
<= 1/4 of the memory.

    python benchmarks/coco_conversion.py [annotations] [repeats] [folder ...]
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "results" / "benchmarks" / "coco_conversion.json"
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
    from spkd.detect import coco, coco_json
    from spkd.detect.coco_boxes import Drops

    started = time.perf_counter()
    found = coco_json.read(folder / "instances_train2017.json")
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
    private = {"YOLO_CONFIG_DIR": str(out.parent / "settings"), "YOLO_OFFLINE": "true", "PYTHONPATH": str(ROOT / "src")}
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


def compare(place: Path, n: int, repeats: int) -> dict[str, object]:
    """Both converters in turn on the file system of `place`."""
    work = Path(tempfile.mkdtemp(prefix="coco-", dir=place))
    try:
        (work / "json").mkdir()
        generate(work / "json" / "instances_train2017.json", n)
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "ultralytics": []}
        for i in range(repeats):
            for which in runs:
                runs[which].append(measure(which, work / "json", work / f"{which}{i}"))
                print(place, which, runs[which][-1], flush=True)
        rows = {which: rows_in(work / f"{which}0" / "labels") for which in runs}
        size = (work / "json" / "instances_train2017.json").stat().st_size
    finally:
        shutil.rmtree(work)
    speed = [u["seconds"] / o["seconds"] for o, u in zip(runs["ours"], runs["ultralytics"], strict=True)]
    memory = [o["peak_mib"] / u["peak_mib"] for o, u in zip(runs["ours"], runs["ultralytics"], strict=True)]
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(place)], capture_output=True, text=True, check=True)
    return {
        "file_system": kind.stdout.strip(),
        "json_bytes": size,
        "label_rows": rows,
        "runs": runs,
        "times_faster": summary(speed),
        "share_of_peak_memory": summary(memory),
    }


def summary(values: list[float]) -> dict[str, float]:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "sd": spread, "min": min(values), "max": max(values), "n": len(values)}


def machine() -> dict[str, object]:
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    return {"cpu": cpu.partition(": ")[2] or platform.processor(), "cores": os.cpu_count(), "system": platform.system()}


def main(words: list[str]) -> None:
    n = int(words[0]) if words else 860_000
    repeats = int(words[1]) if len(words) > 1 else 3
    places = [Path(w) for w in words[2:]] or [Path(tempfile.gettempdir())]
    found = [compare(place, n, repeats) for place in places]
    packages = ("numpy", "msgspec", "ultralytics-opencv-headless")
    result = {
        "claim": ">= 8x faster and <= 1/4 of the peak memory of ultralytics' convert_coco, labels of the same JSON",
        "n_annotations": n,
        "machine": machine(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "places": found,
    }
    if n >= 860_000:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for one in found:
        fast, small = one["times_faster"], one["share_of_peak_memory"]
        print(
            f"{n} annotations on {one['file_system']}: {fast['mean']:.1f}x faster than ultralytics "
            f"(sd {fast['sd']:.1f}, n={fast['n']}), {small['mean']:.2f} of its peak memory; "
            f"{machine()['cores']} cores of {machine()['cpu']}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print({"ours": ours, "ultralytics": ultralytics}[sys.argv[2]](Path(sys.argv[3]), Path(sys.argv[4])))
    else:
        main(sys.argv[1:])
