"""Named taps: the outputs of chosen submodules during a forward pass, without changing the model's code.

Contract: hooks exist only inside the `with` block, whatever happens in it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from spkd import plugin
from spkd.errors import SpkdError


@contextmanager
def taps(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """A dictionary that holds, after each forward pass, the output of every named submodule: {name: (b, ...)}.

    names: dotted submodule names such as "group1". Tensors keep their graph, and a later forward pass replaces them.
    A compiled model is tapped on the module it was made from; enter the block before its first forward pass, since
    hooks are compiled in. Raises SpkdError on an unknown name, and on a submodule whose output is not a tensor.
    """
    original = getattr(model, "_orig_mod", model)
    modules = dict(original.named_modules())
    features: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name in names:
            if not name or name not in modules:
                known = [n for n, _ in original.named_children()]
                advice = plugin.nearest(name, [n for n in modules if n]) if name else plugin.nearest(name, known)
                raise SpkdError("distill.taps", f"a layer of {type(original).__name__}", repr(name), advice)
            hook = modules[name].register_forward_hook(_keep(name, features))
            hooks.callback(hook.remove)
        yield features


class _keep:
    """A forward hook that stores the output under one name."""

    def __init__(self, name: str, features: dict[str, Tensor]) -> None:
        self.name, self.features = name, features

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise SpkdError(f"tap {self.name!r}", "a layer that gives one tensor", type(output).__name__, "tap another")
        self.features[self.name] = output
