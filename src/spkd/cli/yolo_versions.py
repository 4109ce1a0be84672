"""What got better from YOLOv3 on: size, cost, head, latency side by side, as one table and plot in MLflow."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from spkd import plugin
from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ("yolo_versions", "run", "tracking")
POSITIONAL = ()
VALIDATION_BATCH = 16  # as ultralytics' own `val`: which images share a shape depends on it


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Build, describe and time every model in turns; validate those with weights."""
    from spkd import seeding
    from spkd.detect import data_yaml, evaluate, hardware, hermetic, networks, versions
    from spkd.evidence import provenance, tracking

    wanted, run = settings.yolo_versions, settings.run
    tracking.sweep(Path(run.folder))
    flags = seeding.set_flags(run.deterministic, run.tf32, run.threads)
    indices = hardware.device(run.device, "run.device")
    device = hardware.first(indices)
    for name in wanted.weights:
        data_yaml.read(Path(settings.detect.data))
        if name not in wanted.models:
            do = plugin.nearest(name, list(wanted.models))
            raise SpkdError("params.yaml: yolo_versions.weights", "keys that are in yolo_versions.models", name, do)
    keys = {n: f"yolo_versions.weights.{n}" if n in wanted.weights else "yolo_versions.models" for n in wanted.models}
    models = {name: networks.build(wanted.weights.get(name, name), key) for name, key in keys.items()}
    with tracking.open_run("yolo versions", Path(run.folder) / "yolo-versions", settings.tracking.experiment,
                           tags={"kind": "yolo-versions"}, fresh=True) as opened:  # fmt: skip
        opened.params({"yolo_versions": tree["yolo_versions"], "run": tree["run"]})
        environment, _ = provenance.tell(opened, flags)
        found = [versions.describe(n, m, wanted.imgsz, wanted.models[n]) for n, m in models.items()]
        times = versions.time_in_turns(models, wanted.imgsz, wanted.rounds, device)
        found = [replace(v, latency_ms=times[n][0], cpu_ms=times[n][1]) for v, n in zip(found, models, strict=True)]
        for place, name in enumerate(models):
            if name in wanted.weights:
                folder = opened.folder / "val" / Path(name).stem
                with hermetic.hushed():
                    result = evaluate.validate(Path(wanted.weights[name]), Path(settings.detect.data), folder,
                                               wanted.imgsz, VALIDATION_BATCH, indices, False, None, {})  # fmt: skip
                found[place] = replace(found[place], measured=result.numbers)
        table = versions.columns(found, found[0].name if "yolov8n.yaml" not in models else "yolov8n")
        opened.table("versions", table)
        opened.text(versions.markdown(table), "versions.md")
        machine = environment["cpu"] if device.type == "cpu" else environment["gpus"][int(indices)]["name"]
        opened.figure(versions.figure(found, machine, wanted.imgsz), "plots/accuracy_cost.png")
        for version in found:
            opened.metrics({f"latency_ms/{version.name}": version.median_ms}, step=0)
        how = f"Latency at {wanted.imgsz} px on {machine}, {wanted.rounds} rounds in turns, one image, no NMS."
        opened.note(f"{how}\n\n{versions.markdown(table)}")
    print(versions.markdown(table))
    return 0
