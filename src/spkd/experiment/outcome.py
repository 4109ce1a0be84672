"""What a finished run on recordings comes to: the epoch of each result, and the weights that it keeps.

Every number of a table is decided here or before; what the run's page shows besides is run_report's.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from spkd.evidence import provenance, tracking
from spkd.experiment import run_report, student
from spkd.experiment.lineage import WEIGHTS, Ancestor
from spkd.experiment.plan import Plan
from spkd.training import step, weights
from spkd.training.state import Epoch, State, best_epoch
from spkd.training.weights import Card


def ending(
    run: tracking.Run, made: Plan, task: step.Task, state: State, teachers: list[Ancestor], scratch: Ancestor | None,
    code: dict[str, Any],
) -> None:  # fmt: skip
    """Log everything that is known after the last epoch.

    scratch: the student that it started from. code: what record.beginning returned.

    The weights that are kept, and reported on, are those of the last epoch where that is the headline or no subjects
    validate, and those of the epoch chosen on validation subjects otherwise: never those of the best test epoch.
    """
    epochs = chosen(made, state.history)
    last = made.settings.train.headline == "last" or "validation" not in epochs
    if not last:
        task.network.load_state_dict(state.chosen)
    kept = epochs["last" if last else "validation"]
    results(run, made, epochs)
    sha256 = provenance.state_sha256(task.network.state_dict())
    run.tags({"weights.sha256": sha256, "weights.epoch": kept.number})
    run_report.report(run, made, task, state.history, epochs, kept)
    _keep_weights(run, made, task, sha256, student.card(made, teachers, scratch))
    run_report.describe(run, made, epochs, teachers, code)


def chosen(made: Plan, history: list[Epoch]) -> dict[str, Epoch]:
    """The epoch behind each result: validation (where subjects validate), last, best (on test), and the headline."""
    found = {"validation": best_epoch(history, "validation")} if history[-1].validation else {}
    found |= {"last": history[-1], "best": best_epoch(history, "test")}
    rule = made.settings.train.headline
    return {**found, "headline": found["best" if rule == "paper" else rule]}


def results(run: tracking.Run, made: Plan, epochs: dict[str, Epoch]) -> None:
    """Accuracy and macro-F1 on test subjects, and accuracy on validation subjects if any, at the chosen epochs."""
    for name, epoch in epochs.items():
        numbers = {key: epoch.test[key] for key in ("accuracy", "macro_f1")}
        numbers |= {"val_accuracy": epoch.validation["accuracy"]} if epoch.validation else {}
        numbers |= {"epoch": float(epoch.number)}
        run.metrics({f"{name}/{key}": value for key, value in numbers.items()}, made.settings.train.epochs)


def _keep_weights(run: tracking.Run, made: Plan, task: step.Task, sha256: str, card: Card) -> None:
    settings = made.settings
    path = run.folder / Path(WEIGHTS).name
    weights.save(path, task.network, card)
    told = asdict(card)
    run.json(told, "model/card.json")
    name = f"{card.dataset}-{card.view}-{card.network}"
    registered = name if made.role == "teacher" and settings.tracking.register_ else None
    facts = {"sha256": sha256, "fold": settings.fold, "trial": settings.run.seed, "data.digest": card.data_digest}
    row = task.test[:1]
    shape = tuple(task.render(task.windows.batch(row), row).shape[1:])
    run.model(path, f"{name}-f{settings.fold}-t{settings.run.seed}", registered, facts, task.network, shape, told)
