"""Which source files decide a run's numbers, and one hash of them. Reads files as text, imports none.

Comments, docstrings and layout do not count: the hash is of the syntax trees. Machinery that only reports (evidence/,
record, run_report, cost, progress, meter), finds out what memory there is, reads settings or writes files is left out:
it changes no number.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spkd import atomic, plugin
from spkd.errors import SpkdError
from spkd.experiment.table import words

ROOT = plugin.PACKAGE
ROOTS = (
    "experiment/har.py", "experiment/side_by_side.py", "experiment/outcome.py", "training/weights.py", "seeding.py",
)  # fmt: skip
REPORTING = (
    "evidence/", "experiment/record.py", "experiment/run_report.py", "experiment/source.py", "training/cost.py",
    "meter.py", "training/progress.py", "memory.py", "atomic.py", "config.py", "settings.py", "plugin.py", "errors.py",
)  # fmt: skip
NOTE = "code.json"
WINDOWS = "the windows"
SHELVES = ("views", "models", "losses", "weightings")


def used(
    relevant: dict[str, Any], networks: dict[str, dict[str, Any]], root: Path = ROOT, more: Iterable[str] = ()
) -> list[Path]:
    """The files behind one run, sorted. relevant: its settings. networks: the section of params.yaml. more: names of
    further parts, those of a teacher that the settings name by its run.

    A part of a shelf counts where its name stands in the settings, or in those of a teacher's network, or where a loss
    makes it of the student (STUDENT).
    """
    named = words(relevant) | {"cross_entropy", *more}
    named |= {str(network["model"]) for name, network in networks.items() if name in named}
    remade = [plugin.describe("losses", name)[1].get("STUDENT") for name in named & set(plugin.names("losses"))]
    named |= {str(model) for model in remade if model}
    parts = [root / shelf / f"{name}.py" for shelf in SHELVES for name in named]
    return closure([root / name for name in ROOTS] + [p for p in parts if p.is_file()], root)


def closure(start: list[Path], root: Path = ROOT) -> list[Path]:
    """The files that these import, themselves included, without those that only report; sorted."""
    seen: set[Path] = set()
    todo = set(start)
    while todo:
        file = todo.pop()
        seen.add(file)
        imports = _imports(file, root, file.stat().st_mtime_ns)
        todo |= {f for f in imports if not str(f.relative_to(root)).startswith(REPORTING)} - seen
    return sorted(seen)


@functools.cache
def _imports(file: Path, root: Path, changed_ns: int) -> frozenset[Path]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    names = [m.split(".")[1:] for m in modules if m.split(".")[0] == "spkd"]
    paths = [root.joinpath(*name).with_suffix(".py") for name in names if name]
    return frozenset(path for path in paths if path.is_file())


@functools.cache
def _file_hash(path: Path, changed_ns: int) -> str:
    """changed_ns: the file's time of change, so that the cache forgets an edited file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def hashes(files: list[Path], root: Path = ROOT) -> dict[str, str]:
    """{file: hash of its code, comments and docstrings aside}."""
    return {str(f.relative_to(root)): _file_hash(f, f.stat().st_mtime_ns) for f in files}


def code_digest(files: list[Path], root: Path = ROOT) -> str:
    """16 hex digits over the code of the files, comments and docstrings aside."""
    return digest(hashes(files, root))


def digest(code: Mapping[str, str]) -> str:
    """16 hex digits over what `hashes` returned."""
    lines = [f"{name} {one}" for name, one in code.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def require_expected(where: object, expected: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise SpkdError where windows or code are others than a table began with: its cell would bear a wrong name.

    Both: hashes by file, and that of WINDOWS. expected: those that matter.
    """
    if changed_names := sorted(name for name, one in expected.items() if now.get(name) != one):
        do = "start the table again: it finds the cells of these; or bring those back"
        got = f"changes in {', '.join(changed_names)}"
        raise SpkdError(where, "windows and code as when the table began", got, do)


def require_same(folder: Path, code: dict[str, str]) -> None:
    """Raise SpkdError where an unfinished run in the folder was begun by other code; `write_down` says by which."""
    if files := changed(folder, code):
        do = "bring that code back to go on, or delete the folder to begin anew"
        raise SpkdError(folder, "the code that began this unfinished run", f"changes in {', '.join(files)}", do)


def changed(folder: Path, code: dict[str, str]) -> list[str]:
    """The files that differ from those that `write_down` noted in the folder; none where it noted nothing."""
    note = folder / NOTE
    before = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else code
    return sorted(name for name in {*before, *code} if before.get(name) != code.get(name))


def write_down(folder: Path, code: dict[str, str]) -> None:
    """Note in a run's folder which code trains it."""
    atomic.write_text(folder / NOTE, json.dumps(code))
