"""What SPKD costs: CPU seconds of a training step (forward, loss, backward), arms in turns, one thread.

python results/spkd-for-yolo/cost.py WEIGHTS.pt [--imgsz 320] [--batch 8] [--rounds 7]

Student and teacher are YOLOv8n: the teacher costs one forward pass more. CPU time, not wall time:
it does not count what other programs do. Prints the ratio to the plain step.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG

from spkd.detect import hermetic, networks
from spkd.detect.criterion import SpCriterion
from spkd.detect.plan import Plan


def main() -> None:
    """Print a row for every arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    for name, value in (("--imgsz", 320), ("--batch", 8), ("--rounds", 7)):
        parser.add_argument(name, type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    hermetic.quiet()
    teacher = networks.load(given.weights).requires_grad_(False)
    made = torch.Generator().manual_seed(0)
    objects = 8 * given.batch
    batch = {
        "img": torch.rand(given.batch, 3, given.imgsz, given.imgsz, generator=made),
        "batch_idx": torch.arange(given.batch).repeat_interleave(8).float(),
        "cls": torch.zeros(objects, 1),
        "bboxes": torch.rand(objects, 4, generator=made) * 0.3 + 0.3,
    }
    arms = {}
    for arm in ("plain", "batch", "pooled", "object"):
        model = DetectionModel("yolov8n.yaml", verbose=False)
        model.args = DEFAULT_CFG
        if arm != "plain":
            plan = Plan("sp", "", ("P3", "P4", "P5"), arm, 1.0, 256, 1, 4, 8, 1, tf32=False)
            model.criterion = SpCriterion(model.init_criterion(), teacher, model.stride, plan)
        arms[arm] = model.train()
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(given.rounds + 1):
        for arm, model in arms.items():
            start = time.process_time()
            model(batch)[0].sum().backward()
            if turn:
                times[arm].append(time.process_time() - start)
    base = statistics.median(times["plain"])
    print(f"{given.imgsz} px, batch {given.batch}, {given.rounds} rounds, torch {torch.__version__}, one thread")
    for arm, measured in times.items():
        middle = statistics.median(measured)
        print(f"{arm:8} {middle:.3f} s ({min(measured):.3f}-{max(measured):.3f})  x {middle / base:.2f}")


if __name__ == "__main__":
    main()
