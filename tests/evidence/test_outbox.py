import json
import os
import subprocess

import psutil
import pytest

from spkd.errors import SpkdError
from spkd.evidence import outbox
from spkd.evidence.outbox import Delivery, Outbox


def events(box: Outbox) -> list[str]:
    return [event["kind"] for _, event in box.read()]


def test_events_come_back_in_order_with_growing_offsets(tmp_path):
    box = Outbox(tmp_path)
    for kind in ("open", "metrics", "end"):
        box.append(kind, values={"a": 1.5})
    assert events(box) == ["open", "metrics", "end"]
    offsets = [end for end, _ in box.read()]
    assert offsets == sorted(offsets) and offsets[-1] == box.events_path.stat().st_size
    assert [event["kind"] for _, event in box.read(offsets[0])] == ["metrics", "end"]
    box.close()


@pytest.mark.parametrize("lost_bytes", range(1, 30, 4))
def test_a_line_torn_by_a_crash_is_left_out_and_cut_off_by_the_next_append(tmp_path, lost_bytes):
    box = Outbox(tmp_path)
    box.append("open")
    box.append("metrics", values={"loss": 0.25}, step=3)
    box.close()
    size = box.events_path.stat().st_size
    os.truncate(box.events_path, size - lost_bytes)
    assert events(Outbox(tmp_path)) == ["open"]
    again = Outbox(tmp_path)
    again.append("end")
    again.close()
    assert events(again) == ["open", "end"]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_its_byte(tmp_path):
    box = Outbox(tmp_path)
    box.append("open")
    box.close()
    size = box.events_path.stat().st_size
    with box.events_path.open("a") as file:
        file.write('{"kind": broken}\n{"kind": "end"}\n')
    with pytest.raises(SpkdError, match=f"byte {size}: expected one JSON object"):
        list(box.read())


def test_reading_creates_nothing(tmp_path):
    box = Outbox(tmp_path / "runs" / "a")
    assert not box.exists() and box.pending() == 0 and box.ending() is None and box.delivery == Delivery()
    assert list(tmp_path.iterdir()) == []


def test_an_end_counts_until_the_run_is_opened_again(tmp_path):
    box = Outbox(tmp_path)
    box.append("open")
    assert box.ending() is None
    box.append("end", status="KILLED")
    assert box.ending()["status"] == "KILLED"
    box.append("open")
    assert box.ending() is None
    box.close()


def test_delivery_is_remembered_and_pending_counts_what_is_behind_it(tmp_path):
    box = Outbox(tmp_path)
    for k in range(3):
        box.append("metrics", values={"a": k}, step=k)
    first = next(end for end, _ in box.read())
    box.delivery = Delivery("sqlite:///x.db", "f00", first, ["params a: changed"])
    assert Outbox(tmp_path).delivery == Delivery("sqlite:///x.db", "f00", first, ["params a: changed"])
    assert Outbox(tmp_path).pending() == 2
    box.close()


def test_kept_files_of_one_name_do_not_replace_each_other(tmp_path):
    source = tmp_path / "a.txt"
    box = Outbox(tmp_path / "run")
    source.write_text("first")
    first = box.keep_file(source, "plots/a.txt")
    source.write_text("second")
    second = box.keep_file(source, "plots/a.txt")
    assert [box.path_of(name).read_text() for name in (first, second)] == ["first", "second"]


def test_a_file_that_cannot_be_kept_leaves_no_part_of_it(tmp_path):
    box = Outbox(tmp_path)
    box.keep_bytes(b"whole", "a.bin")
    with pytest.raises(FileNotFoundError):
        box.keep_file(tmp_path / "missing", "b.bin")
    assert [kept.name.partition("-")[2] for kept in (box.root / "files").iterdir()] == ["a.bin"]


def test_this_process_is_alive_and_its_pid_with_another_start_time_is_not():
    me = outbox.this_process()
    assert outbox.is_alive(me)
    for later_s in (-10, 10):
        assert not outbox.is_alive({**me, "started_s": me["started_s"] + later_s, "since_boot": "another"})


def test_a_process_is_alive_though_the_clock_was_set_since_it_began():
    me = outbox.this_process()
    assert outbox.is_alive({**me, "started_s": me["started_s"] - 3600})


def test_a_process_of_another_host_counts_as_alive():
    assert outbox.is_alive({**outbox.this_process(), "host": "elsewhere", "pid": 1})


def test_a_killed_process_is_dead_even_before_it_is_reaped():
    child = subprocess.Popen(["sleep", "60"])
    known = {**outbox.this_process(), "pid": child.pid, "started_s": psutil.Process(child.pid).create_time()}
    assert outbox.is_alive(known)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not outbox.is_alive(known)
    child.wait()


def test_outboxes_are_found_at_any_depth(tmp_path):
    for name in ("b", "a/nested", "c"):
        box = Outbox(tmp_path / name)
        box.append("open")
        box.close()
    (tmp_path / "d").mkdir()
    assert [b.folder.name for b in outbox.find(tmp_path)] == ["nested", "b", "c"]
    assert [b.folder.name for b in outbox.find(tmp_path / "b")] == ["b"]


def test_an_event_is_one_line_of_json_whatever_is_in_it(tmp_path):
    box = Outbox(tmp_path)
    box.append("tags", values={"a": "two\nlines, 한국어, \u2028"})
    box.close()
    lines = box.events_path.read_bytes().split(b"\n")
    assert len(lines) == 2 and json.loads(lines[0])["values"]["a"] == "two\nlines, 한국어, \u2028"


def test_a_full_disk_names_the_outbox_and_leaves_no_half_line_for_the_next_event(tmp_path, monkeypatch):
    box, write = Outbox(tmp_path), os.write
    box.append("open")
    monkeypatch.setattr(outbox.os, "write", lambda handle, line: write(handle, line[:9]))
    with pytest.raises(OSError, match=r"No space left on device.*events.jsonl"):
        box.append("metrics", values={"loss": 1.0})
    monkeypatch.setattr(outbox.os, "write", write)
    box.append("end")
    box.close()
    assert events(box) == ["open", "end"] and box.events_path.read_bytes().count(b"\n") == 2


def test_events_that_a_power_cut_took_after_they_had_arrived_are_delivered_once_more(tmp_path):
    box = Outbox(tmp_path)
    for step in range(3):
        box.append("metrics", step=step)
    box.close()
    text = box.events_path.read_bytes()
    box.delivery = Delivery("uri", "run", len(text), ["a refusal"])
    assert box.pending() == 0
    box.events_path.write_bytes(text[: len(text) // 2])  # the disk had delivery.json, and not all of the events
    assert box.pending() == 1 and box.delivery.sent == 0
    again = Outbox(tmp_path)
    for step in range(1, 9):  # beyond the place that delivery.json names
        again.append("metrics", step=step)
    assert again.events_path.stat().st_size > len(text)
    assert again.delivery == Delivery("uri", "run", 0, ["a refusal"])
    assert [event["step"] for _, event in again.read(again.delivery.sent)] == [0, *range(1, 9)]


def test_a_run_pauses_from_its_last_event_to_its_continuation_and_another_run_starts_without(tmp_path):
    box = Outbox(tmp_path)
    for kind, run_id, time_ms in [
        ("open", "a", 1000), ("tags", "", 3000), ("open", "a", 10_000), ("end", "", 11_000), ("open", "b", 90_000),
        ("tags", "", 91_000), ("open", "b", 90_500), ("tags", "", 92_000), ("open", "b", 93_500),
    ]:  # fmt: skip
        box.append(kind, run_id=run_id, time_ms=time_ms)
        expected = {10_000: 7.0, 11_000: 7.0, 93_500: 1.5}
        assert box.paused_s() == expected.get(time_ms, 0)
    box.close()
