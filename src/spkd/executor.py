"""Runs many jobs at a time: in processes of this machine, or on a Ray cluster. Knows nothing of what a job is.

Contract: a job is plain data for one importable function. Its outcome is its value, the error's text, or that its
process died; a death costs that job alone. No process outlives the command that started it.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from spkd.errors import SpkdError

Function = Callable[[dict[str, Any]], str]
GRACE_S, WATCH_S = 20.0, 0.5
STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Outcome:
    """How a job ended. text: what the function returned, the error, or how the process died."""

    key: str
    ended: Literal["done", "error", "died"]
    text: str


class Local:
    """Up to `workers` processes of this machine. Each runs job after job, so that libraries load once a process."""

    def __init__(self, function: Function, workers: int) -> None:
        self._function, self._workers = function, workers
        self._idle: list[tuple[BaseProcess, Connection]] = []
        self._busy: dict[str, tuple[BaseProcess, Connection]] = {}

    def free(self) -> bool:
        """Whether a job would start at once."""
        return len(self._busy) < self._workers

    def submit(self, key: str, job: dict[str, Any]) -> None:
        """Start a job, in a new process where no old one is idle."""
        process, pipe = self._idle.pop() if self._idle else self._start()
        self._busy[key] = process, pipe
        with contextlib.suppress(BrokenPipeError):  # it died meanwhile: collect() says so
            pipe.send(job)

    def collect(self, timeout_s: float) -> list[Outcome]:
        """The jobs that ended, waiting for the first at most this long."""
        ready = wait([pipe for _, pipe in self._busy.values()], timeout_s) if self._busy else []
        return [self._receive(key) for key, (_, pipe) in list(self._busy.items()) if pipe in ready]

    def close(self) -> None:
        """Ask the processes to stop (a job may write its checkpoint first), and end those that do not."""
        processes = [*self._idle, *self._busy.values()]
        for process, _ in self._busy.values():
            process.terminate()
        for _, pipe in processes:
            pipe.close()
        deadline = time.monotonic() + GRACE_S
        for process, _ in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._idle, self._busy = [], {}

    def _start(self) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._function, os.getpid()))
        process.start()
        theirs.close()
        return process, ours

    def _receive(self, key: str) -> Outcome:
        process, pipe = self._busy.pop(key)
        try:
            ended, text = pipe.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            code = process.exitcode or 0
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
            return Outcome(key, "died", f"its process ended {how}")
        self._idle.append((process, pipe))
        return Outcome(key, ended, text)


def _serve(pipe: Connection, function: Function, parent: int) -> None:
    """The life of a worker process: jobs until the pipe closes. Dies at once where its parent did."""
    for number in STOPS:
        signal.signal(number, _interrupt)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    try:
        while True:
            pipe.send(_attempt(function, pipe.recv()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        return


def _attempt(function: Function, job: dict[str, Any]) -> tuple[str, str]:
    try:
        return "done", function(job)
    except Exception as error:  # the parent decides what an error of a job means
        return "error", f"{type(error).__name__}: {' '.join(str(error).split())}"


def _interrupt(number: int, frame: object) -> None:
    for again in STOPS:  # Ctrl-C reaches every process, and close() asks once more: stop once, in peace
        signal.signal(again, signal.SIG_IGN)
    raise KeyboardInterrupt(f"signal {signal.Signals(number).name}")


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


class Ray:
    """Jobs as tasks of a Ray cluster: RAY_ADDRESS, or a small one on this machine. gpu_share: of a GPU, per job.

    The cluster's machines need this project, its data and its environment at the same path.
    """

    def __init__(self, function: Function, workers: int, gpu_share: float) -> None:
        try:
            import ray
        except ImportError:
            do = "pip install -r requirements-ray.in, or use table.executor local"
            raise SpkdError("table.executor", "the package ray", "not installed", do) from None
        self._ray, self._workers = ray, workers
        address = os.environ.get("RAY_ADDRESS")
        own: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
        passed = ("PYTHONPATH", "ATEN_", "OMP_", "MLFLOW_", "CUBLAS_", "MKL_", "DNNL_", "ONEDNN_")
        variables = {key: value for key, value in os.environ.items() if key.startswith(passed)}
        ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": variables}, **own)
        if gpu_share and not ray.cluster_resources().get("GPU"):
            ray.shutdown()
            do = "set table.gpu_share 0, or start Ray where there is a GPU"
            raise SpkdError("table.gpu_share", "0 on a cluster without a GPU", gpu_share, do)  # else each job waits
        self._task = ray.remote(num_cpus=1, num_gpus=gpu_share, max_retries=0)(_attempt)
        self._function = function
        self._busy: dict[Any, str] = {}

    def free(self) -> bool:
        """Whether fewer jobs than `workers` are with the cluster."""
        return len(self._busy) < self._workers

    def submit(self, key: str, job: dict[str, Any]) -> None:
        """Hand a job to the cluster."""
        self._busy[self._task.remote(self._function, job)] = key

    def collect(self, timeout_s: float) -> list[Outcome]:
        """The jobs that ended, waiting for the first at most this long."""
        if not self._busy:
            return []
        self._ray.wait(list(self._busy), timeout=timeout_s)
        ready, _ = self._ray.wait(list(self._busy), num_returns=len(self._busy), timeout=0)
        return [self._outcome(reference) for reference in ready]

    def close(self) -> None:
        """Cancel what still runs and leave the cluster."""
        for reference in self._busy:
            self._ray.cancel(reference)
        self._ray.shutdown()

    def _outcome(self, reference: Any) -> Outcome:
        key = self._busy.pop(reference)
        try:
            ended, text = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Outcome(key, "died", f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return Outcome(key, ended, text)


Executor = Local | Ray
"""Takes jobs while one is free, and gives back their outcomes."""


@contextlib.contextmanager
def opened(kind: str, function: Function, workers: int, gpu_share: float) -> Iterator[Executor]:
    """The executor of this kind, closed at the end however the block ends."""
    made = Local(function, workers) if kind == "local" else Ray(function, workers, gpu_share)
    try:
        yield made
    finally:
        made.close()
