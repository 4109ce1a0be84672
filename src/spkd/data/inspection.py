"""What a WindowSet holds, as text and as one figure: counts, rate, gaps, drops, duplicates, a window of each class.

One contract: nothing here writes or reads a file, and every text and figure of simulated data says so.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spkd.data.windowset import WindowSet

MOST_LINES = 9  # channels drawn as lines; more are drawn as a map, one row a channel


def table(header: list[str], rows: list[list[str]]) -> str:
    """The rows under the header in columns; the first column is left-aligned, the others are numbers."""
    cells = [header, *rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = [
        "  ".join(
            text.ljust(width) if k == 0 else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def describe(windows: WindowSet) -> str:
    """Everything the manifest knows, for reading: what it is, counts per subject and class, gaps, drops, notes."""
    manifest = windows.manifest
    parts = [_facts(windows), counts(windows), _losses(manifest)]
    if manifest["origin"] == "simulated":
        parts.insert(0, "SIMULATED: no person was measured; numbers made from this data are about the software alone.")
    return "\n\n".join(parts)


def _facts(windows: WindowSet) -> str:
    manifest = windows.manifest
    rate_hz, step = windows.rate_hz, manifest["step"]
    cut = f"{windows.length} samples ({windows.length / rate_hz:g} s), step {step} ({step / rate_hz:g} s)"
    facts = {
        "data set": manifest["dataset"],
        "origin": manifest["origin"],
        "licence": manifest["licence"],
        "digest": windows.digest,
        "windows": f"{len(windows)} of {cut}, rule {manifest['rule']}",
        "rate": f"{rate_hz:g} Hz, {windows.signal.shape[1] / rate_hz / 60:.1f} minutes of labelled signal",
        "channels": f"{len(windows.channels)}: {', '.join(windows.channels)}",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts.items())


def counts(windows: WindowSet) -> str:
    """Windows per subject and class, with sums; a dot where there is none."""
    number = np.zeros((len(windows.subjects), len(windows.classes)), np.int64)
    np.add.at(number, (windows.subject, windows.label), 1)

    def row(name: str, values: np.ndarray) -> list[str]:
        return [name, *(str(n) if n else "." for n in values), str(values.sum())]

    header = ["subject", *map(str, range(len(windows.classes))), "all"]
    rows = [row(name, values) for name, values in zip(windows.subjects, number, strict=True)]
    legend = [f"{k:>3}  {name}" for k, name in enumerate(windows.classes)]
    return "\n".join(["windows per subject and class:", table(header, [*rows, row("all", number.sum(0))]), *legend])


def _losses(manifest: dict[str, Any]) -> str:
    """Drops with their first place, duplicates among them, then gaps and whatever else the reader noted."""
    lines = ["dropped and counted:" if manifest["drops"] else "dropped: nothing"]
    for reason, n in sorted(manifest["drops"].items(), key=lambda item: -item[1]):
        lines.append(f"  {n:>9}  {reason} (first: {manifest['first_seen'].get(reason, 'unknown')})")
    duplicates = sum(n for reason, n in manifest["drops"].items() if reason.startswith("duplicate window"))
    notes = {"gaps": "the reader notes none", **manifest["notes"]}
    lines += [f"duplicate windows: {duplicates}", f"gaps in time: {notes.pop('gaps')}"]
    return "\n".join([*lines, *(f"{name.replace('_', ' ')}: {value}" for name, value in notes.items())])


def examples(windows: WindowSet) -> dict[int, int]:
    """Class index -> row number of the class's middle window; classes without windows are left out."""
    rows = {k: np.flatnonzero(windows.label == k) for k in range(len(windows.classes))}
    return {k: int(found[len(found) // 2]) for k, found in rows.items() if len(found)}


def figure(windows: WindowSet) -> Figure:
    """One window of each class, in the data's own units as lines, or scaled as a map where there are many channels."""
    shown = examples(windows)
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    drawn = Figure(figsize=(4.2 * columns, 1.9 * lines + 0.9), layout="constrained")
    axes = drawn.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    few = len(windows.channels) <= MOST_LINES
    mean, std = windows.signal.mean(1, keepdims=True), windows.signal.std(1, keepdims=True) + 1e-12
    for place, (label, row) in zip(axes, shown.items(), strict=False):
        window, seconds = windows.windows(np.array([row]))[0], windows.length / windows.rate_hz
        subject = windows.subjects[windows.subject[row]]
        place.set_title(f"{windows.classes[label]} (subject {subject}, window {row})", fontsize=8)
        place.tick_params(labelsize=7)
        if few:
            place.plot(np.arange(windows.length) / windows.rate_hz, window.T, linewidth=0.8, label=windows.channels)
        else:
            extent = (0.0, seconds, len(window) - 0.5, -0.5)
            place.imshow((window - mean) / std, aspect="auto", vmin=-3, vmax=3, cmap="coolwarm", extent=extent)
            place.set_ylabel("channel", fontsize=7)
    for place in axes[len(shown) :]:
        place.set_axis_off()
    for place in axes[max(0, len(shown) - columns) : len(shown)]:
        place.set_xlabel("time in the window [s]", fontsize=7)
        place.tick_params(labelbottom=True)
    if few:
        axes[0].legend(fontsize=6, loc="upper right")
    recorded = "as recorded, units in the channels' names; each class on a scale of its own"
    words = recorded if few else "each channel scaled: blue -3, red +3 standard deviations"
    drawn.suptitle(f"{_title(windows)}\n{words}", fontsize=9)
    return drawn


def _title(windows: WindowSet) -> str:
    """Which data the figure shows, and whether it is simulated."""
    name, origin = windows.manifest["dataset"], windows.manifest["origin"]
    origin = "SIMULATED" if origin == "simulated" else origin
    return f"{name}, {origin}: one window a class, {windows.rate_hz:g} Hz, data {windows.digest[:8]}"
