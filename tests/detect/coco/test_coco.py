"""COCO to YOLO: hand-computed rows, AP = 1.000 back from the labels, parity with the peer, and every damage named."""

import contextlib
import copy
import gc
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import spkd
from spkd import meter
from spkd.detect import coco
from spkd.detect.coco import Split, image_files, instances
from spkd.errors import SpkdError

SRC = str(Path(spkd.__file__).parents[1])
ROW = {"iscrowd": 0, "segmentation": [], "area": 1}
TREE = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100},
        {"id": 3, "file_name": "b.png", "width": 64, "height": 64},
        {"id": 5, "file_name": "empty.jpg", "width": 50, "height": 80},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [20, 10, 100, 50], **ROW},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [-20, 50, 60, 100], **ROW},  # reaches out left and below
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], **ROW, "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 9], **ROW},
        {"id": 5, "image_id": 7, "category_id": 1, "bbox": [205, 5, 10, 9], **ROW},
        {"id": 6, "image_id": 3, "category_id": 13, "bbox": [0, 0, 64, 64], **ROW},
        {"id": 7, "image_id": 999, "category_id": 13, "bbox": [0, 0, 64, 64], **ROW},
        {"id": 8, "image_id": 3, "category_id": 13, "bbox": [0, 0, 64, 64], **ROW},
    ],
    "categories": [{"id": 90, "name": "brush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}],
}


@pytest.fixture
def source(tmp_path):
    """A small COCO folder on disk that belongs to TREE: source/train and source/instances.json."""
    folder = tmp_path / "source"
    (folder / "train").mkdir(parents=True)
    for record in TREE["images"]:
        Image.new("RGB", (record["width"], record["height"]), "gray").save(folder / "train" / record["file_name"])
    write(folder, TREE)
    return folder


def write(folder, tree):
    (folder / "instances.json").write_text(tree if isinstance(tree, str) else json.dumps(tree))


def convert(source, **other):
    settings = {"images": "hardlink", "segments": False, "damaged_images": "error", "origin": "test"} | other
    out = source.parent / "out"
    return coco.convert([Split("train", source / "instances.json", source / "train")], out, **settings), out


def changed(**edits):
    """A copy of TREE with `annotations_0_bbox=...`-style edits; None removes the key."""
    tree = copy.deepcopy(TREE)
    for path, value in edits.items():
        kind, row, key = path.split("__")
        tree[kind][int(row)][key] = value
        if value is None:
            del tree[kind][int(row)][key]
    return tree


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_rows_are_those_computed_by_hand(source):
    """a.jpg is 200 x 100. [20, 10, 100, 50] -> (0.35, 0.35, 0.5, 0.5); [-20, 50, 60, 100] clips to 0..40 x 50..100."""
    _, out = convert(source)
    assert (out / "labels/train/a.txt").read_text() == (
        "2 0.350000 0.350000 0.500000 0.500000\n0 0.100000 0.750000 0.200000 0.500000\n"
    )
    assert (out / "labels/train/b.txt").read_text() == "1 0.500000 0.500000 1.000000 1.000000\n"
    assert (out / "labels/train/empty.txt").read_text() == ""


def test_a_share_that_no_six_digits_hold_is_rounded_to_the_nearest(source):
    """An image of 3 pixels, a box over two of them: 2/3 = 0.666667."""
    Image.new("RGB", (3, 100)).save(source / "train" / "a.jpg")
    tree = changed(images__0__width=3, annotations__0__bbox=[0, 0, 2, 50])
    write(source, {**tree, "annotations": tree["annotations"][:1]})
    _, out = convert(source)
    assert (out / "labels/train/a.txt").read_text() == "2 0.333333 0.250000 0.666667 0.500000\n"


def test_rows_keep_the_order_of_their_annotations_whatever_image_comes_between(source):
    boxes = [[i, i, 10, 10] for i in range(50)]
    rows = [{"id": i, "image_id": (7, 3)[i % 2], "category_id": 1, "bbox": box, **ROW} for i, box in enumerate(boxes)]
    write(source, {**TREE, "annotations": rows})
    _, out = convert(source)
    left = [float(line.split()[1]) for line in (out / "labels/train/a.txt").read_text().splitlines()]
    assert left == [(box[0] + 5) / 200 for box in boxes[::2]]


@pytest.mark.parametrize(("box", "reason"), [
    ([205, 5, 10, 9], "box outside of its image"), ([5, 105, 10, 9], "box outside of its image"),
    ([5, 5, 0, 9], "box without width or height"), ([5, 5, 9, 0], "box without width or height"),
    ([5, 5, 1e-5, 9], "box thinner than a millionth of its image"),
    ([5, 5, 9, 1e-5], "box thinner than a millionth of its image"),
])  # fmt: skip
def test_a_box_that_leaves_nothing_across_or_down_is_dropped(source, box, reason):
    tree = changed(annotations__0__bbox=box)
    write(source, {**tree, "annotations": tree["annotations"][:1]})
    report, out = convert(source)
    assert {why: drop["n"] for why, drop in report["splits"]["train"]["drops"].items()} == {reason: 1}
    assert (out / "labels/train/a.txt").read_text() == ""


@pytest.mark.parametrize(
    ("values", "keys", "expected"),
    [
        ([1, 10, 12, 13], [10, 12], [-1, 0, 1, -1]),
        ([5, 10**9, 7, 6, 2 * 10**9], [10**9, 5, 7], [1, 0, 2, -1, -1]),  # ids too far apart for a table
    ],
)
def test_ids_are_found_by_row_and_unknown_ones_are_not(values, keys, expected):
    assert instances._position(np.array(values), np.array(keys)).tolist() == expected


def test_garbage_is_collected_again_after_a_file_was_read_or_refused(source):
    assert gc.isenabled()
    instances.read(source / "instances.json")
    assert gc.isenabled()
    write(source, "[]")
    with pytest.raises(SpkdError):
        instances.read(source / "instances.json")
    assert gc.isenabled()


def test_everything_yolo_needs_is_written_and_nothing_else(source):
    _, out = convert(source)
    labels, images = ("a", "b", "empty"), ("a.jpg", "b.png", "empty.jpg")
    assert files(out) == sorted(
        [
            "conversion.json",
            "data.yaml",
            *(f"labels/train/{n}.txt" for n in labels),
            *(f"images/train/{n}" for n in images),
        ]
    )
    assert not any(p.is_symlink() for p in out.rglob("*"))
    assert files(source.parent)[: len(files(out))] == [f"out/{name}" for name in files(out)]


def test_the_report_counts_every_drop_and_names_the_first(source):
    report, out = convert(source)
    assert json.loads((out / "conversion.json").read_text()) == report
    split = report["splits"]["train"]
    assert (split["images"], split["backgrounds"], split["boxes"], split["n_clipped"]) == (3, 1, 3, 1)
    assert split["sha256"] == hashlib.sha256((source / "instances.json").read_bytes()).hexdigest()
    assert split["classes"] == {"person": 1, "stop sign": 1, "brush": 1}
    assert {reason: (d["n"], d["first"]) for reason, d in split["drops"].items()} == {
        "annotation of an unknown image": (1, "annotation id 7 (annotations[6], image id 999)"),
        "crowd region": (1, "annotation id 3 (annotations[2], image id 7)"),
        "box without width or height": (1, "annotation id 4 (annotations[3], image id 7)"),
        "box outside of its image": (1, "annotation id 5 (annotations[4], image id 7)"),
        "same class and box twice in an image": (1, "annotation id 8 (annotations[7], image id 3)"),
    }


def test_classes_are_the_files_own_in_the_order_of_their_ids(source):
    report, out = convert(source)
    assert report["classes"] == ["person", "stop sign", "brush"]
    assert report["category_ids"] == [1, 13, 90]
    assert "nc: 3\nnames:\n  0: person\n  1: stop sign\n  2: brush\n" in (out / "data.yaml").read_text()


def test_a_second_run_replaces_the_first_and_stale_caches_vanish(source):
    _, out = convert(source)
    before = {name: (out / name).read_bytes() for name in files(out)}
    (out / "labels" / "train.cache").write_bytes(b"stale")
    (out / "labels" / "train" / "gone.txt").write_text("0 1 1 1 1\n")
    convert(source)
    assert {name: (out / name).read_bytes() for name in files(out)} == before


def test_images_are_hard_links_or_copies_as_asked(source):
    _, out = convert(source)
    assert (out / "images/train/b.png").samefile(source / "train/b.png")
    _, out = convert(source, images="copy")
    assert not (out / "images/train/b.png").samefile(source / "train/b.png")
    assert (out / "images/train/b.png").read_bytes() == (source / "train/b.png").read_bytes()


@pytest.mark.parametrize(("how", "doing"), [("hardlink", "linking"), ("copy", "copying")])
def test_a_log_hears_of_the_minutes_that_many_images_take(source, monkeypatch, capsys, how, doing):
    monkeypatch.setattr(meter, "SILENT_S", 0.0)
    convert(source, images=how)
    said = capsys.readouterr().err
    assert f"looking at the images of {source / 'train'}: " in said
    assert f"{doing} the images of {source / 'train'}: 100%  0 s left\n" in said


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.jpeg"])
def test_a_jpeg_that_ultralytics_would_rewrite_is_copied_not_linked(source, name):
    """ultralytics saves a JPEG without end marker anew, in place: through a hard link it would change the original."""
    jpeg = (source / "train" / "a.jpg").rename(source / "train" / name)
    jpeg.write_bytes(jpeg.read_bytes() + b"\0\0")
    write(source, changed(images__0__file_name=name))
    _, out = convert(source)
    assert not (out / "images/train" / name).samefile(jpeg)
    assert (out / "images/train/empty.jpg").samefile(source / "train/empty.jpg")


def test_where_links_are_impossible_images_are_copied(source, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("spkd.detect.coco.image_files.os.link", refuse)
    _, out = convert(source)
    assert (out / "images/train/b.png").read_bytes() == (source / "train/b.png").read_bytes()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (json.dumps(TREE)[:-40], "a whole JSON of .* fetch or export the file again"),
        ("", "a whole JSON of 0 bytes"),
        ("\ufeff" + json.dumps(TREE), "UTF-8 without a byte order mark, got JSON is malformed"),
        ("[]", "top level: expected `object`, got `array`"),
        ({"images": [], "annotations": []}, "expected the key `categories`"),
        ({**TREE, "categories": []}, "categories: expected at least one"),
        ({**TREE, "images": []}, "images: expected at least one"),
        (changed(annotations__1__bbox=None), r"annotations\[1\] \(id 2\): expected the key `bbox`"),
        (changed(annotations__1__image_id=None), r"annotations\[1\] \(id 2\): expected the key `image_id`"),
        (changed(annotations__1__bbox=[1, 2, "3", 4]), r"bbox\[2\] \(id 2\): expected `float`, got `str`"),
        (changed(annotations__1__bbox=[1, 2, 3]), r"bbox \(id 2\): expected `array` of length 4, got another;"),
        (changed(annotations__1__bbox=[1, 2, None, 4]), r"bbox\[2\] \(id 2\): expected `float`, got `null`"),
        (changed(annotations__1__bbox=[1, 2, float("nan"), 4]), r"annotations\[1\] \(id 2\): .*got NaN or Infinity"),
        (changed(annotations__1__category_id=12), r"annotation id 2 \(annotations\[1\].*a category_id of .*got 12"),
        (changed(annotations__1__id=10**30), r"annotations\[1\]\.id"),
        (json.dumps(changed(annotations__1__bbox=[1, 2, "3", 4]))[:-40], r"bbox\[2\]: expected `float`, got `str`"),
        (json.dumps(changed(images__1__width="64")) + "}", r"images\[1\]\.width: expected `int`, got `str`"),
        (json.dumps(changed(annotations__1__bbox=[1, 2, 7e77, 4])).replace("7e+77", "1e999"),
         r"bbox\[2\] \(id 2\): expected a number, got one too large for 64 bits"),
        (changed(annotations__1__id=1), r"annotation id 1 \(annotations\[1\].* expected each id once"),
        (changed(images__1__id=7), "images: expected each id once, got 7 twice"),
        (changed(images__1__file_name="a.jpg"), "images: expected each file_name once, got 'a.jpg' twice"),
        (changed(images__1__file_name="./a.jpg"), "images: expected each file_name once, got 'a.jpg' twice"),
        (changed(images__1__file_name="a.png"), r"image id 3: .*'a.png' and 'a.jpg' would share a.txt"),
        (changed(images__1__file_name="A.png"), r"image id 3: .*'A.png' and 'a.jpg' would share A.txt"),
        (changed(images__1__file_name="../b.png"), r"image id 3: expected a file_name inside .*'\.\./b\.png'"),
        (changed(images__1__file_name="x/../../b.png"), "image id 3: expected a file_name inside"),
        (changed(images__1__file_name="/etc/b.png"), "image id 3: expected a file_name inside"),
        (changed(images__1__file_name="b"), "image id 3: expected a file_name inside"),
        (changed(images__1__width=0), "image id 3: expected width and height of 1 or more, got 0 x 64"),
        (changed(images__1__height=0), "image id 3: expected width and height of 1 or more, got 64 x 0"),
        (changed(images__1__width="64"), r"images\[1\]\.width \(id 3\): expected `int`, got `str`"),
        (changed(categories__1__id=90), "categories: expected each id once, got 90 twice"),
        (changed(categories__1__name="brush"), "categories: expected each name once, got 'brush' twice"),
        (changed(images__1__file_name="c.png"), r"image id 3 \(c\.png\).*got image missing on disk"),
        (changed(images__1__width=65), r"image id 3 \(b\.png, record 65 x 64, file 64 x 64 pixels\)"),
    ],
)  # fmt: skip
def test_damaged_input_is_an_error_that_names_the_record_and_leaves_the_old_output(source, tree, message):
    _, out = convert(source)
    (out / "labels" / "train" / "mine.txt").write_text("kept")
    write(source, tree)
    with pytest.raises(SpkdError, match=message):
        convert(source)
    assert (out / "labels" / "train" / "mine.txt").read_text() == "kept"
    assert sorted(p.name for p in out.parent.iterdir()) == ["out", "source"]


def test_damaged_images_can_be_left_out_and_are_counted(source):
    (source / "train" / "b.png").write_bytes(b"no image")
    (source / "train" / "empty.jpg").unlink()
    write(source, changed(images__0__width=200))
    report, out = convert(source, damaged_images="drop")
    split = report["splits"]["train"]
    assert {reason: d["n"] for reason, d in split["images_dropped"].items()} == {
        "image missing on disk": 1,
        "image unreadable": 1,
    }
    assert "b.png" in split["images_dropped"]["image unreadable"]["first"]
    assert split["drops"]["image left out"]["n"] == 2
    assert (split["images"], split["backgrounds"]) == (1, 0)
    assert files(out / "labels") == ["train/a.txt"]


def test_a_jpeg_that_was_cut_short_is_unreadable(source):
    jpeg = source / "train" / "a.jpg"
    Image.effect_noise((200, 100), 50).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:2000])
    with pytest.raises(SpkdError, match=r"image id 7 \(a\.jpg, image file is truncated.*got image unreadable"):
        convert(source)
    report, _ = convert(source, damaged_images="drop")
    assert report["splits"]["train"]["images_dropped"]["image unreadable"]["n"] == 1


def test_of_several_images_of_one_damage_the_first_is_named(source):
    for name in ("b.png", "empty.jpg"):
        (source / "train" / name).unlink()
    report, _ = convert(source, damaged_images="drop")
    missing = report["splits"]["train"]["images_dropped"]["image missing on disk"]
    assert missing == {"n": 2, "first": "image id 3 (b.png)"}


def test_an_image_of_a_format_that_yolo_does_not_look_at_is_never_lost_in_silence(source):
    from ultralytics.data.utils import IMG_FORMATS

    assert image_files.FORMATS == IMG_FORMATS
    Image.new("RGB", (64, 64)).save(source / "train" / "b.gif")
    write(source, changed(images__1__file_name="b.gif"))
    with pytest.raises(SpkdError, match=r"b\.gif, \.gif.*format that YOLO does not look at"):
        convert(source)
    report, out = convert(source, damaged_images="drop")
    assert report["splits"]["train"]["images_dropped"]["image format that YOLO does not look at"]["n"] == 1
    assert files(out / "images") == ["train/a.jpg", "train/empty.jpg"]


def test_no_usable_image_at_all_is_an_error_even_when_dropping(source):
    write(source, {**TREE, "images": [{**i, "file_name": f"x{i['file_name']}"} for i in TREE["images"]]})
    with pytest.raises(SpkdError, match="correct --images"):
        convert(source, damaged_images="drop")


@pytest.mark.parametrize(("kind", "turn"), [("jpg", 6), ("png", 6), ("webp", 6), ("tif", 6), ("jpg", 5), ("jpg", 7)])
def test_a_photo_stored_sideways_has_the_size_that_yolo_will_see(source, kind, turn):
    from ultralytics.utils.patches import imread

    exif = Image.Exif()
    exif[0x0112] = turn
    (source / "train" / "a.jpg").unlink()
    Image.new("RGB", (100, 200)).save(source / "train" / f"a.{kind}", exif=exif)
    assert imread(str(source / "train" / f"a.{kind}")).shape == (100, 200, 3)
    write(source, json.loads(json.dumps(TREE).replace("a.jpg", f"a.{kind}")))
    convert(source)


def test_an_identical_annotation_twice_is_one_counted_drop(source):
    write(source, {**TREE, "annotations": [TREE["annotations"][0]] * 3})
    report, _ = convert(source)
    assert report["splits"]["train"]["drops"]["same annotation twice"]["n"] == 2
    assert report["splits"]["train"]["boxes"] == 1


def test_subfolders_are_kept_but_a_folder_called_images_is_not(source):
    """ultralytics replaces the LAST /images/ of a path, so images/train/images/b.png would look beside itself."""
    (source / "train" / "images").mkdir()
    (source / "train" / "x").mkdir()
    (source / "train" / "b.png").rename(source / "train" / "images" / "b.png")
    (source / "train" / "a.jpg").rename(source / "train" / "x" / "a.jpg")
    write(source, changed(images__1__file_name="images/b.png", images__0__file_name="x/a.jpg"))
    _, out = convert(source)
    assert files(out / "images") == ["train/b.png", "train/empty.jpg", "train/x/a.jpg"]
    assert files(out / "labels") == ["train/b.txt", "train/empty.txt", "train/x/a.txt"]


def test_a_folder_that_is_not_a_conversion_is_never_replaced(source):
    (source.parent / "out").mkdir()
    (source.parent / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(SpkdError, match="got other content; name another --out"):
        convert(source)
    assert files(source.parent / "out") == ["thesis.txt"]


@pytest.mark.parametrize("inside", ["train", "instances.json"])
def test_the_output_may_not_hold_the_input(source, inside):
    out = source.parent / "out"
    convert(source)
    (source / inside).rename(out / inside)
    where = {name: (out if name == inside else source) / name for name in ("train", "instances.json")}
    with pytest.raises(SpkdError, match="expected a folder beside the input"):
        coco.convert([Split("train", where["instances.json"], where["train"])], out, "copy", False, "error", "t")
    assert (out / inside).exists()


@pytest.mark.parametrize("name", ["images", "labels", "..", "a/b", "", ".x"])
def test_a_split_name_that_would_mislead_yolo_is_refused(source, name):
    with pytest.raises(SpkdError, match="plain name"):
        coco.convert(
            [Split(name, source / "instances.json", source / "train")], source.parent / "o", "copy", False, "error", "t"
        )


def test_splits_with_other_classes_are_refused(source):
    (source / "val.json").write_text(json.dumps(changed(categories__0__name="comb")))
    splits = [Split(n, source / f, source / "train") for n, f in (("train", "instances.json"), ("val", "val.json"))]
    with pytest.raises(SpkdError, match="all splits must have the same classes"):
        coco.convert(splits, source.parent / "out", "copy", False, "error", "t")
    assert not (source.parent / "out").exists()


@pytest.mark.parametrize(("splits", "used"), [
    (["one", "two"], {"train": "one", "val": "two"}), (["val", "train"], {"train": "train", "val": "val"}),
    (["test2017"], {"train": "test2017", "val": "test2017"}),
    (["one", "two", "more"], {"train": "one", "val": "two"}),
    (["test", "train", "val"], {"train": "train", "val": "val", "test": "test"}),
])  # fmt: skip
def test_splits_are_used_by_their_names(splits, used):
    found = yaml.safe_load(coco.data_yaml(splits, ["a"], "x"))
    assert {key: found[key] for key in ("train", "val", "test") if key in found} == {
        key: f"images/{name}" for key, name in used.items()
    }


def test_one_split_is_train_and_val_and_data_yaml_says_so():
    text = coco.data_yaml(["val2017"], ["on", "a: b"], "x")
    assert "train: images/val2017\nval: images/val2017\n" in text
    assert "SAME images" in text
    assert "0: 'on'\n  1: 'a: b'\n" in text
    assert "SAME" not in coco.data_yaml(["val2017", "train2017"], ["a"], "x")


def test_killed_in_the_middle_the_old_output_stays(source):
    _, out = convert(source)
    before = files(out)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from spkd.detect import coco; from spkd.detect.coco import image_files\n"
        "image_files.place = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "s = Path(sys.argv[1]); split = coco.Split('train', s / 'instances.json', s / 'train')\n"
        "coco.convert([split], s.parent / 'out', 'copy', False, 'error', 't')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(source)], env=os.environ | {"PYTHONPATH": SRC})
    assert done.returncode == -9
    assert files(out) == before
    convert(source)
    assert sorted(p.name for p in source.parent.iterdir()) == ["out", "source"]


def test_the_converter_imports_neither_ultralytics_nor_torch():
    code = (
        "import sys; import spkd.cli.convert_coco\n"
        "print(sorted({'torch', 'ultralytics', 'cv2', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": SRC}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# The proof: from the labels back to COCO, by COCO's own metric, and against the peer's converter.


def both_splits(root, out, **other):
    settings = {"images": "hardlink", "segments": False, "damaged_images": "error", "origin": "test"} | other
    splits = [Split(s, root / f"annotations/instances_{s}.json", root / s) for s in ("train2017", "val2017")]
    return coco.convert(splits, out, **settings)


def clipped_truth(tree):
    """The JSON with its boxes clipped (a slow twin); without what has no area then. Crowds stay: COCO ignores them."""
    size, kept = {i["id"]: (i["width"], i["height"]) for i in tree["images"]}, []
    for annotation in tree["annotations"]:
        x, y, w, h = annotation["bbox"]
        (width, height) = size[annotation["image_id"]]
        left, top, right, bottom = max(0, x), max(0, y), min(width, x + w), min(height, y + h)
        if right > left and bottom > top:
            box = [left, top, right - left, bottom - top]
            kept.append({**annotation, "bbox": box, "area": box[2] * box[3], "segmentation": []})
    return {**tree, "annotations": kept}


def results(tree, labels):
    """The label files as COCO detections of score 1."""
    ids, found = sorted(c["id"] for c in tree["categories"]), []
    for image in tree["images"]:
        for line in (labels / f"{Path(image['file_name']).stem}.txt").read_text().splitlines():
            label, *numbers = line.split()
            x, y, w, h = (float(v) * image["width" if k % 2 == 0 else "height"] for k, v in enumerate(numbers))
            box = [x - w / 2, y - h / 2, w, h]
            found.append({"image_id": image["id"], "category_id": ids[int(label)], "bbox": box, "score": 1.0})
    return found


def average_precision(truth, detections):
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO(truth)
        metric = COCOeval_faster(gold, gold.loadRes(detections), "bbox")
        metric.evaluate()
        metric.accumulate()
        metric.summarize()
    return metric.stats


@pytest.mark.parametrize("which", ["sample", "real"])
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_labels_give_ap_1_against_the_original_json(which, split, shared_data, tmp_path, request):
    root = request.config.rootpath / "sample" / "coco" if which == "sample" else shared_data("coco")
    report = both_splits(root, tmp_path / "out")
    tree = json.loads((root / f"annotations/instances_{split}.json").read_text())
    truth = clipped_truth(tree) if which == "sample" else {**tree, "info": {}}  # real boxes lie inside: untouched
    truth.setdefault("info", {})
    found = results(tree, tmp_path / "out" / "labels" / split)
    assert len(found) == report["splits"][split]["boxes"] == sum(not a["iscrowd"] for a in truth["annotations"])
    stats = average_precision(truth, found)
    assert stats[0] == pytest.approx(1.0, abs=1e-9)  # AP at IoU 0.50:0.95
    shifted = [{**d, "category_id": truth["categories"][0]["id"]} for d in found]
    assert average_precision(truth, shifted)[0] < 0.5  # the measure sees wrong classes


def test_rows_equal_those_of_ultralytics_on_real_images(shared_data, tmp_path):
    """Parity on 64 real images: the same boxes to 2e-6, in the same order; it writes no file for the empty image."""
    from ultralytics.data.converter import convert_coco

    root = shared_data("coco")
    (tmp_path / "json").mkdir()
    (tmp_path / "json/instances_train2017.json").symlink_to(root / "annotations/instances_train2017.json")
    both_splits(root, tmp_path / "out")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        convert_coco(str(tmp_path / "json"), str(tmp_path / "peer"))
    peer = tmp_path / "peer" / "labels" / "train2017"
    ours = tmp_path / "out" / "labels" / "train2017"
    assert len(list(ours.iterdir())) == 64
    assert len(list(peer.iterdir())) == 63
    for file in peer.iterdir():
        theirs, mine = np.loadtxt(file, ndmin=2), np.loadtxt(ours / file.name, ndmin=2)
        assert np.array_equal(theirs[:, 0], mine[:, 0])
        assert np.abs(theirs - mine).max() <= 2e-6


@pytest.mark.parametrize("segments", [False, True])
def test_ultralytics_reads_every_row_and_finds_nothing_corrupt(segments, tmp_path, request):
    from ultralytics.data.utils import check_det_dataset, img2label_paths, verify_image_label

    root, out = request.config.rootpath / "sample" / "coco", tmp_path / "out"
    report = both_splits(root, out, segments=segments, images="copy")
    data = check_det_dataset(out / "data.yaml")
    for key, split in (("train", "train2017"), ("val", "val2017")):
        images = sorted(map(str, Path(data[key]).iterdir()))
        rows = n_empty = 0
        for image, label in zip(images, img2label_paths(images), strict=True):
            _, found, _, _, _, missing, _, empty, corrupt, message = verify_image_label(
                (image, label, "", False, data["nc"], 0, 0, False)
            )
            assert (missing, corrupt, message) == (0, 0, "")
            rows, n_empty = rows + len(found), n_empty + empty
        assert rows == report["splits"][split]["boxes"]
        assert n_empty == report["splits"][split]["backgrounds"]
