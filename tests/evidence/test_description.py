from dataclasses import replace

from spkd.evidence.description import Facts, Teacher, description

FACTS = Facts(
    what="student: wrn16-1 on the signal view",
    origin="simulated",
    data={"data set": "pamap2, digest `abc`"},
    headline="accuracy 61.25 %",
    rule="test result at the epoch chosen on validation subjects",
    results=[{"result": "last", "epoch": 5, "test accuracy": 0.6125}],
    command="python -m spkd distill --fold 1",
    commit="f00d",
    dirty=False,
    experiment_id="3",
    teachers=[Teacher("gaf-wrn16-3", "0123abcd", "9" * 64)],
)


def test_simulated_data_are_labelled_and_real_ones_are_not():
    assert "**Simulated data.**" in description(FACTS)
    assert "Simulated" not in description(replace(FACTS, origin="UCI 231"))


def test_the_headline_stands_with_its_rule():
    assert "**accuracy 61.25 %** (test result at the epoch chosen on validation subjects)" in description(FACTS)


def test_teachers_are_links_to_their_runs_with_the_hash_of_their_weights():
    assert "[0123abcd](#/experiments/3/runs/0123abcd), weights sha256 `9999999999999999`" in description(FACTS)
    assert "Teachers" not in description(replace(FACTS, teachers=[]))


def test_results_are_a_table():
    assert "| result | epoch | test accuracy |\n|---|---|---|\n| last | 5 | 0.6125 |" in description(FACTS)


def test_repeating_names_commit_and_command_and_the_patch_of_a_dirty_tree():
    clean, dirty = description(FACTS), description(replace(FACTS, dirty=True))
    assert "git checkout f00d\ndvc repro\npython -m spkd distill --fold 1" in clean
    assert "git apply code.patch" in dirty and "git apply" not in clean
