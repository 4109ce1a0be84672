import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spkd.data.recordings import UNLABELLED, Recordings
from spkd.datasets import chest
from spkd.errors import SpkdError

FOLDER = "Activity Recognition from Single Chest-Mounted Accelerometer"
ROWS = "0,1502,2215,2153,1\n1,1667,2072,2047,1\n1e+05,1611,1957,1906,7\n1.0445e+05,1601,1939,1831,0\n"


def settings(source: str) -> chest.Settings:
    return chest.Settings.model_validate(
        {
            "windows": {"source": source, "length": 156, "step": 78},
            "split": {"rule": "leave_one_subject_out", "validation_subjects": 2},
            "scaling": "subject",
        }
    )


def archive(folder: Path, files: dict[str, str]) -> Path:
    path = folder / chest.ARCHIVE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(f"{FOLDER}/{name}", text)
    return path


def read(folder: Path, rows: str) -> Recordings:
    archive(folder, {"3.csv": rows})
    return chest.read(folder, settings("uci"))


def test_rows_are_read_in_order_whatever_seq_says(tmp_path: Path) -> None:
    found = read(tmp_path, ROWS).items[0]
    assert found.signal.tolist() == [[1502, 2215, 2153], [1667, 2072, 2047], [1611, 1957, 1906], [1601, 1939, 1831]]
    assert found.signal.dtype == np.float32 and found.signal.flags.c_contiguous
    assert found.segment.tolist() == [0, 0, 0, 0]


def test_the_last_row_may_end_without_a_line_break(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS.removesuffix("\n")).items[0].signal[:, 0].tolist() == [1502, 1667, 1611, 1601]


def test_label_0_is_unlabelled(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS).items[0].label.tolist() == [0, 0, 6, UNLABELLED]


def test_subjects_come_in_numeric_order_and_the_readme_is_no_subject(tmp_path: Path) -> None:
    archive(tmp_path, {"10.csv": ROWS, "README": "text", "9.csv": ROWS})
    assert [item.subject for item in chest.read(tmp_path, settings("uci")).items] == ["9", "10"]


def test_the_marker_beside_the_archive_makes_the_origin_simulated(tmp_path: Path) -> None:
    archive(tmp_path, {"1.csv": ROWS})
    assert chest.read(tmp_path, settings("raw")).origin == "UCI 287"
    (tmp_path / "SIMULATED").touch()
    assert chest.read(tmp_path, settings("raw")).origin == "simulated"


@pytest.mark.parametrize(
    "bad",
    [
        "1,2,3,4",
        "1,2,3,4,1,6",
        "1,2,x,4,1",
        "1,2,,4,1",
        "1,2,nan,4,1",
        "1,2,3,4,8",
        "1,2,3,4,1.5",
        "1,2,3,4,-1",
        "",
        "  ",
        "1,2,3,4e38,1e39",
        "1,2,3,1_0,1",
    ],
)
def test_a_bad_row_is_an_error_that_names_file_and_line(tmp_path: Path, bad: str) -> None:
    with pytest.raises(SpkdError, match=r"3\.csv:3: expected seq,x,y,z,label"):
        read(tmp_path, "0,1,2,3,1\r\n+1, 1,2.5, 3.,0\n" + bad + "\n2,1,2,3,1\n")


def test_an_empty_subject_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpkdError, match=r"3\.csv:1: expected seq"):
        read(tmp_path, "")


def test_a_cut_zip_a_damaged_member_and_a_missing_zip_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SpkdError, match="no such file"):
        chest.read(tmp_path, settings("uci"))
    path = archive(tmp_path, {"3.csv": ROWS * 500})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpkdError, match="a whole zip archive"):
        chest.read(tmp_path, settings("uci"))
    path.write_bytes(whole[:150] + bytes([whole[150] ^ 255]) + whole[151:])
    with pytest.raises(SpkdError, match="a whole zip archive"):
        chest.read(tmp_path, settings("uci"))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path, {"3.csv": ROWS})
    declared = struct.pack("<I", len(ROWS))
    path.write_bytes(path.read_bytes().replace(declared, b"\xfe\xff\xff\xff"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SpkdError, match=r"3\.csv: expected at most 1000 bytes"):
        patch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
        chest.read(tmp_path, settings("uci"))


def test_an_archive_without_subjects_is_an_error(tmp_path: Path) -> None:
    archive(tmp_path, {"README": "text"})
    with pytest.raises(SpkdError, match=r"one <subject>\.csv each"):
        chest.read(tmp_path, settings("uci"))


def test_the_real_archive_has_15_subjects_7_classes_and_1926896_rows(shared_data) -> None:
    found = chest.read(shared_data("chest"), settings("uci"))
    assert [item.subject for item in found.items] == [str(n) for n in range(1, 16)]
    assert sum(len(item.label) for item in found.items) == 1_926_896
    assert all(set(range(7)) <= set(np.unique(item.label).tolist()) for item in found.items)
    assert all(item.label[-1] == UNLABELLED for item in found.items)
    assert found.items[0].signal[0].tolist() == [1502, 2215, 2153]


def test_two_files_of_one_subject_are_an_error_that_names_both(tmp_path: Path) -> None:
    archive(tmp_path, {"1.csv": ROWS, "old/01.csv": ROWS[:24]})
    with pytest.raises(SpkdError, match=r"one file of subject 01, got .*/1.csv and .*old/01.csv; remove one"):
        chest.read(tmp_path, settings("uci"))


def test_an_encrypted_member_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    path = archive(tmp_path, {"1.csv": ROWS})
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(SpkdError, match="a whole zip archive, got .*encrypted"):
        chest.read(tmp_path, settings("uci"))
