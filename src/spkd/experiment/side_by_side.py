"""Several training runs side by side on one device, each from its plan to its finished MLflow run, as `har.train` does.

Contract: each run leaves what it leaves alone, to the bit, and can be continued alone; its failure is its own.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from spkd import memory
from spkd.errors import SpkdError
from spkd.experiment import har, plan
from spkd.experiment.har import Wanted
from spkd.settings import Settings
from spkd.training import cost
from spkd.training.loop import Run
from spkd.training.side_by_side import MOST, fit_many

# Of a GPU for one run, when cells are handed out: PAMAP2's 27 students then go to two workers of an H100 (79 GiB) at
# once, 14 and 13. How many a worker really trains together is decided by what their teachers' answers and steps leave.
RUN_BYTES = 11 * 2**28


def most(settings: Settings) -> int:
    """How many runs a worker of a table trains at once: `table.side_by_side`, or what suits the device."""
    chosen = settings.table
    if chosen.side_by_side:
        return min(MOST, chosen.side_by_side)
    if chosen.executor == "ray" or (device := plan.device(settings.run.device)).type == "cpu":
        return 1
    room = torch.cuda.get_device_properties(device).total_memory // (chosen.workers * RUN_BYTES)
    return min(MOST, max(1, room))


def train_many(wanted: Sequence[Wanted]) -> list[str | Exception]:
    """Train them all, at once as far as the device has memory; of each, in order, its run id, or why it failed.

    A failed run says so too. Raises SpkdError where they differ in `train`, or in anything of `run` but the seed.
    """
    _check(wanted)
    ends: dict[int, str | Exception] = {}
    while len(ends) < len(wanted):
        ends |= _at_once(wanted, [k for k in range(len(wanted)) if k not in ends])
        torch.cuda.empty_cache()
    return [ends[k] for k in range(len(wanted))]


def _at_once(wanted: Sequence[Wanted], waiting: Sequence[int]) -> dict[int, str | Exception]:
    """Train those of the waiting that fit the device together, at least one and at most MOST; how they ended."""
    settings = wanted[0].settings
    device, workers = plan.device(settings.run.device), settings.table.workers
    ends: dict[int, str | Exception] = {}
    shared = har.Shared()
    begins: list[int] = []
    steps: list[int] = []
    with contextlib.ExitStack() as everything:
        opened: dict[int, tuple[contextlib.ExitStack, har.Begun]] = {}
        for k in waiting:
            free = memory.free_bytes(device)
            if len(opened) == MOST or not fits(free, begins, steps, workers):
                break
            own = everything.enter_context(contextlib.ExitStack())
            try:
                opened[k] = own, own.enter_context(har.begun(wanted[k], shared))
            except Exception as error:  # this run has failed and says so; the others go on
                ends[k] = error.with_traceback(None)  # whose frames hold what lies on the device
                continue
            begins.append(free - memory.free_bytes(device))
            steps.append(cost.step_bytes(opened[k][1].task, settings.train))
        for _, begun in opened.values():
            begun.run.tags({"side_by_side": len(opened)})
        runs = [
            Run(b.task, wanted[k].settings.run.seed, b.checkpoint, b.key, b.callback) for k, (_, b) in opened.items()
        ]
        states = fit_many(runs, settings.train)
        for (k, (own, begun)), state in zip(opened.items(), states, strict=True):
            ends[k] = _ended(own, begun, state)
    return ends


def fits(free: int, begins: Sequence[int], steps: Sequence[int], workers: int) -> bool:
    """Whether a further run may begin beside others; the first one always may.

    free: bytes of the device. begins: what each run took of it before its first step (teachers' answers; of a fold,
    once). steps: what each run's steps will take. The next one is taken to need as much as the dearest, and each other
    worker of the table as much as this one for its steps.
    """
    return not begins or free >= max(begins) + workers * (sum(steps) + max(steps))


def _ended(own: contextlib.ExitStack, begun: har.Begun, state: Any) -> str | Exception:
    """Close one run, finished or failed."""
    try:
        with own:
            if isinstance(state, SpkdError):
                raise state
            begun.end(state)
    except Exception as error:  # as above
        return error.with_traceback(None)
    return begun.run.id


def _check(wanted: Sequence[Wanted]) -> None:
    for section, seed in (("train", {}), ("run", {"seed": 0})):
        found = [getattr(one.settings, section).model_copy(update=seed) for one in wanted]
        other = next((settings for settings in found if settings != found[0]), None)
        if other is not None:
            raise SpkdError(f"side by side: {section}", f"one setting for all: {found[0]}", other, "train them apart")
