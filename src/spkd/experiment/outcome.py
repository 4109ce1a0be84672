"""What a finished run on recordings leaves in MLflow: results, test reports, cost, weights, description."""

import shlex
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from spkd.evidence import description, figures, provenance, tracking
from spkd.experiment import plan, record, student
from spkd.experiment.lineage import Ancestor
from spkd.experiment.plan import Plan
from spkd.training import cost, loop, metrics, step, weights

LATENCY_RUNS = 30
WEIGHTS = "weights.safetensors"


def ending(run: tracking.Run, made: Plan, task: step.Task, state: loop.State, teachers: list[Ancestor]) -> None:
    """Log everything that is known after the last epoch.

    The weights that are kept, and reported on, are those of the last epoch where that is the headline, and those of
    the epoch chosen on validation subjects otherwise: never those of the best test epoch.
    """
    epochs = chosen(made, state.history)
    last = made.settings.train.headline == "last"
    if not last:
        task.network.load_state_dict(state.chosen)
    kept = epochs["last" if last else "validation"]
    results(run, made, state, epochs)
    test_report(run, made, task)
    costs = measured_cost(made, task)
    run.metrics({f"cost/{name}": value for name, value in costs.items()}, made.settings.train.epochs)
    sha256 = provenance.state_sha256(task.network.state_dict())
    run.tags({"weights.sha256": sha256, "weights.epoch": kept.number})
    _keep_weights(run, made, task, sha256, teachers)
    run.note(description.description(_facts(run, made, epochs, teachers)))
    shown = epochs["headline"]
    numbers = f"accuracy {shown.test['accuracy']:.4f}, macro-F1 {shown.test['macro_f1']:.4f}"
    rule = record.HEADLINES[made.settings.train.headline]
    print(f"{plan.name(made)}: {numbers} (epoch {shown.number}; {rule}), run {run.id}", flush=True)


def chosen(made: Plan, history: list[loop.Epoch]) -> dict[str, loop.Epoch]:
    """The epoch behind each result: validation, last, best (on test), and the headline, which is one of them."""
    found = {
        "validation": loop.best_epoch(history, "validation"),
        "last": history[-1],
        "best": loop.best_epoch(history, "test"),
    }
    rule = made.settings.train.headline
    return {**found, "headline": found["best" if rule == "paper" else rule]}


def results(run: tracking.Run, made: Plan, state: loop.State, epochs: dict[str, loop.Epoch]) -> None:
    """Test accuracy and macro-F1 at the chosen epochs, the table of epochs, and the curves."""
    for name, epoch in epochs.items():
        numbers = {key: epoch.test[key] for key in ("accuracy", "macro_f1")}
        numbers |= {"val_accuracy": epoch.validation["accuracy"], "epoch": float(epoch.number)}
        run.metrics({f"{name}/{key}": value for key, value in numbers.items()}, made.settings.train.epochs)
    rows = [{"epoch": float(e.number), **record.epoch_metrics(e)} for e in state.history]
    run.table("epochs", {key: [row[key] for row in rows] for key in rows[0]})
    shown = [key for key in rows[0] if key.split("/")[0] in ("train", "val", "test", "loss")]
    history = {key: [(int(row["epoch"]), row[key]) for row in rows] for key in shown}
    run.text(figures.curves(history, plan.name(made), made.origin, epochs["headline"].number), "plots/curves.svg")


def test_report(run: tracking.Run, made: Plan, task: step.Task) -> None:
    """Confusion matrix, F1 of every class and accuracy of every subject, for the kept weights on the test subjects."""
    labels, subjects = plan.truth(made, made.split.test)
    predicted, _ = step.predict(task, task.test, made.settings.train.eval_batch)
    classes, names = made.windows.classes, made.windows.subjects
    title, origin = plan.name(made), made.origin
    counts = metrics.confusion(labels, predicted, len(classes))
    support = [int(n) for n in counts.sum(axis=1)]
    f1 = [float(v) for v in metrics.per_class_f1(labels, predicted, len(classes))]
    accuracy = {names[s]: v for s, v in metrics.per_subject_accuracy(labels, predicted, subjects).items()}
    windows = {names[s]: int((subjects == s).sum()) for s in np.unique(subjects)}
    run.text(figures.confusion(counts, classes, title, origin), "plots/confusion.svg")
    run.text(figures.class_bars(f1, support, classes, title, origin), "plots/f1.svg")
    run.text(figures.subject_bars(accuracy, windows, title, origin), "plots/subjects.svg")
    run.table("confusion", {"true": classes, **{c: counts[:, k].tolist() for k, c in enumerate(classes)}})
    run.table("per_class", {"class": classes, "f1": [v if np.isfinite(v) else None for v in f1], "windows": support})
    run.table(
        "per_subject",
        {"subject": list(accuracy), "accuracy": list(accuracy.values()), "windows": list(windows.values())},
    )
    run.table("predictions", {
        "row": made.split.test.tolist(), "subject": [names[s] for s in subjects],
        "true": labels.tolist(), "predicted": predicted.tolist(),
    })  # fmt: skip


@torch.no_grad()
def measured_cost(made: Plan, task: step.Task) -> dict[str, float]:
    """parameters, macs of one window, bytes of the weights, latency_ms (of one window, view included).

    latency_ms: the shortest of LATENCY_RUNS, since other programs lengthen a time and nothing shortens it. It stays a
    wall time of this machine at this moment.
    """
    row = task.test[:1]
    task.network.eval()
    seconds = []
    for _ in range(LATENCY_RUNS):
        started = time.perf_counter()
        rendered = task.render(task.windows.batch(row), row)
        task.network(rendered)
        if made.device.type == "cuda":
            torch.cuda.synchronize(made.device)
        seconds.append(time.perf_counter() - started)
    return {
        "parameters": cost.parameters(task.network),
        "macs": cost.macs(task.network, tuple(rendered.shape[1:])),
        "bytes": cost.state_bytes(task.network),
        "latency_ms": 1000 * min(seconds),
    }


def _keep_weights(run: tracking.Run, made: Plan, task: step.Task, sha256: str, teachers: list[Ancestor]) -> None:
    card, settings = student.card(made, teachers), made.settings
    path = run.folder / WEIGHTS
    weights.save(path, task.network, card)
    run.json(asdict(card), "model/card.json")
    name = f"{card.dataset}-{card.view}-{card.network}"
    registered = name if made.role == "teacher" and settings.tracking.register_ else None
    facts = {"sha256": sha256, "fold": settings.fold, "trial": settings.run.seed, "data.digest": card.data_digest}
    row = task.test[:1]
    shape = tuple(task.render(task.windows.batch(row), row).shape[1:])
    run.model(path, f"{name}-f{settings.fold}-t{settings.run.seed}", registered, facts, task.network, shape)


def _facts(run: tracking.Run, made: Plan, epochs: dict[str, loop.Epoch], teachers: list[Ancestor]) -> description.Facts:
    manifest, shown, code = made.windows.manifest, epochs["headline"], provenance.code(made.places.project)
    rows = [
        {"result": name, "epoch": e.number, "test accuracy": e.test["accuracy"], "test macro-F1": e.test["macro_f1"]}
        for name, e in epochs.items()
    ]
    data: dict[str, Any] = {
        "data set": f"{made.settings.dataset}, digest `{made.windows.digest}`",
        "window": f"{made.windows.length} samples at {made.windows.rate_hz:g} Hz, rule {manifest['rule']}",
        "test subjects": ", ".join(made.split.test_subjects),
        "validation subjects": ", ".join(made.split.validation_subjects),
        "scaling": made.scaling.rule,
    }
    return description.Facts(
        what=f"{record.kind(made)}: {made.model.network} on the {made.model.view} view",
        origin=str(manifest["origin"]),
        data=data,
        headline=f"accuracy {100 * shown.test['accuracy']:.2f} %, macro-F1 {100 * shown.test['macro_f1']:.2f} %",
        rule=record.HEADLINES[made.settings.train.headline],
        results=rows,
        command="python -m spkd " + shlex.join(sys.argv[1:]),
        commit=code["commit"],
        dirty=code["dirty"],
        experiment_id=run.experiment_id,
        teachers=[description.Teacher(t.name, t.run_id, t.sha256) for t in teachers],
    )
