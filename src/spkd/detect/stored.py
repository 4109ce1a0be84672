"""Trained detection weights and the store: what a run holds as a file that ultralytics opens, a file kept as a run.

A training that begins with trained weights, or learns from them, names a run that holds them: its bundle does, too.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from spkd import atomic
from spkd.detect import networks
from spkd.detect.checks import preflight
from spkd.detect.plan import Job
from spkd.errors import SpkdError
from spkd.evidence import selection, tracking
from spkd.evidence.provenance import state_sha256
from spkd.evidence.reproduction import imported

BEST, TENSORS = "weights/best.pt", "model/weights.safetensors"
IMAGES = "data/train_images.txt"
RUN, BEGUN, RESTORED = "run:", "begun", "restored.pt"


def taken(reference: str, folder: Path) -> tuple[Path, str]:
    """(weights that ultralytics opens, id of the run that holds them) of run:<id>; made in `folder` of an imported one.

    Raises SpkdError where there is no such run, or it holds no detection weights.
    """
    run = selection.by_id(reference.removeprefix(RUN))
    selection.require(run, (selection.DETECTION, *selection.COPIES), "detect", "name another one")
    run_id = run.id
    if BEST in tracking.listing(run_id, "weights"):
        return tracking.artifact(run_id, BEST), run_id
    return networks.restored(tracking.artifact(run_id, TENSORS), folder / RESTORED), run_id


def begun(job: Job) -> Job:
    """The job with a file in its folder as `model` where that is run:<id>; a training that goes on needs no run."""
    if not job.model.startswith(RUN):
        return job
    folder = job.folder / BEGUN
    found = next(folder.glob("*.pt"), None)
    if found is None:
        weights, _ = taken(job.model, job.folder)
        network: Any = networks.load(weights)
        found = folder / Path(str(network.yaml.get("yaml_file", weights))).with_suffix(".pt").name
        with atomic.file(found) as new:
            shutil.copyfile(weights, new)
    return replace(job, model=str(found))


def lineage(job: Job, opened: tracking.Run) -> dict[str, str]:
    """Tags of a training that begins with trained weights: init.run_id, .sha256 (of the tensors), .weights (the file).

    {} where it begins from scratch. The job's model was opened before: a file that ultralytics fetches is there.
    """
    if not job.is_warm:
        return {}
    run_id, sha256, path = kept(job.model, job.folder, opened)
    return {"init.run_id": run_id, "init.sha256": sha256, "init.weights": path.name}


def learnt(report: preflight.Report, run_ids: list[str], opened: tracking.Run) -> None:
    """Note the images that a run learns from, and those of the runs that it builds on.

    Raises SpkdError where such a run learnt from images of `val`: results on them would be no test.
    """
    known = report.images("train")
    for run_id in run_ids:
        if IMAGES not in tracking.listing(run_id, str(Path(IMAGES).parent)):
            continue  # weights that came as a file, or of a run that noted none
        theirs = set(tracking.artifact(run_id, IMAGES).read_text("utf-8").splitlines())
        twice = sorted(theirs & report.images("val"))
        if twice and "val" not in report.same_as_train:
            got = f"{len(twice)} that run {run_id} learnt from ({twice[0].rpartition(' ')[0]}, ...)"
            do = "choose a run that did not see them, or other images for val"
            raise SpkdError(report.data_yaml, "images of val that no teacher and no first weights learnt from", got, do)
        known |= theirs
    opened.text("\n".join(sorted(known)) + "\n", IMAGES)


def kept(weights: str | Path, folder: Path, opened: tracking.Run) -> tuple[str, str, Path]:
    """(id of the run that holds the weights of a file, the hash of its tensors, where the file lies).

    A run that trained them is known by that hash, wherever their file lies; else they become a run of kind `imported`.
    folder: for the files of such a run until it is delivered.
    """
    network: Any = networks.load(weights)
    sha256, path = state_sha256(network.state_dict()), Path(str(network.pt_path))  # a bare name may lie elsewhere
    runs = tracking.find(tracking.finished({"kind": "detect", "weights.sha256": sha256}))
    made = next((run.id for run in runs if not run.repeats), None) or imported.found(sha256)
    if made is None:
        tensors = folder / "import.safetensors"
        networks.keep(network, tensors, task="detect")
        made = imported.kept(tensors, sha256, path.name, opened, folder / "import")
        tensors.unlink()
    return made, sha256, path
