import re
from dataclasses import replace

import pytest
import torch
import yaml

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.experiment import har, lineage, plan, student


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
        ({"validation_subjects": ["1"]}, r"no training on the test .*subject 1 among its training subjects"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_with_the_reason(made, change, message):
    with pytest.raises(SpkdError, match=message):
        lineage.check(made, "abc", replace(plan.card(made), **change))


def test_a_teacher_of_the_same_plan_is_accepted(made):
    lineage.check(made, "abc", plan.card(made))


def test_a_teacher_that_was_trained_on_who_chooses_the_epoch_here_is_refused(made):
    own = plan.card(made)
    (chooser,) = made.split.validation_subjects
    with pytest.raises(
        SpkdError, match=rf"no training on the validation subjects of fold 0, got subject {chooser} among"
    ):
        lineage.check(made, "abc", replace(own, train_subjects=[*own.train_subjects, chooser], validation_subjects=[]))


@pytest.mark.parametrize("kind", ["detect", "compare"])
def test_a_run_that_trained_no_network_of_recordings_is_named_as_what_it_is(trained, tmp_path, monkeypatch, kind):
    made = trained.plan("student")
    run = tracking.get(lineage.find(made, "signal:wrn16-1"))
    monkeypatch.setattr(lineage.tracking, "get", lambda run_id: replace(run, tags={"kind": kind}))
    with pytest.raises(SpkdError, match=rf"a run of teacher or distill, got .* \(kind {kind}\); name another one"):
        lineage.load(made, run.id, tmp_path)


def test_weights_that_are_not_those_that_their_run_recorded_are_refused(trained, tmp_path, monkeypatch):
    made = trained.plan("student")
    run_id = lineage.find(made, "signal:wrn16-1")
    for early in (False, True):
        assert lineage.load(made, run_id, tmp_path / f"{early}", early).sha256
    monkeypatch.setattr(lineage.provenance, "state_sha256", lambda state: "0" * 64)
    for early in (False, True):
        with pytest.raises(
            SpkdError, match=rf"run {run_id}: weights: expected sha256 \w{{16}}, as it recorded, got 0+;"
        ):
            lineage.load(made, run_id, tmp_path / f"other{early}", early)


@pytest.mark.parametrize("as_scratch", [False, True])
def test_a_student_has_seen_whom_its_ancestors_saw(made, as_scratch):
    """Else a student, made a teacher of another split, would hand on what it was taught about who tests there."""
    own = plan.card(made)
    (tester,) = made.split.test_subjects
    known = replace(own, train_subjects=["elsewhere"], validation_subjects=[tester])
    ancestor = lineage.Ancestor("t", "r", torch.nn.Module(), known, "")
    card = student.card(made, *(([], ancestor) if as_scratch else ([ancestor], None)))
    assert card.train_subjects == [*own.train_subjects, "elsewhere"]
    with pytest.raises(SpkdError, match=rf"no training on the test .*subject {tester} among"):
        lineage.check(made, "abc", card)
    assert student.card(made, [replace(ancestor, card=own)], None) == own


def test_a_teacher_may_hold_out_more_validation_subjects_than_its_student_but_not_fewer(trained):
    more, fewer = (trained.plan("student", datasets__chest__split__validation_subjects=n) for n in (2, 1))
    lineage.check(fewer, "abc", plan.card(more))
    with pytest.raises(SpkdError, match="validation subjects"):
        lineage.check(more, "abc", plan.card(fewer))
    teacher = lineage.find(fewer, "signal:wrn16-1")
    assert teacher is not None and lineage.find(more, "signal:wrn16-1") is None
    with pytest.raises(SpkdError, match="validation subjects"):
        lineage.load(more, teacher, trained.folder / "fewer")


def test_the_validation_subjects_of_a_fold_are_those_of_all_its_trials(trained):
    splits = [trained.plan("student", run__seed=seed).split for seed in (0, 1, 7)]
    assert len({tuple(split.validation_subjects) for split in splits}) == 1


def test_a_teacher_of_another_fold_is_not_the_latest(trained):
    assert lineage.find(trained.plan("student"), "signal:wrn16-1") is not None
    assert lineage.find(trained.plan("student", fold=1), "signal:wrn16-1") is None


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_a_teacher_of_another_fold_is_refused_by_id(trained, fold):
    run_id = lineage.find(trained.plan("student"), "signal:wrn16-1")
    refused = f"no training on the test subjects of fold {fold}, got subject {fold + 1} among"
    with pytest.raises(SpkdError, match=refused):
        lineage.load(trained.plan("student", fold=fold), run_id, trained.folder / f"fold{fold}")


def test_an_unknown_registered_name_is_an_error(made):
    with pytest.raises(SpkdError, match="expected the name of a registered model, got none"):
        lineage.find(made, "model:nothing")


def test_an_annealing_student_of_another_shape_is_refused(trained):
    made = trained.plan("student", student__network="wrn16-3")
    ancestor = lineage.load(made, trained.scratch, trained.folder / "shape")
    with pytest.raises(SpkdError, match="wrn16-3"):
        lineage.check_shape(made, ancestor)


def test_stale_windows_are_refused_with_the_command(trained):
    with pytest.raises(SpkdError, match="dvc repro windows@chest"):
        trained.train("student", datasets__chest__windows__step=10)


def test_a_run_on_an_absent_gpu_is_refused():
    with pytest.raises(SpkdError, match="run.device"):
        plan.device("cuda:7")


def test_a_gpu_that_its_driver_counts_but_that_cannot_be_used_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        SpkdError, match="got 0 CUDA devices .*`spkd reproduce` takes --device.* a torch build for your driver"
    ):
        plan.device("cuda")


def test_settings_that_change_numbers_change_the_fingerprint(trained):
    prints = {
        plan.fingerprint(trained.plan("student", **change))
        for change in ({}, {"run__seed": 1}, {"distill__beta": {"sp": 1.0}}, {"train__epochs": 4}, {"fold": 1})
    }
    assert len(prints) == 5
    same = plan.fingerprint(trained.plan("student", run__folder="elsewhere", tracking__maps_every=9))
    assert same == plan.fingerprint(trained.plan("student"))


def test_a_teacher_of_other_settings_is_named_and_not_taken(trained, capsys):
    known = lineage.find(trained.plan("student"), "signal:wrn16-1")
    assert lineage.find(trained.plan("student", train__checkpoint_every=2, run__seed=5), "signal:wrn16-1") == known
    for change, told in (
        ({"train__epochs": 4}, r"train.epochs \d \(here 4\)"),
        ({"networks__wrn16-1__width": 2}, r"network.width 1 \(here 2\)"),
        ({"datasets__chest__scaling": "training"}, r"dataset.chest.scaling subject \(here training\)"),
    ):
        capsys.readouterr()
        assert lineage.find(trained.plan("student", **change), "signal:wrn16-1") is None
        said = capsys.readouterr().out
        assert re.search(rf"signal:wrn16-1: run \w{{32}} has other settings: .*{told}", said)


def test_a_teacher_that_was_only_repeated_later_is_itself_the_teacher(trained, monkeypatch):
    made = trained.plan("student")
    known = tracking.get(lineage.find(made, "signal:wrn16-1"))
    newer = replace(known, id="f" * 32)
    repetition = replace(newer, tags={**known.tags, "repeats": known.id})
    for newest, expected in ((newer, newer.id), (repetition, known.id)):
        monkeypatch.setattr(lineage.tracking, "find", lambda query, limit, newest=newest: [newest, known])
        assert lineage.find(made, "signal:wrn16-1") == expected


def test_early_stopped_weights_are_those_of_the_wanted_epoch(trained):
    """Which share of the epochs `train.early` is makes no difference to a teacher's last weights, and all to these."""
    changed = trained.plan("student", train__early=1.0)
    assert lineage.find(changed, "signal:wrn16-1") is not None
    assert lineage.find(changed, "signal:wrn16-1@early") is None


def test_an_annealed_student_starts_from_the_scratch_student_of_its_own_trial(trained, monkeypatch):
    of_trial = {"distill__teachers": [], "distill__init": "latest", "run__seed": 1, "train__epochs": 1}
    assert lineage.find_scratch(trained.plan("student", **of_trial)) is None
    run_id = trained.train("student", **of_trial)
    start = tracking.get(run_id).tags["init.run_id"]
    assert tracking.get(start).tags["trial"] == "1" and "init.run_id" not in tracking.get(start).tags
    # The annealed student has no teachers either: the next one must not start from it, though it may be newer.
    newest_first = [tracking.get(run_id), tracking.get(start)]
    assert {run.tags["kind"] for run in newest_first} == {"scratch"}
    monkeypatch.setattr(lineage.tracking, "find", lambda query, limit: newest_first)
    assert lineage.find_scratch(trained.plan("student", **of_trial)) == start


@pytest.mark.parametrize(
    ("role", "change", "message"),
    [
        ("student", {"student__network": "wrn99"}, r"student.network: expected an entry of `networks`.*got 'wrn99'"),
        ("teacher", {"networks__wrn16-1": {"depth": 16}}, r"networks.wrn16-1: expected a key `model`"),
        ("teacher", {"teacher__view": "gaff"}, r"teacher.view: expected an entry of `views`.*did you mean 'gaf'"),
        (
            "student",
            {"distill__teachers": ["gaf:wrn99"]},
            r"gaf:wrn99: expected an entry of `networks`",
        ),
        ("student", {"distill__teachers": ["gaff:wrn16-1"]}, r"distill.teachers: gaff:wrn16-1.*did you mean 'gaf'"),
        ("student", {"distill__beta": {"spp": 1.0}}, r"expected a part called 'spp'.*did you mean 'sp'"),
        ("student", {"distill__beta": {"kd": 1.0}}, r"distill.beta.kd: expected a loss of features"),
        ("student", {"losses__sp__mixing": "no"}, r"losses.sp.mixing: expected"),
        ("student", {"distill__weighting": "foo"}, r"expected a part called 'foo'"),
        ("student", {"distill__alphas": [0.3, 0.7]}, r"distill.alphas: expected 1 weights"),
        ("student", {"distill__lambda": 0.0, "distill__beta": {"sp": 0.0}}, r"expected weights above 0 for its"),
        ("student", {"distill__alphas": [0.0]}, r"distill.alphas: expected weights that sum to 1"),
        ("student", {"distill__taps": []}, r"distill.taps: expected at least one layer"),
        ("student", {"distill__taps": ["grup1"]}, r"distill.taps: expected a layer .*did you mean 'group1'"),
        ("student", {"distill__taps": ["group1.3"], "student__network": "wrn28-1"}, r"a layer of .* 'group1.3'"),
        ("student", {"distill__init": "run:123456"}, r"expected one run that begins with 123456"),
        ("student", {"distill__teachers": ["gaf:wrn16-1", "run:123456"]}, r"expected one run that begins with 123456"),
        ("student", {"distill__teachers": ["gaf:wrn16-1@early"], "train__early": 0}, r"expected train.early above 0"),
        ("student", {"distill__beta": {"simkd": 1.0}, "distill__teachers": ["gaf:wrn16-1", "signal:wrn16-1"]},
         r"distill.beta.simkd: expected one teacher"),
    ],
)  # fmt: skip
def test_a_mistake_that_a_student_would_stumble_over_is_named_before_a_run_is_opened(trained, role, change, message):
    before, folders = len(tracking.find()), sorted(trained.places.runs.iterdir())
    with pytest.raises(SpkdError, match=message):
        trained.train(role, **change)
    assert len(tracking.find()) == before and sorted(trained.places.runs.iterdir()) == folders


def test_a_layer_that_a_loss_itself_looks_at_is_not_asked_of_the_users_taps():
    entry = '{"model": "wide_resnet", "depth": 10, "width": 1}'
    with pytest.raises(SpkdError, match=r"^distill.beta: expected the layer nrm, at which a loss looks, got none in w"):
        student._require_layers("w", entry, "signal", ("group1", "nrm"), ("group1",))
    with pytest.raises(SpkdError, match=r"^distill.taps: expected a layer of"):
        student._require_layers("w", entry, "signal", ("grup1",), ("grup1",))


def test_a_teacher_that_two_references_mean_is_refused_as_it_would_count_twice(trained):
    run_id = tracking.get(trained.student).tags["teacher.signal-wrn16-1.run_id"]
    with pytest.raises(SpkdError, match=rf"each teacher once, got signal:wrn16-1 and run:\w+, both run {run_id}"):
        trained.train("student", distill__teachers=["signal:wrn16-1", f"run:{run_id[:8]}"])


def test_a_view_prepared_by_other_code_is_refused_with_its_stage(trained, tmp_path):
    made = trained.plan("student")
    stages = {"views@chest-gaf": {
        "deps": [{"path": "params.yaml", "md5": "0" * 32}], "outs": [{"path": "data/views/chest/gaf", "md5": "1"}]
    }}  # fmt: skip
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    elsewhere = replace(made, places=plan.Places(tmp_path / "runs", tmp_path))
    lineage.check_view(elsewhere, "signal")
    with pytest.raises(SpkdError, match="params.yaml changed since; run `dvc repro views@chest-gaf`"):
        lineage.check_view(elsewhere, "gaf")


def test_a_students_fingerprint_holds_the_view_and_network_that_its_teacher_is_named_by(trained):
    def print_of(reference, **change):
        return plan.fingerprint(trained.plan("student", distill__teachers=[reference], **change))

    for reference, counts in (("gaf:wrn16-1", True), ("gaf:wrn16-1@early", True), ("signal:wrn16-1", False)):
        changed = print_of(reference, views__gaf__size=20) != print_of(reference, views__gaf__size=24)
        assert changed == counts
    assert print_of("gaf:wrn16-3", **{"networks__wrn16-3__width": 2}) != print_of("gaf:wrn16-3")


def test_the_code_of_a_teacher_that_is_named_by_its_run_counts(trained):
    teacher = lineage.find(trained.plan("student"), "signal:wrn16-1")
    by_run = trained.plan("student", student__view="gaf", distill__teachers=[f"run:{teacher}"])
    assert "views/signal.py" in har._code(by_run)
    without = trained.plan("student", student__view="gaf", distill__teachers=[])
    assert "views/signal.py" not in har._code(without)
