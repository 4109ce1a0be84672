"""Parts are found by their file: `views.gaf` in params.yaml IS views/gaf.py. There is no registry to edit.

Reads a file's docstring and constants without importing it, so that help and completion stay quick.
"""

import ast
import contextlib
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from spkd.errors import SpkdError

PACKAGE = Path(__file__).parent
# What a file of a shelf must hold (docs/adding-a-part.md); {name}: a function that is called like the file.
HOLDS = {
    "datasets": ("Settings", "read"),
    "views": ("DIMS", "Settings", "view"),
    "models": ("Settings", "build"),
    "losses": ("SEES", "Settings", "{name}"),
    "weightings": ("MIXES", "Settings"),
}


def names(shelf: str) -> list[str]:
    """Sorted names of the parts on a shelf: its files, without private ones."""
    return sorted(p.stem for p in (PACKAGE / shelf).glob("*.py") if not p.stem.startswith("_"))


def nearest(word: str, known: list[str]) -> str:
    """A phrase that names the closest of the known words, or all of them where none is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def load(shelf: str, name: str) -> ModuleType:
    """The module of one part. Raises SpkdError where no such file exists, or where it lacks what its shelf asks for."""
    if name not in names(shelf):
        raise SpkdError(f"src/spkd/{shelf}/", f"a part called {name!r}", "no such file", nearest(name, names(shelf)))
    module = importlib.import_module(f"spkd.{shelf}.{name}")
    wanted = [one.format(name=name) for one in HOLDS.get(shelf, ())]
    wanted += ["PREPARED"] if shelf == "views" and hasattr(module, "prepare") else []
    if missing := [one for one in wanted if not hasattr(module, one)]:
        do = "write it there, as docs/adding-a-part.md says"
        raise SpkdError(f"src/spkd/{shelf}/{name}.py", ", ".join(wanted), f"no {' and no '.join(missing)}", do)
    return module


def require_arguments(shelf: str, name: str, function: Callable[..., Any], keys: Iterable[str]) -> None:
    """Raise SpkdError where a part's function has no argument for a key of its Settings, which it is called with."""
    taken = inspect.signature(function).parameters
    if lost := [key for key in keys if key not in taken]:
        where, called = f"src/spkd/{shelf}/{name}.py", getattr(function, "__name__", "function")
        do = "an argument is called like its key: rename one of them"
        raise SpkdError(where, f"an argument of `{called}` for every key of Settings", f"none for {lost}", do)


def describe(shelf: str, name: str) -> tuple[str, dict[str, Any]]:
    """The first docstring line of a part and its literal module constants, read without importing it."""
    tree = ast.parse((PACKAGE / shelf / f"{name}.py").read_text(encoding="utf-8"))
    constants: dict[str, Any] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name) and node.value is not None:
            with contextlib.suppress(ValueError):
                constants[target.id] = ast.literal_eval(node.value)
    return (ast.get_docstring(tree) or "").split("\n", 1)[0], constants
