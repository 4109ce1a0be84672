"""The order of work, and what counts as done, with runs and an executor that are only pretended."""

import contextlib
import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from spkd import atomic, config
from spkd.cli import table as command
from spkd.data import windowset
from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.outbox import Outbox, this_process
from spkd.evidence.reports import blocks
from spkd.evidence.tracking import RunInfo
from spkd.executor import Outcome
from spkd.experiment import cells, plan, table_report, table_run
from spkd.experiment.table import digest
from spkd.settings import Settings

ROOT = Path(__file__).parents[2]
TABLE = {
    "about": "", "set": {"dataset": "chest", "distill.teachers": ["gaf:wrn16-1"]}, "folds": [0], "trials": [0, 1],
    "teacher_trials": "first",
    "rows": {"scratch": {"set": {"distill.teachers": []}}, "KD": {"set": {"distill.beta": {}}}},
}  # fmt: skip


def run_info(fingerprint, status="FINISHED", weights="w", number=0, **tags):
    own = {"cell": fingerprint, "weights.sha256": weights, "process": "host:1:2.0", **tags}
    return RunInfo(f"run{number}-{fingerprint}", "", status, "0", 1000, 3000, {}, {"headline/accuracy": 0.5}, own)


def of_settings(waves, raw, dataset):
    """The waves as if the settings of that data set had cut them."""
    return replace(waves, manifest={**waves.manifest, "settings": raw["datasets"][dataset]["windows"]})


@pytest.fixture
def board(waves, tmp_path):
    raw = config.read(ROOT / "params.yaml")
    raw["tables"] = {"t": TABLE}
    (tmp_path / "data" / "windows").mkdir(parents=True)
    of_settings(waves, raw, "chest").save(tmp_path / "data" / "windows" / "chest")
    places = plan.Places(tmp_path / "runs", tmp_path)
    return cells.board("t", config.check(Settings, config.resolve(raw, {}), ""), raw, {}, places)


class Pretended:
    """Ends jobs as it is told, two at a time; keeps the store of runs that they would leave.

    running: tags of the run of a job that ended so, where it is left RUNNING.
    """

    def __init__(self, ends=None, running=None):
        self.runs, self.ends, self.running, self.started, self.busy = {}, ends or {}, running or {}, [], []

    def free(self):
        return len(self.busy) < 2

    def submit(self, key, job):
        assert self.free()
        self.started.append((key, job))
        self.busy.append((key, job))

    def collect(self, timeout_s):
        if not self.busy:
            return []
        key, job = self.busy.pop(0)
        times = [k for k, _ in self.started].count(key)
        ended = self.ends.get(job["role"], ["done"] * 9)[times - 1]
        fingerprint = job["tags"]["cell"]
        status = {"done": "FINISHED", "error": "FAILED", "died": "RUNNING"} | dict.fromkeys(self.running, "RUNNING")
        told = {"failure": "it broke", **self.running.get(ended, {})}
        self.runs[fingerprint] = [run_info(fingerprint, status[ended], weights=f"weights {key}", **told)]
        return [Outcome(key, ended, "as told")]

    def complete(self, board, retries=1):
        survey = lambda b: cells.survey(b, self.runs, alive=lambda tags: False)  # noqa: E731
        return table_run.complete(board, self, "parent", retries, 2, survey), survey(board)


def test_every_cell_runs_once_and_after_what_it_needs(board, capsys):
    executor = Pretended()
    failures, states = executor.complete(board)
    assert failures == {}
    assert {s.status for s in states.values()} == {"done"}
    order = [key for key, _ in executor.started]
    assert sorted(order) == sorted(board.cells)
    teacher = next(key for key, c in board.cells.items() if c.role == "teacher")
    for key, job in executor.started:
        assert job["tags"]["table.rows"] == ("; ".join(board.cells[key].rows) or "serves others")
        for name, needed in board.cells[key].needs.items():
            assert order.index(needed) < order.index(key)
            assert job["ancestors"][name].endswith(states[teacher].fingerprint)
    said = capsys.readouterr().out
    assert "all 5 cells are done" in said
    for cell in board.cells.values():
        assert f"\ndone: {cell.name}: accuracy 0.5000, 2 s\n" in said


def test_finished_cells_are_not_run_again(board):
    first = Pretended()
    first.complete(board)
    second = Pretended()
    second.runs = first.runs
    assert second.complete(board)[0] == {}
    assert second.started == []


def test_a_dead_process_is_continued_as_often_as_allowed(board, monkeypatch):
    swept = []
    monkeypatch.setattr(table_run.tracking, "sweep", swept.append)
    executor = Pretended({"teacher": ["died", "done"]})
    failures, _ = executor.complete(board)
    assert failures == {}
    assert len(executor.started) == 6
    assert swept == [board.places.runs / f"cell-{executor.started[0][1]['tags']['cell']}"]
    executor = Pretended({"teacher": ["died", "done"]})
    assert list(executor.complete(board, retries=0)[0].values()) == ["as told"]


def test_a_failed_cell_blocks_only_what_needs_it_and_says_why(board):
    executor = Pretended({"teacher": ["error"]})
    failures, states = executor.complete(board)
    assert list(failures.values()) == ["as told"]
    assert sorted(s.status for s in states.values()) == ["done", "done", "failed", "waiting", "waiting"]
    text = table_run.status_text(board, states, 2)
    assert "2 done, 1 failed, 2 missing" in text
    assert "it broke" in text
    retried = Pretended()
    retried.runs = executor.runs
    assert retried.complete(board)[0] == {}
    assert len(retried.started) == 3


def test_a_table_whose_student_names_a_run_that_is_not_there_is_refused_while_its_teachers_are_missing(board, store):
    waiting = next(key for key, cell in board.cells.items() if cell.needs)
    cell = board.cells[waiting]
    lost = {**cell.relevant, "distill": {**cell.relevant["distill"], "init": "run:123456"}}
    changed = replace(board, cells={**board.cells, waiting: replace(cell, relevant=lost)})
    with pytest.raises(SpkdError, match="expected one run that begins with 123456"):
        cells.survey(changed, {})


def test_a_run_of_a_living_process_is_waited_for_and_not_started_twice(board, monkeypatch):
    waits = []
    key = next(iter(board.cells))
    fingerprint = cells.survey(board, {})[key].fingerprint
    executor = Pretended()
    executor.runs[fingerprint] = [run_info(fingerprint, "RUNNING")]

    def sleep(seconds):
        waits.append(seconds)
        executor.runs[fingerprint] = [run_info(fingerprint)]

    monkeypatch.setattr(table_run.time, "sleep", sleep)
    survey = lambda b: cells.survey(b, executor.runs, alive=lambda tags: True)  # noqa: E731
    table_run.complete(board, executor, "parent", 1, 2, survey)
    assert waits
    assert key not in [k for k, _ in executor.started]


def test_cells_of_one_network_and_training_are_handed_out_together(board):
    class Grouping(Pretended):
        def submit(self, key, job):
            jobs = job.get("together", [job])
            self.groups.append([self.key_of[one["tags"]["cell"]] for one in jobs])
            super().submit(key, jobs[0])
            for one in jobs[1:]:
                fingerprint = one["tags"]["cell"]
                self.runs[fingerprint] = [run_info(fingerprint, self.others, failure="it broke")]

    for others, n_failed in (("FINISHED", 0), ("FAILED", 2)):
        executor = Grouping()
        executor.groups, executor.others = [], others
        done = next(key for key, cell in board.cells.items() if cell.role == "teacher")
        fingerprint = cells.survey(board, {})[done].fingerprint
        executor.runs[fingerprint] = [run_info(fingerprint)]
        survey = lambda b: cells.survey(b, executor.runs, alive=lambda tags: False)  # noqa: B023, E731
        executor.key_of = {state.fingerprint: key for key, state in survey(board).items()}
        failures = table_run.complete(board, executor, "parent", 1, 3, survey, side_by_side=3)
        assert sorted(len(group) for group in executor.groups) == [1, 3]
        assert sorted(sum(executor.groups, [])) == sorted(set(board.cells) - {done})
        assert len(failures) == n_failed


def test_cells_of_another_network_or_another_number_of_epochs_are_not_grouped(board):
    teacher, first, *others = board.cells.values()
    assert [len(group) for group in cells.groups([teacher, first, *others], 3)] == [1, 3, 1]
    longer = replace(others[0], relevant={**others[0].relevant, "train": {"epochs": 7}})
    assert [[cell.key for cell in group] for group in cells.groups([first, longer], 2)] == [[first.key], [longer.key]]
    other = replace(others[0], relevant={**others[0].relevant, "view": {"size": 12}})
    assert [[cell.key for cell in group] for group in cells.groups([first, other], 2)] == [[first.key], [other.key]]
    assert cells.groups([teacher, first], 1) == [[teacher], [first]]


def test_the_fingerprint_changes_with_teacher_data_and_code(board, monkeypatch):
    teacher, student = (next(k for k, c in board.cells.items() if wanted in c.rows or (not wanted and not c.rows))
                        for wanted in ("", "KD"))  # fmt: skip
    own = cells.survey(board, {})[teacher].fingerprint

    def student_print(weights="w"):
        found = cells.survey(board, {own: [run_info(own, weights=weights)]})
        return found[student].fingerprint

    before = student_print()
    assert before
    assert student_print("other weights") != before
    monkeypatch.setattr(cells.source, "hashes", lambda files: {"a.py": "other code"})
    assert cells.survey(replace(board, code={}), {})[teacher].fingerprint != own
    monkeypatch.undo()
    digest_before = cells.identity(board, board.cells[teacher])
    board.windows["chest"] = SimpleNamespace(digest="other data")
    assert digest(cells.identity(board, board.cells[teacher])) != digest(digest_before)


def test_code_that_is_changed_while_a_table_runs_makes_other_cells_for_the_next_call_alone(board, monkeypatch):
    """Workers hold the modules that they began with: a cell that they train bears no name of other code."""
    before = cells.survey(board, {})
    monkeypatch.setattr(cells.source, "hashes", lambda files: {"a.py": "other code"})
    assert cells.survey(board, {}) == before != cells.survey(replace(board, code={}), {})


@pytest.mark.parametrize("named", ["the windows", "training/loop.py"])
def test_a_worker_trains_no_cell_on_other_windows_or_by_other_code_than_the_table_began_with(
    board, waves, monkeypatch, named
):
    cell = next(cell for cell in board.cells.values() if "scratch" in cell.rows)
    job = cells.job(board, [cell], cells.survey(board, {}), "parent")
    if named == "the windows":
        other = of_settings(replace(waves, signal=waves.signal + 1), board.raw, "chest")
        windowset.build(vars(other), other.manifest).save(board.places.project / windowset.FOLDER / "chest")
    else:
        hashes = {**board.code[cell.key], named: "edited"}
        monkeypatch.setattr(cells.source, "hashes", lambda files: hashes)
    monkeypatch.setattr(cells.har.tracking, "open_run", None)  # and opens no run
    monkeypatch.chdir(board.places.project)
    with pytest.raises(SpkdError, match=f"changes in {named};"):
        cells.run(job)


def test_a_survey_looks_once_at_the_files_that_cells_share(board, monkeypatch):
    raw = {**board.raw, "tables": {"t": {**TABLE, "trials": [0, 1, 2, 3]}}}
    found = cells.board("t", config.check(Settings, config.resolve(raw, {}), ""), raw, {}, board.places)
    looks, used = [], cells.source.used
    monkeypatch.setattr(cells.source, "used", lambda *words, **more: looks.append(words) or used(*words, **more))
    executor = Pretended({})
    executor.complete(found)
    states = cells.survey(found, executor.runs)
    assert len({state.fingerprint for state in states.values()}) == len(found.cells) == 9
    assert len(looks) == 3  # those of teachers, of scratch students, and of students with a teacher


def test_the_fingerprint_changes_with_the_weights_of_a_teacher_that_is_named_by_its_model(board, monkeypatch):
    """A registered name stays in the settings while its newest version becomes another run."""
    key = next(key for key, cell in board.cells.items() if "scratch" in cell.rows)
    monkeypatch.setattr(cells.lineage, "outside", lambda distill: {"model:chest-gaf": "r"})
    monkeypatch.setattr(cells.lineage, "parts", lambda run_ids: set())
    prints = set()
    for weights in ("first", "second"):
        monkeypatch.setattr(cells.tracking, "get", lambda run_id, w=weights: run_info(run_id, weights=w))
        prints.add(cells.survey(board, {})[key].fingerprint)
    assert len(prints) == 2


def test_a_table_whose_definition_the_command_line_changes_has_the_cells_of_that(board):
    raw, given = {**board.raw, "tables": {"t": TABLE}}, {"tables.t.trials": [7]}
    settings = config.check(Settings, config.resolve(raw, given), "")
    changed = cells.board("t", settings, raw, given, board.places)
    assert {cell.trial for cell in changed.cells.values()} == {7}
    assert not any(key.startswith("tables") for cell in changed.cells.values() for key in cell.given)


def test_a_table_of_folds_that_the_data_do_not_have_is_refused(board):
    n_subjects = len(board.windows["chest"].subjects)
    raw = {**board.raw, "tables": {"t": {**TABLE, "folds": [n_subjects]}}}
    settings = config.check(Settings, config.resolve(raw, {}), "")
    with pytest.raises(SpkdError, match=f"folds of {n_subjects} subjects, got {n_subjects}"):
        cells.board("t", settings, raw, {}, board.places)


def test_a_table_has_the_windows_of_every_data_set_of_its_rows(board, waves):
    of_settings(waves, board.raw, "geneactiv").save(board.places.project / "data" / "windows" / "geneactiv")
    rows = {**TABLE["rows"], "gene": {"set": {"dataset": "geneactiv", "distill.teachers": []}}}
    raw = {**board.raw, "tables": {"t": {**TABLE, "rows": rows}}}
    found = cells.board("t", config.check(Settings, config.resolve(raw, {}), ""), raw, {}, board.places)
    assert set(found.windows) == {"chest", "geneactiv"}
    assert len({state.fingerprint for state in cells.survey(found, {}).values() if state.fingerprint}) == 5


def test_a_teacher_without_the_hash_of_its_weights_is_named(board):
    key = next(key for key, cell in board.cells.items() if cell.role == "teacher")
    fingerprint = cells.survey(board, {})[key].fingerprint
    run = run_info(fingerprint)
    del run.tags["weights.sha256"]
    with pytest.raises(SpkdError, match=f"run {run.id}: expected a finished run with the tag weights.sha256"):
        cells.survey(board, {fingerprint: [run]})


def test_a_cell_that_was_stopped_says_by_what(board):
    key = next(iter(board.cells))
    fingerprint = cells.survey(board, {})[key].fingerprint
    stopped = run_info(fingerprint, "KILLED", ended="stopped by Ctrl-C", failure="of an earlier time")
    state = cells.survey(board, {fingerprint: [stopped]})[key]
    assert (state.status, state.reason) == ("killed", "stopped by Ctrl-C")


def test_a_record_of_the_report_has_the_windows_and_the_validation_accuracy_of_its_cell(board, monkeypatch):
    monkeypatch.setattr(table_report.tracking, "history", lambda run_id, key: [])
    executor = Pretended()
    executor.complete(board)
    for k, runs in enumerate(executor.runs.values()):  # one run is of before validation accuracy was kept
        runs[0].metrics.update({"validation/val_accuracy": 0.25} if k else {})
        runs[0].tags.update({"data.dataset": "chest"})
    states = cells.survey(board, executor.runs)
    found = table_report.rows(board, states, {})
    windows = board.windows["chest"]
    facts = {"data.dataset": "chest", "data.step": str(windows.manifest["step"]), "data.rule": "sound",
             "data.classes": str(len(windows.classes)), "data.subjects": str(len(windows.subjects))}  # fmt: skip
    assert [facts.items() <= r.context.items() for r in found] == [True] * 4
    assert {r.results.get("validation/val_accuracy") for r in found} <= {0.25, None}
    assert 0.25 in {r.results.get("validation/val_accuracy") for r in found}


def test_a_report_tells_two_rows_apart_that_differ_in_the_view_of_their_teacher_alone(board, monkeypatch):
    monkeypatch.setattr(table_report.tracking, "history", lambda run_id, key: [])
    rows = {"field {n}": {"each": {"n": [8, 16]}, "set": {"views.gaf.size": "{n}", "distill.init": "latest"}}}
    raw = {**board.raw, "tables": {"t": {**TABLE, "rows": rows}}}
    two = cells.board("t", config.check(Settings, config.resolve(raw, {}), ""), raw, {}, board.places)
    executor = Pretended()
    executor.complete(two)
    records = table_report.rows(two, cells.survey(two, executor.runs), {})
    assert {r.status for r in records} == {"done"}
    (block,) = [blocks.differences(records, "settings", "t")]
    assert block.rows == [["views.gaf.size", "8", "16"]]
    assert {r.settings["networks.wrn16-1.depth"] for r in records} == {"16"}


def test_a_report_of_folds_that_are_random_draws_has_the_corrected_variance(board, monkeypatch):
    monkeypatch.setattr(table_report.tracking, "history", lambda run_id, key: [])
    rule = {"rule": "subject_fractions", "train_fraction": 0.7, "test_fraction": 0.25, "validation_subjects": 1}
    chest = {"chest": {**board.raw["datasets"]["chest"], "split": rule}}
    definition = {**TABLE, "folds": [0, 1, 2], "baseline": "scratch"}
    raw = {**board.raw, "datasets": {**board.raw["datasets"], **chest}, "tables": {"t": definition}}
    drawn = cells.board("t", config.check(Settings, config.resolve(raw, {}), ""), raw, {}, board.places)
    executor = Pretended()
    executor.complete(drawn)
    records = table_report.rows(drawn, cells.survey(drawn, executor.runs), {})
    assert {r.status for r in records} == {"done"}
    assert "Nadeau, Bengio" in blocks.against(records, table_report.describe(drawn)).note


def test_time_left_is_the_median_of_finished_cells_over_the_workers(board):
    _, states = Pretended().complete(board)
    for row in ("scratch", "KD"):
        key = next(key for key, cell in board.cells.items() if row in cell.rows)
        states[key] = replace(states[key], status="missing", run=None)
    assert table_run.left_s(board, states, 2) == (pytest.approx((2 + 2) / 2), 0)


def test_no_time_is_foretold_of_cells_that_are_like_none_that_is_done(board):
    """Scratch students are done: they say nothing of a teacher on images and of its students."""
    _, states = Pretended({"teacher": ["error"]}).complete(board)
    assert table_run.left_s(board, states, 2) == (0, 3)
    assert table_run.status_line(board, states, 2).endswith("time left unknown")
    scratch = next(key for key, cell in board.cells.items() if "scratch" in cell.rows)
    states[scratch] = replace(states[scratch], status="missing", run=None)
    assert table_run.status_line(board, states, 2).endswith("about 2 s left, without 3 unlike any that is done")


def test_time_left_knows_long_cells_from_short_ones_and_that_few_are_left(board, monkeypatch):
    """A teacher of 100 s is done, students of 1 s are left: the last one has one worker, however many there are."""
    _, states = Pretended({}).complete(board)
    students = [key for key, cell in board.cells.items() if cell.role == "student"]
    monkeypatch.setattr(table_run, "seconds", lambda run: 1.0 if run.id in of_students else 100.0)
    of_students = {states[key].run.id for key in students}
    states = {**states, students[-1]: replace(states[students[-1]], status="missing", run=None)}
    assert table_run.left_s(board, states, 8) == (pytest.approx(1.0), 0)


def test_the_time_that_a_cell_lay_stopped_is_none_that_it_took(board):
    _, states = Pretended({}).complete(board)
    run = next(iter(states.values())).run
    run = replace(run, started_ms=1000, ended_ms=901_000, tags={**run.tags, "paused_s": "890.5"})
    assert table_run.seconds(run) == 9.5


def test_only_runs_that_this_table_made_are_nested_under_its_newest_call(board, monkeypatch):
    adopted = []
    monkeypatch.setattr(table_run.tracking, "adopt", lambda run_ids, parent: adopted.append((run_ids, parent)))
    tags = ({"table": "t"}, {"table": "t", "mlflow.parentRunId": "now"}, {"table": "other"}, {})
    runs = {str(k): cells.State("done", str(k), run_info(str(k), **own)) for k, own in enumerate(tags)}
    table_run.gather(board, {**runs, "missing": cells.State("missing")}, "now")
    assert adopted == [(["run0-0"], "now")]


def test_a_table_whose_windows_are_stale_is_refused_before_its_cells_and_its_report(board):
    settings = config.check(Settings, config.resolve({**board.raw, "tables": {"t": TABLE}}, {}), "")
    for given in ({"datasets.chest.windows.step": 7}, {"datasets.chest.windows.source": "uci"}):
        with pytest.raises(SpkdError, match=r"stale data with .*; run `dvc repro windows@chest`"):
            cells.board("t", settings, {**board.raw, "tables": {"t": TABLE}}, given, board.places)


def test_windows_that_the_table_is_not_meant_for_are_refused(board):
    definition = board.definition.model_copy(update={"expects": {"classes": 14}})
    with pytest.raises(SpkdError, match="windows with classes 14, got 3"):
        cells.check_expected("t", definition, board.windows["chest"])
    definition = board.definition.model_copy(update={"expects": {"step": 1}})
    with pytest.raises(SpkdError, match=f"windows with step 1, got {board.windows['chest'].manifest['step']}"):
        cells.check_expected("t", definition, board.windows["chest"])
    definition = board.definition.model_copy(update={"expects": {"subjects": 9}})
    with pytest.raises(SpkdError, match="windows with subjects 9, got 4; these are not all recordings"):
        cells.check_expected("t", definition, board.windows["chest"])


def test_a_cell_that_another_process_took_first_is_waited_for_and_no_failure(board, monkeypatch):
    executor = Pretended({"teacher": ["error"]}, running={"error": {}})

    def sleep(seconds):
        executor.runs = {f: [run_info(f)] if r[0].status == "RUNNING" else r for f, r in executor.runs.items()}

    monkeypatch.setattr(table_run.time, "sleep", sleep)
    survey = lambda b: cells.survey(b, executor.runs, alive=lambda tags: True)  # noqa: E731
    assert table_run.complete(board, executor, "parent", 1, 2, survey) == {}
    assert {state.status for state in survey(board).values()} == {"done"}


def test_a_cell_that_another_process_took_a_moment_ago_is_waited_for_though_the_store_has_not_heard_of_it(
    board, monkeypatch, capsys
):
    """Two tables that are started together want the same first cell; a run's tags arrive a second after its folder."""

    class Beside(Pretended):
        def teachers(self):
            return [job["folder"] for _, job in self.started if job["role"] == "teacher"]

        def collect(self, timeout_s):
            outcomes = super().collect(timeout_s)
            for outcome in outcomes:
                cell = next(job for key, job in self.started if key == outcome.key)["tags"]["cell"]
                box = Outbox(board.places.runs / f"cell-{cell}")
                if outcome.ended == "error":
                    process = {**this_process(), "pid": os.getppid()}
                    process["started_s"] = psutil.Process(os.getppid()).create_time()
                    box.append("open", name="", experiment="", process=process, tags={})
                    del self.runs[cell]
            return outcomes

    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:  # that process was killed
            atomic.remove(board.places.runs / executor.teachers()[0])

    monkeypatch.setattr(table_run.time, "sleep", sleep)
    executor = Beside({"teacher": ["error", "done"]})
    failures, states = executor.complete(board)
    assert failures == {}
    assert {state.status for state in states.values()} == {"done"}
    assert len(executor.teachers()) == 2 and len(slept) == 3
    said = capsys.readouterr().out
    assert said.count("another process trains it") == 1 and "error:" not in said


def test_a_store_that_does_not_answer_is_waited_for_and_said_so_once(board, monkeypatch, capsys):
    executor, asked = Pretended(), []

    def survey(b):
        asked.append(b)
        if len(asked) in (2, 3):
            raise tracking.Away("http://lab:5000", "a tracking server", "Connection refused", "start it")
        return cells.survey(b, executor.runs, alive=lambda tags: False)

    monkeypatch.setattr(table_run.time, "sleep", lambda seconds: None)
    assert table_run.complete(board, executor, "parent", 1, 2, survey) == {}
    assert {state.status for state in survey(board).values()} == {"done"}
    assert capsys.readouterr().err.count("the table waits: http://lab:5000: expected a tracking server") == 1


@pytest.mark.parametrize(("retries", "failed"), [(1, False), (0, True)])
def test_a_cell_that_met_a_store_which_was_away_is_tried_again_as_one_that_died(board, retries, failed):
    class Met(Pretended):
        def collect(self, timeout_s):
            return [replace(o, text=f"Away: {o.text}") if o.ended == "error" else o for o in super().collect(timeout_s)]

    failures, _ = Met({"teacher": ["error", "done"]}).complete(board, retries)
    assert list(failures.values()) == ["Away: as told"] * failed


class Undelivered(Pretended):
    """Its jobs end well, but their runs' ends stay on this machine."""

    def collect(self, timeout_s):
        outcomes = super().collect(timeout_s)
        for outcome in outcomes:
            cell = next(job for key, job in self.started if key == outcome.key)["tags"]["cell"]
            box = Outbox(self.folder / f"cell-{cell}")
            box.append("open", name="", experiment="", process={}, tags={})
            box.append("end", status="FINISHED", time_ms=0)
            del self.runs[cell]
        return outcomes


def test_a_cell_whose_end_came_while_the_store_was_away_is_delivered_and_not_trained_again(board, monkeypatch):
    executor, away = Undelivered(), [tracking.Away("http://lab:5000", "a tracking server", "refused", "start it")]
    executor.folder = board.places.runs

    def upload(folder):
        if away:
            raise away.pop()
        cell = folder.name.removeprefix("cell-")
        executor.runs[cell] = [run_info(cell, weights=f"weights {cell}")]

    monkeypatch.setattr(table_run.tracking, "upload", upload)
    monkeypatch.setattr(table_run.time, "sleep", lambda seconds: None)
    failures, states = executor.complete(board)
    assert (failures, len(executor.started)) == ({}, len(board.cells))
    assert {state.status for state in states.values()} == {"done"}


def test_a_store_that_goes_away_while_the_report_is_written_is_waited_for(board, store, monkeypatch, capsys):
    def report(*words):
        if not capsys.readouterr().err:
            raise tracking.Away("http://lab:5000", "an answer", "Connection refused", "try again")
        return "report.md"

    monkeypatch.setattr(command.executor, "opened", lambda *words: contextlib.nullcontext(Pretended()))
    monkeypatch.setattr(command.table_run, "complete", lambda *words, **more: {})
    monkeypatch.setattr(command.table_report, "write", report)
    monkeypatch.setattr(table_run.time, "sleep", lambda seconds: None)
    monkeypatch.chdir(board.places.project)
    assert command.main([], {**board.raw, "tables": {"t": TABLE}}, {"table.name": "t"}) == 1
    assert "report: report.md" in capsys.readouterr().out


def test_a_cell_that_cannot_reach_the_store_is_a_failure_and_not_waited_for(board, monkeypatch):
    def upload(folder):
        raise SpkdError(folder, "the run's store", "no such file", "restore it")

    executor = Undelivered()
    executor.folder = board.places.runs
    monkeypatch.setattr(table_run.tracking, "upload", upload)
    failures, _ = executor.complete(board)
    assert failures and all("trained, but not in MLflow yet: spkd upload" in why for why in failures.values())


@pytest.mark.parametrize(("host", "pid", "waits"), [
    (socket.gethostname(), 4711, False), (socket.gethostname(), 4712, True), ("elsewhere", 4711, True),
])  # fmt: skip
def test_a_worker_that_could_not_write_its_runs_end_is_not_waited_for(board, monkeypatch, host, pid, waits):
    class Waited(Exception):
        pass

    def sleep(seconds):
        raise Waited

    executor = Pretended({"teacher": ["error"]}, running={"error": {"process": f"{host}:{pid}:1.0"}})
    workers = SimpleNamespace(children=lambda: [SimpleNamespace(pid=4711)])
    monkeypatch.setattr(table_run.psutil, "Process", lambda: workers)
    monkeypatch.setattr(table_run.time, "sleep", sleep)
    survey = lambda b: cells.survey(b, executor.runs, alive=lambda tags: True)  # noqa: E731
    if waits:
        with pytest.raises(Waited):
            table_run.complete(board, executor, "parent", 1, 2, survey)
    else:
        assert list(table_run.complete(board, executor, "parent", 1, 2, survey).values()) == ["as told"]


@pytest.mark.parametrize("together", [1, 2])
def test_a_cell_that_fails_gives_the_gpus_memory_back_too(tmp_path, monkeypatch, together):
    def failing(*words):
        raise RuntimeError("no memory")

    emptied, one = [], {"places": [str(tmp_path), str(tmp_path)], "folder": "cell"}
    monkeypatch.setattr(cells, "_wanted", lambda job: None)
    monkeypatch.setattr(cells.side_by_side, "train_many", failing)
    monkeypatch.setattr(cells.har, "train", failing)
    monkeypatch.setattr(cells.torch.cuda, "empty_cache", lambda: emptied.append(True))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="no memory"):
        cells.run({"together": [one] * together})
    assert emptied == [True]


def test_a_cell_is_trained_in_the_projects_folder_wherever_its_worker_was_started(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.setattr(cells, "_wanted", lambda job: None)
    monkeypatch.setattr(cells.har, "train", lambda wanted: Path.cwd().name)
    monkeypatch.chdir(tmp_path)
    assert cells.run({"places": [str(tmp_path / "runs"), str(tmp_path / "project")], "folder": "cell"}) == "project"


@pytest.mark.parametrize("ends", [["one", "two"], ["one", ValueError("it broke")]])
def test_the_log_of_cells_side_by_side_stays_where_one_failed_and_names_why(tmp_path, monkeypatch, ends):
    one = {"places": [str(tmp_path), str(tmp_path)], "folder": "cell"}
    monkeypatch.setattr(cells, "_wanted", lambda job: SimpleNamespace())
    monkeypatch.setattr(cells.side_by_side, "train_many", lambda wanted: ends)
    monkeypatch.chdir(tmp_path)
    if ends[1] == "two":
        assert cells.run({"together": [one, one]}) == "one two"
    else:
        with pytest.raises(SpkdError, match=r"cell.log: expected 2 cells .* got 1 failed: it broke"):
            cells.run({"together": [one, one]})
    assert (tmp_path / "logs" / "cell.log").exists() is (ends[1] != "two")


def test_the_command_ends_with_1_and_a_report_where_cells_are_missing(board, store, monkeypatch):
    failing = Pretended({"teacher": ["error"], "student": ["error"] * 9})
    monkeypatch.setattr(command.executor, "opened", lambda *words: contextlib.nullcontext(failing))
    monkeypatch.chdir(board.places.project)
    raw = {**board.raw, "tables": {"t": TABLE}}
    assert command.main([], raw, {"table.name": "t", "table.side_by_side": 1}) == 1  # on a GPU, too
    assert (
        failing.started
        and "0 of 4 cells of the rows done, 4 not" in (board.places.project / "results/tables/t/report.md").read_text()
    )


@pytest.mark.parametrize(("executor", "asked"), [("local", [3]), ("ray", [])])
def test_the_command_hands_on_its_settings_and_ends_with_1_where_one_cell_is_missing(
    board, store, monkeypatch, executor, asked
):
    given, threads = [], []
    states = [SimpleNamespace(status=status) for status in ("done", "missing", "done")]
    monkeypatch.setattr(command.executor, "opened", lambda *words: contextlib.nullcontext(given.append(words)))
    monkeypatch.setattr(command.seeding, "require_threads", threads.append)
    monkeypatch.setattr(command.table_run, "complete", lambda board, workers, parent, *words, **more: given.append(
        (parent, *words, more)))  # fmt: skip
    monkeypatch.setattr(command.table_run, "standing", lambda board: dict(enumerate(states)))
    monkeypatch.setattr(command.table_run, "gather", lambda *words: None)
    monkeypatch.setattr(command.table_run, "status_text", lambda board, states, at_once: f"{at_once} at once")
    monkeypatch.setattr(command.table_report, "write", lambda *words: "report.md")
    monkeypatch.chdir(board.places.project)
    own = {"executor": executor, "workers": 2, "side_by_side": 4, "gpu_share": 0.5, "retries": 7}
    words = {"table.name": "t", "run.threads": 3, **{f"table.{key}": value for key, value in own.items()}}
    assert command.main([], {**board.raw, "tables": {"t": TABLE}}, words) == 1
    parent = given[1][0]
    assert given == [(executor, command.cells.run, 2, 0.5), (parent, 7, 8, {"side_by_side": 4})]
    assert threads == asked
    assert json.loads(tracking.artifact(parent, "table.json").read_text()) == {"definition": TABLE, "given": words}
    assert not (board.places.runs / "tables" / "t").exists()
    states[1].status = "done"
    assert command.main([], {**board.raw, "tables": {"t": TABLE}}, words) == 0


@pytest.mark.parametrize(
    ("runs", "living", "status", "number"),
    [
        (["FAILED", "RUNNING", "FINISHED", "FINISHED"], True, "done", 2),
        (["FAILED", "KILLED", "RUNNING"], True, "running", 2),
        (["FAILED", "KILLED", "RUNNING"], False, "killed", 2),
        (["KILLED", "FAILED", "FAILED"], True, "failed", 1),
        (["KILLED", "KILLED"], True, "killed", 0),
    ],
)
def test_of_several_runs_of_a_cell_the_one_that_got_furthest_says_where_it_stands(board, runs, living, status, number):
    key = next(iter(board.cells))
    fingerprint = cells.survey(board, {})[key].fingerprint
    found = [run_info(fingerprint, one, number=k) for k, one in enumerate(runs)]  # newest first
    state = cells.survey(board, {fingerprint: found}, alive=lambda tags: living)[key]
    assert (state.status, state.run.id) == (status, f"run{number}-{fingerprint}")


@pytest.mark.parametrize(("seconds", "told"), [(0, "time left unknown"), (600, "about 10 min left")])
def test_the_time_left_is_told_in_the_unit_that_one_would_say(board, monkeypatch, seconds, told):
    monkeypatch.setattr(table_run, "left_s", lambda *words: (seconds, 0))
    assert table_run.status_line(board, cells.survey(board, {}), 2) == f"table t: 5 cells: 0 done, 5 missing; {told}"


def test_a_table_says_how_far_the_cells_are_that_run(board, capsys):
    """Of cells of hours or days: none is done for long, so there is no time left to tell of the whole."""
    key = next(iter(board.cells))
    states = cells.survey(board, {})
    states[key] = replace(states[key], status="running", run=None, reason="host:1:2.0")
    log = board.places.runs / "logs" / f"cell-{states[key].fingerprint}.log"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1/200  3 d 1 h left\nepoch 2/200  3 d left\n")
    assert table_run.status_text(board, states, 2).splitlines()[2:] == ["    epoch 2/200  3 d left"]
    log.unlink()
    assert len(table_run.status_text(board, states, 2).splitlines()) == 2
    Pretended().complete(board)
    assert f"how far each cell is: {log.parent}, or spkd table-status" in capsys.readouterr().out
