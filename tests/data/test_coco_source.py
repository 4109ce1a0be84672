"""COCO's archives from a local server that drops connections: folders appear whole, in the end, and only once."""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spkd.data import coco_source
from spkd.errors import SpkdError


def zipped(members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


BODIES = {
    "annotations_trainval2017.zip": zipped(
        {"annotations/instances_val2017.json": b"{}", "annotations/captions_val2017.json": b"[]" * 9}
    ),
    "val2017.zip": zipped({"val2017/000000000139.jpg": b"\xff\xd8" * 50_000, "val2017/000000000285.jpg": b"\xff\xd9"}),
}


@pytest.fixture
def mirror():
    """(address of a folder with BODIES, list of the files asked for); the first answer for each is cut in half."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            name = self.path.rpartition("/")[2]
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            body = BODIES[name][start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Range", f"bytes {start}-{len(BODIES[name]) - 1}/{len(BODIES[name])}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if name not in asked else body)
            asked.append(name)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/coco/", asked
    server.shutdown()
    server.server_close()


FILES = {
    part: {"url": f"http://official/{file}", "size": len(BODIES[file]), "md5": hashlib.md5(BODIES[file]).hexdigest()}
    for part, file in (("annotations", "annotations_trainval2017.zip"), ("val2017", "val2017.zip"))
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("spkd.data.fetch.LONGEST_PAUSE_S", 0)


def test_val2017_becomes_folders_without_archives_and_without_captions(mirror, tmp_path):
    coco_source.obtain("val2017", FILES, tmp_path, mirror[0])
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert found == ["annotations/instances_val2017.json", "val2017/000000000139.jpg", "val2017/000000000285.jpg"]


def test_what_is_unpacked_is_not_downloaded_again(mirror, tmp_path):
    coco_source.obtain("val2017", FILES, tmp_path, mirror[0])
    n = len(mirror[1])
    (tmp_path / "val2017.zip").write_bytes(b"of a process that was killed before it deleted it")
    coco_source.obtain("val2017", FILES, tmp_path, mirror[0])
    assert len(mirror[1]) == n == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations", "val2017"]


def test_a_wrong_archive_leaves_no_folder_and_the_good_one_stays(mirror, tmp_path):
    wrong = FILES | {"val2017": FILES["val2017"] | {"md5": "0" * 32}}
    with pytest.raises(SpkdError, match="expected md5 0000"):
        coco_source.obtain("val2017", wrong, tmp_path, mirror[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations"]


@pytest.mark.parametrize(("gives_back", "size", "beside"), [
    (True, 700_000_000, 200_000_000 + 2**28), (True, 10**9, 2**28), (False, 700_000_000, 900_000_000),
    (True, None, 900_000_000),
])  # fmt: skip
def test_where_blocks_are_given_back_little_space_is_needed_beside_the_archive(
    tmp_path, monkeypatch, gives_back, size, beside
):
    monkeypatch.setattr(coco_source.archive, "can_consume", lambda folder: gives_back)
    remote = coco_source.fetch.Remote("http://official/val2017.zip", "val2017.zip", size)
    assert coco_source._space_beside(remote, "val2017", tmp_path) == beside


def test_coco2017_without_its_entry_is_an_error(mirror, tmp_path):
    with pytest.raises(SpkdError, match="an entry train2017"):
        coco_source.obtain("coco2017", FILES, tmp_path, mirror[0])


def test_the_official_entries_are_the_published_ones(request):
    """Sizes and md5 as several independent projects publish them (mlcommons, Paddle, intel, COCO mirrors)."""
    import yaml

    files = yaml.safe_load((request.config.rootpath / "params.yaml").read_text())["coco"]["files"]
    assert {part: (f["size"], f["md5"]) for part, f in files.items()} == {
        "annotations": (252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c"),
        "val2017": (815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
        "train2017": (19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
    }
