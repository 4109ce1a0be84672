"""Downloads against servers that misbehave: whatever they do, the file on disk is right or absent."""

import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

import spkd
from spkd.data import fetch
from spkd.data.fetch import Remote, download
from spkd.errors import SpkdError

SRC = str(Path(spkd.__file__).parents[1])
BODY = random.Random(0).randbytes(3_000_000)


class Server(ThreadingHTTPServer):
    """Serves `body` below any path; fields say how it misbehaves; `asked` keeps every request's Range.

    encodings: those that the last request would take.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.asked = BODY, '"one"', []
        self.ranges = True
        self.drop_after = []  # bytes sent before the connection is cut, one entry a request
        self.statuses = []  # answers to the first requests instead of the file
        self.length_header = True
        self.honours_if_range = True
        self.starts_at = []  # bytes that the next ranges begin at, whatever was asked for
        self.pause_s = 0.0
        self.before = lambda n: None  # called with the number of each request
        self.url = f"http://127.0.0.1:{self.server_port}/set.tar"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        server.encodings = self.headers.get("Accept-Encoding")
        server.before(len(server.asked))
        self.close_connection = True
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("Location", "file:///etc/passwd")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, body = 0, server.body
        stale = server.honours_if_range and self.headers.get("If-Range") not in (None, server.etag)
        if server.ranges and asked and not stale:
            start = server.starts_at.pop(0) if server.starts_at else int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.length_header:
            self.send_header("Content-Length", str(len(body) - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        cut = server.drop_after.pop(0) if server.drop_after else len(body)
        piece = body[start : start + cut]
        for at in range(0, len(piece), 1 << 16):
            self.wfile.write(piece[at : at + (1 << 16)])
            time.sleep(server.pause_s)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


def remote(server, **other):
    known = {"size": len(BODY), "digest": "md5:" + hashlib.md5(BODY).hexdigest()}
    return Remote(server.url, "set.tar", **(known | other))


def get(server, folder, **other):
    return download(remote(server, **other), folder, pause_s=0.001, tries=4)


def left(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_arrives_whole_and_leaves_no_partial_name(server, tmp_path):
    assert get(server, tmp_path).read_bytes() == BODY
    assert left(tmp_path) == ["set.tar"]


def test_no_server_may_compress_what_is_written_as_it_comes(server, tmp_path):
    get(server, tmp_path)
    assert server.encodings == "identity"


def test_a_complete_file_is_not_asked_for_again(server, tmp_path):
    get(server, tmp_path)
    get(server, tmp_path)
    assert len(server.asked) == 1


def test_a_file_of_another_size_is_fetched_again(server, tmp_path):
    (tmp_path / "set.tar").write_bytes(BODY[:-1])
    assert get(server, tmp_path).read_bytes() == BODY


def test_a_dropped_connection_is_continued_where_it_stopped(server, tmp_path):
    server.drop_after = [1_000_000, 700_000]
    assert get(server, tmp_path).read_bytes() == BODY
    starts = [int(a[6:-1]) for a in server.asked[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 1_000_000 < starts[1] <= 1_700_000


def test_only_failures_without_a_new_byte_are_counted(server, tmp_path):
    server.drop_after = [400_000] * 6  # more than the four that may fail in a row
    assert get(server, tmp_path).read_bytes() == BODY
    assert len(server.asked) == 7


@pytest.mark.parametrize("size", [len(BODY), None])
def test_space_is_asked_for_what_is_missing_and_what_will_be_unpacked(server, tmp_path, monkeypatch, size):
    asked = []
    monkeypatch.setattr(fetch, "check_space", lambda folder, needed, what: asked.append((folder, needed, what)))
    (tmp_path / "set.tar.part").write_bytes(BODY[:1_000_000])
    assert download(remote(server, size=size), tmp_path, unpacked_bytes=7).read_bytes() == BODY
    assert server.asked == ["bytes=1000000-"]
    assert asked == [(tmp_path, len(BODY) - 1_000_000 + 7, "set.tar")]


def test_the_bytes_are_on_the_disk_before_the_file_has_its_name(server, tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("fsync") or fsync(handle))
    monkeypatch.setattr(os, "replace", lambda old, new: calls.append(Path(new).name) or replace(old, new))
    get(server, tmp_path)
    assert calls[-2:] == ["fsync", "set.tar"]


def test_a_server_without_ranges_is_asked_for_everything_again(server, tmp_path):
    server.ranges, server.drop_after = False, [1_000_000, 2_000_000]
    assert get(server, tmp_path).read_bytes() == BODY


def test_a_server_without_ranges_that_always_drops_ends_in_an_error_and_no_file(server, tmp_path):
    server.ranges, server.drop_after = False, [500_000] * 50
    with pytest.raises(SpkdError, match=r"4 failures in a row.*start again later"):
        get(server, tmp_path)
    assert "set.tar" not in left(tmp_path)


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changes_between_two_tries_is_not_mixed(server, tmp_path, honours_if_range):
    server.honours_if_range, server.drop_after = honours_if_range, [1_000_000]
    newer = random.Random(1).randbytes(len(BODY))

    def change(n):
        if n == 2:
            server.body, server.etag = newer, '"two"'

    server.before = change
    assert get(server, tmp_path, digest=None).read_bytes() == newer
    assert len(server.asked) == (2 if honours_if_range else 3)


def test_a_range_that_was_not_asked_for_is_not_appended(server, tmp_path):
    server.drop_after, server.starts_at = [1_000_000], [2_000_000]
    assert get(server, tmp_path, digest=None).read_bytes() == BODY
    assert len(server.asked) == 3


def test_a_range_that_comes_without_its_etag_is_taken(server, tmp_path):
    server.honours_if_range, server.drop_after = False, [1_000_000]
    server.before = lambda n: setattr(server, "etag", '"one"' if n == 1 else None)
    assert get(server, tmp_path, digest=None).read_bytes() == BODY
    assert len(server.asked) == 2


@pytest.mark.parametrize("etag", [None, 'W/"one"'])  # a weak one is of files that mean the same
def test_without_etag_and_checksum_nothing_is_resumed(server, tmp_path, etag):
    server.etag, server.drop_after = etag, [1_000_000]
    assert get(server, tmp_path, digest=None).read_bytes() == BODY
    assert server.asked == [None, None]


def test_bytes_of_another_address_are_not_mixed_in_without_a_checksum(server, tmp_path):
    """The other server may give the same ETag to another file."""
    (tmp_path / "set.tar.part").write_bytes(b"x" * 1_000_000)
    note = {"url": "http://elsewhere/set.tar", "validator": server.etag}
    (tmp_path / "set.tar.part.json").write_text(json.dumps(note))
    assert get(server, tmp_path, digest=None).read_bytes() == BODY
    assert server.asked == [None]


def test_an_old_part_of_another_version_is_replaced_once_the_checksum_fails(server, tmp_path):
    server.etag = None
    (tmp_path / "set.tar.part").write_bytes(b"x" * 1_000_000)
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.asked == ["bytes=1000000-", None]


@pytest.mark.parametrize("note", ["{", "[]"])
def test_a_note_that_is_damaged_is_none(server, tmp_path, note):
    (tmp_path / "set.tar.part").write_bytes(b"x" * 1_000_000)
    (tmp_path / "set.tar.part.json").write_text(note)
    assert get(server, tmp_path, digest=None).read_bytes() == BODY


def test_a_partial_file_longer_than_the_file_starts_over(server, tmp_path):
    server.etag = None
    (tmp_path / "set.tar.part").write_bytes(b"x" * (len(BODY) + 10))
    assert get(server, tmp_path).read_bytes() == BODY


def test_wrong_bytes_are_deleted_and_the_error_gives_both_checksums(server, tmp_path):
    server.body = BODY[:-1] + b"?"
    expected, got = hashlib.md5(BODY).hexdigest(), hashlib.md5(server.body).hexdigest()
    with pytest.raises(SpkdError, match=f"expected md5 {expected}, got {got}; .*deleted"):
        get(server, tmp_path)
    assert left(tmp_path) == []
    assert server.asked == [None]


def test_a_web_page_of_the_files_size_is_called_one(server, tmp_path):
    server.body = b"<!DOCTYPE html>\n<HTML>".ljust(len(BODY))
    with pytest.raises(SpkdError, match="got [0-9a-f]{32}, a web page;"):
        get(server, tmp_path)


def test_a_sha256_is_checked_as_well(server, tmp_path):
    with pytest.raises(SpkdError, match="expected sha256 0000"):
        get(server, tmp_path, digest="sha256:" + "0" * 64)
    assert get(server, tmp_path, digest="sha256:" + hashlib.sha256(BODY).hexdigest()).read_bytes() == BODY


def test_another_size_is_refused_before_the_body_is_read(server, tmp_path):
    server.body = BODY * 2
    with pytest.raises(SpkdError, match=f"expected {len(BODY)} bytes, got an offer of {2 * len(BODY)}"):
        get(server, tmp_path)
    assert "set.tar" not in left(tmp_path)


def test_a_body_cut_short_without_a_length_header_is_not_taken_for_the_file(server, tmp_path):
    server.length_header, server.drop_after = False, [1_000_000]
    assert get(server, tmp_path).read_bytes() == BODY
    server.drop_after = [1_000_000]
    with pytest.raises(SpkdError, match="states the length"):
        get(server, tmp_path / "unknown", size=None)


@pytest.mark.parametrize("refusal", [404, 416])  # 416: a range was not asked for
def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, tmp_path, refusal):
    server.statuses = [500, 429, 408]
    assert get(server, tmp_path).read_bytes() == BODY
    server.statuses = [refusal]
    with pytest.raises(SpkdError, match=f"HTTP {refusal}"):
        get(server, tmp_path / "other")
    assert len(server.asked) == 5


def test_pauses_double_up_to_the_longest(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(fetch, "time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(fetch, "LONGEST_PAUSE_S", 6.0)
    with pytest.raises(SpkdError, match="6 failures in a row"):
        download(Remote("http://127.0.0.1:9/a", "a", 5), tmp_path, tries=6)
    assert pauses == [1, 2, 4, 6, 6]


def test_a_server_that_is_not_there_is_an_error_that_says_how_to_go_on(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(SpkdError, match=r"4 failures in a row.*start again later: 0 bytes are kept"):
        get(server, tmp_path)


def test_too_little_disk_space_is_said_before_anything_is_asked(server, tmp_path):
    with pytest.raises(SpkdError, match=r"expected 9\d+\.\d\d GB of free disk space, got .*free some space"):
        download(remote(server), tmp_path, unpacked_bytes=900 * 10**12)
    assert server.asked == []


def test_some_of_the_disk_stays_free(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: SimpleNamespace(free=fetch.SPARE_BYTES + 10))
    fetch.check_space(tmp_path, 10, "a")
    with pytest.raises(SpkdError, match="free some space"):
        fetch.check_space(tmp_path, 11, "a")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y.zip", "/etc/passwd"])
def test_only_http_is_fetched(url):
    with pytest.raises(SpkdError, match="http"):
        Remote(url, "y.zip")


def test_a_redirect_away_from_http_is_not_followed(server, tmp_path):
    server.statuses = [302]
    with pytest.raises(SpkdError, match="an http address"):
        get(server, tmp_path)
    assert "set.tar" not in left(tmp_path)


@pytest.mark.parametrize("file", ["../x.zip", "/x.zip", "a/b.zip", "", ".hidden"])
def test_a_file_name_that_is_a_path_is_refused(file):
    with pytest.raises(SpkdError, match="plain file name"):
        Remote("http://h/x.zip", file)


def test_an_entry_names_its_file_by_its_address_and_a_mirror_may_be_a_folder():
    entry = {"url": "https://h/a/b.zip", "size": 5, "md5": "0" * 32}
    assert Remote.of(entry) == Remote("https://h/a/b.zip", "b.zip", 5, "md5:" + "0" * 32)
    assert Remote.of(entry, "http://m/coco/").url == "http://m/coco/b.zip"
    assert Remote.of({**entry, "file": "c.zip"}, "http://m/coco/").url == "http://m/coco/c.zip"
    assert Remote.of({**entry, "sha256": "1" * 64}).digest == "sha256:" + "1" * 64
    assert Remote.of(entry, "http://m/other.zip") == Remote("http://m/other.zip", "b.zip", 5, "md5:" + "0" * 32)


def test_a_second_process_that_wants_the_same_file_is_told(server, tmp_path):
    with fetch._held(tmp_path / "set.tar.part"), pytest.raises(SpkdError, match="one download at a time"):
        get(server, tmp_path)


def test_a_file_that_another_process_finished_meanwhile_is_not_written_to(server, tmp_path, monkeypatch):
    part = tmp_path / "set.tar.part"
    monkeypatch.setattr(fetch.fcntl, "flock", lambda file, how: part.rename(tmp_path / "set.tar"))
    with pytest.raises(SpkdError, match="another process just finished it; start again"):
        get(server, tmp_path)
    assert server.asked == []


def test_killed_at_any_byte_and_started_again_it_ends_right(server, tmp_path):
    server.pause_s = 0.004
    code = (
        "import sys; from pathlib import Path; from spkd.data.fetch import Remote, download\n"
        "download(Remote(sys.argv[1], 'set.tar', int(sys.argv[2]), sys.argv[3]), Path(sys.argv[4]))"
    )
    argv = [sys.executable, "-c", code, server.url, str(len(BODY)), remote(server).digest, str(tmp_path)]
    part = tmp_path / "set.tar.part"
    reached = [0]
    for _ in range(2):
        process = subprocess.Popen(argv, env=os.environ | {"PYTHONPATH": SRC})
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > reached[-1]):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.append(part.stat().st_size)
        assert not (tmp_path / "set.tar").exists()
    server.pause_s = 0
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.asked[-1] == f"bytes={reached[-1]}-"
    assert left(tmp_path) == ["set.tar"]


def test_a_page_in_place_of_an_archive_without_a_checksum_is_refused_and_the_next_try_heals(server, tmp_path):
    made = Remote(server.url, "set.zip", None, None)
    server.body = b"<html>sign in to the network</html>"
    with pytest.raises(SpkdError, match="expected a zip archive, got 35 bytes that start b'<html>sign in"):
        download(made, tmp_path, pause_s=0.001)
    assert left(tmp_path) == []
    (tmp_path / "set.zip").write_bytes(server.body)  # what an earlier version may have left
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a", "text")
    server.body = content.getvalue()
    assert download(made, tmp_path, pause_s=0.001).read_bytes() == content.getvalue()
    assert left(tmp_path) == ["set.zip"]
