"""spkd fetch: what it does for each source, and the marker that the DVC stage has as its output."""

import json
import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spkd import plugin
from spkd.__main__ import run
from spkd.cli.fetch import fetch_entries
from spkd.errors import SpkdError


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    shutil.copy(request.config.rootpath / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def marker(project, name):
    return json.loads((project / "data" / "fetched" / name / "source.json").read_text())


@pytest.mark.parametrize("name", ["pamap2", "geneactiv", "chest", "coco"])
def test_own_recordings_need_no_download_and_leave_a_marker(project, name, capsys):
    assert run("fetch", [name]) == 0
    assert marker(project, name) == {"dataset": name, "source": "raw", "files": []}
    assert "nothing to download" in capsys.readouterr().out


def test_a_uci_source_is_fetched_from_a_mirror(project, monkeypatch, capsys):
    (project / "served").mkdir()
    with zipfile.ZipFile(project / "served" / "x.zip", "w") as archive:
        archive.writestr("1.csv", "0,1,2,3,1")
    content = (project / "served" / "x.zip").read_bytes()
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    handler = partial(SimpleHTTPRequestHandler, directory=str(project / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    entry = {"url": "https://archive.example/chest.zip", "size": len(content)}
    described = plugin.describe

    def public(shelf, name):
        return ("", {"FETCH": [entry]}) if shelf == "datasets" else described(shelf, name)

    monkeypatch.setattr("spkd.cli.fetch.plugin.describe", public)
    try:
        url = f"http://127.0.0.1:{server.server_port}/x.zip"
        assert run("fetch", ["chest", "--datasets.chest.windows.source", "uci", "--url", url]) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert (project / "data" / "fetched" / "chest" / "chest.zip").read_bytes() == content
    assert marker(project, "chest")["files"] == [{"file": "chest.zip", "size": len(content), "digest": None}]


def test_one_file_is_no_mirror_of_several(monkeypatch, tmp_path):
    entries = [{"url": f"https://archive.example/{name}.zip"} for name in "ab"]
    monkeypatch.setattr("spkd.cli.fetch.plugin.describe", lambda shelf, name: ("", {"FETCH": entries}))
    with pytest.raises(SpkdError, match="--url: expected a folder .ending in /."):
        fetch_entries("chest", tmp_path, "http://mirror/a.zip")


def test_a_source_that_is_not_public_says_so(project):
    with pytest.raises(SpkdError, match=r"a public source \(FETCH\)"):
        run("fetch", ["geneactiv", "--datasets.geneactiv.windows.source", "uci"])


def test_a_misspelt_data_set_or_source_names_the_nearest(project):
    with pytest.raises(SpkdError, match="did you mean 'chest'"):
        run("fetch", ["chets"])
    with pytest.raises(SpkdError, match="did you mean 'val2017'"):
        run("fetch", ["coco", "--coco.source", "val2071"])
    with pytest.raises(SpkdError, match="datasets.pamap2.windows.source: expected raw or uci, got 'ucl'"):
        run("fetch", ["pamap2", "--datasets.pamap2.windows.source", "ucl"])


def test_a_folder_as_source_needs_no_download(project):
    (project / "mine").mkdir()
    assert run("fetch", ["coco", "--coco.source", "mine"]) == 0
    assert marker(project, "coco")["source"] == "mine"
