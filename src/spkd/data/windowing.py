"""Cuts recordings into windows, vectorised: where a window may start, and nothing else. No copy of a window is made.

Rule `sound`: no window crosses a label change, a segment change or an unlabelled sample. Rule `paper`: the published
line's, which may. Whatever is left out is counted in the manifest, and the same window in two subjects is an error.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from spkd.data.recordings import UNLABELLED, Recording, Recordings, Report
from spkd.data.windowset import WindowSet, build, covered
from spkd.errors import SpkdError

Rule = Literal["sound", "paper"]
WINDOWS_AT_ONCE = 4096  # bounds the memory of the search for windows that are there twice


def sound_starts(label: np.ndarray, segment: np.ndarray, length: int, step: int) -> np.ndarray:
    """First samples of the windows that stay inside one run of equal label and equal segment.

    label, segment: (n,) of one recording. The first window of a run starts at the run's first sample.
    """
    if not len(label):
        return np.empty(0, dtype=np.int64)
    changes = np.flatnonzero((label[1:] != label[:-1]) | (segment[1:] != segment[:-1])) + 1
    first = np.concatenate([[0], changes])
    size = np.diff(np.concatenate([first, [len(label)]]))
    count = np.where(label[first] == UNLABELLED, 0, np.maximum((size - length) // step + 1, 0))
    before = np.cumsum(count) - count
    starts: np.ndarray = np.repeat(first - step * before, count) + step * np.arange(count.sum())
    return starts


def paper_starts(label: np.ndarray, length: int, step: int) -> np.ndarray:
    """First samples by the published rule: step, 2 step, ... below n - length, kept where both ends have one label.

    label: (n,) of all labelled samples of one SUBJECT, one bout behind the other (boundaries may be crossed).
    """
    starts = np.arange(step, max(len(label) - length, 0), step)
    kept: np.ndarray = starts[label[starts] == label[starts + length - 1]]
    return kept


def cut(
    recordings: Recordings,
    length: int,
    step: int,
    rule: str,
    dataset: str = "unnamed",
    settings: Mapping[str, Any] | None = None,
) -> WindowSet:
    """The WindowSet of these recordings.

    length, step: samples. rule: "sound" or "paper". dataset, settings: written to the manifest as they are.
    Raises SpkdError where a recording is malformed, no window is left, or two subjects share a window.
    """
    if rule not in get_args(Rule) or length < 2 or step < 1:
        got = f"rule {rule!r}, length {length}, step {step}"
        raise SpkdError(
            f"windows of {dataset}", f"rule {get_args(Rule)}, length >= 2, step >= 1", got, "correct params.yaml"
        )
    report = Report(recordings.report.drops.copy(), dict(recordings.report.first_seen), dict(recordings.report.notes))
    names: list[str] = []
    parts: list[tuple[list[np.ndarray], np.ndarray, np.ndarray]] = []
    label = segment = np.empty(0)
    offset = 0
    for subject, items in _by_subject(recordings).items():
        signals, label, segment = _joined(items, report)
        starts = sound_starts(label, segment, length, step) if rule == "sound" else paper_starts(label, length, step)
        if not len(starts):
            report.drop("subject without a window", f"subject {subject}")
            continue
        report.drop(
            "sample outside every window", f"subject {subject}", int((~covered(len(label), starts, length)).sum())
        )
        names.append(subject)
        parts.append((signals, starts + offset, label[starts]))
        offset += len(label)
    if not parts:
        got = f"none ({len(recordings.items)} recordings, drops {dict(report.drops)})"
        raise SpkdError(
            f"windows of {dataset}", f"at least one window of {length} samples", got, "check the recordings"
        )
    del label, segment  # of the last subject's samples, a week of which takes room that the signal needs
    signal = np.empty((len(recordings.channels), offset), dtype=np.float32)
    content = {
        "signal": np.concatenate([one for signals, *_ in parts for one in signals], axis=1, out=signal),
        "starts": np.concatenate([p[1] for p in parts]),
        "label": np.concatenate([p[2] for p in parts]),
        "subject": np.repeat(np.arange(len(parts)), [len(p[1]) for p in parts]),
    }
    how = {"dataset": dataset, "length": length, "step": step, "rule": rule, "settings": dict(settings or {})}
    unique = _without_duplicates(content, length, names, report, dataset)
    return build(unique, _manifest(recordings, report, names, how))


def _manifest(recordings: Recordings, report: Report, subjects: list[str], how: dict[str, Any]) -> dict[str, Any]:
    return {
        **how,
        "channels": list(recordings.channels),
        "classes": list(recordings.classes),
        "subjects": subjects,
        "rate_hz": float(recordings.rate_hz),
        "drops": dict(report.drops),
        "first_seen": report.first_seen,
        "notes": report.notes,
        "origin": recordings.origin,
        "licence": recordings.licence,
        "citation": recordings.citation,
    }


def _by_subject(recordings: Recordings) -> dict[str, list[Recording]]:
    """Subject -> its recordings, subjects sorted, recordings in the reader's order."""
    groups: dict[str, list[Recording]] = {}
    for item in recordings.items:
        _check(item, recordings)
        groups.setdefault(item.subject, []).append(item)
    return dict(sorted(groups.items()))


def _check(item: Recording, recordings: Recordings) -> None:
    """Raise SpkdError where a recording breaks the contract of data/recordings.py."""
    n, channels, classes = len(item.label), len(recordings.channels), len(recordings.classes)
    if item.signal.shape != (n, channels) or item.segment.shape != (n,):
        got = f"signal {item.signal.shape}, label {item.label.shape}, segment {item.segment.shape}"
        raise SpkdError(
            item.name, f"signal ({n}, {channels}) and as many labels and segments", got, "correct the reader"
        )
    if n and not (item.label.min() >= UNLABELLED and item.label.max() < classes):
        got = f"{item.label.min()} to {item.label.max()}"
        raise SpkdError(item.name, f"labels from {UNLABELLED} to {classes - 1}", got, "correct the reader")
    finite = np.isfinite(item.signal).all(axis=1)
    if not finite.all():
        got = f"NaN or infinity in {np.count_nonzero(~finite)} samples, first at {int(finite.argmin())}"
        raise SpkdError(item.name, "finite samples", got, "correct the reader")


def _joined(items: list[Recording], report: Report) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """(channels, n_i) signal of each recording, and label and segment of all: one subject's labelled samples.

    Segments are numbered anew so that none is shared. Unlabelled samples are counted and left out; what lay on either
    side of one is in two segments.
    """
    signals, labels, segments = [], [], []
    offset = 0
    for item in items:
        keep = item.label != UNLABELLED
        report.drop("unlabelled sample", item.name, int(np.count_nonzero(~keep)))
        breaks = np.ones(len(keep), dtype=bool)
        breaks[1:] = (item.segment[1:] != item.segment[:-1]) | ~keep[1:]
        segment = np.cumsum(breaks, dtype=np.int32)  # as of a Recording: of a week of samples, 8 bytes each are many
        segment += np.int32(offset)
        offset = int(segment[-1]) if len(segment) else offset
        signals.append(item.signal.T if keep.all() else item.signal.T[:, keep])
        labels.append(item.label[keep])
        segments.append(segment[keep])
    return signals, np.concatenate(labels), np.concatenate(segments)


def fingerprints(signal: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """(n,) uint64: equal for windows with equal content; a polynomial hash modulo 2^64.

    signal: (channels, samples) float32. starts: ascending. Some windows at a time: the hash of every sample of a week
    of recordings would take more memory than these.
    """
    multipliers = np.random.Generator(np.random.PCG64(0)).integers(1, 1 << 63, size=len(signal), dtype=np.uint64)
    powers = np.cumprod(np.full(length, 0x9E3779B97F4A7C15, dtype=np.uint64), dtype=np.uint64)
    found = np.empty(len(starts), dtype=np.uint64)
    for first in range(0, len(starts), WINDOWS_AT_ONCE):
        some = starts[first : first + WINDOWS_AT_ONCE]
        sample = np.zeros(some[-1] + length - some[0], dtype=np.uint64)
        for series, multiplier in zip(signal[:, some[0] : some[-1] + length], multipliers, strict=True):
            bits = (series + np.float32(0.0)).view(np.uint32)
            sample += (bits + np.uint64(1)) * multiplier
        sample ^= sample >> np.uint64(29)
        views = np.lib.stride_tricks.sliding_window_view(sample, length)
        found[first : first + len(some)] = views[some - some[0]] @ powers
    return found


def _without_duplicates(
    content: dict[str, np.ndarray], length: int, subjects: list[str], report: Report, dataset: str
) -> dict[str, np.ndarray]:
    """The content without windows that repeat one of the same subject (counted); raises SpkdError across subjects.

    Windows in which no channel moves are alike by nature (a sensor at rest or unplugged): noted, never removed.
    """
    signal, starts, subject = content["signal"], content["starts"], content["subject"]
    _, first, inverse = np.unique(fingerprints(signal, starts, length), return_index=True, return_inverse=True)
    original = first[inverse]
    views = np.lib.stride_tricks.sliding_window_view(signal, length, axis=1)
    keep = np.ones(len(starts), dtype=bool)
    n_still = 0
    for row in np.flatnonzero(original != np.arange(len(starts))):
        window, twin = views[:, starts[row]], views[:, starts[original[row]]]
        if not np.array_equal(window, twin):
            continue
        if (window == window[:, :1]).all():
            n_still += 1
            continue
        here, there = (f"subject {subjects[subject[r]]}, sample {starts[r]}" for r in (row, original[row]))
        if subject[row] != subject[original[row]]:
            do = "remove the copied recording: a person must not be in two places of a split"
            raise SpkdError(f"windows of {dataset}", "every window once", f"the same window at {here} and {there}", do)
        report.drop("duplicate window", f"{here} repeats {there}")
        keep[row] = False
    if n_still:
        report.notes["equal_windows_without_motion"] = n_still
    return {name: array if name == "signal" else array[keep] for name, array in content.items()}
