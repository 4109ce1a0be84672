import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from spkd import config
from spkd.cli import convert_coco, use_recordings, windows
from spkd.errors import SpkdError

ROOT = Path(__file__).parents[2]
TREE = {"datasets": {"chest": {}, "pamap2": {}}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with data.dvc and one imported data set, and recordings of COCO beside it."""
    folder = tmp_path / "project"
    for place in (folder / "data" / "raw" / "chest", folder / "own" / "chest", tmp_path / "lab" / "coco"):
        place.mkdir(parents=True)
    (folder / "data.dvc").write_text("# what this is\nfrozen: true\n# and why\ndeps:\n- path: sample\n")
    monkeypatch.chdir(folder)
    return folder


def imported(where):
    assert use_recordings.main([where], None, TREE) == 0
    text = Path("data.dvc").read_text()
    assert text.startswith("# what this is\n# and why\n")
    stage = yaml.safe_load(text)
    assert (stage["frozen"], stage["outs"]) == (False, [{"path": "data/raw"}])
    return stage["deps"][0]["path"]


def test_a_path_stays_as_it_was_typed_where_it_leads_on_from_the_project(project, capsys):
    assert imported("own") == "own"
    assert "imports own (without pamap2, coco, which will be left out)" in capsys.readouterr().out
    assert imported(str(project / ".." / "lab")) == str(project.parent / "lab")
    assert "(without chest, pamap2, which will be left out)" in capsys.readouterr().out


@pytest.mark.parametrize(("where", "message"), [
    ("data/raw", "a folder outside data/"), ("own/chest", "expected a folder with one of chest, coco, pamap2 in it"),
    ("nowhere", "expected a folder with one of"), ("gs://lab", re.escape('pip install "dvc[gs]"')),
])  # fmt: skip
def test_what_dvc_could_not_import_leaves_the_import_as_it_is(project, where, message):
    before = (project / "data.dvc").read_text()
    with pytest.raises(SpkdError, match=message):
        use_recordings.main([where], None, TREE)
    assert (project / "data.dvc").read_text() == before


@pytest.mark.parametrize(("where", "package"), [
    ("https://lab/raw", "dvc_http"), ("http://lab/raw", "dvc_http"), ("webdavs://lab/raw", "dvc_webdav"),
    ("S3://lab/raw", "dvc_s3"), ("remote://lab/raw", None),
])  # fmt: skip
def test_an_address_needs_dvcs_package_for_its_kind(project, monkeypatch, where, package):
    asked = []
    monkeypatch.setattr(use_recordings.importlib.util, "find_spec", lambda name: asked.append(name) or True)
    assert imported(where) == where
    assert asked == ([package] if package else [])


@pytest.mark.parametrize(("source", "copy"), [("", ""), (", md5: b", ", md5: a")])
def test_nothing_is_prepared_of_recordings_that_were_not_imported(project, source, copy):
    """`dvc exp run` notes changed recordings as imported and leaves data/raw as it was, whatever is in it."""
    tree = config.read(ROOT / "params.yaml")
    Path("data.dvc").write_text(f"deps: [{{path: lab{source}}}]\nouts: [{{path: data/raw{copy}}}]\n")
    with pytest.raises(SpkdError, match=r"expected data prepared from lab, .*dvc repro windows@chest"):
        windows.main(["chest"], None, tree)
    with pytest.raises(SpkdError, match=r"expected data prepared from lab, .*dvc repro coco"):
        convert_coco.main([], SimpleNamespace(coco=SimpleNamespace(source="raw")), tree, {})
