import shutil

import pytest

from spkd.experiment import source, table

NETWORKS = {"small": {"model": "wide_resnet"}}
SP = {"view": {}, "distill": {"teachers": ["gaf:small"], "beta": {"sp": 1.0}}, "losses": {"sp": {}}}


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "spkd"
    shutil.copytree(source.ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def digest(root, relevant=SP):
    return source.code_digest(source.used(relevant, NETWORKS, root), root)


def edit(root, name, old, new):
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_files_of_a_cell_are_the_loop_and_the_parts_that_it_names():
    names = {str(f.relative_to(source.ROOT)) for f in source.used(SP, NETWORKS)}
    assert {"training/loop.py", "training/objective.py", "data/batches.py", "seeding.py"} <= names
    assert {"losses/sp.py", "losses/cross_entropy.py", "views/gaf.py", "models/wide_resnet.py"} <= names
    assert not {"views/persistence.py", "losses/kd.py", "config.py", "experiment/record.py"} & names
    assert not any(n.startswith(("evidence/", "detect/", "cli/", "datasets/")) for n in names)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("losses/sp.py", "import torch\n", "import torch\n\nEXTRA = 1\n"),
        ("training/loop.py", "import torch\n", "import torch\n\nEXTRA = 1\n"),
        ("views/gaf.py", "import torch\n", "import torch\n\nEXTRA = 1\n"),
        ("training/schedule.py", "max(1, round(share * epochs))", "max(2, round(share * epochs))"),
        ("experiment/outcome.py", "history[-1]", "history[0]"),
    ],
)
def test_code_that_a_cell_uses_changes_its_digest(copy, name, old, new):
    before = digest(copy)
    edit(copy, name, old, new)
    assert digest(copy) != before


def test_code_that_a_cell_does_not_use_leaves_its_digest(copy):
    before = digest(copy)
    edit(copy, "losses/kd.py", "import torch\n", "import torch\n\nEXTRA = 1\n")
    edit(copy, "evidence/figures.py", "import ", "import os\nimport ")
    assert digest(copy) == before


def test_what_a_run_page_shows_leaves_the_digest(copy):
    before = digest(copy)
    edit(copy, "experiment/run_report.py", "LATENCY_RUNS = 30", "LATENCY_RUNS = 50")
    edit(copy, "experiment/run_report.py", '"plots/f1.svg"', '"plots/classes.svg"')
    edit(copy, "training/cost.py", "import torch\n", "import torch\n\nEXTRA = 1\n")
    assert digest(copy) == before


def test_comments_docstrings_and_layout_leave_the_digest(copy):
    before = digest(copy)
    edit(copy, "losses/sp.py", "import torch\n", "# why\n\n\nimport torch\n")
    edit(copy, "losses/sp.py", "Similarity-preserving distillation", "Other words")
    assert digest(copy) == before


def test_hashes_stay_what_they_are_so_that_finished_cells_of_a_store_count():
    assert source.digest({"a.py": "1", "b.py": "2"}) == "30caa09837549174"  # printf 'a.py 1\nb.py 2' | sha256sum
    assert table.digest([{"b": 1.0, "a": ["x", None, True]}, "y"]) == "89fbfdff2617de7f"  # of its JSON, keys sorted
