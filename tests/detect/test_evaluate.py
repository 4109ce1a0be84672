"""What weights are worth: golden figures of a real model on real images, and COCO's metric by hand."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spkd.detect import coco, coco_metric, evaluate, features, networks, probe
from spkd.detect.checks import preflight, truth
from spkd.errors import SpkdError
from spkd.settings import Preflight

LIMITS = Preflight(max_missing=0.0, max_background=1.0, max_duplicates=0.01)


def test_the_real_yolov8n_has_its_golden_map_on_real_images(real: tuple[Path, Path, Path], tmp_path: Path) -> None:
    data, annotations, weights = real
    found = evaluate.validate(weights, data, tmp_path, 320, "cpu", False, annotations, {})
    # golden, and what YOLO(weights).val(data=data, imgsz=320, batch=16) says: results/spkd-for-yolo/README.md
    assert found.numbers["mAP50"] == pytest.approx(0.4826, abs=0.003)
    assert found.numbers["mAP50-95"] == pytest.approx(0.3536, abs=0.003)
    assert found.coco["AP"] == pytest.approx(0.3569, abs=0.003)
    assert found.coco["AP50"] == pytest.approx(0.4857, abs=0.003)
    counted, names = json.loads((data.parent / coco.REPORT).read_text())["splits"]["val2017"]["classes"], list[str]()
    table = found.per_class
    assert dict(zip(table["class"], table["objects"], strict=True)) == {name: n for name, n in counted.items() if n}
    for labels in (data.parent / "labels/val2017").glob("*.txt"):
        names += {list(counted)[int(line.split()[0])] for line in labels.read_text().splitlines()}
    assert dict(zip(table["class"], table["images"], strict=True)) == Counter(names)


def test_the_coco_metric_is_the_same_where_ultralytics_takes_the_data_set_for_coco_itself(
    real: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """By this name of a list its detections carry the 91 category ids of COCO instead of 1 to 80."""
    data, annotations, weights = real
    listed = tmp_path / "coco/val2017.txt"
    listed.parent.mkdir()
    listed.write_text("".join(f"{path}\n" for path in sorted((data.parent / "images/val2017").iterdir())))
    (tmp_path / "data.yaml").write_text(data.read_text().replace("images/val2017", str(listed)))
    plain = evaluate.validate(weights, data, tmp_path / "a", 160, "cpu", False, annotations, {})
    itself = evaluate.validate(weights, tmp_path / "data.yaml", tmp_path / "b", 160, "cpu", False, annotations, {})
    assert itself.coco == plain.coco and plain.coco["AP"] > 0.2


def test_weights_are_worth_what_ultralytics_own_val_says(real: tuple[Path, Path, Path], tmp_path: Path) -> None:
    from ultralytics import YOLO

    data, _, weights = real
    found = evaluate.validate(weights, data, tmp_path / "ours", 160, "cpu", False, None, {})
    own = YOLO(str(weights)).val(
        data=str(data), imgsz=160, batch=16, device="cpu", plots=False, verbose=False, project=str(tmp_path)
    )
    assert found.numbers["mAP50"] == pytest.approx(own.box.map50, abs=1e-6) and own.box.map50 > 0.3
    assert found.numbers["mAP50-95"] == pytest.approx(own.box.map, abs=1e-6)
    squares = evaluate.validate(weights, data, tmp_path / "squares", 160, "cpu", False, None, {"rect": False})
    assert abs(squares.numbers["mAP50"] - own.box.map50) > 1e-3


def test_the_real_teacher_is_nearly_uniform_flattened_and_not_dead(real: tuple[Path, Path, Path]) -> None:
    data, annotations, weights = real
    report = preflight.check(data, {"val": annotations}, LIMITS)
    assert report.ok
    seen = report.splits["val"].seen[:16]
    labels = [{"im_file": s.image, "cls": s.rows[:, :1], "bboxes": s.rows[:, 1:]} for s in seen if s.rows is not None]
    chosen = probe.choose(labels, 16, 100, 320)
    model = networks.load(weights)
    with torch.no_grad():
        levels = features.of(model(chosen.images))
    assert [features.is_dead(level) for level in levels] == ["", "", ""]
    from spkd.losses.sp import normalise, similarity

    off = ~torch.eye(16, dtype=torch.bool)
    flat = normalise(similarity(levels[0].flatten(1)))[off]
    assert 0.2 < flat.mean() < 0.3 and flat.std() < 0.02  # nearly uniform: 1 / sqrt(16) = 0.25
    pooled = features.rows(levels[0], "pooled", chosen.boxes, chosen.box_image)
    assert normalise(similarity(pooled))[off].std() > 0.15


@pytest.fixture
def one_image(tmp_path: Path) -> Path:
    """One image with a cat (id 17, index 1), a crowd of cats and a dog-free rest; ids 5 and 17."""
    tree = {
        "images": [{"id": 42, "file_name": "a.jpg", "width": 100, "height": 100}],
        "annotations": [
            {"image_id": 42, "category_id": 17, "bbox": [10, 10, 40, 40]},  # many exports have no iscrowd
            {"image_id": 42, "category_id": 17, "bbox": [60, 60, 40, 40], "iscrowd": 1},
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 5, "name": "aeroplane"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(tree))
    return path


def detection(index: int, box: list[float], score: float = 0.9, name: str = "a.jpg") -> dict[str, object]:
    return {"file_name": name, "index": index, "bbox": box, "score": score}


def measured(annotations: Path, found: list[Any], images: Sequence[str] = ("a.jpg",)) -> dict[str, float]:
    return coco_metric.measure(annotations, list(images), found)


def test_class_index_one_is_the_second_category_by_id(one_image: Path) -> None:
    assert measured(one_image, [detection(1, [10, 10, 40, 40])])["AP"] == pytest.approx(1.0)
    assert measured(one_image, [detection(0, [10, 10, 40, 40])])["AP"] == 0.0


def test_a_detection_inside_a_crowd_is_neither_right_nor_wrong(one_image: Path) -> None:
    found = [detection(1, [10, 10, 40, 40], 0.5), detection(1, [62, 62, 20, 20], 0.9)]
    assert measured(one_image, found)["AP"] == pytest.approx(1.0)
    outside = [detection(1, [10, 10, 40, 40], 0.5), detection(1, [0, 60, 20, 20], 0.9)]
    assert measured(one_image, outside)["AP"] == pytest.approx(0.5)


def test_an_overlap_of_60_percent_counts_up_to_that_threshold(one_image: Path) -> None:
    found = measured(one_image, [detection(1, [10, 10, 40, 25])])  # IoU 25 / 40 = 0.625
    assert (found["AP50"], found["AP75"]) == (pytest.approx(1.0), 0.0) and found["AP"] == pytest.approx(0.3)


@pytest.mark.parametrize("crowd", [0, 1])
def test_no_detection_is_worth_as_much_as_wrong_ones(one_image: Path, crowd: int) -> None:
    tree = json.loads(one_image.read_text())
    tree["annotations"][0]["iscrowd"] = crowd  # 40 x 40 pixels: neither small nor large
    one_image.write_text(json.dumps(tree))
    nothing = measured(one_image, [])
    assert (
        nothing == measured(one_image, [detection(1, [0, 60, 20, 20])]) == measured(one_image, [detection(0, [0] * 4)])
    )
    worth = -1.0 if crowd else 0.0
    assert (nothing["AP"], nothing["AP_small"], nothing["AP_medium"], nothing["AP_large"]) == (worth, -1.0, worth, -1.0)


def test_an_image_of_another_json_is_an_error(one_image: Path) -> None:
    with pytest.raises(SpkdError, match=r"no image 'b\.jpg'"):
        measured(one_image, [], ["a.jpg", "b.jpg"])


def test_an_image_of_the_json_that_was_not_validated_is_no_miss(one_image: Path) -> None:
    tree = json.loads(one_image.read_text())
    tree["images"].append({**tree["images"][0], "id": 43, "file_name": "left_out.jpg"})
    tree["annotations"].append({"image_id": 43, "category_id": 17, "bbox": [10, 10, 40, 40], "iscrowd": 0})
    one_image.write_text(json.dumps(tree))
    perfect = [detection(1, [10, 10, 40, 40])]
    assert measured(one_image, perfect)["AP"] == pytest.approx(1.0) == measured(one_image, perfect)["AR_100"]
    assert measured(one_image, perfect, ["a.jpg", "left_out.jpg"])["AR_100"] == pytest.approx(0.5)


def test_the_images_that_coco_counts_are_those_that_were_validated(
    data_set: Path, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(coco_metric, "measure", lambda annotations, images, found: seen.extend(images) or {"AP": 0.5})
    found = evaluate.validate(tiny_teacher, data_set, tmp_path, 64, "cpu", False, tmp_path / "val.json", {})
    assert sorted(Path(image).name for image in seen) == [f"val{i:03}.jpg" for i in range(4)]
    assert found.coco == {"AP": 0.5}


def test_images_of_one_name_in_two_folders_are_told_apart_and_an_id_of_0_is_an_object(one_image: Path) -> None:
    tree = json.loads(one_image.read_text())
    first = tree["images"][0]
    tree["images"] = [{**first, "file_name": "x/a.jpg"}, {**first, "file_name": "y/a.jpg", "id": 43}]
    boxes = {42: [10, 10, 40, 40], 43: [50, 50, 30, 30]}
    tree["annotations"] = [
        {"id": i, "image_id": image, "category_id": 17, "bbox": box, "iscrowd": 0}
        for i, (image, box) in enumerate(boxes.items())
    ]
    one_image.write_text(json.dumps(tree))
    found = [
        detection(1, boxes[42], name="/set/images/val/x/a.jpg"),
        detection(1, boxes[43], name="/set/images/val/y/a.jpg"),
    ]
    assert measured(one_image, found, [str(one["file_name"]) for one in found])["AP"] == pytest.approx(1.0)


def test_the_final_evaluation_is_of_the_task_that_was_trained(
    data_set: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    def validate(name: str, train: dict[str, Any], annotations: Path | None = None) -> evaluate.Result:
        return evaluate.validate(tiny_teacher, data_set, tmp_path / name, 64, "cpu", False, annotations, train)

    assert len(validate("plain", {}).per_class["class"]) > 1
    one = validate("one", {"single_cls": True}, tmp_path / "not read.json")
    assert len(one.per_class["class"]) == 1 and one.per_class["objects"] == [8] and one.coco == {}
    some = validate("some", {"classes": [1], "lr0": 0.1}, tmp_path / "not read.json")
    assert sum(some.per_class["objects"]) < 8 and some.coco == {}


def test_every_argument_that_says_what_counts_reaches_the_final_evaluation_in_one_process_on_one_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}

    def collecting(save_dir: Path, args: dict[str, Any]) -> None:
        told.update(args)
        raise KeyboardInterrupt  # far enough

    given = {"rect": False, "augment": True, "conf": 0.1, "iou": 0.6, "max_det": 7, "agnostic_nms": True, "nms": True}
    monkeypatch.setattr(evaluate, "_Collecting", collecting)
    with pytest.raises(KeyboardInterrupt):
        evaluate.validate(Path("w.pt"), Path("d"), tmp_path, 64, "2,3", False, None, {**given, "lr0": 0.1})
    assert (given | {"device": "2", "workers": 0, "batch": 16}).items() <= told.items() and "lr0" not in told


def test_the_final_evaluation_leaves_the_threads_as_they_were(
    data_set: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            evaluate.validate(tiny_teacher, data_set, tmp_path, 64, "cpu", False, None, {})
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("train", "one_to_one"), [({}, False), ({"nms": False}, True)])
def test_the_final_evaluation_is_of_the_head_that_training_validated(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: dict[str, Any], one_to_one: bool
) -> None:
    from ultralytics import YOLO

    weights, seen = tmp_path / "two_heads.pt", []
    YOLO("yolov10n.yaml").save(weights)
    init = evaluate._Collecting.init_metrics
    monkeypatch.setattr(
        evaluate._Collecting, "init_metrics", lambda own, model: seen.append(model.end2end) or init(own, model)
    )
    evaluate.validate(weights, data_set, tmp_path, 64, "cpu", False, None, train)
    assert seen == [one_to_one]


def test_detections_keep_the_folders_of_their_images() -> None:
    validator = evaluate._Collecting(args={"task": "detect", "mode": "val"})
    validator.jdict, validator.class_map = [], [1, 2]
    boxes = {"bboxes": torch.tensor([[0.0, 0, 4, 4]]), "conf": torch.tensor([0.5]), "cls": torch.tensor([1.0])}
    validator.pred_to_json(boxes, {"im_file": "/set/images/val/x/a.jpg"})
    assert [one["file_name"] for one in validator.jdict] == ["/set/images/val/x/a.jpg"]


def test_cost_is_that_of_the_network_as_it_infers_and_leaves_the_model_unfused() -> None:
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov10n.yaml", verbose=False)
    before = list(model.state_dict())
    found = evaluate.cost(model, 640, "cpu", rounds=1)
    assert (found["parameters"], found["gflops"]) == (2_299_264, pytest.approx(6.7, abs=0.1))  # published: 2.3 M, 6.7
    assert list(model.state_dict()) == before and model.training and found["latency_ms"] > 0


def test_the_latency_is_the_shortest_of_the_rounds_that_count(tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took = [0.001, 0.002, 0.003, 0.009, 0.004, 0.006]  # of which the first three do not count
    clock = iter(value for start, seconds in enumerate(took) for value in (start, start + seconds))
    monkeypatch.setattr(evaluate, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = evaluate.cost(networks.build(str(tiny_yaml), "x"), 64, "cpu", rounds=3)
    assert found["latency_ms"] == pytest.approx(4.0)


def test_the_json_of_each_split_is_found_by_the_converters_report(data_set: Path, tmp_path: Path) -> None:
    assert truth.recorded(data_set, tmp_path) == {}
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{}")
    known = {"train": "a.json", "val": "gone.json", "test": "b.json"}
    splits = {s: {"annotations": name, "sha256": coco.sha256(tmp_path / "a.json")} for s, name in known.items()}
    (data_set.parent / "conversion.json").write_text(json.dumps({"origin": "simulated", "splits": splits}))
    assert truth.recorded(data_set, tmp_path) == {"train": tmp_path / "a.json"}


def test_a_json_of_the_same_name_that_was_not_converted_is_never_compared_with(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("{}")
    report = {"splits": {"train": {"annotations": "a.json", "sha256": coco.sha256(tmp_path / "a.json")}}}
    (data_set.parent / "conversion.json").write_text(json.dumps(report))
    (tmp_path / "a.json").write_text("{ }")
    assert truth.recorded(data_set, tmp_path) == {}
    monkeypatch.setattr(coco, "OUT", data_set.parent)  # the DVC stage's own data set: its labels are old
    with pytest.raises(SpkdError, match=r"a\.json: .*run `dvc repro --force coco`"):
        truth.recorded(data_set, tmp_path)


def test_the_probe_is_sorted_by_class_and_its_boxes_follow_the_letterbox(data_set: Path) -> None:
    labels = [
        {"im_file": s.image, "cls": s.rows[:, :1], "bboxes": s.rows[:, 1:]}
        for s in preflight.check(data_set, {}, LIMITS).splits["train"].seen
        if s.rows is not None
    ]
    chosen = probe.choose(labels, 4, 6, 96)
    assert chosen.images.shape == (4, 3, 96, 96) and len(chosen.boxes) == 6
    assert chosen.image_class.tolist() == sorted(chosen.image_class) and (chosen.box_image.diff() >= 0).all()
    assert chosen.object_class.tolist() == sorted(chosen.object_class)
    often = {**labels[0], "cls": np.array([[2], [1], [1]]), "bboxes": np.full((3, 4), 0.5)}
    assert probe.choose([often], 1, 3, 96).image_class.tolist() == [1]  # which it shows most
    every = probe.choose(labels, 2**62, 2**62, 96)  # more than there are
    assert len(every.paths) == len(labels) and len(every.boxes) == sum(len(entry["cls"]) for entry in labels)
    again = probe.choose(list(reversed(labels)), 4, 6, 96)
    assert again.paths == chosen.paths and torch.equal(again.boxes, chosen.boxes)
    colours = {0: 0, 1: 1, 2: 2}  # class 0 is drawn red, 1 green, 2 blue
    pooled = features.under_boxes(chosen.images, chosen.boxes, chosen.box_image)[chosen.object_order]
    share = (pooled.argmax(1) == torch.tensor([colours[c] for c in chosen.object_class.tolist()])).float().mean()
    assert share >= 0.8  # a later rectangle may lie over an earlier one


@pytest.mark.parametrize(("wide", "placed"), [(True, [0.25, 0.375, 0.5, 0.25]), (False, [0.375, 0.25, 0.25, 0.5])])
def test_an_image_that_is_no_square_keeps_its_shape_in_the_probe_and_its_box_goes_along(
    tmp_path: Path, wide: bool, placed: list[float]
) -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:10, :20] = 255  # the upper left quarter, and its box
    path = tmp_path / "image.png"
    Image.fromarray(pixels if wide else pixels.transpose(1, 0, 2)).save(path)
    label = {"im_file": path, "cls": np.zeros((1, 1)), "bboxes": np.array([[0.25, 0.25, 0.5, 0.5]])}
    found = probe.choose([label], 1, 1, 80)
    assert found.boxes.tolist() == [placed]
    image = found.images[0] if wide else found.images[0].transpose(1, 2)
    expected = torch.full((3, 80, 80), probe.GREY / 255)
    expected[:, 20:60], expected[:, 20:40, :40] = 0.0, 1.0
    assert torch.equal(image, expected)


def test_images_of_the_probe_are_compared_flattened_where_training_compares_them_so(
    data_set: Path, tiny_teacher: Path
) -> None:
    split = preflight.check(data_set, {}, LIMITS).splits["train"]
    labels = [{"im_file": s.image, "cls": s.rows[:, :1], "bboxes": s.rows[:, 1:]} for s in split.seen]  # type: ignore[index]
    model, found = networks.load(tiny_teacher), probe.choose(labels, 4, 6, 64)
    maps = {mode: probe.maps(model, found, ["P3"], mode) for mode in features.MODES}
    with torch.no_grad():
        flat = features.of(model(found.images))[0].flatten(1)
    assert torch.allclose(torch.from_numpy(maps["batch"]["image/P3"]), flat @ flat.T)
    for mode in ("pooled", "object"):  # centred: the rows of the map add up to nothing
        centred = torch.from_numpy(maps[mode]["image/P3"])
        assert centred.sum(1).abs().max() < 1e-4 * centred.abs().max()
