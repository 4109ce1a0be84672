"""Repeat a recorded run from its id or bundle file, and judge: identical, equivalent, different or inconclusive."""

import re
from pathlib import Path
from typing import Any

from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ("reproduce", "run.folder", "tracking.experiment")
POSITIONAL = {"run?": "a run's id, or its first digits (6 or more), or a .zip of `spkd export`; else reproduce.run_id"}
OPTIONS = {
    "build": "true = make the recorded environment, below runs/environments",
    "here": "true = use this environment, whatever was recorded",
    "trust": "true = run a bundle's own patch, and let its detection settings name files, addresses and weights",
    "device": "of the repeated run, where it is to be another than recorded: cpu, cuda, cuda:<index>",
    "threads": "CPU threads of the repeated run, where they are to be others than recorded",
}


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """Exit status 0: identical or equivalent, 1: different, 3: inconclusive."""
    from spkd.evidence import tracking
    from spkd.evidence.reproduction import judge
    from spkd.experiment import reproduce

    source = words[0] if words else settings.reproduce.run_id
    if source == "none":
        raise SpkdError("command line", "a run id or a bundle file", "none", "spkd reproduce <run id | file.zip>")
    tracking.sweep(Path(settings.run.folder))
    yes = {key: _is_true(key, options.get(key, "false")) for key in ("build", "here", "trust")}
    machine: dict[str, Any] = {"device": options["device"]} if "device" in options else {}
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", machine.get("device", "cpu")):
        raise SpkdError("--device", "cpu, cuda or cuda:<index>", repr(machine["device"]), "--device cpu")
    if "threads" in options:
        if not options["threads"].isdecimal():
            raise SpkdError("--threads", "a number of CPU threads", repr(options["threads"]), "--threads 1")
        machine["threads"] = int(options["threads"])
    verdict = reproduce.reproduce(
        source, Path.cwd(), settings, reproduce.Choices(**yes, machine=machine, check_teacher=check_teacher)
    )
    print(judge.markdown(verdict, f"reproduce {source}"))
    print(f"{verdict.status} (level {verdict.level}): {verdict.reason}", flush=True)
    return judge.EXIT_STATUS[verdict.status]


def _is_true(option: str, word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise SpkdError(f"--{option}", "true or false", repr(word), f"--{option} true, or leave it out")
    return word.lower() == "true"


def check_teacher(weights: Path) -> None:
    """Raise SpkdError where a detection teacher's weights describe more than layers of ultralytics."""
    from spkd.detect import networks

    networks.description(weights)
