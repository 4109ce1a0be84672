import csv
import io
import math
import re
from dataclasses import replace

import pytest
from scipy import stats

from spkd.errors import SpkdError
from spkd.evidence.reports import blocks, document, findings, published
from spkd.evidence.reports.blocks import About
from spkd.evidence.reports.findings import Record

KEY = "headline/accuracy"


ABOVE = {
    "headline/accuracy": 0.0, "headline/macro_f1": -0.01, "validation/accuracy": -0.02, "validation/macro_f1": -0.03,
    "last/accuracy": -0.04, "last/macro_f1": -0.05, "best/accuracy": 0.07, "best/macro_f1": 0.06,
}  # fmt: skip


def record(row, fold, trial, accuracy, windows=10, **more):
    """A cell that is done; every other result than the headline accuracy is another number, as ABOVE says."""
    results = {key: accuracy + above for key, above in ABOVE.items()}
    return Record(row, fold, trial, f"10{fold + 1}", results=results, windows=windows, run_id="abc", rule="chosen so",
                  **{"origin": "UCI", **more})  # fmt: skip


@pytest.fixture
def two_folds():
    """scratch 0.5 and 0.7 (trial 0), 0.6 and 0.9 (trial 1); fold 1 has 3 times the windows of fold 0."""
    values = {(0, 0): 0.5, (1, 0): 0.7, (0, 1): 0.6, (1, 1): 0.9}
    return [record("scratch", f, t, v, windows=10 if f == 0 else 30) for (f, t), v in values.items()]


def test_the_mean_over_trials_of_the_mean_over_folds_with_the_sample_deviation(two_folds):
    found = findings.spread(two_folds, "scratch")
    assert found.values == pytest.approx({0: 0.6, 1: 0.75})
    assert (found.mean, found.sd, found.n) == pytest.approx((0.675, 0.15 / math.sqrt(2), 2))


def test_pooled_accuracy_weighs_folds_by_their_windows(two_folds):
    found = findings.spread(two_folds, "scratch", scope=findings.pooled)
    assert found.values == pytest.approx({0: (5 + 21) / 40, 1: (6 + 27) / 40})


def test_a_fold_can_be_left_out_of_the_mean(two_folds):
    found = findings.spread(two_folds, "scratch", among=[0])
    assert found.values == pytest.approx({0: 0.5, 1: 0.6})
    block = blocks.over_folds(two_folds, About("t", "", without_folds=(1,)))
    assert block.columns[1:] == ["mean of 2 folds %", "without fold 1 %", "window-pooled %"]
    assert block.rows[0][2] == "55.00 ± 7.07 (n=2)"
    whole = blocks.over_folds(two_folds, About("t", ""))
    assert dict(zip(whole.columns, whole.rows[0], strict=True)) == {
        "row": "scratch", "mean of 2 folds %": "67.50 ± 10.61 (n=2)", "window-pooled %": "73.75 ± 12.37 (n=2)",
    }  # fmt: skip


@pytest.mark.parametrize("said", [
    "macro-F1 of a cell: mean of the F1 of the classes that its test subjects have;",
    "the best TEST epoch, which looks at the answer and is too high;",
    "mean over trials of the mean over folds, sample standard deviation (n - 1) over the n trials.",
    "Every student learned from trial 0.",
])  # fmt: skip
def test_every_form_of_the_report_says_what_its_figures_are(two_folds, said):
    assert all(
        said in form for form in forms(two_folds, About("t", "", teachers="Every student learned from trial 0."))
    )


def test_every_result_stands_below_its_own_head():
    records = [record("SP", 0, 3, 0.7, seconds=41.7), record("KD", 0, 3, 0.2)]
    shown = blocks.summary(records, About("t", ""))
    assert dict(zip(shown.columns, shown.rows[0], strict=True)) == {
        "row": "SP", "accuracy %": "70.00 (n=1)", "macro-F1 %": "69.00 (n=1)", "chosen on validation %": "68.00 (n=1)",
        "last epoch %": "66.00 (n=1)", "best TEST epoch %": "77.00 (n=1)",
    }  # fmt: skip
    trials = blocks.every_trial(records)
    assert dict(zip(trials.columns, trials.rows[0], strict=True)) == {
        "row": "SP", "fold": "0", "test subjects": "101", "trial": "3",
        "headline/accuracy %": "70.00", "headline/macro_f1 %": "69.00",
        "validation/accuracy %": "68.00", "validation/macro_f1 %": "67.00",
        "last/accuracy %": "66.00", "last/macro_f1 %": "65.00", "best/accuracy %": "77.00", "best/macro_f1 %": "76.00",
        "test windows": "10", "seconds": "42", "run": "abc",
    }  # fmt: skip


def test_every_fold_has_its_own_column_below_its_subjects(two_folds):
    block = blocks.per_fold(two_folds)
    assert block.columns == ["row", "fold 0 (101) %", "fold 1 (102) %"]
    assert block.rows == [["scratch", "55.00 ± 7.07 (n=2)", "80.00 ± 14.14 (n=2)"]]
    assert blocks.per_fold(two_folds[::-1]) == block
    titles = [block.title for block in blocks.blocks(two_folds, About("t", ""))]
    assert titles[:3] == ["Summary", "Over folds", "Per fold"]
    assert "Per fold" not in [block.title for block in blocks.blocks(two_folds[::2], About("t", ""))]


def test_a_trial_that_lacks_a_fold_is_in_no_mean_and_is_named(two_folds):
    hole = Record("scratch", 1, 1, status="failed", reason="ValueError: loss is nan", run_id="f00")
    records = [*two_folds[:3], hole]
    found = findings.spread(records, "scratch")
    assert found.values == pytest.approx({0: 0.6})
    assert findings.spread(two_folds[:3], "scratch").values == found.values
    assert blocks.plus_minus(found) == "60.00 (n=1 of 2)"
    text = blocks.markdown(records, About("t", "words"))
    assert "| scratch | 1 | 1 | failed | ValueError: loss is nan | f00 |" in text
    assert "| scratch | 60.00 (n=1 of 2) |" in blocks.markdown_summary(records, About("t", "words"))
    assert len(blocks.every_trial(records).rows) == 3 and "Against" not in text
    assert "3 of 4 cells of the rows done, 1 not" in text and "Headline: chosen so." in text
    assert ",failed,ValueError: loss is nan," in blocks.csv_trials(records)
    assert "loss is nan" in document.page(records, About("t", "words"), {})


def test_rows_that_are_not_finished_count_among_the_comparisons_that_the_note_names():
    records = [record("scratch", fold, 0, 0.5 + 0.01 * fold) for fold in range(4)]
    records += [record("KD", fold, 0, 0.6 + 0.03 * fold) for fold in range(4)]
    records += [Record(row, fold, 0, status="missing") for row in ("SP", "AT") for fold in range(4)]
    found = {test.row: test for test in findings.tests(records, "scratch")}
    assert found["KD"].p_holm == pytest.approx(3 * found["KD"].p) and math.isnan(found["SP"].p_holm)
    assert (found["KD"].n, found["SP"].n) == (4, 0)
    block = blocks.against(records, About("t", "text", "scratch"))
    assert "paired by fold (mean over its trials)" in block.note and "corrected for 3 comparisons" in block.note
    assert block.note in blocks.markdown(records, About("t", "text", "scratch"))


def test_holm_by_hand():
    assert findings.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert findings.holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.04, 0.09, 0.09, math.nan], nan_ok=True)
    assert findings.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_a_row_is_compared_with_the_baseline_fold_by_fold():
    before, gaps = [0.5, 0.6, 0.7, 0.8], [0.01, 0.03, 0.02, 0.06]
    records = [record("scratch", f, t, v + 0.1 * t) for f, v in enumerate(before) for t in (0, 1)]
    records += [
        record("SP", f, t, v + 0.1 * t + g) for f, (v, g) in enumerate(zip(before, gaps, strict=True)) for t in (0, 1)
    ]
    (found,) = findings.tests(records, "scratch")
    sd = math.sqrt(sum((g - 0.03) ** 2 for g in gaps) / 3)
    half = 3.182446 * sd / 2
    assert (found.unit, found.n) == ("fold", 4)
    assert (found.difference, found.dz) == pytest.approx((0.03, 0.03 / sd))
    assert (found.low, found.high) == pytest.approx((0.03 - half, 0.03 + half), rel=1e-5)
    assert found.p == pytest.approx(2 * stats.t.sf(0.03 / (sd / 2), 3))
    assert found.p_holm == found.p


def test_every_number_of_a_comparison_stands_below_its_head():
    gaps = {"scratch": [0, 0, 0], "SP": [0.01, 0.02, 0.03], "KD": [-0.01, 0.0, 0.04]}
    records = [record(row, 0, t, 0.5 + gap) for row, own in gaps.items() for t, gap in enumerate(own)]
    block = blocks.against(records, About("t", "", "scratch"))
    # SP: mean 2, sd 1 points; t = 2 sqrt(3), 2 degrees of freedom: p 0.0742, half width 4.3027 / sqrt(3)
    assert dict(zip(block.columns, block.rows[0], strict=True)) == {
        "row": "SP", "pairs": "3", "difference (points)": "+2.00", "95 % interval": "-0.48 to +4.48", "dz": "+2.00",
        "p": "0.0742", "p (Holm)": "0.148",
    }  # fmt: skip


def test_a_table_of_one_fold_pairs_trials_and_too_few_pairs_get_no_test():
    records = [
        record(row, 0, t, v) for row, vs in {"scratch": [0.5, 0.6], "SP": [0.6, 0.8]}.items() for t, v in enumerate(vs)
    ]
    (found,) = findings.tests(records, "scratch")
    assert (found.unit, found.n, found.difference) == ("trial", 2, pytest.approx(0.15))
    assert math.isnan(found.p)
    assert "it says nothing of other subjects." in blocks.against(records, About("t", "", "scratch")).note


def test_a_test_over_folds_speaks_of_subjects(two_folds):
    records = two_folds + [replace(r, row="KD") for r in two_folds]
    block = blocks.against(records, About("t", "", "scratch"))
    assert "paired by fold" in block.note and "other subjects" not in block.note
    assert block.rows == [["KD", "2", "+0.00", "-", "-", "-", "-"]]


def test_differences_that_vary_by_rounding_alone_get_no_test():
    values = {"scratch": [0.1, 0.2, 0.3], "SP": [0.2, 0.3, 0.4]}
    assert len({after - before for before, after in zip(*values.values(), strict=True)}) > 1
    records = [record(row, 0, t, v) for row, vs in values.items() for t, v in enumerate(vs)]
    (found,) = findings.tests(records, "scratch")
    assert (found.n, found.difference) == (3, pytest.approx(0.1))
    assert all(math.isnan(value) for value in (found.low, found.high, found.dz, found.p, found.p_holm))


def test_only_what_both_rows_have_is_paired():
    records = [record("scratch", 0, t, 0.5) for t in (0, 1, 2)] + [record("SP", 0, t, 0.6) for t in (1, 2, 3)]
    assert findings.pairs(records, "scratch", "SP", by_fold=False) == ([0.5, 0.5], [0.6, 0.6])


def test_settings_that_differ_between_rows_are_listed_and_equal_ones_are_not():
    records = [record("a", 0, t, 0.5, settings={"train.batch": "128", "lr": "1"}, context={"env/gpu": gpu})
               for t, gpu in enumerate(("x", "y"))]  # fmt: skip
    own = {"train.batch": "64", "lr": "1", "losses.sp": "1"}
    records.append(record("b", 0, 0, 0.5, settings=own, context={"env/gpu": "x"}))
    records.append(Record("c", 0, 0, status="missing"))
    found = {"losses.sp": {"a": "-", "b": "1"}, "train.batch": {"a": "128", "b": "64"}}
    assert findings.differing(records, "settings") == found
    assert findings.differing(records, "context") == {"env/gpu": {"a": "x | y", "b": "x"}}
    text = blocks.markdown(records, About("t", ""))
    assert "| key | a | b | c |" in text and "Compare rows with this in mind." in text and "None: the" not in text
    assert "| train.batch | 128 | 64 | - |" in text and "| env/gpu | x \\| y | x | - |" in text


def test_a_view_that_no_teacher_of_a_row_has_is_no_difference_and_two_sizes_of_it_are_one():
    sizes = {"scratch": {}, "KD": {"views.gaf.size": "8"}, "SP": {"views.gaf.size": "8"}}
    records = [record(row, 0, 0, 0.5, settings=own) for row, own in sizes.items()]
    assert findings.differing(records, "settings") == {}
    other = record("large", 0, 0, 0.5, settings={"views.gaf.size": "64"})
    told = {"scratch": "-", "KD": "8", "SP": "8", "large": "64"}
    assert findings.differing([*records, other], "settings") == {"views.gaf.size": told}


def test_published_values_stand_beside_ours():
    records = [record("gaf", 0, t, v, published=82.0) for t, v in enumerate((0.80, 0.82))]
    block = blocks.summary(records, About("t", ""))
    assert block.columns[-3:] == ["published %", "headline - published", "best TEST - published"]
    assert block.rows[0][-3:] == ["82.00", "-1.00", "+6.00"]
    others = [record("own", 0, 0, 0.5), Record("signal", 0, 0, status="missing", published=83.0)]
    shown = blocks.summary([*records, *others], About("t", "")).rows
    assert [row[-3:] for row in shown[1:]] == [["-", "-", "-"], ["83.00", "-", "-"]]
    assert "published %" not in blocks.summary([record("gaf", 0, 0, 0.8)], About("t", "")).columns


FACTS = {"data.dataset": "pamap2", "data.digest": "ab12", "data.window": "100 samples at 33.3 Hz", "data.step": "22",
         "data.rule": "paper", "data.classes": "12", "data.subjects": "9"}  # fmt: skip
HOW = {"dataset.pamap2.scaling": "paper", "dataset.pamap2.split.rule": "leave_one_subject_out",
       "dataset.pamap2.split.validation_subjects": "1", "train.epochs": "200", "train.batch": "128",
       "train.last_batch": "keep", "train.lr": "0.05", "train.lr_final": "0.0001",
       "train.schedule": "paper"}  # fmt: skip


def forms(records, about):
    """The report in every form that it is written in."""
    yield blocks.markdown(records, about)
    yield blocks.markdown_summary(records, about)
    yield blocks.latex(records, about).replace(r"\_", "_")
    yield document.page(records, about, {})


def test_what_all_rows_share_stands_in_every_form_of_the_report():
    records = [record("a", f, t, 0.5, context=FACTS, settings=HOW) for f in (0, 8) for t in (0, 1, 2)]
    for text in forms(records, About("t", "words")):
        assert (
            "Windows: pamap2, digest ab12, 100 samples at 33.3 Hz, step 22, rule paper, 12 classes, 9 subjects, "
            "scaling paper, split leave_one_subject_out, validation subjects 1."
        ) in text
        assert (
            "Training: 200 epochs, batch 128, last batch keep, learning rate 0.05, at last 0.0001, schedule paper, "
            "folds 0 8, trials 0 1 2."
        ) in text
        assert "Published:" not in text


@pytest.mark.parametrize(("n", "said"), [
    ("0", "networks that learned from every training subject, as here."),
    ("1", "Here validation subjects (1) are held out of those to choose the epoch"),
])  # fmt: skip
def test_beside_published_values_it_says_whether_as_many_subjects_train(n, said):
    own = {**HOW, "dataset.pamap2.split.validation_subjects": n}
    published = [replace(record("a", 0, 0, 0.5, context=FACTS, settings=own), published=82.99)]
    for text in forms(published, About("t", "words")):
        assert said in text


def test_what_the_rows_do_not_share_is_named_with_all_its_values_and_what_is_not_known_is_left_out():
    records = [record("a", 0, 0, 0.5, settings={"train.batch": "64"}), record("b", 0, 0, 0.5, settings=HOW)]
    text = blocks.markdown([*records, Record("c", 0, 0, status="missing")], About("t", "words"))
    assert "Training: 200 epochs, batch 128 | 64, last batch keep" in text
    assert "Windows: scaling paper" in text
    assert "Training:" not in blocks.markdown([Record("c", 0, 0, status="missing")], About("t", "words"))


def test_validation_accuracy_of_a_row_is_shown_and_says_what_it_is_for():
    records = [record("a", f, t, 0.5) for f in (0, 1) for t in (0, 1)]
    for r in records:
        r.results[findings.VALIDATION] = 0.6 + 0.1 * r.trial + 0.02 * r.fold
    records += [record("old", f, t, 0.5) for f in (0, 1) for t in (0, 1)]
    block = blocks.summary(records, About("t", "words"))
    own = [row[block.columns.index("on validation subjects %")] for row in block.rows]
    assert own == ["66.00 ± 7.07 (n=2)", "- (n=0 of 2)"]
    assert blocks.every_trial(records).rows[0][4 + 2 * len(findings.RESULTS)] == "60.00"
    assert blocks.every_trial(records).rows[-1][4 + 2 * len(findings.RESULTS)] == "-"
    for text in forms(records, About("t", "words")):
        assert "may be chosen by its accuracy on validation subjects alone" in text
    assert findings.VALIDATION in blocks.csv_trials(records).splitlines()[0]
    for text in forms(records[-4:], About("t", "words")):
        assert "on validation subjects %" not in text and "may be chosen" not in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("pamap2.teacher.gaf[wrn16-3]", 82.29), ("pamap2.student_scratch", 82.99),
        ("pamap2.gaf+signal.annealed[wrn16-1]", 88.68), ("geneactiv_14_500.teacher.signal[wrn16-1]", None),
        ("pamap2.lambda_sweep_gaf_to_signal_wrn16-1[0.99]", 86.75), ("geneactiv_7.teacher.gaf[wrn16-1]", None),
    ],
)  # fmt: skip
def test_a_published_value_is_found_by_its_path(path, value):
    assert published.value(path) == value


def test_published_values_are_read_once(monkeypatch):
    published.value("pamap2.student_scratch")
    monkeypatch.setattr(published.config, "parse", None)
    assert published.value("pamap2.student_scratch") == 82.99


def test_a_published_column_that_does_not_exist_is_a_mistake():
    with pytest.raises(SpkdError, match="a column of"):
        published.value("pamap2.teacher.gaf[wrn99-1]")


def test_simulated_recordings_are_called_so_everywhere(two_folds):
    records = [record("a", 0, t, 0.5, origin="simulated") for t in (0, 1)]
    about = About("t", "words")
    for text in (blocks.markdown(records, about), blocks.latex(records, about), document.page(records, about, {})):
        assert "SIMULATED" in text
    assert '<p class="loud">SIMULATED' in document.page(records, about, {})
    assert "simulated" in blocks.csv_trials(records)
    assert "SIMULATED" not in blocks.markdown(two_folds, about)


def test_the_page_needs_nothing_else_and_escapes_what_it_is_given(two_folds):
    curved = [record("<b>&", 0, 0, 0.5, curve=[(1, 0.3), (2, 0.5)])]
    page = document.page([*two_folds, *curved], About("<i>", "a < b"), {"map": "<svg>"})
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert "http" not in page
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page
    assert page.count('class="line"') == 1
    assert "data:image/svg+xml;base64,PHN2Zz4=" in page


def test_the_mean_curve_is_over_the_cells_that_have_the_epoch():
    curves = [[(2, 0.4)], [(1, 0.2)], [(1, 0.4)]]
    records = [record("a", 0, t, 0.5, curve=c) for t, c in enumerate(curves)]
    assert findings.mean_curve(records, "a") == [(1, pytest.approx(0.3)), (2, pytest.approx(0.4))]


def test_a_cell_of_the_csv_stands_below_its_key():
    made = record("a|b", 2, 1, 0.5, settings={"train.lr": "0.05"}, context={"env/gpu": "none"}, seconds=7.0)
    (line,) = csv.DictReader(io.StringIO(blocks.csv_trials([made])))
    shown = {key: line[key] for key in ("row", "fold", "trial", "windows", "seconds", KEY, "train.lr", "env/gpu")}
    assert shown == {
        "row": "a|b", "fold": "2", "trial": "1", "windows": "10", "seconds": "7.0", KEY: "0.5", "train.lr": "0.05",
        "env/gpu": "none",
    }  # fmt: skip


def test_latex_escapes_and_keeps_every_row(two_folds):
    text = blocks.latex([*two_folds, record("50_%", 0, 0, 0.5)], About("t", "a & b"))
    assert r"50\_\%" in text
    assert r"a \& b" in text
    assert text.count(r"\\") == 3
    assert re.findall(r"\\(begin|end)\{(\w+)\}", text) == [
        ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")
    ]  # fmt: skip
    told = blocks.latex(two_folds, About("t", r"\ # $ { } ~ ^ < > |"))
    assert r"\textbackslash{} \# \$ \{ \} \textasciitilde{} \textasciicircum{} $<$ $>$ \textbar{}" in told


def drawn(accuracies, rule):
    """Rows scratch and KD over five folds; KD is better by the accuracies given."""
    split = {"rule": rule, "validation_subjects": 1}
    split |= {"train_fraction": 0.7, "test_fraction": 0.25} if rule == "subject_fractions" else {}
    settings = {f"dataset.gene.split.{key}": str(value) for key, value in split.items()}  # texts, as of a table's cells
    more = {"settings": settings, "context": {"data.subjects": "6"}}
    found = [record("scratch", f, 0, 0.5, **more) for f in range(5)]
    return found + [record("KD", f, 0, 0.5 + gap, **more) for f, gap in enumerate(accuracies)]


def test_folds_of_other_subjects_are_tested_as_scipy_does():
    gaps = [0.01, 0.03, 0.02, 0.05, -0.01]
    (found,) = findings.tests(drawn(gaps, "leave_one_subject_out"), "scratch")
    peer = stats.ttest_1samp(gaps, 0)
    interval = peer.confidence_interval(0.95)
    assert (found.p, found.low, found.high) == pytest.approx((peer.pvalue, interval.low, interval.high))


def test_folds_that_are_random_draws_of_the_same_subjects_have_the_corrected_variance():
    gaps = [0.01, 0.03, 0.02, 0.05, -0.01]  # mean 0.02, sample variance 0.0005
    (found,) = findings.tests(records := drawn(gaps, "subject_fractions"), "scratch")
    error = math.sqrt(0.0005 * (1 / 5 + 2 / 3))  # of six subjects two test; four train, of which one chooses the epoch
    assert found.p == pytest.approx(2 * stats.t.sf(0.02 / error, 4))
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 4) * error)
    assert "random draws" in blocks.against(records, About("t", "", "scratch")).note
    assert "random draws" not in blocks.against(drawn(gaps, "leave_one_subject_out"), About("t", "", "scratch")).note
    one_fold = [r for r in records if r.fold == 0]  # trials, whose variance is not corrected
    assert "random draws" not in blocks.against(one_fold, About("t", "", "scratch")).note


def test_the_test_against_the_baseline_is_told_without_the_folds_that_the_table_leaves_out_too():
    records = drawn([0.01, 0.02, 0.03, 0.02, -0.7], "leave_one_subject_out")
    block = blocks.against(records, About("t", "", "scratch", without_folds=(4,)))
    (row,) = (dict(zip(block.columns[:-1], r, strict=False)) for r in block.rows)
    assert row["difference (points)"] == "-12.40"
    assert row["without fold 4 (points)"] == "+2.00"
    assert float(block.rows[0][-1]) == pytest.approx(stats.ttest_1samp([0.01, 0.02, 0.03, 0.02], 0).pvalue, rel=1e-2)
    assert "without fold" not in " ".join(blocks.against(records, About("t", "", "scratch")).columns)
    one_left = blocks.against(records, About("t", "", "scratch", without_folds=(1, 2, 3, 4)))
    assert one_left.rows[0][-2:] == ["+1.00", "-"]  # one pair: trials of one fold do not become pairs


def test_a_reason_of_several_lines_and_with_a_bar_stays_in_its_cell_of_the_markdown():
    told = blocks.markdown([Record("SP", 0, 0, status="failed", reason="one\ntwo | three")], About("t", ""))
    assert r"| SP | 0 | 0 | failed | one two \| three | - |" in told
