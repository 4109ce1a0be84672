import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from spkd import config
from spkd.cli import export
from spkd.cli import reproduce as reproduce_command
from spkd.data import arrays, windowset
from spkd.data.batches import order
from spkd.errors import SpkdError
from spkd.evidence import lock_file, outbox, provenance, tracking, working_tree
from spkd.evidence.reproduction import bundle, judge, portable
from spkd.experiment import checkout, har, record, repetition, reproduce
from spkd.settings import Reproduce, Settings
from spkd.training import loop

ROOT = Path(__file__).parents[2]
LIMITS = Reproduce(run_id="-", trials=1, first_step=0.005, maps=0.01, margin=0.05, alpha=0.05, min_trials=2)
NOTHING = reproduce.Choices(
    build=False, here=False, trust=False, machine={}, check_teacher=reproduce_command.check_teacher
)
SHORT = {"train__epochs": 1}


def git(folder, *words):
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def repo(store, waves, new_project, tmp_path_factory):
    """A git checkout with the project's code and the waves as its windows, after a teacher and its student."""
    folder = tmp_path_factory.mktemp("repo")
    made = new_project(folder, waves)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "requirements.lock").write_text(f"numpy=={metadata.version('numpy')}\n")
    (folder / ".gitignore").write_text("/data/\n/runs/\n__pycache__/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    made.student = made.train("student", **SHORT)
    return made


@pytest.fixture(scope="module")
def packed(repo):
    """The student as a bundle."""
    portable.gather(repo.student, repo.folder, repo.folder / "runs" / "gathered")
    bundle.pack(repo.folder / "runs" / "gathered", repo.folder / "runs" / "student.zip")
    return repo.folder / "runs" / "student.zip"


@pytest.fixture
def forged(packed, tmp_path):
    """forged(change) -> a bundle with a right index whose files were changed by change(folder)."""

    def make(change):
        bundle.unpack(packed, tmp_path / "open")
        change(tmp_path / "open")
        bundle.pack(tmp_path / "open", tmp_path / "forged.zip")
        return str(tmp_path / "forged.zip")

    return make


def verdict_of(repo, source, **choices):
    settings, _ = repo.settings(reproduce__min_trials=2)
    return reproduce.reproduce(str(source), repo.folder, settings, replace(NOTHING, **choices))


def records(repo, tmp_path, *run_ids):
    found = []
    for run_id in run_ids:
        portable.gather(run_id, repo.folder, tmp_path / run_id)
        found.append(portable.record(tmp_path / run_id))
    return found


@contextmanager
def elsewhere(monkeypatch):
    """The environment record of another machine, whose arithmetic the caller makes another."""
    real = provenance.environment
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "environment", lambda *a: {**real(*a), "cpu": "another"})
        yield


def no_training(*_):
    raise AssertionError("the run was repeated although its inputs are not as recorded")


@pytest.fixture
def task(repo):
    return har.assemble(repo.plan("student", distill__teachers=[]), SimpleNamespace(), [], None)[0]


def test_the_first_step_is_that_of_the_loop(repo, task, tmp_path):
    settings, _ = repo.settings(train__batch=48, train__epochs=1)
    losses = record.first_step(task, order(task.train, 0, 0)[:48])
    state = loop.fit(task, settings.train, 0, tmp_path / "checkpoint", "key", lambda state: None)
    assert losses["loss"] == losses["cross_entropy"] == pytest.approx(state.history[0].losses["total"], rel=1e-6)


def test_looking_at_the_first_step_leaves_the_network_as_it_was(task):
    before = provenance.state_sha256(task.network.state_dict())
    record.first_step(task, task.train[:16])
    assert provenance.state_sha256(task.network.state_dict()) == before


def test_another_first_batch_is_different_and_named(repo, tmp_path):
    (recorded,) = records(repo, tmp_path, repo.student)
    assert len(recorded.inputs["first batch"]) == 64
    other = replace(recorded, inputs={**recorded.inputs, "first batch": "0" * 64}, machine={}, weights="other")
    verdict = judge.judge([(recorded, other)], LIMITS)
    assert (verdict.status, verdict.level) == ("different", 0)
    assert "first batch" in verdict.reason


def test_a_run_repeated_from_its_bundle_in_a_worktree_is_identical(repo, packed):
    verdict = verdict_of(repo, packed)
    assert (verdict.status, verdict.level) == ("identical", 1)
    run = tracking.find(f"tags.kind = 'reproduction' AND tags.reproduces = '{repo.student}'", limit=1)[0]
    assert (run.status, run.tags["verdict"]) == ("FINISHED", "identical")
    assert json.loads(tracking.artifact(run.id, "side_by_side.json").read_text())["data"]
    repeated = tracking.find(f"tags.`mlflow.parentRunId` = '{run.id}'", limit=1)[0]
    assert (repeated.tags["kind"], repeated.status) == ("repetition", "FINISHED")
    assert repeated.name.startswith("repeat of wrn16-1") and repeated.tags["repeats"] == repo.student
    assert repeated.tags["weights.sha256"] == tracking.get(repo.student).tags["weights.sha256"]
    assert len(git(repo.folder, "worktree", "list").splitlines()) == 1
    assert git(repo.folder, "status", "--porcelain") == ""


def test_a_run_that_looked_at_its_maps_at_other_epochs_and_layers_than_the_checkout_says_is_identical(repo):
    looked = {"tracking__maps_every": 1, "distill__taps": ["group1", "group2.0"]}
    run = repo.train("teacher", train__epochs=3, train__lr=0.03, **looked)  # no teacher that another test would take
    assert [step for step, _ in tracking.history(run, "sim/group1/contrast")] == [0, 1, 2, 3]
    verdict = verdict_of(repo, run)
    assert (verdict.status, verdict.level) == ("identical", 1)


def test_other_thread_counts_are_another_machine_and_one_trial_is_inconclusive(repo, tmp_path):
    two = repo.train("student", run__threads=2, **SHORT)
    recorded, repeated = records(repo, tmp_path, repo.student, two)
    assert not judge.same_kind(recorded, repeated)
    for weights, status in ((recorded.weights, "identical"), ("other", "inconclusive")):
        again = replace(repeated, weights=weights, history=recorded.history, results=recorded.results)
        assert judge.judge([(recorded, again)], LIMITS.model_copy(update={"min_trials": 5})).status == status


def test_bfloat16_arithmetic_passes_the_first_step_and_is_judged_by_its_trials(repo, tmp_path, monkeypatch):
    with elsewhere(monkeypatch), torch.autocast("cpu", torch.bfloat16):
        other = repo.train("student", **SHORT)
    recorded, repeated = records(repo, tmp_path, repo.student, other)
    assert recorded.weights != repeated.weights
    steps = judge.step_rows(recorded, repeated, LIMITS)
    assert len(steps) == 10 and all(row.agrees for row in steps)
    assert judge.judge([(recorded, repeated)], LIMITS).status == "inconclusive"
    twice = judge.judge([(recorded, repeated)] * 2, LIMITS.model_copy(update={"margin": 0.999}))
    assert twice.status == "equivalent", twice.reason


def test_what_a_server_sends_is_removed_once_it_is_gathered(repo, tmp_path, monkeypatch):
    real, temporary = tracking.artifact, tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def sent(run_id, path, folder=None):
        """What is not local is downloaded into a temporary folder where the caller names none."""
        return real(run_id, path, folder or Path(tempfile.mkdtemp()))

    monkeypatch.setattr(tracking, "artifact", sent)
    portable.gather(repo.student, repo.folder, tmp_path / "gathered")
    tags = tracking.get(repo.student).tags
    (name,) = portable.ancestors(tags)
    held = tmp_path / "gathered" / "teachers" / name.removeprefix("teacher.") / portable.WEIGHTS
    assert portable.weights_sha256(held) == tags[f"{name}.sha256"]
    assert portable.has_weights(tags[f"{name}.run_id"], tags[f"{name}.sha256"])
    assert not portable.has_weights(tags[f"{name}.run_id"], "0" * 64)
    assert list(temporary.iterdir()) == []


def test_a_teacher_in_the_trash_is_repeated_with_from_a_copy_and_one_that_is_gone_is_named(repo, tmp_path):
    tags = tracking.get(repo.student).tags
    (name,) = portable.ancestors(tags)
    own, sha256 = tags[f"{name}.run_id"], tags[f"{name}.sha256"]
    client = tracking.store.client()
    client.delete_run(own)
    try:
        portable.gather(repo.student, repo.folder, tmp_path / "gathered")
        recorded = repetition.Recorded.read(tmp_path / "gathered")
        with tracking.open_run("parent", tmp_path / "run", "spkd", tags={"kind": "other"}) as run:
            copy = repetition.stored_teachers(recorded, run, tmp_path)[name]
        assert copy != own and tracking.get(copy).tags["weights.sha256"] == sha256
    finally:
        client.restore_run(own)
    client.set_tag(repo.student, f"{name}.run_id", "0" * 32)
    try:
        with pytest.raises(
            SpkdError, match=rf"^run {repo.student}: {name}: expected the weights of run 0000.*a bundle"
        ):
            portable.gather(repo.student, repo.folder, tmp_path / "other")
    finally:
        client.set_tag(repo.student, f"{name}.run_id", own)


def test_the_recorded_trials_are_those_of_the_same_settings(repo, monkeypatch):
    info = tracking.get(repo.student)

    def like(run_id, **params):
        changed = {f"cfg/{key.replace('__', '.')}": value for key, value in params.items()}
        return replace(info, id=run_id, params={**info.params, **changed})

    others = [like("b", run__seed="10"), like("c", run__seed="2"), like("d", run__seed="3", train__lr="0.01")]
    again = replace(info, id="e", tags={**info.tags, "teacher.signal-wrn16-1.sha256": "other"})
    orphan = replace(like("g", run__seed="4"), tags={**info.tags, "repeats": info.id})
    monkeypatch.setattr(tracking, "find", lambda *_: [*others, again, like("f", run__seed="2"), orphan])
    assert [run.id for run in portable._trials(info)] == [info.id, "c", "b"]


def test_trials_have_the_same_alphas_for_the_same_teachers(repo, monkeypatch):
    info = tracking.get(repo.student)
    (one,) = info.tags["teachers"].split()

    def taught_by(seed, *order):
        tags = {**info.tags, "teacher.gaf-a.run_id": "1", "teacher.gaf-a.sha256": "a" * 64, "teachers": " ".join(order)}
        return replace(info, id=str(seed), params={**info.params, "cfg/run.seed": str(seed)}, tags=tags)

    runs = [taught_by(1, one, "gaf-a"), taught_by(2, "gaf-a", one), taught_by(3, one, "gaf-a")]
    monkeypatch.setattr(tracking, "find", lambda *_: runs)
    assert [run.id for run in portable._trials(runs[0])] == ["1", "3"]
    assert [run.id for run in portable._trials(runs[1])] == ["2"]


def test_trials_are_of_the_same_changes_of_the_code_too(repo, monkeypatch):
    info = tracking.get(repo.student)
    assert (info.tags["code.dirty"], info.tags["code.patch_sha256"]) == ("false", "")

    def made_by(seed, **tags):
        kept = {k: v for k, v in info.tags.items() if k not in ("code.dirty", "code.patch_sha256")}
        tags = {f"code.{key}": text for key, text in tags.items()}
        return replace(info, id=str(seed), params={**info.params, "cfg/run.seed": str(seed)}, tags={**kept, **tags})

    runs = [
        made_by(1, dirty="false", patch_sha256=""),
        made_by(2, dirty="false"),  # of an earlier version, which recorded no hash
        made_by(3, dirty="true"),
        made_by(4, dirty="true", patch_sha256="a"),
        made_by(5, dirty="true", patch_sha256="a"),
        made_by(6, dirty="true", patch_sha256="b"),
        made_by(7, dirty="true", patch_sha256="a", patch_cut="why"),
    ]
    monkeypatch.setattr(tracking, "find", lambda *_: runs)
    trials = {run.id: [found.id for found in portable._trials(run)] for run in runs}
    assert trials == {
        "1": ["1", "2"], "2": ["1", "2"], "3": ["3"], "4": ["4", "5"], "5": ["4", "5"], "6": ["6"], "7": ["7"],
    }  # fmt: skip


def test_a_setting_changed_in_the_record_is_different_and_named(repo, forged, monkeypatch):
    def change(folder):
        path = folder / "artifacts" / "settings.json"
        path.write_text(path.read_text().replace('"lr": 0.05', '"lr": 0.06'))

    monkeypatch.setattr(reproduce, "_run_again", no_training)
    verdict = verdict_of(repo, forged(change))
    assert (verdict.status, verdict.level) == ("different", 0)
    assert "setting train.lr: recorded 0.05, here 0.06" in verdict.reason


def test_another_lock_than_the_runs_is_different_and_named(repo, forged, monkeypatch):
    def change(folder):
        path = folder / "artifacts" / "environment.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "lock_sha256": "0" * 64}))

    monkeypatch.setattr(reproduce, "_run_again", no_training)
    monkeypatch.setattr(checkout, "interpreter", no_training)
    verdict = verdict_of(repo, forged(change))
    assert (verdict.status, verdict.level) == ("different", 0)
    assert verdict.reason.startswith(f"lock sha256: recorded {'0' * 16}, here ")


def test_a_run_of_no_teacher_or_of_one_is_repeated_whatever_its_record_says_of_their_order(tmp_path):
    scratch = {"kind": "scratch", "teachers": "none"}
    one = {"kind": "student", "teacher.a.run_id": "r", "teacher.a.sha256": "0"}
    for tags, names in ((scratch, []), (one, ["a"])):
        assert repetition.teacher_order(repetition.Recorded(tmp_path, tags, {})) == names


def test_the_teachers_of_a_repetition_stand_in_the_order_of_their_alphas(tmp_path):
    tags = {
        "kind": "student",
        "teachers": "signal-b gaf-a",
        "teacher.gaf-a.run_id": "1",
        "teacher.signal-b.run_id": "2",
    }
    recorded = repetition.Recorded(tmp_path, tags, {})
    assert repetition.teacher_order(recorded) == ["signal-b", "gaf-a"]
    for said in ("", "gaf-a", "gaf-a other"):
        with pytest.raises(SpkdError, match="their order in the record"):
            repetition.teacher_order(replace(recorded, tags={**tags, "teachers": said}))


def test_a_result_changed_in_the_record_is_different_and_named(repo, forged, monkeypatch):
    def change(folder):
        info = json.loads((folder / "run.json").read_text())
        info["metrics"]["headline/accuracy"] = 0.999
        (folder / "run.json").write_text(json.dumps(info))

    monkeypatch.setattr(reproduce, "_run_again", no_training)
    verdict = verdict_of(repo, forged(change))
    assert (verdict.status, verdict.level) == ("different", 0)
    assert verdict.reason.startswith("metric headline/accuracy: recorded 0.") and "here 0.999" in verdict.reason


def test_a_number_is_its_historys_last_whatever_order_one_step_was_written_in(tmp_path):
    history = {"a": [[1, 0.5], [2, 0.1], [2, 0.2]], "b": [[0, float("nan")]], "c": [[0, 1.0]], "d": []}
    (tmp_path / "history.json").write_text(json.dumps(history))
    run = {"id": "a", "name": "a", "tags": {}, "params": {}}
    for value, wrong in ((0.1, False), (0.2, False), (0.5, True)):
        (tmp_path / "run.json").write_text(json.dumps(run | {"metrics": {"a": value, "b": float("nan"), "d": 1.0}}))
        assert (portable.changed_number(tmp_path) is not None) == wrong
    (tmp_path / "run.json").write_text(json.dumps(run | {"metrics": {"b": 0.9}}))
    assert portable.changed_number(tmp_path) == ("b", "nan", "0.90000000000000002")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("teachers/signal-wrn16-1/weights.safetensors", "weights of teacher.signal-wrn16-1"),
        ("artifacts/model/weights.safetensors", "final weights of the record"),
    ],
)
def test_tampered_weights_are_different_and_named(repo, forged, monkeypatch, path, named):
    def change(folder):
        tensors = load_file(folder / path)
        name = sorted(tensors)[0]
        save_file({**tensors, name: tensors[name] + np.float32(1e-3)}, folder / path)

    monkeypatch.setattr(reproduce, "_run_again", no_training)
    verdict = verdict_of(repo, forged(change))
    assert (verdict.status, verdict.level) == ("different", 0)
    assert named in verdict.reason


def test_changed_data_are_different_and_named_after_an_attempt_to_rebuild_them(repo, packed, monkeypatch):
    folder = repo.folder / "data" / "windows" / "chest"
    kept = repo.folder / "data" / "kept"
    shutil.copytree(folder, kept)
    windows = windowset.load(folder)
    content = {name: np.array(getattr(windows, name)) for name in ("signal", "starts", "label", "subject")}
    content["signal"][0, 0] += 1
    changed = windowset.build(content, windows.manifest)
    rebuilt = []

    def rebuild(code, python, stages):
        rebuilt.extend(stages)
        changed.save(code / "data" / "windows" / "chest")

    monkeypatch.setattr(reproduce, "_run_again", no_training)
    monkeypatch.setattr(checkout, "repro", rebuild)
    try:
        changed.save(folder)
        verdict = verdict_of(repo, packed)
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)
    assert rebuilt == ["windows@chest"]
    assert (verdict.status, verdict.level) == ("different", 0)
    assert windows.digest in verdict.reason and changed.digest in verdict.reason


@pytest.mark.parametrize("change", ["", "settings", "digest", "manifest"])
def test_a_prepared_view_is_lent_where_it_is_of_the_runs_windows_and_settings_and_rebuilt_otherwise(
    repo, packed, tmp_path, monkeypatch, change
):
    recorded = reproduce.fetch(str(packed), repo.folder, tmp_path / "there", NOTHING)
    tree, code, rebuilt = config.read(repo.folder / "params.yaml"), tmp_path / "code", []
    tree["prepare"] = {f"{name}-gaf": {"dataset": name, "view": "gaf"} for name in ("chest", "pamap2")}
    tree["prepare"]["chest-spectrogram"] = {"dataset": "chest", "view": "spectrogram"}
    recorded = replace(recorded, tags={**recorded.tags, "view": "gaf"})
    project = tmp_path / "project"
    shutil.copytree(repo.folder / "data", project / "data")
    shutil.copytree(repo.folder / "data", code / "data")
    shutil.copy(repo.folder / "params.yaml", code)
    found = {"digest": recorded.tags["data.digest"], "settings": tree["views"]["gaf"]}
    if change != "manifest":
        found |= {change: "another"} if change else {}
        arrays.save(project / "data" / "views" / "chest" / "gaf", {"a": np.zeros(1)}, found)
    monkeypatch.setattr(checkout, "lend_copies", lambda *where: None)
    monkeypatch.setattr(checkout, "repro", lambda code, python, stages: rebuilt.extend(stages))
    monkeypatch.setattr(repetition, "_borrow", lambda *where: rebuilt.append("lent"))
    assert repetition.data(recorded, project, code, Path(), tree) is None
    assert rebuilt == (["windows@chest", "views@chest-gaf"] if change else ["lent"])


def test_data_are_rebuilt_with_the_settings_of_the_run_and_the_files_put_back(repo, tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    before = (tmp_path / "params.yaml").read_text()
    _, tree = repo.settings(datasets__chest__windows__step=39, distill__beta={"kd": 1.0})
    with repetition._with_params(tmp_path, tree):
        seen = config.resolve(config.read(tmp_path / "params.yaml"), {})
        assert seen["datasets"]["chest"]["windows"]["step"] == 39
        assert seen["views"]["gaf"] == tree["views"]["gaf"]
    assert (tmp_path / "params.yaml").read_text() == before


def test_an_absent_commit_is_an_error_with_the_remedy(repo, forged):
    def change(folder):
        info = json.loads((folder / "run.json").read_text())
        info["tags"]["code.commit"] = "1" * 40
        (folder / "run.json").write_text(json.dumps(info))

    with pytest.raises(SpkdError, match="git fetch"):
        verdict_of(repo, forged(change))
    run = tracking.find("tags.kind = 'reproduction'", limit=1)[0]
    assert run.status == "FAILED"


def test_a_clone_without_the_history_is_told_how_to_get_it(tmp_path):
    git(tmp_path, "init", "-q", "whole")
    for words in ("first", "second"):
        git(tmp_path / "whole", "commit", "-q", "--allow-empty", "-m", words)
    first = git(tmp_path / "whole", "rev-parse", "HEAD~1")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tmp_path}/whole", "cut")
    with pytest.raises(SpkdError, match="git fetch --unshallow"):
        checkout.require_commit(tmp_path / "cut", first)
    git(tmp_path / "cut", "fetch", "-q", "--unshallow")
    checkout.require_commit(tmp_path / "cut", first)
    with pytest.raises(SpkdError, match="git fetch --all"):
        checkout.require_commit(tmp_path / "cut", "1" * 40)


def test_another_lock_is_not_built_without_consent_and_its_size_is_said(repo, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"numpy==1.0.0 \\\n    --hash=sha256:0\npyyaml=={metadata.version('pyyaml')}\n")
    with pytest.raises(SpkdError, match=r"numpy: locked 1.0.0.*--build true.*GB"):
        checkout.interpreter(lock, tmp_path, build=False, here=False)
    assert checkout.interpreter(lock, tmp_path, build=False, here=True) == Path(sys.executable)
    assert lock_file.installed_bytes(lock) > 20_000_000


def test_an_environment_is_built_once_from_the_lock_and_its_hashes_and_one_half_built_again(tmp_path, monkeypatch):
    lock, ran, broken = tmp_path / "requirements.lock", [], []
    lock.write_text("numpy==1.0.0 \\\n    --hash=sha256:0\n")

    def run(command, folder, environ, do):
        ran.append(command)
        Path(command[-1]).mkdir(parents=True, exist_ok=True) if "venv" in command else None
        if "pip" in command and broken:
            raise SpkdError("pip", "success", broken.pop(), do)

    monkeypatch.setattr(checkout, "_run", run)
    broken.append("no network")
    with pytest.raises(SpkdError, match="no network; .*--here true"):
        checkout.interpreter(lock, tmp_path / "environments", build=True, here=False)
    python = checkout.interpreter(lock, tmp_path / "environments", build=True, here=False)
    assert python.parents[2] == tmp_path / "environments"
    words = [" ".join(command) for command in ran]
    assert words == 2 * [
        f"{sys.executable} -m venv --clear {python.parents[1]}",
        f"{python} -m pip install --quiet --require-hashes -r {lock}",
    ]
    assert checkout.interpreter(lock, tmp_path / "environments", build=False, here=False) == python
    assert len(ran) == 4


def test_data_that_dvc_cannot_rebuild_are_an_error_with_the_reason_that_dvc_has(tmp_path):
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    stage = "deps: [{path: /nowhere/lab}]\nouts: [{path: raw}]\n"
    (tmp_path / "raw.dvc").write_text(stage)
    with pytest.raises(SpkdError, match=r"^dvc repro raw\.dvc: .*'/nowhere/lab' does not exist; bring the recordings"):
        checkout.repro(tmp_path, Path(sys.executable), ["raw.dvc"])


@pytest.mark.parametrize("kept", [True, False])
def test_recordings_that_were_changed_since_are_those_of_the_commit_where_dvc_kept_copies(tmp_path, kept):
    def dvc(folder, *words):
        subprocess.run([sys.executable, "-m", "dvc", *words, "--quiet"], cwd=folder, check=True)

    source, project, code = tmp_path / "lab", tmp_path / "project", tmp_path / "code"
    for folder in (source, project / "data" / "fetched" / "chest", code):
        folder.mkdir(parents=True)
    (source / "recording").write_text("before")
    for folder in (project, code):
        dvc(folder, "init", "--no-scm")
    (project / "data.dvc").write_text(f"deps: [{{path: '{source}'}}]\nouts: [{{path: data/raw}}]\n")
    dvc(project, "repro", "data.dvc")
    shutil.copy(project / "data.dvc", code)
    (source / "recording").write_text("after")
    for name in ("a.zip", "b.zip.part", "b.zip.part.json"):
        (project / "data" / "fetched" / "chest" / name).write_text(name)
    if not kept:
        shutil.rmtree(project / ".dvc" / "cache")
    checkout.lend_copies(project, code, Path(sys.executable))
    checkout.repro(code, Path(sys.executable), ["data.dvc"])
    assert (code / "data" / "raw" / "recording").read_text() == ("before" if kept else "after")
    assert [(f.name, f.read_text()) for f in code.glob("data/fetched/*/*")] == [("a.zip", "a.zip")]
    assert "frozen" not in (project / "data.dvc").read_text()


def test_a_bundle_that_brings_code_is_not_run_without_consent(repo, forged, tmp_path):
    path = forged(lambda folder: (folder / "artifacts" / "code.patch").write_text("diff --git a/x b/x\n"))
    with pytest.raises(SpkdError, match="--trust true"):
        reproduce.fetch(path, repo.folder, tmp_path / "there", NOTHING)


def test_the_first_digits_of_an_id_are_enough_for_export_and_reproduce(repo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(repo.folder)
    out = tmp_path / "run.zip"
    assert export.main([repo.student[:8]], None, {}, {"out": str(out)}) == 0 and out.is_file()
    recorded = reproduce.fetch(repo.student[:8], repo.folder, tmp_path / "there", NOTHING)
    assert portable.record(recorded.folder).run_id == repo.student
    out.unlink()
    changed = repetition.Wrong("weights of teacher.x", "one", "other", "use an untouched copy")
    monkeypatch.setattr(repetition, "teachers", lambda recorded: changed)
    with pytest.raises(
        SpkdError, match=r"weights of teacher.x: expected one, as recorded, got other; use an untouched"
    ):
        export.main([repo.student], None, {}, {"out": str(out)})
    assert not out.exists()  # `reproduce` would refuse it there, where nothing can be mended


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("nothere.zip", "no such file; give its path"),
        ("run.bundle", "the id of a run, or its first digits"),
        ("ffffffff", "one run that begins with ffffffff"),
    ],
)
def test_a_source_that_is_not_there_is_an_error_that_says_so(repo, tmp_path, source, named):
    with pytest.raises(SpkdError, match=named):
        reproduce.fetch(source, repo.folder, tmp_path / "there", NOTHING)


def test_options_that_mean_nothing_are_errors(repo):
    settings, tree = repo.settings()
    with pytest.raises(SpkdError, match=r"--threads: expected a number of CPU threads, got 'two'"):
        reproduce_command.main([repo.student], settings, tree, {"threads": "two"})
    with pytest.raises(SpkdError, match=r"--out: expected FILE.zip, got run.bundle"):
        export.main([repo.student], settings, tree, {"out": "run.bundle"})


DETECT = config.read(ROOT / "params.yaml")["detect"]


@pytest.fixture
def detection(repo, tmp_path):
    """detection(key, value, layer, name) -> a bundle of a detection run with the shipped settings, one of them another.

    layer: of a network that the bundle brings, "" for none. name: its tag, teacher.detector or init.
    """

    def make(key, value, layer="", name="teacher.detector"):
        folder = tmp_path / "detection"
        tags = {"kind": "detect", "code.commit": git(repo.folder, "rev-parse", "HEAD")}
        tags |= {f"{name}.run_id": "r", f"{name}.sha256": "0" * 64} if layer else {}
        chosen = {"detect": DETECT, "run": config.read(ROOT / "params.yaml")["run"]}
        chosen = json.loads(json.dumps(chosen))
        config.put(chosen, f"detect.{key}", value, "test") if key else None
        params = {f"cfg/{k}": config.dump(v) for k, v in config.leaves(chosen)}
        info = {"id": "d", "name": "detector", "tags": tags, "params": params, "metrics": {}}
        (folder / "artifacts").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(info))
        (folder / "artifacts" / "settings.json").write_text(json.dumps(chosen))
        if layer:
            own = folder / "teachers" / name.removeprefix("teacher.")
            own.mkdir(parents=True)
            network = {"backbone": [[-1, 1, layer, []]], "head": []}
            said = {"network": json.dumps(network), "names": json.dumps({0: "a"})}
            save_file({"w": np.zeros(1)}, own / "weights.safetensors", said)
        bundle.pack(folder, tmp_path / "detection.zip")
        return str(tmp_path / "detection.zip")

    return make


@pytest.mark.parametrize(
    ("wanted", "indices"),
    [("0", "0"), ("0,1", "0,1"), ("cuda", "0"), ("cuda:1", "1"), ("cpu", "cpu"), ("auto", "auto")],
)
def test_a_detector_is_repeated_on_the_device_that_is_named_in_its_words_or_in_torchs(wanted, indices):
    tree = config.resolve(config.read(ROOT / "params.yaml"), {})
    recorded = repetition.Recorded(Path(), {"kind": "detect"}, {"detect": tree["detect"], "run": tree["run"]})
    planned = repetition.settings(recorded, tree, {}, {"device": wanted, "threads": 3})
    made = config.check(Settings, planned, "")
    assert (made.detect.device, made.run.threads) == (indices, 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "http://127.0.0.1:8971/y.pt"),
        ("model", "yolov8n.pt"),
        ("model", "weights/yolov8n.yaml"),
        ("model", "/tmp/yolov8n.yaml"),
        ("data", "/tmp/data.yaml"),
        ("data", "../data.yaml"),
        ("data", "http://127.0.0.1:8971/data.yaml"),
        ("data", "ul://data.yaml"),
        ("annotations", {"val": "/etc/val.json"}),
        ("distill.teacher", "teacher.pt"),
        ("distill.teacher", "http://127.0.0.1:8971/y.pt"),
        ("train", {"pretrained": "y.pt"}),
        ("train", {"project": "/tmp/there"}),
        ("train", {"classes": ["a/b"]}),
        ("train", {"cache": "disk"}),
    ],
)
def test_a_bundle_whose_detection_settings_name_files_or_addresses_is_refused(
    repo, detection, monkeypatch, tmp_path, key, value
):
    monkeypatch.setattr(reproduce, "_run_again", no_training)
    path = detection(key, value)
    with pytest.raises(SpkdError, match=rf"as detect.{key}.*--trust true"):
        verdict_of(repo, path)
    assert reproduce.fetch(path, repo.folder, tmp_path / "trusted", replace(NOTHING, trust=True)).command == "detect"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", None),
        ("model", "yolo11n.yaml"),
        ("annotations", {"val": "data/coco/val.json"}),
        ("distill.teacher", "run:0123abcd"),
        ("train", {"optimizer": "AdamW", "lr0": 0.01, "freeze": [0, 1], "plots": True}),
        ("device", "0,1"),
    ],
)
def test_a_bundle_of_plain_detection_settings_needs_no_consent(repo, detection, tmp_path, key, value):
    assert reproduce.fetch(detection(key, value), repo.folder, tmp_path / "there", NOTHING).command == "detect"


TRAVELLING = {"teacher.detector": "distill.teacher", "init": "model"}


@pytest.mark.parametrize("name", TRAVELLING)
def test_weights_that_travel_as_tensors_need_no_consent_however_they_were_named(repo, detection, tmp_path, name):
    path = detection(TRAVELLING[name], "weights/some.pt", "Conv", name)
    recorded = reproduce.fetch(path, repo.folder, tmp_path / "there", NOTHING)
    _, tree = repo.settings()
    planned = repetition.settings(recorded, tree, {name: "stored"}, {})
    assert planned["detect"]["model"] == ("run:stored" if name == "init" else DETECT["model"])
    assert planned["detect"]["distill"]["teacher"] == ("latest" if name == "init" else "run:stored")
    other = next(key for of, key in TRAVELLING.items() if of != name)
    shutil.rmtree(tmp_path / "detection")
    with pytest.raises(SpkdError, match=rf"as detect.{other}.*--trust true"):
        reproduce.fetch(detection(other, "weights/some.pt", "Conv", name), repo.folder, tmp_path / "again", NOTHING)


@pytest.mark.parametrize("name", TRAVELLING)
@pytest.mark.parametrize("layer", ["load_checkpoint", "TorchVision", "hub.load", "nn.init", "xnn.Conv2d"])
def test_a_bundle_whose_network_is_made_of_more_than_layers_is_refused(repo, detection, tmp_path, layer, name):
    with pytest.raises(SpkdError, match=r"layers of ultralytics.*do not use this file"):
        reproduce.fetch(detection("", None, layer, name), repo.folder, tmp_path / "there", NOTHING)


@pytest.mark.parametrize("layer", ["Conv", "nn.Upsample", "Detect"])
def test_a_bundle_whose_teacher_is_made_of_layers_is_taken(repo, detection, tmp_path, layer):
    assert reproduce.fetch(detection("", None, layer), repo.folder, tmp_path / "there", NOTHING).command == "detect"


def test_of_a_record_only_settings_that_the_code_has_are_taken_and_never_the_folder(repo, forged, tmp_path):
    def change(folder):
        path = folder / "artifacts" / "settings.json"
        said = json.loads(path.read_text())
        said["run"] |= {"folder": str(tmp_path / "elsewhere"), "hook": "x"}
        said["train"]["hook"] = said["distill"]["hook"] = said["losses"]["hook"] = "x"
        path.write_text(json.dumps(said))

    recorded = reproduce.fetch(forged(change), repo.folder, tmp_path / "there", NOTHING)
    tree = config.read(repo.folder / "params.yaml")
    tree["tracking"]["register"] = True
    made = repetition.settings(recorded, tree, reproduce._references(recorded), {"threads": 2})
    assert (made["run"]["folder"], made["run"]["threads"]) == ("runs", 2)
    assert made["tracking"]["register"] is False  # a copy is no new version of a model
    assert [k for k, _ in config.leaves(made) if "hook" in k] == []
    assert made["train"]["epochs"] == 1 and made["distill"]["beta"] == recorded.settings["distill"]["beta"]


@pytest.mark.parametrize("name", ["../../there", "/tmp/there", ""])
def test_a_name_of_a_record_that_is_a_path_is_refused(repo, packed, tmp_path, name):
    recorded = reproduce.fetch(str(packed), repo.folder, tmp_path / "there", NOTHING)
    said = {**recorded.settings, "model": {**recorded.settings["model"], "network": name}}
    with pytest.raises(SpkdError, match="the name of a network"):
        repetition.settings(replace(recorded, settings=said), config.read(repo.folder / "params.yaml"), {}, {})


def test_training_arguments_of_a_detection_run_replace_those_of_the_code(repo, detection, tmp_path):
    recorded = reproduce.fetch(detection("train", {"lr0": 0.01}), repo.folder, tmp_path / "there", NOTHING)
    made = repetition.settings(recorded, config.read(repo.folder / "params.yaml"), {}, {})
    assert made["detect"]["train"] == {"lr0": 0.01} and made["detect"]["epochs"] == DETECT["epochs"]


def test_a_detector_finds_the_data_and_the_network_of_the_project_that_its_commit_lacks(tmp_path):
    project, code = tmp_path / "project", tmp_path / "work" / "code"
    there = ("own/data.yaml", "../beside/val.json", "data/coco/data.yaml", "nets/tiny.yaml", "nets/committed.yaml")
    for file in (*(project / name for name in there), code / "nets" / "committed.yaml", tmp_path.parent / "out.yaml"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(file))
    annotations = {"val": "own/not there.json", "train": "../../out.yaml", "test": "own/../../beside/val.json"}
    for data, model in (("own/data.yaml", "nets/tiny.yaml"), ("data/coco/data.yaml", "nets/committed.yaml")):
        tree = {"detect": {"data": data, "model": model, "annotations": annotations}}
        shutil.rmtree(code / "data", ignore_errors=True)
        assert repetition.data(SimpleNamespace(command="detect"), project, code, Path(), tree) is None
        assert (code / data).read_text() == str(project / data)
    assert (code / "nets" / "tiny.yaml").samefile(project / "nets" / "tiny.yaml")
    assert (code / "nets" / "committed.yaml").read_text() == str(code / "nets" / "committed.yaml")
    assert sorted(path.name for path in code.iterdir()) == ["data", "nets", "own"]
    assert sorted(path.name for path in code.parent.iterdir()) == ["beside", "code"]
    assert (code / "../beside/val.json").samefile(tmp_path / "beside/val.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "project", "work"]


def test_the_patch_of_a_dirty_run_is_applied(repo, tmp_path):
    changed = repo.folder / "params.yaml"
    text = changed.read_text()
    try:
        changed.write_text(text.replace("preset: quick", "preset: none "))
        (repo.folder / "src" / "new.txt").write_text("new\n")
        code = working_tree.code(repo.folder)
    finally:
        changed.write_text(text)
        (repo.folder / "src" / "new.txt").unlink()
    (tmp_path / "code.patch").write_text(code["patch"])
    with checkout.worktree(repo.folder, code["commit"], tmp_path / "code.patch", tmp_path / "code") as there:
        assert "preset: none" in (there / "params.yaml").read_text()
        assert (there / "src" / "new.txt").read_text() == "new\n"
        assert working_tree.code(there)["patch"] == code["patch"]
    assert not (tmp_path / "code").exists()


@pytest.mark.parametrize(("length", "named"), [(20, "cannot be repeated"), (10**6, "only the first 1 MB")])
def test_a_patch_that_does_not_apply_is_an_error_and_leaves_no_worktree(repo, tmp_path, length, named):
    lines = "--- a/params.yaml\n+++ b/params.yaml\n@@ -1 +1 @@\n-another\n+"
    (tmp_path / "code.patch").write_text(f"{lines}{'x' * length}\n")
    expected = rf"a patch that applies to it, got error: patch failed: params.yaml:1 .*{named}"
    with (
        pytest.raises(SpkdError, match=expected),
        checkout.worktree(repo.folder, "HEAD", tmp_path / "code.patch", tmp_path / "code"),
    ):
        raise AssertionError("code that the run did not have")
    assert str(tmp_path) not in git(repo.folder, "worktree", "list")


def test_what_a_killed_reproduction_left_is_removed_by_the_next(repo, tmp_path):
    left = tmp_path / "reproduce-here-1"
    left.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (left / "process.json").write_text(json.dumps({**outbox.this_process(), "pid": dead.pid}))
    git(repo.folder, "worktree", "add", "--detach", str(left / "code"), "HEAD")
    mine = tmp_path / "reproduce-here-2"
    mine.mkdir()
    (mine / "process.json").write_text(json.dumps(outbox.this_process()))
    reproduce.sweep(repo.folder, tmp_path)
    assert not left.exists() and mine.exists()
    assert len(git(repo.folder, "worktree", "list").splitlines()) == 1


def test_a_repetition_whose_command_fails_is_an_error_and_no_verdict(repo, tmp_path):
    recorded = SimpleNamespace(command="teacher")
    trial = SimpleNamespace(name="net", run_id="r0")
    with tracking.open_run("reproduce net", tmp_path / "run", "spkd", tags={"kind": "reproduction"}) as run:
        with pytest.raises(SpkdError, match="repeat of net: expected success, got exit status 1"):
            false = Path(shutil.which("false"))
            reproduce._run_again(recorded, run, tmp_path, false, {}, trial, repo.folder, tmp_path / "repeated0")
        (again,) = tracking.find(f"tags.`mlflow.parentRunId` = '{run.id}'")
    assert (again.status, again.tags["kind"], again.tags["repeats"]) == ("FAILED", "repetition", "r0")


def test_a_record_without_the_weights_of_a_teacher_is_refused(repo, forged, monkeypatch):
    monkeypatch.setattr(reproduce, "_run_again", no_training)
    with pytest.raises(SpkdError, match=r"weights of teacher.signal-wrn16-1: expected a file of the record, got none"):
        verdict_of(repo, forged(lambda folder: next(folder.glob("teachers/*/weights.safetensors")).unlink()))


@pytest.mark.parametrize("kind", ["reproduction", "repetition", "compare", ""])
def test_only_runs_of_a_trainer_are_repeated(repo, tmp_path, kind):
    with tracking.open_run("no trainer", tmp_path / "run", "spkd", tags={"kind": kind} if kind else {}) as run:
        pass
    with pytest.raises(SpkdError, match=r"a run of"):
        portable.gather(run.id, repo.folder, tmp_path / "x")


@pytest.mark.parametrize("delivered", [False, True])
def test_a_verdict_stays_on_disk_until_all_of_it_is_delivered(tmp_path, monkeypatch, delivered):
    settings, boxes = SimpleNamespace(run=SimpleNamespace(folder="runs")), []

    def stopped(source, project, folder, choices):
        name = folder.parent.name.replace("reproduce-", "reproduction-")
        boxes.append(outbox.Outbox(folder.parent.with_name(name)))
        boxes[0].append("tags", values={"verdict": "identical"})
        boxes[0].close()
        sent = boxes[0].events_path.stat().st_size if delivered else 0
        boxes[0].delivery = outbox.Delivery("sqlite:///x.db", "f00", sent)
        raise SpkdError("here", "a", "b", "c")

    monkeypatch.setattr(reproduce, "fetch", stopped)
    with pytest.raises(SpkdError, match="here: expected a"):
        reproduce.reproduce("r", tmp_path, settings, NOTHING)
    assert boxes[0].pending() == (0 if delivered else 1)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ([] if delivered else [boxes[0].folder.name])
