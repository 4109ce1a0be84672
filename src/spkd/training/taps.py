"""Named taps: the outputs of chosen submodules during a forward pass, without changing the model's code.

Contract: hooks exist only inside the `with` block, whatever happens in it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from spkd import plugin
from spkd.errors import SpkdError


@contextmanager
def taps(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """A dictionary that holds, after each forward pass, the output of every named submodule: {name: (b, ...)}.

    names: dotted submodule names such as "group1". Tensors keep their graph, and a later forward pass replaces them.
    A compiled model is tapped on the module it was made from; enter the block before its first forward pass, since
    hooks are compiled in. Raises SpkdError on an unknown name, on a submodule whose output is not a tensor, and on one
    whose output the network writes over before its pass ends, as an activation in place does.
    """
    original = getattr(model, "_orig_mod", model)
    modules = dict(original.named_modules())
    features: dict[str, Tensor] = {}
    versions: dict[str, int] = {}
    with ExitStack() as hooks:
        for name in names:
            if not name or name not in modules:
                known = [n for n, _ in original.named_children()]
                advice = plugin.nearest(name, [n for n in modules if n]) if name else plugin.nearest(name, known)
                raise SpkdError("distill.taps", f"a layer of {type(original).__name__}", repr(name), advice)
            hook = modules[name].register_forward_hook(_keep(name, features, versions))
            hooks.callback(hook.remove)
        yield features
        for name, version in versions.items():
            if features[name]._version != version:
                do = "tap the block or group that holds it"
                got = "one that the network then writes over in place"
                raise SpkdError(f"distill.taps: {name!r}", "a layer whose output stays as it is", got, do)


class _keep:
    """A forward hook that stores the output under one name, and how often its memory had been written by then."""

    def __init__(self, name: str, features: dict[str, Tensor], versions: dict[str, int]) -> None:
        self.name, self.features, self.versions = name, features, versions

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise SpkdError(f"tap {self.name!r}", "a layer that gives one tensor", type(output).__name__, "tap another")
        self.features[self.name] = output
        if not torch.compiler.is_compiling():
            self.versions[self.name] = output._version
