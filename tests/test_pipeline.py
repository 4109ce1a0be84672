"""DVC on a fresh clone: no remote, no network, nothing prepared."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml, modify_yaml

from spkd import __main__ as front
from spkd import config

ROOT = Path(__file__).parents[1]


def run(folder, *words, check=True):
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": "src", "HOME": str(folder)}
    environment |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout + done.stderr


def stages_run(text):
    return set(re.findall(r"Running stage '([^']+)'", text))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of the working tree as it would be committed, after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("clone")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("results/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    run(folder, "git", "init", "--quiet")
    run(folder, "dvc", "repro")
    return folder


def test_everything_is_rebuilt_without_remote_or_network(clone):
    for name in yaml.safe_load((ROOT / "params.yaml").read_text())["datasets"]:
        assert (clone / "data" / "windows" / name / "manifest.json").is_file()
    assert (clone / "data" / "coco" / "data.yaml").is_file()


def test_what_was_rebuilt_is_what_the_repository_recorded(clone):
    for name in ("dvc.lock", "data.dvc"):
        recorded, rebuilt = (yaml.safe_load((folder / name).read_text()) for folder in (ROOT, clone))
        assert recorded == rebuilt, f"{name} is old: run dvc repro and commit it"


def test_a_second_repro_runs_nothing(clone):
    for part, cache in (("images", "image.npy"), ("labels", "../train2017.cache")):  # as ultralytics leaves them there
        (clone / "data" / "coco" / part / "train2017" / cache).touch()
    assert stages_run(run(clone, "dvc", "repro")) == set()


def test_a_changed_setting_reruns_only_what_depends_on_it(clone):
    params = clone / "params.yaml"
    before = params.read_text()
    try:
        changed = before.replace("epochs: 200            #", "epochs: 201            #")
        assert changed != before
        params.write_text(changed)
        assert stages_run(run(clone, "dvc", "repro", "--dry")) == set()
        params.write_text(before.replace("min_lifetime: 0.01", "min_lifetime: 0.02"))
        rows = yaml.safe_load(before)["prepare"].items()
        views = {f"views@{name}" for name, row in rows if row["view"] == "persistence"}
        assert stages_run(run(clone, "dvc", "repro", "--dry")) == views
        params.write_text(before.replace("length: 156", "length: 104"))
        views = {f"views@{name}" for name, row in rows if row["dataset"] == "chest"}
        assert stages_run(run(clone, "dvc", "repro")) == {"windows@chest", *views}
    finally:
        params.write_text(before)


def test_recordings_of_ones_own_are_one_command_away(clone, tmp_path):
    said = run(clone, sys.executable, "-m", "spkd", "use-recordings", "sample")
    assert said == "data.dvc imports sample; run `dvc repro`\n"
    assert yaml.safe_load((clone / "data.dvc").read_text())["deps"] == [{"path": "sample"}]
    wrong = run(clone, sys.executable, "-m", "spkd", "use-recordings", str(tmp_path), check=False)
    assert "expected a folder with one of" in wrong


def test_recordings_of_one_data_set_are_enough_and_the_others_are_left_out_with_a_word(
    clone, tmp_path, monkeypatch, capsys
):
    lab, own = tmp_path / "내 recordings", tmp_path / "clone"
    shutil.copytree(ROOT / "sample" / "chest", lab / "chest")
    shutil.copytree(clone, own, symlinks=True)
    said = run(own, sys.executable, "-m", "spkd", "use-recordings", str(lab))
    others = [name for name in config.read(own / "params.yaml")["datasets"] if name != "chest"]
    assert f"without {', '.join(others)}, coco, which will be left out" in said
    told = run(own, "dvc", "repro")
    assert "pamap2: no folder pamap2 in the recordings that data.dvc imports: left out" in told
    assert (own / "data" / "windows" / "chest" / "signal.npy").is_file()
    monkeypatch.chdir(own)
    for command, message in (
        (["teacher"], "no folder pamap2 in the recordings that data.dvc imports; put them there"),
        (["inspect", "geneactiv"], "no folder geneactiv in the recordings"),
        (["check-labels"], "no folder coco in the recordings"),
    ):
        assert front.main(command) == 2
        assert message in capsys.readouterr().err


def test_what_dvc_writes_for_an_override_it_also_reads(tmp_path):
    """`dvc exp run -S` writes params.yaml anew, by its own rules of quoting, and reads that with a compiled parser."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with modify_yaml(tmp_path / "params.yaml") as tree:
        tree["datasets"]["pamap2"]["windows"]["step"] = 33
    expected = config.read(ROOT / "params.yaml")
    config.put(expected, "datasets.pamap2.windows.step", 33, "test")
    assert load_yaml(tmp_path / "params.yaml") == expected == config.read(tmp_path / "params.yaml")
