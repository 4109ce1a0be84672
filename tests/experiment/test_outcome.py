"""What a finished run reports: which epoch stands behind which result."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from spkd.evidence.comparison import reading
from spkd.experiment import outcome, run_report
from spkd.training import step
from spkd.training.state import Epoch


def epoch(number, validation, test):
    return Epoch(number, 0.1, {}, 0.5, {"accuracy": validation}, {"accuracy": test}, 1.0, 1.0)


@pytest.mark.parametrize(("rule", "headline"), [("validation", 2), ("last", 3), ("paper", 1)])
def test_only_the_paper_rule_takes_its_headline_from_the_best_test_epoch(rule, headline):
    made = SimpleNamespace(settings=SimpleNamespace(train=SimpleNamespace(headline=rule)))
    history = [epoch(1, 0.5, 0.9), epoch(2, 0.7, 0.1), epoch(3, 0.7, 0.2)]
    found = {name: chosen.number for name, chosen in outcome.chosen(made, history).items()}
    assert found == {"validation": 2, "last": 3, "best": 1, "headline": headline}


@pytest.mark.parametrize(("rule", "headline"), [("last", 3), ("paper", 1)])
def test_where_nobody_validates_the_last_epoch_or_the_best_on_test_is_the_headline(rule, headline):
    made = SimpleNamespace(settings=SimpleNamespace(train=SimpleNamespace(headline=rule)))
    history = [replace(epoch(k, 0, test), validation={}) for k, test in ((1, 0.9), (2, 0.1), (3, 0.2))]
    found = {name: chosen.number for name, chosen in outcome.chosen(made, history).items()}
    assert found == {"last": 3, "best": 1, "headline": headline}


class Kept:
    """A run that keeps the tables it is given, as the store would."""

    def __init__(self):
        self.tables = {}

    def table(self, name, columns):
        self.tables[name] = {
            "columns": list(columns),
            "data": [list(row) for row in zip(*columns.values(), strict=True)],
        }

    def text(self, text, name):
        pass


def test_rows_of_the_confusion_matrix_are_the_truth_in_the_run_and_in_the_comparison(
    new_project, waves, tmp_path, monkeypatch
):
    made, run = new_project(tmp_path, waves).plan("teacher"), Kept()
    truth = made.windows.label[made.split.test]
    predicted = np.where(np.arange(len(truth)) % 2, truth, 0)  # class 0 is guessed too often
    monkeypatch.setattr(step, "predict", lambda *words: (predicted, 0.0))
    run_report.test_report(run, made, SimpleNamespace(test=None), "weights of epoch 1")
    counts = np.zeros((3, 3), dtype=int)
    for true, guessed in zip(truth, predicted, strict=True):
        counts[true, guessed] += 1
    assert (counts != counts.T).any()
    rows = [[name, *row] for name, row in zip("abc", counts.tolist(), strict=True)]
    assert run.tables["confusion"] == {"columns": ["true", "a", "b", "c"], "data": rows}
    classes, read = reading._confusion(run.tables["confusion"])
    assert classes == ["a", "b", "c"] and read.tolist() == counts.tolist()
    right = dict(
        zip(run.tables["predictions"]["columns"], zip(*run.tables["predictions"]["data"], strict=True), strict=True)
    )
    assert (right["true"], right["predicted"]) == (tuple(truth), tuple(predicted))


def test_figures_of_a_test_name_the_epoch_of_their_weights_and_the_headlines_where_it_is_another():
    assert run_report.of_epoch(4, 4) == "weights of epoch 4"
    assert run_report.of_epoch(4, 3) == "weights of epoch 4, headline of epoch 3"
