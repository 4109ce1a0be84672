import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from spkd import config
from spkd.datasets import chest as reader
from spkd.simulate import chest

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "chest"
    chest.write(folder, 0)
    return folder


def tables(folder: Path) -> dict[str, str]:
    with zipfile.ZipFile(folder / chest.ARCHIVE) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".csv")}


def test_two_runs_write_the_same_bytes_and_another_seed_others(written: Path, tmp_path: Path) -> None:
    again = chest.write(tmp_path / "chest", 0)
    assert [path.read_bytes() for path in again] == [(written / path.name).read_bytes() for path in again]
    other = chest.write(tmp_path / "chest", 1)[0]
    assert other.read_bytes() != (written / chest.ARCHIVE).read_bytes()


def test_the_sample_in_the_repository_is_what_seed_0_writes(written: Path) -> None:
    ours, kept = tables(written), tables(REPO / "sample" / "chest")
    assert list(ours) == list(kept)
    for name, text in ours.items():
        one, other = (np.loadtxt(io.StringIO(t), delimiter=",") for t in (text, kept[name]))
        assert np.abs(one - other).max() <= 1, name


def test_the_sample_is_small(written: Path) -> None:
    assert sum(path.stat().st_size for path in written.iterdir()) <= 0.6e6


def test_names_and_archive_are_those_of_the_real_one(shared_data, written: Path) -> None:
    with zipfile.ZipFile(shared_data("chest", chest.ARCHIVE)) as archive:
        real = {
            name
            for name in archive.namelist()
            if name.rsplit("/")[-1] in ("README", *(f"{k}.csv" for k in range(1, 7)))
        }
    with zipfile.ZipFile(written / chest.ARCHIVE) as archive:
        assert set(archive.namelist()) == real


def test_seq_turns_scientific_with_5_digits_at_100000(written: Path) -> None:
    rows = tables(written)[f"{chest.FOLDER}/2.csv"].split("\n")
    assert rows[0].startswith("99000,") and rows[999].startswith("99999,")
    assert rows[1000].startswith("1e+05,") and rows[1011].startswith("1.0001e+05,")


def test_every_row_of_seq_is_written_as_in_the_real_files(shared_data) -> None:
    with zipfile.ZipFile(shared_data("chest", chest.ARCHIVE)) as archive:
        real = archive.read(f"{chest.FOLDER}/1.csv").decode().split("\n")[:-1]
    same = np.mean([row.split(",", 1)[0] == chest._seq(k) for k, row in enumerate(real)])
    assert same > 0.99


def test_the_reader_finds_6_subjects_with_7_classes_and_a_last_row_without_label(written: Path) -> None:
    settings = config.part("datasets", "chest", config.read(REPO / "params.yaml"))
    found = reader.read(written, settings)
    assert found.origin == "simulated" and len(found.items) == 6
    assert all(np.unique(item.label[:-1]).tolist() == list(range(7)) and item.label[-1] == -1 for item in found.items)


def test_subjects_differ_in_offset_and_gain_and_counts_are_12_bits(written: Path) -> None:
    means = []
    for text in tables(written).values():
        counts = np.loadtxt(io.StringIO(text), delimiter=",", usecols=(1, 2, 3))
        assert counts.min() >= 0 and counts.max() <= 4095
        means.append(np.median(counts, axis=0))
    assert (np.std(means, axis=0) > 20).all()
