"""A distilled detector is repeated from its bundle, on a store that knows neither it nor its teacher.

Both its teacher and its first weights are files.
"""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from spkd import config
from spkd.evidence import tracking
from spkd.evidence.reproduction import bundle, portable

REPO = Path(__file__).parents[2]
CHOSEN = {
    "detect.model": "start.pt", "detect.epochs": 1, "detect.batch": 4, "detect.imgsz": 64,
    "detect.annotations": {}, "detect.train": {"nbs": 4, "plots": False, "verbose": False}, "run.threads": 1,
    "detect.distill.method": "sp", "detect.distill.teacher": "teacher.pt",
}  # fmt: skip


@pytest.fixture
def checkout(tiny_set: Path, tiny_teacher: Path, tmp_path: Path) -> Path:
    """A commit with this code and settings; its data set and weights lie beside, in no commit."""
    folder = tmp_path / "checkout"
    shutil.copytree(REPO / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(tiny_set.parent, folder / "data" / "coco", ignore=shutil.ignore_patterns("*.cache"))
    tree = config.read(REPO / "params.yaml")
    for key, value in CHOSEN.items():
        config.put(tree, key, value, "test")
    (folder / "params.yaml").write_text(config.dump(tree))
    (folder / "requirements.lock").write_text(f"numpy=={metadata.version('numpy')}\n")
    (folder / ".gitignore").write_text("/data/\n/runs/\n/*.pt\n__pycache__/\n")
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    from ultralytics import YOLO

    shutil.copy(tiny_teacher, folder / "teacher.pt")
    start = YOLO(tiny_teacher)
    start.model.model[0].conv.weight.data *= 0.5
    start.save(folder / "start.pt")
    return folder


def spkd(folder: Path, store: Path, *words: str) -> str:
    """What a command prints in a folder, on a store of its own."""
    own = {"MLFLOW_TRACKING_URI": f"sqlite:///{store}", "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "spkd", *words], cwd=folder, env=os.environ | own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_a_distilled_detector_is_repeated_from_its_bundle(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    spkd(checkout, here, "detect")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}")
    (student,) = tracking.find("tags.`distill.method` = 'sp' AND attributes.status = 'FINISHED'")
    portable.gather(student.id, checkout, tmp_path / "student")
    bundle.pack(tmp_path / "student", tmp_path / "student.zip")
    shutil.rmtree(checkout / "runs", ignore_errors=True)
    for name in ("start.pt", "teacher.pt"):  # their tensors are in the bundle, and no consent is needed for those
        (checkout / name).unlink()
    said = spkd(checkout, there, "reproduce", str(tmp_path / "student.zip"))
    assert "identical (level 1): the same bits in the weights, the same numbers" in said
