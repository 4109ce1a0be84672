from dataclasses import replace

import pytest

from spkd.errors import SpkdError
from spkd.experiment import lineage, plan


@pytest.fixture
def made(trained):
    return trained.plan("student")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_digest": "0" * 32}, "data digest"),
        ({"length": 64}, "window length"),
        ({"classes": ["a", "b"]}, "classes"),
        ({"channels": ["x"]}, "channels"),
        ({"dataset": "pamap2"}, "data set"),
        ({"train_subjects": ["1", "2"]}, r"subject 1 among its training subjects"),
        ({"validation_subjects": ["1"]}, r"subject 1 among its training subjects"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_with_the_reason(made, change, message):
    with pytest.raises(SpkdError, match=message):
        lineage.check(made, "abc", replace(plan.card(made), **change))


def test_a_teacher_of_the_same_plan_is_accepted(made):
    lineage.check(made, "abc", plan.card(made))


def test_a_teacher_of_another_fold_is_not_the_latest(trained):
    assert lineage.find(trained.plan("student"), "signal:wrn16-1") is not None
    assert lineage.find(trained.plan("student", fold=1), "signal:wrn16-1") is None


def test_a_teacher_of_another_fold_is_refused_by_id(trained):
    run_id = lineage.find(trained.plan("student"), "signal:wrn16-1")
    with pytest.raises(SpkdError, match="no training on the test subjects of fold"):
        for fold in (1, 2, 3):
            other = trained.plan("student", fold=fold)
            lineage.load(other, run_id, "t", trained.folder / f"fold{fold}")


def test_an_unknown_registered_name_is_an_error(made):
    with pytest.raises(SpkdError, match="no such model"):
        lineage.find(made, "model:nothing")


def test_an_annealing_student_of_another_shape_is_refused(trained):
    made = trained.plan("student", student__network="wrn16-3")
    ancestor = lineage.load(made, trained.scratch, "init", trained.folder / "shape")
    with pytest.raises(SpkdError, match="wrn16-3"):
        lineage.check_shape(made, ancestor)


def test_stale_windows_are_refused_with_the_command(trained):
    with pytest.raises(SpkdError, match="dvc repro windows@chest"):
        trained.train("student", datasets__chest__windows__step=10)


def test_a_run_on_an_absent_gpu_is_refused():
    with pytest.raises(SpkdError, match="run.device"):
        plan.device("cuda:7")


def test_settings_that_change_numbers_change_the_fingerprint(trained):
    prints = {
        plan.fingerprint(trained.plan("student", **change))
        for change in ({}, {"run__seed": 1}, {"distill__beta": {"sp": 1.0}}, {"train__epochs": 4}, {"fold": 1})
    }
    assert len(prints) == 5
    same = plan.fingerprint(trained.plan("student", run__folder="elsewhere", tracking__maps_every=9))
    assert same == plan.fingerprint(trained.plan("student"))
