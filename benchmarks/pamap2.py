"""PAMAP2 from its nested zip to labelled recordings, against the ways public scripts read it; and windows on disk.

A generated archive of one ninth of the official size: one subject, 320,000 rows of 54 columns at 100 Hz, deflated as
UCI's. The peers only parse (no cleaning), ours cleans too. Reading inflates 1.6 GB of text, which alone bounds the
ratio: that bound is a row of its own. CPU seconds, one thread.

    python benchmarks/pamap2.py [rows] [repeats]
"""

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import _measure
import _study
import numpy as np
import pandas

from spkd import config
from spkd.data import windowing
from spkd.datasets import _pamap2_dat, pamap2


def generate(folder: Path, n: int) -> None:
    """A nested zip as UCI's; values with as many digits as the original's, heart rate on every eleventh row."""
    rng = np.random.default_rng(0)
    lines = []
    for start in range(0, n, 10_000):
        values = rng.normal(size=(min(10_000, n - start), 52)) * 5
        for i, row in enumerate(values, start):
            rest = " ".join(f"{v:.6g}" for v in row[1:])
            lines.append(f"{8.38 + i / 100:.2f} {(0, 4, 17, 3)[i // 5000 % 4]} {'NaN' if i % 11 else 104} {rest}")
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("PAMAP2_Dataset/Protocol/subject101.dat", "\n".join(lines) + "\n")
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / _pamap2_dat.OUTER, "w") as archive:
        archive.writestr(_pamap2_dat.INNER, inner.getvalue())


def main(words: list[str]) -> None:
    n, repeats = int(words[0]) if words else 320_000, int(words[1]) if len(words) > 1 else 3
    settings = config.part("datasets", "pamap2", _study.PARAMS)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pamap2"
        generate(folder, n)

        def content() -> io.BytesIO:
            return io.BytesIO(next(_pamap2_dat.files(folder)).content)

        whole = next(_pamap2_dat.files(folder))
        calls = {
            "ours": lambda: pamap2.read(folder, settings),
            "loadtxt": lambda: np.loadtxt(content()),
            "pandas": lambda: pandas.read_csv(content(), sep=" ", header=None),
            "genfromtxt": lambda: np.genfromtxt(content()),
            "inflate": content,
            "parse": lambda: _pamap2_dat.parse(whole),
        }
        seconds = _measure.turns(calls, repeats)
        recordings = pamap2.read(folder, settings)
    chosen = settings.windows
    cut = windowing.cut(recordings, chosen.length, chosen.step, chosen.rule, dataset="pamap2", settings={})
    stored = sum(getattr(cut, name).nbytes for name in ("signal", "starts", "label", "subject"))
    smaller = len(cut) * 4 * len(cut.channels) * cut.length / stored
    bytes_of = {"ours": [float(stored)], "copies": [stored * smaller]}
    what = "PAMAP2 from the nested zip, cleaned"
    rows = [
        *(_measure.faster(what, f"{peer}, parsing only", seconds, "ours", peer, 10)
          for peer in ("loadtxt", "pandas", "genfromtxt")),
        _measure.faster("parsing alone, without the zip", "loadtxt with the zip", seconds, "parse", "loadtxt", 10),
        _measure.faster("inflating alone: the bound", "loadtxt with the zip", seconds, "inflate", "loadtxt", 10),
        _measure.faster("windows in bytes", "materialised copies", bytes_of, "ours", "copies", 4),
    ]  # fmt: skip
    _measure.keep("pamap2", rows, ("numpy", "pandas", "polars"), f"{n} rows of one subject")


if __name__ == "__main__":
    main(sys.argv[1:])
