from types import SimpleNamespace

import pytest

from spkd.experiment import run_report

TEACHERS = [SimpleNamespace(name="gaf-wrn16-3", run_id="0123abcd", sha256="9" * 64)]
LAST = SimpleNamespace(number=5, test={"accuracy": 0.6125, "macro_f1": 0.5})
EPOCHS = {"last": LAST, "headline": LAST}


@pytest.fixture
def page(monkeypatch):
    """The page of a student, of recordings of this origin, teachers, and a clean or a dirty working tree."""
    monkeypatch.setattr("sys.argv", ["spkd", "distill", "--fold", "1"])

    def made(origin="simulated", teachers=TEACHERS, dirty=False):
        settings = SimpleNamespace(
            dataset="pamap2", train=SimpleNamespace(headline="last"), distill=SimpleNamespace(teachers=["gaf:wrn16-3"])
        )
        plan = SimpleNamespace(
            role="student", settings=settings, origin=origin, scaling=SimpleNamespace(rule="training"),
            model=SimpleNamespace(network="wrn16-1", view="signal"),
            windows=SimpleNamespace(digest="abc", length=100, rate_hz=33.0, manifest={"rule": "sound"}),
            split=SimpleNamespace(test_subjects=["102"], validation_subjects=[]),
        )  # fmt: skip
        return run_report.page(plan, EPOCHS, teachers, {"commit": "f00d", "dirty": dirty}, "3")

    return made


def test_a_page_says_what_ran_and_on_which_data(page):
    assert page().startswith("student: wrn16-1 on the signal view\n\n")
    assert "### Data\n- origin: simulated\n- data set: pamap2, digest `abc`\n- window: 100 samples at 33 Hz" in page()
    assert "- test subjects: 102\n- validation subjects: none\n- scaling: training\n" in page()


def test_simulated_data_are_labelled_and_real_ones_are_not(page):
    assert "**Simulated data.**" in page()
    assert "Simulated" not in page(origin="UCI 231")


def test_the_headline_stands_with_its_rule(page):
    assert "\n\n**accuracy 61.25 %, macro-F1 50.00 %** (test result at the last epoch)\n\n" in page()


def test_teachers_are_links_to_their_runs_with_the_hash_of_their_weights(page):
    assert "[0123abcd](#/experiments/3/runs/0123abcd), weights sha256 `9999999999999999`" in page()
    assert "Teachers" not in page(teachers=[])


def test_results_are_a_table(page):
    head = "| result | epoch | test accuracy | test macro-F1 |\n|---|---|---|---|\n"
    assert f"{head}| last epoch | 5 | 0.6125 | 0.5000 |\n| headline | 5 | 0.6125 | 0.5000 |\n\n" in page()


def test_repeating_names_commit_and_command_and_the_patch_of_a_dirty_tree(page):
    clean, dirty = page(), page(dirty=True)
    assert "git checkout f00d\ndvc repro\npython -m spkd distill --fold 1\n```\n" in clean
    assert "git apply code.patch" in dirty and "git apply" not in clean


def test_the_cross_entropies_of_the_splits_share_a_plot_and_the_whole_objective_has_its_own():
    of_student = ["train/loss", "lr", "loss/cross_entropy", "loss/kd/t", "val/loss", "val/accuracy", "test/loss"]
    assert run_report.drawn(of_student) == {
        "train/loss": "train/objective", "loss/cross_entropy": "train/cross entropy", "loss/kd/t": "loss/kd/t",
        "val/loss": "val/cross entropy", "val/accuracy": "val/accuracy", "test/loss": "test/cross entropy",
    }  # fmt: skip
    alone = run_report.drawn(["train/loss", "loss/cross_entropy", "test/loss"])
    assert alone == {"loss/cross_entropy": "train/cross entropy", "test/loss": "test/cross entropy"}
