"""What is remembered is what the live teacher would have said, whatever form and place it is kept in."""

import errno
import socket
from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from spkd.errors import SpkdError
from spkd.losses import sp
from spkd.training import filling, loop, remembered
from spkd.training.remembered import RememberedTeacher, remember
from spkd.training.taps import taps
from spkd.training.teachers import LiveTeacher

FREE = 2**30


@pytest.fixture
def remembers(tmp_path):
    """remembers(teacher, rows, memory_bytes, wrap, key, ...) -> (teacher, how), 10 windows a forward pass."""

    def make(teacher, rows, memory_bytes=FREE, wrap=sp.Products, key="", file_from_s=0.0):
        return remember(teacher, rows, 10, memory_bytes, tmp_path / "answers", wrap, key, file_from_s)

    return make


def shapes(teacher):
    return {name: tuple(kept.shape) for name, kept in teacher.answers.items()}


def assert_alike(live, teacher, rows):
    """What is remembered of these rows is what the live teacher says: features, or the products made of them."""
    a, b = live(rows), teacher(rows)
    torch.testing.assert_close(a.logits, b.logits, rtol=0, atol=1e-5)
    assert a.features.keys() == b.features.keys()
    for tap, feature in a.features.items():
        if isinstance(b.features[tap], sp.Products):
            torch.testing.assert_close(sp.similarity(feature), b.features[tap].gram, rtol=1e-5, atol=1e-3)
        else:
            torch.testing.assert_close(feature, b.features[tap], rtol=0, atol=1e-5)


def test_the_smaller_of_features_and_products_is_kept_of_every_tap(make_task, remembers):
    task = make_task(teachers=1)
    n = len(task.train)
    assert n == 48
    teacher, _ = remembers(task.teachers[0], task.train)
    wide = {tap: f.numel() for tap, f in task.teachers[0](task.train[:1]).features.items()}
    assert wide == {"group1": 1024, "group2": 1024, "group3": 1024}
    assert shapes(teacher) == {"logits": (n, 3), "products": (n, n, 4)}
    teacher, _ = remembers(task.teachers[0], task.train, wrap=None)
    assert shapes(teacher)["group2"] == (n, 1, 16, 64)


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5])
def test_products_of_any_number_of_taps_are_found_by_pair(make_task, remembers, taps):
    live = make_task(teachers=1).teachers[0]
    live.tap_names = ["group1", "group2", "group3", "stem", "group1.0"][:taps]
    rows = make_task().train
    teacher, _ = remembers(live, rows)
    assert shapes(teacher)["products"] == (48, 48, {1: 1, 2: 2, 3: 4, 4: 4, 5: 8}[taps])
    assert_alike(live, teacher, rows[[7, 0, 31]])


def test_a_tap_of_fewer_numbers_than_windows_stays_as_features_among_taps_kept_as_products(make_task, remembers):
    task = make_task(teachers=1)
    live = task.teachers[0]
    live.tap_names = ["group1", "head", "group3"]
    teacher, _ = remembers(live, task.train)
    assert shapes(teacher) == {"logits": (48, 3), "head": (48, 3), "products": (48, 48, 2)}
    assert list(teacher.products) == ["group1", "group3"]
    assert_alike(live, teacher, task.train[[7, 0, 31]])


@pytest.mark.parametrize("wrap", [None, sp.Products])
@pytest.mark.parametrize("memory_bytes", [FREE, 10_000, 0])
def test_remembered_answers_are_the_live_ones(make_task, remembers, wrap, memory_bytes):
    task = make_task(teachers=1)
    live = task.teachers[0]
    teacher, how = remembers(live, task.train, memory_bytes, wrap)
    assert isinstance(teacher, RememberedTeacher)
    assert ("memory" if memory_bytes == FREE else "on disk") in how
    assert_alike(live, teacher, task.train[[5, 0, 17, 44]])


@pytest.mark.parametrize("wrap", [None, sp.Products])
@pytest.mark.parametrize("memory_bytes", [FREE, 130_000])
@pytest.mark.parametrize("block", [4, 10, 20, 512])  # of windows, of which a forward pass takes 10
def test_rows_in_any_order_are_found_whatever_blocks_they_were_worked_out_in(
    make_task, remembers, monkeypatch, block, memory_bytes, wrap
):
    monkeypatch.setattr(filling, "BLOCK", block)
    task = make_task(teachers=1)
    rows = torch.cat([task.test, task.train]).flip(0)[:-5]
    assert len(rows) == 67
    teacher, _ = remembers(task.teachers[0], rows, memory_bytes, wrap)
    assert_alike(task.teachers[0], teacher, rows[[5, 0, 66, 17, 44, 31, 60]])


@pytest.mark.parametrize("memory_bytes", [FREE, 10_000])
def test_loss_and_gradient_from_products_are_those_of_live_teachers(make_task, remembers, memory_bytes):
    task = make_task(teachers=2)
    kept = [remembers(t, task.train, memory_bytes)[0] for t in task.teachers]
    found = {}
    for name, teachers in (("live", task.teachers), ("kept", kept)):
        rows = task.train[3:19]
        with taps(task.network, task.tap_names) as features:
            logits = task.network(task.windows.batch(rows))
        known = [(k.name, k.logits, k.features) for k in (t(rows) for t in teachers)]
        total, parts = task.objective(logits, features, known, task.windows.label[rows])
        gradients = torch.autograd.grad(total, list(task.network.parameters()))
        found[name] = total.detach(), parts["sp"], torch.cat([g.flatten() for g in gradients])
    for live, other in zip(found["live"], found["kept"], strict=True):
        torch.testing.assert_close(live, other, rtol=1e-5, atol=1e-5)


def test_training_with_remembered_teachers_gives_the_losses_of_live_ones(make_task, settings, remembers, tmp_path):
    live, other = make_task(teachers=2), make_task(teachers=2)
    kept = replace(other, teachers=[remembers(t, other.train)[0] for t in other.teachers])
    first, second = (
        loop.fit(task, settings, 0, tmp_path / name, "key", lambda state: None).history[0]
        for name, task in (("live", live), ("kept", kept))
    )
    assert first.losses == pytest.approx(second.losses, abs=1e-4)


@pytest.mark.parametrize(("fitting", "held", "lots"), [(50, 50, 1), (29, 20, 3), (0, 10, 5)])
@pytest.mark.parametrize("from_file", [True, False])
def test_windows_that_do_not_fit_change_no_bit(make_task, remembers, monkeypatch, fitting, held, lots, from_file):
    monkeypatch.setattr(filling, "BLOCK", 10)
    task = make_task(teachers=1)
    whole, once = remembers(task.teachers[0], task.train)
    assert once == "once (one pass): 0.0 MiB in memory"
    answers, of_one = 4 * (48 * 3 + 48 * 48 * 4), 4 * 3 * 1024  # bytes of the answers, and of a window's features
    monkeypatch.setattr(remembered, "OF_FREE_MEMORY", {"cpu": (1.0, 1.0)})
    monkeypatch.setattr(remembered.memory, "free_bytes", lambda device: answers + fitting * of_one)
    if not from_file:
        monkeypatch.setattr(remembered, "_scratch", lambda *words: None)
    passes = []
    task.teachers[0].network.register_forward_hook(lambda *call: passes.append(len(call[2])))
    parts, how = remembers(task.teachers[0], task.train)
    fit = f"features of {held} windows fit in memory): 0.0 MiB in memory"
    told = f"one pass, {lots} lots from a file, as {fit}" if from_file else f"{(lots + 1) / 2:.1f} passes, as {fit}"
    assert how == (once if lots == 1 else f"once ({told}")
    assert sum(passes) == (48 if from_file else sum(range(48, 0, -held)))
    for name, kept in whole.answers.items():
        assert torch.equal(kept, parts.answers[name])


@pytest.mark.parametrize("lot", [1, 2, 5])  # blocks whose features memory holds, of five
@pytest.mark.parametrize("from_file", [True, False])
def test_the_work_that_is_announced_is_done_with_no_more_blocks_held_than_fit(
    make_task, remembers, monkeypatch, lot, from_file
):
    announced, done = {}, []

    class Work:
        def __init__(self, title, totals):
            announced.update(totals)

        def __enter__(self):
            return self

        def __exit__(self, *words):
            pass

        def did(self, kind, n=1):
            done.append((kind, n))

    monkeypatch.setattr(filling, "BLOCK", 10)
    monkeypatch.setattr(filling, "Work", Work)
    if not from_file:
        monkeypatch.setattr(remembered, "_scratch", lambda *words: None)
    task = make_task(teachers=1)
    remembers(task.teachers[0], task.train, lot * 10 * 4 * 3 * 1024)
    assert {kind: sum(n for of, n in done if of == kind) for kind in announced} == announced
    assert max(n for kind, n in done if kind == "multiplied") == lot
    done.clear()
    remembers(task.teachers[0], task.train, wrap=None)  # nothing to multiply
    assert announced == {"asked": 5, "read": 0, "multiplied": 0}
    assert sum(n for kind, n in done if kind == "asked") == 5


def test_features_beside_answers_on_the_disk_take_a_share_of_what_is_free(make_task, remembers, monkeypatch):
    monkeypatch.setattr(filling, "BLOCK", 10)
    monkeypatch.setattr(remembered, "OF_FREE_MEMORY", {"cpu": (0.0, 0.5)})
    monkeypatch.setattr(remembered.memory, "free_bytes", lambda device: 2 * 30 * 4 * 3 * 1024)  # twice 30 windows
    task = make_task(teachers=1)
    _, how = remembers(task.teachers[0], task.train)
    assert how == "once (one pass, 2 lots from a file, as features of 30 windows fit in memory): 0.0 MiB on disk"


def test_answers_take_a_share_of_what_is_free_and_what_is_more_goes_to_a_file(make_task, remembers, monkeypatch):
    task = make_task(teachers=1)
    for free, where in ((100_000, "in memory"), (90_000, "on disk")):  # answers of 37 kB, a share of 0.4
        monkeypatch.setattr(remembered.memory, "free_bytes", lambda device, free=free: free)
        assert remembers(task.teachers[0], task.train)[1].endswith(where)


@pytest.mark.parametrize(("fits", "device"), [(True, "meta"), (False, "cpu")])
def test_answers_in_a_file_are_read_onto_a_gpu_that_they_fit(make_task, remembers, tmp_path, fits, device):
    teacher, _ = remembers(make_task(teachers=1).teachers[0], make_task().train, key="k")
    plan = remembered.Layout({name: tuple(kept.shape) for name, kept in teacher.answers.items()}, teacher.products)
    found = remembered._of_file(tmp_path / "answers" / "t0-k", plan, torch.device("meta"), fits)
    assert {kept.device.type for kept in found.values()} == {device}


@pytest.mark.parametrize(("places", "resident"), [(("meta", "meta"), True), (("meta", "cpu"), False)])
def test_answers_are_resident_where_all_of_them_lie_where_the_rows_do(places, resident):
    live, rows = SimpleNamespace(name="t", windows=range(5)), torch.empty(3, dtype=torch.int64, device="meta")
    answers = {name: torch.empty(3, 2, device=device) for name, device in zip(("logits", "a"), places, strict=True)}
    assert RememberedTeacher(live, rows, answers, {}, None).resident == resident


def test_a_live_teacher_is_resident_where_the_windows_lie_on_the_device(make_task):
    live = make_task(teachers=1).teachers[0]
    for signal, resident in ((live.windows.signal, True), (None, False)):
        windows = SimpleNamespace(signal=signal)
        assert LiveTeacher("t", live.network, live.render, windows, []).resident == resident


def test_a_live_teacher_is_frozen_and_its_answers_have_no_graph_whoever_thaws_it(make_task):
    live = make_task(teachers=1).teachers[0]
    assert not any(parameter.requires_grad for parameter in live.network.parameters())
    live.network.requires_grad_(True)
    known = live(torch.arange(2))
    assert not any(answer.requires_grad for answer in (known.logits, *known.features.values()))


def test_features_lie_in_a_file_where_the_disk_has_room_and_a_gpu_makes_them_again(tmp_path, monkeypatch):
    plan = remembered.Layout({"products": (10, 10, 1)}, {"a": 100})  # 400 and 4000 bytes
    usage = namedtuple("usage", "free")
    folder = tmp_path / "not" / "there"
    for device, free, where in (("cpu", 5501, folder), ("cpu", 5499, None), ("meta", 5501, None)):
        monkeypatch.setattr(remembered.memory.shutil, "disk_usage", lambda path, free=free: usage(free))
        assert remembered._scratch(folder, plan, torch.empty(10, device=device)) == where
    assert not folder.exists()


def test_a_full_disk_is_said_with_its_folder_before_features_are_written_to_it(tmp_path, monkeypatch):
    def full(handle, start, n_bytes):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filling.atomic.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as raised, filling._file(tmp_path, {"group1": 5}, 10):
        pytest.fail("a write to the file would have ended the process")
    assert raised.value.filename == str(tmp_path)


def test_kept_answers_are_found_again_without_running_the_teacher(make_task, remembers):
    task = make_task(teachers=1)
    first, how = remembers(task.teachers[0], task.train, key="abc")
    assert "once" in how
    passes = []
    task.teachers[0].network.register_forward_hook(lambda *call: passes.append(len(call[2])))
    again, how = remembers(task.teachers[0], task.train, key="abc")
    assert "found" in how
    assert passes == [1]
    assert all(torch.equal(first.answers[name], again.answers[name]) for name in first.answers)
    remembers(task.teachers[0], task.train, key="other")
    assert sum(passes) == 1 + len(task.train)


def test_one_flipped_bit_in_kept_answers_is_an_error_and_answers_without_their_hash_are_worked_out_anew(
    make_task, remembers, tmp_path
):
    task = make_task(teachers=1)
    remembers(task.teachers[0], task.train, key="abc")
    file = tmp_path / "answers" / f"{task.teachers[0].name}-abc" / "products.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(SpkdError, match=r"-abc: expected the answers that were written there, got bytes .*; rm -r "):
        remembers(task.teachers[0], task.train, key="abc")
    (file.parent / remembered.HASH).unlink()  # as a kill leaves it
    assert "once" in remembers(task.teachers[0], task.train, key="abc")[1]
    assert file.read_bytes() == whole


@pytest.mark.parametrize(("batch_s", "disk", "where"), [
    (12.6, 2**40, "on disk"),  # 48 windows, 10 a pass: 60.5 s
    (12.4, 2**40, "in memory"), (12.6, 1000, "in memory"),
])  # fmt: skip
def test_answers_that_took_long_lie_in_a_file_for_a_run_that_goes_on(
    make_task, remembers, monkeypatch, batch_s, disk, where
):
    clock, usage = iter([100.0, 100.0 + batch_s]), namedtuple("usage", "free")
    monkeypatch.setattr(remembered, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(remembered.memory.shutil, "disk_usage", lambda path: usage(disk))
    task = make_task(teachers=1)
    _, how = remembers(task.teachers[0], task.train, key="abc", file_from_s=remembered.LONG_S)
    assert how.endswith(where)


def test_what_a_killed_process_left_is_gone_before_the_disk_is_looked_at(make_task, remembers, monkeypatch, tmp_path):
    gone = tmp_path / "answers" / f".t0-abc.{socket.gethostname()}.999999999.new"
    gone.mkdir(parents=True)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(remembered.memory.shutil, "disk_usage", lambda path: usage(1000 if gone.exists() else 2**40))
    task = make_task(teachers=1)
    assert remembers(task.teachers[0], task.train, 1000, key="abc")[1].endswith("on disk")


@pytest.mark.parametrize(("device", "numbers", "batch", "expected"), [
    ("cpu", 4000, 512, 262), ("cpu", 4000, 100, 100), ("cpu", 2**21, 512, 1), ("cuda", 4000, 512, 4194),
    ("cuda", 163_840, 512, 512),
])  # fmt: skip
def test_a_pass_takes_few_windows_on_a_cpu_and_many_on_a_gpu(device, numbers, batch, expected):
    windows = SimpleNamespace(batch=lambda rows: None)
    teacher = SimpleNamespace(windows=windows, render=lambda x, rows: torch.empty(1, numbers, device="meta"))
    row = SimpleNamespace(device=SimpleNamespace(type=device))
    assert filling.fastest_batch(teacher, row, batch) == expected


def test_kept_answers_of_other_shapes_are_refused(make_task, remembers):
    task = make_task(teachers=1)
    remembers(task.teachers[0], task.train, key="abc")
    with pytest.raises(SpkdError, match="rm -r"):
        remembers(task.teachers[0], task.train[:40], key="abc")


def test_a_teacher_whose_answers_fit_nowhere_is_asked_every_step(make_task, remembers, monkeypatch):
    task = make_task(teachers=1)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(remembered.memory.shutil, "disk_usage", lambda path: usage(1000))
    teacher, how = remembers(task.teachers[0], task.train, 1000)
    assert teacher is task.teachers[0]
    assert "every step" in how


def test_remembered_answers_refuse_noise(make_task, remembers):
    task = make_task(teachers=1)
    teacher, _ = remembers(task.teachers[0], task.train)
    with pytest.raises(ValueError, match="without noise"):
        teacher(task.train[:2], torch.zeros(2, 2, 32))


@pytest.mark.parametrize("wrap", [None, sp.Products])
@pytest.mark.parametrize("memory_bytes", [FREE, 0])
def test_a_row_that_was_not_remembered_gets_no_other_rows_answer(make_task, remembers, wrap, memory_bytes):
    task = make_task(teachers=1)
    teacher, _ = remembers(task.teachers[0], task.train, memory_bytes, wrap)
    for place in (0, 1, 3):
        rows = torch.cat([task.train[:place], task.test[:1], task.train[place:3]])
        with pytest.raises(IndexError):
            teacher(rows)
