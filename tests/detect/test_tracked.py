"""Which weights a detection run reports on and learns from, and what a run that ended leaves; nothing is trained."""

import contextlib
import errno
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from spkd.detect import evaluate, networks, stored, tracked, yolo
from spkd.detect.checks.preflight import check
from spkd.errors import SpkdError
from spkd.evidence.provenance import state_sha256
from spkd.evidence.tracking import Run, RunInfo
from spkd.settings import Preflight


@pytest.mark.parametrize(("written", "taken"), [(["best", "last"], "best"), (["last"], "last")])
def test_numbers_and_network_are_of_the_best_weights_and_of_the_last_where_there_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[str], taken: str
) -> None:
    job = SimpleNamespace(
        folder=tmp_path, train_folder=tmp_path / "train", data=Path("data.yaml"), imgsz=64, batch=4, device="cpu",
        annotations={}, extra={}, epochs=2, model="yolov8n.yaml",
    )  # fmt: skip
    (job.train_folder / "weights").mkdir(parents=True)
    (job.train_folder / "epochs.jsonl").write_text('{"step": 2}\n')
    for name in written:
        (job.train_folder / "weights" / f"{name}.pt").write_text(name)
    asked = []

    def validate(path: Path, *words: Any) -> SimpleNamespace:
        asked.append(path.read_text())
        return SimpleNamespace(numbers={"mAP50": 0.5}, coco={}, per_class={}, plots=[])

    def load(path: Path) -> torch.nn.Module:
        asked.append(path.read_text())
        return torch.nn.Linear(2, 2)

    monkeypatch.setattr(yolo, "strip_optimizer", lambda path, s: shutil.copy(path, s))
    monkeypatch.setattr(evaluate, "validate", validate)
    monkeypatch.setattr(networks, "load", load)
    monkeypatch.setattr(evaluate, "cost", lambda *words: {})
    monkeypatch.setattr(networks, "described", lambda model: {})
    run = Mock(spec=Run)
    assert yolo.log_result(job, run, plots=False)["mAP50"] == 0.5
    assert asked == [taken, taken] and run.model.call_args.args[0] == tmp_path / "weights" / "best.safetensors"
    files = [call.args[1] for call in run.file.call_args_list]
    assert [name for name in files if name.startswith("weights/")] == [f"weights/{name}.pt" for name in written]


def test_a_batch_that_does_not_fit_the_gpu_is_a_message_in_any_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    trainer = SimpleNamespace(ddp=False, add_callback=lambda name, call: None, train=train)
    monkeypatch.setattr(yolo.spkd_trainer, "planned", lambda plan: lambda overrides: trainer)
    job = SimpleNamespace(folder=tmp_path, train_folder=tmp_path / "train", plan=None, overrides=dict)
    with pytest.raises(
        SpkdError, match=r"detect.batch: expected .* got CUDA out of memory. Tried .* GiB; lower detect.batch"
    ):
        yolo._train(job, SimpleNamespace(drain=None))  # type: ignore[arg-type]


@pytest.mark.parametrize("last", [None, Path("last.pt")])
def test_a_training_that_goes_on_keeps_the_record_of_the_weights_it_began_with_and_of_what_they_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: Path | None
) -> None:
    told: list[dict[str, str]] = []
    asked: list[list[str]] = []
    anew: list[bool] = []

    def train(job: Any, report: Any, run: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # far enough

    run = SimpleNamespace(tags=told.append, params=lambda chosen: None, goes_on=last is not None)
    begins = {"init.sha256": "as the file is now", "init.run_id": "r1"}
    report = SimpleNamespace(origin="simulated", digest=lambda: "d")
    for name, value in (
        ("look", report),
        ("continues", last is not None),
        ("checkpoint", last),
        ("claim", None),
        ("is_noted", True),
    ):
        monkeypatch.setattr(yolo, name, lambda *words, value=value: value)
    monkeypatch.setattr(yolo, "log_data", lambda *words: None)
    monkeypatch.setattr(yolo, "train", train)
    monkeypatch.setattr(tracked.provenance, "tell", lambda opened, flags: ({}, {}))
    monkeypatch.setattr(tracked.stored, "lineage", lambda job, opened: begins)
    monkeypatch.setattr(tracked.stored, "learnt", lambda report, run_ids, opened: asked.append(run_ids))
    monkeypatch.setattr(
        tracked.tracking, "open_run", lambda *_, fresh: anew.append(fresh) or contextlib.nullcontext(run)
    )
    taught = {"teacher.detector.run_id": "r2"} if last is None else {}
    teacher = SimpleNamespace(run_id="r2", network="n")
    plan = SimpleNamespace(method="sp")
    job = SimpleNamespace(folder=tmp_path, data_name="set", plan=plan, title=lambda teacher: "t", model="n.pt")
    for name, value in (("_find", teacher), ("_lineage", taught), ("_kept", last), ("replace", job)):
        monkeypatch.setattr(tracked, name, lambda *words, value=value, **_: value)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        tracked.run(job, tracked.Session("e", {}, {}), "latest")  # type: ignore[arg-type]
    assert (told, asked) == (([begins, taught], [["r1", "r2"]]) if last is None else ([{}], []))
    assert anew == [last is None]


@pytest.mark.parametrize("held", [stored.BEST, stored.TENSORS])
def test_weights_of_a_run_are_its_best_or_made_of_the_tensors_of_an_imported_one(
    tmp_path: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    network: Any = networks.load(tiny_teacher)
    networks.keep(network, tmp_path / "run" / stored.TENSORS)
    kind = {"kind": "detect" if held == stored.BEST else "imported"}
    monkeypatch.setattr(stored.selection, "by_id", lambda text: SimpleNamespace(id=f"{text}ffee", tags=kind))
    monkeypatch.setattr(stored.tracking, "listing", lambda run_id, folder: [held] if held.startswith(folder) else [])
    monkeypatch.setattr(stored.tracking, "artifact", lambda run_id, path: tmp_path / "run" / path)
    weights, run_id = stored.taken("run:c0", tmp_path / "job")
    assert run_id == "c0ffee"
    assert weights == tmp_path / ("run/weights/best.pt" if held == stored.BEST else "job/restored.pt")
    if held == stored.TENSORS:
        again: Any = networks.load(weights)
        assert again.names == network.names and state_sha256(again.state_dict()) == state_sha256(network.state_dict())


@pytest.mark.parametrize("ended_meanwhile", [False, True])
def test_a_run_has_only_the_training_of_its_own_even_where_another_command_ended_it_while_this_one_was_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_meanwhile: bool
) -> None:
    """It recorded the other run's training as one of its own, with a teacher that it did not name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    plan = SimpleNamespace(method="sp")
    job: Any = SimpleNamespace(
        folder=tmp_path / "job", train_folder=tmp_path / "job/train", data_name="set", plan=plan, imgsz=32,
        title=lambda teacher: "t", model="n.yaml", is_warm=False, overrides=dict,
    )  # fmt: skip
    report: Any = SimpleNamespace(origin="simulated", digest=lambda: "d")
    last, kept = job.train_folder / "weights/last.pt", job.folder / tracked.KEPT
    seen: list[tuple[bool, dict[str, str]]] = []

    def train(job: Any, report: Any, run: Run) -> dict[str, float]:
        seen.append((last.is_file(), dict(tracked.Outbox(job.folder).opened()["tags"])))  # type: ignore[index]
        last.parent.mkdir(parents=True, exist_ok=True)
        last.touch()
        kept.touch()
        if len(seen) == 1:
            raise KeyboardInterrupt
        return {"mAP50": 0.5}

    def teacher(weights: Path, run_id: str, *words: Any) -> SimpleNamespace:
        return SimpleNamespace(run_id=run_id, network="n", classes=())

    def ends(job: Any, report: Any) -> bool:
        """As `continues`; meanwhile another command with the same words comes to its end."""
        monkeypatch.setattr(yolo, "continues", lambda job, report: True)
        if ended_meanwhile:
            tracked.run(job, session, "run:r1")
        return True

    session, lineage = tracked.Session("Default", {}, {}), {"teacher.detector.run_id": "r1"}
    for name, value in (("look", report), ("is_noted", True), ("continues", False), ("log_data", None)):
        monkeypatch.setattr(yolo, name, lambda *words, value=value: value)
    monkeypatch.setattr(yolo, "train", train)
    monkeypatch.setattr(tracked.provenance, "tell", lambda opened, flags: ({}, {}))
    monkeypatch.setattr(tracked.stored, "learnt", lambda *words: None)
    monkeypatch.setattr(tracked.stored, "taken", lambda reference, folder: (tmp_path, "r1"))
    monkeypatch.setattr(tracked.Teacher, "opened", teacher)
    monkeypatch.setattr(tracked, "_lineage", lambda found, *words: lineage if found.run_id else {})
    monkeypatch.setattr(tracked, "_kept", lambda *words: kept)
    monkeypatch.setattr(tracked, "replace", lambda job, **_: job)
    monkeypatch.setattr(tracked, "describe", lambda *words: "")
    with pytest.raises(KeyboardInterrupt):
        tracked.run(job, session, "run:r1")
    monkeypatch.setattr(yolo, "continues", ends)
    own = tracked.run(job, session, "run:r1")
    runs = tracked.tracking.find(tracked.tracking.finished({"kind": "detect"}))
    assert own == runs[0].id and [had for had, _ in seen] == (
        [False, True, False] if ended_meanwhile else [False, True]
    )
    assert len(runs) == len(seen) - 1 and all(run.tags["teacher.detector.run_id"] == "r1" for run in runs)
    assert not tracked._goes_on(job, report)  # the same command trains anew
    box = tracked.Outbox(job.folder)
    arrived, box.delivery = box.delivery, replace(box.delivery, sent=0)
    assert tracked._goes_on(job, report)  # what did not all arrive is delivered instead, here or, of another job, first
    monkeypatch.setattr(tracked.tracking, "sweep", lambda folder: setattr(box, "delivery", arrived))
    assert tracked._goes_on(job, report)
    monkeypatch.setattr(yolo, "is_noted", lambda *words: False)
    assert not tracked._goes_on(job, report)


def test_the_latest_teacher_is_a_finished_plain_run_on_these_data_and_no_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(name: str, status: str = "FINISHED", **other: str) -> RunInfo:
        known = {"kind": "detect", "distill.method": "none", "data.digest": "d"}
        return RunInfo(name, name, status, "0", 0, 0, {}, {}, known | other)

    newest_first = [
        made("student", **{"distill.method": "sp"}), made("repetition", repeats="plain"),
        made("on other data", **{"data.digest": "e"}), made("failed", "FAILED"), made("plain"), made("older"),
    ]  # fmt: skip

    def find(query: str, **more: Any) -> list[RunInfo]:
        clauses = re.findall(r"(tags|attributes)\.`?([\w.]+)`? = '(\w*)'", query)
        assert len(clauses) == query.count("=")
        return [
            run
            for run in newest_first
            if all((run.tags.get(key) if of == "tags" else getattr(run, key)) == text for of, key, text in clauses)
        ]

    monkeypatch.setattr(tracked.tracking, "find", find)
    monkeypatch.setattr(tracked.tracking, "artifact", lambda run_id, path: tmp_path / run_id)
    network = SimpleNamespace(names={0: "a"}, yaml={}, stride=torch.tensor([8.0, 16.0, 32.0]))
    monkeypatch.setattr(networks, "build", lambda path, key: network)
    job = SimpleNamespace(folder=tmp_path, train_folder=tmp_path / "train", imgsz=96)
    report = SimpleNamespace(digest=lambda: "d")
    found = tracked._find(job, report, tracked.LATEST, goes_on=False)  # type: ignore[arg-type]
    assert found and (found.run_id, found.weights) == ("plain", tmp_path / "plain")
    job.imgsz = 48
    with pytest.raises(SpkdError, match=r"imgsz, of the teacher: expected a multiple of 32, .*, got 48; set 32 or 64"):
        tracked._find(job, report, tracked.LATEST, goes_on=False)  # type: ignore[arg-type]
    del newest_first[-2:]
    assert tracked._find(job, report, tracked.LATEST, goes_on=False) is None  # type: ignore[arg-type]


def test_a_run_that_trained_no_detector_is_named_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunInfo("abcdef", "a teacher", "FINISHED", "0", 0, 0, {}, {}, {"kind": "teacher"})
    monkeypatch.setattr(stored.selection, "by_id", lambda start: run)
    with pytest.raises(SpkdError, match=r"a run of detect, got 'a teacher' \(kind teacher\); name another one"):
        stored.taken("run:abcdef", tmp_path)


def test_validation_images_that_a_teacher_or_its_own_teacher_learnt_from_are_refused(
    make_set: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = make_set("one"), make_set("other", n_train=9)
    shutil.copy(data.parent / "images/val/val002.jpg", other.parent / "images/train/val002.jpg")
    shutil.copy(data.parent / "labels/val/val002.txt", other.parent / "labels/train/val002.txt")
    limits = Preflight(max_missing=0.0, max_background=1.0, max_duplicates=0.0)
    plain, leaking = (check(path, {}, limits) for path in (data, other))
    store = {"older": None, "leaking": tmp_path / "leaking", "its student": tmp_path / "student"}
    monkeypatch.setattr(stored.tracking, "listing", lambda run, folder: [stored.IMAGES] * bool(store[run]))
    monkeypatch.setattr(stored.tracking, "artifact", lambda run, name: store[run])

    def run(file: Path) -> Any:
        return SimpleNamespace(text=lambda text, name: file.write_text(text, "utf-8"))

    stored.learnt(leaking, ["older"], run(tmp_path / "leaking"))
    assert len((tmp_path / "leaking").read_text().splitlines()) == 10
    with pytest.raises(SpkdError, match=r"got 1 that run leaking learnt from \(val002.jpg, ...\); choose a run"):
        stored.learnt(plain, ["older", "leaking"], run(tmp_path / "none"))
    plain.splits["val"], kept = leaking.splits["val"], plain.splits["val"]
    plain.splits["val"].seen[:] = [seen for seen in kept.seen if "val002" not in seen.image]
    stored.learnt(plain, ["leaking"], run(tmp_path / "student"))
    plain.splits["val"].seen[:] = kept.seen
    with pytest.raises(SpkdError, match="run its student learnt from"):
        stored.learnt(plain, ["its student"], run(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_teacher_of_the_same_data_is_no_leak_where_all_of_val_is_meant_to_be_train(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said of such data that results on them are no test."""
    data_set.write_text(data_set.read_text().replace("val: images/val", "val: images/train"))
    report = check(data_set, {}, Preflight(max_missing=0.0, max_background=1.0, max_duplicates=0.0))
    noted = tmp_path / "noted"
    monkeypatch.setattr(stored.tracking, "listing", lambda run, folder: [stored.IMAGES])
    monkeypatch.setattr(stored.tracking, "artifact", lambda run, name: noted)
    run: Any = SimpleNamespace(text=lambda text, name: noted.write_text(text, "utf-8"))
    stored.learnt(report, [], run)
    stored.learnt(report, ["its teacher"], run)
    assert len(noted.read_text("utf-8").splitlines()) == 8
