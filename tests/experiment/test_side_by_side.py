from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.tracking.reading import get
from spkd.experiment import har, side_by_side
from spkd.experiment.har import Wanted
from spkd.experiment.side_by_side import train_many
from spkd.training import cost


@pytest.fixture
def wanted(trained, tmp_path):
    """wanted(**overrides) -> a student of the project's own teacher."""
    teacher = get(trained.student).tags["teacher.signal-wrn16-1.run_id"]

    def make(folder="", **overrides):
        places, ancestors = replace(trained.places, runs=tmp_path), {"signal:wrn16-1": teacher}
        return Wanted("student", *trained.settings(**overrides), places, folder=folder, ancestors=ancestors)

    return make


NUMBERS = ("headline/accuracy", "headline/epoch", "last/macro_f1", "cost/parameters")


def test_runs_side_by_side_leave_what_they_leave_alone(trained, wanted):
    ids = train_many([wanted(), wanted(distill__teachers=[])])
    for beside, alone in zip(map(get, ids), map(get, (trained.student, trained.scratch)), strict=True):
        assert beside.status == "FINISHED"
        assert beside.name == alone.name
        assert beside.tags["side_by_side"] == "2"
        assert beside.tags["weights.initial_sha256"] == alone.tags["weights.initial_sha256"]
        same = ("fingerprint", "kind", "weights.epoch", "first_step.rows_sha256", "teachers")
        assert [beside.tags[t] for t in same] == [alone.tags[t] for t in same]
        assert beside.metrics.keys() == alone.metrics.keys()
        assert [beside.metrics[m] for m in NUMBERS] == [alone.metrics[m] for m in NUMBERS]
        assert beside.tags["weights.sha256"] == alone.tags["weights.sha256"]
        for name in ("train/loss", "val/loss", "lr"):
            ours, theirs = (tracking.history(run.id, name) for run in (beside, alone))
            assert [step for step, _ in ours] == [1, 2, 3]
            assert ours == theirs


def test_runs_of_one_teacher_and_fold_share_its_answers(trained, wanted):
    ids = train_many([wanted("first"), wanted("second", run__seed=1)])
    how = [get(run_id).tags["teacher.signal-wrn16-1.answers"] for run_id in ids]
    assert how[0].startswith("once (one pass)")
    assert how[1] == "once, for a run beside this one as well"
    alone = har.train(wanted("alone", run__seed=1))
    assert get(alone).tags["weights.sha256"] == get(ids[1]).tags["weights.sha256"]


def test_runs_of_one_fold_share_the_scaled_signal_and_those_of_another_scale_their_own(trained, wanted, monkeypatch):
    scaled, on_device = [], side_by_side.plan.on_device

    def counted(made, statistics):
        scaled.append(made.settings.fold)
        return on_device(made, statistics)

    monkeypatch.setattr(side_by_side.plan, "on_device", counted)
    changes = {"distill__teachers": [], "train__windows_gib": 0.0, "datasets__chest__scaling": "training"}
    ids = train_many([wanted("a", **changes), wanted("b", run__seed=1, **changes), wanted("c", fold=1, **changes)])
    assert scaled == [0, 1]
    alone = [har.train(wanted(name, run__seed=seed, **changes)) for name, seed in (("d", 0), ("e", 1))]
    assert [get(k).tags["weights.sha256"] for k in ids[:2]] == [get(k).tags["weights.sha256"] for k in alone]


@pytest.mark.parametrize(
    ("device", "gib", "changes", "most"),
    [
        ("cpu", 0, {}, 1), ("cuda", 79, {}, 14), ("cuda", 79, {"table.workers": 1}, 28), ("cuda", 4, {}, 1),
        ("cuda", 79, {"table.executor": "ray"}, 1), ("cpu", 0, {"table.side_by_side": 5}, 5),
    ],
)  # fmt: skip
def test_a_worker_takes_as_many_runs_at_once_as_suit_the_device(trained, monkeypatch, device, gib, changes, most):
    settings, _ = trained.settings(**changes)
    monkeypatch.setattr(side_by_side.plan, "device", lambda name: torch.device(device))
    memory = SimpleNamespace(total_memory=gib * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    assert side_by_side.most(settings) == most


@pytest.mark.parametrize(
    ("free", "begins", "steps", "workers", "expected"),
    [
        (0, [], [], 1, True),  # the first one may always try
        (60, [40], [10], 1, True),  # 40 for the next fold's answers, 10 for each one's steps
        (59, [40], [10], 1, False),
        (60, [40], [10], 2, False),  # the other worker's steps need as much
        (50, [40, 0, 0], [5, 1, 1], 1, False),  # 40 and 5 + 1 + 1 + 5
        (52, [40, 0, 0], [5, 1, 1], 1, True),
    ],
)
def test_a_further_run_begins_where_the_dearest_one_would_find_room(free, begins, steps, workers, expected):
    assert side_by_side.fits(free, begins, steps, workers) is expected


def test_runs_that_do_not_fit_together_are_trained_one_after_the_other(trained, wanted, monkeypatch):
    asked = []

    def fits(free, begins, steps, workers):
        asked.append((free > 0, len(begins), [n > cost.STEP_BYTES for n in steps], workers))
        return not begins

    monkeypatch.setattr(side_by_side, "fits", fits)
    ids = train_many([wanted(), wanted(distill__teachers=[])])
    workers = trained.settings()[0].table.workers
    assert asked == [(True, 0, [], workers), (True, 1, [True], workers), (True, 0, [], workers)]
    assert [get(run_id).tags["side_by_side"] for run_id in ids] == ["1", "1"]
    for run_id, alone in zip(ids, (trained.student, trained.scratch), strict=True):
        assert get(run_id).tags["weights.sha256"] == get(alone).tags["weights.sha256"]


def test_no_more_runs_are_trained_at_once_than_torch_has_streams(trained, wanted, monkeypatch):
    monkeypatch.setattr(side_by_side, "MOST", 2)
    ids = train_many([wanted(name, run__seed=k, distill__teachers=[]) for k, name in enumerate("abc")])
    assert [get(run_id).tags["side_by_side"] for run_id in ids] == ["2", "2", "1"]


def test_a_run_that_fails_before_or_while_training_leaves_the_others_alone(trained, wanted):
    ends = train_many([
        wanted("wrong-teacher", fold=1, distill__teachers=[f"run:{trained.scratch}"]),
        wanted("diverges", distill__beta={"sp": 1e39}),
        wanted("good", run__seed=1),
    ])  # fmt: skip
    assert [isinstance(end, Exception) for end in ends] == [True, True, False]
    assert "no training on the test subjects of fold 1" in str(ends[0]) and "a finite loss" in str(ends[1])
    assert get(ends[2]).status == "FINISHED"
    failed = {run.tags["failure"] for run in tracking.find("attributes.status = 'FAILED'", limit=10)}
    assert any("a finite loss" in failure for failure in failed)
    assert any("no training on the test subjects of fold 1" in failure for failure in failed)


def test_runs_of_another_training_or_another_machine_setting_are_refused(wanted):
    for other in (wanted(train__epochs=4), wanted(run__threads=2)):
        with pytest.raises(SpkdError, match=r"side by side: (train|run)"):
            train_many([wanted(), other])
