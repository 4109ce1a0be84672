"""A whole detection run: what it logs, what stops it, and that a killed one goes on."""

import inspect
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from spkd import config, seeding
from spkd.__main__ import run as main_run
from spkd.cli import detect as detect_command
from spkd.detect import (
    continued,
    evaluate,
    follow,
    hardware,
    hermetic,
    networks,
    probe,
    spkd_trainer,
    stored,
    tracked,
    yolo,
)
from spkd.detect.checks import preflight
from spkd.detect.plan import Job, Plan
from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.provenance import state_sha256
from spkd.evidence.reproduction import portable
from spkd.settings import Preflight, Settings

REPO = Path(__file__).parents[2]
LIMITS = Preflight(max_missing=0.0, max_background=0.9, max_duplicates=0.01)


ENVIRON = {**os.environ, "PYTHONPATH": str(REPO / "src"), "OMP_NUM_THREADS": "1"}


def command(data: Path, model: Path, settings: dict[str, Any]) -> list[str]:
    """The words of `spkd detect` on a tiny data set and network."""
    base = {"data": data, "annotations": "{}", "model": model, "batch": 4, "imgsz": 64, "device": "cpu"}
    words = [sys.executable, "-m", "spkd", "detect", "--run.threads", "1"]
    for key, value in (base | {"train": "{nbs: 4, plots: false, verbose: false}"} | settings).items():
        words += [f"--detect.{key}", str(value)]
    return words


class Recorder:
    """A run that keeps what it is given."""

    def __init__(self) -> None:
        self.logged: dict[str, Any] = {
            "metrics": {},
            "tags": {},
            "images": {},
            "files": set(),
            "tables": {},
            "texts": {},
        }

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.logged["metrics"].setdefault(step, {}).update(values)

    def tags(self, values: dict[str, Any]) -> None:
        self.logged["tags"].update(values)

    def image(self, key: str, pixels: np.ndarray, step: int) -> None:
        assert pixels.dtype == np.uint8
        self.logged["images"].setdefault(key, []).append(step)

    def text(self, text: str, name: str) -> None:
        self.logged["files"].add(name)
        self.logged["texts"][name] = text

    def file(self, path: Path, name: str) -> None:
        assert path.is_file(), path
        self.logged["files"].add(name)

    def json(self, value: Any, name: str) -> None:
        json.dumps(value)
        self.logged["files"].add(name)

    def table(self, name: str, columns: dict[str, list[Any]]) -> None:
        self.logged["tables"][name] = columns

    def dataset(self, name: str, digest: str, source: str, profile: dict[str, Any]) -> None:
        self.logged["dataset"] = (name, digest, profile)

    def model(self, weights: Path, name: str) -> None:
        self.logged["model"] = weights


def train(job: Job, run: Recorder) -> dict[str, float]:
    """As a tracked run does it: look, claim the folder, log the data, train."""
    report = yolo.look(job)
    yolo.continues(job, report)
    yolo.claim(job, report)
    yolo.log_data(job, report, run)  # type: ignore[arg-type]
    return yolo.train(job, report, run)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def make_job(
    tiny_set: Path, tiny_yaml: Path, tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Job]:
    plan = Plan("sp", str(tiny_teacher), ("P3", "P4", "P5"), "object", 20.0, 64, 1, 4, 8, 1, False)
    extra = {"plots": False, "nbs": 4, "warmup_epochs": 0.0, "verbose": False}
    base = Job(
        Path(), tiny_set, {}, str(tiny_yaml), 2, 4, 64, "cpu", 0, 0, True, 6.0, extra, LIMITS, plan,
    )  # fmt: skip

    def make(**changes: Any) -> Job:
        return replace(base, folder=tmp_path_factory.mktemp("job"), **changes)

    return make


@pytest.fixture(scope="module")
def done(make_job: Callable[..., Job], tiny_set: Path) -> tuple[Job, dict[str, Any], dict[str, float]]:
    """A finished run with plots and a COCO JSON of its validation images."""
    annotations = tiny_set.parent.parent / "val.json"
    images, boxes = [], []
    for n, label in enumerate(sorted((tiny_set.parent / "labels/val").glob("*.txt")), start=10):
        images.append({"id": n, "file_name": f"{label.stem}.jpg", "width": 64, "height": 64})
        for row in label.read_text().splitlines():
            c, x, y, w, h = map(float, row.split())
            box = [(x - w / 2) * 64, (y - h / 2) * 64, w * 64, h * 64]
            boxes.append(
                {"id": len(boxes), "image_id": n, "category_id": [1, 3, 90][int(c)], "bbox": box, "iscrowd": 0}
            )
    categories = [{"id": i, "name": n} for i, n in ((1, "red"), (3, "green"), (90, "blue"))]
    annotations.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    job, run = make_job(annotations={"val": annotations}), Recorder()
    job = replace(job, extra={**job.extra, "plots": True})
    result = train(job, run)
    return job, run.logged, result


def test_the_losses_of_the_first_step_are_metrics_and_its_images_a_tag(done: Any) -> None:
    recorded = json.loads((done[0].train_folder / "first_step.json").read_text())
    assert done[1]["tags"]["first_step.rows_sha256"] == recorded["images_sha256"]
    logged = done[1]["metrics"][0]
    assert {k: logged[f"first_step/{k}"] for k in recorded["losses"]} == recorded["losses"]
    assert {"box_loss", "cls_loss", "dfl_loss", "sp_loss"} <= set(recorded["losses"])


def test_every_epoch_logs_losses_map_learning_rate_and_similarity(done: Any) -> None:
    metrics = done[1]["metrics"]
    for epoch in (1, 2):
        assert {"train/box_loss", "train/cls_loss", "train/dfl_loss", "train/sp_loss", "val/box_loss"} <= set(
            metrics[epoch]
        )
        assert {"val/mAP50", "val/mAP50-95", "val/precision", "val/recall", "lr/pg0"} <= set(metrics[epoch])
        assert {"sim/object/P3/cka/teacher", "sim/image/P5/distance/teacher"} <= set(metrics[epoch])
        assert 0 < metrics[epoch]["seconds"] < 600
    assert {"best/mAP50", "coco/AP", "coco/AP50"} <= set(metrics[2])
    assert (done[2]["epochs"], done[1]["tags"]["epochs.trained"]) == (2, 2)
    assert not {"epochs.ended", "epochs.continued"} & done[1]["tags"].keys()
    assert "val/sp_loss" not in metrics[1]  # validation has no such term: it would be a 0
    assert metrics[0]["cost/parameters"] > 1e4 and metrics[0]["cost/gflops"] > 0 and metrics[0]["cost/latency_ms"] > 0


def test_maps_of_teacher_student_and_difference_are_logged_with_their_epochs(done: Any) -> None:
    images = done[1]["images"]
    for what in ("image", "object"):
        for picture in ("teacher", "student", "student - teacher"):
            assert images[f"maps/{what}/P4/{picture}"] == [0, 1, 2]
    assert images["data/train"] == [0]
    panels = {name: text for name, text in done[1]["texts"].items() if name.startswith("maps/")}
    assert set(panels) == {f"maps/{what}s_{step:05}.svg" for what in ("image", "object") for step in (0, 2)}
    for text in panels.values():
        words = [t.text for t in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
        assert {"P3", "P4", "P5", "teacher", "student", "student - teacher"} <= set(words)


def test_the_final_map_is_that_of_the_trainers_own_validation_on_images_that_are_no_squares(
    make_job: Callable[..., Job], real: tuple[Path, Path, Path]
) -> None:
    data, _, weights = real
    job, run = make_job(model=str(weights), data=data, epochs=1, batch=8, imgsz=96), Recorder()
    gentle = {"optimizer": "SGD", "lr0": 1e-5, "mosaic": 0.0}
    train(replace(job, plan=replace(job.plan, method="none"), extra={**job.extra, **gentle}), run)
    metrics = run.logged["metrics"][1]
    assert metrics["val/mAP50"] > 0.1  # 0.012 more on squares; the weights are stored in half precision
    assert metrics["best/mAP50"] == pytest.approx(metrics["val/mAP50"], abs=0.003)


@pytest.mark.parametrize(
    ("deterministic", "tf32", "flags"), [(True, False, (1, False, 1)), (False, True, (0, True, 2))]
)
def test_training_and_final_evaluation_are_under_the_flags_that_the_run_recorded(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, deterministic: bool, tf32: bool, flags: Any
) -> None:
    seen, measure, step = [], evaluate.validate, spkd_trainer.record_first_step
    job = make_job(epochs=1, deterministic=deterministic)
    job = replace(job, plan=replace(job.plan, tf32=tf32, threads=flags[-1]))

    def note() -> None:
        cudnn = torch.backends.cudnn
        assert cudnn.benchmark != deterministic and torch.backends.cuda.matmul.allow_tf32 == tf32
        seen.append((torch.get_deterministic_debug_mode(), cudnn.allow_tf32, torch.get_num_threads()))

    monkeypatch.setattr(spkd_trainer, "record_first_step", lambda trainer: note() or step(trainer))
    monkeypatch.setattr(evaluate, "validate", lambda *given: note() or measure(*given))
    before = seeding.set_flags(True, False, 1, warn_only=True)
    try:
        train(job, Recorder())
        seeding.set_flags(not deterministic, not tf32, 3 - flags[-1], warn_only=True)
        train(job, Recorder())  # as after a kill between training and evaluation
    finally:
        seeding.set_flags(True, False, before["threads"], warn_only=True)
    assert seen == [flags] * 4  # two steps, two evaluations


def test_a_training_that_patience_ended_says_so_and_its_last_epoch_is_the_one_that_was_trained(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.utils.torch_utils import EarlyStopping

    monkeypatch.setattr(EarlyStopping, "__call__", lambda self, epoch, fitness: epoch >= 2)
    job, run = make_job(epochs=4), Recorder()
    job = replace(job, plan=replace(job.plan, maps_every=9), extra={**job.extra, "patience": 1})
    numbers = train(job, run)
    metrics, tags = run.logged["metrics"], run.logged["tags"]
    assert numbers["epochs"] == 2 == tags["epochs.trained"] and "detect.train.patience" in tags["epochs.ended"]
    assert "best/mAP50" in metrics[2] and 4 not in metrics
    assert run.logged["images"]["maps/object/P4/student"] == [0, 2]
    assert {f"maps/objects_{step:05}.svg" for step in (0, 2)} <= run.logged["files"]
    page = tracked.describe("t", job, numbers, {"commit": "c", "dirty": False})
    assert "2 epochs of 4 (no better one in 1: detect.train.patience) at 64 px" in page


def dies(*_: Any) -> None:
    raise KeyboardInterrupt


def test_the_plots_are_those_of_the_final_evaluation_where_training_drew_the_same(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run, logged = make_job(epochs=2), Recorder(), dict[str, list[Path]]()
    job = replace(job, extra={**job.extra, "plots": True})
    save = spkd_trainer.SpkdTrainer.save_model
    with monkeypatch.context() as patched:  # only the last epoch is left to train
        patched.setattr(spkd_trainer.SpkdTrainer, "save_model", lambda own: dies() if own.epoch else save(own))
        with pytest.raises(KeyboardInterrupt):
            train(job, Recorder())
    monkeypatch.setattr(run, "file", lambda path, name: logged.setdefault(name, []).append(path))
    train(job, run)
    drawn = {name: paths for name, paths in logged.items() if name.startswith("plots/")}
    assert (job.train_folder / "BoxPR_curve.png").is_file() and len(drawn["plots/results.png"]) == 1
    assert drawn["plots/BoxPR_curve.png"] == [job.folder / "val" / "BoxPR_curve.png"]


@pytest.mark.parametrize("ended_by", ["epochs", "patience", "time"])
def test_a_training_that_was_killed_after_its_last_checkpoint_goes_on_to_its_evaluation(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    from ultralytics.utils.torch_utils import EarlyStopping

    patience, epochs, run = ended_by == "patience", 2 if ended_by == "patience" else 1, Recorder()
    job = make_job(epochs=1 if ended_by == "epochs" else 4)
    job = replace(job, plan=replace(job.plan, maps_every=9), extra={**job.extra, "plots": patience})
    if patience:
        monkeypatch.setattr(EarlyStopping, "__call__", lambda self, epoch, fitness: epoch >= 2)
    if ended_by == "time":
        job = replace(job, extra={**job.extra, "time": 1e-9})
    with monkeypatch.context() as patched:
        patched.setattr(spkd_trainer.SpkdTrainer, "final_eval", dies)
        with pytest.raises(KeyboardInterrupt):
            train(job, Recorder())
    assert not (job.train_folder / "trained").exists()
    last = (job.train_folder / "weights/last.pt").read_bytes()
    numbers = train(job, run)
    assert (job.train_folder / "weights/last.pt").read_bytes() == last and numbers["epochs"] == epochs
    assert "best/mAP50" in run.logged["metrics"][epochs] and f"maps/objects_{epochs:05}.svg" in run.logged["files"]
    assert ("plots/results.png" in run.logged["files"]) == patience


def test_a_training_that_was_killed_before_a_checkpoint_tells_each_epoch_once(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, save, run = make_job(epochs=3), spkd_trainer.SpkdTrainer.save_model, Recorder()
    told: list[tuple[int, float]] = []

    def metrics(values: dict[str, float], step: int) -> None:
        if "train/box_loss" in values:
            told.append((step, values["train/box_loss"]))

    with monkeypatch.context() as patched:
        patched.setattr(spkd_trainer.SpkdTrainer, "save_model", lambda own: dies() if own.epoch else save(own))
        with pytest.raises(KeyboardInterrupt):
            train(job, Recorder())
    lines = job.train_folder / "epochs.jsonl"
    lines.write_text(lines.read_text().replace("train/box_loss", "train/of_the_killed"))
    with lines.open("a") as file:
        file.write('{"step": 3, "val')
    run.metrics = metrics  # type: ignore[method-assign]
    train(job, run)
    assert [step for step, _ in told] == [2, 3]
    assert run.logged["tags"]["epochs.continued"].startswith("after epoch 1:")
    assert [json.loads(line)["step"] for line in lines.read_text().splitlines()] == [1, 2, 3]


def test_nothing_of_a_training_that_was_killed_before_its_first_checkpoint_is_left_to_the_next(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its first step, and its epochs beside the new ones, would be on record as of the new training."""
    job, nobody = make_job(), follow.Follower(Recorder(), Path(), [], "")  # type: ignore[arg-type]
    job.train_folder.mkdir()
    for name in ("first_step.json", "epochs.jsonl", "results.csv"):
        (job.train_folder / name).touch()

    def begins() -> None:
        assert not job.train_folder.exists()
        job.train_folder.mkdir()
        (job.train_folder / "trained").touch()

    trainer = SimpleNamespace(ddp=False, add_callback=lambda name, call: None, train=begins)
    monkeypatch.setattr(spkd_trainer, "planned", lambda plan: lambda overrides: trainer)
    yolo._train(job, nobody)


def test_what_a_training_has_done_is_on_record_while_it_goes_on(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run, calls = make_job(), Recorder(), dict[str, Callable[..., None]]()
    folder, follower = job.train_folder, follow.Follower(run, job.train_folder, [], "")  # type: ignore[arg-type]

    def train() -> None:
        folder.mkdir()
        (folder / "started.json").write_text('{"initial_sha256": "first"}')
        calls["on_train_start"](trainer)
        assert run.logged["tags"]["weights.initial_sha256"] == "first"
        (folder / "epochs.jsonl").write_text('{"step": 1, "values": {"lr/pg0": 0.1}}\n')
        calls["on_fit_epoch_end"](trainer)
        assert run.logged["metrics"] == {1: {"lr/pg0": 0.1}}
        (folder / "trained").touch()

    trainer = SimpleNamespace(ddp=False, add_callback=calls.__setitem__, train=train)
    monkeypatch.setattr(spkd_trainer, "planned", lambda plan: lambda overrides: trainer)
    yolo._train(job, follower)


def test_a_training_that_returns_without_its_mark_is_not_evaluated(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, nobody = make_job(), follow.Follower(Recorder(), Path(), [], "")  # type: ignore[arg-type]
    trainer = SimpleNamespace(ddp=False, add_callback=lambda name, call: None, train=lambda: None)
    monkeypatch.setattr(spkd_trainer, "planned", lambda plan: lambda overrides: trainer)
    with pytest.raises(SpkdError, match="expected a completed training, got none"):
        yolo._train(job, nobody)


def test_a_training_that_was_killed_between_the_names_of_its_last_checkpoints_trains_nothing_again(
    make_job: Callable[..., Job],
) -> None:
    job, nobody = make_job(epochs=2), follow.Follower(Recorder(), Path(), [], "")  # type: ignore[arg-type]
    weights = job.train_folder / "weights"
    weights.mkdir(parents=True)
    for name, epoch in (("best.pt", 1), ("last.part", 1), ("last.pt", 0)):
        said = {continued.OVER: True} if epoch else {}
        torch.save({"train_args": said, "epoch": epoch}, weights / name)
    yolo._train(job, nobody)
    assert (job.train_folder / "trained").is_file() and continued.checkpoint(weights / "last.pt")["epoch"] == 1


def test_a_training_without_the_distillation_that_was_asked_for_is_not_evaluated(make_job: Callable[..., Job]) -> None:
    job, report = make_job(), SimpleNamespace(names={}, origin="")
    job.train_folder.mkdir()
    (job.train_folder / "trained").touch()
    (job.train_folder / "results.csv").write_text("epoch,train/box_loss\n1,2.0\n")
    with pytest.raises(SpkdError, match="expected a column train/sp_loss"):
        yolo.train(job, report, Recorder())  # type: ignore[arg-type]


def test_the_page_says_what_was_trained_how_long_and_whether_the_data_are_simulated(
    make_job: Callable[..., Job], make_set: Any
) -> None:
    job = make_job(data=make_set("mine"))
    numbers, code = {"mAP50": 0.5, "epochs": 2}, {"commit": "c0ffee", "dirty": True}
    page = tracked.describe("t", job, numbers, code)
    assert "SPKD (object, P3, P4, P5, gain 20.0, batch 4) from `teacher.pt`" in page and "| mAP50 | 0.5 |" in page
    assert "\n\n2 epochs at 64 px, batch 4.\n\n" in page and "`git checkout c0ffee` and code.patch" in page
    assert "Simulated" not in page and "(unknown)" in page
    (job.data.parent / "conversion.json").write_text('{"origin": "simulated"}')
    page = tracked.describe("t", replace(job, epochs=9), numbers, {**code, "dirty": False})
    assert "2 epochs of 9 (no better one in 100: detect.train.patience) at 64 px" in page
    assert "**Simulated data.**" in page and "`git checkout c0ffee`, `spkd detect`" in page
    assert "`dvc repro coco`" in tracked.describe(
        "a title", replace(job, data=Path("data/coco/data.yaml")), numbers, code
    )
    own = replace(job, data=Path("data.yaml"))
    assert own.title("yolov8x") == "yolov8n-tiny <- yolov8x sp object data t0"
    fewer = replace(own, plan=replace(own.plan, levels=("P5", "P3")))
    assert fewer.title("yolov8x") == "yolov8n-tiny <- yolov8x sp object P5+P3 data t0"


def test_numbers_weights_and_cost_of_a_run_are_of_its_best_weights_and_stand_at_the_last_epoch_trained(
    make_job: Callable[..., Job], tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run, hashes = make_job(epochs=9, imgsz=96, annotations={"val": tmp_path, "train": Path()}), Recorder(), {}
    job = replace(job, extra={"max_det": 5, "time": 0.5}, device="cpu")
    (job.train_folder / "weights").mkdir(parents=True)
    for name, factor in (("best", 0.5), ("last", 2.0)):
        model: Any = networks.load(tiny_teacher)
        next(model.parameters()).data.mul_(factor)
        hashes[name] = state_sha256(model.half().float().state_dict())
        said = {"epoch": 2, "model": None, "ema": model, "train_args": {}, "stopper": {"best_epoch": 1}}
        torch.save(said, job.train_folder / f"weights/{name}.pt")
    for name in ("results.csv", "args.yaml", "plan.json"):
        (job.train_folder / name).touch()
    (job.train_folder / "epochs.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    asked: list[Any] = []

    def validate(weights: Path, *how: Any) -> evaluate.Result:
        asked.append((state_sha256(networks.load(weights).state_dict()), *how))
        return evaluate.Result({"mAP50": 0.5}, {}, {"AP": 0.25}, [])

    def cost(model: torch.nn.Module, *how: Any) -> dict[str, float]:
        asked.append((state_sha256(model.state_dict()), *how))
        return {"gflops": 1.5}

    monkeypatch.setattr(evaluate, "validate", validate)
    monkeypatch.setattr(evaluate, "cost", cost)
    numbers = yolo.log_result(job, run, plots=False)  # type: ignore[arg-type]
    how = (job.data, job.folder / "val", 96, "cpu", False, tmp_path, job.extra)
    assert asked == [(hashes["best"], *how), (hashes["best"], 96, torch.device("cpu"))]
    assert run.logged["metrics"] == {3: {"best/mAP50": 0.5, "coco/AP": 0.25}, 0: {"cost/gflops": 1.5}}
    assert numbers == {"mAP50": 0.5, "coco/AP": 0.25, "gflops": 1.5, "epochs": 3}
    assert run.logged["tags"]["weights.sha256"] == hashes["best"] == portable.weights_sha256(run.logged["model"])
    assert run.logged["tags"]["epochs.ended"] == "detect.train.time, 0.5 h, replaces detect.epochs"
    kept = {n: state_sha256(networks.load(job.folder / f"weights/{n}.pt").state_dict()) for n in hashes}
    assert kept == hashes


@pytest.mark.parametrize(
    ("patience", "best_epoch", "by"),
    [(3, 2, "patience"), (3, 3, "time"), (0, 2, "time"), (3, 0, "time")],  # best epoch 0: none was validated
)
def test_a_training_with_a_time_that_patience_ended_says_so(
    make_job: Callable[..., Job], patience: int, best_epoch: int, by: str
) -> None:
    job = make_job(extra={"time": 8, "patience": patience})
    (job.train_folder / "weights").mkdir(parents=True)
    torch.save({"epoch": 4, "stopper": {"best_epoch": best_epoch}}, job.train_folder / "weights/last.pt")
    assert f"detect.train.{by}" in yolo.ended(job)


@pytest.mark.parametrize(("own", "rule"), [({}, "best epoch"), ({"val": True}, "best epoch"), ({"val": False}, "last")])
def test_the_headline_says_which_epoch_was_taken(done: Any, own: dict[str, Any], rule: str) -> None:
    job, logged, numbers = done
    assert logged["tags"]["headline"].startswith("best epoch")
    page = tracked.describe("t", replace(job, extra=own), numbers, {"commit": "c", "dirty": False})
    assert f"Headline: {rule} " in page


def test_tables_plots_weights_and_lineage_are_logged(done: Any) -> None:
    job, logged, _ = done
    assert {"data/preflight.json", "data/data.yaml", "results.csv", "args.yaml", "plan.json"} <= logged["files"]
    assert {"weights/best.pt", "weights/last.pt", "plots/results.png", "plots/confusion_matrix.png"} <= logged["files"]
    assert {"plots/BoxPR_curve.png", "plots/BoxF1_curve.png", "plots/val_batch0_pred.jpg"} <= logged["files"]
    assert tuple(logged["tables"]["per_class_ap"]) == evaluate.COLUMNS
    assert {"weights.initial_sha256", "weights.sha256", "teacher.detector.sha256", "headline"} <= set(logged["tags"])
    assert logged["tags"]["precision"] == "float32"  # of a CPU, whatever detect.train.amp says
    assert logged["tags"]["optimizer"].startswith("AdamW, lr0 ")
    name, digest, profile = logged["dataset"]
    assert (name, len(digest)) == ("set", 32) and profile["train"] == {"images": 8, "objects": 16}
    from safetensors.torch import load_file

    assert logged["model"] == job.folder / "weights/best.safetensors" and load_file(logged["model"])


def test_ultralytics_settings_are_private_and_its_trackers_off() -> None:
    from ultralytics import settings
    from ultralytics.utils import USER_CONFIG_DIR

    hermetic.quiet()
    assert "spkd-ultralytics-" in str(USER_CONFIG_DIR)
    assert not any(settings[key] for key in ("mlflow", "dvc", "sync", "wandb", "comet", "clearml"))


def test_a_log_is_not_drawn_a_bar_at_every_step() -> None:
    from ultralytics.utils import TQDM

    hermetic.quiet()
    log = io.StringIO()
    for _ in TQDM(range(1000), file=log, mininterval=0.0):
        pass
    assert 1 <= log.getvalue().count("\r") <= 2


def test_no_address_is_looked_up_where_ultralytics_is_imported() -> None:
    words = "import socket, spkd.detect; socket.getaddrinfo = None; import ultralytics.utils as u; print(u.ONLINE)"
    environ = {key: value for key, value in ENVIRON.items() if not key.startswith("YOLO_")}
    done = subprocess.run([sys.executable, "-c", words], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_no_font_is_asked_of_the_web_by_a_check_or_a_plot(data_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.data import utils
    from ultralytics.utils import downloads, plotting

    asked: list[str] = []
    monkeypatch.setattr(downloads, "is_url", lambda url, check=False: asked.append(str(url)))
    for user in (utils, plotting):
        monkeypatch.setattr(user, "check_font", lambda font: downloads.is_url(font, check=True))
    data_set.write_text(data_set.read_text().replace("red", "\u7ea2"))
    report = preflight.check(data_set, {}, LIMITS)
    assert report.names[0] == "\u7ea2"
    plotting.Annotator(np.zeros((32, 32, 3), np.uint8), pil=True, example="\u7ea2").text([1, 1], "a")
    assert asked == []


def test_mixed_precision_on_a_gpu_is_as_asked_and_no_weights_are_fetched_for_it(monkeypatch: Any) -> None:
    from ultralytics.engine import trainer

    class OnGpu:
        def parameters(self) -> Any:
            return iter([SimpleNamespace(device=torch.device("cuda"))])

    monkeypatch.setattr("ultralytics.YOLO", lambda *given: pytest.fail(f"opened {given}"))
    with hermetic.amp_as_asked():
        assert trainer.check_amp(OnGpu()) is True
        assert trainer.check_amp(torch.nn.Linear(1, 1)) is False
    assert trainer.check_amp.__module__ == "ultralytics.utils.checks"


def test_training_on_the_validation_images_is_a_tag_and_a_word(
    make_job: Callable[..., Job], make_set: Any, capsys: Any
) -> None:
    job, run = make_job(data=make_set()), Recorder()
    job.data.write_text(job.data.read_text().replace("val: images/val", "val: images/train"))
    yolo.log_data(job, yolo.look(job), run)  # type: ignore[arg-type]
    assert run.logged["tags"]["data.same_as_train"] == "val" and "are no test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("known", "extra", "why"),
    [
        ({}, {}, "no COCO JSON"),
        ({"train": "train.json"}, {}, "no COCO JSON"),
        ({"val": "val.json"}, {"single_cls": True}, "detect.train has single_cls or classes"),
        ({"val": "val.json"}, {"classes": [0]}, "detect.train has single_cls or classes"),
        ({"val": "val.json"}, {"single_cls": False}, None),
    ],
)
def test_a_run_without_the_coco_metric_says_why_before_it_trains(
    make_job: Callable[..., Job], make_set: Any, capsys: Any, known: dict[str, str], extra: Any, why: str | None
) -> None:
    job, run = make_job(data=make_set()), Recorder()
    report = yolo.look(job)
    yolo.log_data(replace(job, annotations=known, extra=extra), report, run)  # type: ignore[arg-type]
    said, tags = capsys.readouterr().out, run.logged["tags"]
    if why is None:
        assert tags == {} and said == ""
    else:
        assert tags.keys() == {"coco.without"} and tags["coco.without"].startswith(why)
        assert f"no COCO metric: {tags['coco.without']}" in said


def test_of_the_files_beside_the_data_only_the_converters_report_is_kept(
    make_job: Callable[..., Job], make_set: Any
) -> None:
    job, run = make_job(data=make_set()), Recorder()
    for name in ("conversion.json", "instances_train2017.json"):  # the latter is as large as 0.5 GB
        (job.data.parent / name).write_text('{"origin": "unknown"}')
    yolo.log_data(job, yolo.look(job), run)  # type: ignore[arg-type]
    assert run.logged["files"] == {"data/preflight.json", "data/conversion.json", "data/data.yaml"}


@pytest.mark.parametrize(("extra", "known"), [({}, ["red", "green", "blue"]), ({"single_cls": True}, ["item"])])
def test_the_classes_of_a_panel_are_called_as_they_were_trained(
    make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], known: list[str]
) -> None:
    """With single_cls ultralytics takes all objects for class 0, which is not the data set's class 0."""
    job, given = make_job(extra=extra), list[Any]()
    monkeypatch.setattr(yolo.follow, "Follower", lambda *words: given.append(words[2]) or dies())
    with pytest.raises(KeyboardInterrupt):
        yolo.train(job, yolo.look(job), Recorder())  # type: ignore[arg-type]
    assert given == [known]


def test_the_contact_sheet_on_record_is_of_the_rows_that_are_trained_on_and_says_that_they_are_simulated(
    make_job: Callable[..., Job], make_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run, drawn, shapes = make_job(data=make_set(), extra={"classes": [0]}), Recorder(), list[Any](), list[Any]()
    (job.data.parent / "conversion.json").write_text('{"origin": "simulated"}')
    report = yolo.look(job)
    plain = np.zeros((32, 256, 3), np.uint8)
    monkeypatch.setattr(yolo.sheet, "draw", lambda seen, names: drawn.append((seen, names)) or plain)
    run.image = lambda key, pixels, step: shapes.append((key, pixels.shape, step))  # type: ignore[method-assign]
    yolo.log_data(job, report, run)  # type: ignore[arg-type]
    assert shapes == [("data/train", (48, 256, 3), 0), ("data/val", (48, 256, 3), 0)]
    for (seen, names), split in zip(drawn, report.splits.values(), strict=True):
        assert {int(row[0]) for one in seen for row in one.rows} == {0} and names == report.names
        assert len(split.seen) == run.logged["dataset"][2][split.name]["images"]


def test_a_data_set_that_would_be_misread_stops_before_training(make_job: Callable[..., Job], make_set: Any) -> None:
    job, run = make_job(data=make_set(images="{}2017", labels="labels/{}2017")), Recorder()
    with pytest.raises(SpkdError, match="mkdir -p"):
        train(job, run)
    assert not job.train_folder.exists() and "data/preflight.json" in run.logged["files"]


def test_a_training_that_no_object_of_its_classes_would_reach_stops_before_it(
    make_job: Callable[..., Job], make_set: Any
) -> None:
    job = make_job(data=make_set(), extra={"classes": [2]})
    for label in job.data.parent.glob("labels/*/*.txt"):
        label.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(SpkdError, match=r"8 of 8 images have no object of detect\.train\.classes \[2\]"):
        train(job, Recorder())
    assert not job.train_folder.exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"mosiac": 1.0}, "did you mean 'mosaic'"),
        ({"lr0": "fast"}, "detect.train.lr0"),
        ({"batch": 4}, "set it under `detect`"),
        ({"pretrained": True}, "set it under `detect`"),
        ({"mosaic": "0.5"}, r"detect\.train\.mosaic: expected a value ultralytics accepts"),
        ({"fliplr": 7.0}, "fliplr"),
        ({"optimizer": "foo"}, "detect.train.optimizer: expected one of auto, SGD"),
        ({"copy_paste_mode": "flop"}, "did you mean 'flip'"),
        ({"lr0": 0.01, "mosaic": 0.5}, r"lr0: expected an optimizer that uses it, got 0\.01 with optimizer auto"),
        ({"momentum": 0.8, "optimizer": "AUTO"}, r"detect\.train\.momentum: .*name one in detect\.train\.optimizer"),
        (
            {"split": "test"},
            r"detect\.train\.split: expected the best weights chosen and measured on `val`, got 'test'",
        ),
        ({"fraction": [1.0, 0.5]}, r"detect\.train\.fraction: expected one share or number, of the training images"),
    ],
)
def test_a_wrong_training_argument_is_refused_before_the_run(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(SpkdError, match=message):
        hermetic.train_arguments(extra)


def test_no_argument_that_a_job_sets_by_itself_is_taken_from_the_training_arguments_too(
    make_job: Callable[..., Job],
) -> None:
    """ultralytics' own distillation, say, would run in what is recorded as a training without a teacher."""
    job = make_job(extra={})
    own = replace(job, plan=replace(job.plan, method="builtin")).overrides()
    for name in {*own, "distill_model", "resume", "cfg", "pretrained", "project", "name", "save"}:
        with pytest.raises(SpkdError, match=rf"detect\.train\.{name}: expected an argument without a key of its own"):
            hermetic.train_arguments({name: own.get(name)})


def test_optimizer_auto_takes_its_own_of_what_is_refused_beside_it_and_a_named_one_does_not() -> None:
    from ultralytics.engine.trainer import BaseTrainer

    given = dict(zip(hermetic.CHOSEN_BY_AUTO, (0.07, 0.8, 0.3), strict=True))
    for name, kept in (("auto", False), ("SGD", True)):
        own: Any = SimpleNamespace(args=SimpleNamespace(**given), data={"nc": 3})
        made = BaseTrainer.build_optimizer(
            own, torch.nn.Linear(2, 2), name, given["lr0"], given["momentum"], iterations=9
        )
        first = made.param_groups[0]
        momentum = first["momentum"] if kept else first["betas"][0]
        used = {"lr0": first["lr"], "momentum": momentum, "warmup_bias_lr": own.args.warmup_bias_lr}
        assert [used[key] == value for key, value in given.items()] == [kept] * 3
    assert hermetic.train_arguments(given | {"optimizer": "SGD"}) == given | {"optimizer": "SGD"}


def test_the_optimizers_are_those_of_ultralytics() -> None:
    from ultralytics.engine import trainer

    text = re.search(r"optimizers = \{(.*?)\}", inspect.getsource(trainer.BaseTrainer.build_optimizer))
    assert text and set(re.findall(r'"(\w+)"', text[1])) == set(hermetic.CHOICES["optimizer"])
    assert hermetic.train_arguments({"optimizer": "sgd"}) == {"optimizer": "sgd"}


def test_layers_to_freeze_are_those_of_the_network_and_others_which_ultralytics_passes_over_are_refused() -> None:
    for freeze in (None, 0, 22, [], [0, 22]):
        hermetic.require_layers(freeze, 23)
    for freeze in (-1, 23, [23], "10", "backbone", ["model.0"], 10.0, True):
        with pytest.raises(SpkdError, match=r"detect\.train\.freeze: expected a number"):
            hermetic.require_layers(freeze, 23)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "words.pt"}, "params.yaml: detect.model: expected a detection network"),
        ({"train": "{optimizer: foo}"}, "detect.train.optimizer"),
        (
            {"model": "yolov8n-p6.yaml", "imgsz": "96"},
            r"detect\.imgsz: expected a multiple of 64, .*, got 96; set 64 or 128",
        ),
        ({"train": "{freeze: 23}"}, r"detect\.train\.freeze: expected a number .*, below 23, got 23"),
        ({"distill.method": "sp", "distill.teacher": "words.pt"}, "detect.distill.teacher: expected a detection netw"),
        ({"distill.method": "sp", "distill.teacher": "yolov8n.yaml"}, "detect.distill.teacher: expected a teacher"),
        ({"data": "broken.yaml"}, "broken.yaml: expected a mapping"),
    ],
)
def test_an_ordinary_mistake_is_a_message_and_no_run(
    tiny_set: Path, tiny_yaml: Path, tmp_path: Path, monkeypatch: Any, settings: dict[str, str], message: str
) -> None:
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    for name, text in (("words.pt", "words"), ("yolov8n.yaml", "nc: 80"), ("broken.yaml", "train: [")):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    words = [
        f"--detect.{k}={v}" for k, v in ({"data": tiny_set, "model": tiny_yaml, "device": "cpu"} | settings).items()
    ]
    with pytest.raises(SpkdError, match=message):
        main_run("detect", [part for word in words for part in word.split("=", 1)])
    assert not (tmp_path / "mlflow.db").exists()


def test_the_preset_for_coco_is_what_ultralytics_takes_by_itself() -> None:
    from ultralytics.utils import DEFAULT_CFG_DICT

    detect = config.resolve(config.read(REPO / "params.yaml"), {"preset": "coco"})["detect"]
    chosen = {key: detect[key] for key in ("epochs", "batch", "imgsz", "workers")} | detect["train"]
    assert chosen == {key: DEFAULT_CFG_DICT[key] for key in chosen}


def test_a_teacher_that_ultralytics_publishes_is_downloaded_by_its_name(
    make_job: Callable[..., Job], tiny_set: Path, tiny_teacher: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    asked = []

    def fetch(url: str, file: Path, **_: Any) -> None:
        asked.append(url)
        shutil.copy(tiny_teacher, file)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks.downloads, "safe_download", fetch)
    job = make_job(data=tiny_set)
    for _ in range(2):  # the second time it is here
        found = tracked._find(job, yolo.look(job), "yolov8x.pt", goes_on=True)
        assert found and (found.weights.name, found.run_id) == ("yolov8x.pt", "none")
        assert found.weights.read_bytes() == tiny_teacher.read_bytes()
    assert [url.rpartition("/")[2] for url in asked] == ["yolov8x.pt"]
    with pytest.raises(SpkdError, match=r"a teacher, got 'other/yolov8x.pt'; give weights"):
        tracked._find(job, yolo.look(job), "other/yolov8x.pt", goes_on=True)


def test_a_teacher_that_cannot_be_downloaded_is_a_message(monkeypatch: Any, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks.downloads, "safe_download", fail)
    with pytest.raises(SpkdError, match=r"detect.distill.teacher: expected yolov8x.pt from ultralytics, got no route"):
        networks.weights("yolov8x.pt", tracked.KEY)


def test_a_gpu_that_is_not_there_is_an_error_and_auto_takes_what_there_is() -> None:
    assert hardware.device("auto", "x") == ("0" if torch.cuda.is_available() else "cpu")
    assert hardware.device("cpu", "x") == "cpu" and hardware.first("cpu") == torch.device("cpu")
    for wanted in ("97", "0,97", "cuda:97"):
        with pytest.raises(SpkdError, match=r"params\.yaml: a\.key: expected (GPU indices below|cpu or auto)"):
            hardware.device(wanted, "a.key")


def test_a_batch_that_the_gpus_cannot_share_evenly_is_refused_where_the_job_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)

    def job(batch: int, device: str, **distill: str) -> Job:
        own = {"detect.batch": batch, "detect.device": device, "detect.data": str(tmp_path / "data.yaml")}
        own |= {f"detect.distill.{key}": value for key, value in distill.items()}
        tree = config.resolve(config.read(REPO / "params.yaml"), own)
        made: Job = detect_command.make_job(Settings.model_validate(tree), tmp_path)
        return made

    for batch, device in ((5, "cpu"), (5, "1"), (6, "0,1,2"), (4, "0,2")):
        assert job(batch, device).batch == batch
    with pytest.raises(SpkdError, match=r"detect\.batch: expected a multiple of the 3 GPUs .* got 8; set 6 or 9, or"):
        job(8, "0,1,2")
    with pytest.raises(SpkdError, match="got 1; set 2, or other GPUs"):
        job(1, "0,1")
    for batch, device, mode in ((2, "cpu", "pooled"), (1, "0", "batch"), (4, "0,1", "pooled")):
        assert job(batch, device, mode=mode).batch == job(batch, device, method="sp", mode="object").batch == batch
        fewest = {"pooled": 3, "batch": 2}[mode]
        assert job(fewest * len(device.split(",")), device, method="sp", mode=mode)
        with pytest.raises(SpkdError, match=rf"detect\.batch: expected {fewest} images a device, .* in mode {mode}"):
            job(batch, device, method="sp", mode=mode)


@pytest.mark.parametrize(("wanted", "recorded"), [(0, min(8, max(1, (os.cpu_count() or 1) - 1))), (3, 3)])
def test_the_threads_on_record_are_those_that_a_cpu_trains_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: int, recorded: int
) -> None:
    told, before = [], torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracked, "run", lambda job, session, _: told.append((job, session)) or "id")
    shutil.copy(REPO / "params.yaml", tmp_path)
    main_run("detect", ["--detect.device", "cpu", "--run.threads", str(wanted)])
    torch.set_num_threads(before)
    ((job, session),) = told
    assert (session.flags["threads"], job.plan.threads) == (recorded, recorded)


def test_a_detector_has_a_folder_by_the_settings_that_it_reads_and_hands_them_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Job, tracked.Session]] = []
    swept: list[tuple[Path, Path]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracked, "run", lambda job, session, _: told.append((job, session)) or "id")
    monkeypatch.setattr(stored, "begun", lambda job: job)
    monkeypatch.setattr(tracking, "sweep", lambda folder, but: swept.append((folder, but)))
    params, before = (REPO / "params.yaml").read_text(), torch.get_num_threads()
    assert (auto := "  device: auto           # auto, cpu, cuda or") in params
    for text, words in (
        (params, ["--run.tf32", "true"]),
        (params, ["--detect.model", "run:0123456789"]),
        (params.replace(auto, auto.replace("auto ", "cpu ", 1)), []),
        (params, []),
    ):
        (tmp_path / "params.yaml").write_text(text)
        main_run("detect", ["--detect.device", "cpu", "--run.threads", "1", *words])
    torch.set_num_threads(before)
    tf32, begun, other_device, plain = (job for job, _ in told)
    assert other_device.folder == plain.folder and plain.folder.parent == tmp_path / "runs" / "detect"
    assert tf32.folder != plain.folder and (tf32.plan.tf32, plain.plan.tf32) == (True, False)
    assert begun.folder.name.startswith("run-0123456789-")  # no colon, which some file systems do not take
    assert {session.flags["deterministic_algorithms"] for _, session in told} == {"warn_only"}
    folders = [Path("runs/detect", job.folder.name) for job, _ in told]
    assert swept == [(Path("runs"), folder) for folder in folders]  # relative, as a sweep finds them


@pytest.mark.parametrize("method", ["none", "builtin", "sp"])
def test_every_setting_reaches_the_argument_or_the_plan_of_its_name(tmp_path: Path, method: str) -> None:
    own = {
        "detect.model": "m.yaml", "detect.data": "d.yaml", "detect.epochs": 3, "detect.batch": 5, "detect.imgsz": 96,
        "detect.device": "cpu", "detect.workers": 7, "run.seed": 11, "run.deterministic": False, "run.tf32": True,
        "run.threads": 2, "detect.distill.method": method, "detect.distill.dis": 2.5, "detect.distill.gain": 8.0,
        "detect.distill.mode": "pooled", "detect.distill.levels": ["P4"], "detect.distill.max_objects": 9,
        "detect.maps.images": 6, "detect.maps.objects": 13, "detect.maps.every": 4, "detect.train": {"nbs": 4},
    }  # fmt: skip
    settings = Settings.model_validate(config.resolve(config.read(REPO / "params.yaml"), own))
    job: Job = detect_command.make_job(settings, tmp_path)
    assert job.plan == Plan(method, "", ("P4",), "pooled", 8.0, 9, 2, 6, 13, 4, True)
    taught = replace(job, plan=replace(job.plan, teacher="t.pt"))
    builtin = {"distill_model": "t.pt", "dis": 2.5} if method == "builtin" else {}
    assert taught.overrides() == builtin | {
        "task": "detect", "mode": "train", "model": "m.yaml", "data": "d.yaml", "epochs": 3, "batch": 5, "imgsz": 96,
        "device": "cpu", "workers": 7, "seed": 11, "deterministic": False, "nbs": 4,
        "save_dir": str(tmp_path / "train"), "exist_ok": True,
    }  # fmt: skip


def test_one_gpu_has_one_name_in_ultralytics_and_one_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for wanted, indices, first in (("auto", "0", 0), ("cuda", "0", 0), ("cuda:1", "1", 1), ("0,1", "0,1", 0)):
        assert hardware.device(wanted, "x") == indices
        assert hardware.first(indices) == torch.device("cuda", first)
    for wanted in ("2", "0,2", "cuda:2"):
        with pytest.raises(SpkdError, match="expected GPU indices below 2"):
            hardware.device(wanted, "x")


def test_a_folder_of_another_job_is_refused(done: Any) -> None:
    job = done[0]
    with pytest.raises(SpkdError, match="one of another job"):
        train(replace(job, epochs=9), Recorder())


def test_a_training_of_which_no_note_says_whose_it_is_is_refused_and_not_erased(make_job: Callable[..., Job]) -> None:
    job = make_job()
    assert not yolo.continues(job, yolo.look(job))
    (job.train_folder / "weights").mkdir(parents=True)
    (job.train_folder / "weights" / "last.pt").touch()
    with pytest.raises(SpkdError, match="one that an earlier version of this program began; .* rm -r"):
        yolo.continues(job, yolo.look(job))


@pytest.mark.parametrize("change", ["labels", "names"])
def test_a_killed_training_goes_on_only_on_the_data_it_began_with(
    make_job: Callable[..., Job], make_set: Any, change: str
) -> None:
    job = make_job(data=make_set())
    assert not yolo.continues(job, yolo.look(job))
    yolo.claim(job, yolo.look(job))
    assert yolo.continues(job, yolo.look(job))
    saved = job.train_folder / "weights" / "last.pt"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"")
    if change == "labels":
        label = job.data.parent / "labels/train/train000.txt"
        label.write_text("".join(label.read_text().splitlines(keepends=True)[:1]))
    else:
        job.data.write_text(job.data.read_text().replace("red", "rose"))
    with pytest.raises(SpkdError, match=r"the data that the training there began with.*begin anew: rm -r"):
        yolo.continues(job, yolo.look(job))
    saved.unlink()  # nothing was learnt from the old data: the folder begins anew
    assert not yolo.continues(job, yolo.look(job))


def test_a_killed_command_continues_the_same_mlflow_run(
    tiny_set: Path, tiny_yaml: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    wanted = {"epochs": 5, "distill.method": "sp", "distill.teacher": tiny_teacher, "distill.levels": "[P3]"}
    words = command(tiny_set, tiny_yaml, wanted | {"maps.every": 5})
    first = subprocess.Popen(words, cwd=tmp_path, env=ENVIRON, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 90
    while not list(tmp_path.glob("runs/detect/*/train/weights/last.pt")):
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    class_file = tiny_set.parent / "labels/train/train000.txt"
    text = class_file.read_text()
    class_file.write_text(text.splitlines(keepends=True)[0])
    other = subprocess.run(words, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert other.returncode == 2 and "the data that the training there began with" in other.stderr
    class_file.write_text(text)
    again = subprocess.run(words, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-2000:]
    (folder,) = (tmp_path / "runs/detect").iterdir()
    assert "Resuming training" in again.stdout + again.stderr
    epochs = [line.split(",")[0] for line in (folder / "train/results.csv").read_text().splitlines()[1:]]
    assert epochs == ["1", "2", "3", "4", "5"]
    events = [json.loads(line) for line in (folder / "outbox/events.jsonl").read_text().splitlines()]
    assert len({e["digest"] for e in events if e["kind"] == "dataset"}) == 1
    assert len([e for e in events if e["kind"] == "open"]) == 2 and events[-1]["status"] == "FINISHED"
    steps = [e["step"] for e in events if e["kind"] == "metrics" and "val/mAP50" in e["values"]]
    assert steps == [1, 2, 3, 4, 5]
    delivery = json.loads((folder / "outbox/delivery.json").read_text())
    assert delivery["refused"] == []
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        runs = dict(store.execute("select name, status from runs").fetchall())
        (own,) = store.execute("select run_uuid from runs where name like '% set t0'").fetchall()
    store.close()
    assert own == (delivery["run_id"],)
    assert runs == {
        "yolov8n-tiny <- yolov8n-tiny sp object P3 set t0": "FINISHED",
        "teacher.pt": "FINISHED",
    }  # kept once, too


def test_a_teacher_that_is_not_there_yet_is_trained_first_as_a_nested_run(
    make_set: Any, tiny_yaml: Path, tmp_path: Path
) -> None:
    data = make_set("set")
    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    words = command(data, tiny_yaml, {"epochs": 1, "distill.method": "builtin", "distill.teacher": "latest"})
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "its teacher is trained first" in done.stdout
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        runs = dict(store.execute("select name, run_uuid from runs where status = 'FINISHED'").fetchall())
        tags = store.execute("select run_uuid, key, value from tags").fetchall()
    store.close()
    student, teacher = runs["yolov8n-tiny <- yolov8n-tiny builtin set t0"], runs["yolov8n-tiny set t0"]
    assert (teacher, "mlflow.parentRunId", student) in tags
    assert (student, "teacher.detector.run_id", teacher) in tags
    assert {(run, "mlflow.note.content") for run in (student, teacher)} <= {tag[:2] for tag in tags}
    hashes = {(run, key): value for run, key, value in tags if "sha256" in key}
    assert hashes[student, "weights.initial_sha256"] == hashes[teacher, "weights.initial_sha256"]
    assert len(hashes[student, "teacher.detector.sha256"]) == 64
    (weights,) = tmp_path.glob("mlruns/**/" + f"{teacher}/artifacts/weights/best.pt")
    wanted = {"epochs": 1, "distill.method": "builtin", "distill.teacher": "latest"}
    words = command(data, f"run:{teacher[:8]}", wanted)
    warm = subprocess.run(words, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert warm.returncode == 0, warm.stderr[-2000:]
    assert "its teacher is trained first" not in warm.stdout
    assert "yolov8n-tiny (from yolov8n-tiny.pt) <- yolov8n-tiny builtin set t0 (run" in warm.stdout
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        (run,) = store.execute("select run_uuid from runs where name like '%(from yolov8n-tiny.pt)%'").fetchall()
        tags = dict(store.execute("select key, value from tags where run_uuid = ?", run).fetchall())
    store.close()
    assert tags["teacher.detector.run_id"] == tags["init.run_id"] == teacher
    assert tags["init.sha256"] == state_sha256(networks.load(weights).state_dict())


def test_a_warm_start_is_in_the_name_and_its_tensors_and_the_run_that_holds_them_are_tags(
    make_job: Callable[..., Job], tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, warm = make_job(), make_job(model=str(tiny_teacher))
    assert (scratch.title("x"), warm.title("x")) == (
        "yolov8n-tiny <- x sp object set t0", "teacher (from teacher.pt) <- x sp object set t0",
    )  # fmt: skip
    runs = [SimpleNamespace(id="r2", repeats=True), SimpleNamespace(id="r1", repeats=False)]
    asked: list[str] = []
    monkeypatch.setattr(stored.tracking, "find", lambda query: asked.append(query) or runs)
    weights = state_sha256(networks.load(tiny_teacher).state_dict())
    wanted = {"weights": "teacher.pt", "sha256": weights, "run_id": "r1"}
    nowhere: Any = None
    assert stored.lineage(warm, nowhere) == {f"init.{key}": value for key, value in wanted.items()}
    assert asked == [stored.tracking.finished({"kind": "detect", "weights.sha256": weights})]
    assert stored.lineage(scratch, nowhere) == {}
    runs.clear()
    held: list[tuple[str, str]] = []

    def kept(tensors: Path, sha256: str, name: str, parent: Any, work: Path) -> str:
        held.append((portable.weights_sha256(tensors), name))
        return "new"

    monkeypatch.setattr(stored.imported, "kept", kept)
    assert stored.lineage(warm, nowhere)["init.run_id"] == "new" and held == [(weights, "teacher.pt")]
    assert not list(warm.folder.glob("*.safetensors"))
    monkeypatch.setattr(stored.imported, "found", lambda sha256: "there" if sha256 == weights else None)
    assert stored.lineage(warm, nowhere)["init.run_id"] == "there" and len(held) == 1  # a file is kept once


def test_a_training_that_goes_on_begins_with_the_file_in_its_folder_and_asks_no_run(
    make_job: Callable[..., Job], tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def taken(reference: str, folder: Path) -> tuple[Path, str]:
        asked.append(reference)
        return tiny_teacher, "r1"

    monkeypatch.setattr(stored, "taken", taken)
    job = make_job(model="run:0123abcd")
    begun = stored.begun(job)
    assert Path(begun.model) == job.folder / "begun" / "yolov8n-tiny.pt" and stored.begun(begun) is begun
    assert Path(begun.model).read_bytes() == tiny_teacher.read_bytes()
    assert stored.begun(job) == begun and asked == ["run:0123abcd"]


def test_the_kept_teacher_is_taken_again_only_where_a_training_goes_on(
    make_job: Callable[..., Job], tiny_teacher: Path
) -> None:
    job = make_job()
    report, kept, saved = yolo.look(job), job.folder / tracked.KEPT, job.train_folder / "weights" / "last.pt"
    shutil.copy(tiny_teacher, kept)
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"")
    again = tracked._find(job, report, "gone.pt", goes_on=True)
    assert again and again.weights == kept == tracked._kept(job, again) and tracked._lineage(again, report, job) == {}
    saved.unlink()
    kept.write_text("of a run that never took a step")
    found = tracked._find(job, report, str(tiny_teacher), goes_on=True)
    assert found and (found.weights, found.run_id) == (tiny_teacher, "none")
    assert tracked._kept(job, found).read_bytes() == tiny_teacher.read_bytes()


def test_data_that_changed_while_the_teacher_was_trained_are_refused(
    make_job: Callable[..., Job], make_set: Any, tiny_teacher: Path, monkeypatch: Any
) -> None:
    job = make_job(data=make_set())
    report, label = yolo.look(job), job.data.parent / "labels/train/train000.txt"
    shutil.copytree(tiny_teacher.parent, job.folder / "teacher" / "weights")
    (job.folder / "teacher/weights/teacher.pt").rename(job.folder / "teacher" / stored.BEST)
    monkeypatch.setattr(tracked, "run", lambda *_, **__: "r1")
    session = tracked.Session("x", {"detect": {"distill": {"method": "sp", "gain": 30.0}}}, {})
    assert tracked._trained_first(job, session, None, report).run_id == "r1"  # type: ignore[arg-type]
    label.write_text(label.read_text().splitlines(keepends=True)[0])
    with pytest.raises(SpkdError, match="the data that the teacher was trained on"):
        tracked._trained_first(job, session, None, report)  # type: ignore[arg-type]


def test_a_teacher_of_other_classes_or_data_is_never_silent(
    make_job: Callable[..., Job], make_set: Any, tiny_teacher: Path, monkeypatch: Any, capsys: Any
) -> None:
    """tiny_teacher: made of a yaml, so its classes have numbers for names."""
    job = make_job()
    report = yolo.look(job)
    run = SimpleNamespace(tags={"data.digest": "0" * 32})
    monkeypatch.setattr(tracked.tracking, "get", lambda run_id: run)
    with pytest.raises(SpkdError, match=r"run r1: expected a teacher of the data set's classes.*weights \(\.pt\)"):
        tracked._lineage(tracked.Teacher.opened(tiny_teacher, "r1", "best.pt", 64), report, job)
    tags = tracked._lineage(tracked.Teacher.opened(tiny_teacher, "none", "best.pt", 64), report, job)
    assert tags["teacher.detector.classes"] == "other" and "knows other classes" in capsys.readouterr().out
    with monkeypatch.context() as patched:  # what a file becomes where its student is repeated
        patched.setattr(tracked.tracking, "get", lambda run_id: SimpleNamespace(tags={"kind": "imported"}))
        tags = tracked._lineage(tracked.Teacher.opened(tiny_teacher, "r1", "restored.pt", 64), report, job)
    assert tags["teacher.detector.classes"] == "other" and "knows other classes" in capsys.readouterr().out
    report.names = networks.load(tiny_teacher).names
    tags = tracked._lineage(tracked.Teacher.opened(tiny_teacher, "r1", "best.pt", 64), report, job)
    assert tags["teacher.detector.classes"] == "same" and tags["teacher.detector.data.digest"] == "0" * 32
    assert "from other images or labels" in capsys.readouterr().out
    run.tags["data.digest"] = report.digest()
    tracked._lineage(tracked.Teacher.opened(tiny_teacher, "r1", "best.pt", 64), report, job)
    assert capsys.readouterr().out == ""
    run.tags["data.digest"] = "unknown"
    tracked._lineage(tracked.Teacher.opened(tiny_teacher, "r1", "best.pt", 64), report, job)
    assert capsys.readouterr().out == ""
    agnostic = replace(job, extra={**job.extra, "single_cls": True})
    tags = tracked._lineage(tracked.Teacher(tiny_teacher, "r1", "best.pt", "n", ("item",)), report, agnostic)
    assert tags["teacher.detector.classes"] == "same"


def test_a_teacher_that_is_trained_first_logs_every_setting_that_its_repetition_will(
    make_job: Callable[..., Job], make_set: Any, tiny_teacher: Path, monkeypatch: Any
) -> None:
    job, logged = make_job(data=make_set()), []
    shutil.copytree(tiny_teacher.parent, job.folder / "teacher" / "weights")
    (job.folder / "teacher/weights/teacher.pt").rename(job.folder / "teacher" / stored.BEST)
    monkeypatch.setattr(tracked, "run", lambda job, session, *_, **__: logged.append(session.chosen) or "r1")
    session = tracked.Session("x", {"detect": {"distill": {"method": "sp", "gain": 30.0}}}, {})
    tracked._trained_first(job, session, None, yolo.look(job))  # type: ignore[arg-type]
    assert logged == [{"detect": {"distill": {"method": "none", "gain": 30.0}}}]


def test_a_single_object_has_no_map_to_show(tmp_path: Path) -> None:
    maps = {"image/P3": np.eye(2, dtype=np.float32), "object/P3": np.eye(1, dtype=np.float32)}
    classes: Any = SimpleNamespace(image_class=np.arange(2), object_class=np.arange(1))
    probe.save(tmp_path / "00001.npz", maps, {}, classes)
    assert list(follow._shown(tmp_path / "00001.npz")) == ["image"]


@pytest.mark.parametrize(("origin", "strip"), [("simulated", 16), ("coco2017", 0)])
def test_a_map_of_simulated_images_says_so_in_the_picture(tmp_path: Path, origin: str, strip: int) -> None:
    (tmp_path / "maps").mkdir()
    classes: Any = SimpleNamespace(image_class=np.arange(2), object_class=np.arange(1))
    probe.save(tmp_path / "maps/00001.npz", {"image/P3": np.eye(2, dtype=np.float32)}, {}, classes)
    run, shapes = Recorder(), []
    run.image = lambda key, pixels, step: shapes.append(pixels.shape)  # type: ignore[method-assign]
    follow.Follower(run, tmp_path, ["a", "b"], origin).drain()  # type: ignore[arg-type]
    assert shapes == [(256 + strip, 256, 3)]


def test_a_panel_says_its_epoch_the_names_of_its_classes_in_their_order_and_the_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(follow.panel, "draw", lambda layers, labels, *words: told.append(words) or "")
    (tmp_path / "maps").mkdir()
    classes: Any = SimpleNamespace(image_class=np.arange(2), object_class=np.arange(1))
    for step in (0, 3, 5):
        maps = {"image/P3": np.eye(2, dtype=np.float32)}
        probe.save(tmp_path / f"maps/{step:05}.npz", maps, {}, classes)
    run = Recorder()
    follow.Follower(run, tmp_path, ["b", "a"], "simulated").finish()  # type: ignore[arg-type]
    assert told == [(["b", "a"], f"images of the probe, epoch {step}", "simulated") for step in (0, 5)]
    assert set(run.logged["texts"]) == {"maps/images_00000.svg", "maps/images_00005.svg"}


@pytest.mark.parametrize("precision", ["bfloat16", None])
def test_each_fact_of_a_training_is_logged_once_under_its_own_name(tmp_path: Path, precision: str | None) -> None:
    started = {"initial_sha256": "first", "teacher_sha256": "teacher"} | ({"precision": precision} if precision else {})
    (tmp_path / "started.json").write_text(json.dumps(started))
    (tmp_path / "first_step.json").write_text(json.dumps({"losses": {"box_loss": 3.0}, "images_sha256": "images"}))
    theirs = {"metrics/precision(B)": 0.1, "metrics/recall(B)": 0.2, "metrics/mAP50(B)": 0.3}
    theirs |= {"metrics/mAP50-95(B)": 0.4, "train/sp_loss": 0.5, "lr/pg0": 0.6, "other(M)": 0.7}
    (tmp_path / "epochs.jsonl").write_text(json.dumps({"step": 4, "values": theirs}) + "\n")
    run = Recorder()
    follower, calls = follow.Follower(run, tmp_path, [], ""), list[Any]()  # type: ignore[arg-type]
    follower.drain()
    assert run.logged["tags"].items() >= {
        "weights.initial_sha256": "first", "teacher.detector.sha256": "teacher", "first_step.rows_sha256": "images",
        "precision": precision or "not recorded",
    }.items()  # fmt: skip
    ours = {"val/precision": 0.1, "val/recall": 0.2, "val/mAP50": 0.3, "val/mAP50-95": 0.4, "train/sp_loss": 0.5}
    ours |= {"lr/pg0": 0.6, "other_M": 0.7}
    assert run.logged["metrics"] == {0: {"first_step/box_loss": 3.0}, 4: ours}
    for name in ("metrics", "tags", "json"):
        setattr(run, name, lambda *given, **named: calls.append(given))
    follower.drain()
    assert calls == []


def test_what_workers_write_is_logged_while_they_run(tmp_path: Path) -> None:
    run = Recorder()
    follower = follow.Follower(run, tmp_path, ["a"], "simulated")  # type: ignore[arg-type]
    with follow.alongside(follower, seconds=0.01), (tmp_path / "epochs.jsonl").open("w") as file:
        file.write('{"step": 1, "values": {"metrics/mAP50(B)": 0.5}}\n{"step": 2, "val')
        file.flush()
        until = time.monotonic() + 5
        while 1 not in run.logged["metrics"] and time.monotonic() < until:
            time.sleep(0.01)
        assert run.logged["metrics"] == {1: {"val/mAP50": 0.5}}
        file.write('ues": {"lr/pg0": 0.1}}\n')
    assert run.logged["metrics"][2] == {"lr/pg0": 0.1}
