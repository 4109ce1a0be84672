"""PAMAP2 from its nested zip to windows, against the ways public scripts read it: seconds, peak memory; bytes on disk.

A generated archive of the official size: the Protocol's 9 files with their numbers of rows (2,872,533), 54 columns with
as many digits as the original's, its share of lost packets, and nested as UCI's. It is deflated at zlib's level 3: 5 %
longer than level 6 makes it, and made three times as fast. Every reading is a process of its own, and they take turns;
seconds count from after the imports. The peers do the least that gives windows: missing values become 0, rows without
an activity go, every third row stays, windows are copied; our side also fills gaps, looks for breaks and labels. `a
pandas script` is what public scripts do with all of it: read_table with white space between, interpolate(), windows by
iloc, the label as scipy's mode of each. genfromtxt reads one subject, scaled by the rows.

    python benchmarks/pamap2.py [rounds] [share of the rows]
"""

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import _measure
import numpy as np

OUTER, INNER = "pamap2+physical+activity+monitoring.zip", "PAMAP2_Dataset.zip"
ROWS = (376_417, 447_000, 252_833, 329_576, 374_783, 361_817, 313_599, 408_031, 8_477)  # subjects 101 to 109
ACTIVITIES = [0, 1, 2, 0, 3, 17, 0, 16, 12, 0, 13, 4, 0, 7, 6, 0, 5, 24]  # a third of the rows is no activity
BOUT_ROWS = 6_000
LOST = (13_141, 3_563, 11_749)  # packets of hand, chest and ankle, of all rows
LOST_RUN_ROWS = 10
READINGS = [2, *(3 + 17 * place + column for place in range(3) for column in range(13))]
LENGTH, STEP, EVERY = 100, 22, 3
PEAK_GB = 1.5
PEERS = ("loadtxt", "pandas", "a pandas script", "genfromtxt")


def generate(folder: Path, share: float) -> None:
    """A nested zip as UCI's. Subjects differ in the heart rate alone, which every eleventh row has."""
    import polars as pl

    rng, n = np.random.default_rng(0), max(ROWS)
    values = rng.normal(size=(n, 51)) * rng.uniform(0.5, 30, 51)
    digits = 10.0 ** (5 - np.floor(np.log10(np.abs(values))))
    values = np.round(values * digits) / digits
    for place, lost in enumerate(LOST):
        runs = rng.integers(0, n - LOST_RUN_ROWS, round(lost / sum(ROWS) * n / LOST_RUN_ROWS))
        values[(runs[:, None] + np.arange(LOST_RUN_ROWS)).ravel(), 17 * place : 17 * place + 17] = np.nan
    row = np.arange(n)
    activity = np.array(ACTIVITIES)[row // BOUT_ROWS % len(ACTIVITIES)]
    shared = pl.DataFrame({f"c{i}": column for i, column in enumerate(values.T)})
    (folder / "pamap2").mkdir(parents=True)
    with zipfile.ZipFile(folder / INNER, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        for subject, rows in enumerate(ROWS, 101):
            head = {"time": 8.38 + row / 100, "activity": activity, "heart": np.where(row % 11, np.nan, subject - 10)}
            frame = pl.DataFrame(head).with_columns(pl.col("time").round(2)).hstack(shared)
            text = frame.head(int(rows * share)).write_csv(None, include_header=False, separator=" ")
            archive.writestr(f"PAMAP2_Dataset/Protocol/subject{subject}.dat", text)
    with zipfile.ZipFile(folder / "pamap2" / OUTER, "w") as archive:
        archive.write(folder / INNER, INNER)
    (folder / INNER).unlink()


def ours(folder: Path) -> Callable[[], tuple[int, int]]:
    """Reading and cutting as `spkd windows` does; returns the number of windows and their bytes, as the peers do."""
    from spkd import config
    from spkd.data import windowing
    from spkd.datasets import pamap2

    params = config.resolve(config.read(_measure.ROOT / "params.yaml"), {"preset": "none"})
    settings = config.part("datasets", "pamap2", params)

    def read() -> tuple[int, int]:
        cut = windowing.cut(pamap2.read(folder, settings), LENGTH, STEP, settings.windows.rule)
        return len(cut), sum(getattr(cut, name).nbytes for name in ("signal", "starts", "label", "subject"))

    return read


def inflating(folder: Path) -> Callable[[], tuple[int, int]]:
    """ISA-L over every member, its CRC-32 checked; our reading also compares each file's SHA-256 with the official."""
    from spkd.datasets import _pamap2_dat

    def read() -> tuple[int, int]:
        with (
            (folder / OUTER).open("rb") as file,
            zipfile.ZipFile(file) as outer,
            _pamap2_dat._nested(outer, INNER, file) as stream,
            zipfile.ZipFile(stream) as archive,
        ):
            return 0, sum(len(_pamap2_dat.inflated(archive, name)) for name in archive.namelist())

    return read


def scripted(folder: Path, parse: Callable[[io.BytesIO], np.ndarray], last: int = 109) -> Callable[[], tuple[int, int]]:
    """Reading as public scripts do, subjects 101 to `last`."""

    def read() -> tuple[int, int]:
        signals, windows = [], []
        with zipfile.ZipFile(folder / OUTER) as outer, zipfile.ZipFile(outer.open(INNER)) as archive:
            for subject in range(101, last + 1):
                table = parse(io.BytesIO(archive.read(f"PAMAP2_Dataset/Protocol/subject{subject}.dat")))
                signals.append(np.nan_to_num(table[table[:, 1] > 0][:, READINGS], nan=0.0)[::EVERY])
        for signal in signals:
            windows += [signal[s : s + LENGTH].T for s in range(0, len(signal) - LENGTH, STEP)]
        copies = np.array(windows, dtype=np.float32)
        return len(copies), copies.nbytes

    return read


def loadtxt(folder: Path) -> Callable[[], tuple[int, int]]:
    return scripted(folder, np.loadtxt)


def genfromtxt(folder: Path) -> Callable[[], tuple[int, int]]:
    return scripted(folder, np.genfromtxt, last=101)


def pandas(folder: Path) -> Callable[[], tuple[int, int]]:
    import pandas as pd

    return scripted(folder, lambda content: pd.read_csv(content, sep=" ", header=None).to_numpy())


def pandas_script(folder: Path) -> Callable[[], tuple[int, int]]:
    import pandas as pd
    from scipy import stats

    def read() -> tuple[int, int]:
        windows, labels = [], []
        with zipfile.ZipFile(folder / OUTER) as outer, zipfile.ZipFile(outer.open(INNER)) as archive:
            for subject in range(101, 110):
                content = io.BytesIO(archive.read(f"PAMAP2_Dataset/Protocol/subject{subject}.dat"))
                table = pd.read_table(content, header=None, sep=r"\s+")
                table = table[table[1] > 0].interpolate().bfill()[::EVERY]
                for s in range(0, len(table) - LENGTH, STEP):
                    window = table.iloc[s : s + LENGTH]
                    windows.append(window[READINGS].to_numpy().T)
                    labels.append(stats.mode(window[1]).mode)
        copies = np.array(windows, dtype=np.float32)
        return len(copies), copies.nbytes

    return read


READERS = {
    "a pandas script": pandas_script,
    "ours": ours,
    "inflating": inflating,
    "loadtxt": loadtxt,
    "pandas": pandas,
    "genfromtxt": genfromtxt,
}


def child(which: str, folder: Path) -> None:
    """Print what one reading took, as JSON."""
    read = READERS[which](folder)
    cpu, wall = time.process_time(), time.perf_counter()
    windows, size = read()
    found = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "windows": windows, "bytes": size}
    print(json.dumps({**found, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}))


def run(which: str, folder: Path, threads: int | None) -> dict[str, float]:
    """One reading in a process of its own. threads: of polars, None = as many as the machine has cores."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_measure.ROOT / "src")}
    if threads is not None:
        env["POLARS_MAX_THREADS"] = str(threads)
    words = [sys.executable, __file__, "--child", which, str(folder)]
    done = subprocess.run(words, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(words: list[str]) -> None:
    rounds, share = int(words[0]) if words else 2, float(words[1]) if len(words) > 1 else 1.0
    sides = {"ours": ("ours", 1), "ours on all cores": ("ours", None), "inflating": ("inflating", 1)}
    sides |= {peer: (peer, 1) for peer in PEERS}
    taken: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, __file__, "--generate", place, str(share)], check=True)
        for _ in range(rounds):
            for side, (which, threads) in sides.items():
                taken[side].append(run(which, Path(place) / "pamap2", threads))
                print(side, taken[side][-1], flush=True)
    scale = {side: sum(ROWS) / ROWS[0] if side == "genfromtxt" else 1.0 for side in sides}
    cpu, wall, peak = (
        {
            side: [one[what] * (1.0 if what == "peak_gb" else scale[side]) for one in all_]
            for side, all_ in taken.items()
        }
        for what in ("cpu", "wall", "peak_gb")
    )
    copies = {side: [one["bytes"] / max(one["windows"], 1) for one in all_] for side, all_ in taken.items()}
    bound, what = {**peak, "bound": [PEAK_GB] * rounds}, "PAMAP2 from the nested zip to windows"
    most = f"{PEAK_GB} GB"
    rows = [
        *(_measure.faster(f"{what}, CPU", peer, cpu, "ours", peer, 10) for peer in PEERS),
        *(_measure.faster(f"{what}, wall clock", peer, wall, "ours on all cores", peer, 10) for peer in PEERS),
        _measure.faster("windows, bytes of one", "materialised copies (times smaller)", copies, "ours", "loadtxt", 4),
        _measure.faster("inflating alone, CPU: the bound", "loadtxt to windows", cpu, "inflating", "loadtxt", 10),
        _measure.dearer(f"{what}, peak memory", most, bound, "ours on all cores", "bound", 1),
        _measure.dearer("loadtxt to windows, peak memory", most, bound, "loadtxt", "bound", 1),
        _measure.dearer("pandas to windows, peak memory", most, bound, "pandas", "bound", 1),
    ]
    notes = f"{round(sum(ROWS) * share)} rows of 9 subjects; {rounds} rounds; peak memory in GB"
    _measure.keep("pamap2", rows, ("numpy", "pandas", "polars", "isal", "scipy"), notes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--generate"]:
        generate(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        main(sys.argv[1:])
