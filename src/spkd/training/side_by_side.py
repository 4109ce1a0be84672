"""Several runs at once on one device: each takes a step in turn, and on a GPU their steps overlap.

Contract: every run gets, to the bit, what `loop.fit` alone gives it: the same steps, checkpoint (the same file, so
either may finish what the other began) and calls of on_epoch. What fails in one run stays in it. Runs may differ in
everything but the settings of training. A step of a small network leaves most of a GPU idle; on a CPU, where it does
not, processes are faster. Epochs end for all at about the same time: all evaluations are begun before the first is
waited for, and a run whose epoch is written takes a head start, so that the GPU works on its steps while the one
processor writes the others'.
"""

import contextlib
from collections.abc import Sequence

from spkd.errors import SpkdError
from spkd.settings import Train
from spkd.training.interrupt import Stop, stop_between_steps
from spkd.training.loop import Learner, Run, State
from spkd.training.progress import Progress

HEAD_START = 64  # steps: some five runs' then keep a GPU busy while the epochs of others end


def fit_many(runs: Sequence[Run], settings: Train) -> list[State | SpkdError]:
    """Train all runs as `loop.fit` would; for each, in order, its final state, or why it failed.

    Each goes on from its checkpoint where it has one, so that they may stand at different epochs.
    Raises KeyboardInterrupt after a signal (every checkpoint then holds the very step).
    """
    ends: dict[int, State | SpkdError] = {}
    going: dict[int, Learner] = {}
    for k, run in enumerate(runs):
        try:
            going[k] = Learner(run, settings)
        except SpkdError as error:
            ends[k] = error.with_traceback(None)  # whose frames hold tensors
    n_windows = sum(learner.n_windows for learner in going.values())
    done = min((learner.state.epoch for learner in going.values()), default=0)
    title = f"{len(runs)} side by side"
    with stop_between_steps() as stop, Progress(title, settings.epochs, n_windows, done) as progress:
        while going:
            for turn in (_step, _end_epoch):
                for k, learner in list(going.items()):
                    try:
                        if learner.open:
                            turn(learner, progress, stop)
                    except SpkdError as error:
                        ends[k] = error.with_traceback(None)
                    if not learner.open:
                        ends[k] = learner.state
                    if k in ends:
                        del going[k]
            if stop and going:
                for learner in going.values():
                    with contextlib.suppress(SpkdError):  # the last good checkpoint stays
                        learner.keep()
                first = min(learner.state.epoch for learner in going.values()) + 1
                raise KeyboardInterrupt(f"{stop.name}; the same command goes on from epoch {first}")
    return [ends[k] for k in range(len(runs))]


def _step(learner: Learner, progress: Progress, stop: Stop) -> None:
    learner.step(progress)
    if learner.at_end:
        learner.evaluate()


def _end_epoch(learner: Learner, progress: Progress, stop: Stop) -> None:
    if learner.at_end:
        learner.end_epoch(progress)
        while learner.open and learner.state.step < min(HEAD_START, len(learner.batches) - 1) and not stop:
            learner.step(progress)
