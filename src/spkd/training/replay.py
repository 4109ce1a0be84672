"""A function of tensors as a CUDA graph: on a GPU its kernels are recorded once, and from then on started by one call.

Contract: a replayed call runs the kernels of a plain one on the same memory, so it gives the same bits. A training step
of a small network is some 300 kernels, which a GPU ends several times as fast as Python starts them.
Source: PyTorch, "CUDA semantics", section "CUDA Graphs".
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Plain calls before a function is recorded: they make what is made once, as momenta and the libraries' workspaces.
PLAIN_CALLS = 3


class Replay:
    """Calls `function(*tensors)`, which may read and write those tensors and such as stay where they are.

    wanted: whether a graph is wanted: on a GPU, where no number leaves it within the function. What cannot be recorded
    all the same is called plainly, and said; so is what is called in the GPU's default stream. A graph takes tensors of
    the shapes that came most often before it; others, as the last short batch of an epoch, are for plain calls. What a
    replayed call returns is overwritten by the next one.
    """

    def __init__(self, function: Callable[..., Any], wanted: bool, title: str) -> None:
        self.function, self.wanted, self.title = function, wanted, title
        self.shapes: tuple[torch.Size, ...] = ()
        self.calls: Counter[tuple[torch.Size, ...]] = Counter()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.result: Any = None

    def __call__(self, *given: Tensor) -> Any:
        """What the function returns."""
        shapes = tuple(tensor.shape for tensor in given)
        if not self.wanted or (self.graph is not None and shapes != self.shapes):
            return self.function(*given)
        if self.graph is None:
            self.calls[shapes] += 1
            if self.calls[shapes] <= PLAIN_CALLS or not self._recorded(given):
                return self.function(*given)
            self.shapes = shapes
        assert self.graph is not None
        for own, new in zip(self.inputs, given, strict=True):
            own.copy_(new)
        self.graph.replay()
        return self.result

    def _recorded(self, given: tuple[Tensor, ...]) -> bool:
        """Record the function for tensors like these; recording runs no kernel. Whether that was possible."""
        self.inputs = [tensor.clone() for tensor in given]
        try:
            graph = torch.cuda.CUDAGraph()
            # Other threads, as the one that sends reports, may use the GPU meanwhile.
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
                self.result = self.function(*self.inputs)
        except RuntimeError as error:
            self.wanted, self.inputs = False, []
            print(f"{self.title}: no CUDA graph, kernels start one by one: {str(error).splitlines()[0]}", flush=True)
            return False
        self.graph = graph
        return True
