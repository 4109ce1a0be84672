"""A trained run, tested again: undisturbed it is what it was, and its card alone says how its input is made."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from spkd.cli import robustness as command
from spkd.data import arrays, disturb, prepared, windowset
from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.tracking import store
from spkd.evidence.tracking.reading import get
from spkd.experiment import robustness
from spkd.views import persistence

LEVELS = {"noise": [0.5], "channels": [1.0]}


def loaded(trained, run_id):
    return robustness.load(get(run_id), trained.folder, trained.folder / "robust", torch.device("cpu"))


@pytest.fixture(scope="module")
def candidate(trained):
    return loaded(trained, trained.student)


def test_level_zero_is_the_recorded_accuracy_and_the_recorded_predictions(trained, candidate):
    result = next(robustness.measure(candidate, LEVELS, 1, 0))
    assert result.level == 0
    assert result.accuracy == result.recorded == candidate.run.metrics["validation/accuracy"]
    table = json.loads(tracking.artifact(trained.student, "predictions.json").read_text("utf-8"))
    columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    assert list(columns["row"]) == candidate.rows.tolist()
    clean = disturb.as_set(candidate.windows.windows(candidate.rows), candidate.windows, candidate.rows)
    assert list(columns["predicted"]) == robustness.predict(candidate, clean).tolist()


@pytest.mark.parametrize("view", ["gaf", "persistence"])
def test_level_zero_is_the_recorded_accuracy_of_an_image_view_too(trained, view):
    folder = trained.folder / "data" / "views" / "chest" / view
    if view == "persistence":
        windows = windowset.load(trained.folder / "data" / "windows" / "chest")
        settings = persistence.Settings(**trained.settings()[1]["views"]["persistence"])
        prepared.save(folder, windows, persistence.prepare(windows, settings), view, settings.model_dump())
    run_id = trained.train("teacher", teacher__view=view, train__epochs=1, views__persistence__size=16)
    if view == "persistence":
        before = arrays.load(folder, "")[0]["points"].copy()
    own = loaded(trained, run_id)
    clean, disturbed = robustness.measure(own, {"noise": [2.0]}, 1, 0)
    assert clean.accuracy == clean.recorded == own.run.metrics["headline/accuracy"]
    if view == "persistence":
        assert (arrays.load(folder, "")[0]["points"] == before).all()


def test_persistence_diagrams_are_those_of_the_disturbed_windows(trained, candidate, monkeypatch):
    """The stored ones would make a persistence network look immune to everything."""
    seen = []
    original = persistence.prepare
    monkeypatch.setattr(
        persistence, "prepare", lambda w, s: seen.append(w.windows(np.arange(len(w)))) or original(w, s)
    )
    card = replace(candidate.card, view="persistence", view_settings=trained.settings()[1]["views"]["persistence"])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    own = replace(candidate, card=card, network=network)
    windows = own.windows.windows(own.rows) + 1.5
    network(torch.zeros(1, 2, 64, 64))
    robustness.predict(own, disturb.as_set(windows, own.windows, own.rows))
    assert (seen[0] == windows).all()


def test_every_run_meets_the_same_disturbances_and_no_two_of_them_are_alike(trained, candidate, monkeypatch):
    drawn = []

    def recording(kind):
        def disturbance(windows, mean, std, level, rng):
            drawn.append((kind, level, rng.random(4).tolist()))
            return windows.copy()

        return disturbance

    for kind in disturb.KINDS:
        monkeypatch.setitem(disturb.KINDS, kind, recording(kind))
    both = [candidate, loaded(trained, trained.scratch)]
    levels = {"noise": [0.1, 0.2], "channels": [0.1]}
    results = [result for own in both for result in robustness.measure(own, levels, 2, 0)]
    ours, theirs = drawn[:7], drawn[7:]
    assert [(kind, level) for kind, level, _ in ours] == [
        ("noise", 0.0), *[("noise", 0.1)] * 2, *[("noise", 0.2)] * 2, *[("channels", 0.1)] * 2
    ]  # fmt: skip
    assert ours == theirs
    assert len({tuple(numbers) for _, _, numbers in ours}) == 7
    wanted = [("noise", 0.0, 0), ("noise", 0.1, 0), ("noise", 0.1, 1), ("noise", 0.2, 0), ("noise", 0.2, 1)]
    wanted += [("channels", 0.0, 0), ("channels", 0.1, 0), ("channels", 0.1, 1)]
    names = [(r.run.id, r.kind, r.level, r.draw) for r in results]
    assert names == [(own.run.id, *place) for own in both for place in wanted]


def test_a_network_without_any_channel_says_one_class(candidate):
    *_, blind = robustness.measure(candidate, {"channels": [1.0]}, 1, 0)
    labels = np.asarray(candidate.windows.label)[candidate.rows]
    assert blind.accuracy in (np.bincount(labels) / len(labels)).tolist()


def test_a_channel_that_stood_still_in_training_gets_no_noise(candidate, monkeypatch):
    """Its standard deviation is 0; the 1 in its place only keeps the scaling from a division by 0."""
    given = []
    monkeypatch.setitem(disturb.KINDS, "noise", lambda windows, mean, std, *_: given.append(std) or windows)
    own = replace(candidate.statistics, std=np.array([[1.0, 1.0]]), constant=["y"])
    list(robustness.measure(replace(candidate, statistics=own), {"noise": []}, 1, 0))
    assert given[0].tolist() == [[1.0, 0.0]] * len(candidate.rows)


def test_the_cards_own_scaling_is_used(candidate):
    """A network read with other statistics gives another answer: the numbers come from the card, not from the data."""
    wrong = replace(candidate, statistics=replace(candidate.statistics, mean=candidate.statistics.mean + 3.0))
    clean = disturb.as_set(candidate.windows.windows(candidate.rows), candidate.windows, candidate.rows)
    right, other = (robustness.predict(c, clean).tolist() for c in (candidate, wrong))
    assert right != other


def test_windows_of_another_digest_are_refused_with_the_command(trained, tmp_path, waves):
    manifest = {**windowset.load(trained.folder / "data" / "windows" / "chest").manifest, "step": 7}
    windowset.build(vars(waves), manifest).save(tmp_path / "data" / "windows" / "chest")
    with pytest.raises(SpkdError, match="dvc repro windows@chest"):
        robustness.load(get(trained.student), tmp_path, tmp_path / "w", torch.device("cpu"))


def test_the_kept_weights_of_the_last_epoch_have_the_accuracy_of_the_last_epoch(candidate):
    run = replace(candidate.run, tags={**candidate.run.tags, "weights.epoch": "3"})
    run = replace(run, metrics={**run.metrics, "validation/epoch": 2.0, "last/accuracy": 0.123})
    assert robustness.recorded(run) == 0.123
    alone = replace(run, tags={**run.tags, "validation_subjects": "none"}, metrics={"last/accuracy": 0.5})
    assert robustness.recorded(alone) == 0.5


def test_the_command_leaves_curves_table_and_markdown(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained.folder)
    small = {f"robustness__{kind}": [0.5] for kind in disturb.KINDS}
    runs = f"{trained.student},{trained.scratch}"
    settings, tree = trained.settings(robustness__runs=runs, robustness__draws=2, **small)
    assert command.main([], settings, tree) == 0
    out = capsys.readouterr().out
    assert "Simulated data" in out and "± " in out
    assert not (trained.places.runs / "robustness").exists()
    run = tracking.find("tags.kind = 'robustness'")[0]
    assert run.tags["tested"] == f"{trained.student} {trained.scratch}"
    table = json.loads(tracking.artifact(run.id, "robustness.json").read_text("utf-8"))
    assert table["columns"] == ["run", "id", "disturbance", "level", "draw", "accuracy", "macro_f1", "recorded"]
    assert len(table["data"]) == 2 * 4 * (1 + 2)
    assert all(row[5] == row[7] for row in table["data"] if row[3] == 0)
    assert tracking.artifact(run.id, "plots/robustness.svg").read_text("utf-8").count('class="chart"') == 4
    text = tracking.artifact(run.id, "robustness.md").read_text("utf-8")
    assert "| recorded |" in text and "are those of the scaling: subject.\n" in text


def test_a_run_that_cannot_be_tested_is_said_and_the_others_are_logged(trained, monkeypatch, capsys, tmp_path):
    with tracking.open_run("empty", tmp_path / "empty", "spkd", tags={"kind": "student"}) as empty:
        pass
    monkeypatch.chdir(trained.folder)
    small = {f"robustness__{kind}": [0.5] for kind in disturb.KINDS}
    before = {run.id for run in tracking.find("tags.kind = 'robustness'")}
    try:
        for runs, status in ((f"{empty.id},{trained.scratch}", 1), (empty.id, 1), (trained.scratch, 0)):
            settings, tree = trained.settings(robustness__runs=runs, robustness__draws=1, **small)
            assert command.main([], settings, tree) == status
            assert ("empty is left out" in capsys.readouterr().err) == (empty.id in runs)
    finally:
        store.client().delete_run(empty.id)
    new = [run for run in tracking.find("tags.kind = 'robustness'") if run.id not in before]
    assert [run.tags["tested"] for run in new] == [trained.scratch, trained.scratch]


def test_a_run_that_recorded_another_accuracy_than_its_weights_have_is_said(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained.folder)
    small = {f"robustness__{kind}": [0.5] for kind in disturb.KINDS}
    settings, tree = trained.settings(robustness__runs=trained.scratch, robustness__draws=1, **small)
    found, n = robustness.recorded(get(trained.scratch)), 24
    for shift, status in ((0.0, 0), (1 / n, 0), (3 / n, 1)):
        monkeypatch.setattr(robustness, "recorded", lambda run, shift=shift: found + shift)
        assert command.main([], settings, tree) == status
        told = capsys.readouterr().err
        assert (f"{robustness.ODD}: " in told) == (status == 1)
        run = tracking.find("tags.kind = 'robustness'")[0]
        assert (robustness.ODD in tracking.artifact(run.id, "robustness.md").read_text("utf-8")) == (status == 1)


@pytest.mark.parametrize("n", [50, 100, 173, 500])
def test_two_windows_are_no_difference_and_three_are_one_whatever_their_rounding(n):
    assert not any(robustness.differ((k - 2) / n, k / n, n) for k in range(2, n + 1))
    assert all(robustness.differ((k - 3) / n, k / n, n) for k in range(3, n + 1))
    assert not robustness.differ(0.5, 0.502, 10_000) and robustness.differ(0.5, 0.5021, 10_000)


def test_a_detector_that_is_named_is_said_to_be_on_no_recordings(trained, monkeypatch, capsys, tmp_path):
    with tracking.open_run("boxes", tmp_path / "boxes", "spkd", tags={"kind": "detect"}) as detector:
        pass
    monkeypatch.chdir(trained.folder)
    try:
        assert command.main([], *trained.settings(robustness__runs=detector.id)) == 1
    finally:
        store.client().delete_run(detector.id)
    out = capsys.readouterr().out
    assert "0 of 1 runs are on recordings" in out and "no finished runs" not in out
    assert command.main([], *trained.settings(fold=3)) == 1
    assert "no finished runs of chest, fold 3" in capsys.readouterr().out


def test_a_stopped_call_goes_on_behind_the_runs_it_had_tested(trained, monkeypatch):
    monkeypatch.chdir(trained.folder)
    small = {f"robustness__{kind}": [0.5] for kind in disturb.KINDS}
    runs = f"{trained.student},{trained.scratch}"
    measured, original = [], robustness.measure

    def stopping(own, levels, draws, seed):
        measured.append(own.run.id)
        if len(measured) == 2:
            raise KeyboardInterrupt
        yield from original(own, levels, draws, seed)

    def call(**changes):
        return command.main([], *trained.settings(robustness__runs=runs, robustness__draws=1, **small, **changes))

    monkeypatch.setattr(robustness, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert call() == 0
    assert measured == [trained.student, trained.scratch, trained.scratch]
    found = tracking.artifact(tracking.find("tags.kind = 'robustness'")[0].id, "robustness.json").read_text("utf-8")
    assert call() == 0  # nothing is kept of a call that came to its end
    assert measured[3:] == [trained.student, trained.scratch]
    again = tracking.artifact(tracking.find("tags.kind = 'robustness'")[0].id, "robustness.json").read_text("utf-8")
    assert again == found
    measured.clear()
    with pytest.raises(KeyboardInterrupt):
        call()
    assert call(run__seed=1) == 0  # other settings: from the beginning
    assert measured == 2 * [trained.student, trained.scratch]


def test_a_run_without_a_result_is_an_error_that_names_what_is_missing(trained):
    run = get(trained.student)
    metrics = {key: value for key, value in run.metrics.items() if not key.startswith("validation/")}
    for broken, missing in (
        (replace(run, metrics=metrics), "validation/epoch"),
        (replace(run, params={}), "eval_batch"),
    ):
        with pytest.raises(SpkdError, match=missing):
            robustness.load(broken, trained.folder, trained.folder / "robust", torch.device("cpu"))


def test_names_that_occur_twice_get_their_id():
    ids = ["a" * 32, "b" * 32, "c" * 32]
    assert list(robustness.unique(["x", "x", "y"], ids).values()) == ["x aaaaaaaa", "x bbbbbbbb", "y"]
