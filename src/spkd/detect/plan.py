"""What one detection run does: ultralytics' arguments, and what our trainer adds to them. Values only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spkd.settings import Preflight

LEVELS = 3  # of the head's inputs: P3, P4, P5


@dataclass(frozen=True)
class Plan:
    """What our trainer does beyond ultralytics' arguments.

    teacher: path of weights, "" = none. threads: CPU threads, 0 = those that the process has.
    maps_every: epochs between similarity maps. tf32: as seeding.set_flags takes it.
    """

    method: str
    teacher: str
    levels: tuple[str, ...]
    mode: str
    gain: float
    max_objects: int
    threads: int
    probe_images: int
    probe_objects: int
    maps_every: int
    tf32: bool


@dataclass(frozen=True)
class Job:
    """One training run.

    folder: its work folder; one that holds an unfinished training of the same job is continued. data: data.yaml.
    annotations: COCO JSON per split, {} = none. device: "cpu", "0", "0,1". extra: more ultralytics arguments, checked.
    model: a path or name that ultralytics loads.
    """

    folder: Path
    data: Path
    annotations: dict[str, Path]
    model: str
    epochs: int
    batch: int
    imgsz: int
    device: str
    workers: int
    seed: int
    deterministic: bool
    dis: float
    extra: dict[str, Any]
    limits: Preflight
    plan: Plan

    @property
    def data_name(self) -> str:
        """What the data set is called: the folder of its data.yaml."""
        return self.data.parent.name or "data"

    def title(self, teacher: str) -> str:
        """What the run is, in one line. teacher: the network that it learns from, if from any.

        A model that begins with trained weights is named with their file, SP's levels where they are not all.
        """
        levels = "" if len(self.plan.levels) == LEVELS else f" {'+'.join(self.plan.levels)}"
        sp = f" <- {teacher} sp {self.plan.mode}{levels}"
        how = {"none": "", "builtin": f" <- {teacher} builtin", "sp": sp}[self.plan.method]
        begins = f" (from {Path(self.model).name})" if self.is_warm else ""
        return f"{Path(self.model).stem}{begins}{how} {self.data_name} t{self.seed}"

    @property
    def is_warm(self) -> bool:
        """Whether training begins with trained weights, not from scratch."""
        return self.model.endswith(".pt")

    @property
    def train_folder(self) -> Path:
        """Where ultralytics writes."""
        return self.folder / "train"

    def overrides(self) -> dict[str, Any]:
        """The arguments of ultralytics' trainer."""
        distill = {"distill_model": self.plan.teacher, "dis": self.dis} if self.plan.method == "builtin" else {}
        return {
            **self.extra,
            **distill,
            "task": "detect",
            "mode": "train",
            "model": self.model,
            "data": str(self.data),
            "epochs": self.epochs,
            "batch": self.batch,
            "imgsz": self.imgsz,
            "device": self.device,
            "workers": self.workers,
            "seed": self.seed,
            "deterministic": self.deterministic,
            "save_dir": str(self.train_folder),
            "exist_ok": True,
        }
