import json
import stat
import zipfile

import numpy as np
import pytest

from spkd.errors import SpkdError
from spkd.evidence.reproduction import bundle, portable


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "run"
    (made / "teachers" / "t").mkdir(parents=True)
    (made / "run.json").write_text("{}")
    (made / "teachers" / "t" / "weights.safetensors").write_bytes(bytes(range(256)) * 40)
    return made


@pytest.fixture
def packed(folder, tmp_path):
    bundle.pack(folder, tmp_path / "x.zip")
    return tmp_path / "x.zip"


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def forged(path, change):
    """The bundle with members replaced: {name: bytes or None}; a name may be a ZipInfo."""
    with zipfile.ZipFile(path) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    change = {**members, **change}
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in change.items():
            if data is not None:
                zipped.writestr(name, data)
    return path


def with_index(path, change):
    with zipfile.ZipFile(path) as zipped:
        index = json.loads(zipped.read(bundle.INDEX))
    change(index)
    return forged(path, {bundle.INDEX: json.dumps(index).encode()})


def test_a_bundle_comes_back_as_it_went_in(folder, packed, tmp_path):
    bundle.unpack(packed, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)


def test_the_same_folder_gives_the_same_bytes(folder, packed, tmp_path):
    bundle.pack(folder, tmp_path / "y.zip")
    assert packed.read_bytes() == (tmp_path / "y.zip").read_bytes()


def refused(path, tmp_path, why):
    with pytest.raises(SpkdError, match=why):
        bundle.unpack(path, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_truncated_bundle_is_refused_and_leaves_nothing(packed, tmp_path, part):
    data = packed.read_bytes()
    packed.write_bytes(data[: int(part * len(data))])
    refused(packed, tmp_path, "whole bundle")


def test_a_changed_byte_is_refused(packed, tmp_path):
    data = bytearray(packed.read_bytes())
    data[data.index(bytes(range(256))) + 1000] ^= 1
    packed.write_bytes(bytes(data))
    refused(packed, tmp_path, "bundle")


def test_a_changed_member_with_a_right_zip_checksum_is_refused(packed, tmp_path):
    refused(forged(packed, {"run.json": b"{ }"}), tmp_path, "index promises")


def test_a_member_that_grew_is_refused(packed, tmp_path):
    refused(with_index(packed, lambda i: i["members"]["run.json"].update(bytes=1)), tmp_path, "index promises")


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "a\\evil.json", "C:evil.json"])
def test_a_path_that_leaves_the_folder_is_refused(packed, tmp_path, name):
    refused(forged(packed, {name: b"{}"}), tmp_path, "leaves its folder")
    assert not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize("name", ["weights.pt", "model.pkl", "code.py", "run.sh", "noending"])
def test_a_type_of_file_that_could_run_is_refused(packed, tmp_path, name):
    refused(forged(packed, {name: b""}), tmp_path, "type of file")


def test_a_member_that_the_index_lacks_is_refused(packed, tmp_path):
    refused(forged(packed, {"more.json": b"{}"}), tmp_path, "exactly the members")


def test_a_member_that_is_missing_is_refused(packed, tmp_path):
    refused(forged(packed, {"run.json": None}), tmp_path, "exactly the members")


def test_names_that_differ_in_case_only_are_refused(packed, tmp_path):
    refused(forged(packed, {"RUN.json": b"{}"}), tmp_path, "one name twice")


def test_a_link_is_refused(packed, tmp_path):
    info = zipfile.ZipInfo("link.json")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(forged(packed, {info: b"/etc/passwd"}), tmp_path, "plain file")


def test_a_bundle_beyond_the_limit_is_refused_by_its_declared_size(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "LARGEST_BYTES", 1000)
    refused(packed, tmp_path, "more than a bundle may hold")


def test_more_members_or_a_larger_index_than_a_bundle_may_have_are_refused(packed, tmp_path, monkeypatch):
    with monkeypatch.context() as limit:
        limit.setattr(bundle, "MOST_MEMBERS", 2)
        refused(packed, tmp_path, "3 members.*more than a bundle may hold")
    monkeypatch.setattr(bundle, "LARGEST_INDEX_BYTES", 100)
    refused(packed, tmp_path, "index.json.*too large")


def test_a_bundle_of_another_format_is_refused_with_both_numbers(packed, tmp_path):
    refused(with_index(packed, lambda index: index.update(format=2)), tmp_path, "format 2, this version reads 1")


def test_a_member_behind_a_password_is_refused(packed, tmp_path):
    data = bytearray(packed.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.rindex(mark) + flags] |= 1
    packed.write_bytes(bytes(data))
    refused(packed, tmp_path, "plain file")


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_within_a_packed_member_is_told_as_damage(packed, tmp_path, how):
    with zipfile.ZipFile(packed) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    with zipfile.ZipFile(packed, "w", how) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
        start = zipped.getinfo("teachers/t/weights.safetensors").header_offset + 30 + 31
    data = bytearray(packed.read_bytes())
    data[start + 9 : start + 30] = b"\xff" * 21
    packed.write_bytes(bytes(data))
    refused(packed, tmp_path, "whole bundle")


def test_a_name_that_is_no_text_is_told_as_damage(packed, tmp_path):
    forged(packed, {"\u00e9.json": b"{}"})
    packed.write_bytes(packed.read_bytes().replace("\u00e9.json".encode(), b"\xff\xff.json"))
    refused(packed, tmp_path, "whole bundle")


@pytest.mark.parametrize(
    "index",
    [
        b"not json",
        b"[]",
        b'{"members": {"run.json": 3}}',
        b'{"members": {}, "format": 9}',
        b"[" * 100_000,
        b'{"members": {"run.json": {"bytes": 1e999, "sha256": ""}}}',
    ],
    ids=["text", "list", "number", "format", "nested", "infinite"],
)
def test_a_foreign_index_is_refused(packed, tmp_path, index):
    refused(forged(packed, {bundle.INDEX: index}), tmp_path, "index.json")


def test_a_zip_without_an_index_is_refused(packed, tmp_path):
    refused(forged(packed, {bundle.INDEX: None}), tmp_path, "one without index.json")


def test_pickles_are_not_packed(folder, tmp_path):
    (folder / "weights.pt").write_bytes(b"")
    with pytest.raises(SpkdError, match="type of file"):
        bundle.pack(folder, tmp_path / "y.zip")
    assert not (tmp_path / "y.zip").exists()


def test_a_bundle_that_cannot_be_written_leaves_the_one_before_and_nothing_else(folder, packed, monkeypatch):
    before, names = packed.read_bytes(), sorted(p.name for p in packed.parent.iterdir())

    def full(source, target, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        bundle.pack(folder, packed)
    assert packed.read_bytes() == before
    assert sorted(p.name for p in packed.parent.iterdir()) == names


def test_a_bundle_cut_short_behind_arrays_is_told_as_cut_and_with_its_size(folder, tmp_path):
    """The end of a .npz in it is found and taken for the end of a zip of arrays."""
    np.savez(folder / "maps.npz", a=np.ones(3))
    bundle.pack(folder, tmp_path / "b.zip")
    whole = (tmp_path / "b.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: whole.index(b"PK\x05\x06") + 22])
    with zipfile.ZipFile(cut) as zipped:
        assert zipped.namelist() == ["a.npy"]
    refused(cut, tmp_path, rf"cut short \({cut.stat().st_size:,} bytes\); copy it again")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udce9"])
def test_a_part_of_a_bundle_that_is_no_json_is_refused_by_name(tmp_path, text):
    (tmp_path / "run.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(SpkdError, match=r"run\.json: expected a part of the run.*export the run again"):
        portable.record(tmp_path)


TOLD = {"id": "a", "name": "a", "tags": {}, "params": {}, "metrics": {}}


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("run.json", [], "a valid dictionary"),
        ("run.json", TOLD | {"tags": {"kind": 5}}, "tags.kind"),
        ("run.json", TOLD | {"metrics": {"a": "high"}}, "metrics.a"),
        ("run.json", {"id": "a"}, "name"),
        ("history.json", {"a": [1, 2]}, "a.0"),
        ("history.json", {"a": [["last", 1.0]]}, "a.0.0"),
        ("trials.json", [TOLD, {}], "1.id"),
    ],
)
def test_a_part_of_a_bundle_of_another_type_is_refused_by_name_and_key(tmp_path, name, content, key):
    files = {"run.json": TOLD, "history.json": {}, "trials.json": [TOLD], name: content}
    for file, value in files.items():
        (tmp_path / file).write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(SpkdError, match=rf"{name}: expected a part of the run.*{key}.*export the run again"):
        portable.record(tmp_path), portable.trials(tmp_path)


@pytest.mark.parametrize("change", [{"model": 5}, {"dataset": {}}, {"fold": "first"}, {"run": None}, {"train": []}])
def test_settings_of_a_bundle_that_are_no_runs_are_refused_by_their_key(tmp_path, change):
    made = dict.fromkeys(("run", "train", "network", "view"), {})
    made |= {"dataset": {"demo": {}}, "model": {"network": "a", "view": "signal"}, "fold": 0, **change}
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "settings.json").write_text(json.dumps(made))
    with pytest.raises(SpkdError, match=rf"settings\.json: expected a part of the run.*{next(iter(change))}"):
        portable.logged_settings(tmp_path)
