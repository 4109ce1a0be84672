import itertools
import json
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from spkd.data import prepared, scaling
from spkd.errors import SpkdError
from spkd.evidence import outbox, provenance, simulated, tracking
from spkd.evidence.outbox import Delivery, Outbox
from spkd.evidence.tracking import store
from spkd.evidence.tracking.reading import get
from spkd.experiment import har, lineage, plan, record, run_report
from spkd.training import loop
from spkd.views import persistence


@pytest.fixture(scope="module")
def student(trained):
    return get(trained.student)


def read(run_id, name):
    return json.loads(tracking.artifact(run_id, name).read_text())


def test_a_missing_teacher_is_trained_first_as_a_nested_run(trained, student):
    teacher = get(student.tags["teacher.signal-wrn16-1.run_id"])
    assert teacher.status == "FINISHED"
    assert teacher.tags["kind"] == "teacher"
    assert teacher.tags["mlflow.parentRunId"] == student.id


def test_the_run_says_what_it_is(student):
    assert student.name == "wrn16-1 <- signal:wrn16-1 kd sp chest s1 32@32Hz t0"
    assert student.status == "FINISHED"
    assert "validation" in student.tags["headline"]
    assert "Simulated data" in student.tags["mlflow.note.content"]
    assert "| best on TEST: optimistic | " in student.tags["mlflow.note.content"]
    assert (
        f"weights sha256 `{student.tags['teacher.signal-wrn16-1.sha256'][:16]}`" in student.tags["mlflow.note.content"]
    )


def test_a_run_says_which_classes_and_channels_its_training_subjects_lack(trained, monkeypatch, capsys):
    made = trained.plan("student", distill__teachers=[])
    made = replace(made, split=replace(made.split, missing=["b"]), scaling=replace(made.scaling, constant=["y"]))
    told, silent = {}, dict.fromkeys(("params", "dataset", "json", "text"), lambda *words, **more: None)
    monkeypatch.setattr(record.provenance, "tell", lambda *words: ("", {}))
    record.beginning(SimpleNamespace(tags=told.update, **silent), made, {})
    assert told["data.missing_in_training"] == "b"
    said = capsys.readouterr().out
    assert "classes that the training subjects do not have: b\n" in said
    assert "constant channels, scaled to 0: y\n" in said


def test_the_first_step_of_a_network_that_draws_at_random_is_the_same_in_every_process(monkeypatch):
    """It is what another machine repeats; functions draw from the global generator, whatever was drawn before."""
    monkeypatch.setattr(record, "first_step", lambda task, rows: {"loss": float(torch.rand(()))})
    settings = SimpleNamespace(
        run=SimpleNamespace(seed=0),
        train=SimpleNamespace(batch=2, epochs=3, early=0),
        tracking=SimpleNamespace(maps_every=9),
    )
    told, made = [], SimpleNamespace(settings=settings, role="student")
    run = SimpleNamespace(tags=lambda tags: None, metrics=lambda numbers, step: told.append(numbers))
    task = SimpleNamespace(train=torch.arange(4), network=torch.nn.Linear(1, 1))
    monkeypatch.setattr(record.Callback, "maps", lambda self, epoch: None)
    for before in (1, 2):
        torch.rand(before)
        callback = object.__new__(record.Callback)
        callback.run, callback.made, callback.task, callback.told = run, made, task, 0
        callback(SimpleNamespace(history=[], epoch=0))
    assert told[0] == told[1] and list(told[0]) == ["first_step/loss"]


def test_all_settings_and_the_ten_environment_facts_are_parameters(student):
    assert student.params["cfg/train.epochs"] == "3"
    assert student.params["cfg/distill.beta.sp"] == "50.0"
    assert student.params["machine/train.windows_gib"] == "8.0"
    assert len([key for key in student.params if key.startswith("env/")]) == 10


def test_every_epoch_has_losses_scores_rate_and_time(student):
    wanted = {
        "train/loss", "train/accuracy", "val/accuracy", "val/macro_f1", "val/loss", "test/accuracy", "test/macro_f1",
        "lr", "seconds", "samples_per_s", "loss/cross_entropy", "loss/kd/signal-wrn16-1", "loss/sp",
    }  # fmt: skip
    for key in wanted:
        assert [step for step, _ in tracking.history(student.id, key)] == [1, 2, 3], key


def test_every_result_is_that_of_its_own_epoch(student):
    names = ("test/accuracy", "test/macro_f1", "val/accuracy")
    test, f1, validation = ([value for _, value in tracking.history(student.id, name)] for name in names)
    epochs = {"last": 2, "best": test.index(max(test)), "validation": validation.index(max(validation))}
    for name, k in {**epochs, "headline": epochs["validation"]}.items():
        found = [student.metrics[f"{name}/{key}"] for key in ("epoch", "accuracy", "macro_f1", "val_accuracy")]
        assert found == [k + 1, test[k], f1[k], validation[k]], name


def test_maps_are_logged_at_start_every_k_epochs_and_at_the_end(student):
    client = tracking.store.client()
    images = [f.path for f in client.list_artifacts(student.id, "images")]
    for key in ("student", "signal-wrn16-1", "student - signal-wrn16-1"):
        steps = {p.split("+step+")[1].split("+")[0] for p in images if p.startswith(f"images/maps~group2~{key}+")}
        assert steps >= {"0", "2", "3"}, (key, images[:5])
    picture = next(p for p in images if p.startswith("images/maps~group2~student+step+0") and p.endswith(".png"))
    pixels = np.asarray(Image.open(tracking.artifact(student.id, picture)).convert("RGB"))
    assert (simulated.marked(pixels[: -simulated.STRIP_PX], "simulated") == pixels).all()
    with np.load(tracking.artifact(student.id, "maps/arrays_0003.npz"), allow_pickle=False) as arrays:
        assert arrays["group1/student"].shape == arrays["group1/teacher/signal-wrn16-1"].shape == (12, 12)
        assert (np.diff(arrays["labels"]) >= 0).all()
    panels = [path for path in tracking.listing(student.id, "maps") if "panel" in path]
    assert panels == ["maps/panel_0000.svg", "maps/panel_0003.svg"]
    drawn = ElementTree.parse(tracking.artifact(student.id, panels[-1])).getroot()
    assert len([image for image in drawn.iter() if image.tag.endswith("image")]) > 8


def test_map_numbers_say_distance_contrast_and_cka(student):
    for tap in ("group1", "group2", "group3"):
        for name in ("contrast", "within", "between", "distance/signal-wrn16-1", "cka/signal-wrn16-1"):
            assert f"sim/{tap}/{name}" in student.metrics


def test_teacher_maps_do_not_change_while_the_student_learns(student):
    first, last = (np.load(tracking.artifact(student.id, f"maps/arrays_{k:04d}.npz")) for k in (0, 3))
    np.testing.assert_array_equal(first["group3/teacher/signal-wrn16-1"], last["group3/teacher/signal-wrn16-1"])
    assert not np.allclose(first["group3/student"], last["group3/student"])


def test_the_maps_of_teachers_come_from_the_windows_and_views_that_they_teach_from(trained, tmp_path, monkeypatch):
    made = trained.plan("student")
    loaded = lineage.load(made, lineage.find(made, "signal:wrn16-1"), tmp_path)
    statistics = {**loaded.card.scaling, "mean": (2 * np.array(loaded.card.scaling["mean"])).tolist()}
    ancestors = [replace(loaded, name=name, card=replace(loaded.card, scaling=statistics)) for name in ("a", "b")]
    renders, places = [], []
    render, on_device = plan.render, plan.on_device
    monkeypatch.setattr(plan, "render", lambda *words: renders.append(words) or render(*words))
    monkeypatch.setattr(plan, "on_device", lambda *words: places.append(words) or on_device(*words))
    untracked = SimpleNamespace(tags=lambda words: None, folder=tmp_path)
    callback = record.Callback(untracked, made, *har.assemble(made, untracked, ancestors, None))
    assert (len(renders), len(places)) == (3, 2)  # of the student, of each teacher; of the student, of both teachers
    windows, rows = on_device(made, scaling.from_dict(statistics)), callback.task.windows.rows(callback.rows)
    view = render(made, "signal", loaded.card.view_settings)
    twin = record.products(loaded.network, view, windows, rows, list(made.settings.distill.taps))
    assert callback.taught.keys() == {"a", "b"}
    for tap, expected in twin.items():
        assert all(own[tap].tobytes() == expected.tobytes() for own in callback.taught.values())


def test_a_signal_that_memory_may_not_hold_is_read_from_a_file_and_ends_with_the_same_weights(trained, student, capsys):
    from_file = get(trained.train("student", train__windows_gib=0.0))
    said = capsys.readouterr().out
    assert f"more than train.windows_gib 0: read from a file in {trained.places.runs}" in said
    assert from_file.tags["weights.sha256"] == student.tags["weights.sha256"]


def test_environment_code_and_data_are_recorded(trained, student):
    environment = read(student.id, "environment.json")
    assert environment["flags"]["threads"] == 1
    assert "torch" in environment["packages"]
    manifest = read(student.id, "data/manifest.json")
    assert manifest["digest"] == student.tags["data.digest"]
    inputs = tracking.store.client().get_run(student.id).inputs.dataset_inputs
    assert [i.dataset.name for i in inputs] == ["chest"]
    assert len(inputs[0].dataset.digest) <= 36
    assert student.tags["code.commit"]


def test_a_commit_during_training_leaves_the_page_with_the_code_that_the_run_began_with(
    store, new_project, waves, tmp_path
):
    def git(*words):
        done = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    made = new_project(tmp_path, waves)
    git("init", "--quiet")
    (tmp_path / ".gitignore").write_text("data\nruns\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "new.py").write_text("NEW = 1\n")
    for key, text in (("user.name", "t"), ("user.email", "t@t")):
        git("config", key, text)
    git("add", ".gitignore")
    git("commit", "--quiet", "--message", "first")
    before = git("rev-parse", "HEAD")
    scratch = made.settings(distill__teachers=[], train__epochs=1, fold=1)
    with har.begun(har.Wanted("student", *scratch, made.places)) as own:
        state = loop.fit(own.task, own.made.settings.train, 0, own.checkpoint, own.key, own.callback)
        git("add", "src")
        git("commit", "--quiet", "--message", "second")
        own.end(state)
    tags = get(own.run.id).tags
    assert tags["code.commit"] == before != git("rev-parse", "HEAD")
    assert f"git checkout {before}" in tags["mlflow.note.content"]
    assert tags["code.dirty"] == "true" and "git apply code.patch" in tags["mlflow.note.content"]


def test_the_weights_load_again_and_predict_what_the_run_reported(trained, student):
    made = trained.plan("student")
    ancestor = lineage.load(made, student.id, trained.folder / "again")
    assert ancestor.sha256 == student.tags["weights.sha256"]
    assert ancestor.card.classes == made.windows.classes
    table = read(student.id, "predictions.json")
    columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    accuracy = np.mean(np.array(columns["true"]) == np.array(columns["predicted"]))
    assert accuracy == pytest.approx(student.metrics["headline/accuracy"])
    assert set(load_file(tracking.artifact(student.id, lineage.WEIGHTS))) == set(ancestor.network.state_dict())


def test_figures_and_tables_of_the_test_subjects_are_there(student):
    for name in ("confusion.json", "per_class.json", "per_subject.json", "epochs.json"):
        assert read(student.id, name)["data"]
    for name in ("confusion", "f1", "subjects", "curves"):
        drawn = ElementTree.parse(tracking.artifact(student.id, f"plots/{name}.svg")).getroot()
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg" and "SIMULATED" in drawn[0].text


def test_cost_is_measured(student):
    assert student.metrics["cost/parameters"] > 60_000
    assert student.metrics["cost/macs"] > student.metrics["cost/parameters"]
    assert student.metrics["cost/latency_ms"] > 0
    assert student.metrics["cost/bytes"] > 4 * student.metrics["cost/parameters"]


def test_the_same_settings_give_the_same_weights(trained):
    first, second = get(trained.scratch), get(trained.train("student", distill__teachers=[]))
    assert first.id != second.id
    assert first.tags["weights.sha256"] == second.tags["weights.sha256"]


def test_a_teacher_is_found_by_registered_name(trained, student):
    name, teacher = "chest-signal-wrn16-1", student.tags["teacher.signal-wrn16-1.run_id"]
    # Other tests register teachers of that name as well.
    version = next(v for v in itertools.count(1) if tracking.registered(name, v) == teacher)
    run = get(trained.train("student", distill__teachers=[f"model:{name}/{version}"]))
    assert run.tags["teacher.signal-wrn16-1.run_id"] == teacher


def test_several_teachers_of_several_views_teach_one_student(trained):
    run = get(trained.train("student", distill__teachers=["gaf:wrn16-1", "signal:wrn16-1"], train__epochs=1))
    assert {"loss/kd/gaf-wrn16-1", "loss/kd/signal-wrn16-1", "loss/sp"} <= set(run.metrics)
    assert float(run.tags["teacher.gaf-wrn16-1.alpha"]) == 0.5


def test_annealing_starts_from_the_scratch_student(trained):
    run = get(trained.train("student", distill__init="latest", train__epochs=1))
    assert run.tags["init.run_id"]
    assert get(run.tags["init.run_id"]).tags["kind"] == "scratch"
    assert "annealed" in run.name


def test_by_the_published_protocol_all_others_train_and_the_last_weights_are_kept(trained, capfd):
    part = {"datasets__chest__split__validation_subjects": 0, "distill__teachers": []}
    with pytest.raises(SpkdError, match=r"train.headline: expected last or paper, as no subjects validate"):
        trained.plan("student", **part)
    run = get(trained.train("student", **part, train__headline="paper"))
    assert "val accuracy" not in capfd.readouterr().err
    subjects = trained.plan("student").windows.subjects
    assert run.tags["train_subjects"].split() == [s for s in subjects if s != run.tags["test_subjects"]]
    assert run.tags["validation_subjects"] == "none" and run.tags["weights.epoch"] == "3"
    assert not [key for key in run.metrics if key.startswith(("validation/", "val/")) or "val_accuracy" in key]
    columns = read(run.id, "predictions.json")
    columns = dict(zip(columns["columns"], zip(*columns["data"], strict=True), strict=True))
    accuracy = np.mean(np.array(columns["true"]) == np.array(columns["predicted"]))
    assert accuracy == pytest.approx(run.metrics["last/accuracy"])
    assert run.metrics["headline/accuracy"] == run.metrics["best/accuracy"] >= run.metrics["last/accuracy"]


def test_a_finished_run_leaves_no_folder(trained, student):
    kept = {box.delivery.run_id for box in outbox.find(trained.places.runs)}
    assert not kept & {student.id, trained.scratch, student.tags["teacher.signal-wrn16-1.run_id"]}


@pytest.mark.parametrize(("changes", "message"), [
    ({"distill__teachers": ["signal:wrn28-1", "persistence:wrn16-1"]}, "a prepared view, got none"),
    ({"distill__teachers": ["signal:wrn28-1", "persistence:wrn16-1"], "train__noise": 0.1}, "train.noise: expected 0"),
    ({"distill__teachers": ["signal:wrn28-1"], "student__view": "persistence"}, "a prepared view, got none"),
    ({"distill__teachers": ["signal:wrn28-1"], "student__view": "gaf", "views__gaf__size": 9999}, "gaf.size: "),
])  # fmt: skip
def test_no_teacher_is_trained_for_a_run_whose_views_cannot_be_drawn(trained, changes, message):
    with pytest.raises(SpkdError, match=message):
        trained.train("student", **changes)
    assert not tracking.find(tracking.finished({"kind": "teacher", "network": "wrn28-1"}))


def test_a_run_that_fails_says_why(trained):
    with pytest.raises(SpkdError, match="no training on the test subjects of fold 1"):
        trained.train("student", fold=1, distill__teachers=[f"run:{trained.scratch}"])
    run = tracking.find("attributes.status = 'FAILED'", limit=1)[0]
    assert "no training on the test subjects of fold 1" in run.tags["failure"]


def test_an_unfinished_run_goes_on_with_the_code_that_began_it_alone(trained, monkeypatch):
    def stopped(*words):
        raise KeyboardInterrupt

    save = loop.save

    def saved_and_stopped(*words):
        save(*words).wait()
        raise KeyboardInterrupt

    same = {"distill__teachers": [], "train__epochs": 2, "run__seed": 9}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("spkd.training.loop.fit", stopped)
        trained.train("student", **same)
    (folder,) = trained.places.runs.glob("*_t9")
    begun = (folder / "code.json").read_text()
    other = json.dumps({**json.loads(begun), "losses/cross_entropy.py": "0"})
    before = len(tracking.find())
    (folder / "code.json").write_text(other)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("spkd.training.loop.fit", stopped)
        trained.train("student", **same)  # nothing was trained by the other code: a run of its own, no refusal
    assert len(tracking.find()) == before + 1 and (folder / "code.json").read_text() == begun
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "save", saved_and_stopped)
        trained.train("student", **same)
    (folder / "code.json").write_text(other)
    before = len(tracking.find())
    with pytest.raises(SpkdError, match=r"changes in losses/cross_entropy.py; bring that code back .* or delete"):
        trained.train("student", **same)
    (folder / "code.json").write_text(begun)
    run_id = trained.train("student", **same)
    assert len(tracking.find()) == before and get(run_id).status == "FINISHED"


def test_a_run_goes_on_with_more_or_less_memory_and_other_checkpoints(trained, monkeypatch):
    save = loop.save

    def saved_and_stopped(*words):
        save(*words)
        raise KeyboardInterrupt

    same = {"train__epochs": 2, "run__seed": 14}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "save", saved_and_stopped)
        trained.train("student", **same)
    before = len(tracking.find())
    other = {"checkpoint_every": 2, "windows_gib": 0.0, "teacher_cache_gib": 0.0, "cuda_graphs": False}
    run = get(trained.train("student", **same, **{f"train__{key}": value for key, value in other.items()}))
    assert len(tracking.find()) == before and run.status == "FINISHED"
    assert (run.params["machine/train.windows_gib"], run.tags["changed.machine/train.windows_gib"]) == ("8.0", "0.0")
    whole = get(trained.train("student", **same))
    assert whole.id != run.id and whole.tags["weights.sha256"] == run.tags["weights.sha256"]


def test_epochs_that_a_power_cut_took_from_the_local_copy_come_back_from_the_checkpoint(trained, monkeypatch):
    saves, save = iter([False, False, True]), loop.save

    def saved_and_cut(*words):
        saving = save(*words)
        saving.wait()
        if next(saves):
            raise KeyboardInterrupt
        return saving

    same = {"distill__teachers": [], "train__epochs": 4, "run__seed": 11}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "save", saved_and_cut)
        trained.train("student", **same)
    (folder,) = trained.places.runs.glob("*_t11")
    box = Outbox(folder)
    lines = box.events_path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"train/loss"' not in line or '"step": 1' in line]
    assert len(lines) - len(kept) == 1
    box.events_path.write_text("".join(kept))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained.folder / 'another.db'}")  # a store without them
    run_id = trained.train("student", **same)
    assert [step for step, _ in tracking.history(run_id, "train/loss")] == [1, 2, 3, 4]
    assert [step for step, _ in tracking.history(run_id, "lr")] == [1, 2, 3, 4]


def test_a_cell_that_was_stopped_begins_anew_where_settings_or_code_that_it_does_not_use_are_others(
    trained, monkeypatch
):
    save = loop.save

    def saved_and_stopped(*words):
        save(*words).wait()
        raise KeyboardInterrupt

    def begin(cell, **changes):
        settings = trained.settings(distill__teachers=[], run__seed=12, **changes)
        return har.train(har.Wanted("student", *settings, trained.places, folder=cell))

    def stopped(cell):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(loop, "save", saved_and_stopped)
            begin(cell)

    stopped("cell-a")
    before = len(tracking.find())
    other = get(begin("cell-a", distill__lambda=0.9))  # of the scratch student nothing but a setting on record
    assert other.status == "FINISHED" and other.params["cfg/distill.lambda"] == "0.9"
    assert len(tracking.find()) == before + 1
    stopped("cell-b")
    note = trained.places.runs / "cell-b" / "code.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "losses/kd.py": "0"}))
    assert get(begin("cell-b")).tags["weights.sha256"] == other.tags["weights.sha256"]


def test_a_run_that_begins_anew_looks_for_its_teachers_anew(trained, teacher, monkeypatch):
    def stopped(*words):
        raise KeyboardInterrupt

    same = {"run__seed": 13}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("spkd.training.loop.fit", stopped)
        trained.train("student", **same)
    (folder,) = trained.places.runs.glob("*_t13")
    pinned = folder / "lineage.json"
    pinned.write_text(json.dumps({"teachers": ["of a run that is gone"], "init": None}))
    with pytest.raises(SpkdError):
        trained.train("student", **same)  # it goes on with the teacher that it chose
    note = folder / "code.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "losses/sp.py": "0"}))
    run = get(trained.train("student", **same))
    assert run.status == "FINISHED" and run.tags["teacher.signal-wrn16-1.run_id"] == teacher.run_id


def test_the_latency_is_the_shortest_of_all_times_whatever_else_the_machine_does(trained, monkeypatch):
    made = trained.plan("student", distill__teachers=[])
    task, _ = har.assemble(made, SimpleNamespace(), [], None)
    clock = itertools.accumulate(
        step for k in range(run_report.LATENCY_RUNS) for step in (0.5, 0.002 if k == 7 else 0.9)
    )
    monkeypatch.setattr(run_report, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert run_report.measured_cost(made, task)["latency_ms"] == pytest.approx(2.0)


def test_the_latency_of_a_view_that_is_stored_holds_the_time_to_prepare_its_window(
    new_project, waves, tmp_path, monkeypatch
):
    own = new_project(tmp_path, waves)
    windows, settings = own.plan("student").windows, persistence.Settings(**own.settings()[1]["views"]["persistence"])
    stored, folder = persistence.prepare(windows, settings), tmp_path / "data" / "views" / "chest" / "persistence"
    prepared.save(folder, windows, stored, "persistence", settings.model_dump())
    made = own.plan("teacher", teacher__view="persistence", views__persistence__size=16)
    task, _ = har.assemble(made, SimpleNamespace(), [], None)
    now, asked = [0.0], []

    def prepare(one, settings):
        now[0] += 0.003
        asked.append((one.windows(np.arange(len(one))), settings.size))

    monkeypatch.setattr(persistence, "prepare", prepare)
    monkeypatch.setattr(run_report, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert run_report.measured_cost(made, task)["latency_ms"] == pytest.approx(3.0)
    assert all((one == windows.windows(made.split.test[:1])).all() and size == 16 for one, size in asked)


@pytest.fixture
def teacher(trained, student, tmp_path):
    """The student's own teacher."""
    run_id = student.tags["teacher.signal-wrn16-1.run_id"]
    return lineage.load(trained.plan("student"), run_id, tmp_path / "teacher")


def test_kept_answers_are_found_only_by_what_they_were_made_of(trained, teacher, tmp_path, monkeypatch):
    keys, run = [], SimpleNamespace(tags=lambda values: None, folder=tmp_path)

    def remember(live, rows, batch, memory, folder, wrap, key, from_s):
        keys.append(key)
        return live, "as told"

    def key(ancestor=teacher, **changes):
        har.assemble(trained.plan("student", train__teacher_cache_keep=True, **changes), run, [ancestor], None)
        return keys.pop()

    monkeypatch.setattr(har, "remember", remember)
    monkeypatch.setattr(har, "_code", lambda made: {"losses/sp.py": "0"})
    first = key()
    assert len(first) == 16 and key(run__seed=3, train__lr=0.01) == first
    others = [
        key(replace(teacher, sha256="0" * 64)), key(fold=1), key(train__eval_batch=7), key(distill__taps=["group3"]),
        key(replace(teacher, card=replace(teacher.card, train_subjects=["9"]))),
        key(run__threads=2), key(run__tf32=True), key(run__deterministic=False),
        key(distill__beta={"at": 1.0}),  # it needs the features themselves, not their products
    ]  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(torch, "__version__", "0.0")
        others.append(key())
    with monkeypatch.context() as patched:
        patched.setattr(har.machine, "chip", lambda device: f"another {device.type}")
        others.append(key())
    with monkeypatch.context() as patched:
        gpu, plain = torch.device("cuda"), har._remembered
        patched.setattr(har.machine, "chip", lambda device: "")
        patched.setattr(har, "_remembered", lambda made, *words: plain(replace(made, device=gpu), *words))
        others.append(key())
    monkeypatch.setattr(har, "_code", lambda made: {"losses/sp.py": "1"})
    others.append(key())
    assert len({first, *others}) == 1 + len(others)


def test_a_teachers_answers_are_remembered_within_the_settings_and_not_where_windows_change(
    trained, teacher, tmp_path, monkeypatch
):
    tags, given = {}, []
    run = SimpleNamespace(tags=tags.update, folder=tmp_path)

    def remember(live, rows, *words):
        given.append(words)
        return live, "as told"

    def how(**changes):
        har.assemble(trained.plan("student", **changes), run, [teacher], None)
        return tags.pop("teacher.signal-wrn16-1.answers")

    monkeypatch.setattr(har, "remember", remember)
    assert how(train__teacher_cache=False) == "every step: train.teacher_cache is false"
    assert how(train__noise=0.1) == "every step: train.noise changes the windows"
    assert not given
    assert how(train__teacher_cache_gib=2.0, train__eval_batch=7) == "as told"
    batch, most, folder, wrap, key, from_s = given.pop()
    assert (batch, most, folder, from_s) == (7, 2 * 2**30, tmp_path / "answers", 60.0)
    assert len(key) == 16
    assert wrap.__module__.endswith("losses.sp") and wrap.__name__ == "Products"
    assert how(train__teacher_cache_keep=True) == "as told"
    assert given[-1][2] == trained.places.runs / "answers" and given.pop()[-1] == 0.0


def test_a_run_that_was_killed_finds_the_answers_that_took_long_and_leaves_none(trained, student, monkeypatch):
    monkeypatch.setattr(har, "LONG_S", 0.0)
    settings = trained.settings(run__seed=7)
    with pytest.raises(KeyboardInterrupt), har.begun(har.Wanted("student", *settings, trained.places)) as own:
        folder = own.run.folder
        assert [path.name[:-16] for path in (folder / "answers").iterdir()] == ["signal-wrn16-1-"]
        raise KeyboardInterrupt
    again = get(trained.train("student", run__seed=7))
    assert again.id == own.run.id and "found" in again.tags["teacher.signal-wrn16-1.answers"]
    assert not folder.exists()
    monkeypatch.setattr(har, "LONG_S", 1e9)
    asked = get(trained.train("student", run__seed=7))
    assert asked.id != again.id and "once" in asked.tags["teacher.signal-wrn16-1.answers"]
    assert asked.tags["weights.sha256"] == again.tags["weights.sha256"]


@pytest.mark.parametrize(("seed", "opened", "code"), [(11, False, "same"), (12, True, "same"), (13, False, "other")])
def test_a_run_that_was_killed_before_all_of_it_arrived_is_delivered_and_trained_anew_by_other_code_alone(
    trained, monkeypatch, capsys, seed, opened, code
):
    """opened: whether MLflow opens a run for the command that comes after the killed one, as `mlflow run` does."""
    with monkeypatch.context() as killed:
        killed.setattr(tracking, "forget", lambda folder: None)
        before = get(trained.train("student", run__seed=seed))
    box = next(box for box in outbox.find(trained.places.runs) if box.finished)
    events = box.events_path.read_text().splitlines(keepends=True)
    dead = {**outbox.this_process(), "started_s": 1.0, "since_boot": ""}
    events[0] = json.dumps({**json.loads(events[0]), "process": dead}) + "\n"
    box.events_path.write_text("".join(events))
    box.delivery = Delivery(box.delivery.uri, before.id, sum(len(line.encode()) for line in events[:-9]))
    store.client().update_run(before.id, status="RUNNING")
    wanted = before.id
    if opened:
        wanted = store.client().create_run(before.experiment_id).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", wanted)
    if code == "other":
        monkeypatch.setattr(har, "_code", lambda made: {"losses/kd.py": "other"})
    else:
        monkeypatch.setattr(loop, "train_step", None)
    again = get(trained.train("student", run__seed=seed))
    assert again.status == "FINISHED" and not box.folder.exists()
    assert again.tags["weights.sha256"] == before.tags["weights.sha256"]
    assert [again.metrics[k] for k in ("headline/accuracy", "val/loss")] == [
        before.metrics[k] for k in ("headline/accuracy", "val/loss")
    ]
    if code == "other":
        assert again.id != before.id and get(before.id).status == "FINISHED"
    else:
        assert again.id == wanted and "goes on there" in capsys.readouterr().out
    if opened:
        assert get(before.id).status == "KILLED" and get(before.id).tags["continued_by"] == wanted


def test_the_teachers_that_a_run_chose_are_those_it_goes_on_with(trained, teacher, tmp_path):
    made, run = trained.plan("student"), SimpleNamespace(folder=tmp_path / "run")
    chosen, _ = har.ancestors(made, run, {"signal:wrn16-1": teacher.run_id})
    begun = (run.folder / "lineage.json").read_text()
    assert json.loads(begun) == {"teachers": [teacher.run_id], "init": None}
    again, _ = har.ancestors(made, run, {"signal:wrn16-1": "of a newer run"})
    assert [t.run_id for t in again] == [t.run_id for t in chosen] == [teacher.run_id]
    assert (run.folder / "lineage.json").read_text() == begun


@pytest.mark.parametrize(
    ("rule", "headline", "kept", "said"), [("last", 2, 2, "at the last epoch"), ("paper", 2, 1, "best test epoch")]
)
def test_the_rule_paper_reports_the_best_test_epoch_and_only_the_rule_last_keeps_other_than_validation_weights(
    trained, monkeypatch, rule, headline, kept, said
):
    right, seen = iter([18, 2, 12, 22]), []  # of 24 windows: validation and test after each of two epochs

    def judged(task, rows, batch):
        seen.append(provenance.state_sha256(task.network.state_dict()))
        labels = task.windows.label[rows]
        return torch.where(
            torch.arange(len(rows), device=rows.device) < next(right), labels, (labels + 1) % 3
        ), torch.zeros(())

    monkeypatch.setattr(loop, "judged", judged)
    run = get(trained.train("student", distill__teachers=[], train__epochs=2, train__headline=rule))
    epochs = {name: run.metrics[f"{name}/epoch"] for name in ("validation", "last", "best", "headline")}
    assert epochs == {"validation": 1, "last": 2, "best": 2, "headline": headline}
    reported = {name: round(24 * run.metrics[f"{name}/accuracy"]) for name in epochs}
    assert reported == {"validation": 2, "last": 22, "best": 22, "headline": 22}
    assert run.name.endswith("t0 best-TEST" if rule == "paper" else "t0")
    assert said in run.tags["headline"] and run.tags["weights.epoch"] == str(kept)
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert run.tags["weights.sha256"] == seen[2 * kept - 1]


def test_a_finished_runs_folder_stays_until_all_of_it_is_delivered(tmp_path, capsys):
    box = Outbox(tmp_path / "run")
    box.append("metrics", values={"loss": 0.5}, step=1)
    box.close()
    tracking.forget(box.folder)
    assert box.pending() == 1 and f"spkd upload {box.folder}" in capsys.readouterr().out
    box.delivery = Delivery("sqlite:///x.db", "f00", box.events_path.stat().st_size)
    tracking.forget(box.folder)
    assert not box.folder.exists() and capsys.readouterr().out == ""
