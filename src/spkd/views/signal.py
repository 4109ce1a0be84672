"""The window as it was recorded: the scaled signal itself."""

from collections.abc import Callable, Mapping

from torch import Tensor

from spkd.config import Section

DIMS = 1


class Settings(Section):
    """Nothing to set."""


def render(x: Tensor) -> Tensor:
    """x itself: (b, C, T) scaled windows, not copied."""
    return x


def view(settings: Settings, stored: Mapping[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of (x (b, C, T), rows (b,)) that gives (b, C, T). Nothing is stored."""
    return lambda x, rows: render(x)
