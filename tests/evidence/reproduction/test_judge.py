from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from spkd.evidence.reproduction import judge, portable
from spkd.evidence.reproduction.judge import Record
from spkd.settings import Reproduce

LIMITS = Reproduce(run_id="-", trials=1, first_step=0.02, maps=0.05, margin=0.02, alpha=0.05, min_trials=5)
MACHINE = {"cpu": "a", "gpu": "none", "torch": "2", "lock": "l", "flags": "threads=1"}
RECORD = Record(
    "r0", "run", "0", {"commit": "c", "data digest": "d", "teacher.t": "w"}, {"train.lr": "0.05"}, MACHINE,
    "bits", True, {"loss": 2.0, "sp": 0.01}, {"headline/accuracy": 0.8}, {"group1/student": np.eye(4) + 0.1},
    {"train/loss": [(1, 1.0), (2, 0.5)], "seconds": [(1, 3.0)]},
)  # fmt: skip
ELSEWHERE = {**MACHINE, "flags": "threads=2"}


def trials(values, **change):
    return [replace(RECORD, seed=str(k), results={"headline/accuracy": v}, **change) for k, v in enumerate(values)]


def on_another_machine(old, new):
    recorded = trials(old)
    repeated = trials(new, machine=ELSEWHERE, weights="other bits")
    return judge.judge(list(zip(recorded, repeated, strict=True)), LIMITS)


def one(**change):
    return judge.judge([(RECORD, replace(RECORD, run_id="r1", **change))], LIMITS)


def test_the_same_bits_and_numbers_are_identical():
    assert (one().status, one().level) == ("identical", 1)


def test_clocks_may_differ():
    recorded = replace(RECORD, history={**RECORD.history, "cost/latency_ms": [(2, 1.0)], "cost/macs": [(2, 7.0)]})
    slower = {**recorded.history, "seconds": [(1, 9.0)], "cost/latency_ms": [(2, 2.0)]}
    assert judge.judge([(recorded, replace(recorded, history=slower))], LIMITS).status == "identical"
    larger = {**recorded.history, "cost/macs": [(2, 8.0)]}
    assert judge.judge([(recorded, replace(recorded, history=larger))], LIMITS).status == "different"


def test_the_same_bits_on_another_machine_are_identical():
    assert one(machine=ELSEWHERE).status == "identical"


def test_other_bits_on_the_same_kind_of_machine_are_different_and_the_first_number_is_named():
    verdict = one(weights="other", history={"train/loss": [(1, 1.0), (2, 0.4)]})
    assert (verdict.status, verdict.level) == ("different", 1)
    assert "train/loss, step 2" in verdict.reason


@pytest.mark.parametrize("fact", ["cpu", "gpu", "driver", "cuda", "cudnn", "torch", "lock", "flags"])
def test_bits_are_promised_only_where_every_fact_of_the_machine_is_the_same(fact):
    assert one(weights="other", machine={**MACHINE, fact: "another"}).status == "inconclusive"


@pytest.mark.parametrize("fact", ["host", "memory_gib"])
def test_facts_that_change_no_bit_leave_the_machine_of_one_kind(fact):
    assert one(weights="other", machine={**MACHINE, fact: "another"}).status == "different"


def test_the_earliest_of_the_numbers_that_moved_is_named():
    names = [f"loss/{name}" for name in "abcdefgh"]
    recorded = replace(RECORD, history={name: [(step, 1.0) for step in range(1, 10)] for name in names})
    moved = {name: [(step, 1.0 if step < 9 - k else 0.5) for step in range(1, 10)] for k, name in enumerate(names)}
    verdict = judge.judge([(recorded, replace(recorded, history=moved))], LIMITS)
    assert verdict.reason.endswith("first at loss/h, step 2")


def test_the_same_weights_with_other_numbers_are_different():
    verdict = one(history={"train/loss": [(1, 1.0), (2, 0.4)]})
    assert (verdict.status, verdict.level) == ("different", 1)


@pytest.mark.parametrize(
    ("results", "named"),
    [
        ({"headline/accuracy": 0.9}, "first at headline/accuracy"),
        ({"headline/accuracy": 0.8, "headline/macro_f1": 0.7}, "first at headline/macro_f1"),
        ({"headline/accuracy": float("nan")}, "first at headline/accuracy"),
        ({"headline/accuracy": 0.8, "headline/macro_f1": float("nan")}, "first at headline/macro_f1"),
    ],
)
def test_the_same_weights_with_other_results_are_different(results, named):
    verdict = one(results=results)
    assert (verdict.status, verdict.level) == ("different", 1)
    assert named in verdict.reason
    assert one(results=results, history={}).status == "different"


@pytest.mark.parametrize("history", [{"seconds": [(1, 3.0)]}, {**RECORD.history, "val/loss": [(2, 1.0)]}])
def test_a_metric_that_one_side_lacks_is_a_difference(history):
    assert one(history=history).status == "different"
    for nothing in ({"history": {}}, {"results": {}}):  # a trial of a bundle: nothing was recorded to compare
        assert one(**nothing).status == "identical"
        assert judge.judge([(replace(RECORD, **nothing), RECORD)], LIMITS).status == "identical"


@pytest.mark.parametrize(
    "looked", [{"sim/group1/contrast": [(0, 0.1), (20, 0.3)]}, {"sim/group3/contrast": [(0, 9.0)]}]
)
def test_numbers_of_maps_are_compared_where_both_sides_looked(looked):
    recorded = replace(RECORD, history={**RECORD.history, "sim/group1/contrast": [(0, 0.1), (5, 0.2), (20, 0.3)]})
    other = replace(recorded, history={**RECORD.history, **looked})
    assert judge.judge([(recorded, other)], LIMITS).status == "identical"
    assert judge.judge([(other, recorded)], LIMITS).status == "identical"
    moved = replace(recorded, history={**RECORD.history, "sim/group1/contrast": [(0, 0.1), (20, 0.4)]})
    verdict = judge.judge([(recorded, moved)], LIMITS)
    assert verdict.status == "different" and "sim/group1/contrast, step 20" in verdict.reason
    untrained = replace(other, history=looked)
    assert "train/loss, step 1" in judge.judge([(recorded, untrained)], LIMITS).reason


def test_nan_is_the_same_as_nan():
    assert judge.same(0.8, float("0.8")) and not judge.same(0.8, 0.9)
    nan = {"headline/accuracy": float("nan")}, {"train/loss": [(1, float("nan"))]}
    recorded = replace(RECORD, results=nan[0], history=nan[1])
    assert judge.judge([(recorded, replace(recorded, run_id="r1"))], LIMITS).status == "identical"
    assert judge.judge([(recorded, replace(recorded, results=RECORD.results))], LIMITS).status == "different"
    assert judge.judge([(recorded, replace(recorded, history=RECORD.history))], LIMITS).status == "different"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": {**RECORD.inputs, "data digest": "e"}}, "data digest"),
        ({"inputs": {**RECORD.inputs, "teacher.t": "x"}}, "teacher.t"),
        ({"inputs": {**RECORD.inputs, "commit": "b"}}, "commit"),
        ({"settings": {"train.lr": "0.1"}}, "setting train.lr: recorded 0.05, here 0.1"),
        ({"settings": {"train.lr": "0.05", "train.new": "1"}}, "setting train.new"),
        ({"settings": {"train.lr": "0.1", "train.new": "1"}}, "here 0.1 (and 1 more)"),
    ],
)
def test_another_input_is_different_with_its_name_even_where_the_bits_are_the_same(change, named):
    verdict = one(**change)
    assert (verdict.status, verdict.level) == ("different", 0)
    assert named in verdict.reason


def test_a_hash_that_was_not_recorded_is_not_a_difference():
    lacking = replace(RECORD, inputs={"commit": "c", "data digest": "d"})
    for pair, told in (((RECORD, lacking), ("w", "not recorded")), ((lacking, RECORD), ("not recorded", "w"))):
        verdict = judge.judge([pair], LIMITS)
        assert verdict.status == "identical" and judge.Row("teacher.t", *told, None) in verdict.rows


def test_a_first_step_beyond_the_tolerance_is_different():
    verdict = one(machine=ELSEWHERE, weights="other", first_step={"loss": 2.05, "sp": 0.01})
    assert (verdict.status, verdict.level) == ("different", 2)
    assert verdict.reason == "first step loss: recorded 2, here 2.05 (off by 2.5e-02, allowed 0.02)"


def test_a_small_loss_is_measured_against_the_total():
    # sp twice as large is 0.01 of a total of 2.0, 0.005 relative: within 0.02
    assert one(machine=ELSEWHERE, weights="other", first_step={"loss": 2.0, "sp": 0.02}).level == 3


def test_a_large_loss_that_weighs_nothing_does_not_hide_a_total_that_is_off():
    recorded = replace(RECORD, first_step={"loss": 2.0, "kd/T": 9.0})
    moved = {"machine": ELSEWHERE, "weights": "other"}
    apart = replace(recorded, **moved, first_step={"loss": 2.06, "kd/T": 9.0})
    assert judge.judge([(recorded, apart)], LIMITS).reason.startswith("first step loss")
    # 0.1 of 9.0 is 0.011, within 0.02, though it is 0.05 of the total
    close = replace(recorded, **moved, first_step={"loss": 2.0, "kd/T": 9.1})
    assert judge.judge([(recorded, close)], LIMITS).level == 3


def test_losses_of_a_detector_which_has_no_total_are_measured_against_the_largest():
    recorded = replace(RECORD, first_step={"box_loss": 0.1, "cls_loss": 2.0})
    moved = {"machine": ELSEWHERE, "weights": "other"}
    # 0.03 more box loss is 0.015 of the largest loss, within 0.02, and 0.3 of itself; 0.05 more is 0.025
    for box, level in ((0.13, 3), (0.15, 2)):
        repeated = replace(recorded, **moved, first_step={"box_loss": box, "cls_loss": 2.0})
        assert judge.judge([(recorded, repeated)], LIMITS).level == level


def test_a_map_beyond_the_tolerance_is_different_and_its_scale_does_not_count():
    other = {"machine": ELSEWHERE, "weights": "other"}
    assert one(**other, maps={"group1/student": 7 * RECORD.maps["group1/student"]}).level == 3
    verdict = one(**other, maps={"group1/student": np.eye(4) + 0.3})
    assert (verdict.status, verdict.level) == ("different", 2)
    assert "map group1/student" in verdict.reason


def test_maps_of_other_probes_are_different():
    assert one(machine=ELSEWHERE, weights="other", maps={"group1/student": np.eye(5)}).status == "different"


def test_nothing_to_compare_is_inconclusive():
    assert one(machine=ELSEWHERE, weights="other", maps={}, first_step={}).status == "inconclusive"


def test_one_trial_elsewhere_is_inconclusive_though_its_result_is_the_same():
    verdict = one(machine=ELSEWHERE, weights="other")
    assert (verdict.status, verdict.level) == ("inconclusive", 3)
    assert "min_trials" in verdict.reason


def test_a_detector_that_went_on_from_a_checkpoint_promises_no_bits_and_the_table_says_so():
    tags, params = {"weights.sha256": "bits"}, {"cfg/run.deterministic": "true", "env/cpu": "a"}
    info = {"id": "r", "name": "n", "tags": tags, "params": params, "metrics": {"first_step/box_loss": 1.0}}
    stopped = {**info, "tags": {**tags, "epochs.continued": "after epoch 1"}}
    again = {**info, "tags": {"weights.sha256": "other"}}
    whole, went_on, repeated = map(portable._from_info, (info, stopped, again))
    assert judge.judge([(whole, repeated)], LIMITS).status == "different"
    verdict = judge.judge([(went_on, repeated)], LIMITS)
    assert (verdict.status, verdict.level) == ("inconclusive", 3)
    assert judge.Row("continued", "after epoch 1", "", None) in verdict.rows


def test_five_close_trials_are_equivalent():
    verdict = on_another_machine([0.80, 0.81, 0.80, 0.79, 0.80], [0.80, 0.80, 0.81, 0.80, 0.79])
    assert (verdict.status, verdict.level) == ("equivalent", 3)


def test_four_trials_are_too_few_for_equivalence():
    assert on_another_machine([0.8] * 4, [0.8] * 4).status == "inconclusive"


def test_a_difference_that_is_not_significant_is_not_called_the_same():
    old, new = [0.70, 0.90, 0.75, 0.85, 0.80], [0.90, 0.70, 0.85, 0.75, 0.81]
    assert stats.ttest_rel(old, new).pvalue > 0.9
    assert on_another_machine(old, new).status == "inconclusive"


@pytest.mark.parametrize("shift", [-0.1, 0.1])
def test_results_shown_to_lie_beyond_the_margin_are_different(shift):
    old = [0.80, 0.81, 0.80, 0.79, 0.80]
    verdict = on_another_machine(old, [v + shift + 0.001 * k for k, v in enumerate(old)])
    assert (verdict.status, verdict.level) == ("different", 3)


def test_a_significant_difference_within_the_margin_is_equivalent():
    old, new = [0.800, 0.801, 0.799, 0.800, 0.800], [0.805, 0.806, 0.804, 0.806, 0.804]
    assert stats.ttest_rel(old, new).pvalue < 0.001
    assert on_another_machine(old, new).status == "equivalent"


def test_one_different_trial_among_identical_ones_decides():
    pairs = [(r, r) for r in trials([0.8, 0.8])]
    pairs[1] = (pairs[1][0], replace(pairs[1][1], weights="other"))
    verdict = judge.judge(pairs, LIMITS)
    assert verdict.status == "different"
    assert any(row.what == "t1 weights sha256" for row in verdict.rows)


def test_a_trial_with_nothing_to_compare_is_not_covered_by_the_others():
    recorded = trials([0.8] * 5)
    repeated = trials([0.8] * 5, machine=ELSEWHERE, weights="other bits")
    repeated[3] = replace(repeated[3], first_step={}, maps={})
    verdict = judge.judge(list(zip(recorded, repeated, strict=True)), LIMITS)
    assert (verdict.status, verdict.level) == ("inconclusive", 2)


def test_identical_trials_do_not_cover_one_that_is_not():
    recorded = trials([0.8] * 5)
    repeated = [*recorded[:4], replace(recorded[4], machine=ELSEWHERE, weights="other bits")]
    assert judge.judge(list(zip(recorded, repeated, strict=True))[3:], LIMITS).status == "inconclusive"
    assert judge.judge(list(zip(recorded, repeated, strict=True)), LIMITS).status == "equivalent"


def test_a_different_trial_decides_though_an_earlier_one_has_nothing_to_compare():
    recorded, repeated = trials([0.8] * 2), trials([0.8] * 2, machine=ELSEWHERE, weights="other bits")
    repeated = [replace(repeated[0], first_step={}, maps={}), replace(repeated[1], first_step={"loss": 9.0})]
    verdict = judge.judge(list(zip(recorded, repeated, strict=True)), LIMITS)
    assert (verdict.status, verdict.level) == ("different", 2)


def test_trials_without_a_result_in_common_are_not_equivalent():
    recorded, repeated = trials([0.8] * 5), trials([0.8] * 5, machine=ELSEWHERE, weights="other bits")
    verdict = judge.judge(
        [(old, replace(new, results={})) for old, new in zip(recorded, repeated, strict=True)], LIMITS
    )
    assert (verdict.status, verdict.level) == ("inconclusive", 3)
    assert verdict.reason.endswith("no common result")


def test_the_results_that_are_not_shown_to_be_equivalent_are_named_and_no_other():
    old, new = [0.70, 0.90, 0.75, 0.85, 0.80], [0.90, 0.70, 0.85, 0.75, 0.81]
    repeated = trials(new, machine=ELSEWHERE, weights="other bits")
    pairs = [(replace(a, results={**a.results, "close": 0.5}), replace(b, results={**b.results, "close": 0.5}))
             for a, b in zip(trials(old), repeated, strict=True)]  # fmt: skip
    assert judge.judge(pairs, LIMITS).reason.endswith("neither show nor exclude equivalence: headline/accuracy")


def test_a_result_that_one_trial_lacks_is_not_said_to_be_tested_over_all():
    recorded, repeated = trials([0.8] * 5), trials([0.8] * 5, machine=ELSEWHERE, weights="other bits")
    both = [(replace(a, results={**a.results, "best/mAP50": 0.5}), replace(b, results={**b.results, "best/mAP50": 0.5}))
            for a, b in zip(recorded, repeated, strict=True)]  # fmt: skip
    names = [row.what for row in judge.judge(both, LIMITS).rows if row.what.endswith(" %")]
    assert names == ["best/mAP50 %", "headline/accuracy %"]
    both[3] = recorded[3], both[3][1]
    verdict = judge.judge(both, LIMITS)
    assert verdict.status == "equivalent" and verdict.reason.endswith("(TOST, n 5)")
    assert [row.what for row in verdict.rows if row.what.endswith(" %")] == ["headline/accuracy %"]


def test_a_result_agrees_where_it_is_shown_to_be_equivalent():
    close = on_another_machine([0.80, 0.81, 0.80, 0.79, 0.80], [0.80, 0.80, 0.81, 0.80, 0.79])
    far = on_another_machine([0.70, 0.90, 0.75, 0.85, 0.80], [0.90, 0.70, 0.85, 0.75, 0.81])
    agrees = [[row.agrees for row in v.rows if row.what == "headline/accuracy %"] for v in (close, far)]
    assert agrees == [[True], [None]]


def test_seeds_that_differ_widely_among_themselves_do_not_hide_an_equivalence():
    assert on_another_machine([0.50, 0.30, 0.42, 0.30, 0.61], [0.50, 0.31, 0.42, 0.30, 0.60]).status == "equivalent"


def test_tost_is_the_larger_of_two_one_sided_paired_tests():
    old, new = [0.1, 0.4, 0.3, 0.2, 0.3], [0.2, 0.25, 0.5, 0.35, 0.3]
    for margin in (0.3, 0.1):
        test = judge.tost(old, new, margin, 0.05)
        lower = stats.ttest_rel(np.array(new) + margin, old, alternative="greater").pvalue
        upper = stats.ttest_rel(np.array(new) - margin, old, alternative="less").pvalue
        assert test.p == pytest.approx(max(lower, upper))
        interval = stats.ttest_rel(new, old).confidence_interval(0.90)
        assert (test.low, test.high) == pytest.approx(tuple(interval))
        assert (test.p < 0.05) == (test.low > -margin and test.high < margin) == (margin == 0.3)


def test_tost_of_values_without_spread_compares_the_difference_itself():
    assert judge.tost([0.8, 0.8], [0.81, 0.81], 0.02, 0.05).p == 0
    assert judge.tost([0.8, 0.8], [0.83, 0.83], 0.02, 0.05).p == 1
    assert judge.tost([0.83, 0.83], [0.8, 0.8], 0.02, 0.05).p == 1


def test_every_number_of_the_table_and_of_the_reason_is_the_one_computed_by_hand():
    recorded, repeated = trials([0.80, 0.82]), trials([0.90, 0.96], machine=ELSEWHERE, weights="other bits")
    repeated[1] = replace(repeated[1], inputs={**RECORD.inputs, "commit": "b"}, history={})
    rows = judge.judge(list(zip(recorded, repeated, strict=True)), LIMITS).rows
    # gaps 10 and 14 points: mean 12, standard error 2; t of 0.95 with 1 degree of freedom 6.3138: 12 -+ 12.63; p of a
    # gap below 2: t = 5 above, cdf(5) = 1/2 + atan(5) / pi
    assert rows[-1] == judge.Row(
        "headline/accuracy %", "81.00 +- 1.41 (n 2)",
        "93.00 +- 4.24 (n 2); difference -0.63 to +24.63, margin 2, p 0.94", None,
    )  # fmt: skip
    told = {row.what: (row.recorded, row.repeated, row.agrees) for row in rows}
    assert told["commit"] == ("c", "c", True) and told["t1 commit"] == ("c", "b", False)
    assert told["numbers of every epoch, results"][1:] == ("first at headline/accuracy", False)
    assert "t0 commit" not in told and len(told) == len(rows)
    assert told["first step sp"] == ("0.01", "0.01 (off by 0.0e+00, allowed 0.02)", True)
    assert told["map group1/student"] == ("", "off by 0.0e+00, allowed 0.05", True)
    same = one(machine=ELSEWHERE).rows
    assert judge.Row("numbers of every epoch, results", "", "the same", True) in same
    assert judge.Row("headline/accuracy %", "80.00 (n 1)", "80.00 (n 1)", None) in same
    assert judge.Row("weights sha256", "bits", "", None) in one(weights="").rows  # not recorded is not another
    assert "numbers of" not in judge.markdown(one(history={}), "")  # none were recorded that could be the same
    old = [0.80, 0.81, 0.80, 0.79, 0.80]
    for new, told in (([v + 0.1 for v in old[:4]] + [0.91], "differs by +9.77 to +10.63 points, beyond 2"),
                      ([0.80, 0.80, 0.81, 0.80, 0.79], "results within 2 points (TOST, n 5)")):  # fmt: skip
        assert told in on_another_machine(old, new).reason


def test_the_table_has_machines_settings_and_numbers_side_by_side():
    verdict = one(machine=ELSEWHERE, weights="other")
    text = judge.markdown(verdict, "reproduce run")
    assert "| what | recorded | here | agrees |" in text and "| flags | threads=1 | threads=2 | - |" in text
    assert "| weights sha256 | bits | other | NO |" in text
    assert "**inconclusive**" in text
    cut = judge.markdown(judge.Verdict("different", 0, "why", [judge.Row("a|b", "two\nlines", "", False)]), "t")
    assert "| a/b | two lines |  | NO |\n" in cut
