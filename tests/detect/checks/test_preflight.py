"""One test per row of the table in the design text: each failure is refused, and the remedy in the message mends it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ultralytics.data.utils import verify_image_label

from spkd import config, meter
from spkd.cli import check_labels
from spkd.detect import coco, hermetic, match
from spkd.detect.checks import layout, preflight, sheet
from spkd.detect.checks.preflight import Problem, Report
from spkd.detect.checks.scan import Seen
from spkd.errors import SpkdError
from spkd.settings import Preflight, Settings

LIMITS = Preflight(max_missing=0.0, max_background=0.9, max_duplicates=0.01)
Make = Callable[..., Path]


def check(data: Path, **annotations: Path) -> Report:
    return preflight.check(data, annotations, LIMITS)


def only(report: Report, split: str = "train") -> Problem:
    """The one problem of a split."""
    found = [p for p in report.problems if p.split == split]
    assert len(found) == 1, found
    return found[0]


def do_as_told(problem: Problem, data: Path) -> None:
    """Type what the remedy says: its shell commands, then its edit of data.yaml."""
    commands = re.split(r" ; | \(and |, then write ", problem.do)[0].split(": ", 1)[1:]
    subprocess.run(["bash", "-ec", commands[0]], check=True)
    edit = re.search(r"write `(\w+): ([^`]+)`", problem.do)
    if edit:
        text = re.sub(rf"^{edit[1]}: .*$", f"{edit[1]}: {edit[2]}", data.read_text(), flags=re.MULTILINE)
        data.write_text(text)


def test_a_sound_data_set_passes_with_its_counts(data_set: Path) -> None:
    report = check(data_set)
    assert report.ok and not report.notes
    train = report.summary()["splits"]["train"]
    assert train["images"] == train["labels"] == 8 and train["objects"] == 16 and train["corrupt"] == 0
    assert sum(train["classes"].values()) == 16 and set(train["classes"]) <= {"red", "green", "blue"}


def test_a_log_hears_of_the_minutes_that_many_labels_take(
    data_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(meter, "SILENT_S", 0.0)
    check(data_set)
    assert "looking at the labels of train: 100%  0 s left\n" in capsys.readouterr().err


def test_images_beside_a_labels_folder_are_refused_and_the_printed_mv_mends_it(make_set: Make) -> None:
    data = make_set(images="{}2017", labels="labels/{}2017")  # the layout that cost the user a week
    report = check(data)
    root = data.parent
    for split in ("train", "val"):
        problem = only(report, split)
        assert problem.rule == "labels not found"
        assert f"mkdir -p {root}/images && mv {root}/{split}2017 {root}/images/{split}2017" in problem.do
        assert f"`{split}: images/{split}2017`" in problem.do
        do_as_told(problem, data)
    assert check(data).ok


@pytest.mark.parametrize(
    ("name", "labels"), [("labels/made", "labels/{}2017"), ("made", "txt/{}2017")], ids=["twice labels", "no labels"]
)
def test_images_and_labels_in_folders_of_any_name_are_mended_as_told(make_set: Make, name: str, labels: str) -> None:
    data = make_set(name, images="{}2017", labels=labels)
    report = check(data)
    for split in ("train", "val"):
        assert f"mv {data.parent}/{split}2017 {data.parent}/images/{split}2017" in only(report, split).do
        do_as_told(only(report, split), data)
    assert check(data).ok


def test_labels_outside_the_labels_folder_are_found_and_moved(make_set: Make) -> None:
    data = make_set(labels="yolo_txt/{}")
    report = check(data)
    for split in ("train", "val"):
        assert str(data.parent / "labels" / split) in only(report, split).do
        do_as_told(only(report, split), data)
    assert check(data).ok


def test_no_labels_for_val_is_refused_though_ultralytics_only_warns(data_set: Path) -> None:
    shutil.rmtree(data_set.parent / "labels" / "val")
    problem = only(check(data_set), "val")
    assert problem.rule == "labels not found" and "convert-coco" in problem.do


def test_no_labels_for_train_names_the_path_that_was_tried(data_set: Path) -> None:
    shutil.rmtree(data_set.parent / "labels" / "train")
    problem = only(check(data_set), "train")
    assert problem.examples == (f"looked for {data_set.parent}/labels/train/train000.txt",)


@pytest.mark.parametrize("way", ["file links", "a list of images"])
def test_a_folder_link_is_refused_and_both_remedies_mend_it(data_set: Path, tmp_path: Path, way: str) -> None:
    folder = data_set.parent / "images" / "train"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    problem = only(check(data_set))
    assert problem.rule == "labels not found" and f"{folder} is a link to a folder" in problem.what
    if way == "file links":
        command = re.search(r"files: (.*?) ; or", problem.do)
    else:
        command = re.search(r"list the images: (.*?), then", problem.do)
        data_set.write_text(data_set.read_text().replace("train: images/train", "train: train.txt"))
    assert command is not None
    subprocess.run(["bash", "-ec", command[1]], check=True)
    assert check(data_set).ok


def test_what_is_told_to_write_is_below_the_root_and_a_link_further_up_is_the_one_to_replace(tmp_path: Path) -> None:
    root, data_yaml = tmp_path / "set", tmp_path / "data.yaml"  # with `path: set`
    (root / "labels/train2017").mkdir(parents=True)
    (root / "labels/train2017/a.txt").touch()
    image = root / "train2017/a.jpg"
    advice = layout.advise(root, data_yaml, "train", "train2017", str(image), str(image.with_suffix(".txt")), {"a"})
    assert "write `train: images/train2017` instead of `train: train2017`" in advice.do
    (tmp_path / "elsewhere/train").mkdir(parents=True)
    (root / "images").symlink_to(tmp_path / "elsewhere")
    assert layout.linked_folder(root, "images/train") == (root / "images", tmp_path / "elsewhere")
    assert layout.linked_folder(root, "labels/train2017") is None


def test_some_missing_labels_are_refused_and_touch_mends_it(data_set: Path) -> None:
    for i in (1, 2):
        (data_set.parent / f"labels/train/train00{i}.txt").unlink()
    problem = only(check(data_set))
    assert problem.rule == "labels missing" and problem.what.startswith("2 of 8")
    do_as_told(problem, data_set)
    assert check(data_set).ok


def test_many_missing_labels_are_mended_by_the_printed_loop(data_set: Path) -> None:
    for i in range(5):
        (data_set.parent / f"labels/train/train00{i}.txt").unlink()
    do_as_told(only(check(data_set)), data_set)
    assert check(data_set).ok


@pytest.mark.parametrize("way", ["one folder", "hard links", "copies"])
def test_images_shared_by_train_and_val_are_noted_where_all_are_and_refused_where_some_are(
    data_set: Path, way: str
) -> None:
    root = data_set.parent
    assert check(data_set).same_as_train == []
    if way == "one folder":
        data_set.write_text(data_set.read_text().replace("val: images/val", "val: images/train"))
    else:
        for part in ("images", "labels"):
            shutil.rmtree(root / part / "val")
            copy = os.link if way == "hard links" else shutil.copy2
            shutil.copytree(root / part / "train", root / part / "val", copy_function=copy)
            for file in (root / part / "val").iterdir() if way == "hard links" else ():
                file.rename(file.with_name(f"another name {file.name}"))
    report = check(data_set)
    assert report.ok and report.same_as_train == ["val"] and "no test" in report.notes[0].what
    extra = root / "images" / ("more" if way == "one folder" else "val") / "extra.jpg"
    extra.parent.mkdir(exist_ok=True)
    shutil.copy(root / "images/train/train000.jpg", extra)
    extra.write_bytes(extra.read_bytes().replace(b"JFIF", b"JFIf"))
    label = root / "labels" / extra.parent.name / "extra.txt"
    label.parent.mkdir(exist_ok=True)
    shutil.copy(root / "labels/train/train000.txt", label)
    if way == "one folder":
        data_set.write_text(data_set.read_text().replace("val: images/train", "val: [images/train, images/more]"))
    problem = only(check(data_set), "val")
    assert problem.rule == "shared images" and problem.what.startswith("8 of 9") and "5 more" in problem.examples[-1]


def test_one_folder_for_train_and_val_is_no_leak_where_an_image_of_it_is_damaged(data_set: Path) -> None:
    (data_set.parent / "images/train/train000.jpg").write_bytes(b"no image")
    data_set.write_text(data_set.read_text().replace("val: images/val", "val: images/train"))
    report = check(data_set)
    assert {problem.rule for problem in report.problems} == {"corrupt"} and report.same_as_train == ["val"]


def test_validation_images_that_are_a_part_of_those_of_train_are_refused(data_set: Path) -> None:
    root = data_set.parent
    (root / "val.txt").write_text("".join(f"{path}\n" for path in sorted((root / "images/train").iterdir())[:4]))
    data_set.write_text(data_set.read_text().replace("val: images/val", "val: val.txt"))
    problem = only(check(data_set), "val")
    assert problem.rule == "shared images" and problem.what.startswith("4 of 4")


def test_test_images_that_are_a_part_of_those_of_train_are_refused(data_set: Path) -> None:
    (data_set.parent / "test.txt").write_text(f"{data_set.parent / 'images/train/train000.jpg'}\n")
    data_set.write_text(data_set.read_text() + "test: test.txt\n")
    assert only(check(data_set), "test").rule == "shared images"


def test_the_digest_changes_with_names_images_and_rows(data_set: Path) -> None:
    found = [check(data_set).digest()]
    label, image = (data_set.parent / name for name in ("labels/train/train000.txt", "images/val/val000.jpg"))
    label.write_text(label.read_text().splitlines()[0] + "\n")
    found.append(check(data_set).digest())
    image.write_bytes((data_set.parent / "images/train/train001.jpg").read_bytes())
    found.append(check(data_set).digest())
    data_set.write_text(data_set.read_text().replace("red", "rust"))
    found.append(check(data_set).digest())
    for file in (label, image.parents[1] / "train/train000.jpg"):
        file.rename(file.with_stem("another"))
    found.append(check(data_set).digest())
    assert len(set(found)) == 5


def test_another_image_of_the_same_name_size_and_time_is_not_shared(data_set: Path) -> None:
    root = data_set.parent
    image, other = root / "images/train/train000.jpg", root / "images/val/train000.jpg"
    other.write_bytes(image.read_bytes().replace(b"JFIF", b"JFIf"))
    os.utime(other, ns=(image.stat().st_atime_ns, image.stat().st_mtime_ns))
    shutil.copy(root / "labels/train/train000.txt", root / "labels/val/train000.txt")
    assert check(data_set).ok


@pytest.mark.parametrize(
    ("row", "remedy"),
    [
        ("90 0.5 0.5 0.2 0.2", "category_id - 1"),
        ("0 1.2 0.5 0.2 0.2", "clipped"),
        ("0 -0.2 0.5 0.2 0.2", "clipped"),
        ("-1 0.5 0.5 0.2 0.2", "class ids must be 0 .. nc - 1, and"),
        ("0 0.5 0.5 0.2 0.2 0.9", "cut -d' ' -f1-5"),
        ("0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.4 0.1 0.4 0.4", "boxes (5 columns) or polygons"),
        ("0.5 0.5 0.5 0.2 0.2", "whole number"),
        ("cat 0.5 0.5 0.2 0.2", "five numbers"),
        ("0 0.5 0.5 0.2 0.2\n1 0.5", "the one that is longer or shorter"),
        ("\udcff", "as UTF-8 text"),
    ],
)
def test_rows_that_make_ultralytics_drop_the_image_are_refused(data_set: Path, row: str, remedy: str) -> None:
    (data_set.parent / "labels/train/train000.txt").write_text(row + "\n", errors="surrogateescape")
    problem = only(check(data_set))
    assert problem.rule == "corrupt" and remedy in problem.do and problem.examples[0].endswith("train000.jpg")


def test_a_listed_image_that_is_not_there_is_refused(data_set: Path) -> None:
    root = data_set.parent
    (root / "train.txt").write_text(f"{root}/images/train/train000.jpg\n{root}/images/train/gone.jpg\n")
    (root / "labels/train/gone.txt").write_text("")
    data_set.write_text(data_set.read_text().replace("train: images/train", "train: train.txt"))
    report = check(data_set)
    assert only(report).rule == "corrupt" and len(report.digest()) == 32


def test_a_damaged_image_is_refused_and_not_rewritten(data_set: Path) -> None:
    image = data_set.parent / "images/train/train000.jpg"
    half = image.read_bytes()[: image.stat().st_size // 2]
    image.write_bytes(half)
    assert only(check(data_set)).rule == "corrupt"
    assert image.read_bytes() == half


def test_a_jpeg_with_bytes_behind_its_end_is_noted_and_not_rewritten(data_set: Path) -> None:
    image = data_set.parent / "images/train/train000.jpg"
    image.write_bytes(image.read_bytes() + b"tail")
    before = image.read_bytes()
    report = check(data_set)
    assert report.ok and [n.rule for n in report.notes] == ["damaged end"]
    assert image.read_bytes() == before
    # In training, ultralytics writes such an image anew: the data are still those that the run began with.
    with hermetic.hushed():
        verify_image_label((str(image), str(data_set), "", False, 3, 0, 0, False))
    assert image.read_bytes() != before
    assert check(data_set).digest() == report.digest()


def test_a_converter_that_ran_twice_is_refused(data_set: Path) -> None:
    for label in (data_set.parent / "labels/train").glob("*.txt"):
        label.write_text(label.read_text() * 2)
    problem = only(check(data_set))
    assert problem.rule == "duplicates" and problem.what.startswith("16 of 32")


@pytest.mark.parametrize(("limit", "ok"), [(0.1, True), (0.05, False)])
def test_a_few_rows_that_are_there_twice_are_noted_and_more_are_refused(data_set: Path, limit: float, ok: bool) -> None:
    label = data_set.parent / "labels/train/train000.txt"
    label.write_text(label.read_text() + label.read_text().splitlines()[0] + "\n")  # 1 of 17 rows
    report = preflight.check(data_set, {}, LIMITS.model_copy(update={"max_duplicates": limit}))
    (found,) = report.notes if ok else report.problems
    assert report.ok is ok and found.rule == "duplicates"
    assert found.examples == (str(data_set.parent / "images/train/train000.jpg"),)


def test_a_zero_size_box_is_refused_though_ultralytics_accepts_it(data_set: Path) -> None:
    (data_set.parent / "labels/train/train000.txt").write_text("0 0.5 0.5 0.0 0.2\n")
    assert only(check(data_set)).rule == "zero size"


def test_a_split_of_backgrounds_is_refused(data_set: Path) -> None:
    for label in (data_set.parent / "labels/val").glob("*.txt"):
        label.write_text("")
    assert only(check(data_set), "val").rule == "backgrounds"


@pytest.mark.parametrize(("n", "ok"), [(2, True), (3, False)])
def test_as_many_backgrounds_as_the_limit_says_are_accepted(data_set: Path, n: int, ok: bool) -> None:
    for label in sorted((data_set.parent / "labels/train").glob("*.txt"))[:n]:
        label.write_text("")
    assert preflight.check(data_set, {}, LIMITS.model_copy(update={"max_background": 2 / 8})).ok is ok


def test_a_split_without_one_object_is_refused_whatever_the_limit(data_set: Path) -> None:
    for label in (data_set.parent / "labels/val").glob("*.txt"):
        label.write_text("")
    problem = only(preflight.check(data_set, {}, LIMITS.model_copy(update={"max_background": 1.0})), "val")
    assert problem.what == "4 of 4 images have no object" and "one at least must show an object" in problem.do


def test_only_objects_of_the_classes_that_are_trained_on_count(data_set: Path) -> None:
    labels = data_set.parent / "labels"
    for label in labels.glob("*/*.txt"):
        label.write_text("0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.2 0.2\n")
    for label in sorted((labels / "train").glob("*.txt"))[:2]:
        label.write_text("2 0.5 0.5 0.2 0.2\n")
    assert check(data_set).ok
    report = preflight.check(data_set, {}, LIMITS, [2, 1])
    train = report.summary()["splits"]["train"]
    assert report.ok and (train["objects"], train["backgrounds"], train["classes"]) == (8, 0, {"green": 6, "blue": 2})
    assert [len(s.rows) for s in report.splits["train"].trained if s.rows is not None] == [1] * 8
    assert report.digest() == check(data_set).digest()
    report = preflight.check(data_set, {}, LIMITS.model_copy(update={"max_background": 0.7}), 2)
    what = "6 of 8 images have no object of detect.train.classes [2]"
    assert [(p.split, p.rule, p.what) for p in report.problems] == [
        ("train", "backgrounds", what),
        ("val", "backgrounds", what.replace("6 of 8", "4 of 4")),
    ]
    assert "name more classes there" in report.problems[0].do and "max_background" in report.problems[0].do


@pytest.mark.parametrize("classes", [3, [0, 3], [-1], [], ["red"], [1.0], "1", True])
def test_classes_that_are_no_indices_of_the_data_set_are_an_error(data_set: Path, classes: object) -> None:
    with pytest.raises(SpkdError, match=r"detect\.train\.classes: expected class indices of .*, 0 to 2, got"):
        preflight.check(data_set, {}, LIMITS, classes)


def test_an_unclipped_box_is_noted(data_set: Path) -> None:
    (data_set.parent / "labels/train/train000.txt").write_text(
        "0 0.9 0.5 0.4 0.2\n0 0.5 0.1 0.4 0.4\n0 0.2 0.5 0.4 1\n"
    )
    report = check(data_set)
    assert report.ok and [(n.rule, n.what[:7]) for n in report.notes] == [("outside", "2 boxes")]


def test_a_cache_older_than_a_same_size_edit_is_refused_and_rm_mends_it(data_set: Path) -> None:
    from ultralytics.data.dataset import YOLODataset

    root = data_set.parent
    YOLODataset(img_path=str(root / "images/train"), data={"names": {0: "r", 1: "g", 2: "b"}}, imgsz=64)
    assert (root / "labels/train.cache").is_file() and check(data_set).ok
    label = root / "labels/train/train000.txt"
    times = label.stat()
    text = label.read_text()
    label.write_text(("1" if text[0] == "0" else "0") + text[1:])
    os.utime(label, ns=(times.st_atime_ns, times.st_mtime_ns))
    problem = only(check(data_set))
    assert problem.rule == "stale cache"
    subprocess.run(["bash", "-ec", problem.do], check=True)
    assert check(data_set).ok


def test_a_cache_that_ultralytics_would_rebuild_is_no_problem(data_set: Path) -> None:
    from ultralytics.data.dataset import YOLODataset

    root = data_set.parent
    for single in (False, True):
        (root / "labels/train.cache").unlink(missing_ok=True)
        data = {"names": {0: "r", 1: "g", 2: "b"}}
        YOLODataset(img_path=str(root / "images/train"), data=data, imgsz=64, single_cls=single)
        label = root / "labels/train/train000.txt"
        text, times = label.read_text(), label.stat()
        label.write_text(text.splitlines(keepends=True)[0])  # another size: seen by ultralytics, which reads it anew
        assert check(data_set).ok
        label.write_text(text[:-2] + ("1" if text[-2] == "0" else "0") + "\n")  # the same size and time: not seen
        os.utime(label, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert only(check(data_set)).rule == "stale cache"
        label.write_text(text)


def test_a_cache_that_another_training_is_writing_is_no_problem(data_set: Path) -> None:
    """ultralytics writes it in place; of one that was cut short there it reads the labels anew, too."""
    from ultralytics.data.dataset import YOLODataset

    def load() -> YOLODataset:
        return YOLODataset(
            img_path=str(data_set.parent / "images/train"), data={"names": {0: "r", 1: "g", 2: "b"}}, imgsz=64
        )

    cache, whole = data_set.parent / "labels/train.cache", len(load().labels)
    raw = cache.read_bytes()
    for n in (0, 128, 129, len(raw) // 2, len(raw) - 1):
        cache.write_bytes(raw[:n])
        assert check(data_set).ok and len(load().labels) == whole


def test_a_cache_that_would_run_code_is_refused_unread(data_set: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    with (data_set.parent / "labels/train.cache").open("wb") as file:
        np.save(file, np.array({"labels": Bomb()}, dtype=object), allow_pickle=True)
    assert only(check(data_set)).rule == "stale cache"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("channels", "ok"), [("3", True), ("1", False), ("", False)])
def test_images_of_other_than_three_channels_are_refused(data_set: Path, channels: str, ok: bool) -> None:
    data_set.write_text(f"{data_set.read_text()}channels: {channels}\n")
    report = check(data_set)
    assert report.ok == ok and (ok or only(report, "data.yaml").rule == "channels")


def write_json(data: Path, crowd: bool = False, split: str = "train") -> Path:
    """A COCO JSON of a split with category ids 1, 3, 7: a gap after the first, as COCO's own."""
    ids, images, annotations = [1, 3, 7], [], []
    for n, label in enumerate(sorted((data.parent / "labels" / split).glob("*.txt"))):
        images.append({"id": n, "file_name": f"{label.stem}.jpg", "width": 64, "height": 64})
        for row in label.read_text().splitlines():
            c, x, y, w, h = map(float, row.split())
            box = [(x - w / 2) * 64, (y - h / 2) * 64, w * 64, h * 64]
            record = {"image_id": n, "category_id": ids[int(c)], "bbox": box, "iscrowd": 0}
            annotations.append({"id": len(annotations), **record})
    if crowd:
        annotations.append(
            {"id": 999, "image_id": 0, "category_id": 3, "bbox": [0, 0, 32, 32], "iscrowd": 1, "segmentation": {}}
        )
    names = ["red", "green", "blue"]
    path = data.parent / "instances.json"
    categories = [{"id": i, "name": n} for i, n in zip(ids, names, strict=True)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_class_counts_equal_to_the_json_pass(data_set: Path) -> None:
    assert check(data_set, train=write_json(data_set, crowd=True)).ok


def test_the_json_of_another_split_is_told_as_such_and_not_by_its_counts(data_set: Path) -> None:
    problem = only(check(data_set, train=write_json(data_set, split="val")), "train")
    assert problem.rule == "other images" and "none of the split's images is in" in problem.what


def test_a_validation_image_that_the_json_lacks_is_refused_before_the_metric_meets_it(data_set: Path) -> None:
    annotations = write_json(data_set, split="val")
    assert check(data_set, val=annotations).ok
    image = data_set.parent / "images/val/val000.jpg"
    shutil.copy(image, image.with_name("more.jpg"))
    (data_set.parent / "labels/val/more.txt").touch()
    problem = only(check(data_set, val=annotations), "val")
    assert problem.rule == "other images" and "1 image(s) are not in" in problem.what and "more.jpg" in problem.what


def test_a_training_image_that_the_json_lacks_leaves_the_others_to_be_compared(data_set: Path) -> None:
    annotations = write_json(data_set)
    image = data_set.parent / "images/train/train000.jpg"
    shutil.copy(image, image.with_name("more.jpg"))
    (data_set.parent / "labels/train/more.txt").touch()
    assert check(data_set, train=annotations).ok
    label = data_set.parent / "labels/train/train001.txt"
    label.write_text(label.read_text().splitlines()[0] + "\n")
    assert only(check(data_set, train=annotations)).rule == "class counts"


@pytest.mark.parametrize("merged", [True, False])
def test_an_object_that_the_json_holds_twice_may_be_one_row_or_two(data_set: Path, merged: bool) -> None:
    annotations = write_json(data_set)
    tree = json.loads(annotations.read_text())
    first = tree["annotations"][0]
    tree["annotations"] += [first, {**first, "id": 777}]  # the same record again, and the same box as another object
    annotations.write_text(json.dumps(tree))
    if not merged:  # more digits than ours: ultralytics does not see that the two rows are one box
        label = data_set.parent / "labels/train/train000.txt"
        c, x, *rest = label.read_text().splitlines()[0].split()
        label.write_text(label.read_text() + " ".join([c, f"{float(x) + 1e-4:.6f}", *rest]) + "\n")
    assert check(data_set, train=annotations).ok
    label = data_set.parent / "labels/train/train001.txt"
    label.write_text(label.read_text().splitlines()[0] + "\n")
    assert only(check(data_set, train=annotations)).rule == "class counts"


def test_a_conversion_of_a_json_with_repeats_passes_its_own_check(data_set: Path, tmp_path: Path) -> None:
    annotations = write_json(data_set, crowd=True)
    tree = json.loads(annotations.read_text())
    tree["annotations"] += [{**one, "id": 100 + n} for n, one in enumerate(tree["annotations"][:5])]
    annotations.write_text(json.dumps(tree))
    for segments in (False, True):
        splits = [coco.Split("train", annotations, data_set.parent / "images/train")]
        coco.convert(splits, tmp_path / "out", "copy", segments, "error", "test")
        assert check(tmp_path / "out/data.yaml", train=annotations).ok


@pytest.mark.parametrize("text", ["{", "[]", '{"images": 1}', "\xff"])
def test_a_damaged_json_is_an_error_that_says_so(data_set: Path, text: str) -> None:
    path = data_set.parent / "damaged.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpkdError, match=r"damaged\.json"):
        check(data_set, train=path)


def test_names_in_another_order_than_the_categories_of_the_json_are_refused(data_set: Path) -> None:
    annotations = write_json(data_set)
    data_set.write_text(data_set.read_text().replace("0: red\n  1: green", "0: green\n  1: red"))
    problem = only(check(data_set, train=annotations))
    assert problem.rule == "class names" and "['green', 'red', 'blue']" in problem.what


def test_ids_shifted_by_category_id_minus_one_are_recognised(data_set: Path) -> None:
    labels = list((data_set.parent / "labels/train").glob("*.txt"))
    for label in labels:  # red and green only: with ids 1 and 3, `id - 1` gives 0 and 2, silently "blue"
        label.write_text(re.sub(r"^2", "1", label.read_text(), flags=re.MULTILINE))
    annotations = write_json(data_set)
    assert check(data_set, train=annotations).ok
    for label in labels:
        label.write_text(re.sub(r"^1", "2", label.read_text(), flags=re.MULTILINE))
    assert only(check(data_set, train=annotations)).rule == "shifted ids"


def test_an_image_is_found_by_its_folders_and_only_then_by_its_bare_name() -> None:
    files = ["a/1.jpg", "b/1.jpg", "images/c/2.png", "d/3.jpg", "4.jpg"]
    images = ["/x/images/train/b/1.jpg", "/x/images/train/a/1.jpg", "images/train/c/2.png", "/flat/3.jpg", "/e/4.webp"]
    assert match.rows(images, files) == [1, 0, 2, 3, 4]
    assert match.rows(["/x/1.jpg"], ["a/1.jpg", "1.jpg"]) == [1]
    assert match.rows(["/x/images/val/a/1.jpg"], ["b/images/1.jpg", "a/images/1.jpg"]) == [1]  # as it is converted
    assert match.rows(["/x/images/train/1.jpg", "/x/images/train/c/1.jpg", "/x/5.jpg"], files) == [-1, -1, -1]


def test_other_differences_from_the_json_name_the_classes(data_set: Path) -> None:
    annotations = write_json(data_set)
    label = data_set.parent / "labels/train/train000.txt"
    label.write_text(label.read_text().splitlines()[0] + "\n")
    problem = only(check(data_set, train=annotations))
    assert problem.rule == "class counts" and "instead of" in problem.what


@pytest.mark.parametrize("wrong", ["corners", "other images"])
def test_boxes_in_other_places_than_those_of_the_json_are_refused_whatever_the_counts_say(
    data_set: Path, wrong: str
) -> None:
    annotations = write_json(data_set)
    labels = sorted((data_set.parent / "labels/train").glob("*.txt"))
    before = [label.read_text() for label in labels]
    for label, text, other in zip(labels, before, before[1:] + before[:1], strict=True):
        rows = [line.split() for line in text.splitlines()]
        corners = [[c, f"{float(x) - float(w) / 2:f}", f"{float(y) - float(h) / 2:f}", w, h] for c, x, y, w, h in rows]
        label.write_text(other if wrong == "other images" else "".join(" ".join(row) + "\n" for row in corners))
    problem = only(check(data_set, train=annotations))
    assert problem.rule == "boxes" and "have no like in the labels, e.g. " in problem.what


def test_one_box_in_many_that_was_moved_by_hand_is_accepted(data_set: Path) -> None:
    annotations = write_json(data_set)
    label = data_set.parent / "labels/train/train000.txt"
    first, *rest = label.read_text().splitlines()
    c, x, *more = first.split()
    label.write_text("\n".join([" ".join([c, f"{float(x) + 0.05:f}", *more]), *rest]) + "\n")
    assert check(data_set, train=annotations).ok


def test_crowd_regions_written_as_objects_are_recognised(data_set: Path) -> None:
    annotations = write_json(data_set, crowd=True)
    label = data_set.parent / "labels/train/train000.txt"
    label.write_text(label.read_text() + "1 0.25 0.25 0.5 0.5\n")
    assert only(check(data_set, train=annotations)).rule == "crowds"


def test_a_caption_json_is_an_error_that_says_which_file_to_give(data_set: Path) -> None:
    path = data_set.parent / "captions.json"
    path.write_text('{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}')
    with pytest.raises(SpkdError, match="a captions or keypoints file"):
        check(data_set, train=path)


def test_a_folder_in_the_place_of_data_yaml_is_an_error_that_names_it() -> None:
    with pytest.raises(SpkdError, match=r"^\.: expected the data set's data\.yaml, got no such file"):
        check(Path())


@pytest.mark.parametrize(
    "text",
    ["train: [", "just words", "\xff\xfe", "train: a\nval: b\nnames: 7", "names: {0: a, 5: b}", "names: [a]\ntrain:"],
)
def test_a_malformed_data_yaml_is_an_error_that_names_it(data_set: Path, text: str) -> None:
    if text.startswith("names"):
        text = f"{text}\nval: images/val\n" if "train" in text else f"{text}\ntrain: images/train\nval: images/val\n"
    data_set.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpkdError, match=r"data\.yaml: expected .*correct"):
        check(data_set)


def test_an_image_folder_that_is_not_there_is_an_error_with_its_path_and_no_setting_of_ultralytics(
    data_set: Path,
) -> None:
    shutil.rmtree(data_set.parent / "images/val")
    with pytest.raises(SpkdError, match=r"missing path '\S+/images/val'; correct `path:`"):
        check(data_set)
    data_set.write_text(f"path: elsewhere\n{data_set.read_text()}")
    with pytest.raises(SpkdError, match=r"elsewhere/images/val'; leave `path:` out .* or make it absolute"):
        check(data_set)


def test_a_folder_without_images_to_train_on_is_refused(data_set: Path) -> None:
    shutil.rmtree(data_set.parent / "images/train")
    problem = only(check(data_set))
    assert problem.rule == "no images" and problem.what.endswith("images/train does not exist")
    assert problem.do == f"correct `train:` in {data_set}"


def test_require_raises_with_every_remedy(make_set: Make) -> None:
    data = make_set(images="{}2017", labels="labels/{}2017")
    with pytest.raises(SpkdError, match=r"(?s)mv .*train2017.*mv .*val2017"):
        check(data).require()


def test_the_contact_sheet_shows_boxes_in_their_class_colour(data_set: Path) -> None:
    report = check(data_set)
    picture = sheet.draw(report.splits["train"].seen, report.names, columns=2, rows=2, side=80)
    assert picture.shape == (160, 160, 3) and picture.dtype == np.uint8
    drawn = {tuple(int(sheet.COLOURS[c][i : i + 2], 16) for i in (1, 3, 5)) for c in range(3)}
    assert drawn & {tuple(p) for p in picture.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("turn", [1, 6])
def test_a_box_of_the_contact_sheet_stands_where_its_row_says(tmp_path: Path, turn: int) -> None:
    """96 x 48 pixels in a cell of 100: x 24 to 72, y 12 to 36, below a margin of 26; a photo stored sideways, too."""
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", (96, 48) if turn == 1 else (48, 96), "white").save(tmp_path / "a.png", exif=exif)
    rows = np.array([[11, 0.5, 0.5, 0.5, 0.5]], np.float32)
    seen = Seen(str(tmp_path / "a.png"), "a.txt", rows, (48, 96), False, "", 0, False)
    picture = sheet.draw([seen], {11: ""}, columns=1, rows=1, side=100)
    assert len(sheet.COLOURS) == 10  # class 11 has that of class 1
    colour = [int(sheet.COLOURS[1][i : i + 2], 16) for i in (1, 3, 5)]
    down, across = np.nonzero((picture == colour).all(2))
    assert (across.min() - 2, across.max() - 2) == (24, 72)
    assert (down.min() - 26, down.max() - 26) == (12, 36)
    korean, numbered, other = (
        sheet.draw([seen], {11: name}, columns=1, rows=1, side=100) for name in ("\uc0ac\ub78c", "11", "77")
    )
    assert (korean == numbered).all() and (numbered != other).any()  # the font of the sheet has no Hangul


def test_a_contact_sheet_is_of_images_that_are_trained_on_evenly_chosen(data_set: Path) -> None:
    seen = check(data_set).splits["train"].seen
    dropped = [replace(one, image="damaged.jpg", rows=None) for one in seen]
    mixed = [one for pair in zip(dropped, seen, strict=True) for one in pair]
    names = {0: "red", 1: "green", 2: "blue"}
    picture = sheet.draw(mixed, names, columns=4, rows=1, side=64)
    assert sheet.draw(dropped, names, side=8).shape == (24, 32, 3)
    assert (picture == sheet.draw([seen[i] for i in (0, 2, 4, 7)], names, columns=4, rows=1, side=64)).all()
    assert not (picture == sheet.draw(seen[:4], names, columns=4, rows=1, side=64)).all()


def test_images_with_objects_come_first_in_the_contact_sheet(data_set: Path) -> None:
    (data_set.parent / "labels/train/train000.txt").write_text("")
    report = check(data_set)
    seen = report.splits["train"].seen
    picture = sheet.draw(seen, report.names, columns=8, rows=1, side=64)
    assert (picture[:, 7 * 64 :] == sheet.draw(seen[:1], report.names, columns=1, rows=1, side=64)).all()


def test_the_command_exits_one_and_prints_the_remedy(make_set: Make, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_set(images="{}2017", labels="labels/{}2017")
    tree = config.resolve(config.read(Path(__file__).parents[3] / "params.yaml"), {})
    settings = config.check(Settings, tree, "")
    assert check_labels.main([str(data)], settings, tree, {}) == 1
    assert "mkdir -p" in capsys.readouterr().err
    out = data.parent / "no folder" / "yet" / "sheet.png"
    with pytest.raises(SpkdError, match="--sheet: expected a file that ends in"):
        check_labels.main([str(data)], settings, tree, {"sheet": "s"})
    assert capsys.readouterr().out == ""  # before anything is looked at
    summary = out.with_name("summary.json")
    assert check_labels.main([str(make_set(name="fine"))], settings, tree, {"json": str(summary)}) == 0
    assert json.loads(summary.read_text())["problems"] == []
    shutil.rmtree(out.parent.parent)
    good = str(make_set(name="good"))
    for _ in range(2):  # the second time the folder is there
        assert check_labels.main([good], settings, tree, {"sheet": str(out)}) == 0 and out.is_file()
        assert f"contact sheet: {out}\n" in capsys.readouterr().out


def test_the_command_compares_with_the_json_that_it_is_given(
    data_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report, given = check(data_set), []
    monkeypatch.setattr(preflight, "check", lambda data, annotations, *_: given.append(annotations) or report)
    tree = config.resolve(config.read(Path(__file__).parents[3] / "params.yaml"), {})
    check_labels.main([str(data_set)], config.check(Settings, tree, ""), tree, {"val-json": "v.json"})
    assert "shows shifted classes: train (--train-json)\n" in capsys.readouterr().out
    tree["detect"]["annotations"] = {"train": "t.json", "val": "w.json"}
    check_labels.main([], config.check(Settings, tree, ""), tree, {"val-json": "v.json"})
    assert given == [{"val": Path("v.json")}, {"train": Path("t.json"), "val": Path("v.json")}]
    out = capsys.readouterr().out
    assert "note: " not in out and "not compared" not in out
    report.notes.append(Problem("val", "outside", "1 box", "clip it"))
    check_labels.main([], config.check(Settings, tree, ""), tree, {})
    assert "note: val: outside: 1 box\n    -> clip it\n" in capsys.readouterr().out


def test_the_command_counts_the_classes_that_the_data_set_of_the_settings_is_trained_on(
    data_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in data_set.parent.glob("labels/*/*.txt"):
        label.write_text("0 0.5 0.5 0.2 0.2\n")
    tree = config.resolve(config.read(Path(__file__).parents[3] / "params.yaml"), {"detect.data": str(data_set)})
    tree["detect"]["train"]["classes"] = [1]
    settings = config.check(Settings, tree, "")
    assert check_labels.main([], settings, tree, {}) == 1
    assert "have no object of detect.train.classes [1]" in capsys.readouterr().err
    assert check_labels.main([str(data_set)], settings, tree, {}) == 0
