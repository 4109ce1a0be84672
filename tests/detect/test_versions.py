"""The comparison of YOLO versions: right facts, timed in turns, and a name that is not there is an error."""

import contextlib
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ultralytics.utils.torch_utils import get_flops

from spkd.__main__ import run
from spkd.detect import evaluate, hardware, networks, versions
from spkd.errors import SpkdError
from spkd.evidence import provenance, tracking


@pytest.mark.parametrize(
    ("name", "millions", "gflops"), [("yolov8n", 3.2, 8.7), ("yolov10n", 2.3, 6.7), ("yolo11n", 2.6, 6.5)]
)
def test_size_and_operations_are_the_published_ones_of_the_network_that_is_timed(
    name: str, millions: float, gflops: float
) -> None:
    model = networks.build(f"{name}.yaml", "x")
    before = list(model.state_dict())
    found = versions.describe(f"{name}.yaml", model, 640, None)
    assert (found.parameters / 1e6, found.gflops) == (pytest.approx(millions, abs=0.05), pytest.approx(gflops, abs=0.1))
    assert found.one_to_one == (name == "yolov10n")
    kernels = [value for value in evaluate.fused(model).state_dict().values() if value.ndim == 4]
    assert found.layers == len(kernels) == {"yolov8n": 64, "yolov10n": 83, "yolo11n": 88}[name]
    versions.time_in_turns({name: model}, 64, 1, "cpu")
    assert list(model.state_dict()) == before  # what is timed is a copy


def test_a_layer_that_enlarges_a_map_is_a_conv_layer() -> None:
    model = networks.build("yolov6n.yaml", "x")
    assert versions.describe("yolov6n.yaml", model, 64, None).layers == 62  # two of them transposed


def test_a_gpu_that_is_not_there_is_blamed_on_the_key_that_the_command_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpkdError, match=r"params\.yaml: run\.device: expected .* got cuda:97; use cpu or auto"):
        run("yolo-versions", ["--run.device", "cuda:97"])


@pytest.fixture(scope="module")
def pair(tiny_yaml: Path) -> dict[str, object]:
    return {"yolov8n.yaml": networks.build("yolov8n.yaml", "x"), str(tiny_yaml): networks.build(str(tiny_yaml), "x")}


def test_yolov8n_has_its_head(pair: dict[str, object]) -> None:
    found = versions.describe("yolov8n.yaml", pair["yolov8n.yaml"], 640, 37.3)
    assert (found.anchor_free, found.head, found.one_to_one, found.bins) == (True, "Detect", False, 16)
    assert "C2f" in found.blocks and "C3k2" not in found.blocks


def test_yolo26_regresses_plain_numbers_and_has_a_head_without_nms() -> None:
    found = versions.describe("yolo26n.yaml", networks.build("yolo26n.yaml", "x"), 320, None)
    assert found.one_to_one and found.bins == 1 and "C3k2" in found.blocks and found.head == "Detect, depthwise"


class Clocked(torch.nn.Module):
    """A model that says when it is asked."""

    wall_s = cpu_s = 0.0  # a clock that only a call moves, by 2 and 3 ms

    def __init__(self, name: str, calls: list[str]) -> None:
        super().__init__()
        self.name, self.calls = name, calls

    def fuse(self, verbose: bool) -> "Clocked":
        return self

    def __deepcopy__(self, seen: dict[int, object]) -> "Clocked":
        return Clocked(self.name, self.calls)

    def forward(self, image: torch.Tensor) -> None:
        assert image.shape == (1, 3, 64, 64) and not torch.is_grad_enabled()
        self.calls.append(self.name)
        Clocked.wall_s += 0.002
        Clocked.cpu_s += 0.003


def test_every_round_times_every_model_once_in_ms_and_two_rounds_before_are_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(versions.time, "perf_counter", lambda: Clocked.wall_s)
    monkeypatch.setattr(versions.time, "process_time", lambda: Clocked.cpu_s)
    times = versions.time_in_turns({name: Clocked(name, calls) for name in "ab"}, 64, 3, "cpu")
    assert calls == ["a", "b"] * 5
    for wall_ms, cpu_ms in (times["a"], times["b"]):
        assert (wall_ms, cpu_ms) == (pytest.approx([2.0] * 3), pytest.approx([3.0] * 3))


def test_a_time_ends_when_the_device_of_the_image_has_ended_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(hardware, "wait", lambda device: calls.append(str(device)))
    versions.time_in_turns({"a": Clocked("a", calls)}, 64, 1, "cpu")
    assert calls == ["cpu", "a", "cpu"] * 3
    calls.clear()
    monkeypatch.setattr(evaluate, "fused", lambda model, device: Clocked("a", calls))
    monkeypatch.setattr(evaluate, "get_flops", lambda *_: 0)
    evaluate.cost(torch.nn.Identity(), 64, "cpu", rounds=1)
    assert calls == ["cpu", "a", "cpu"] * 4


def test_the_gpu_that_is_waited_for_is_the_one_that_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for indices in ("1", "2,3", "cpu"):
        hardware.wait(hardware.first(indices))
    assert waited == [torch.device("cuda:1"), torch.device("cuda:2")]


def test_every_column_holds_what_its_head_says() -> None:
    one = versions.Version(
        "m", 3_151_904, 8.76, 64, True, "Detect", False, 16, "C2f", 37.3, [2.0, 4.0], [1.0, 3.0, 8.0]
    )
    measured = {"mAP50": 0.5, "mAP50-95": 0.25}
    other = replace(one, name="n", anchor_free=False, one_to_one=True, bins=1, cpu_ms=[6.0], measured=measured)
    assert versions.columns([one, other], "m") == {
        "model": ["m", "n"], "parameters [M]": [3.15, 3.15], "GFLOPs": [8.8, 8.8], "conv layers": [64, 64],
        "anchor-free": [True, False], "head": ["Detect"] * 2, "one-to-one head": [False, True], "box bins": [16, 1],
        "blocks": ["C2f"] * 2, "latency median [ms]": [3.0, 3.0], "latency min-max [ms]": ["2.0-4.0"] * 2,
        "CPU time median [ms]": [3.0, 6.0], "time / m": [1.0, 2.0], "mAP50-95 measured [%]": [None, 25.0],
        "mAP50-95 published, full val2017 [%]": [37.3, 37.3],
    }  # fmt: skip
    assert versions.markdown({"a": [0.0, None, False]}).splitlines()[2:] == ["| 0.0 |", "|  |", "| no |"]
    for axes, at in zip(versions.figure([one, other], "a machine", 64).axes, ((3.0, 6.0), (8.76, 8.76)), strict=True):
        seen = [(text.get_text(), tuple(text.xy)) for text in axes.texts]
        assert seen == [("m", (at[0], 37.3)), ("n", (at[1], 25.0))]


def test_the_table_compares_with_the_reference_cpu_time_where_there_is_one(
    pair: dict[str, object], tiny_yaml: Path
) -> None:
    described = [versions.describe(n, m, 64, p) for (n, m), p in zip(pair.items(), (37.3, None), strict=True)]
    times = (([2.0, 9.0, 4.0], [8.0, 10.0, 9.0]), ([1.0, 1.5, 3.0], [4.5, 3.0, 6.0]))
    timed = [replace(v, latency_ms=t[0], cpu_ms=t[1]) for v, t in zip(described, times, strict=True)]
    table = versions.columns(timed, "yolov8n")
    assert table["model"] == ["yolov8n", tiny_yaml.stem]
    assert table["latency median [ms]"] == [4.0, 1.5] and table["latency min-max [ms]"] == ["2.0-9.0", "1.0-3.0"]
    assert table["CPU time median [ms]"] == [9.0, 4.5] and table["time / yolov8n"] == [1.0, 0.5]
    on_gpu = versions.columns([replace(v, cpu_ms=[]) for v in timed], tiny_yaml.stem)
    assert on_gpu[f"time / {tiny_yaml.stem}"] == [2.67, 1.0] and on_gpu["CPU time median [ms]"] == [None, None]
    text = versions.markdown(table).splitlines()
    assert len(text) == 4 and text[2].count("|") == text[0].count("|")
    assert dict(zip(table, text[2].split(" | "), strict=True))["anchor-free"] == "yes"
    here = replace(timed[1], measured={"mAP50": 0.5, "mAP50-95": 0.25})
    drawn = versions.figure([timed[0], here], "a machine", 64).axes[0].collections
    assert [tuple(one.get_offsets()[0]) for one in drawn] == [(9.0, 37.3), (4.5, 25.0)]
    assert [len(one.get_facecolors()) for one in drawn] == [0, 1]  # hollow = published
    both = versions.columns([timed[0], here], "yolov8n")
    assert both["mAP50-95 measured [%]"] == [None, 25.0]
    assert both["mAP50-95 published, full val2017 [%]"] == [37.3, None]
    assert math.isnan(described[0].median_ms)


def write(path: Path, what: str) -> str:
    """A file that is no detection network; its name."""
    if what == "a state dict":
        torch.save({"a": torch.zeros(3)}, path)
    elif what == "a list":
        torch.save([1], path)
    elif what == "a folder":
        path.mkdir()
    elif what != "nothing":
        path.write_text(what)
    return str(path)


@pytest.mark.parametrize("what", ["words", "", "a state dict", "a list", "a folder", "nothing"])
def test_weights_that_are_no_network_are_an_error_that_names_the_setting(tmp_path: Path, what: str) -> None:
    with pytest.raises(SpkdError, match=r"params\.yaml: detect\.model: expected a detection network .*w\.pt"):
        networks.build(write(tmp_path / "w.pt", what), "detect.model")


@pytest.mark.parametrize(
    "name", ["yolov97q.yaml", "yolov8n-seg.yaml", "yolov8n-cls.yaml", "rtdetr-l.yaml", "yolov8n", "words.txt"]
)
def test_a_name_that_is_no_detection_network_is_an_error_that_names_the_setting(name: str) -> None:
    with pytest.raises(SpkdError, match=r"yolo_versions\.models: expected a detection network"):
        networks.build(name, "yolo_versions.models")


def test_a_yaml_that_describes_no_network_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpkdError, match=r"expected a detection network .*bad\.yaml"):
        networks.build(write(tmp_path / "bad.yaml", "backbone: 7"), "x")


def test_weights_of_a_model_that_is_not_compared_are_an_error(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["--detect.data", str(data_set), "--yolo_versions.weights", "{yolov8n: real.pt}"]
    with pytest.raises(SpkdError, match=r"yolo_versions\.weights: .*did you mean 'yolov8n\.yaml'"):
        run("yolo-versions", words)
    words[-1] = "{yolov8n.yaml: real.pt}"
    with pytest.raises(SpkdError, match=r"yolo_versions\.weights\.yolov8n\.yaml: expected a detection network"):
        run("yolo-versions", words)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_side_that_a_network_cannot_halve_so_often_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["--yolo_versions.models", "{yolov8n.yaml: null, yolov8n-p6.yaml: null}", "--yolo_versions.imgsz", "32"]
    with pytest.raises(SpkdError, match=r"imgsz, of yolov8n-p6\.yaml: expected a multiple of 64, .*, got 32; set 64$"):
        run("yolo-versions", words)


@pytest.mark.parametrize("wrong", ["classes", "labels"])
def test_weights_are_measured_only_on_sound_data_of_their_own_classes(
    data_set: Path, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """tiny_teacher: made of a yaml, so its classes have numbers for names."""
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    names = networks.load(tiny_teacher).names
    message = r"weights\.yolov8n\.yaml: expected weights of the 3 classes .*\(class 0: red\), got 3 .*\(class 0: 0\)"
    if wrong == "labels":
        data_set.write_text(data_set.read_text().partition("names:")[0] + f"names: {list(names.values())}\n")
        (data_set.parent / "labels/val/val000.txt").write_text("7 0.5 0.5 0.2 0.2\n")
        message = "class ids must be 0"
    words = ["--detect.data", str(data_set), "--yolo_versions.models", "{yolov8n.yaml: null}"]
    with pytest.raises(SpkdError, match=message):
        run("yolo-versions", [*words, "--yolo_versions.weights", f"{{yolov8n.yaml: {tiny_teacher}}}"])
    assert not (tmp_path / "mlflow.db").exists()


def test_weights_of_fewer_classes_are_refused_and_those_of_the_same_are_not() -> None:
    of_two = SimpleNamespace(names={0: "red", 1: "green"})
    versions.require_classes(of_two, {0: "red", 1: "green"}, "x")
    with pytest.raises(SpkdError, match="x: expected weights of the 3 classes of detect.data, got 2 classes; name"):
        versions.require_classes(of_two, {0: "red", 1: "green", 2: "blue"}, "x")
    with pytest.raises(SpkdError, match=r"\(class 0: green\), got 2 classes \(class 0: red\)"):
        versions.require_classes(of_two, {0: "green", 1: "red"}, "x")


def test_each_row_of_the_command_is_of_its_own_model(
    data_set: Path, tiny_yaml: Path, tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, timed, validated = networks.load(tiny_teacher).names, [], []
    data_set.write_text(data_set.read_text().partition("names:")[0] + f"names: {list(known.values())}\n")
    tables, metrics = [], {}

    def time_in_turns(models: dict[str, object], *how: object) -> dict[str, versions.Timing]:
        timed.append((list(models), *how))
        return {name: ([10.0 + place], [20.0 + place]) for place, name in enumerate(models)}

    def validate(weights: Path, data: Path, folder: Path, *how: object) -> SimpleNamespace:
        validated.append((weights, data, *how))
        return SimpleNamespace(numbers={"mAP50": 0.5, "mAP50-95": 0.25})

    opened = SimpleNamespace(
        folder=tmp_path, params=lambda values: None, table=lambda name, columns: tables.append(columns),
        text=lambda text, name: None, figure=lambda drawn, name: None, note=lambda text: None,
        metrics=lambda values, step: metrics.update(values),
    )  # fmt: skip
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    (tmp_path / "runs/yolo-versions").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(versions, "time_in_turns", time_in_turns)
    monkeypatch.setattr(evaluate, "validate", validate)
    monkeypatch.setattr(tracking, "open_run", lambda *_, **__: contextlib.nullcontext(opened))
    monkeypatch.setattr(provenance, "tell", lambda *_: ({"cpu": "a CPU"}, {}))
    models = f"{{yolov5n.yaml: 34.3, yolov8n.yaml: 37.3, {tiny_yaml}: null}}"
    own = {"models": models, "weights": f"{{{tiny_yaml}: {tiny_teacher}}}", "imgsz": 64, "rounds": 7}
    words = [word for key, value in own.items() for word in (f"--yolo_versions.{key}", str(value))]
    run("yolo-versions", [*words, "--detect.data", str(data_set), "--run.device", "cpu", "--run.threads", "1"])
    assert timed == [(["yolov5n.yaml", "yolov8n.yaml", str(tiny_yaml)], 64, 7, torch.device("cpu"))]
    assert validated == [(tiny_teacher, data_set, 64, "cpu", False, None, {})]
    (table,) = tables
    names = ["yolov5n", "yolov8n", tiny_yaml.stem]
    assert table["model"] == names and metrics == {f"latency_ms/{n}": 10.0 + i for i, n in enumerate(names)}
    assert table["latency median [ms]"] == [10.0, 11.0, 12.0] and table["CPU time median [ms]"] == [20.0, 21.0, 22.0]
    assert table["time / yolov8n"] == [0.95, 1.0, 1.05]
    assert table["mAP50-95 published, full val2017 [%]"] == [34.3, 37.3, None]
    assert table["mAP50-95 measured [%]"] == [None, None, 25.0]
    of_one_image = float(get_flops(evaluate.fused(networks.build("yolov8n.yaml", "x")), 64))
    assert table["GFLOPs"][1] == round(of_one_image, 1)
