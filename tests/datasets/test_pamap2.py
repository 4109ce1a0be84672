import csv
import hashlib
import io
import math
import shutil
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spkd import config
from spkd.data import windowing
from spkd.data.archive import damage_named
from spkd.data.recordings import Recording, Recordings, Report
from spkd.datasets import _pamap2_dat, pamap2
from spkd.datasets._pamap2_dat import DatFile
from spkd.errors import SpkdError

SPLIT = {"rule": "leave_one_subject_out", "validation_subjects": 1}


def settings(**windows):
    values = {"source": "raw", "rule": "sound", "keep_every": 1, "length": 10, "step": 5, "max_gap_s": 0.05, **windows}
    return config.check(pamap2.Settings, {"windows": values, "split": SPLIT, "scaling": "training"}, "datasets.pamap2")


def table(activity, seed=0, time_s=None):
    """(rows, 54) of plausible readings, column 4 (hand acc16 x) counting the rows."""
    n = len(activity)
    rows = np.random.default_rng(seed).normal(size=(n, 54)).round(3)
    rows[:, 0] = 8.38 + np.arange(n) / 100 if time_s is None else time_s
    rows[:, 1] = activity
    rows[:, 2] = 90
    rows[:, 4] = np.arange(n)
    return rows


def text(rows):
    out = io.StringIO()
    np.savetxt(out, rows, fmt=["%.2f", "%d", *["%.6g"] * 52])
    return out.getvalue().replace("nan", "NaN").encode()


def dat(rows, subject="101"):
    return DatFile(subject, f"subject{subject}.dat", rows if isinstance(rows, bytes) else text(rows))


def nested(path: Path, members: dict[str, bytes], outer=zipfile.ZIP_STORED) -> Path:
    """The archive as UCI nests it; an extra field, which some writers add, lies between its header and its bytes."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"PAMAP2_Dataset/{name}", content)
    path.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path / _pamap2_dat.OUTER, "w", outer) as archive:
        archive.writestr("readme.pdf", b"not read")
        member = zipfile.ZipInfo(_pamap2_dat.INNER)
        member.compress_type, member.extra = outer, struct.pack("<2H4s", 0xCAFE, 4, b"more")
        archive.writestr(member, inner.getvalue())
    return path


def walk(seed=0):
    return text(table([4] * 30, seed))


# --- where files come from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outer", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_protocol_files_are_read_from_the_nested_zip_in_order_of_subject(tmp_path, outer):
    members = {
        "Protocol/subject102.dat": walk(2),
        "Optional/subject101.dat": walk(3),
        "Protocol/subject101.dat": walk(1),
    }
    found = pamap2.read(nested(tmp_path / "pamap2", members, outer), settings())
    assert [item.subject for item in found.items] == ["101", "102"]
    assert "PAMAP2_Dataset.zip:PAMAP2_Dataset/Protocol/subject101.dat" in found.items[0].name
    np.testing.assert_array_equal(found.items[0].signal[:, 2], np.arange(30))


def test_a_folder_of_dat_files_gives_the_same_as_the_zip(tmp_path):
    folder = tmp_path / "loose" / "PAMAP2_Dataset"
    for part in ("Protocol", "Optional"):
        (folder / part).mkdir(parents=True)
        (folder / part / "subject101.dat").write_bytes(walk(len(part)))
    loose = pamap2.read(tmp_path / "loose", settings())
    zipped = pamap2.read(nested(tmp_path / "zip", {"Protocol/subject101.dat": walk(8)}), settings())
    np.testing.assert_array_equal(loose.items[0].signal, zipped.items[0].signal)
    assert len(loose.items) == 1


def test_the_marker_file_makes_the_origin_simulated(tmp_path):
    nested(tmp_path, {"Protocol/subject101.dat": walk()})
    assert pamap2.read(tmp_path, settings()).origin == "UCI 231"
    (tmp_path / "SIMULATED").touch()
    assert pamap2.read(tmp_path, settings()).origin == "simulated"


def test_an_empty_folder_and_a_folder_with_both_kinds_are_refused(tmp_path):
    with pytest.raises(SpkdError, match="got neither; put pamap2"):
        pamap2.read(tmp_path, settings())
    nested(tmp_path, {"Protocol/subject101.dat": walk()})
    (tmp_path / "subject101.dat").write_bytes(walk())
    with pytest.raises(SpkdError, match="remove one of them"):
        pamap2.read(tmp_path, settings())


@pytest.mark.parametrize("name", ["Subject102.dat", "subject102.DAT", "subject102 (1).dat"])
def test_a_dat_file_of_another_name_is_refused_rather_than_left_out(tmp_path, name):
    for file in ("subject101.dat", name):
        (tmp_path / file).write_bytes(walk(len(file)))
    with pytest.raises(SpkdError, match=r"expected a name as subject101\.dat"):
        pamap2.read(tmp_path, settings())


def test_a_truncated_zip_is_refused(tmp_path):
    path = nested(tmp_path, {"Protocol/subject101.dat": walk()}) / _pamap2_dat.OUTER
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(SpkdError, match=r"monitoring\.zip: expected a whole zip archive.*fetch it again"):
        pamap2.read(tmp_path, settings())


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_a_flipped_byte_anywhere_in_a_member_is_refused(tmp_path, place):
    path = nested(tmp_path, {"Protocol/subject101.dat": walk()}) / _pamap2_dat.OUTER
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(SpkdError, match="whole zip archive"):
        pamap2.read(tmp_path, settings())


def test_an_encrypted_archive_within_the_archive_is_refused_as_such(tmp_path):
    path = nested(tmp_path, {"Protocol/subject101.dat": walk()}) / _pamap2_dat.OUTER
    raw, name = bytearray(path.read_bytes()), _pamap2_dat.INNER.encode()
    raw[raw.index(name) - 30 + 6] |= 1  # the flags in the header before its bytes, and in the index
    raw[raw.rindex(name) - 46 + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(SpkdError, match="a whole zip archive, got .*encrypted"):
        pamap2.read(tmp_path, settings())


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path, monkeypatch):
    nested(tmp_path, {"Protocol/subject101.dat": walk()})
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=len(walk()) - 1))
    with pytest.raises(SpkdError, match=r"subject101\.dat: expected at most \d+ bytes, the free memory"):
        pamap2.read(tmp_path, settings())


def packed(path, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("subject101.dat", walk())
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
def test_a_member_is_inflated_to_what_zipfile_reads(tmp_path, compression):
    with zipfile.ZipFile(packed(tmp_path / "a.zip", compression)) as archive:
        assert _pamap2_dat.inflated(archive, "subject101.dat") == archive.read("subject101.dat") == walk()


@pytest.mark.parametrize(("named", "change"), [("CRC", 1), ("file_size", -1), ("file_size", 1), ("compress_size", -9)])
def test_a_member_that_differs_from_its_index_is_damage(tmp_path, named, change):
    with zipfile.ZipFile(packed(tmp_path / "a.zip")) as archive:
        entry = archive.getinfo("subject101.dat")
        setattr(entry, named, getattr(entry, named) + change)
        with pytest.raises(SpkdError), damage_named("a.zip"):
            _pamap2_dat.inflated(archive, "subject101.dat")


def test_a_part_of_a_file_reads_and_seeks_as_the_part_alone(tmp_path):
    (tmp_path / "whole").write_bytes(bytes(range(100)))
    with (tmp_path / "whole").open("rb") as file, io.BufferedReader(_pamap2_dat.Part(file, 10, 50)) as part:
        assert part.read() == bytes(range(10, 60))
        assert (part.seek(-5, io.SEEK_END), part.read(9)) == (45, bytes(range(55, 60)))
        assert (part.seek(3), part.read(2), part.tell()) == (3, bytes([13, 14]), 5)


def drop_outs_filled_one_by_one(series, time_s, stretch, longest):
    """The obvious way: every run of NaN by itself."""
    filled, n = series.copy(), len(series)
    for i in np.flatnonzero(np.isnan(series)):
        left, right = i, i
        while left >= 0 and np.isnan(series[left]):
            left -= 1
        while right < n and np.isnan(series[right]):
            right += 1
        if left >= 0 and right < n and right - left - 1 <= longest and stretch[left] == stretch[right]:
            share = (time_s[i] - time_s[left]) / (time_s[right] - time_s[left])
            filled[i] = series[left] + share * (series[right] - series[left])
    return filled


@pytest.mark.parametrize("seed", range(20))
def test_drop_outs_are_filled_as_run_by_run(seed):
    rng = np.random.default_rng(seed)
    series = rng.normal(size=60).astype(np.float32)
    series[rng.random(60) < 0.5] = np.nan
    time_s, stretch = np.cumsum(rng.random(60)), np.cumsum(rng.random(60) < 0.1 * (seed % 2))
    missing = np.flatnonzero(np.isnan(series))
    short, values = pamap2.between(series, missing, time_s, stretch, 3)
    found = series.copy()
    found[missing[short]] = values
    np.testing.assert_array_equal(found, drop_outs_filled_one_by_one(series, time_s, stretch, 3))


def test_a_zip_without_protocol_files_is_refused(tmp_path):
    nested(tmp_path, {"Optional/subject101.dat": walk()})
    with pytest.raises(SpkdError, match=r"Protocol/subject101\.dat"):
        pamap2.read(tmp_path, settings())


def test_a_subject_in_two_files_is_refused(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "subject101.dat").write_bytes(walk())
    with pytest.raises(SpkdError, match="one file of subject 101"):
        pamap2.read(tmp_path, settings())


def test_a_file_copied_under_another_subject_is_refused(tmp_path):
    nested(tmp_path, {f"Protocol/subject{s}.dat": walk() for s in (101, 102)})
    with pytest.raises(SpkdError, match=r"subject102\.dat: expected rows of its own.*subject101"):
        pamap2.read(tmp_path, settings())


def test_a_subject_without_one_of_the_12_activities_is_counted(tmp_path):
    other = text(table([0] * 10 + [9] * 10))
    nested(tmp_path, {"Protocol/subject101.dat": other, "Protocol/subject102.dat": walk()})
    found = pamap2.read(tmp_path, settings())
    assert [item.subject for item in found.items] == ["102"]
    assert found.report.drops == {
        "row of activity 0 (transient)": 10,
        "row of activity 9 (watching TV)": 10,
        "subject without a labelled row": 1,
    }


# --- rows ------------------------------------------------------------------------------------------------------------


def damaged(row, change):
    lines = walk().split(b"\n")
    lines[row - 1] = change(lines[row - 1].split(b" "))
    return b"\n".join(lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: b" ".join(f[:-1]), "row 7: expected 54 numbers, got 53"),
        (lambda f: b" ".join([*f, b"1"]), "row 7: expected 54 numbers, got 55"),
        (lambda f: b"", "row 7: expected 54 numbers, got 0"),
        (lambda f: b" ".join([*f[:9], b"1_8.3", *f[10:]]), "row 7: expected a number or NaN, got '1_8.3' in column 10"),
        (lambda f: b" ".join([*f[:9], b'"8"', *f[10:]]), "row 7: expected a number or NaN, got '\"8\"' in column 10"),
        (lambda f: b" ".join([*f[:9], b"0.1x", *f[10:]]), "row 7: expected a number or NaN, got '0.1x' in column 10"),
        (lambda f: b" ".join([*f[:52], b"abc", f[53]]), "'abc' in column 53"),
        (lambda f: b" ".join([*f[:9], b"inf", *f[10:]]), "row 7: expected finite readings, got inf"),
        (lambda f: b" ".join([f[0], b"8", *f[2:]]), "row 7: expected an activity id of .*, got 8;"),
        (lambda f: b" ".join([f[0], b"4.5", *f[2:]]), "row 7: expected an activity id of .*, got 4.5;"),
        (lambda f: b" ".join([f[0], b"NaN", *f[2:]]), "row 7: expected an activity id of .*, got nan;"),
        (lambda f: b" ".join([b"8.37", *f[1:]]), "row 7: expected a timestamp not before the last row's, got 8.37;"),
        (lambda f: b" ".join([b"NaN", *f[1:]]), "row 7: expected a timestamp, got nan;"),
    ],
)
def test_a_bad_row_is_named_with_what_is_wrong_and_what_to_do(change, message):
    with pytest.raises(SpkdError, match=message) as caught:
        pamap2.recording(dat(damaged(7, change)), settings().windows, Report())
    assert "fetch" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused(content):
    with pytest.raises(SpkdError, match="an empty file"):
        _pamap2_dat.parse(dat(content))


def test_the_fast_parser_equals_numpys():
    rows = table([4] * 50)
    rows[3, 5:9] = np.nan
    rows[:, 30] *= 1e-7
    head, readings = _pamap2_dat.parse(dat(rows))
    expected = np.loadtxt(io.BytesIO(text(rows)))
    np.testing.assert_array_equal(head, expected[:, :2])
    np.testing.assert_array_equal(readings, expected[:, 2:].astype(np.float32))


@pytest.mark.parametrize("content", [walk(), walk().replace(b" ", b"  ")], ids=["fast", "slow"])
def test_chosen_readings_are_those_columns_of_all_of_them(content):
    _, every = _pamap2_dat.parse(dat(content))
    _, some = _pamap2_dat.parse(dat(content), [51, 0, 7])
    np.testing.assert_array_equal(some, every[:, [51, 0, 7]])


@pytest.mark.parametrize(
    "spacing",
    [(b"\n", b" \n"), (b"\n", b"\r\n"), (b" ", b"  "), (b" ", b"\r", 1)],
    ids=["trailing", "crlf", "two", "one return"],
)
def test_files_spaced_in_another_way_read_the_same(spacing):
    for got, expected in zip(
        _pamap2_dat.parse(dat(walk().replace(*spacing))), _pamap2_dat.parse(dat(walk())), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_a_repeated_timestamp_is_dropped_and_counted():
    rows, report = table([4] * 20), Report()
    rows[10:, 0] -= 0.01
    found = pamap2.recording(dat(rows), settings().windows, report)
    assert found.signal[:, 2].tolist() == [*range(10), *range(11, 20)]
    assert report.drops == {"row with the timestamp of the row before": 1}


def test_channels_are_40_named_columns_without_orientation():
    rows = np.tile(np.arange(54.0), (3, 1))
    rows[:, 0], rows[:, 1] = 8.38 + np.arange(3) / 100, 4
    found = pamap2.recording(dat(rows), settings().windows, Report())
    expected = [2, *range(3, 16), *range(20, 33), *range(37, 50)]
    assert found.signal[0].tolist() == expected
    assert len(pamap2.CHANNELS) == len(set(pamap2.CHANNELS)) == 40
    named = dict(zip(pamap2.CHANNELS, expected, strict=True))
    picked = {name: named[name] for name in ("heart_rate", "hand_acc16_x", "chest_gyro_z", "ankle_mag_z")}
    assert picked == {"heart_rate": 2, "hand_acc16_x": 4, "chest_gyro_z": 29, "ankle_mag_z": 49}


def test_activity_ids_become_the_published_class_indices():
    ids = [24, 1, 2, 3, 4, 5, 6, 7, 12, 13, 16, 17]
    found = pamap2.recording(dat(table(ids)), settings().windows, Report())
    assert found.label.tolist() == list(range(12))
    names = [pamap2.CLASSES[i] for i in (0, 1, 8, 11)]
    assert names == ["rope jumping", "lying", "ascending stairs", "ironing"]


# --- missing values --------------------------------------------------------------------------------------------------


def test_heart_rate_is_carried_forward_and_0_before_the_first():
    for rule in ("sound", "paper"):
        rows = table([4] * 6)
        rows[:, 2] = [np.nan, 80, np.nan, np.nan, 90, np.nan]
        found = pamap2.recording(dat(rows), settings(rule=rule).windows, Report())
        assert found.signal[:, 0].tolist() == [0, 80, 80, 80, 90, 90]


@pytest.mark.parametrize("rule", ["sound", "paper"])
def test_rows_of_an_old_heart_rate_are_counted_where_they_have_a_class(rule):
    rows, report = table([0] * 2 + [4] * 98), Report()
    rows[[0, 1, 2, *range(11, 70)], 2] = np.nan  # one labelled row before the first reading; then 0.01 to 0.59 s old
    pamap2.recording(dat(rows), settings(rule=rule, max_gap_s=0.5).windows, report)
    assert report.notes["rows_whose_heart_rate_was_read_more_than_0.5_s_before_or_never"] == 1 + 9
    fresh = Report()
    pamap2.recording(dat(table([4] * 100)), settings(rule=rule, max_gap_s=0.5).windows, fresh)
    assert not any("heart_rate" in name for name in fresh.notes)


def test_paper_rule_writes_0_for_a_drop_out_and_counts_it():
    rows, report = table([4] * 20), Report()
    rows[5:15, 4] = np.nan
    found = pamap2.recording(dat(rows), settings(rule="paper").windows, report)
    assert found.signal[:, 2].tolist() == [*range(5), *[0] * 10, *range(15, 20)]
    assert report.notes["missing_values_set_to_0"] == 10


def test_sound_rule_interpolates_a_drop_out_of_the_longest_length_and_counts_it():
    rows, report = table([4] * 20), Report()
    rows[5:10, 4] = np.nan
    found = pamap2.recording(dat(rows), settings().windows, report)
    np.testing.assert_allclose(found.signal[:, 2], np.arange(20), atol=1e-5)
    assert report.notes["interpolated_values"] == 5
    assert set(found.segment.tolist()) == {0}


def test_a_longer_drop_out_ends_the_segment_and_its_rows_are_counted():
    rows, report = table([4] * 20), Report()
    rows[5:11, 4] = np.nan
    found = pamap2.recording(dat(rows), settings().windows, report)
    assert found.signal[:, 2].tolist() == [*range(5), *range(11, 20)]
    assert found.segment.tolist() == [0] * 5 + [1] * 9
    assert report.drops == {"row in a drop-out longer than 0.05 s": 6}


def test_a_row_of_a_drop_out_and_of_no_class_is_counted_once():
    rows, report = table([4] * 12 + [0] * 8), Report()
    rows[9:15, 4] = np.nan
    assert len(pamap2.recording(dat(rows), settings().windows, report).label) == 9
    assert report.drops == {"row in a drop-out longer than 0.05 s": 3, "row of activity 0 (transient)": 8}


@pytest.mark.parametrize(("max_gap_s", "n"), [(0.29, 29), (0.57, 57)])  # 100 times as much is a little less than n
def test_a_drop_out_is_as_long_as_its_rows_whatever_a_hundredth_is_to_the_computer(max_gap_s, n):
    rows = table([4] * (n + 10))
    rows[5 : n + 5, 4] = np.nan
    found = pamap2.recording(dat(rows), settings(max_gap_s=max_gap_s).windows, Report())
    assert len(found.label) == n + 10


def test_a_gap_without_end_is_no_setting():
    with pytest.raises(SpkdError, match=r"max_gap_s: expected a finite number"):
        settings(max_gap_s=math.inf)


def test_nothing_is_interpolated_across_a_jump_in_time():
    time_s = 8.38 + np.arange(20) / 100 + np.repeat([0.0, 3.0], 10)
    rows, report = table([4] * 20, time_s=time_s), Report()
    rows[9, 4] = np.nan
    found = pamap2.recording(dat(rows), settings().windows, report)
    assert found.signal[:, 2].tolist() == [*range(9), *range(10, 20)]
    assert found.segment.tolist() == [0] * 9 + [1] * 10
    assert report.notes["time_jumps"] == 1


def test_a_jump_in_time_alone_ends_the_segment():
    time_s = 8.38 + np.arange(6) / 100 + np.repeat([0.0, 0.01], 3)
    found = pamap2.recording(dat(table([4] * 6, time_s=time_s)), settings().windows, Report())
    assert found.segment.tolist() == [0, 0, 0, 1, 1, 1]


def test_an_activity_change_and_a_transient_row_are_segment_ends():
    found = pamap2.recording(dat(table([4, 4, 5, 5, 0, 5, 5])), settings().windows, Report())
    assert found.segment.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_channel_that_never_reads_is_0_and_counted():
    rows, report = table([4] * 20), Report()
    rows[:, 3] = np.nan
    found = pamap2.recording(dat(rows), settings().windows, report)
    assert not found.signal[:, 1].any()
    assert report.drops == {"channel without a single reading, set to 0": 1}
    assert "hand_temperature" in next(iter(report.first_seen.values()))


def test_a_heart_rate_that_never_reads_is_0_and_counted_by_either_rule():
    rows = table([4] * 50)
    rows[:, 2] = np.nan
    for rule in ("sound", "paper"):
        report = Report()
        found = pamap2.recording(dat(rows), settings(rule=rule).windows, report)
        assert (found.signal[:, 0] == 0).all()
        assert report.drops["channel without a single reading, set to 0"] == 1


def test_optional_files_alone_are_no_recordings(tmp_path):
    (tmp_path / "Optional").mkdir()
    (tmp_path / "Optional" / "subject101.dat").write_bytes(walk())
    with pytest.raises(SpkdError, match=r"or subject\*.dat, got neither"):
        next(_pamap2_dat.files(tmp_path))


def test_sound_rule_thins_each_segment_from_its_first_row():
    found = pamap2.recording(dat(table([4] * 5 + [0] * 2 + [5] * 5)), settings(keep_every=3).windows, Report())
    assert found.signal[:, 2].tolist() == [0, 3, 7, 10]


def test_paper_rule_thins_the_subject_after_other_labels_are_deleted():
    found = pamap2.recording(
        dat(table([4] * 5 + [0] * 2 + [5] * 5)), settings(keep_every=3, rule="paper").windows, Report()
    )
    assert found.signal[:, 2].tolist() == [0, 3, 8, 11]
    assert found.label.tolist() == [4, 4, 5, 5]


def test_the_rate_is_that_of_the_rows_that_are_kept(tmp_path):
    (tmp_path / "subject101.dat").write_bytes(walk())
    assert pamap2.read(tmp_path, settings()).rate_hz == 100.0
    assert pamap2.read(tmp_path, settings(keep_every=4)).rate_hz == 25.0


# --- real rows -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fragment(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fragment")
    shutil.copy(shared_data("pamap2", "fragment.dat"), folder / "subject101.dat")
    return folder


def test_real_rows_are_54_columns_and_equal_numpys_reading(fragment):
    file = next(_pamap2_dat.files(fragment))
    head, readings = _pamap2_dat.parse(file)
    expected = np.loadtxt(fragment / "subject101.dat")
    assert expected.shape == (6500, 54)
    np.testing.assert_array_equal(head, expected[:, :2])
    np.testing.assert_allclose(readings, expected[:, 2:], rtol=1e-7)


def test_real_blocks_are_never_joined_and_drop_outs_are_filled(fragment):
    found = pamap2.read(fragment, settings(max_gap_s=0.5, keep_every=3))
    (item,) = found.items
    assert found.report.notes["time_jumps"] == 12
    assert found.report.notes["interpolated_values"] == 1098
    assert found.report.drops["row of activity 0 (transient)"] == 500
    assert np.bincount(item.segment).tolist() == [167] * 12
    assert np.isfinite(item.signal).all()
    windows = windowing.cut(found, 100, 22, "sound")
    assert len(windows) == 12 * 4
    assert all(len(set(item.segment[s : s + 100])) == 1 for s in windows.starts)


def test_real_drop_outs_longer_than_allowed_are_cut_out_not_bridged(fragment):
    found = pamap2.read(fragment, settings(max_gap_s=0.01))
    assert found.report.drops["row in a drop-out longer than 0.01 s"] > 0
    assert found.items[0].segment.max() > 11


def test_real_acceleration_has_the_size_of_gravity_at_rest(fragment):
    found = pamap2.read(fragment, settings(max_gap_s=0.5))
    rest = found.items[0].signal[found.items[0].label == pamap2.CLASSES.index("lying")]
    first = pamap2.CHANNELS.index("chest_acc16_x")
    norm = np.linalg.norm(rest[:, first : first + 3], axis=1)
    assert 9.3 < np.median(norm) < 10.3


# --- the published folds ---------------------------------------------------------------------------------------------

# Seconds of each activity, subjects 101 to 109: PerformedActivitiesSummary of the data set.
SECONDS = {
    1: (271.86, 234.29, 220.43, 230.46, 236.98, 233.39, 256.1, 241.64, 0),
    2: (234.79, 223.44, 287.6, 254.91, 268.63, 230.4, 122.81, 229.22, 0),
    3: (217.16, 255.75, 205.32, 247.05, 221.31, 243.55, 257.5, 251.59, 0),
    17: (235.72, 288.79, 279.74, 249.94, 330.33, 377.43, 294.98, 329.89, 0),
    16: (229.4, 206.82, 203.24, 200.36, 244.44, 210.77, 215.51, 242.91, 0),
    12: (158.88, 173.4, 103.87, 166.92, 142.79, 132.89, 176.44, 116.81, 0),
    13: (148.97, 152.11, 152.72, 142.83, 127.25, 112.7, 116.16, 96.53, 0),
    4: (222.52, 325.32, 290.35, 319.31, 320.32, 257.2, 337.19, 315.32, 0),
    7: (202.64, 297.38, 0, 275.32, 262.7, 266.85, 287.24, 288.87, 0),
    6: (235.74, 251.07, 0, 226.98, 245.76, 204.85, 226.79, 254.74, 0),
    5: (212.64, 92.37, 0, 0, 246.45, 228.24, 36.91, 165.31, 0),
    24: (129.11, 132.61, 0, 0, 77.32, 2.55, 0, 88.05, 63.9),
}
STARTS = (3782, 3985, 2636, 3501, 4123, 3784, 3522, 3966, 92)
PUBLISHED = (3726, 3925, 2592, 3447, 4065, 3728, 3465, 3909, 92)
STAIRS = (12, 13)


def bouts(fold):
    """(activity, seconds) in the protocol's order, stairs in two bouts each."""
    flat = {a: s[fold] for a, s in SECONDS.items() if s[fold]}
    stairs = [(a, flat[a] / 2) for _ in range(2) for a in STAIRS if a in flat]
    before = [(a, s) for a, s in flat.items() if a in (1, 2, 3, 17, 16)]
    return [*before, *stairs, *((a, s) for a, s in flat.items() if a not in (1, 2, 3, 17, 16, *STAIRS))]


def simulated(fold, label):
    signal = np.arange(len(label), dtype=np.float32)[:, None]
    item = Recording(f"{101 + fold}", "simulated", signal, label.astype(np.int16), np.zeros(len(label), np.int32))
    found = Recordings([item], ["row"], pamap2.CLASSES, 100 / 3, "simulated", "", "", Report())
    return windowing.cut(found, 100, 22, "paper")


def labels(fold):
    """Class of each kept row: the bouts' rows at 100 Hz one behind the other, then every third."""
    rows = [np.full(round(100 * s), pamap2.CLASS_OF_ID[a]) for a, s in bouts(fold)]
    return np.concatenate(rows)[::3]


@pytest.mark.parametrize("fold", range(9))
def test_published_seconds_give_the_known_number_of_starts(fold):
    n = math.ceil(sum(s[fold] for s in SECONDS.values()) * 100 / 3 - 1e-6)
    assert len(simulated(fold, np.zeros(n))) == STARTS[fold]


@pytest.mark.parametrize("fold", range(9))
def test_published_test_windows_lie_within_the_boundary_effect(fold):
    n_boundaries = len(bouts(fold)) - 1
    assert n_boundaries in (0, *range(9, 14))
    few, many = STARTS[fold] - 5 * n_boundaries, STARTS[fold] - 4 * n_boundaries
    assert few <= PUBLISHED[fold] <= many
    assert few <= len(simulated(fold, labels(fold))) <= many


def test_published_total_is_within_one_percent_of_the_simulated_one():
    total = sum(len(simulated(fold, labels(fold))) for fold in range(9))
    assert sum(PUBLISHED) == 28_949
    assert abs(total - 28_949) < 100


def test_subject_101_has_the_published_83319_rows_if_each_bout_counts_both_ends():
    n_bouts = len(bouts(0))
    seconds = sum(s[0] for s in SECONDS.values())
    assert n_bouts == 14
    assert math.ceil((round(100 * seconds) + n_bouts) / 3) == 83_319
    assert math.ceil(round(100 * seconds) / 3) == 83_315


def test_the_sound_rule_starts_every_bout_anew_and_so_finds_fewer_windows_than_starts():
    label = labels(0)
    starts = windowing.sound_starts(label, np.zeros(len(label)), 100, 22)
    assert len(starts) == sum((len(b) - 100) // 22 + 1 for b in np.split(label, np.flatnonzero(np.diff(label)) + 1))


def test_the_seconds_here_are_the_official_summarys(shared_data):
    with shared_data("pamap2", "performed_activities_s.csv").open() as file:
        official = {(int(r["subject"]), int(r["activity_id"])): float(r["seconds"]) for r in csv.DictReader(file)}
    here = {(101 + i, a): s for a, row in SECONDS.items() for i, s in enumerate(row)}
    assert here == {key: official[key] for key in here}


def test_a_file_that_is_not_as_recorded_is_noted_with_its_subject(tmp_path, monkeypatch):
    (tmp_path / "subject101.dat").write_bytes(walk())
    assert pamap2.read(tmp_path, settings()).report.notes["checksum_not_as_recorded"] == ["101"]
    monkeypatch.setitem(_pamap2_dat.RECORDED, "101", hashlib.sha256(walk()).hexdigest())
    assert "checksum_not_as_recorded" not in pamap2.read(tmp_path, settings()).report.notes
