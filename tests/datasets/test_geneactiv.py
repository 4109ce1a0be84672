import contextlib
import re
import struct
import tracemalloc
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from spkd.data.recordings import Recordings, Report
from spkd.datasets import _geneactiv_bin, _geneactiv_csv, _wrist_device, geneactiv
from spkd.errors import SpkdError

SharedData = Callable[..., Path]
START = "2024-05-06 10:00:00:000"


def settings(
    classes: list[int], length: int = 4, other_rates: str = "error", step: int | None = None
) -> geneactiv.Settings:
    return geneactiv.Settings.model_validate(
        {
            "windows": {
                "source": "raw",
                "classes": classes,
                "length": length,
                "step": step or length,
                "other_rates": other_rates,
            },
            "split": {
                "rule": "subject_fractions",
                "train_fraction": 0.7,
                "test_fraction": 0.25,
                "validation_subjects": 1,
            },
            "scaling": "training",
        }
    )


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Subjects 9 and 102 with classes 1 and 13, two windows of 4 samples each."""
    folder = tmp_path / "geneactiv"
    folder.mkdir()
    for subject in (9, 102):
        for number in (1, 13):
            for window in (1, 2):
                write(folder, subject, number, window)
    return folder


def write(folder: Path, subject: int, number: int, window: int, **other: object) -> Path:
    path = folder / f"ID-{subject}_CLASS-{number}_Window-{window:04}.mat"
    value = 1000.0 * subject + 10 * number + window
    savemat(path, other or {"xw": value + np.arange(12.0).reshape(4, 3) / 16})
    return path


def read(folder: Path, classes: list[int] | None = None, **kwargs: object) -> Recordings:
    return geneactiv.read(folder, settings(classes or [1, 13], **kwargs))  # type: ignore[arg-type]


# .mat windows ---------------------------------------------------------------------------------------------------------


def test_subject_and_class_come_from_the_name_and_each_window_is_a_segment(lab: Path) -> None:
    found = read(lab)
    assert [item.subject for item in found.items] == ["9", "102"]
    assert found.classes == ["class 1", "class 13"]
    first = found.items[0]
    assert first.label.tolist() == [0] * 8 + [1] * 8
    assert first.segment.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert first.signal[:, 0].tolist()[::4] == [9011.0, 9012.0, 9131.0, 9132.0]
    assert first.signal[1].tolist() == [9011 + 3 / 16, 9011 + 4 / 16, 9011 + 5 / 16]
    assert not found.report.drops


def test_the_class_list_sets_the_index_and_the_rest_is_counted(lab: Path) -> None:
    write(lab, 9, 2, 1)
    found = read(lab, [13, 1])
    assert found.classes == ["class 13", "class 1"]
    assert found.items[0].label.tolist() == [1] * 8 + [0] * 8  # class 1 stands second in the list
    assert dict(found.report.drops) == {"window of a class that is not in `classes`": 1}


def test_a_listed_class_without_data_is_an_error(lab: Path) -> None:
    with pytest.raises(SpkdError, match="none of class 0, 2"):
        read(lab, [0, 1, 2, 13])


def test_a_class_listed_twice_is_an_error(lab: Path) -> None:
    with pytest.raises(SpkdError, match="each class once"):
        read(lab, [1, 13, 1])


def test_a_window_of_another_length_is_an_error_that_names_the_setting(lab: Path) -> None:
    for length in (3, 8):
        with pytest.raises(SpkdError, match=r"windows\.length to 4"):
            read(lab, length=length)


def test_windows_that_would_overlap_are_an_error_that_names_the_setting(lab: Path) -> None:
    with pytest.raises(SpkdError, match=r"windows\.step: expected at least 4, .* do not overlap, got 2; set it to 4"):
        read(lab, step=2)
    assert len(read(lab, step=6).items) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"x": np.zeros((4, 3))}, ".mat file without the key xw"),
        ({"xw": np.zeros((4, 2))}, ".mat file whose xw is not numbers (samples, 3)"),
        ({"xw": np.zeros((4, 3, 2))}, ".mat file whose xw is not numbers (samples, 3)"),
        ({"xw": "text"}, ".mat file whose xw is not numbers (samples, 3)"),
        ({"xw": np.array([{"a": 1}, 2], dtype=object)}, ".mat file whose xw is not numbers (samples, 3)"),
        ({"xw": np.full((4, 3), 1j)}, ".mat file whose xw is not numbers (samples, 3)"),
        ({"xw": np.full((4, 3), np.nan)}, ".mat file with NaN or infinity"),
        ({"xw": np.full((4, 3), np.inf)}, ".mat file with NaN or infinity"),
        ({"xw": np.full((4, 3), 1e300)}, ".mat file with NaN or infinity"),
    ],
)
def test_a_bad_window_is_dropped_and_counted(lab: Path, content: dict[str, object], reason: str) -> None:
    path = write(lab, 9, 1, 3, **content)
    report = read(lab).report
    assert dict(report.drops) == {reason: 1}
    assert report.first_seen == {reason: str(path)}


@pytest.mark.parametrize("name", ["ID-9_CLASS-1_Window-.mat", "ID9_CLASS-1_Window-0001.mat", "id-9.mat"])
def test_another_name_is_dropped_and_counted(lab: Path, name: str) -> None:
    savemat(lab / name, {"xw": np.ones((4, 3))})
    assert dict(read(lab).report.drops) == {".mat file not named ID-<subject>_CLASS-<class>_Window-<number>.mat": 1}


def test_a_damaged_mat_file_is_dropped_and_counted_at_any_byte(lab: Path) -> None:
    path = write(lab, 9, 1, 3)
    savemat(path, {"xw": np.arange(12.0).reshape(4, 3)}, do_compression=True)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in (0, 1, 127, 128, 140, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert sum(read(lab).report.drops.values()) == 1, cut
    for _ in range(40):
        bad = bytearray(whole)
        bad[rng.integers(124, len(bad))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(bad))
        assert sum(len(item.label) for item in read(lab).items) in (32, 36)


def test_an_unknown_number_type_in_a_mat_file_is_damage_and_not_the_end_of_the_process(lab: Path) -> None:
    path = write(lab, 9, 1, 3)
    whole = path.read_bytes()
    place = whole.index(b"xw") + len(b"xw\0\0")
    assert whole[place] == 9  # 64 bits
    path.write_bytes(whole[:place] + b"\x08" + whole[place + 1 :])
    assert dict(read(lab).report.drops) == {".mat file that cannot be read": 1}
    inside = zlib.compress(path.read_bytes()[128:])
    path.write_bytes(whole[:128] + struct.pack("<2I", 15, len(inside)) + inside)
    assert dict(read(lab).report.drops) == {".mat file that cannot be read": 1}


def test_names_in_capitals_are_read_as_well(lab: Path) -> None:
    expected = [(i.subject, i.label.tolist(), i.signal.tolist()) for i in read(lab).items]
    for path in lab.iterdir():
        path.rename(path.with_name(path.name.replace(".mat", ".MAT")))
    assert [(i.subject, i.label.tolist(), i.signal.tolist()) for i in read(lab).items] == expected


def test_the_same_content_twice_counts_once(lab: Path) -> None:
    copy = lab / "copy"
    copy.mkdir()
    write(copy, 9, 1, 1)
    again = lab / "ID-9_CLASS-1_Window-0007.mat"
    again.write_bytes((lab / "ID-9_CLASS-1_Window-0001.mat").read_bytes())
    found = read(lab)
    assert dict(found.report.drops) == {"duplicate window: same content in two .mat files": 2}
    assert len(found.items[0].label) == 16


@pytest.mark.parametrize("name", ["ID-102_CLASS-1_Window-0009.mat", "ID-9_CLASS-13_Window-0009.mat"])
def test_the_same_content_under_two_subjects_or_classes_is_an_error(lab: Path, name: str) -> None:
    (lab / name).write_bytes((lab / "ID-9_CLASS-1_Window-0001.mat").read_bytes())
    with pytest.raises(SpkdError, match="both sides of a split, or carry two labels"):
        read(lab)


def test_two_files_for_one_subject_class_and_number_are_an_error(lab: Path) -> None:
    (lab / "other").mkdir()
    write(lab / "other", 9, 1, 1, xw=np.ones((4, 3)))
    with pytest.raises(SpkdError, match="one file a subject, class and window number"):
        read(lab)


def test_an_empty_or_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpkdError, match="none of class 1, 13"):
        read(tmp_path / "geneactiv")


# .bin files -----------------------------------------------------------------------------------------------------------


def decode(path: Path) -> tuple[_wrist_device.DeviceRecording, Report]:
    report = Report()
    return _geneactiv_bin.decode(path.read_bytes(), path.name, report), report


def slow_twin(data: bytes) -> np.ndarray:
    """The manual's decoding, one sample at a time."""
    text = data.decode("latin-1")
    value = {k: float(v) for k, v in re.findall(r"^([xyz] (?:gain|offset)):(-?\d+)", text, re.MULTILINE)}
    rows = []
    for page in re.findall(r"^[0-9A-F]{3600}", text, re.MULTILINE):
        for k in range(0, 3600, 12):
            raw = [int(page[k + j : k + j + 3], 16) for j in (0, 3, 6)]
            signed = [n - 4096 if n > 2047 else n for n in raw]
            rows.append(
                [(100 * n - value[f"{a} offset"]) / value[f"{a} gain"] for n, a in zip(signed, "xyz", strict=True)]
            )
    return np.array(rows)


def test_decoding_agrees_with_the_reference_decoder(shared_data: SharedData) -> None:
    found, report = decode(shared_data("geneactiv", "gnactv_sample.bin"))
    reference = np.load(shared_data("geneactiv", "gnactv_data.npz"))
    assert np.abs(found.accel_g - reference["accel"]).max() <= 0.5e-4 + 1e-6  # the reference is rounded to 4 decimals
    assert np.abs(found.time_s - reference["time"]).max() <= 0.5  # page times are written to half a second
    assert found.rate_hz == 50 and not report.drops


@pytest.mark.parametrize("name", ["TESTfile.bin", "20Hz_file.bin", "GENEActiv_testfile.bin"])
def test_decoding_agrees_with_a_slow_twin_on_real_files(shared_data: SharedData, name: str) -> None:
    path = shared_data("geneactiv", name)
    np.testing.assert_allclose(decode(path)[0].accel_g, slow_twin(path.read_bytes()), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rate_hz", "pages", "drops"),
    [
        ("TESTfile.bin", 100, 104, {}),
        ("20Hz_file.bin", 20, 7, {}),
        ("Multi_page_reset_config_time.bin", 10, 9, {}),
        ("Incomplete_bin_file.bin", 10, 9, {"damaged page: page header": 1}),
        (
            "GENEActiv_testfile.bin",
            85.7,
            16,
            {"damaged page: not 3600 digits": 1, "page that the header promises, not in the file": 222_031},
        ),
    ],
)
def test_real_files_have_a_stated_result(
    shared_data: SharedData, name: str, rate_hz: float, pages: int, drops: dict[str, int]
) -> None:
    found, report = decode(shared_data("geneactiv", name))
    assert found.rate_hz == rate_hz and found.accel_g.shape == (300 * pages, 3)
    assert dict(report.drops) == drops
    assert 0.99 <= np.median(np.linalg.norm(found.accel_g, axis=1)) <= 1.04
    assert not found.segment.any() and (np.diff(found.time_s) > 0).all()


def test_a_file_without_pages_is_dropped_and_counted(shared_data: SharedData) -> None:
    found, report = decode(shared_data("geneactiv", "Zero_data_pages.bin"))
    assert found.accel_g.shape == (0, 3) and dict(report.drops) == {"device file without a whole data page": 1}


def test_a_short_header_is_an_error_that_names_the_missing_field(shared_data: SharedData) -> None:
    with pytest.raises(SpkdError, match="Number of Pages"):
        decode(shared_data("geneactiv", "Short_header.bin"))


def fixed_bin(n_pages: int = 4, subject: str = "", **page: dict[int, bytes]) -> bytes:
    """A 100 Hz file whose sample k of page p is (256 + p, -p, k) raw, with unit gains; page: {number: other bytes}."""
    header = f"Device Identity\r\nMeasurement Frequency:100 Hz\r\nSubject Code:{subject}\r\n"
    header += "".join(f"{axis} gain:25600\r\n{axis} offset:0\r\n" for axis in "xyz")
    parts = [f"{header}Number of Pages:{n_pages}\r\n\r\n".encode()]
    for number in range(n_pages):
        digits = "".join(f"{256 + number:03X}{-number & 4095:03X}{k:03X}000" for k in range(300))
        parts.append(
            f"Recorded Data\r\nDevice Unique Serial Code:1\r\nSequence Number:{number}\r\n"
            f"Page Time:2024-05-06 10:{number // 20:02}:{3 * number % 60:02}:000\r\nUnassigned:\r\nTemperature:25\r\n"
            f"Battery voltage:4.1\r\nDevice Status:Recording\r\nMeasurement Frequency:100.0\r\n{digits}\r\n".encode()
        )
    return b"".join(parts)


def test_raw_values_are_12_bit_signed_and_calibrated_by_hand() -> None:
    found = _geneactiv_bin.decode(fixed_bin(), "x", Report())
    assert found.accel_g[301].tolist() == [257 / 256, -1 / 256, 1 / 256]
    assert found.time_s[[0, 1, 300]].tolist() == [1714989600.0, 1714989600.01, 1714989603.0]


def test_a_long_recording_takes_memory_for_its_samples_and_not_for_copies_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_geneactiv_bin, "PAGES_AT_ONCE", 8)
    data = fixed_bin(n_pages=500)
    tracemalloc.start()
    try:
        found = _geneactiv_bin.decode(data, "x", Report())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = found.accel_g.nbytes + found.time_s.nbytes + found.segment.nbytes
    assert len(found.time_s) == 500 * 300
    assert peak < 1.5 * kept


def test_calibration_is_100_raw_minus_offset_over_gain() -> None:
    data = fixed_bin().replace(b"y gain:25600\r\ny offset:0", b"y gain:25000\r\ny offset:-500")
    found = _geneactiv_bin.decode(data, "x", Report())
    assert found.accel_g[300, 1] == np.float32((100 * -1 + 500) / 25000)


@pytest.mark.parametrize(
    ("old", "new", "drops"),
    [
        (b"102FFE000", b"102XFE000", {"damaged page: not hexadecimal": 1}),
        (b"102FFE000", b"10FFE000", {"damaged page: not 3600 digits": 1}),
        (b"Sequence Number:2", b"Sequence Number:x", {"damaged page: page header": 1}),
        (b"10:00:06:000", b"10:00:66:000", {"damaged page: page time": 1}),
        (b"10:00:06:000", b"10:00:01:000", {"page not later than the one before it": 1}),
        (b"10:00:06:000", b"10:00:03:000", {"page not later than the one before it": 1}),
        (b"10:00:06:000", b"18:00:06:000", {"damaged page: page time": 1}),
        (b"102FFE12B000", b"102FFE12B000\r\nmore", {"damaged page: text after its digits": 1}),
        (b"Sequence Number:2\r\nPage Time:2024-05-06 10:00:06:000\r\nU", b"U", {"damaged page: page header": 1}),
    ],
)
def test_a_damaged_page_is_counted_and_starts_a_new_segment(old: bytes, new: bytes, drops: dict[str, int]) -> None:
    report = Report()
    data = fixed_bin()
    assert old in data
    found = _geneactiv_bin.decode(data.replace(old, new, 1), "x", report)
    assert dict(report.drops) == drops
    assert found.segment.tolist() == [0] * 600 + [1] * 300
    assert found.accel_g[600, 0] == np.float32(259 / 256)


@pytest.mark.parametrize(("changed", "n_pages", "segments", "drops"), [
    ({b"10:00:00:000": b"18:00:00:000"}, 3, 1, {"damaged page: page time": 1}),  # the first page
    ({b"10:00:00:000": b"18:00:00:000", b"Sequence Number:1": b"Sequence Number:x"}, 2, 1,
     {"damaged page: page time": 1, "damaged page: page header": 1}),
    ({b"10:00:06:000": b"18:00:06:000", b"10:00:09:000": b"18:00:09:000"}, 4, 2, {}),  # a clock that was set
    ({b"10:00:06:000": b"10:00:02:000", b"10:00:09:000": b"10:00:12:500"}, 3, 2,
     {"page not later than the one before it": 1}),
    ({b"10:00:06:000": b"10:00:10:000", b"10:00:09:000": b"10:00:02:000"}, 3, 2,
     {"page not later than the one before it": 1}),  # a pause before the last but one, which is as good as any
])  # fmt: skip
def test_one_page_with_a_wrong_clock_costs_no_other_page(changed, n_pages, segments, drops) -> None:
    data, report = fixed_bin(), Report()
    for old, new in changed.items():
        assert old in data
        data = data.replace(old, new, 1)
    found = _geneactiv_bin.decode(data, "x", report)
    assert dict(report.drops) == drops
    assert (len(found.accel_g), found.segment[-1] + 1) == (300 * n_pages, segments)


def test_a_page_that_comes_too_late_leaves_the_clock_of_the_one_before_it_in_trust() -> None:
    """Page 2 after a pause, then page 1: pages 0, 2 and 3 are kept."""
    data, report = fixed_bin(), Report()
    for old, new in ((b"Number:2", b"Number:1"), (b"Number:1", b"Number:2"), (b":03:000", b":10:000"),
                     (b":09:000", b":13:000")):  # fmt: skip
        data = data.replace(old, new, 1)
    found = _geneactiv_bin.decode(data, "x", report)
    assert dict(report.drops) == {"missing page (sequence number)": 1, "page not later than the one before it": 1}
    assert found.segment.tolist() == [0] * 300 + [1] * 600


def test_digits_in_small_letters_are_read_as_well() -> None:
    data = fixed_bin().replace(b"102FFE000", b"102ffe000").replace(b"103FFD", b"103ffd")
    assert data != fixed_bin()
    small, large = (_geneactiv_bin.decode(each, "x", Report()).accel_g for each in (data, fixed_bin()))
    assert small.tolist() == large.tolist()


def test_a_subject_code_is_found_behind_a_long_header(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"Notes:x\r\n" * 500 + b"Subject Code: 7 \r\n")
    assert _wrist_device.spelt_code(tmp_path / "a") == "7"


def test_a_page_at_another_rate_is_counted() -> None:
    report = Report()
    head, mark, tail = fixed_bin().rpartition(b"Measurement Frequency:100.0")
    found = _geneactiv_bin.decode(head + b"Measurement Frequency:50.0" + tail, "x", report)
    assert dict(report.drops) == {"damaged page: 50 Hz where the header says 100 Hz": 1} and len(found.time_s) == 900


@pytest.mark.parametrize(("lost", "segment"), [(0, [0] * 900), (1, [0] * 300 + [1] * 600)])
def test_a_page_lost_before_another_is_counted_and_starts_a_new_segment(lost: int, segment: list[int]) -> None:
    report = Report()
    head, *pages = fixed_bin().split(b"Recorded Data")
    del pages[lost]
    found = _geneactiv_bin.decode(b"Recorded Data".join([head, *pages]), "x", report)
    assert dict(report.drops) == {"missing page (sequence number)": 1}
    assert found.segment.tolist() == segment


def test_a_damaged_page_is_no_lost_one_and_does_not_stand_for_a_later_one() -> None:
    report = Report()
    head, *pages = fixed_bin(6).split(b"Recorded Data")
    pages[1] = pages[1].replace(b"Page Time", b"Page Tame")
    del pages[3]
    found = _geneactiv_bin.decode(b"Recorded Data".join([head, *pages]), "x", report)
    assert dict(report.drops) == {"damaged page: page header": 1, "missing page (sequence number)": 1}
    assert found.segment.tolist() == [0] * 300 + [1] * 300 + [2] * 600


def test_a_lost_page_starts_a_new_segment_even_where_the_times_hide_it() -> None:
    data = fixed_bin(2).replace(b"Sequence Number:1", b"Sequence Number:3")
    assert _geneactiv_bin.decode(data, "x", Report()).segment.tolist() == [0] * 300 + [1] * 300


@pytest.mark.parametrize("time", [b"10:00:04:000", b"10:00:02:000"])
def test_a_page_a_second_off_starts_a_new_segment_even_where_numbers_continue(time: bytes) -> None:
    data = fixed_bin(2).replace(b"10:00:03:000", time)
    report = Report()
    assert _geneactiv_bin.decode(data, "x", report).segment.tolist() == [0] * 300 + [1] * 300
    assert not report.drops


def test_a_file_cut_anywhere_yields_whole_pages_or_an_error_and_counts_the_rest() -> None:
    data = fixed_bin()
    whole = _geneactiv_bin.decode(data, "x", Report()).accel_g
    first_page = data.index(b"Recorded Data")
    for cut in range(0, len(data), 97):
        report = Report()
        if cut < first_page - 20:
            with pytest.raises(SpkdError):
                _geneactiv_bin.decode(data[:cut], "x", report)
        elif cut >= first_page:
            found = _geneactiv_bin.decode(data[:cut], "x", report).accel_g
            assert len(found) % 300 == 0 and (found == whole[: len(found)]).all()
            lost = report.drops["page that the header promises, not in the file"]
            lost += sum(n for reason, n in report.drops.items() if reason.startswith("damaged"))
            assert lost == 4 - len(found) // 300


def test_the_header_and_its_pages_may_write_numbers_with_a_comma() -> None:
    plain, comma = (fixed_bin().replace(b"y offset:0", b"y offset:-0" + sign + b"5") for sign in (b".", b","))
    comma = comma.replace(b"Frequency:100 Hz", b"Frequency:100,0 Hz").replace(b"Frequency:100.0", b"Frequency:100,0")
    first, second = (_geneactiv_bin.decode(data, "x", Report()) for data in (plain, comma))
    assert first.rate_hz == second.rate_hz == 100.0
    np.testing.assert_array_equal(first.accel_g, second.accel_g)


@pytest.mark.parametrize("old", [b"x gain:25600", b"y offset:0", b"Measurement Frequency:100 Hz"])
@pytest.mark.parametrize("new", [b"", b"x gain:", b"z offset:abc"])
def test_a_header_without_calibration_or_rate_is_an_error(old: bytes, new: bytes) -> None:
    with pytest.raises(SpkdError, match="expected a"):
        _geneactiv_bin.decode(fixed_bin().replace(old, new, 1), "x", Report())


@pytest.mark.parametrize("new", [b"25\xbd00", b"256e2", b"25,600.0", b"9" * 400])
def test_a_number_of_the_header_is_read_as_a_whole_or_not_at_all(new: bytes) -> None:
    for old in (b"x gain:25600", b"Number of Pages:4"):
        changed = fixed_bin().replace(old, old.partition(b":")[0] + b":" + new)
        with pytest.raises(SpkdError, match=f"a number after `{old.partition(b':')[0].decode()}:`"):
            _geneactiv_bin.decode(changed, "x", Report())


def test_a_page_number_of_thousands_of_digits_is_a_damaged_page() -> None:
    report = Report()
    _geneactiv_bin.decode(fixed_bin().replace(b"Sequence Number:1", b"Sequence Number:" + b"9" * 5000), "x", report)
    assert report.drops == {"damaged page: page header": 1}


@pytest.mark.parametrize(("name", "old"), [(b"x gain", b"25600"), (b"Measurement Frequency", b"100")])
@pytest.mark.parametrize("new", [b"0", b"-5"])
def test_a_header_with_a_rate_or_one_gain_not_above_zero_is_an_error(name: bytes, old: bytes, new: bytes) -> None:
    data = fixed_bin().replace(name + b":" + old, name + b":" + new, 1)
    with pytest.raises(SpkdError, match="a rate and gains above 0"):
        _geneactiv_bin.decode(data, "x", Report())


# .csv files and intervals ---------------------------------------------------------------------------------------------


def csv_text(n: int = 300, rate_hz: int = 100, subject: str = "7") -> str:
    header = ["Device Type,GENEActiv"] + [""] * 99
    header[10], header[20] = f"Measurement Frequency,{rate_hz} Hz", f"Subject Code,{subject}"
    ms = [round(1000 * k / rate_hz) for k in range(n)]
    rows = [f"2024-05-06 10:00:{t // 1000:02}:{t % 1000:03},{k / 256:.4f},-0.5,1,0,0,25.1" for k, t in enumerate(ms)]
    return "\n".join([*header, *rows]) + "\n"


def test_csv_values_and_times_are_read_after_100_header_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csv_text(subject=" 7,,,,,"))  # a spreadsheet gives every line the columns of the longest
    found = _geneactiv_csv.decode(path)
    assert (found.subject_code, found.rate_hz, found.accel_g.shape) == ("7", 100.0, (300, 3))
    assert found.accel_g[2].tolist() == [np.float32(0.0078), -0.5, 1.0]
    assert found.time_s[[0, 1, 299]].tolist() == [1714989600.0, 1714989600.01, 1714989602.99]


def test_the_last_row_of_a_csv_may_end_without_a_line_break(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text(7).removesuffix("\n"))
    found = _geneactiv_csv.decode(tmp_path / "a.csv")
    assert found.accel_g[-1].tolist() == [np.float32(0.0234), -0.5, 1.0]
    assert len(found.time_s) == 7


def test_csv_blocks_do_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csv_text().rstrip("\n"))
    whole = _geneactiv_csv.decode(path)
    monkeypatch.setattr(_geneactiv_csv, "BLOCK_BYTES", 101)
    parts = _geneactiv_csv.decode(path)
    assert (whole.accel_g == parts.accel_g).all() and (whole.time_s == parts.time_s).all()


def test_a_bad_row_in_a_later_block_is_named_by_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_geneactiv_csv, "BLOCK_BYTES", 501)
    path = tmp_path / "a.csv"
    path.write_text(csv_text().replace(",0.9961,", ",x,"))
    with pytest.raises(SpkdError, match=r"a\.csv:356: "):
        _geneactiv_csv.decode(path)


@pytest.mark.parametrize(
    "bad",
    [
        "2024-05-06 10:00:00:020,0.1,0.2,1,0,0",
        "2024-05-06 10:00:00:020,0.1,0.2,1,0,0,25.1,9",
        "2024-05-06 10:00:00:020,0.1,x,1,0,0,25.1",
        "2024-05-06 10:00:00:020,0.1,nan,1,0,0,25.1",
        "2024-05-06 10:00:99:020,0.1,0.2,1,0,0,25.1",
        "2024-05-06 10:0",
        "2024-05-06 10:00:00:02,00.1,0.2,1,0,0,25.1",
        "2024-05-06 10:00:00:0200,0.1,0.2,1,0,0,25.1",
        "2024-05-06 10:00:00:-10,0.1,0.2,1,0,0,25.1",
        "2024-05-06 10:00:00:020,0.1,0.2,1\n2024-05-06 10:00:00:030,0.1,0.2,1,0,0,25.1,0,0,0",
        "",
    ],
)
def test_a_bad_csv_row_is_an_error_that_names_its_line(tmp_path: Path, bad: str) -> None:
    lines = csv_text().split("\n")
    lines[102] = bad
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(SpkdError, match=r"a\.csv:103: expected time,x,y,z"):
        _geneactiv_csv.decode(path)


def test_a_last_row_that_is_too_short_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_text() + "1,2,3,4,5,6,7\n")
    with pytest.raises(SpkdError, match=r"a\.csv:401: expected time,x,y,z"):
        _geneactiv_csv.decode(tmp_path / "a.csv")


def test_a_csv_without_the_device_header_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for text in ("time,x,y,z\n1,2,3,4\n", csv_text().replace("100 Hz", "0 Hz")):
        path.write_text(text)
        with pytest.raises(SpkdError, match="100 header lines"):
            _geneactiv_csv.decode(path)


def test_csv_rows_missing_in_time_start_a_new_segment(tmp_path: Path) -> None:
    lines = csv_text().split("\n")
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines[:150] + lines[250:]))
    assert _geneactiv_csv.decode(path).segment.tolist() == [0] * 50 + [1] * 150


def test_csv_rows_missing_within_a_page_start_a_new_segment_however_few(tmp_path: Path) -> None:
    lines = csv_text().split("\n")
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines[:150] + lines[151:]))
    assert _geneactiv_csv.decode(path).segment.tolist() == [0] * 50 + [1] * 249


def test_csv_times_of_pages_may_lie_half_a_second_from_where_they_should(tmp_path: Path) -> None:
    header, rows = csv_text().split("\n")[:100], csv_text(900).split("\n")[100:-1]
    ms = [10 * k + 500 * (300 <= k < 600) for k in range(900)]
    late = [f"{row[:17]}{t // 1000:02}:{t % 1000:03}{row[23:]}" for row, t in zip(rows, ms, strict=True)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([*header, *late]) + "\n")
    with pytest.raises(SpkdError, match="step back by 0.49"):
        _geneactiv_csv.decode(path)
    path.write_text("\n".join([*header, *late[:600]]) + "\n")
    assert not _geneactiv_csv.decode(path).segment.any()


@pytest.mark.parametrize(("kept", "message"), [
    (lambda rows: csv_text(rate_hz=80).splitlines()[100:], r"a\.csv: expected 100 Hz, .*, got a row every 0.01"),
    (lambda rows: rows[::2], r"a\.csv: expected 100 Hz, as its header says, got a row every 0.02 s"),
    (lambda rows: rows[:50] + rows[49:], r"a\.csv:151: expected a time after the last row's, got the same time"),
])  # fmt: skip
def test_csv_rows_of_another_rate_or_twice_the_same_are_an_error(tmp_path: Path, kept, message: str) -> None:
    lines = csv_text().rstrip("\n").split("\n")
    path = tmp_path / "a.csv"
    path.write_text("\n".join([*lines[:100], *kept(lines[100:])]) + "\n")
    with pytest.raises(SpkdError, match=message):
        _geneactiv_csv.decode(path)


def test_a_csv_whose_clock_steps_back_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    lines = csv_text().split("\n")
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines[:200] + lines[150:]))
    with pytest.raises(SpkdError, match=r"a\.csv:201: expected a time after .* step back by 0.49"):
        _geneactiv_csv.decode(path)


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """A .bin of subject 7 (header) and a .csv of subject 8 (column `file`), with classes 1 and 2."""
    folder = tmp_path / "geneactiv"
    folder.mkdir()
    (folder / "wrist.bin").write_bytes(fixed_bin(subject="7"))
    (folder / "wrist.csv").write_text(csv_text(subject="nobody"))
    (folder / "intervals.csv").write_text(
        "subject,start,end,label,file\n"
        "7,2024-05-06 10:00:01,2024-05-06 10:00:05,1,\n"
        "7,2024-05-06 10:00:05.000,2024-05-06 10:00:06:500,2,\n"
        "8,2024-05-06 10:00:00,2024-05-06 10:00:01,2,wrist.csv\n"
    )
    return folder


def test_intervals_label_the_samples_from_start_to_before_end(devices: Path) -> None:
    found = read(devices, [1, 2])
    assert [(item.subject, len(item.label)) for item in found.items] == [("7", 550), ("8", 100)]
    first = found.items[0]
    assert first.label.tolist() == [0] * 400 + [1] * 150
    assert first.segment.tolist() == [0] * 400 + [1] * 150
    assert first.signal[0].tolist() == [1.0, 0.0, 100 / 256]
    assert dict(found.report.drops) == {"unlabelled device sample": 650 + 200}
    assert found.report.notes == {"gaps": 0}


def test_an_interval_of_a_subject_with_two_files_is_counted_once_and_only_where_no_file_has_it(devices: Path) -> None:
    (devices / "wrist.csv").unlink()
    later = fixed_bin(subject="7").replace(b"2024-05-06 10:00", b"2024-05-06 11:00")
    (devices / "later.bin").write_bytes(later)
    (devices / "intervals.csv").write_text(
        "subject,start,end,label\n"
        "7,2024-05-06 10:00:01,2024-05-06 10:00:05,1\n"
        "7,2024-05-06 11:00:01,2024-05-06 11:00:05,2\n"
        "7,2024-05-06 12:00:01,2024-05-06 12:00:05,2\n"
        "7,2024-05-06 10:00:05,2024-05-06 10:00:06,9\n"
    )
    found = read(devices, [1, 2])
    assert found.report.notes == {"gaps": 0}
    assert sorted(len(item.label) for item in found.items) == [400, 400]
    assert dict(found.report.drops) == {
        "unlabelled device sample": 1600, "interval without a sample in the recording": 1,
        "interval of a class that is not in `classes`": 1,
    }  # fmt: skip


def test_inside_one_label_a_lost_page_and_an_unlabelled_stretch_start_new_segments(devices: Path) -> None:
    pages = fixed_bin(subject="7").split(b"Recorded Data")
    (devices / "wrist.bin").write_bytes(b"Recorded Data".join(pages[:2] + pages[3:]))
    (devices / "intervals.csv").write_text(
        "subject,start,end,label\n"
        "7,2024-05-06 10:00:01,2024-05-06 10:00:08,1\n"
        "7,2024-05-06 10:00:09,2024-05-06 10:00:12,1\n"
    )
    found = Report()
    recording = _geneactiv_bin.decode((devices / "wrist.bin").read_bytes(), "x", found)
    rows = _wrist_device.read_intervals(devices / "intervals.csv")
    item = _wrist_device.labelled(recording, rows, {1: 0}, "7", "x", found)
    assert item.segment.tolist() == [0] * 200 + [1] * 200 + [2] * 300


def test_a_recording_that_is_labelled_throughout_is_not_copied() -> None:
    whole = _wrist_device.DeviceRecording("7", 1.0, np.zeros((9, 3)), np.arange(9.0), np.zeros(9, np.int32))
    rows = [_wrist_device.Interval("7", *span, "", "") for span in ((0, 4, 1), (4, 99, 2))]
    item = _wrist_device.labelled(whole, rows, {1: 0, 2: 1}, "7", "x", Report())
    assert np.shares_memory(item.signal, whole.accel_g)
    assert item.segment.tolist() == [0] * 4 + [1] * 5
    part = _wrist_device.labelled(whole, rows, {2: 1}, "7", "x", Report())
    assert part.signal.shape == (5, 3)


def test_a_file_belongs_to_the_subject_its_stem_spells_where_nothing_else_says_so(devices: Path) -> None:
    (devices / "wrist.bin").rename(devices / "7.bin")
    (devices / "7.bin").write_bytes(fixed_bin(subject=""))
    assert [item.subject for item in read(devices, [1, 2]).items] == ["7", "8"]


def test_a_headers_subject_code_comes_before_the_files_name(devices: Path) -> None:
    (devices / "wrist.bin").rename(devices / "8.bin")
    (devices / "wrist.csv").unlink()
    rows = "8,2024-05-06 10:00:00,2024-05-06 10:00:02,1\n7,2024-05-06 10:00:03,2024-05-06 10:00:04,2\n"
    rows += "7,2024-05-06 10:00:05,2024-05-06 10:00:06,1\n"
    (devices / "intervals.csv").write_text(f"subject,start,end,label\n{rows}")
    assert [(item.subject, len(item.label)) for item in read(devices, [1, 2]).items] == [("7", 200)]


def test_intervals_and_files_without_each_other_are_counted(devices: Path) -> None:
    (devices / "other.bin").write_bytes(fixed_bin(subject="99"))
    with (devices / "intervals.csv").open("a") as file:
        file.write("55,2024-05-06 10:00:01,2024-05-06 10:00:05,1,\n")
        file.write("7,2025-05-06 10:00:01,2025-05-06 10:00:05,1,\n")
        file.write("7,2024-05-06 10:00:10,2024-05-06 10:00:11,6,\n")
    drops = read(devices, [1, 2]).report.drops
    assert drops.pop("unlabelled device sample") == 850
    assert dict(drops) == {
        "device file without labelled intervals": 1,
        "interval without a device file": 1,
        "interval without a sample in the recording": 1,
        "interval of a class that is not in `classes`": 1,
    }


def test_where_a_class_has_no_sample_the_message_says_what_was_dropped(devices: Path) -> None:
    (devices / "intervals.csv").write_text("subject,start,end,label\n55,2024-05-06 10:00:01,2024-05-06 10:00:05,1\n")
    message = (
        r"none of class 1, 2; dropped: 2 x device file without labelled intervals, first .*wrist\.bin; 1 x interval w"
    )
    with pytest.raises(SpkdError, match=message):
        read(devices, [1, 2])


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.bin", fixed_bin(subject="5").replace(b"x gain:25600", b"x gain:0"), "a rate and gains above 0"),
    ("a.csv", csv_text(subject="5").replace(",-0.5,1,", ",bad,1,", 1).encode(), r"a\.csv:\d+: expected"),
    ("more.csv", b"subject,start,stop,label\n7,1,2,1\n", "expected 100 header lines"),
    ("more.csv", b"subject;start;end;label\n7;1;2;1\n", "expected 100 header lines"),
])  # fmt: skip
def test_a_file_that_intervals_name_by_its_header_or_that_may_hold_intervals_is_no_file_to_drop(
    devices: Path, name: str, content: bytes, message: str
) -> None:
    (devices / name).write_bytes(content)
    with (devices / "intervals.csv").open("a") as file:
        file.write("5,2024-05-06 10:00:00,2024-05-06 10:00:01,2,\n")
    with pytest.raises(SpkdError, match=message):
        read(devices, [1, 2])


@pytest.mark.parametrize("content", [b"", b"no header", fixed_bin(subject="9")[:100]])
def test_a_device_file_that_cannot_be_read_is_counted_unless_intervals_name_it(devices: Path, content: bytes) -> None:
    (devices / "never started.bin").write_bytes(content)
    found = read(devices, [1, 2])
    assert found.report.drops["device file that cannot be read, and that no interval names"] == 1
    assert [item.subject for item in found.items] == ["7", "8"]
    with (devices / "intervals.csv").open("a") as file:
        file.write("9,2024-05-06 10:00:00,2024-05-06 10:00:01,2,never started.bin\n")
    with pytest.raises(SpkdError, match=r"never started\.bin: .*; export the file from the device again, or remove it"):
        read(devices, [1, 2])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7,2024-05-06 10:00:02,2024-05-06 10:00:03,2,", "one label at a time for subject 7"),
        ("7,2024-05-06 10:00:05,2024-05-06 10:00:05,2,", "an end after the start"),
        (",2024-05-06 10:00:07,2024-05-06 10:00:08,2,", "a subject"),
        ("7,2024-05-06 10:00,2024-05-06 10:00:08,2,", r"intervals\.csv:5: expected subject,start,end,label"),
        ("7,2024-05-06 10:00:07,2024-05-06 10:00:08,walking,", r"intervals\.csv:5: expected subject,start,end,label"),
        ("7,2024-05-06 10:00:07", r"intervals\.csv:5: expected subject,start,end,label"),
        ("7,2024-05-06 10:00:07,2024-05-06 10:00:08,0_1,", r"intervals\.csv:5: expected subject,start,end,label"),
        ("9,2024-05-06 10:00:02,2024-05-06 10:00:03,2,wrist.csv", "one subject a device file"),
    ],
)
def test_a_bad_or_contradictory_interval_is_an_error(devices: Path, row: str, message: str) -> None:
    with (devices / "intervals.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(SpkdError, match=message):
        read(devices, [1, 2])


def test_a_bad_interval_behind_empty_lines_is_named_by_its_line_in_the_file(devices: Path) -> None:
    text = "subject,start,end,label\n\n7,2024-05-06 10:00:01,2024-05-06 10:00:05,1\n\n\n7,noon,night,1\n"
    (devices / "intervals.csv").write_text(text)
    with pytest.raises(SpkdError, match=r"intervals\.csv:6: expected subject,start,end,label"):
        read(devices, [1, 2])


def test_a_time_may_have_a_fraction_of_a_second() -> None:
    times = [_wrist_device.clock_s(f"1970-01-01 00:01:00{rest}") for rest in ("", ".5", ":05", ":005 ")]
    assert times == [60, 60.5, 60.05, 60.005]


@pytest.mark.parametrize(("rows", "wrong"), [
    (((0, 10, 1, ""), (5, 15, 2, "")), True), (((0, 10, 1, ""), (5, 15, 1, "")), False),
    (((0, 10, 1, ""), (10, 15, 2, "")), False), (((0, 10, 1, ""), (1, 2, 1, ""), (5, 6, 2, "")), True),
    (((0, 10, 1, "a"), (5, 15, 2, "b")), False), (((0, 10, 1, "a"), (5, 15, 2, "")), True),
    (((0, 10, 1, ""), (5, 15, 2, "b")), True), (((0, 10, 1, "a"), (5, 15, 2, "a")), True),
])  # fmt: skip
def test_intervals_overlap_where_one_moment_of_one_file_has_two_labels(rows, wrong) -> None:
    intervals = [_wrist_device.Interval("7", *row, f"intervals.csv:{k}") for k, row in enumerate(rows)]
    raised = pytest.raises(SpkdError, match="one label at a time for subject 7")
    with raised if wrong else contextlib.nullcontext():
        _wrist_device.check_overlaps(intervals[::-1])


def test_intervals_as_spreadsheets_save_them_are_read_as_well(devices: Path) -> None:
    path = devices / "intervals.csv"
    expected = _wrist_device.read_intervals(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert _wrist_device.is_intervals_file(path)
    assert _wrist_device.read_intervals(path) == expected
    path.write_text('subject, start, end, label\n"7", "2024-05-06 10:00:01", "2024-05-06 10:00:05", "1"\n')
    assert [replace(row, file="") for row in _wrist_device.read_intervals(path)] == expected[:1]


@pytest.mark.parametrize("row", ['7,noon,1,1,"asleep\n', '7,noon,1,1,"asleep\n7,noon,1,1,"awake"\n'])
def test_a_quote_that_does_not_end_hides_no_interval(devices: Path, row: str) -> None:
    start = "7,2024-05-06 10:00:01,2024-05-06 10:00:05"
    text = f'subject,start,end,label,memo\n{start},1,"calm, then\nnot"\n' + row.replace("7,noon,1", start)
    (devices / "intervals.csv").write_text(text)
    with pytest.raises(SpkdError, match=r"intervals\.csv: expected rows of a CSV file"):
        read(devices, [1, 2])


def test_a_column_that_is_there_twice_is_an_error(devices: Path) -> None:
    (devices / "intervals.csv").write_text(
        "subject,start,end,label,label\n7,2024-05-06 10:00:01,2024-05-06 10:00:05,1,2\n"
    )
    with pytest.raises(SpkdError, match="each column once, got 'label' twice"):
        read(devices, [1, 2])


WHOLE, PARTS = (unicodedata.normalize(form, "김é") for form in ("NFC", "NFD"))


def test_a_subject_in_whole_letters_and_one_in_their_parts_as_macos_writes_them_are_one(lab: Path) -> None:
    for name, number in ((WHOLE, 1), (PARTS, 13), ("1²", 1)):
        savemat(lab / f"ID-{name}_CLASS-{number}_Window-1.mat", {"xw": number + np.random.rand(4, 3)})
    assert {item.subject for item in read(lab).items} == {"9", "102", WHOLE, "1²"}


def test_a_device_file_is_found_by_a_name_in_whole_letters_and_in_their_parts(devices: Path) -> None:
    whole, parts = WHOLE, PARTS
    (devices / "wrist.csv").rename(devices / f"{parts}.csv")
    for code, file, intervals_file in (("", "", ""), (whole, "", ""), ("", f"{whole}.csv", f"./{whole}.csv")):
        (devices / f"{parts}.csv").write_text(csv_text(subject=code))
        times = ("2024-05-06 10:00:00,2024-05-06 10:00:01,1", "2024-05-06 10:00:01,2024-05-06 10:00:02,2")
        rows = [f"{whole},{times[0]},{file}", f"{parts},{times[1]},{intervals_file}"]
        (devices / "intervals.csv").write_text("\n".join(["subject,start,end,label,file", *rows]))
        assert [(item.subject, len(item.label)) for item in read(devices, [1, 2]).items] == [(whole, 200)]


def test_folders_and_what_macos_puts_beside_a_file_are_no_recordings(devices: Path) -> None:
    expected = read(devices, [1, 2])
    for name in ("._wrist.bin", "._intervals.csv", "._ID-1_CLASS-1_Window-1.mat"):
        (devices / name).write_bytes(b"\0\5\x16\7")
    for name in ("a.bin", "a.csv", "a.mat"):
        (devices / name).mkdir()
    found = read(devices, [1, 2])
    assert [item.name for item in found.items] == [item.name for item in expected.items]
    assert found.report == expected.report


def test_intervals_that_are_no_csv_are_an_error(devices: Path) -> None:
    (devices / "intervals.csv").write_text(f"subject,start,end,label\n7,{'1' * 200_000},2,1\n")
    with pytest.raises(SpkdError, match="intervals.csv: expected rows of a CSV file, got field larger"):
        read(devices, [1, 2])


def test_intervals_saved_in_another_encoding_are_an_error_that_says_how_to_save_them(devices: Path) -> None:
    text = "subject,start,end,label,memo\n7,2024-05-06 10:00:01,2024-05-06 10:00:05,1,걷기\n"
    (devices / "intervals.csv").write_text(text, encoding="utf-8")
    assert len(_wrist_device.read_intervals(devices / "intervals.csv")) == 1
    (devices / "intervals.csv").write_text(text, encoding="cp949")
    with pytest.raises(SpkdError, match="intervals.csv: expected intervals in UTF-8, .*CSV UTF-8"):
        read(devices, [1, 2])


def test_device_files_in_capitals_are_read_as_well(devices: Path) -> None:
    expected = [(i.subject, i.label.tolist()) for i in read(devices, [1, 2]).items]
    for old in ("wrist.bin", "wrist.csv"):
        (devices / old).rename(devices / f"wrist{old[5:].upper()}")
    text = (devices / "intervals.csv").read_text().replace("wrist.csv", "wrist.CSV")
    (devices / "intervals.csv").write_text(text)
    assert [(i.subject, i.label.tolist()) for i in read(devices, [1, 2]).items] == expected


def test_a_subject_as_windows_and_from_a_device_is_an_error(devices: Path) -> None:
    write(devices, 7, 1, 1)
    with pytest.raises(SpkdError, match="both for 7"):
        read(devices, [1, 2])


def test_a_bin_beside_its_csv_export_is_an_error_unless_intervals_name_one_of_them(devices: Path) -> None:
    (devices / "wrist.csv").write_text(csv_text(n=1200, subject="7"))
    text = (
        "subject,start,end,label,file\n"
        "7,2024-05-06 10:00:01,2024-05-06 10:00:05,1,\n"
        "7,2024-05-06 10:00:05,2024-05-06 10:00:06,2,\n"
    )
    (devices / "intervals.csv").write_text(text)
    both = r"wrist\.csv: expected one file of subject 7 .*wrist\.bin too .*twice; remove one, or name the file"
    with pytest.raises(SpkdError, match=both):
        read(devices, [1, 2])
    (devices / "intervals.csv").write_text(text.replace(",\n", ",wrist.bin\n"))
    found = read(devices, [1, 2])
    assert [len(item.label) for item in found.items] == [500]
    assert found.report.drops["device file without labelled intervals"] == 1


def test_two_devices_worn_at_once_both_count_where_each_has_intervals_of_its_own(devices: Path) -> None:
    (devices / "wrist.csv").write_text(csv_text(subject="7"))
    row = "7,2024-05-06 10:00:01,2024-05-06 10:00:03"
    rows = "".join(f"{row},{label},{file}\n" for label, file in ((1, "wrist.bin"), (2, "wrist.csv")))
    (devices / "intervals.csv").write_text(f"subject,start,end,label,file\n{rows}")
    assert [item.label.tolist() for item in read(devices, [1, 2]).items] == [[0] * 200, [1] * 200]


@pytest.mark.parametrize(("name", "lengths"), [("wrist.csv", [500, 300]), ("a.csv", [300, 500])])
def test_an_interval_goes_on_in_the_file_that_begins_where_another_ends(
    devices: Path, name: str, lengths: list[int]
) -> None:
    (devices / "wrist.csv").rename(devices / name).write_text(
        csv_text(subject="7").replace("10:00:0", "10:00:1")
    )  # 10 s later
    (devices / "wrist.bin").write_bytes(fixed_bin(n_pages=3, subject="7"))
    rows = "7,2024-05-06 10:00:05,2024-05-06 10:00:13,1\n7,2024-05-06 10:00:00,2024-05-06 10:00:01,2\n"
    (devices / "intervals.csv").write_text(f"subject,start,end,label\n{rows}")
    assert [len(item.label) for item in read(devices, [1, 2]).items] == lengths


def test_what_is_not_read_may_be_in_two_files_of_one_subject_and_a_file_of_nothing_else_is_no_recording(
    devices: Path,
) -> None:
    (devices / "wrist.csv").write_text(csv_text(subject="7"))
    rows = "7,2024-05-06 10:00:00,2024-05-06 10:00:01,9\n7,2024-05-06 10:00:05,2024-05-06 10:00:06,1\n"
    rows += "7,2024-05-06 10:00:06,2024-05-06 10:00:07,2\n"
    (devices / "intervals.csv").write_text(f"subject,start,end,label\n{rows}")
    assert [Path(item.name).name for item in read(devices, [1, 2]).items] == ["wrist.bin"]


def test_a_single_sample_in_two_files_of_one_subject_is_an_error_too(devices: Path) -> None:
    (devices / "wrist.csv").write_text(csv_text(subject="7"))
    rows = "7,2024-05-06 10:00:00,2024-05-06 10:00:00.005,1\n7,2024-05-06 10:00:05,2024-05-06 10:00:06,2\n"
    (devices / "intervals.csv").write_text(f"subject,start,end,label\n{rows}")
    with pytest.raises(SpkdError, match="one file of subject 7 at a time"):
        read(devices, [1, 2])


@pytest.fixture
def namesakes(devices: Path) -> Path:
    """left/wrist.bin without a subject in its header and right/wrist.bin of subject 8; nothing else."""
    for path in devices.iterdir():
        path.unlink()
    for name, subject in (("left", ""), ("right", "8")):
        (devices / name).mkdir()
        (devices / name / "wrist.bin").write_bytes(fixed_bin(subject=subject))
    return devices


def test_a_name_that_two_device_files_have_is_an_error_that_a_path_settles(namesakes: Path) -> None:
    time = "2024-05-06 10:00:01,2024-05-06 10:00:03"
    text = f"subject,start,end,label,file\n7,{time},1,wrist.bin\n8,{time},2,\n"
    (namesakes / "intervals.csv").write_text(text)
    do = r"left/wrist\.bin, .*right/wrist\.bin; write its path from .*, as \./left/wrist\.bin"
    with pytest.raises(SpkdError, match=rf"intervals\.csv:2: expected the name of one device file .*{do}"):
        read(namesakes, [1, 2])
    for path in ("left/wrist.bin", "./left/wrist.bin", "left\\wrist.bin"):
        (namesakes / "intervals.csv").write_text(text.replace("wrist.bin", path))
        found = [(Path(item.name).parent.name, item.subject, item.label[0]) for item in read(namesakes, [1, 2]).items]
        assert found == [("left", "7", 0), ("right", "8", 1)]


def test_a_file_that_intervals_give_to_another_subject_than_its_header_is_an_error(namesakes: Path) -> None:
    time = "2024-05-06 10:00:01,2024-05-06 10:00:03"
    text = f"subject,start,end,label,file\n7,{time},1,right/wrist.bin\n8,{time},2,\n"
    (namesakes / "intervals.csv").write_text(text)
    with pytest.raises(
        SpkdError, match=r"right/wrist\.bin: expected a file of subject 7, .* got Subject Code 8; correct"
    ):
        read(namesakes, [1, 2])


def test_the_span_of_an_interval_is_from_its_first_sample_to_its_last() -> None:
    recording = _wrist_device.DeviceRecording("", 1.0, np.zeros((9, 3)), np.arange(9.0), np.zeros(9, np.int32))
    some, none, beyond = (
        _wrist_device.Interval("7", start_s, end_s, 1, "", "") for start_s, end_s in ((2, 5), (5.2, 5.8), (6.5, 99))
    )
    assert _wrist_device.spans_s(recording, [some, none, beyond]) == {some: (2.0, 4.0), beyond: (7.0, 8.0)}


def test_a_clock_that_steps_back_behind_a_gap_labels_all_samples_up_to_the_intervals_end() -> None:
    time_s, segment = np.array([0.0, 5, 1, 2, 3, 4, 5, 6]), np.array([0, 0, 1, 1, 1, 1, 1, 1], np.int32)
    recording = _wrist_device.DeviceRecording("", 1.0, np.zeros((8, 3), np.float32), time_s, segment)
    interval = _wrist_device.Interval("7", 1.5, 5.5, 1, "", "")
    found = _wrist_device.labelled(recording, [interval], {1: 0}, "7", "x", Report())
    assert found.segment.tolist() == [0, 1, 1, 1, 1, 1]
    assert _wrist_device.spans_s(recording, [interval]) == {interval: (5.0, 5.0)}


def test_column_names_of_intervals_may_have_spaces_around(devices: Path) -> None:
    expected = _wrist_device.read_intervals(devices / "intervals.csv")
    rows = (devices / "intervals.csv").read_text().partition("\n")[2]
    for header in ("subject,start,end,label,file ", "subject , start,end\t,label ,file"):
        (devices / "intervals.csv").write_text(f"{header}\n{rows}")
        assert _wrist_device.is_intervals_file(devices / "intervals.csv")
        assert _wrist_device.read_intervals(devices / "intervals.csv") == expected


def test_another_rate_is_an_error_unless_resampling_was_asked_for(devices: Path) -> None:
    (devices / "wrist.csv").write_text(csv_text(150, 50, subject="nobody"))
    with pytest.raises(SpkdError, match="expected 100 Hz, got 50 Hz"):
        read(devices, [1, 2])
    found = read(devices, [1, 2], other_rates="linear")
    assert found.report.notes["resampled to 100 Hz, from"] == {str(devices / "wrist.csv"): 50.0}
    np.testing.assert_allclose(found.items[1].signal[:4, 0], np.array([0, 0.5, 1, 1.5]) / 256, atol=1e-4)
    assert len(found.items[1].label) == 100


def test_resampling_keeps_a_straight_line_straight_and_crosses_no_gap() -> None:
    ramp = np.repeat(np.arange(60.0)[:, None] * [1, 2, 3], 1, axis=0).astype(np.float32)
    segment = np.repeat([0, 1], 30).astype(np.int32)
    found = _wrist_device.resampled(_wrist_device.DeviceRecording("", 20.0, ramp, np.arange(60) / 20, segment), 100.0)
    assert len(found.time_s) == 2 * (29 * 5 + 1)
    np.testing.assert_allclose(found.accel_g[found.segment == 0, 0], np.arange(146) / 5, atol=1e-5)
    np.testing.assert_allclose(found.accel_g[found.segment == 1, 1], 60 + 2 * np.arange(146) / 5, atol=1e-4)
    np.testing.assert_allclose(found.time_s[found.segment == 1], 1.5 + np.arange(146) / 100)


def test_resampled_samples_have_the_times_between_those_of_the_recording() -> None:
    accel_g, segment = np.zeros((3, 3), np.float32), np.zeros(3, np.int32)
    slow = _wrist_device.DeviceRecording("", 50.0, accel_g, np.array([0.0, 0.02, 0.06]), segment)
    np.testing.assert_allclose(_wrist_device.resampled(slow, 100.0).time_s, [0, 0.01, 0.02, 0.04, 0.06])
