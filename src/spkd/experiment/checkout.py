"""The code, environment and data of a recorded run, brought back beside the project and removed afterwards.

Contract: the project's own working tree, data and environment stay as they are. What cannot be brought back is an error
that says what is missing and how to get it.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from spkd import raw_import
from spkd.errors import SpkdError
from spkd.evidence import lock_file
from spkd.evidence.working_tree import LONGEST_PATCH_BYTES, git

ENVIRONMENTS = "environments"


def require_commit(project: Path, commit: str) -> None:
    """Raise SpkdError where the repository does not have the commit."""
    if commit == "unknown":
        raise SpkdError(
            "commit", "a recorded commit", "none", "run again from a git checkout: this run cannot be repeated"
        )
    if git(project, "cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        cut = git(project, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"
        fetch = "git fetch --unshallow, since this clone was made with --depth" if cut else "git fetch --all"
        do = f"{fetch}, or run this in a clone that has it"
        raise SpkdError("commit", f"{commit} in {project}", "no such commit", do)


@contextmanager
def worktree(project: Path, commit: str, patch: Path | None, folder: Path) -> Iterator[Path]:
    """The recorded code in a git worktree at folder, with the patch of its working tree applied.

    Yields the project in it, which is a folder of the worktree where the project is one of a larger repository.
    Raises SpkdError where the patch does not apply.
    """
    made = git(project, "worktree", "add", "--detach", str(folder), commit)
    if made.returncode != 0:
        raise SpkdError("commit", f"a worktree of {commit}", made.stderr.strip(), "git worktree prune, then try again")
    try:
        if patch is not None:
            applied = git(folder, "apply", "--index", "--whitespace=nowarn", str(patch.absolute()))
            if applied.returncode != 0:
                cut = patch.stat().st_size >= LONGEST_PATCH_BYTES
                do = (
                    "the record kept only the first 1 MB of a larger change: "
                    if cut
                    else "this run cannot be repeated: "
                )
                got = " ".join(applied.stderr.split())[:300]
                raise SpkdError("commit", "a patch that applies to it", got, f"{do}commit before running")
        yield folder / git(project, "rev-parse", "--show-prefix").stdout.strip()
    finally:
        git(project, "worktree", "remove", "--force", str(folder))


def interpreter(lock: Path, environments: Path, build: bool, here: bool) -> Path:
    """The Python that runs the recorded code: this one where it has the locked versions, or one built from the lock.

    here: use this one in any case; the verdict then rests on first step, maps and results. build: allow an environment
    of its own, kept below `environments` for the next time. Raises SpkdError, with the size, where neither is allowed.
    """
    wrong = lock_file.differing(lock)
    if not wrong or here:
        if wrong:
            print(f"another environment than the recorded one: {'; '.join(wrong[:5])}", flush=True)
        return Path(sys.executable)
    target = environments / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    size = f"about {lock_file.installed_bytes(lock) / 1e9:.1f} GB at {target}"
    if not build and not (target / "installed").exists():
        do = f"--build true makes that environment ({size}); --here true runs in this one all the same"
        raise SpkdError("lock", "the locked versions installed", "; ".join(wrong[:3]), do)
    if not (target / "installed").exists():
        print(f"building the recorded environment: {size}", flush=True)
        do = "mend that and try again, or run in this environment with --here true"
        _run([sys.executable, "-m", "venv", "--clear", str(target)], lock.parent, {}, do)
        python = str(target / "bin" / "python")
        _run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)], lock.parent, {}, do)
        (target / "installed").touch()
    return target / "bin" / "python"


def _run(command: Sequence[str], folder: Path, environ: dict[str, str], do: str) -> None:
    """Run `python -m ...`. Raises SpkdError with the end of what it said, and what to do."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        got = " ".join((done.stderr or done.stdout).split())[-600:]
        raise SpkdError(" ".join(command[2:]), "success", got or f"exit status {done.returncode}", do)


def repro(code: Path, python: Path, stages: Sequence[str]) -> None:
    """Rebuild prepared data in a checkout with its own code. Raises SpkdError with the end of DVC's messages."""
    command = [str(python), "-m", "dvc", "repro", *stages]  # not --quiet, which hides why it failed
    print(f"rebuilding data: dvc repro {' '.join(stages)}", flush=True)
    do = (
        "bring the recordings to where data.dvc of that commit has them; or `spkd use-recordings` where you have them, "
        "and prepare the same windows here with its settings"
    )
    _run(command, code, inside(code, python), do)


def lend_copies(project: Path, code: Path, python: Path) -> None:
    """Let DVC in the checkout take what the project has: downloads, and DVC's copies, of raw recordings as well.

    Nothing is then downloaded twice, and recordings are not imported from their source, where some may have been added,
    changed or removed since.
    """

    def dvc(folder: Path, *words: str) -> str | None:
        command = [str(python), "-m", "dvc", *words]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **inside(code, python)}, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    for file in (project / "data" / "fetched").glob("*/*"):
        link = code / file.relative_to(project)
        if file.is_file() and ".part" not in file.suffixes and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.absolute())
    copies = dvc(project, "cache", "dir")
    lent = copies and dvc(code, "cache", "dir", "--local", copies) is not None
    if lent and dvc(code, "checkout", str(raw_import.IMPORT)) is not None:
        dvc(code, "freeze", str(raw_import.IMPORT))


def inside(code: Path, python: Path) -> dict[str, str]:
    """The environment variables that make a command use the checkout's code and that Python."""
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"PYTHONPATH": str(code / "src"), "PATH": path}
