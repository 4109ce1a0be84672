from dataclasses import replace

import pytest

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.tracking_reading import get
from spkd.experiment import har
from spkd.experiment.side_by_side import Wanted, train_many


@pytest.fixture
def wanted(trained, tmp_path):
    """wanted(**overrides) -> a student of the project's own teacher."""
    teacher = get(trained.student).tags["teacher.signal-wrn16-1.run_id"]

    def make(folder="", **overrides):
        given = har.Given(folder, {}, {"signal:wrn16-1": teacher})
        return Wanted("student", *trained.settings(**overrides), replace(trained.places, runs=tmp_path), None, given)

    return make


NUMBERS = ("headline/accuracy", "headline/epoch", "last/macro_f1", "cost/parameters")


def test_runs_side_by_side_leave_what_they_leave_alone(trained, wanted):
    ids = train_many([wanted(), wanted(distill__teachers=[])])
    for side_by_side, alone in zip(map(get, ids), map(get, (trained.student, trained.scratch)), strict=True):
        assert side_by_side.status == "FINISHED"
        assert side_by_side.name == alone.name
        assert side_by_side.tags["side_by_side"] == "2"
        assert side_by_side.tags["weights.initial_sha256"] == alone.tags["weights.initial_sha256"]
        same = ("fingerprint", "kind", "weights.epoch", "first_step.rows_sha256", "teachers")
        assert [side_by_side.tags[t] for t in same] == [alone.tags[t] for t in same]
        assert side_by_side.metrics.keys() == alone.metrics.keys()
        assert [side_by_side.metrics[m] for m in NUMBERS] == pytest.approx([alone.metrics[m] for m in NUMBERS])
        for name in ("train/loss", "val/loss", "lr"):
            ours, theirs = (tracking.history(run.id, name) for run in (side_by_side, alone))
            assert [step for step, _ in ours] == [1, 2, 3]
            assert [value for _, value in ours] == pytest.approx([value for _, value in theirs], rel=1e-3)


def test_a_run_that_fails_before_or_while_training_leaves_the_others_alone(trained, wanted):
    ends = train_many([
        wanted("no-teacher", distill__teachers=["run:0123456789abcdef0123456789abcdef"]),
        wanted("diverges", distill__beta={"sp": 1e39}),
        wanted("good", run__seed=1),
    ])  # fmt: skip
    assert [isinstance(end, Exception) for end in ends] == [True, True, False]
    assert "a finite loss" in str(ends[1])
    assert get(ends[2]).status == "FINISHED"
    failed = {run.tags["failure"] for run in tracking.find("attributes.status = 'FAILED'", limit=10)}
    assert any("a finite loss" in failure for failure in failed)
    assert any("0123456789abcdef" in failure for failure in failed)


def test_runs_of_another_training_or_another_machine_setting_are_refused(wanted):
    for other in (wanted(train__epochs=4), wanted(run__threads=2)):
        with pytest.raises(SpkdError, match=r"side by side: (train|run)"):
            train_many([wanted(), other])
