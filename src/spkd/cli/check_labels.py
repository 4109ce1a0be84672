"""Does YOLO really find the labels of a data set? Says what is wrong and what to type; exit status 1 where it is.

spkd check-labels [data.yaml] [--train-json instances_train.json] [--val-json instances_val.json] [--sheet sheet.png]
"""

import json
import sys
from pathlib import Path
from typing import Any

from spkd.settings import Settings

SECTIONS = ("detect", "coco")
POSITIONAL = {"data?": "a data.yaml; without it, that of detect.data"}
OPTIONS = {
    "train-json": "instances JSON that the labels of `train` are compared with [path]",
    "val-json": "instances JSON that the labels of `val` are compared with [path]",
    "sheet": "draw images with the boxes that YOLO reads into this .png or .jpg [path]",
    "json": "write the counts into this file [path]",
}


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """Check the data set of params.yaml, of the classes that are trained on, or any other data.yaml, of all."""
    from spkd import atomic
    from spkd.detect.checks import preflight, sheet, truth
    from spkd.evidence import simulated

    if "sheet" in options:
        sheet.target(Path(options["sheet"]))
    data = Path(words[0] if words else settings.detect.data)
    annotations = {} if words else truth.annotations(settings)
    annotations |= {split: Path(options[f"{split}-json"]) for split in ("train", "val") if f"{split}-json" in options}
    classes = None if words else settings.detect.train.get("classes")
    report = preflight.check(data, annotations, settings.detect.preflight, classes)
    for name, split in report.splits.items():
        counts = {k: v for k, v in report.summary()["splits"][name].items() if k != "classes"}
        print(f"{name}: {'  '.join(f'{k} {v}' for k, v in counts.items())}")
        print(f"  {preflight.histogram_text(report, split)}")
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"REFUSED: {problem}", file=sys.stderr)
    if "sheet" in options:
        first = next(iter(report.splits.values()))
        picture = simulated.marked(sheet.draw(first.trained, report.names), report.origin)
        print(f"contact sheet: {sheet.save(picture, Path(options['sheet']))}")
    if "json" in options:
        atomic.write_text(Path(options["json"]), json.dumps(report.summary(), indent=1))
    if unseen := [name for name in ("train", "val") if name in report.splits and name not in annotations]:
        words_for = ", ".join(f"--{name}-json" for name in unseen)
        print(f"not compared with a COCO JSON, which alone shows shifted classes: {' and '.join(unseen)} ({words_for})")
    print(f"{data}: {'ok' if report.ok else f'{len(report.problems)} problem(s), do not train on it'}")
    return 0 if report.ok else 1
