"""What every benchmark shares: turns in one process, the ratio with its spread, the record in results/benchmarks/.

Seconds are of this process's CPU on one thread where nothing is said: other work on the machine then counts little.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "benchmarks"
VERDICT = {True: ": met", False: ": NOT met", None: ""}


def turns(
    what: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of every call, {name: [repeats]}: a round without measuring, then all in turn, round after round."""
    for call in what.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(repeats):
        for name, call in what.items():
            started = clock()
            call()
            seconds[name].append(clock() - started)
    return seconds


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Ratio of the medians, and the spread of the rounds' own ratios."""
    rounds = [a / b for a, b in zip(above, below, strict=True)]
    spread = statistics.stdev(rounds) if len(rounds) > 1 else 0.0
    middle = statistics.median(above) / statistics.median(below)
    return {"ratio": middle, "sd": spread, "min": min(rounds), "max": max(rounds), "n": len(rounds)}


def machine() -> dict[str, object]:
    """Processor, cores, system, and how busy the machine was (load of the last minute)."""
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    return {
        "cpu": cpu.partition(": ")[2] or platform.processor(), "cores": os.cpu_count(),
        "system": platform.system(), "load": os.getloadavg()[0],
    }  # fmt: skip


def keep(name: str, rows: list[dict[str, object]], packages: tuple[str, ...], notes: str = "") -> None:
    """Print every row and write results/benchmarks/<name>.json.

    A row has what, peer, ratio (as `ratio` gives it), target as text, and met.
    """
    versions = {"python": platform.python_version()} | {p: version(p) for p in packages}
    made = {"command": f"python benchmarks/{name}.py", "machine": machine(), "versions": versions, "notes": notes}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**made, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        found = row["ratio"]
        print(
            f"{row['what']} / {row['peer']}: {found['ratio']:.2f} (sd {found['sd']:.2f}, {found['min']:.2f} to "
            f"{found['max']:.2f}, n={found['n']}); target {row['target']}{VERDICT[row['met']]}"
        )
    print(f"  {machine()['cores']} cores of {machine()['cpu']}, {versions}", flush=True)


def faster(what: str, peer: str, seconds: dict[str, list[float]], ours: str, theirs: str, at_least: float) -> dict:
    """A row: how many times faster ours is than theirs."""
    found = ratio(seconds[theirs], seconds[ours])
    times = {"ours": seconds[ours], "theirs": seconds[theirs]}
    return {
        "what": f"{what}, times faster than", "peer": peer, "ratio": found, "target": f">= {at_least:g}x",
        "met": found["ratio"] >= at_least, "seconds": times,
    }  # fmt: skip


def dearer(what: str, bound: str, seconds: dict[str, list[float]], ours: str, base: str, at_most: float) -> dict:
    """A row: what ours costs beside a bound."""
    found = ratio(seconds[ours], seconds[base])
    times = {"ours": seconds[ours], "bound": seconds[base]}
    return {
        "what": f"{what}, cost beside", "peer": bound, "ratio": found, "target": f"<= {at_most:g}x",
        "met": found["ratio"] <= at_most, "seconds": times,
    }  # fmt: skip
