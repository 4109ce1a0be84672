"""The one training loop, for teachers, scratch students and students of any number of teachers.

Everything random derives from (seed, purpose), so a run that was killed and resumed ends with the same bits as one
that was not. The loop knows no files but its checkpoint, and no tracking: it calls `on_epoch`.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from spkd import memory, seeding
from spkd.data.batches import order
from spkd.errors import SpkdError
from spkd.settings import Train
from spkd.training.checkpoint import Saving
from spkd.training.interrupt import stop_between_steps
from spkd.training.metrics import scores
from spkd.training.progress import Progress
from spkd.training.replay import Replay
from spkd.training.schedule import learning_rate
from spkd.training.state import Epoch, State, best_epoch, restore, save, trained
from spkd.training.step import Task, dropping, judged, train_step

LOWER = "lower train.batch, train.eval_batch or train.teacher_cache_gib; in a table, table.side_by_side or workers"


def optimiser_of(learning: Iterable[torch.Tensor], settings: Train) -> torch.optim.SGD:
    """The optimiser of these parameters; fused: one kernel for all of them instead of four for each."""
    learning = list(learning)
    # On a GPU the rate is a tensor: a recorded step then follows the schedule.
    lr = torch.tensor(settings.lr, device=learning[0].device) if learning[0].is_cuda else settings.lr
    return torch.optim.SGD(learning, lr=lr, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True)


def sums_of(task: Task, state: State, path: Path) -> dict[str, float]:
    """The sums of this epoch as numbers, by one wait for the device. Raises SpkdError where a loss was not finite."""
    sums = dict(zip(state.sums, torch.stack(list(state.sums.values())).tolist(), strict=True)) if state.sums else {}
    step = int(sums.get("good_steps", state.step))
    if step < state.step:
        broken = ", ".join(n for n, v in sums.items() if not math.isfinite(v))
        where, do = f"{task.title}: epoch {state.epoch + 1}, step {step}", "lower train.lr or the weight of that term"
        raise SpkdError(where, "a finite loss", f"{broken} not finite", f"{do}; the last good weights are in {path}")
    return sums


def _refuse_broken(run: "Run", state: State, results: dict[str, dict[str, float]]) -> None:
    """Raise SpkdError where the network cannot be judged: the last step broke it, and no later one would show that."""
    if broken := [name for name, found in results.items() if not math.isfinite(found.get("loss", 0.0))]:
        where = f"{run.task.title}: epoch {state.epoch + 1}, step {state.step - 1}"
        do = f"lower train.lr; the last good weights are in {run.path}"
        raise SpkdError(where, "weights with a finite loss", f"not finite on {' and '.join(broken)} windows", do)


def batches_of(task: Task, settings: Train, seed: int, epoch: int) -> list[torch.Tensor]:
    """The training rows of every step of one epoch. Raises SpkdError where not one batch is full."""
    shuffled = order(task.train, seed, epoch)
    batches = list(torch.split(shuffled, settings.batch))
    short = len(batches[-1]) < (settings.batch if settings.last_batch == "drop" else 2)
    batches = batches[:-1] if short else batches
    if not batches:
        raise SpkdError("train.batch", f"at most {len(shuffled)} (training windows)", settings.batch, "lower it")
    return batches


def noise_of(task: Task, settings: Train, seed: int, state: State, n: int) -> list[torch.Tensor]:
    """[this step's noise for n windows, (n, C, T)]; empty without noise."""
    if settings.noise == 0:
        return []
    device = task.train.device
    generator = seeding.torch_stream(seed, "noise", state.epoch, state.step, device=device)
    shape = (n, len(task.windows.channels), task.windows.length)
    return [settings.noise * torch.randn(shape, generator=generator, device=device)]


def begin(
    task: Task, settings: Train, path: Path, key: str, on_epoch: Callable[[State], None]
) -> tuple[torch.optim.SGD, State]:
    """(optimiser, state) from the checkpoint at `path`, or a first one written there; arguments as of `fit`."""
    optimiser = optimiser_of(trained(task).values(), settings)
    if path.exists():
        return optimiser, restore(path, task, optimiser, key)
    state = State()
    on_epoch(state)
    save(path, task, optimiser, state, key).wait()
    return optimiser, state


@dataclass(frozen=True)
class Run:
    """A task with its seed, its checkpoint and the key of it, and who is told of its epochs: see `fit`."""

    task: Task
    seed: int
    path: Path
    key: str
    on_epoch: Callable[[State], None]


def fit(task: Task, settings: Train, seed: int, path: Path, key: str, on_epoch: Callable[[State], None]) -> State:
    """Train the task's network from its present weights, or from the checkpoint at `path`; returns the final state.

    key: identifies settings, data and teachers; a checkpoint with another key is refused.
    on_epoch: called before the first epoch (history empty) and after each; not called again for restored epochs.
    Raises SpkdError on a non-finite loss (the checkpoint keeps the last good weights), KeyboardInterrupt after a
    signal (the checkpoint then holds this very step).
    """
    learner = Learner(Run(task, seed, path, key, on_epoch), settings)
    bar = Progress(task.title, settings.epochs, learner.n_windows, learner.n_done)
    with stop_between_steps() as stop, bar as progress:
        while learner.open:
            learner.advance(progress)
            if stop and learner.open:
                learner.keep()
                raise KeyboardInterrupt(f"{stop.name}; the same command goes on from epoch {learner.state.epoch + 1}")
    return learner.state


class Learner:
    """One run on its way, a step at a time; on a GPU in a stream of its own, so that several share the device.

    state: where it stands. n_windows: trained on in an epoch. Raises SpkdError on a foreign checkpoint.
    """

    def __init__(self, run: Run, settings: Train) -> None:
        self.run, self.task, self.settings = run, run.task, settings
        device = run.task.train.device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(device))
        self.saving: Saving | None = None  # the last checkpoint; its disk is waited for when the next epoch ends
        with memory.enough(run.task.title, LOWER), self._in_order():
            self.optimiser, self.state = begin(run.task, settings, run.path, run.key, run.on_epoch)
            self._begin_epoch()
        self.n_windows = sum(len(rows) for rows in self.batches)
        graphs, title = settings.cuda_graphs and _stays_on_gpu(run.task), run.task.title
        optimiser, state = self.optimiser, self.state  # not self: a circle would keep the GPU's memory after the run
        self.update = Replay(lambda *x: train_step(run.task, optimiser, state.sums, *x), graphs, title)
        parts = [rows for rows in (run.task.validation, run.task.test) if len(rows)]
        self.truth = [run.task.windows.label[rows].cpu().numpy() for rows in parts]
        self.judge = Replay(lambda: [judged(run.task, rows, settings.eval_batch) for rows in parts], graphs, title)

    @property
    def n_done(self) -> int:
        """Windows trained on so far, over all epochs."""
        return self.state.epoch * self.n_windows + sum(len(rows) for rows in self.batches[: self.state.step])

    @property
    def open(self) -> bool:
        """Whether there is more to train."""
        return self.state.epoch < self.settings.epochs

    def advance(self, progress: Progress) -> None:
        """Take the next step; after the last one of an epoch evaluate, tell, save, and turn to the next epoch.

        Raises SpkdError where a loss of an epoch that ends was not finite, or the GPU's memory does not suffice.
        """
        with memory.enough(self.task.title, LOWER), self._in_order():
            if self.state.step < len(self.batches):
                rows, *later = self.batches[self.state.step : self.state.step + 2]
                self.task.windows.expect(*later)
                noise = noise_of(self.task, self.settings, self.run.seed, self.state, len(rows))
                seeding.set_global(rows.device, self.run.seed, "step", self.state.epoch, self.state.step)
                self.update(rows, *noise)
                self.state.step += 1
                progress.step(len(rows))
            if self.state.step == len(self.batches):
                self._end_epoch(progress)

    def keep(self) -> None:
        """Write the checkpoint at this very step.

        Raises SpkdError, and writes none, where a loss is not finite, or the GPU's memory does not suffice.
        """
        with memory.enough(self.task.title, LOWER), self._in_order():
            sums_of(self.task, self.state, self.run.path)
            self.state.seconds += time.monotonic() - self.since
            self._saved()
            self.saving = save(self.run.path, self.task, self.optimiser, self.state, self.run.key)
            self._saved()

    def _in_order(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def _begin_epoch(self) -> None:
        self.task.network.train()
        self.task.objective.parts.train()
        if self.open:
            self.lr = set_rate(self.optimiser, self.settings, self.state.epoch)
        self.batches = batches_of(self.task, self.settings, self.run.seed, self.state.epoch)
        self.since = time.monotonic()

    def _end_epoch(self, progress: Progress) -> None:
        state, run = self.state, self.run
        self._saved()
        sums = sums_of(run.task, state, run.path)
        state.seconds += time.monotonic() - self.since
        epoch = self._finished(sums)
        progress.epoch(epoch.number, epoch.losses["total"], epoch.validation.get("accuracy"), epoch.windows_per_s)
        run.on_epoch(state)
        if state.epoch % self.settings.checkpoint_every == 0 or not self.open:
            self.saving = save(run.path, run.task, self.optimiser, state, run.key)
        if self.open:
            self._begin_epoch()
            return
        self._saved()
        if self.stream is not None:
            self.stream.synchronize()

    def _saved(self) -> None:
        """Wait until the checkpoint that was begun last is on the disk; raises OSError where it does not get there."""
        if self.saving is not None:
            self.saving.wait()

    def _finished(self, sums: Mapping[str, float]) -> Epoch:
        """Evaluate the epoch, remember the weights if they are the best so far, and count the epoch as done."""
        task, state = self.task, self.state
        found = [
            {**asdict(scores(truth, predicted.cpu().numpy())), "loss": float(loss)}
            for truth, (predicted, loss) in zip(self.truth, self.judge(), strict=True)
        ]
        test, validation = found.pop(), found.pop() if found else {}
        _refuse_broken(self.run, state, {"validation": validation, "test": test})
        means = {name: value / self.n_windows for name, value in sums.items() if name != "good_steps"}
        accuracy, rate = means.pop("correct"), self.n_windows / max(state.seconds, 1e-9)
        epoch = Epoch(state.epoch + 1, self.lr, means, accuracy, validation, test, state.seconds, rate)
        state.history.append(epoch)
        if not validation or best_epoch(state.history, "validation") is epoch:
            state.chosen = {n: t.detach().clone() for n, t in task.network.state_dict().items()}
        state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
        for value in state.sums.values():
            value.zero_()
        return epoch


def _stays_on_gpu(task: Task) -> bool:
    """Whether a step needs nothing but what lies on the GPU: windows and teachers' answers included.

    Not what dropout draws: graphs of runs side by side would read the place in the random stream from one tensor.
    """
    on_gpu = task.train.is_cuda and task.windows.signal is not None and not dropping(task.network)
    return on_gpu and all(teacher.resident for teacher in task.teachers)


def set_rate(optimiser: torch.optim.SGD, settings: Train, epoch: int) -> float:
    """The learning rate of an epoch (counted from 0), which the optimiser has from now on."""
    lr = learning_rate(epoch, settings.epochs, settings.lr, settings.lr_final, settings.schedule)
    for group in optimiser.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
    return lr
