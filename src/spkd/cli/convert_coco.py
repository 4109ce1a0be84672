"""Turn COCO into a YOLO data set: images/, labels/, data.yaml and a report, in one atomic step.

Without options it converts what coco.source names into data/coco (the DVC stage). With --annotations FILE --images DIR
--out DIR it converts any instances JSON; or give --annotations a folder of instances_<split>.json and --images the
folder that holds one image folder per split. --split names the split of a single file (else: its image folder's name).
"""

from pathlib import Path
from typing import Any

from spkd import raw_import
from spkd.detect import coco
from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ("coco",)
OPTIONS = {
    "annotations": "an instances JSON, or a folder of instances_<split>.json, instead of coco.source [path]",
    "images": "its folder of images, or the folder that holds one folder of images per split [path]",
    "out": "the folder of the YOLO data set, replaced as a whole [path]",
    "split": "the split of a single file; without it, the name of its folder of images",
}


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """Convert and print what was written and what was dropped."""
    if options:
        missing = [f"--{key}" for key in ("annotations", "images", "out") if key not in options]
        if missing:
            raise SpkdError(
                "command line",
                "--annotations, --images and --out together",
                " ".join(options),
                f"add {' '.join(missing)}",
            )
        annotations, images, out = (Path(options[key]) for key in ("annotations", "images", "out"))
        splits = found_splits(annotations, images) if annotations.is_dir() else [one(annotations, images, options)]
        marked = any((folder / "SIMULATED").is_file() for folder in (images, images.parent))
        origin = "simulated" if marked else (images if annotations.is_dir() else annotations).resolve().name
    else:
        source = settings.coco.source
        if source == "raw":
            raw_import.check(coco.OUT, "dvc repro coco")
        if source == "raw" and not coco.RAW.is_dir() and not (coco.OUT / coco.REPORT).is_file():
            why = "no folder coco in the recordings that data.dvc imports"
            coco.leave_out(coco.OUT, why)
            print(f"{coco.OUT}: {why}: left out")
            return 0
        root = coco.source_folder(source)
        with raw_import.told(source == "raw"):
            if not (root / "annotations").is_dir():
                do = "run `spkd fetch coco`, or correct coco.source"
                do = "run `dvc repro`, or put it there" if source == "raw" else do
                raise SpkdError(root, "a COCO folder (annotations/ and image folders)", "no annotations/", do)
            splits = found_splits(root / "annotations", root, "val2017" if source == "val2017" else None)
        out = coco.OUT
        origin = "simulated" if (root / "SIMULATED").is_file() else source
    chosen = settings.coco
    with raw_import.told(not options and chosen.source == "raw"):
        report = coco.convert(splits, out, chosen.images, chosen.segments, chosen.damaged_images, origin)
    print(f"{out / coco.DATA}: {len(report['classes'])} classes, origin {origin}")
    for name, split in report["splits"].items():
        print(f"  {name}: {split['images']} images ({split['backgrounds']} without objects), {split['boxes']} boxes")
        for what, drops in (("dropped", split["drops"]), ("left out", split["images_dropped"])):
            for reason, drop in drops.items():
                print(f"    {what} {drop['n']}: {reason}; first: {drop['first']}")
    return 0


def one(annotations: Path, images: Path, options: dict[str, str]) -> coco.Split:
    """The split of a single instances file."""
    name = options.get("split", "train" if images.name in ("images", "labels") else images.resolve().name)
    return coco.Split(name, annotations, images)


def found_splits(annotations: Path, images: Path, only: str | None = None) -> list[coco.Split]:
    """A split for every instances_<split>.json whose image folder is there; says which have none. only: this one."""
    files = {p.stem.removeprefix("instances_"): p for p in sorted(annotations.glob("instances_*.json"))}
    wanted = {s: p for s, p in files.items() if only in (None, s)}
    splits = [coco.Split(s, p, images / s) for s, p in wanted.items() if (images / s).is_dir()]
    if not splits:
        got = f"{sorted(files) or 'no such file'}"
        do = "put the images of instances_<split>.json into a folder <split>, or name a single file with --annotations"
        raise SpkdError(annotations, f"instances_<split>.json with image folders in {images}", got, do)
    for split in wanted.keys() - {s.name for s in splits}:
        print(f"{files[split]}: no image folder {images / split}: left out")
    return splits
