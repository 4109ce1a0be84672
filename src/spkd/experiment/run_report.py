"""What the page of a finished run on recordings shows: curves, test reports, cost, description.

It tells what outcome.py decided and changes none of it: source.py leaves this file out of a run's code.
"""

import shlex
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from spkd import config, plugin
from spkd.data import disturb
from spkd.evidence import figures, simulated, tracking
from spkd.experiment import plan, record
from spkd.experiment.lineage import Ancestor
from spkd.experiment.plan import Plan
from spkd.training import cost, metrics, step
from spkd.training.state import Epoch

LATENCY_RUNS = 30
RESULTS = {"validation": "chosen on validation subjects", "last": "last epoch", "best": "best on TEST: optimistic"}


def report(
    run: tracking.Run, made: Plan, task: step.Task, history: list[Epoch], epochs: dict[str, Epoch],
    kept: Epoch,
) -> None:  # fmt: skip
    """Curves, the test report of the task's network, which holds the weights of the kept epoch by now, and its cost."""
    curves(run, made, history, epochs["headline"].number)
    test_report(run, made, task, of_epoch(kept.number, epochs["headline"].number))
    costs = measured_cost(made, task)
    run.metrics({f"cost/{name}": value for name, value in costs.items()}, made.settings.train.epochs)


def describe(
    run: tracking.Run, made: Plan, epochs: dict[str, Epoch], teachers: list[Ancestor], code: dict[str, Any]
) -> None:
    """The description on the run's page, and its headline as a line here. code: that the run began with."""
    run.note(page(made, epochs, teachers, code, run.experiment_id))
    shown = epochs["headline"]
    numbers = f"accuracy {shown.test['accuracy']:.4f}, macro-F1 {shown.test['macro_f1']:.4f}"
    rule = record.HEADLINES[made.settings.train.headline]
    print(f"{plan.name(made)}: {numbers} (epoch {shown.number}; {rule}), run {run.id}", flush=True)


def curves(run: tracking.Run, made: Plan, history: list[Epoch], headline: int) -> None:
    """The table of epochs and their curves. headline: number of the epoch that is marked."""
    rows = [{"epoch": float(e.number), **record.epoch_metrics(e)} for e in history]
    run.table("epochs", {key: [row[key] for row in rows] for key in rows[0]})
    series = {name: [(int(row["epoch"]), row[key]) for row in rows] for key, name in drawn(rows[0]).items()}
    run.text(figures.curves(series, plan.name(made), made.origin, headline), "plots/curves.svg")


def drawn(metrics: Iterable[str]) -> dict[str, str]:
    """{metric: its name in the figure of curves, where what follows the split names a plot} of those that are drawn.

    A student's training loss is the whole objective, but val/loss and test/loss are its cross entropy alone: that of
    training stands beside them. Without a teacher there is nothing else, and no plot of it.
    """
    found = {key: key for key in metrics if key.split("/")[0] in ("train", "val", "test", "loss")}
    found |= {key: f"{key.split('/')[0]}/cross entropy" for key in ("val/loss", "test/loss") if key in found}
    found |= {"train/loss": "train/objective", "loss/cross_entropy": "train/cross entropy"}
    if sum(key.startswith("loss/") for key in found) == 1:
        del found["train/loss"]
    return found


def of_epoch(kept: int, headline: int) -> str:
    """Which weights the figures of a test are of: not always those of the headline."""
    return f"weights of epoch {kept}" + (f", headline of epoch {headline}" if headline != kept else "")


def test_report(run: tracking.Run, made: Plan, task: step.Task, whose: str) -> None:
    """Confusion matrix, F1 of every class and accuracy of every subject, for the kept weights on the test subjects."""
    labels, subjects = (np.asarray(a)[made.split.test] for a in (made.windows.label, made.windows.subject))
    predicted, _ = step.predict(task, task.test, made.settings.train.eval_batch)
    classes, names = made.windows.classes, made.windows.subjects
    title, origin = f"{plan.name(made)}, {whose}", made.origin
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
    wall time of this machine at this moment. What a view stores of the window is computed anew: whoever uses the
    network on a new window has to.
    """
    row, prepare = task.test[:1], _prepares(made)
    task.network.eval()
    seconds = []
    for _ in range(LATENCY_RUNS):
        started = time.perf_counter()
        prepare()
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


def _prepares(made: Plan) -> Callable[[], object]:
    """What computes of the first test window what the network's view stores; nothing where it stores nothing."""
    view = plugin.load("views", made.model.view)
    if not hasattr(view, "prepare"):
        return lambda: None
    rows, settings = made.split.test[:1], config.part("views", made.model.view, made.raw)
    window = disturb.as_set(made.windows.windows(rows), made.windows, rows)
    return lambda: view.prepare(window, settings)


def page(
    made: Plan, epochs: dict[str, Epoch], teachers: list[Ancestor], code: dict[str, Any], experiment_id: str
) -> str:
    """The markdown on a run's page: what ran, on what, what came out and by which rule, and how to do it again.

    experiment_id: for links to the teachers' runs.
    """
    shown, rule = epochs["headline"].test, record.HEADLINES[made.settings.train.headline]
    rows = [
        f"| {RESULTS.get(n, n)} | {e.number} | {e.test['accuracy']:.4f} | {e.test['macro_f1']:.4f} |"
        for n, e in epochs.items()
    ]
    data = {
        "origin": made.origin,
        "data set": f"{made.settings.dataset}, digest `{made.windows.digest}`",
        "window": f"{made.windows.length} samples at {made.windows.rate_hz:g} Hz, rule {made.windows.manifest['rule']}",
        "test subjects": ", ".join(made.split.test_subjects),
        "validation subjects": ", ".join(made.split.validation_subjects) or "none",
        "scaling": made.scaling.rule,
    }
    linked = [
        f"- {t.name}: [{t.run_id}](#/experiments/{experiment_id}/runs/{t.run_id}), weights sha256 `{t.sha256[:16]}`"
        for t in teachers
    ]
    again = ["```", f"git checkout {code['commit']}"]
    if code["dirty"]:
        again.append("git apply code.patch    # an artifact of this run: the working tree was not clean")
    again += ["dvc repro", "python -m spkd " + shlex.join(sys.argv[1:]), "```"]
    parts = [
        f"{record.kind(made)}: {made.model.network} on the {made.model.view} view",
        *([simulated.NOTE] if made.origin == simulated.ORIGIN else []),
        f"**accuracy {100 * shown['accuracy']:.2f} %, macro-F1 {100 * shown['macro_f1']:.2f} %** ({rule})",
        "\n".join(["| result | epoch | test accuracy | test macro-F1 |", "|---|---|---|---|", *rows]),
        "\n".join(["### Data", *(f"- {key}: {value}" for key, value in data.items())]),
        *(["\n".join(["### Teachers", *linked])] if linked else []),
        "\n".join(["### How to repeat it", *again]),
    ]
    return "\n\n".join(parts) + "\n"
