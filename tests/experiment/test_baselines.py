"""Each baseline of the study trains from the settings; those that change what is kept run to the end in MLflow."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from spkd.errors import SpkdError
from spkd.evidence.tracking.reading import get
from spkd.experiment import har, lineage, plan, source, student, table
from spkd.settings import TableDefinition, TableRow
from spkd.training import loop

TINY = {"dataset": "chest", "preset": "quick", "run.threads": 1}
PAIR = ["gaf:wrn16-1", "signal:wrn16-1"]
BASELINES = {
    "aver": {"distill__teachers": PAIR, "distill__weighting": "aver"},
    "ebkd": {"distill__teachers": PAIR, "distill__weighting": "ebkd"},
    "camkd": {"distill__teachers": PAIR, "distill__weighting": "camkd"},
    "at": {"distill__teachers": ["gaf:wrn16-1"], "distill__beta": {"at": 1000.0}},
    "dist": {"distill__teachers": ["gaf:wrn16-1"], "distill__beta": {"dist": 2.0}, "distill__lambda": 0.0},
    "dcd": {"distill__teachers": PAIR, "distill__beta": {"dcd": 1.0}},
    "simkd": {"distill__teachers": ["gaf:wrn16-1"], "distill__beta": {"simkd": 1.0}, "distill__base": 0.0},
    "eskd": {"distill__teachers": ["signal:wrn16-1@early"]},
}
SEEN = {
    "aver": {"kd", "weight/gaf-wrn16-1", "weight/signal-wrn16-1", "sp"},
    "ebkd": {"kd/gaf-wrn16-1", "kd/signal-wrn16-1", "weight/gaf-wrn16-1", "weight/signal-wrn16-1", "sp"},
    "camkd": {"kd/gaf-wrn16-1", "kd/signal-wrn16-1", "weight/gaf-wrn16-1", "weight/signal-wrn16-1", "sp"},
    "at": {"kd/gaf-wrn16-1", "at/gaf-wrn16-1"},
    "dist": {"kd/gaf-wrn16-1", "dist/gaf-wrn16-1"},
    "dcd": {"kd/gaf-wrn16-1", "kd/signal-wrn16-1", "dcd/gaf-wrn16-1", "dcd/signal-wrn16-1"},
    "simkd": {"kd/gaf-wrn16-1", "simkd/gaf-wrn16-1"},
    "eskd": {"kd/signal-wrn16-1-early", "sp"},
}
NAMES = {
    "aver": "gaf:wrn16-1+signal:wrn16-1 aver sp",
    "ebkd": "gaf:wrn16-1+signal:wrn16-1 ebkd sp",
    "camkd": "gaf:wrn16-1+signal:wrn16-1 camkd sp",
    "at": "gaf:wrn16-1 kd at",
    "dist": "gaf:wrn16-1 dist",
    "dcd": "gaf:wrn16-1+signal:wrn16-1 kd dcd",
    "simkd": "gaf:wrn16-1 simkd",
    "eskd": "signal:wrn16-1@early kd sp",
}


@pytest.fixture(scope="module")
def teachers(trained):
    """teachers(plan) -> its ancestors, each read once; that of the Gramian field was trained for one epoch."""
    trained.train("teacher", teacher__view="gaf", train__epochs=1)
    known, as_trained = {}, {"gaf": trained.plan("student", train__epochs=1), "signal": trained.plan("student")}

    def find(made):
        for reference in set(made.settings.distill.teachers) - set(known):
            run_id = lineage.find(as_trained[reference.partition(":")[0]], reference)
            early = reference.endswith(lineage.EARLY)
            known[reference] = lineage.load(made, run_id, trained.folder / f"t{len(known)}", early)
        return har._numbered([known[reference] for reference in made.settings.distill.teachers])

    return find


def assembled(made, ancestors, scratch=None):
    untracked = SimpleNamespace(tags=lambda words: None, folder=made.places.runs)
    return har.assemble(made, untracked, ancestors, scratch)[0]


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_trains_on_its_own_terms(trained, teachers, name, tmp_path):
    made = trained.plan("student", train__epochs=1, **BASELINES[name])
    task = assembled(made, teachers(made))
    before = {n: t.clone() for n, t in task.network.state_dict().items()}
    state = loop.fit(task, made.settings.train, 0, tmp_path / "c", "key", lambda state: None)
    losses = state.history[0].losses
    assert set(losses) == SEEN[name] | {"cross_entropy", "total"}
    assert all(math.isfinite(value) for value in losses.values())
    after = task.network.state_dict()
    frozen = "head." if name == "simkd" else "none"
    moved = {n for n, p in task.network.named_parameters() if not torch.equal(before[n], after[n])}
    assert moved == {n for n, _ in task.network.named_parameters() if not n.startswith(frozen)}
    assert plan.name(made) == f"wrn16-1 <- {NAMES[name]} chest s1 32@32Hz t0"


def test_the_trainable_parts_of_a_loss_come_from_the_runs_seed_and_are_not_exported(trained, teachers):
    def task(seed):
        made = trained.plan("student", run__seed=seed, **BASELINES["dcd"])
        return assembled(made, teachers(made))

    first, again, other = (task(seed) for seed in (0, 0, 1))
    key = "dcd-norm-0.student.weight"
    states = [t.objective.parts.state_dict() for t in (first, again, other)]
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])
    assert set(states[0]) == {f"dcd-norm-{k}.{n}" for k in (0, 1) for n in (
        "student.weight", "student.bias", "teacher.weight", "teacher.bias", "log_scale", "bias")}  # fmt: skip
    assert not any("dcd" in name for name in first.network.state_dict())


def test_the_first_look_at_a_batch_leaves_the_student_as_it_was(trained, teachers):
    plain, with_parts = (trained.plan("student", **BASELINES[name]) for name in ("at", "dcd"))
    states = [assembled(made, teachers(made)).network.state_dict() for made in (plain, with_parts)]
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])


def test_the_exported_student_of_simkd_holds_its_teachers_classifier(trained, teachers):
    run = get(trained.train("student", train__epochs=1, tracking__maps_every=9, **BASELINES["simkd"]))
    made = trained.plan("student", **BASELINES["simkd"])
    kept = lineage.load(made, run.id, trained.folder / "simkd")
    assert kept.card.network_settings["model"] == "reused_classifier"
    assert torch.equal(kept.network.head.weight, teachers(made)[0].network.head.weight)
    assert run.metrics["cost/parameters"] == sum(p.numel() for p in kept.network.parameters())
    assert kept.sha256 == run.tags["weights.sha256"]
    assert "loss/simkd/gaf-wrn16-1" in run.metrics
    with pytest.raises(SpkdError, match="reused_classifier"):
        lineage.check_shape(made, kept)


def test_a_student_of_an_early_stopped_teacher_says_so(trained, teachers):
    run = get(trained.train("student", tracking__maps_every=9, **BASELINES["eskd"]))
    run_id = run.tags["teacher.signal-wrn16-1-early.run_id"]
    made = trained.plan("student", **BASELINES["eskd"])
    early, ended = (lineage.load(made, run_id, trained.folder / f"e{k}", k) for k in (True, False))
    assert run_id == lineage.find(made, "signal:wrn16-1")
    assert run.tags["teacher.signal-wrn16-1-early.sha256"] == early.sha256 != ended.sha256
    assert ended.sha256 == get(run_id).tags["weights.sha256"]
    assert get(run_id).tags["weights.early_epoch"] == "1"


def test_a_run_without_early_weights_is_refused_with_what_to_do(trained):
    with pytest.raises(SpkdError, match=r"train\.early"):
        lineage.load(trained.plan("student"), trained.scratch, trained.folder / "none", early=True)


def test_simkd_with_two_teachers_is_refused(trained, teachers):
    made = trained.plan("student", **{**BASELINES["simkd"], "distill__teachers": PAIR})
    with pytest.raises(SpkdError, match=r"distill\.beta\.simkd: expected one teacher"):
        student.card(made, teachers(made), None)


def test_simkd_of_a_student_that_is_no_wide_resnet_is_refused_before_a_teacher_is_trained(trained):
    settings, tree = trained.settings(**BASELINES["simkd"])
    student.require(settings, tree)
    tree["networks"][settings.student.network] = {"model": "smallnet", "width": 8}
    with pytest.raises(
        SpkdError, match=r"student\.network: expected a wide_resnet, which reused_classifier is made of, "
    ):
        student.require(settings, tree)


def test_simkd_of_a_teacher_without_a_linear_head_is_refused(trained, teachers):
    made = trained.plan("student", **BASELINES["simkd"])
    own = [replace(teachers(made)[0], network=torch.nn.Identity())]
    with pytest.raises(SpkdError, match="teacher gaf-wrn16-1: expected a linear layer `head`, .* got NoneType"):
        student.card(made, own, None)


def test_an_annealed_student_of_simkd_starts_from_the_scratch_encoder(trained, teachers):
    made = trained.plan("student", **BASELINES["simkd"])
    scratch = lineage.load(made, trained.scratch, trained.folder / "scratch")
    network, plain = student.network(made, teachers(made), scratch), student.network(made, teachers(made), None)
    assert torch.equal(network.group3[0].conv1.weight, scratch.network.group3[0].conv1.weight)
    assert torch.equal(network.projector[0].weight, plain.projector[0].weight)
    assert torch.equal(network.head.weight, teachers(made)[0].network.head.weight)
    lineage.check_shape(made, replace(scratch, name="any"))


def test_a_loss_that_a_run_does_not_use_leaves_its_fingerprint_alone(trained):
    unused, used = (
        {plan.fingerprint(trained.plan("student", losses__dcd__width=w, distill__beta=beta)) for w in (128, 64)}
        for beta in ({"sp": 1.0}, {"dcd": 1.0})
    )
    assert len(unused) == 1
    assert len(used) == 2


def test_a_table_knows_the_code_and_the_teacher_behind_a_baseline(trained):
    settings, tree = trained.settings(**BASELINES["simkd"])
    files = {p.name for p in source.used(plan.relevant_settings("student", settings, tree), tree["networks"])}
    assert {"simkd.py", "_space.py", "reused_classifier.py", "wide_resnet.py", "gaf.py", "fixed.py"} <= files
    assert not {"dcd.py", "camkd.py"} & files
    definition = TableDefinition(
        about="", set={**TINY, **{key.replace("__", "."): value for key, value in BASELINES["eskd"].items()}},
        folds=[0], trials=[0], teacher_trials="first", rows={"ESKD": TableRow()},
    )  # fmt: skip
    cells = list(table.cells(definition, trained.settings()[1], {}, [0]).values())
    assert [cell.role for cell in cells] == ["teacher", "student"]
    assert cells[1].needs == {"signal:wrn16-1@early": cells[0].key}
