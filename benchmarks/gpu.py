"""The same study on one GPU: recorded steps, students side by side, and the whole table of 27 runs.

As many windows as PAMAP2 has, 28,949 of 40 channels x 100 samples of nine subjects: 175 steps of 128 an epoch. Wall
clock, the GPU waited for. Beside a step stand its bounds, measured in the same call: arithmetic in float32, memory, and
how fast a GPU starts kernels that do nothing. Without a GPU it says so and ends.

    python benchmarks/gpu.py [epochs]                 epochs of the 27 runs: 200, as the table has; 0 leaves them out
    python benchmarks/gpu.py --only whole [epochs]    nothing but the 27 runs
    python benchmarks/gpu.py [...] --rehearse         a few windows on the CPU, to see that it runs; keeps nothing

The 27 runs are kept in gpu_table.json, anew after every tenth of their epochs, the rest in gpu.json, anew after each of
its parts. The runs are evaluated and write checkpoints, but tell MLflow nothing.
"""

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import _measure
import _study
import torch
from distillation import own_products, usual_loop
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from spkd import seeding
from spkd.losses import sp
from spkd.training import loop, step
from spkd.training.filling import PRODUCTS
from spkd.training.loop import Run
from spkd.training.remembered import RememberedTeacher, remember
from spkd.training.replay import Replay
from spkd.training.side_by_side import fit_many
from spkd.training.state import State
from spkd.training.teachers import Teacher

SUBJECTS, TRIALS, BATCH, EPOCHS = 9, 3, 128, 200
STUDENTS = SUBJECTS * TRIALS
GIB = 2**30


class Study:
    """The windows, and the teachers of one fold, on one device."""

    def __init__(self, device: str, n: int, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.seen = _study.device_windows(_study.windows(n), device)
        self.n = n = len(self.seen)
        self.rows = torch.arange(n * 7 // SUBJECTS // BATCH * BATCH, device=device)
        self.teacher = _study.teacher("signal", self.seen)
        self.signal, self.how = remember(self.teacher, self.rows, 512, 8 * GIB, folder, sp.Products)
        self.settings = _study.train(batch=BATCH)

    def clock(self) -> float:
        """Seconds, once the device has done all it was given."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def images(self, name: str) -> Teacher:
        """An image teacher's products of 48 real windows, repeated to be those of all."""
        few = _study.device_windows(_study.windows(48), self.device)
        all_ = torch.arange(48, device=self.device)
        real, _ = remember(_study.teacher(name, few), all_, 16, 8 * GIB, self.folder, sp.Products)
        assert isinstance(real, RememberedTeacher) and isinstance(self.signal, RememberedTeacher)
        index = torch.arange(len(self.rows), device=self.device) % 48
        kept = {k: a[index][:, index] if k == PRODUCTS else a[index] for k, a in real.answers.items()}
        real.answers, real.place = kept, self.signal.place
        return real

    def epoch(self, teachers: list, recorded: bool) -> Callable[[], None]:
        return _study.epoch(_study.task(self.seen, teachers, self.rows), self.settings, recorded)

    def steps(self, n: int) -> list[tuple[torch.cuda.Stream, Replay]]:
        """n students of the signal teacher that are ready to be replayed, each in a stream of its own."""
        made = []
        for k in range(n):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                task = _study.task(self.seen, [self.signal], self.rows)
                task.network.load_state_dict(_study.network(16, 1, 1, seed=k).state_dict())
                optimiser = loop.optimiser_of(task.network.parameters(), self.settings)
                sums: dict[str, torch.Tensor] = {}
                update = Replay(lambda r, t=task, o=optimiser, s=sums: step.train_step(t, o, s, r), True, f"{k}")
                for _ in range(5):
                    update(self.rows[:BATCH])
            made.append((stream, update))
        torch.cuda.synchronize()
        return made


def students(of: Study, repeats: int) -> list[dict]:
    """One student, alone and taught, recorded and not, beside the loops that people write."""
    gpu = of.device != "cpu"
    three = [of.signal, of.images("gaf"), of.images("persistence")]
    network = _study.plain(of.teacher.network).to(of.device)
    calls = {
        "alone": of.epoch([], gpu), "plain alone": of.epoch([], False), "one": of.epoch([of.signal], gpu),
        "plain one": of.epoch([of.signal], False), "three": of.epoch(three, gpu),
        "own maps": own_products(_study.task(of.seen, [], of.rows), of.settings, gpu),
        "usual alone": usual_loop(of.seen, of.rows, workers=2 if gpu else 0),
        "usual one": usual_loop(of.seen, of.rows, network, workers=2 if gpu else 0),
    }  # fmt: skip
    seconds = _measure.turns(calls, repeats, of.clock)
    for name, taken in seconds.items():
        print(f"  {name}: {sorted(taken)[len(taken) // 2] / (len(of.rows) // BATCH) * 1e3:.3f} ms a step", flush=True)
    loader, live = "DataLoader, 2 workers, plain layers", "DataLoader and a teacher's forward pass each step"
    return [
        _measure.faster("student's epoch", loader, seconds, "alone", "usual alone", 1.5),
        _measure.faster("epoch of SPKD", live, seconds, "one", "usual one", 4),
        _measure.dearer("epoch of three WRN28-3 teachers", "the student alone", seconds, "three", "alone", 1.15),
        _measure.dearer(
            "SP's maps of the student alone: the bound", "the student alone", seconds, "own maps", "alone", 1.15
        ),
        _measure.faster("student's epoch, recorded", "kernel by kernel", seconds, "alone", "plain alone", 1),
        _measure.faster("epoch of SPKD, recorded", "kernel by kernel", seconds, "one", "plain one", 1),
    ]


def filling(of: Study, repeats: int) -> list[dict]:
    """The signal teacher's answers for all training windows, beside nothing but its forward passes."""

    def forward(batch: int) -> None:
        with torch.no_grad():
            for part in torch.split(of.rows, batch):
                of.teacher.network(of.teacher.render(of.seen.batch(part), part))

    sizes = (512, 2048, 4096)
    calls: dict[str, Callable[[], object]] = {f"pass {b}": functools.partial(forward, b) for b in sizes}
    calls["fill"] = lambda: remember(of.teacher, of.rows, 512, 8 * GIB, of.folder, sp.Products)
    seconds = _measure.turns(calls, repeats, of.clock)
    best = min((k for k in calls if k != "fill"), key=lambda k: min(seconds[k]))
    what = f"filling the cache with features, signal teacher, {len(of.rows)} windows"
    size = {"best_batch": int(best.split()[1])}
    return [size | _measure.dearer(what, "one pass at its best batch", seconds, "fill", best, 1.1)]


def together(of: Study, repeats: int) -> list[dict]:
    """27 steps of as many students at once, beside the same steps one after the other."""
    ready, steps = of.steps(STUDENTS), 40
    plain = of.epoch([of.signal], False)
    per_step = len(of.rows) // BATCH

    def rounds(wait: bool) -> None:
        for _ in range(steps):
            for stream, update in ready:
                with torch.cuda.stream(stream):
                    update(of.rows[:BATCH])
                if wait:
                    stream.synchronize()

    calls = {"many": lambda: rounds(False), "turns": lambda: rounds(True), "plain": plain}
    seconds = _measure.turns(calls, repeats, of.clock)
    # As long as the 27 students' 40 steps.
    seconds["plain"] = [s / per_step * steps * STUDENTS for s in seconds["plain"]]
    each = sorted(seconds["many"])[repeats // 2] / steps / STUDENTS
    what = f"{STUDENTS} students of a signal teacher side by side"
    print(f"  {what}: {each * 1e3:.3f} ms a step of one, {BATCH / each:,.0f} windows/s", flush=True)
    return [
        _measure.faster(what, "one after the other, kernel by kernel", seconds, "many", "plain", 8),
        _measure.faster(what, "one after the other, recorded too", seconds, "many", "turns", 8),
        *bounds(of, each),
    ]


class Traffic(TorchDispatchMode):
    """Counts the bytes that operators read and write. Views move none; looking rows up reads as much as it writes."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view and "detach" not in str(func):
            looks_up = func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_select)
            flat = torch.utils._pytree.tree_leaves((out, out) if looks_up else (args, kwargs, out))
            self.total += sum(t.numel() * t.element_size() for t in flat if isinstance(t, torch.Tensor))
        return out


def bounds(of: Study, each: float) -> list[dict]:
    """What a step takes beside what it would take at the measured peak of arithmetic, memory, and starting kernels."""
    task = _study.task(of.seen, [of.signal], of.rows)
    optimiser = loop.optimiser_of(task.network.parameters(), of.settings)
    sums: dict[str, torch.Tensor] = {}
    with FlopCounterMode(display=False) as flops:
        step.train_step(task, optimiser, sums, of.rows[:BATCH])
    with Traffic() as traffic:
        step.train_step(task, optimiser, sums, of.rows[:BATCH])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step.train_step(task, optimiser, sums, of.rows[:BATCH])
        torch.cuda.synchronize()
    kernels = sum(e.device_type.name == "CUDA" for e in profile.events())
    square, big = torch.randn(8192, 8192, device=of.device), torch.empty(2**28, device=of.device)
    source, tiny = torch.randn_like(big), torch.zeros(1, device=of.device)

    def nothing() -> None:
        for _ in range(1000):
            tiny.add_(1)

    idle, stream = Replay(nothing, True, "tiny kernels"), torch.cuda.Stream()

    def replayed() -> None:
        with torch.cuda.stream(stream):
            for _ in range(5):
                idle()

    calls = {"arithmetic": lambda: square @ square, "memory": lambda: big.copy_(source), "kernels": replayed}
    found = {k: min(v) for k, v in _measure.turns(calls, 5, of.clock).items()}
    bound = {
        f"{flops.get_total_flops() / 1e9:.2f} GFLOP at the measured float32 peak": (
            flops.get_total_flops() / (2 * 8192**3) * found["arithmetic"]
        ),
        f"{traffic.total / 1e6:.0f} MB at the measured bandwidth": traffic.total / (2 * big.nbytes) * found["memory"],
    }
    if kernels:  # no profiler may count them where the driver reserves that for the administrator
        bound[f"{kernels} kernels that do nothing, in one stream"] = kernels / 5000 * found["kernels"]
    return [
        {
            "what": "a step, side by side, cost beside", "peer": name, "target": "-", "met": None,
            "ratio": _measure.ratio([each], [least]), "seconds": {"ours": [each], "bound": [least]},
        }
        for name, least in bound.items()
    ]  # fmt: skip


class Table:
    """Keeps the row of the whole table after every tenth of its epochs: a run that is killed leaves what it has."""

    def __init__(self, of: Study, n_runs: int, epochs: int, keep: Callable[[list[dict]], None]) -> None:
        self.of, self.epochs, self.keep = of, epochs, keep
        self.done, self.kept = [0] * n_runs, 0
        self.started, self.filled = of.clock(), 0.0

    def told(self, k: int, state: State) -> None:
        """The k-th run has ended an epoch."""
        self.done[k] = len(state.history)
        last = min(self.done)
        if self.kept + max(1, self.epochs // 10) <= last < self.epochs:
            self.kept = last
            self.keep([self.row(last, time.perf_counter() - self.started)])

    def row(self, done: int, seconds: float) -> dict:
        """What so many epochs of all runs took, beside their share of ten minutes, which all of them alone can meet."""
        so_far = f"{self.epochs} epochs" if done == self.epochs else f"the first {done} of {self.epochs} epochs"
        what = (
            f"{len(self.done)} students of PAMAP2's {self.of.n} windows, {so_far}, with evaluation and checkpoints, "
            f"without tracking, teachers' answers ({self.filled:.1f} s) included, {seconds:.0f} s"
        )
        goal = 600.0 * done / EPOCHS
        peer = f"{goal:.0f} s ({EPOCHS} epochs in 10 minutes)"
        row = _measure.dearer(what, peer, {"a": [seconds], "b": [goal]}, "a", "b", 1)
        return row if done == self.epochs else {**row, "met": None}


def whole(of: Study, epochs: int, trials: int, keep: Callable[[list[dict]], None]) -> None:
    """Nine folds of students, three seeds each, of a signal teacher of the fold; evaluated and kept every epoch."""
    table = Table(of, SUBJECTS * trials, epochs, keep)
    subject = torch.arange(of.n, device=of.device) * SUBJECTS // of.n
    runs: list[Run] = []
    for fold in range(SUBJECTS):
        test, validation = subject == fold, subject == (fold + 1) % SUBJECTS
        rows = torch.nonzero(~test & ~validation).squeeze(1)
        live = _study.teacher("signal", of.seen)
        teacher, _ = remember(live, rows, 512, 8 * GIB, of.folder / f"{fold}", sp.Products)
        for trial in range(trials):
            task = _study.task(of.seen, [teacher], rows)
            task = replace(task, validation=torch.nonzero(validation).squeeze(1), test=torch.nonzero(test).squeeze(1))
            task.network.load_state_dict(_study.network(16, 1, 1, seed=trial).state_dict())
            told = functools.partial(table.told, len(runs))
            runs.append(Run(task, trial, of.folder / f"c{fold}-{trial}", "key", told))
    table.filled = of.clock() - table.started
    ends = fit_many(runs, _study.train(batch=BATCH, epochs=epochs))
    seconds = of.clock() - table.started
    assert all(isinstance(end, State) and len(end.history) == epochs for end in ends)
    peak = torch.cuda.max_memory_allocated() / GIB if of.device != "cpu" else 0
    print(f"  {len(runs)} students: up to {peak:.1f} GiB", flush=True)
    keep([table.row(epochs, seconds)])


def main(words: list[str]) -> None:
    rehearse, only = "--rehearse" in words, "--only" in words
    if only and words[words.index("--only") + 1 :][:1] != ["whole"]:
        raise SystemExit("gpu.py: --only takes one word, whole")
    epochs = next((int(word) for word in words if word.isdigit()), 2 if rehearse else EPOCHS)
    if not rehearse and not torch.cuda.is_available():
        print("gpu.py: no GPU here; nothing was measured (--rehearse runs it on the CPU)")
        return
    seeding.set_flags(deterministic=True, tf32=False, threads=1 if rehearse else 4)
    with tempfile.TemporaryDirectory() as place:
        of = Study("cpu" if rehearse else "cuda", 360 if rehearse else _study.PAMAP2_WINDOWS, Path(place))
        print("signal teacher answers", of.how, flush=True)
        keep = keep_nothing if rehearse else keep_on_gpu
        rows: list[dict] = []
        for part in () if only else (students, filling) if rehearse else (students, filling, together):
            rows += part(of, 1 if rehearse else 3)
            keep("gpu", rows)
        if epochs:
            whole(of, epochs, 1 if rehearse else TRIALS, functools.partial(keep, "gpu_table"))


def keep_nothing(name: str, rows: list[dict]) -> None:
    """Of a rehearsal, the rows are printed."""
    _measure.show(rows)


def keep_on_gpu(name: str, rows: list[dict]) -> None:
    device = torch.cuda.get_device_name()
    _measure.keep(name, rows, ("torch",), f"{device}, CUDA {torch.version.cuda}; wall clock", device)


if __name__ == "__main__":
    main(sys.argv[1:])
