"""Parts are found by their file: `views.gaf` in params.yaml IS views/gaf.py. There is no registry to edit.

Reads a file's docstring and constants without importing it, so that help and completion stay quick.
"""

import ast
import difflib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from spkd.errors import SpkdError

PACKAGE = Path(__file__).parent


def names(shelf: str) -> list[str]:
    """Sorted names of the parts on a shelf: its files, without private ones."""
    return sorted(p.stem for p in (PACKAGE / shelf).glob("*.py") if not p.stem.startswith("_"))


def nearest(word: str, known: list[str]) -> str:
    """A phrase that names the closest of the known words, or all of them where none is close."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def load(shelf: str, name: str) -> ModuleType:
    """The module of one part. Raises SpkdError where no such file exists."""
    if name not in names(shelf):
        raise SpkdError(f"src/spkd/{shelf}/", f"a part called {name!r}", "no such file", nearest(name, names(shelf)))
    return importlib.import_module(f"spkd.{shelf}.{name}")


def describe(shelf: str, name: str) -> tuple[str, dict[str, Any]]:
    """The first docstring line of a part and its literal module constants, read without importing it."""
    tree = ast.parse((PACKAGE / shelf / f"{name}.py").read_text(encoding="utf-8"))
    constants: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return (ast.get_docstring(tree) or "").split("\n", 1)[0], constants
