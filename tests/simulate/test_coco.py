"""The simulated scenes are COCO in every respect that a converter meets, repeat byte for byte, and are marked."""

import json

import numpy as np
import pytest
from PIL import Image

from spkd.simulate import coco


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "coco"
    coco.write(folder, 0)
    return folder


def tree(sample, split):
    return json.loads((sample / "annotations" / f"instances_{split}.json").read_text())


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def decoded(rle):
    """The mask of an uncompressed RLE: runs of 0 and 1 in turn, column by column."""
    runs = np.repeat(np.arange(len(rle["counts"])) % 2, rle["counts"])
    return runs.reshape(rle["size"][::-1]).T


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_ones(sample, tmp_path):
    files = coco.write(tmp_path / "again", 0)
    assert content(tmp_path / "again") == content(sample)
    assert [f.relative_to(tmp_path / "again").as_posix() for f in files] == sorted(content(sample))
    coco.write(tmp_path / "other", 1)
    assert (
        content(tmp_path / "other")["annotations/instances_val2017.json"]
        != content(sample)["annotations/instances_val2017.json"]
    )


def test_the_repository_holds_what_seed_0_writes(sample, request):
    kept = request.config.rootpath / "sample" / "coco"
    assert content(kept) == content(sample)


def test_the_whole_sample_is_below_1_mb_and_marked_as_simulated(sample):
    assert sum(map(len, content(sample).values())) <= 1_000_000
    assert (sample / "SIMULATED").is_file()
    assert "drawings" in (sample / "README.md").read_text()
    assert "SIMULATED" in tree(sample, "train2017")["info"]["description"]


@pytest.mark.parametrize(("split", "n"), [("train2017", 40), ("val2017", 12)])
def test_every_image_is_there_in_the_size_of_its_record(sample, split, n):
    images = tree(sample, split)["images"]
    assert len(images) == n == len(list((sample / split).iterdir()))
    for record in images:
        assert record["file_name"] == f"{record['id']:012d}.jpg"
        with Image.open(sample / split / record["file_name"]) as image:
            assert image.size == (record["width"], record["height"])


def test_ids_leave_gaps_and_are_unique(sample):
    categories = [c["id"] for c in tree(sample, "train2017")["categories"]]
    assert categories == sorted(categories)
    assert max(categories) == 90
    assert len(categories) == 8
    both = [tree(sample, split) for split in coco.N_IMAGES]
    for kind in ("images", "annotations"):
        ids = [record["id"] for one in both for record in one[kind]]
        assert len(set(ids)) == len(ids)


def test_there_is_every_quirk_that_a_converter_must_meet(sample):
    train = tree(sample, "train2017")
    size = {i["id"]: (i["width"], i["height"]) for i in train["images"]}
    boxes = {a["id"]: (*a["bbox"], *size[a["image_id"]]) for a in train["annotations"]}
    assert sum(x < 0 < x + w for x, y, w, h, *_ in boxes.values()) >= 3
    assert sum(x >= width for x, y, w, h, width, _ in boxes.values()) == 1
    assert sum(w == 0 for x, y, w, h, *_ in boxes.values()) == 1
    assert len(size) - len({a["image_id"] for a in train["annotations"]}) >= 2
    assert sum(a["iscrowd"] for a in train["annotations"]) >= 2


def test_a_crowd_region_decodes_to_its_area_and_box(sample):
    crowds = [a for a in tree(sample, "train2017")["annotations"] if a["iscrowd"]]
    for crowd in crowds:
        mask = decoded(crowd["segmentation"])
        assert mask.sum() == crowd["area"] > 0
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, w, h = crowd["bbox"]
        assert (x, y) == (columns[0], rows[0])
        assert (x + w - 1, y + h - 1) == (columns[-1], rows[-1])


def test_boxes_are_the_extent_of_their_polygons(sample):
    for annotation in tree(sample, "val2017")["annotations"]:
        if annotation["iscrowd"] or not annotation["segmentation"]:
            continue
        points = np.concatenate([np.reshape(p, (-1, 2)) for p in annotation["segmentation"]])
        x, y, w, h = annotation["bbox"]
        assert np.allclose([x, y, x + w, y + h], [*points.min(0), *points.max(0)], atol=0.011)


def test_every_class_is_seen_in_both_splits_and_looks_different(sample):
    """The mean color inside the boxes of two classes differs, so that even a tiny detector can learn them."""
    for split in coco.N_IMAGES:
        assert len({a["category_id"] for a in tree(sample, split)["annotations"]}) == 8
    train, looks = tree(sample, "train2017"), {}
    names = {i["id"]: i["file_name"] for i in train["images"]}
    for a in train["annotations"]:
        x, y, w, h = a["bbox"]
        if not a["iscrowd"] and w > 0 and x >= 0 and y >= 0:
            image = Image.open(sample / "train2017" / names[a["image_id"]]).crop((x, y, x + w, y + h))
            looks.setdefault(a["category_id"], []).append(np.asarray(image.resize((3, 3)), float).ravel())
    means = [np.mean(v, 0) for _, v in sorted(looks.items()) if len(v)]
    gaps = [np.abs(p - q).mean() for i, p in enumerate(means) for q in means[:i]]
    assert min(gaps) > 10
