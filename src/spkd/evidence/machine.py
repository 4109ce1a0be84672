"""The machine's devices by name; says on which one a command works: a GPU that is not used must not go unnoticed."""

import platform
from pathlib import Path

import torch


def line(device: object, wanted: str) -> str:
    """The device in one line, with the GPUs' names, or with the reason why `auto` took the CPU.

    device: cpu, cuda, cuda:<index>, or the indices of GPUs as ultralytics has them: 0 or 0,1. wanted: the setting.
    """
    name = str(device)
    if name == "cpu":
        blind = "sees no GPU" if torch.version.cuda else "is built without CUDA"
        return f"device: cpu (auto: torch {torch.__version__} {blind})" if wanted == "auto" else "device: cpu"
    indices = [int(index) for index in name.removeprefix("cuda").removeprefix(":").split(",") if index]
    names = [torch.cuda.get_device_name(index) for index in indices or [torch.cuda.current_device()]]
    return f"device: cuda{':' if indices else ''}{','.join(map(str, indices))} ({', '.join(names)})"


def chip(device: torch.device) -> str:
    """What computes on the device: the processor's or the GPU's name. Another one rounds otherwise."""
    return processor() if device.type == "cpu" else str(torch.cuda.get_device_name(device))


def processor() -> str:
    """The processor's name, by Linux where it tells, and the vector instructions that torch uses on it.

    A virtual machine may hide some of them, and ATEN_CPU_CAPABILITY does: others round otherwise.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = named[0] if named else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"
