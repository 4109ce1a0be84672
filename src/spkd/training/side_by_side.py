"""Several runs at once on one device: each takes a step in turn, and on a GPU their steps overlap.

Contract: every run gets, to the bit, what `loop.fit` alone gives it: the same steps, checkpoint (the same file, so
either may finish what the other began) and calls of on_epoch. What fails in one run stays in it. Runs may differ in
everything but the settings of training. A step of a small network leaves most of a GPU idle; on a CPU, where it does
not, processes are faster. After an epoch, which ends for all at about the same time, a run takes a head start: the GPU
works on its steps while the others' epochs are evaluated and written, one after the other, by the one processor.
"""

import contextlib
from collections.abc import Sequence

from spkd.errors import SpkdError
from spkd.settings import Train
from spkd.training.interrupt import stop_between_steps
from spkd.training.loop import Learner, Run
from spkd.training.progress import Progress
from spkd.training.state import State

MOST = 32  # runs: torch gives out so many streams in turn; the graphs of two runs in one would share cuBLAS' workspace
HEAD_START = 24  # steps: about what a GPU does while the epochs of 27 small students end


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
    done = sum(learner.n_done for learner in going.values())
    title = f"{len(runs)} side by side"
    with stop_between_steps() as stop, Progress(title, settings.epochs, n_windows, done) as progress:
        while going:
            for k, learner in list(going.items()):
                try:
                    if learner.open:
                        learner.advance(progress)
                    if learner.open and learner.state.step == 0:
                        ahead = min(HEAD_START, len(learner.batches) - 1)
                        while learner.state.step < ahead and not stop:
                            learner.advance(progress)
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
