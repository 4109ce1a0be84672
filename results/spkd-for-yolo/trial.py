"""The real trial: plain, ultralytics' own distillation, and SPKD in three modes, from the same student, seed by seed.

python results/spkd-for-yolo/trial.py WEIGHTS.pt DATA.yaml OUT_FOLDER [--seeds 1 2 3 4 5] [--workers 2]

Every run is a process of its own on one thread; a finished run is kept, so the command can be stopped and started
again. The rule by which it is read is in README.md, written before the runs. Writes OUT_FOLDER/runs.jsonl, one line a
run.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ARMS = {  # gain: 2 / (mean SP of the first epoch of a pilot with seed 99), so that all modes start with the same weight
    "plain": ("none", "pooled", 0.0),
    "builtin": ("builtin", "pooled", 0.0),
    "sp batch": ("sp", "batch", 28.0),
    "sp pooled": ("sp", "pooled", 15.0),
    "sp object": ("sp", "object", 60.0),
}
KEPT_LAYERS = 10  # the student's backbone is the teacher's; neck and head start from noise
TRAINING = {
    "epochs": 30, "batch": 8, "nbs": 8, "imgsz": 160, "optimizer": "AdamW", "lr0": 0.001, "warmup_epochs": 1.0,
    "close_mosaic": 7, "single_cls": True, "cls_remap": False, "workers": 0, "device": "cpu", "plots": False,
    "verbose": False, "exist_ok": True,
}  # fmt: skip


def student(teacher: Path, seed: int, folder: Path) -> Path:
    """The seed's first student, made once and shared by all arms."""
    import torch
    from ultralytics import YOLO

    from spkd.detect import networks

    path = folder / f"student-{seed}.pt"
    if not path.is_file():
        torch.manual_seed(seed)
        made, known = YOLO("yolov8n.yaml"), networks.load(teacher).state_dict()
        state = {k: known[k] if int(k.split(".")[1]) < KEPT_LAYERS else v for k, v in made.model.state_dict().items()}
        made.model.load_state_dict(state)
        made.save(path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    return path


def one(teacher: Path, data: Path, out: Path, arm: str, seed: int) -> None:
    """One run; its line is written last."""
    from spkd.detect import hermetic, spkd_trainer
    from spkd.detect.plan import Plan

    hermetic.quiet()
    method, mode, gain = ARMS[arm]
    folder = out / f"{arm.replace(' ', '-')}-{seed}"
    learnt_from = "" if method == "none" else str(teacher)
    plan = Plan(method, learnt_from, ("P3", "P4", "P5"), mode, gain, 256, 1, 32, 300, 10, tf32=False)
    overrides = TRAINING | {
        "model": str(student(teacher, seed, out)),
        "data": str(data),
        "seed": seed,
        "save_dir": str(folder),
    }
    overrides |= {"distill_model": plan.teacher, "dis": 6.0} if method == "builtin" else {}
    if not (folder / "trained").is_file():
        spkd_trainer.planned(plan)(overrides=overrides).train()
    epochs = [json.loads(line)["values"] for line in (folder / "epochs.jsonl").read_text().splitlines()]
    spkd_trainer.require_distilled(folder, plan)
    last = epochs[-1]
    line = {
        "arm": arm, "seed": seed, "initial_sha256": json.loads((folder / "started.json").read_text())["initial_sha256"],
        "mAP50": last["metrics/mAP50(B)"], "mAP50-95": last["metrics/mAP50-95(B)"],
        "best mAP50": max(e["metrics/mAP50(B)"] for e in epochs), "seconds": training_seconds(folder),
        "term first": epochs[0].get("train/sp_loss", epochs[0].get("train/dis_loss")),
        "term last": last.get("train/sp_loss", last.get("train/dis_loss")),
        "agreement": agreement(folder / "maps" / f"{TRAINING['epochs']:05}.npz", teacher, out),
        "curve mAP50": [e["metrics/mAP50(B)"] for e in epochs],
    }  # fmt: skip
    (folder / "line.json").write_text(json.dumps(line))


def training_seconds(folder: Path) -> float:
    """Wall time of all epochs, by ultralytics' table."""
    return float((folder / "results.csv").read_text().splitlines()[-1].split(",")[1])


def agreement(maps: Path, teacher: Path, out: Path) -> dict[str, float]:
    """CKA of the student's maps of the validation probe with the teacher's (0 = unrelated, 1 = same geometry)."""
    from spkd.evidence.similarity import cka

    known = reference(teacher, out)
    with np.load(maps) as found:
        names = [k.removeprefix("student/") for k in found if k.startswith("student/")]
        return {name: round(cka(found[f"student/{name}"], known[name]), 4) for name in names}


def reference(teacher: Path, out: Path) -> dict[str, np.ndarray]:
    """The teacher's maps, from a run that stored them."""
    for path in sorted(out.glob("*/maps/00000.npz")):
        with np.load(path) as found:
            if "teacher/image/P3" in found:
                return {k.removeprefix("teacher/"): found[k] for k in found if k.startswith("teacher/")}
    raise SystemExit("run an arm with a teacher first: its maps are the reference")


def main() -> None:
    """Run what is missing, two at a time, and collect the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("weights", "data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("ARM", "SEED"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.one:
        return one(given.weights, given.data, given.out, given.one[0], int(given.one[1]))
    jobs = [(arm, seed) for seed in given.seeds for arm in [*list(ARMS)[2:], *list(ARMS)[:2]]]

    def run(job: tuple[str, int]) -> None:
        done = given.out / f"{job[0].replace(' ', '-')}-{job[1]}" / "line.json"
        if not done.is_file():
            words = [
                sys.executable,
                __file__,
                str(given.weights),
                str(given.data),
                str(given.out),
                "--one",
                job[0],
                str(job[1]),
            ]
            with (given.out / f"{job[0].replace(' ', '-')}-{job[1]}.log").open("w") as log:
                subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, check=True)
            print(time.strftime("%H:%M:%S"), *job, flush=True)

    for seed in given.seeds:  # shared files are made before anything runs in parallel
        student(given.weights, seed, given.out)
    run(jobs[0])
    with ThreadPoolExecutor(given.workers) as pool:
        list(pool.map(run, jobs[1:]))
    lines = [(given.out / f"{arm.replace(' ', '-')}-{seed}" / "line.json").read_text() for arm, seed in jobs]
    (given.out / "runs.jsonl").write_text("\n".join(lines) + "\n")
    return None


if __name__ == "__main__":
    main()
