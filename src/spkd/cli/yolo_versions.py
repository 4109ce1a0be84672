"""What got better from YOLOv3 on: size, cost, head, latency side by side, as one table and plot in MLflow."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from spkd import plugin
from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = (
    "yolo_versions", "detect.data", "detect.annotations", "detect.preflight", "coco.source", "run.device",
    "run.threads", "run.deterministic", "run.tf32", "run.folder", "tracking.experiment",
)  # fmt: skip


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Build, describe and time every model in turns; validate those with weights."""
    from spkd import seeding
    from spkd.detect import evaluate, hardware, hermetic, networks, versions
    from spkd.detect.checks import preflight, truth
    from spkd.evidence import machine, provenance, tracking

    wanted, run = settings.yolo_versions, settings.run
    tracking.sweep(Path(run.folder))
    flags = seeding.set_flags(run.deterministic, run.tf32, run.threads)
    indices = hardware.device(run.device, "run.device")
    device = hardware.first(indices)
    print(machine.line(indices, run.device), flush=True)
    for name in wanted.weights:
        if name not in wanted.models:
            do = plugin.nearest(name, list(wanted.models))
            raise SpkdError("params.yaml: yolo_versions.weights", "keys that are in yolo_versions.models", name, do)
    keys = {n: f"yolo_versions.weights.{n}" if n in wanted.weights else "yolo_versions.models" for n in wanted.models}
    models = {name: networks.build(wanted.weights.get(name, name), key) for name, key in keys.items()}
    for name, model in models.items():
        networks.require_side(model, wanted.imgsz, f"yolo_versions.imgsz, of {name}")
    if wanted.weights:
        data = Path(settings.detect.data)
        report = preflight.check(data, truth.annotations(settings), settings.detect.preflight)
        report.require()
        for name in wanted.weights:
            versions.require_classes(models[name], report.names, f"params.yaml: {keys[name]}")
    box, tags = Path(run.folder) / "yolo-versions", {"kind": "yolo-versions"}
    with tracking.open_run("yolo versions", box, settings.tracking.experiment, tags=tags, fresh=True) as opened:
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
                                               wanted.imgsz, indices, False, None, {})  # fmt: skip
                found[place] = replace(found[place], measured=result.numbers)
        table = versions.columns(found, found[0].name if "yolov8n.yaml" not in models else "yolov8n")
        opened.table("versions", table)
        opened.text(versions.markdown(table), "versions.md")
        computer = environment["cpu"] if device.type == "cpu" else environment["gpus"][int(indices)]["name"]
        opened.figure(versions.figure(found, computer, wanted.imgsz), "plots/accuracy_cost.png")
        for version in found:
            opened.metrics({f"latency_ms/{version.name}": version.median_ms}, step=0)
        how = f"Latency at {wanted.imgsz} px on {computer}, {wanted.rounds} rounds in turns, one image, no NMS."
        opened.note(f"{how}\n\n{versions.markdown(table)}")
    tracking.forget(box)
    print(versions.markdown(table))
    return 0
