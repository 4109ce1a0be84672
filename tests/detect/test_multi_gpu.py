"""Two workers on the CPU as for two GPUs: the trainer's class travels as ultralytics sends it, over gloo."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from spkd.detect import spkd_trainer, yolo
from spkd.detect.plan import Plan
from spkd.errors import SpkdError
from spkd.evidence import outbox

SOURCE = Path(__file__).parents[2] / "src"
WORKER = """
import sys
sys.path = {path!r}
import torch
from torch import distributed as dist
from torch.nn import parallel
from ultralytics.utils import DEFAULT_CFG_DICT, RANK
from ultralytics.utils.patches import torch_load
from ultralytics.utils.torch_utils import unwrap_model


class OnCpu(parallel.DistributedDataParallel):
    def __init__(self, module, device_ids=None, **settings):
        super().__init__(module, **settings)


parallel.DistributedDataParallel = OnCpu
state = torch_load({state!r}, map_location="cpu")


class Trainer(state["trainer"]):
    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.world_size = 2

    def _setup_ddp(self):
        dist.init_process_group("gloo", rank=RANK, world_size=2)


trainer = Trainer(cfg=DEFAULT_CFG_DICT | {{"save_dir": ""}}, overrides=state["args"], _callbacks=state["callbacks"])
flags = f"{{torch.backends.cudnn.allow_tf32}} {{torch.get_deterministic_debug_mode()}}"
trainer.model = state["model"]
trainer.train()
from spkd.evidence.provenance import state_sha256

model = unwrap_model(trainer.model)
weights = {{k: v for k, v in model.named_parameters()}}
print(f"\\nrank {{RANK}} {{type(model.criterion).__name__}} {{state_sha256(weights)}} {{flags}}", flush=True)
dist.destroy_process_group()
"""


Launch = Callable[[int], subprocess.Popen[str]]


@pytest.fixture
def launch(tiny_set: Path, tiny_yaml: Path, tiny_teacher: Path, tmp_path: Path) -> Launch:
    """launch(epochs) -> torchrun of two workers that train in the folder train, as ultralytics starts it."""
    import cloudpickle
    from ultralytics.utils.patches import torch_save

    def start(epochs: int) -> subprocess.Popen[str]:
        plan = Plan("sp", str(tiny_teacher), ("P3", "P4", "P5"), "object", 20.0, 64, 1, 4, 8, 1, False)
        arguments = {
            "model": str(tiny_yaml), "data": str(tiny_set), "epochs": epochs, "batch": 4, "imgsz": 64, "device": "cpu",
            "nbs": 4, "save_dir": str(tmp_path / "train"), "exist_ok": True, "plots": False, "verbose": False,
            "warmup_epochs": 0.0, "workers": 0,
        }  # fmt: skip
        trainer = spkd_trainer.planned(plan)(overrides=arguments)
        # what ultralytics.utils.dist.generate_ddp_file writes for its workers
        state = {"trainer": type(trainer), "args": vars(trainer.args), "model": trainer.model, "callbacks": {}}
        torch_save(state, tmp_path / "state.pt", pickle_module=cloudpickle)
        worker = tmp_path / "worker.py"
        worker.write_text(WORKER.format(path=[str(SOURCE), *sys.path], state=str(tmp_path / "state.pt")))
        words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", str(worker)]
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_two_workers_distil_and_end_with_the_same_weights(launch: Launch, tmp_path: Path) -> None:
    done, folder = launch(1), tmp_path / "train"
    said, complaints = done.communicate()
    assert done.returncode == 0, complaints[-3000:]
    ranks = sorted(line.split() for line in said.splitlines() if line.startswith("rank "))
    assert [r[:3] for r in ranks] == [["rank", "0", "SpCriterion"], ["rank", "1", "SpCriterion"]]
    assert ranks[0][3] == ranks[1][3]
    assert ranks[0][4:] == ranks[1][4:] == ["False", "1"]  # a new process has TF32 in cuDNN, and no such mode
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    assert len(lines) == 1 and lines[0]["values"]["train/sp_loss"] > 0
    assert (folder / "trained").is_file() and (folder / "maps/00001.npz").is_file()


def test_no_worker_goes_on_where_torchrun_was_killed(launch: Launch, tmp_path: Path) -> None:
    torchrun, until = launch(10_000), time.monotonic() + 120
    left = []
    try:
        while not (tmp_path / "train/epochs.jsonl").is_file():
            assert torchrun.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        left = [
            child for child in psutil.Process(torchrun.pid).children() if str(tmp_path) in " ".join(child.cmdline())
        ]
        assert len(left) == 2
        torchrun.kill()  # as subprocess.run of ultralytics does at SIGTERM
        _, left = psutil.wait_procs(left, timeout=15)
        assert not left
    finally:
        torchrun.kill()
        for worker in left:
            worker.kill()
        torchrun.communicate()


def test_a_worker_ends_where_its_command_was_killed() -> None:
    command = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    here = outbox.this_process() | {"pid": command.pid, "started_s": psutil.Process(command.pid).create_time()}
    code = f"from spkd.detect import workers; workers.end_with({here!r}); print(1, flush=True); workers.time.sleep(60)"
    worker = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)}
    )
    assert worker.stdout and worker.stdout.readline() == "1\n" and worker.poll() is None
    command.kill()
    try:
        assert worker.wait(15) == 1
    finally:
        worker.kill()
        worker.communicate()
        command.wait()


def test_a_failed_worker_is_a_message_that_says_where_its_own_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        ddp = True

        def train(self) -> None:
            raise subprocess.CalledProcessError(1, ["torchrun"])

    job: Any = SimpleNamespace(train_folder=tmp_path, plan=None, device="0,1", overrides=dict)
    monkeypatch.setattr(spkd_trainer, "planned", lambda plan: lambda overrides: Failing())
    follower: Any = SimpleNamespace(drain=lambda: None)
    with pytest.raises(SpkdError, match="workers on GPUs 0,1 .* first of them that failed is above; mend"):
        yolo._train(job, follower)
