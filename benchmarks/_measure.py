"""What every benchmark shares: turns in one process, the ratio with its spread, the record in results/benchmarks/.

Seconds are of this process's CPU on one thread where nothing is said: other work on the machine then counts little.
A record names the commit that the benchmark began with. Where the checkout has no git, SPKD_COMMIT may name it.
"""

import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "benchmarks"
WRITTEN = (":(exclude)results/benchmarks", ":(exclude)docs")  # by benchmarks: no change of what is measured
VERDICT = {True: ": met", False: ": NOT met", None: ""}


def code() -> dict[str, object]:
    """The commit of this checkout and the tracked files that differ from it; None each where git does not say."""
    if shutil.which("git") is None or (commit := _git("rev-parse", "HEAD")) is None:
        return {"commit": os.environ.get("SPKD_COMMIT"), "changed": None}
    changed = _git("diff", "--name-only", "HEAD", "--", ".", *WRITTEN)
    return {"commit": commit.strip(), "changed": None if changed is None else changed.split()}


def _git(*words: str) -> str | None:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout


# As it was when the benchmark began, minutes or hours before its record is written.
BEGAN = {"date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **code()}


def turns(
    what: Mapping[Key, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.process_time,
    before: Mapping[Key, Callable[[], object]] = MappingProxyType({}),
) -> dict[Key, list[float]]:  # fmt: skip
    """Seconds of every call, {name: [repeats]}: a round without measuring, then all in turn, round after round.

    before: what is done ahead of every measured call of that name, not measured itself.
    """
    for call in what.values():
        call()
    seconds: dict[Key, list[float]] = {name: [] for name in what}
    for _ in range(repeats):
        for name, call in what.items():
            if name in before:
                before[name]()
            started = clock()
            call()
            seconds[name].append(clock() - started)
    return seconds


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Ratio of the medians, and the spread of the rounds' own ratios."""
    rounds = [a / b for a, b in zip(above, below, strict=True)]
    return _spread(statistics.median(above) / statistics.median(below), rounds)


def _spread(middle: float, rounds: list[float]) -> dict[str, float]:
    spread = statistics.stdev(rounds) if len(rounds) > 1 else 0.0
    return {"ratio": middle, "sd": spread, "min": min(rounds), "max": max(rounds), "n": len(rounds)}


def machine() -> dict[str, object]:
    """Processor, cores, memory, system, and how busy the machine was (load of the last minute)."""
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    return {
        "cpu": cpu.partition(": ")[2] or platform.processor(), "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(), "load": os.getloadavg()[0],
    }  # fmt: skip


def keep(
    name: str, rows: list[dict[str, object]], packages: tuple[str, ...], notes: str = "", device: str = ""
) -> None:
    """Print every row and write results/benchmarks/<device>/<name>.json. device: what it ran on, if not the processor.

    A row has what, peer, ratio (as `ratio` gives it; with a unit it is the amount itself), target as text, and met; the
    tables of docs/ leave it out where shown is False. packages: all that decide a row, the peers' too.
    """
    versions = {"python": platform.python_version()} | {p: version(p) for p in packages}
    made = {"command": command(), **BEGAN, "machine": machine(), "versions": versions, "notes": notes}
    folder = RESULTS / slug(device or str(machine()["cpu"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**made, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    show(rows)
    print(f"  {machine()['cores']} cores of {machine()['cpu']}, {versions}", flush=True)


def slug(device: str) -> str:
    """A device's name as a folder's: `Intel(R) Xeon(R) Processor` is intel-xeon."""
    plain = re.sub(r"\(\w+\)|\bProcessor\b|\bCPU\b|@.*", " ", device)
    return "-".join(re.findall(r"[a-z0-9]+", plain.lower())) or "unknown"


def command() -> str:
    """The command that this process was started by, from the root of the project."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def show(rows: list[dict]) -> None:
    """Print every row with its smallest and its largest round."""
    for row in rows:
        least, most = row["ratio"]["min"], row["ratio"]["max"]
        rest = f"{least:.2f} to {most:.2f}; target {row['target']}{VERDICT[row['met']]}"
        print(f"{title(row)}: {figure(row)}, {rest}", flush=True)


def title(row: dict) -> str:
    """What a row is about."""
    return f"{row['what']} {row['peer']}".rstrip()


def figure(row: dict) -> str:
    """A row's figure with its spread: 9.77 (sd 1.57, n=3); with its unit where it is an amount."""
    found, unit = row["ratio"], f" {row['unit']}" if "unit" in row else ""
    spread = f"sd {found['sd']:.2f}, n={found['n']}" if found["n"] > 1 else "n=1"
    return f"{found['ratio']:.2f}{unit} ({spread})"


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


def amount(what: str, rounds: list[float], unit: str, at_most: float, beyond: str = "") -> dict:
    """A row: what something takes, in its own unit; or takes beyond a peer, which the rounds then say."""
    found = _spread(statistics.median(rounds), rounds)
    target = f"<= {at_most:g} {unit}" + (" beyond" if beyond else "")
    return {
        "what": f"{what}, beyond" if beyond else what, "peer": beyond, "ratio": found, "unit": unit, "target": target,
        "met": found["ratio"] <= at_most, "amounts": {"ours": rounds},
    }  # fmt: skip
