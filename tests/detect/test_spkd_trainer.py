"""The distilling trainer: what it adds to the loss, what it must never touch, and when it must stop."""

import copy
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ultralytics.engine import trainer as engine

from spkd import atomic
from spkd.detect import continued, features, hermetic, probe, spkd_trainer
from spkd.detect.criterion import KEY, SpCriterion
from spkd.detect.plan import Plan
from spkd.errors import SpkdError

PLAN = Plan("sp", "", ("P3", "P4", "P5"), "pooled", 20.0, 64, 1, 4, 8, 1, False)


class Flat:
    """A stock criterion that says 1 for each of three terms."""

    def __init__(self) -> None:
        self.updates = 0

    def __call__(
        self, predictions: Any, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return torch.ones(3, requires_grad=True), {"box_loss": torch.tensor(1.0)}

    def update(self) -> None:
        self.updates += 1


@pytest.fixture(scope="module")
def teacher(tiny_teacher: Path) -> torch.nn.Module:
    from ultralytics.nn.tasks import load_checkpoint

    model: torch.nn.Module = load_checkpoint(str(tiny_teacher))[0].eval()
    return model.requires_grad_(False)


def batch_of(n: int = 4, objects: int = 6) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(n)
    image = torch.arange(objects) * n // max(objects, 1)
    boxes = torch.rand(objects, 4, generator=made) * 0.4 + 0.2
    return {"img": torch.rand(n, 3, 64, 64, generator=made), "batch_idx": image.float(), "bboxes": boxes}


def criterion(teacher: torch.nn.Module, **changes: Any) -> SpCriterion:
    return SpCriterion(Flat(), teacher, torch.tensor([8.0, 16.0, 32.0]), replace(PLAN, **changes))


def student_levels(n: int = 4) -> dict[str, Any]:
    made = torch.Generator().manual_seed(9)
    shapes = ((5, 8), (7, 4), (9, 2))
    return {"feats": [torch.rand(n, c, s, s, generator=made, requires_grad=True) for c, s in shapes]}


@pytest.mark.parametrize("mode", features.MODES)
def test_the_loss_is_gain_times_sp_times_batch_size_and_its_item_is_detached(
    teacher: torch.nn.Module, mode: str
) -> None:
    from spkd.losses.sp import sp

    batch, student = batch_of(), student_levels()
    loss, items = criterion(teacher, mode=mode)(student, batch)
    seen = features.of(teacher(batch["img"]))
    arguments = (mode, batch["bboxes"], batch["batch_idx"].long())
    by_hand = sum(
        sp(features.rows(s, *arguments), features.rows(t, *arguments))
        for s, t in zip(student["feats"], seen, strict=True)
    )
    assert loss.shape == (4,) and loss[:3].tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(items[KEY], 20.0 * torch.as_tensor(by_hand).detach())
    torch.testing.assert_close(loss[3], 4 * items[KEY])
    assert not items[KEY].requires_grad and float(items[KEY]) > 0


@pytest.mark.parametrize("mode", features.MODES)
def test_the_gradient_reaches_every_student_level_and_no_teacher_weight(teacher: torch.nn.Module, mode: str) -> None:
    student = student_levels()
    criterion(teacher, mode=mode)(student, batch_of())[0].sum().backward()
    assert all(level.grad is not None and level.grad.abs().sum() > 0 for level in student["feats"])
    assert all(p.grad is None for p in teacher.parameters())


def test_only_the_chosen_levels_get_a_gradient(teacher: torch.nn.Module) -> None:
    student = student_levels()
    criterion(teacher, levels=("P4",))(student, batch_of())[0].sum().backward()
    assert [level.grad is not None and bool(level.grad.any()) for level in student["feats"]] == [False, True, False]


def test_the_gram_is_float32_under_autocast_where_float16_overflows(teacher: torch.nn.Module) -> None:
    from spkd.losses.sp import sp

    student = {"feats": [(level.detach() * 3e3).half() for level in student_levels()["feats"]]}
    batch = batch_of()
    flat = student["feats"][0].flatten(1)
    assert torch.isinf(flat @ flat.T).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gap = criterion(teacher, mode="batch").gap(student, batch)
        seen = features.of(teacher(batch["img"]))
    by_hand = sum(float(sp(s.double(), t.double())) for s, t in zip(student["feats"], seen, strict=True))
    assert gap.dtype == torch.float32 and float(gap) == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize(
    ("n", "objects", "mode"), [(1, 3, "batch"), (2, 3, "pooled"), (4, 2, "object"), (4, 0, "object")]
)
def test_too_few_things_to_compare_give_zero_and_a_warning(
    teacher: torch.nn.Module, n: int, objects: int, mode: str
) -> None:
    """Two centred rows are opposite: their map is one, whatever the features."""
    student = student_levels(n)
    with pytest.warns(UserWarning, match=r"compares \d .* or more"):
        loss, items = criterion(teacher, mode=mode)(student, batch_of(n, objects))
    assert float(items[KEY]) == 0.0
    loss.sum().backward()


@pytest.mark.parametrize(("n", "objects", "mode"), [(2, 3, "batch"), (3, 3, "pooled"), (3, 3, "object")])
def test_so_few_things_are_enough(teacher: torch.nn.Module, n: int, objects: int, mode: str) -> None:
    assert criterion(teacher, mode=mode).gap(student_levels(n), batch_of(n, objects)).detach() > 1e-4


def test_levels_are_paired_by_their_stride_where_the_student_has_one_more(teacher: torch.nn.Module) -> None:
    student, made = student_levels(), criterion(teacher)
    plain = made.gap(student, batch_of())
    finer = SpCriterion(made.base, teacher, torch.tensor([4.0, 8.0, 16.0, 32.0]), replace(PLAN, mode=made.mode))
    torch.testing.assert_close(finer.gap({"feats": [torch.rand(4, 3, 16, 16), *student["feats"]]}, batch_of()), plain)


def test_objects_beyond_the_cap_are_left_out(teacher: torch.nn.Module) -> None:
    batch, student = batch_of(objects=9), student_levels()
    fewer = {**batch, "bboxes": batch["bboxes"][[0, 4, 8]], "batch_idx": batch["batch_idx"][[0, 4, 8]]}
    capped = criterion(teacher, mode="object", max_objects=3).gap(student, batch)
    torch.testing.assert_close(capped, criterion(teacher, mode="object").gap(student, fewer))


def test_a_dead_teacher_is_refused_and_a_trained_one_is_not(teacher: torch.nn.Module, tiny_yaml: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel

    untrained = DetectionModel(str(tiny_yaml), verbose=False).eval()
    with pytest.raises(SpkdError, match="a trained teacher"):
        criterion(untrained).gap(student_levels(), batch_of())
    criterion(teacher).gap(student_levels(), batch_of())


def test_a_level_that_the_student_lacks_is_named(teacher: torch.nn.Module) -> None:
    with pytest.raises(SpkdError, match="levels that the student has: P4, P5"):
        SpCriterion(Flat(), teacher, torch.tensor([16.0, 32.0]), PLAN)


def test_the_criterion_gives_itself_up_in_copies_and_passes_on_what_it_wraps(teacher: torch.nn.Module) -> None:
    wrapped = criterion(teacher)
    assert copy.deepcopy({"criterion": wrapped}) == {"criterion": None}
    wrapped.update()
    assert wrapped.base.updates == 1 and not hasattr(wrapped, "nothing_like_this")


def test_the_trainer_class_travels_by_value_with_its_plan() -> None:
    import cloudpickle

    made = spkd_trainer.planned(replace(PLAN, gain=7.5))
    assert "Trainer" in made.__name__
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(made)
    assert pickle.loads(cloudpickle.dumps(made)).plan.gain == 7.5


Trained = dict[str, Path]


@pytest.fixture(scope="module")
def run_trainer(tiny_set: Path, tiny_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains two epochs with a plan; returns the training folder."""

    def run(plan: Plan, **overrides: Any) -> Path:
        folder = tmp_path_factory.mktemp("trained")
        arguments = {
            "model": str(tiny_yaml), "data": str(tiny_set), "epochs": 2, "batch": 4, "imgsz": 64,
            "save_dir": str(folder), "exist_ok": True, "plots": False, "nbs": 4, "warmup_epochs": 0.0,
            "device": "cpu", "workers": 0, "verbose": False,
        } | overrides  # fmt: skip
        spkd_trainer.planned(plan)(overrides=arguments).train()
        return folder

    return run


@pytest.fixture(scope="module")
def distilled(run_trainer: Callable[..., Path], tiny_teacher: Path) -> Trained:
    before = hashlib.sha256(tiny_teacher.read_bytes()).hexdigest()
    folder = run_trainer(replace(PLAN, teacher=str(tiny_teacher)))
    assert hashlib.sha256(tiny_teacher.read_bytes()).hexdigest() == before
    return {"folder": folder}


def states(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, map_location="cpu", weights_only=False)
    model = content.get("ema") or content["model"]
    return {k: v.float() for k, v in model.state_dict().items()}


def test_sp_becomes_a_csv_column_and_a_line_of_every_epoch(distilled: Trained) -> None:
    header = (distilled["folder"] / "results.csv").read_text().splitlines()[0]
    assert f"train/{KEY}" in header.split(",")
    epochs = [json.loads(line) for line in (distilled["folder"] / "epochs.jsonl").read_text().splitlines()]
    assert [e["step"] for e in epochs] == [1, 2] and all(e["values"][f"train/{KEY}"] > 0 for e in epochs)


def test_no_term_is_recorded_that_validation_does_not_compute(distilled: Trained) -> None:
    header = (distilled["folder"] / "results.csv").read_text().splitlines()[0].split(",")
    lines = (distilled["folder"] / "epochs.jsonl").read_text().splitlines()
    assert "val/box_loss" in header and f"val/{KEY}" not in header
    assert [list(json.loads(line)["values"]) for line in lines] == [header[2:]] * 2


def test_an_epoch_that_was_not_validated_has_no_validation_numbers(run_trainer: Callable[..., Path]) -> None:
    folder = run_trainer(replace(PLAN, method="none"), val=False)
    first, last = [json.loads(line)["values"] for line in (folder / "epochs.jsonl").read_text().splitlines()]
    of_validation = {name for name in last if name.startswith(("val/", "metrics/"))}
    assert {"val/box_loss", "metrics/mAP50-95(B)"} <= of_validation
    assert set(last) - set(first) == of_validation and "train/box_loss" in first
    best, newest = (states(folder / "weights" / f"{name}.pt") for name in ("best", "last"))
    assert all(torch.equal(best[name], newest[name]) for name in newest)  # so the headline is the last epoch's


def failing(monkeypatch: pytest.MonkeyPatch, at: int, how: Callable[[], float]) -> None:
    """The SP term of one step of a training, counted from 1, is what `how` returns; two steps are an epoch."""
    steps, gap = iter(range(1, 100)), SpCriterion.gap
    monkeypatch.setattr(SpCriterion, "gap", lambda *given: gap(*given) * (how() if next(steps) == at else 1.0))


@pytest.mark.parametrize(("at", "place"), [(2, "epoch 1, step 2"), (3, "epoch 2, step 1")])
def test_one_non_finite_loss_ends_the_training_at_once_and_the_checkpoint_is_older(
    run_trainer: Callable[..., Path], tiny_teacher: Path, tmp_path: Path, monkeypatch: Any, at: int, place: str
) -> None:
    failing(monkeypatch, at, lambda: float("nan"))
    with pytest.raises(SpkdError, match=f"{place}: expected a finite loss, got {KEY} not finite"):
        run_trainer(replace(PLAN, teacher=str(tiny_teacher)), epochs=3, save_dir=str(tmp_path))
    kept = tmp_path / "weights/last.pt"
    assert kept.is_file() == (at == 3) and not (tmp_path / "trained").exists()
    assert not kept.is_file() or all(torch.isfinite(value).all() for value in states(kept).values())


def test_what_is_not_finite_at_the_end_of_an_epoch_ends_the_training_before_its_checkpoint() -> None:
    """detect.train.time may end an epoch at a step that no other check has seen."""
    trainer = object.__new__(spkd_trainer.planned(PLAN))
    trainer.batch_of_epoch, trainer.amp = (1, 3), False
    for loss, fitness, message in (
        (float("nan"), 0.1, "epoch 2, step 3: expected a finite loss, got box_loss not finite"),
        (1.0, float("nan"), "epoch 2: expected a finite mAP, got nan"),
    ):
        trainer.loss, trainer.fitness = torch.tensor(loss), fitness
        trainer.loss_items = {"box_loss": torch.tensor(loss), "cls_loss": torch.tensor(1.0)}
        with pytest.raises(SpkdError, match=message):
            trainer._handle_nan_recovery(1)
    trainer.fitness = None  # not validated
    assert trainer._handle_nan_recovery(1) is False


def test_a_batch_that_does_not_fit_is_an_error_and_not_a_smaller_batch(
    run_trainer: Callable[..., Path], tiny_teacher: Path, monkeypatch: Any
) -> None:
    def full() -> float:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    failing(monkeypatch, 1, full)
    with pytest.raises(SpkdError, match=r"detect\.batch: expected a batch that fits on cpu.*lower detect\.batch"):
        run_trainer(replace(PLAN, teacher=str(tiny_teacher)))


def test_the_first_step_is_recorded_before_any_update(
    run_trainer: Callable[..., Path], tiny_teacher: Path, tiny_set: Path, tmp_path: Path
) -> None:
    plan = replace(PLAN, teacher=str(tiny_teacher))
    folder = run_trainer(plan, batch=64, epochs=1)
    first = json.loads((folder / "first_step.json").read_text())
    assert {"box_loss", "cls_loss", "dfl_loss", KEY} <= set(first["losses"])
    (only,) = [json.loads(line)["values"] for line in (folder / "epochs.jsonl").read_text().splitlines()]
    for name, value in first["losses"].items():
        assert only[f"train/{name}"] == pytest.approx(value, abs=1e-5)
    elsewhere = shutil.copytree(tiny_set.parent, tmp_path / "elsewhere") / tiny_set.name
    moved = run_trainer(replace(plan, threads=2), epochs=1, batch=64, data=str(elsewhere))
    again = json.loads((moved / "first_step.json").read_text())
    assert again["images_sha256"] == first["images_sha256"]
    other = json.loads((run_trainer(plan, epochs=1, batch=64, seed=5) / "first_step.json").read_text())
    assert other["images_sha256"] != first["images_sha256"]
    assert again["losses"] == pytest.approx(first["losses"], rel=1e-3)
    assert other["losses"] != pytest.approx(first["losses"], rel=1e-3)


def test_only_the_first_step_of_a_new_training_that_saw_its_whole_batch_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(loss: float, start_epoch: int = 0) -> None:
        first = {"box_loss": torch.tensor(loss)}
        trainer = SimpleNamespace(save_dir=tmp_path, start_epoch=start_epoch, loss_items=first, first_images=["a", "b"])
        spkd_trainer.record_first_step(trainer)  # type: ignore[arg-type]

    step(1.0, start_epoch=3)
    with monkeypatch.context() as patched:
        patched.setattr(spkd_trainer, "RANK", 0)  # of several GPUs
        step(2.0)
    assert not list(tmp_path.iterdir())
    step(3.0)
    step(4.0)
    images = hashlib.sha256(b"a\nb").hexdigest()
    told = json.loads((tmp_path / "first_step.json").read_text())
    assert told == {"losses": {"box_loss": 3.0}, "images_sha256": images}


def test_images_are_augmented_in_as_many_processes_as_asked_for_on_a_cpu_as_on_a_gpu(
    run_trainer: Callable[..., Path],
) -> None:
    plan = replace(PLAN, method="none")
    none, one, two, again = (run_trainer(plan, epochs=1, workers=n) for n in (0, 1, 2, 2))
    first = [json.loads((f / "first_step.json").read_text()) for f in (none, one, two, again)]
    assert first[0]["images_sha256"] == first[1]["images_sha256"] and first[0]["losses"] != first[1]["losses"]
    assert first[1] == first[2] == first[3]  # the first batch is the first worker's, however many there are
    ended, repeated = (states(f / "weights/last.pt") for f in (two, again))
    assert all(torch.equal(ended[k], repeated[k]) for k in ended)


@pytest.mark.parametrize("begun", [True, False])
def test_the_teacher_is_frozen_and_the_stock_loss_of_a_training_that_goes_on_is_the_one_that_was_resumed(
    tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """ultralytics sets how far a loss of two heads has moved from one to the other only where it resumes."""
    resumed, new = Flat(), Flat()
    student = SimpleNamespace(criterion=resumed if begun else None, init_criterion=lambda: new)
    student.stride = torch.tensor([4.0, 8.0, 16.0, 32.0])  # a level more than the teacher's
    trainer = object.__new__(spkd_trainer.planned(replace(PLAN, teacher=str(tiny_teacher))))
    trainer.model, trainer.device = student, torch.device("cpu")
    check_amp: list[str] = []  # ultralytics' own would fetch weights
    monkeypatch.setattr(
        spkd_trainer.DetectionTrainer, "_setup_train", lambda own: check_amp.append(engine.check_amp.__module__)
    )
    monkeypatch.setattr(spkd_trainer.SpkdTrainer, "_record_start", lambda own, model: None)
    trainer._setup_train()
    made = student.criterion
    assert check_amp == [hermetic.__name__]
    assert isinstance(made, SpCriterion) and made.base is (resumed if begun else new)
    assert (made.of_student, made.of_teacher) == ([1, 2, 3], [0, 1, 2])
    assert made.teacher is trainer.teacher and not any(part.training for part in made.teacher.modules())
    assert not any(weight.requires_grad for weight in made.teacher.parameters())


@pytest.mark.parametrize("amp", ["bf16", "fp16", True])
def test_a_cpu_trains_in_float32_whatever_precision_a_gpu_would_train_in(
    run_trainer: Callable[..., Path], amp: str | bool
) -> None:
    folder = run_trainer(replace(PLAN, method="none"), epochs=1, amp=amp)
    assert json.loads((folder / "started.json").read_text())["precision"] == "float32"


@pytest.mark.parametrize(
    ("in_use", "asked", "told"), [(True, True, "float16"), (True, "bf16", "bfloat16"), (False, "bf16", "float32")]
)
def test_the_precision_on_record_is_the_one_in_use_and_first_weights_are_not_those_of_a_resumed_epoch(
    tmp_path: Path, monkeypatch: Any, in_use: bool, asked: str | bool, told: str
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(spkd_trainer.probe, "choose", lambda *given: SimpleNamespace(paths=[]))
    trainer = SimpleNamespace(
        plan=PLAN, save_dir=tmp_path, teacher=None, start_epoch=3, amp=in_use,
        test_loader=SimpleNamespace(dataset=SimpleNamespace(labels=[])), args=SimpleNamespace(imgsz=64, amp=asked),
        _record_maps=lambda step, student: steps.append(step), optimizer=None,
    )  # fmt: skip
    monkeypatch.setattr(spkd_trainer, "in_use", lambda *given: "")
    trainer.args.optimizer, trainer.args.lr0 = "SGD", 0.1
    spkd_trainer.SpkdTrainer._record_start(trainer, torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json"} and not steps
    trainer.start_epoch = 0
    spkd_trainer.SpkdTrainer._record_start(trainer, torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    assert json.loads((tmp_path / "started.json").read_text())["precision"] == told and steps == [0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "AdamW, lr0 0.001429, momentum 0.9, weight_decay 0.0005"),  # auto: 0.002 * 5 / (4 + 3 classes)
        ({"optimizer": "SGD", "lr0": 0.02, "nbs": 2}, "SGD, lr0 0.02, momentum 0.937, weight_decay 0.001"),
    ],
)
def test_the_optimizer_on_record_is_the_one_in_use_and_not_the_word_auto(
    run_trainer: Callable[..., Path], given: dict[str, Any], told: str
) -> None:
    folder = run_trainer(replace(PLAN, method="none"), epochs=1, **given)
    assert json.loads((folder / "started.json").read_text())["optimizer"] == told


def test_what_a_follower_reads_while_the_trainer_writes_is_whole_or_not_there(
    run_trainer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = set(), atomic.write_text

    def watched(to: Path, text: str) -> None:
        written.add(to.name)
        write(to, text)

    monkeypatch.setattr(atomic, "write_text", watched)
    folder = run_trainer(replace(PLAN, method="none"), epochs=1)
    texts = {path.name for path in folder.glob("*.json")}
    assert texts == {"plan.json", "started.json", "first_step.json"} == written


def test_the_checkpoint_is_the_students_alone_and_the_teacher_is_unchanged(
    distilled: Trained, tiny_yaml: Path, teacher: torch.nn.Module
) -> None:
    from ultralytics.nn.tasks import DetectionModel

    from spkd.evidence.provenance import state_sha256

    plain = DetectionModel(str(tiny_yaml), verbose=False).state_dict()
    assert states(distilled["folder"] / "weights/last.pt").keys() == plain.keys()
    started = json.loads((distilled["folder"] / "started.json").read_text())
    assert started["teacher_sha256"] == state_sha256(teacher.state_dict())


def test_maps_of_teacher_and_student_are_stored_with_sorted_classes(distilled: Trained) -> None:
    import numpy as np

    files = sorted((distilled["folder"] / "maps").glob("*.npz"))
    assert [f.name for f in files] == ["00000.npz", "00001.npz", "00002.npz"]
    with np.load(files[0]) as first, np.load(files[-1]) as last:
        assert first["student/object/P3"].shape == (8, 8) and first["student/image/P5"].shape == (4, 4)
        assert (np.diff(first["object_class"]) >= 0).all() and (np.diff(first["image_class"]) >= 0).all()
        np.testing.assert_array_equal(first["teacher/image/P3"], last["teacher/image/P3"])
        assert not np.array_equal(first["student/image/P3"], last["student/image/P3"])


@pytest.mark.parametrize("method", ["none", "builtin"])
def test_maps_after_the_first_are_those_of_the_averaged_weights_that_a_checkpoint_holds(
    run_trainer: Callable[..., Path], tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    shown, kept, compared = list[torch.nn.Module](), list[torch.nn.Module](), list[Any]()
    maps, save = probe.maps, spkd_trainer.SpkdTrainer.save_model

    def watched(model: torch.nn.Module, of: probe.Probe, *how: Any) -> dict[str, np.ndarray]:
        assert {Path(path).parent.name for path in of.paths} == {"val"}
        shown.append(model)
        compared.append((len(of.paths), len(of.boxes), *how))
        return maps(model, of, *how)

    monkeypatch.setattr(probe, "maps", watched)
    monkeypatch.setattr(spkd_trainer.SpkdTrainer, "save_model", lambda own: kept.append(own.ema.ema) or save(own))
    taught = {} if method == "none" else {"distill_model": str(tiny_teacher)}
    plan = replace(PLAN, method=method, mode="batch", levels=("P3", "P5"), probe_images=3, probe_objects=5)
    run_trainer(replace(plan, teacher=str(tiny_teacher) if taught else ""), **taught)
    students = [getattr(model, "student_model", model) for model in kept]
    assert len(students) == 2 and all(a is b for a, b in zip(shown[-2:], students, strict=True))
    assert compared == [(3, 5, ["P3", "P5"], "batch")] * (4 if taught else 3)  # the teacher's are compared alike


def test_a_training_that_time_ends_after_its_checkpoint_has_the_maps_of_its_last_epoch_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(spkd_trainer.SpkdTrainer, "_record_smoothed", lambda own, step: steps.append(step))
    trainer = object.__new__(spkd_trainer.planned(PLAN))
    trainer.save_dir, trainer.epoch, trainer.epochs = tmp_path, 4, 9
    trainer.final_eval()
    assert steps == [5] and (tmp_path / "trained").is_file()
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/00005.npz").touch()
    trainer.final_eval()
    assert steps == [5]


def test_no_validation_image_with_an_object_is_an_error_that_says_what_to_do() -> None:
    empty = {"im_file": "a.jpg", "cls": np.zeros((0, 1)), "bboxes": np.zeros((0, 4))}
    with pytest.raises(SpkdError, match=r"validation images with an object, got none; label them, or name classes"):
        probe.choose([empty], 16, 48, 96)


def test_ultralytics_own_resume_stops_at_our_checkpoint(distilled: Trained) -> None:
    from ultralytics import YOLO

    model = YOLO(str(distilled["folder"] / "weights/last.pt"))
    with pytest.raises(SyntaxError, match=spkd_trainer.GUARD):
        model.train(resume=True)


def test_what_a_killed_save_left_never_becomes_the_best_weights(
    run_trainer: Callable[..., Path], tmp_path: Path, monkeypatch: Any
) -> None:
    save, write = spkd_trainer.DetectionTrainer.save_model, spkd_trainer.DetectionTrainer.save_metrics

    def leave(trainer: Any, metrics: dict[str, float]) -> None:
        (trainer.wdir / "best.part").write_bytes(b"half a checkpo")
        write(trainer, metrics)

    def worse(trainer: Any) -> bool:
        if trainer.epoch == 1:
            trainer.fitness = trainer.best_fitness - 1.0
        return bool(save(trainer))

    monkeypatch.setattr(spkd_trainer.DetectionTrainer, "save_model", worse)
    renamed, replace_file = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: renamed.append(Path(to).name) or replace_file(path, to))
    monkeypatch.setattr(spkd_trainer.DetectionTrainer, "save_metrics", leave)
    run_trainer(replace(PLAN, method="none"), save_dir=str(tmp_path))
    best, last = (torch.load(tmp_path / f"weights/{n}.pt", weights_only=False)["epoch"] for n in ("best", "last"))
    assert (best, last) == (0, 1) and not list(tmp_path.glob("weights/*.part"))
    assert [name for name in renamed if name.endswith(".pt")] == ["best.pt", "last.pt", "last.pt"]


def test_a_kill_between_the_names_of_two_checkpoints_leaves_both_of_one_epoch(tmp_path: Path) -> None:
    for name, epoch in (("best.pt", 4), ("last.part", 4), ("last.pt", 3)):
        torch.save({"epoch": epoch}, tmp_path / name)
    continued.settle(tmp_path)
    assert torch.load(tmp_path / "last.pt")["epoch"] == 4 and not (tmp_path / "last.part").exists()
    (tmp_path / "last.part").write_bytes(b"half a checkpo")  # of the next save, which was killed before any name
    continued.settle(tmp_path)
    assert torch.load(tmp_path / "last.pt")["epoch"] == 4


def test_a_stock_training_of_an_sp_plan_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("epoch,time,train/box_loss\n1,2,3\n")
    with pytest.raises(SpkdError, match="train/sp_loss"):
        spkd_trainer.require_distilled(tmp_path, PLAN)
    spkd_trainer.require_distilled(tmp_path, replace(PLAN, method="none"))


def test_a_rerun_is_bit_identical_and_the_teacher_changes_the_student(
    distilled: Trained, run_trainer: Callable[..., Path], tiny_teacher: Path
) -> None:
    again = states(run_trainer(replace(PLAN, teacher=str(tiny_teacher))) / "weights/last.pt")
    plain_folder = run_trainer(replace(PLAN, method="none"))
    first, plain = states(distilled["folder"] / "weights/last.pt"), states(plain_folder / "weights/last.pt")
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], plain[k]) for k in first)
    sp_start, plain_start = (
        json.loads((f / "started.json").read_text())["initial_sha256"] for f in (distilled["folder"], plain_folder)
    )
    assert sp_start == plain_start


def test_the_builtin_baseline_runs_under_the_same_trainer(
    run_trainer: Callable[..., Path], tiny_teacher: Path, distilled: Trained
) -> None:
    folder = run_trainer(
        replace(PLAN, method="builtin", teacher=str(tiny_teacher)), distill_model=str(tiny_teacher), epochs=1
    )
    header = (folder / "results.csv").read_text().splitlines()[0].split(",")
    assert "train/dis_loss" in header and "val/box_loss" in header and "val/dis_loss" not in header
    assert f"train/{KEY}" not in header
    started, of_sp = (json.loads((f / "started.json").read_text()) for f in (folder, distilled["folder"]))
    assert all(
        started[name] == of_sp[name] for name in ("initial_sha256", "teacher_sha256")
    )  # the first weights are the student's, without a teacher in them
    assert (folder / "maps/00001.npz").is_file()


def test_what_a_checkpoint_does_not_know_is_dropped_where_its_training_goes_on(tmp_path: Path) -> None:
    torn = tmp_path / "epochs.jsonl"
    for name in ("weights", "maps"):
        (tmp_path / name).mkdir()
    torch.save({"epoch": 1}, tmp_path / "weights/last.pt")  # killed before saving epoch 3
    (tmp_path / "results.csv").write_text("epoch,time,train/box_loss\n1,2.5,3\n2,5.5,2\n1\n3,8.5,1\n1,9")
    torn.write_text('{"step": 1}\n{"st{"step": 2}\n{"step": 2}\n{"step": 3}\n{"step": 4')
    for step in range(4):
        (tmp_path / f"maps/{step:05}.npz").touch()
    for _ in range(2):
        continued.cut(tmp_path)
        assert (tmp_path / "results.csv").read_text() == "epoch,time,train/box_loss\n1,2.5,3\n2,5.5,2\n"
        assert torn.read_text() == '{"step": 1}\n{"step": 2}\n'
        assert sorted(path.stem for path in tmp_path.glob("maps/*")) == ["00000", "00001", "00002"]
