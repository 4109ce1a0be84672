from functools import cache
from pathlib import Path

import pytest

from spkd import config
from spkd.errors import SpkdError
from spkd.evidence.reports import published
from spkd.experiment import table
from spkd.settings import Settings, TableDefinition
from spkd.training.objective import Objective

ROOT = Path(__file__).parents[2]
RAW = config.read(ROOT / "params.yaml")
SLIM = {**RAW, "tables": {}}
# With the windows that the study's tables are meant for.
STUDY = config.resolve(SLIM, {"preset": "none", "datasets.pamap2.windows.rule": "paper"})
SHIPPED = config.check(Settings, config.resolve(RAW, {}), "").tables
BASE = {
    "about": "", "set": {"dataset": "chest", "distill.teachers": ["gaf:wrn16-1"]}, "folds": [0, 1], "trials": [5, 6],
    "teacher_trials": "first",
    "rows": {"scratch": {"set": {"distill.teachers": []}}, "KD": {"set": {"distill.beta": {}}}},
}  # fmt: skip


def cells(given=None, **changes):
    definition = config.check(TableDefinition, {**BASE, **changes}, "")
    return list(table.cells(definition, SLIM, given or {}, definition.folds).values())


def of(found, row):
    return [c for c in found if row in c.rows]


@cache
def shipped(name):
    """The cells of a table of params.yaml; of all folds, the first."""
    folds = SHIPPED[name].folds
    return list(table.cells(SHIPPED[name], STUDY, {}, [0] if folds == "all" else folds).values())


def test_a_table_has_its_rows_times_folds_times_trials_and_one_teacher_a_fold():
    found = cells()
    assert [len(of(found, row)) for row in ("scratch", "KD")] == [4, 4]
    teachers = [c for c in found if c.role == "teacher"]
    assert [(t.fold, t.trial, t.rows) for t in teachers] == [(0, 5, {}), (1, 5, {})]
    assert teachers[1].name == "gaf:wrn16-1 teacher chest f1 t5"
    assert of(found, "KD")[-1].name == "signal:wrn16-1 <- gaf:wrn16-1 kd chest f1 t6"
    assert len(found) == 10


def test_each_trial_has_its_own_teacher_where_the_table_says_so():
    found = cells(teacher_trials="same")
    by_key = {c.key: c for c in found}
    assert sum(c.role == "teacher" for c in found) == 4
    assert all(by_key[c.needs["gaf:wrn16-1"]].trial == c.trial for c in of(found, "KD"))


def test_what_a_cell_needs_comes_before_it_and_has_its_fold():
    found = cells(rows={"annealed": {"set": {"distill.init": "latest"}}})
    place = {c.key: k for k, c in enumerate(found)}
    by_key = {c.key: c for c in found}
    for c in of(found, "annealed"):
        assert set(c.needs) == {"gaf:wrn16-1", "init"}
        assert all(place[needed] < place[c.key] and by_key[needed].fold == c.fold for needed in c.needs.values())
        assert by_key[c.needs["init"]].trial == c.trial


def test_the_scratch_row_is_the_start_of_the_annealed_row():
    rows = {"annealed": {"set": {"distill.init": "latest"}}, "scratch": {"set": {"distill.teachers": []}}}
    found = cells(rows=rows)
    assert {c.needs["init"] for c in of(found, "annealed")} == {c.key for c in of(found, "scratch")}


def test_rows_that_differ_in_what_they_do_not_use_are_one_cell():
    rows = {
        "a": {"set": {"distill.teachers": [], "distill.lambda": 0.1}},
        "b": {"set": {"distill.teachers": [], "distill.beta": {"sp": 7}, "losses.kd.temperature": 2}},
        "e": {"set": {"distill.teachers": [], "distill.weighting": "ebkd"}},
        "c": {"set": {"distill.beta": {"sp": 0}}},
        "d": {"set": {"distill.beta": {}, "losses.sp.mixing": "paper"}},
    }
    found = cells(rows=rows, folds=[0], trials=[0])
    assert [sorted(c.rows) for c in found if c.rows] == [["a", "b", "e"], ["c", "d"]]


@pytest.mark.parametrize(
    "change",
    [
        {"distill.lambda": 0.5}, {"distill.beta": {"sp": 1}}, {"distill.taps": ["group1"]}, {"train.lr": 0.01},
        {"losses.kd.temperature": 2.0}, {"losses.sp.mixing": "paper"}, {"student.network": "wrn28-1"},
        {"networks.wrn16-1.width": 2}, {"distill.weighting": "ebkd"},
        {"run.threads": 1}, {"views.gaf.size": 12}, {"datasets.chest.scaling": "training"},
    ],
)  # fmt: skip
def test_a_changed_setting_is_another_cell(change):
    before, after = (of(cells(rows={"KD": {"set": own}}), "KD") for own in ({}, change))
    assert not {c.key for c in before} & {c.key for c in after}


@pytest.mark.parametrize(
    "change",
    [
        {"run.folder": "x"}, {"tracking.maps_every": 9}, {"detect.epochs": 1}, {"train.epochs": 200},
        {"train.teacher_cache_gib": 6.0}, {"train.checkpoint_every": 5},
    ],
)  # fmt: skip
def test_a_setting_that_changes_no_number_is_the_same_cell(change):
    plain = {"preset": "none"}
    before, after = (of(cells(rows={"KD": {"set": {**plain, **own}}}), "KD") for own in ({}, change))
    assert {c.key for c in before} == {c.key for c in after}


def test_a_weighting_counts_where_there_are_teachers_to_weigh():
    losses = {"cross_entropy": {}, "kd": {}}
    for teachers, same in (([], True), (["gaf:wrn16-1"], False)):
        distill = {"teachers": teachers, "init": "none", "beta": {}, "lambda": 0.7}
        made = [{"distill": distill, "losses": losses, "weighting": {"by": by}} for by in (1, 2)]
        assert (table.canonical(made[0]) == table.canonical(made[1])) is same


def test_students_without_teachers_that_start_from_other_runs_are_other_cells():
    starts = ("none", "run:123456", "run:abcdef")
    rows = {start: {"set": {"distill.teachers": [], "distill.init": start}} for start in starts}
    found = cells(rows=rows, folds=[0], trials=[0])
    assert [list(c.rows) for c in found] == [[start] for start in starts]


def test_a_table_that_is_not_there_is_refused_with_the_near_one():
    settings = config.check(Settings, config.resolve(RAW, {}), "")
    name = next(iter(SHIPPED))
    assert table.definition(settings, name) is settings.tables[name]
    with pytest.raises(SpkdError, match=rf"table.name: expected an entry of `tables`, got '{name}x'; .*{name}"):
        table.definition(settings, f"{name}x")


def test_each_multiplies_rows_and_keeps_the_type_of_its_values():
    row = {
        "each": {"net": ["wrn16-1", "wrn16-3"], "alphas": [[0.1, 0.9], [0.5, 0.5]]},
        "set": {"distill.teachers": ["gaf:{net}", "signal:{net}"], "distill.alphas": "{alphas}"},
        "published": "x[{net}]",
    }
    found = cells(rows={"{net} {alphas}": row}, folds=[0], trials=[0], published="pamap2")
    chosen = {name: (c.given["distill.teachers"], c.given["distill.alphas"]) for c in found for name in c.rows}
    assert chosen["wrn16-3 [0.5, 0.5]"] == (["gaf:wrn16-3", "signal:wrn16-3"], [0.5, 0.5])
    assert len(chosen) == 4
    assert of(found, "wrn16-1 [0.1, 0.9]")[0].rows == {"wrn16-1 [0.1, 0.9]": "pamap2.x[wrn16-1]"}


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(SpkdError, match="put every name of `each` in braces"):
        cells(rows={"KD": {"each": {"lambda": [0.1, 0.2]}, "set": {"distill.lambda": "{lambda}"}}})


def test_the_command_line_is_over_the_table_and_under_the_row():
    rows = {"KD": {"set": {"distill.lambda": 0.3}}}
    found = of(cells({"train.epochs": 4, "distill.lambda": 0.9, "fold": 7, "table.name": "x"}, rows=rows), "KD")
    assert {(c.relevant["train"]["epochs"], c.relevant["distill"]["lambda"]) for c in found} == {(4, 0.3)}
    assert {c.fold for c in found} == {0, 1}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("distill.beta", {"spp": 1.0}, "did you mean 'sp'"),
        ("distill.weighting", "foo", "a part called 'foo'"),
        ("distill.alphas", [0.3, 0.7], "distill.alphas: expected 1 weights"),
        ("distill.taps", ["grup1"], "did you mean 'group1'"),
    ],
)
def test_a_row_that_its_students_would_stumble_over_is_refused_before_any_cell(key, value, message):
    with pytest.raises(SpkdError, match=message):
        cells(rows={"mistaken": {"set": {key: value}}})


def test_a_key_that_params_does_not_have_is_refused_with_the_near_one():
    with pytest.raises(SpkdError, match="did you mean 'train.epochs'"):
        cells(rows={"KD": {"set": {"train.epoch": 4}}})


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_table_is_made_of_known_settings_and_published_columns(name):
    found = shipped(name)
    assert SHIPPED[name].baseline in {"", *(row for c in found for row in c.rows)}
    paths = [path for c in found for path in c.rows.values() if path]
    got = [published.value(path) for path in paths]
    assert all(v is None or 50 < v < 100 for v in got)
    assert not name.startswith(("pamap2-teachers", "pamap2-three", "pamap2-annealed")) or None not in got


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({}, {"fold": 3}, "command line: expected no key that the table itself counts through, got fold"),
        ({"set": {"run.seed": 1}}, {}, r"tables.t.set: .* got run.seed"),
        ({"rows": {"a": {"set": {"fold": 1}}}}, {}, r"tables.t.rows.a: .* got fold"),
        ({"trials": [0, 0]}, {}, r"tables.t.trials: expected each once, got \[0\] twice"),
        ({"folds": [0, 77]}, {}, r"tables.t.folds: expected folds of 6 subjects, got 77"),
        ({"baseline": "skratch"}, {}, r"tables.t.baseline: .*did you mean 'scratch'"),
        ({"rows": {"a": {"published": "gaf"}}}, {}, r"tables.t.published: .*row 'a'.* got nothing; name"),
    ],
)
def test_a_definition_that_cannot_be_meant_so_is_refused(changes, given, message):
    definition = config.check(TableDefinition, {**BASE, **changes}, "")
    with pytest.raises(SpkdError, match=message):
        table.check("t", definition, given, definition.folds, 6)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_tables_can_be_meant_so(name):
    folds = [] if SHIPPED[name].folds == "all" else SHIPPED[name].folds
    table.check(name, SHIPPED[name], {}, folds, 15)


@pytest.mark.parametrize("name", [n for n, t in SHIPPED.items() if t.published])
def test_rows_beside_published_values_are_trained_by_the_published_protocol(name):
    found, of_gene = shipped(name), name.startswith("gene")
    trained = [c.relevant["train"] for c in found]
    assert {(t["schedule"], t["epochs"], t["batch"]) for t in trained} == {("paper", 200, 128)}
    assert {t["headline"] for t in trained} == {"validation"}
    soft = [c.relevant for c in found if "kd" in c.relevant.get("losses", {})]
    assert {r["losses"]["kd"]["reduction"] for r in soft} <= {"paper"}
    if not name.endswith(("lambda", "teachers")):
        assert {r["distill"]["lambda"] for r in soft} == {0.7 if of_gene else 0.99}
    taught = [c.relevant["distill"] for c in found if "sp" in c.relevant.get("distill", {}).get("beta", {})]
    assert {distill["beta"]["sp"] for distill in taught} <= {700 if of_gene else 200}
    assert bool(taught) == name.endswith(("sp", "baselines"))
    if not of_gene:
        assert {c.relevant["dataset"]["pamap2"]["scaling"] for c in found} == {"paper"}


def test_the_study_on_windows_of_another_rule_is_refused_and_another_preset_is_free_to_use_them():
    with pytest.raises(SpkdError, match=r"preset paper: expected datasets.pamap2.windows.rule paper, got sound"):
        table.cells(SHIPPED["pamap2-teachers"], SLIM, {}, [0])
    found = table.cells(SHIPPED["pamap2-teachers"], SLIM, {"preset": "seed"}, [0]).values()
    assert {c.relevant["train"]["schedule"] for c in found} == {"cosine"}


def test_the_window_length_is_in_the_name_of_a_table_of_seven_classes_and_is_required():
    found = {n: t.expects for n, t in SHIPPED.items() if n.startswith("gene7")}
    assert len(found) == 14
    for name, expects in found.items():
        length = int(name.split("-")[1])
        assert expects == {"classes": 7, "length": length, "step": length}


@pytest.mark.parametrize(
    ("row", "weights"),
    [
        ("AT", {"cross_entropy": 1, "kd": 0, "at": 1000}), ("SimKD", {"cross_entropy": 0, "kd": 0, "simkd": 1}),
        ("DIST", {"cross_entropy": 1, "kd": 0, "dist": 2}), ("DCD", {"cross_entropy": 1, "kd": 0, "dcd": 1}),
    ],
)  # fmt: skip
def test_a_baseline_of_the_study_has_the_weights_of_its_own_paper(row, weights):
    distill = of(shipped("pamap2-baselines"), f"{row} gaf wrn16-1")[0].relevant["distill"]
    made = Objective(distill["lambda"], distill["alphas"], distill["beta"], STUDY["losses"], distill["base"])
    assert {term.name: term.weight for term in (made.cross_entropy, made.kd, *made.extra)} == pytest.approx(weights)


def test_a_teacher_of_a_table_holds_out_the_validation_subjects_of_its_student():
    found = cells(rows={"KD": {"set": {"datasets.chest.split.validation_subjects": 1}}, "plain": {}})
    by_key = {c.key: c for c in found}
    for c in (*of(found, "KD"), *of(found, "plain")):
        assert by_key[c.needs["gaf:wrn16-1"]].relevant["dataset"] == c.relevant["dataset"]
