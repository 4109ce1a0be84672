"""Label text against printf, outlines against hand-drawn ones."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from spkd.detect import coco
from spkd.detect.coco import Split, label_files


def test_text_equals_printf_for_every_width_of_class_number():
    rng = np.random.default_rng(0)
    label = np.array([0, 9, 10, 79, 99, 100, 1202, *rng.integers(0, 1203, 500)])
    millionths = rng.integers(0, 1_000_001, (len(label), 4))
    millionths[0], millionths[1], millionths[2] = 0, 1_000_000, [1, 10, 999_999, 100_000]
    whole, ends = label_files.text(label, millionths)
    expected = [
        f"{c} " + " ".join(f"{v / 1_000_000:.6f}" for v in row) + "\n" for c, row in zip(label, millionths, strict=True)
    ]
    assert whole.decode() == "".join(expected)
    assert ends.tolist() == np.cumsum([len(line) for line in expected]).tolist()


def test_no_rows_are_no_text():
    assert label_files.text(np.zeros(0, int), np.zeros((0, 4), int)) == (b"", pytest.approx([]))


def test_a_label_file_is_never_appended_to(tmp_path):
    label_files.write(tmp_path, ["a.jpg"], [b"0 1 1 1 1\n"])
    with pytest.raises(FileExistsError):
        label_files.write(tmp_path, ["a.jpg"], [b"0 1 1 1 1\n"])
    assert (tmp_path / "a.txt").read_bytes() == b"0 1 1 1 1\n"


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 9])
def test_every_file_gets_its_own_rows_whoever_writes_it(tmp_path, n):
    names = [f"{'deep/' if i % 2 else ''}{i}.jpg" for i in range(n)]
    label_files.write(tmp_path, names, [f"{i} 1 1 1 1\n".encode() * i for i in range(n)])
    written = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*.txt")}
    assert written == {name.replace(".jpg", ".txt"): f"{i} 1 1 1 1\n" * i for i, name in enumerate(names)}


def test_a_disk_that_takes_only_a_part_at_a_time_cuts_no_file(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(label_files.os, "write", lambda file, content: real(file, content[:7]))
    label_files.write(tmp_path, ["a.jpg"], [b"0 0.500000 0.500000 0.250000 0.250000\n"])
    assert (tmp_path / "a.txt").read_bytes() == b"0 0.500000 0.500000 0.250000 0.250000\n"


def test_a_full_disk_is_an_error_whoever_meets_it(tmp_path, monkeypatch):
    real = os.write

    def full(file, content):
        if content.startswith(b"9"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, content)

    monkeypatch.setattr(label_files.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        label_files.write(tmp_path, [f"{i}.jpg" for i in range(10)], [b"%d 1 1 1 1\n" % i for i in range(10)])


@pytest.mark.parametrize("begins", range(4))
def test_two_parts_are_joined_over_their_shortest_bridge_wherever_the_second_begins(begins):
    """Unit squares at x = 0 and x = 3: the bridge is (1, 0) - (3, 0), there and back, and adds no area."""
    left = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    outline = label_files.joined([left, np.roll(left + [3, 0], begins, 0)])
    assert outline.tolist() == [
        [0, 0], [1, 0], [3, 0], [4, 0], [4, 1], [3, 1], [3, 0], [1, 0], [1, 1], [0, 1],
    ]  # fmt: skip
    x, y = outline.T
    assert abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2 == 2.0


def test_outlines_are_clipped_shares_and_rle_or_missing_ones_become_boxes(tmp_path):
    (tmp_path / "train").mkdir()
    Image.new("RGB", (100, 50)).save(tmp_path / "train" / "a.png")
    common = {"image_id": 1, "category_id": 5, "iscrowd": 0, "bbox": [-10, 0, 60, 25]}
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
        "categories": [{"id": 5, "name": "x"}],
        "annotations": [
            {**common, "id": 1, "segmentation": [[-10, 0, 50, 0, 50, 25]]},
            {**common, "id": 2, "segmentation": {"counts": [5000], "size": [50, 100]}},
            {**common, "id": 3, "segmentation": []},
            {**common, "id": 4, "segmentation": [[10, 0, 10, 20, 10, 25]]},  # no width
            {**common, "id": 5, "segmentation": [[0, 60, 50, 60, 50, 70]]},  # below its image
            {**common, "id": 6, "segmentation": [[10, 10, 10, 10, 10, 10.00001]]},  # less than a millionth
            {**common, "id": 7, "segmentation": [[1, 2, 3, 4, 5, 6, 7]]},  # no pairs
            {**common, "id": 8, "segmentation": [[10, 10, 30, 20]]},  # a line
            {**common, "id": 9, "segmentation": [[10, 5, 20, 5, 20, 10, 10, 15]]},
            {**common, "id": 10, "bbox": [20, 10, 40, 10], "segmentation": []},  # touches no edge of its image
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(tree))
    splits = [Split("train", tmp_path / "a.json", tmp_path / "train")]
    report = coco.convert(splits, tmp_path / "out", "copy", True, "error", "test")
    box = "0 0.000000 0.000000 0.500000 0.000000 0.500000 0.500000 0.000000 0.500000\n"
    text = (tmp_path / "out/labels/train/a.txt").read_text()
    four = "0 0.100000 0.100000 0.200000 0.100000 0.200000 0.200000 0.100000 0.300000\n"
    inside = "0 0.200000 0.200000 0.600000 0.200000 0.600000 0.400000 0.200000 0.400000\n"
    three = "0 0.000000 0.000000 0.500000 0.000000 0.500000 0.500000\n"
    assert text == three + box + four + inside  # the repeated box once
    split = report["splits"]["train"]
    assert (split["n_from_box"], split["boxes"], split["classes"], split["n_clipped"]) == (2, 4, {"x": 4}, 3)
    first = "annotation id 3 (annotations[2], image id 1)"
    assert split["drops"] == {"same class and outline twice in an image": {"n": 6, "first": first}}
