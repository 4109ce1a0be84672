"""Which code a run is made by: the commit of the working tree and a patch of what differs from it.

Contract: changes neither the tree nor its index. What the patch does not hold is said, so that a run that cannot be
repeated is known for one.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from spkd.errors import SpkdError

LONGEST_PATCH_BYTES = 1_000_000
MAKES_A_RUN = (
    "src", "params.yaml", "dvc.yaml", "dvc.lock", "data.dvc", "MLproject", "python_env.yaml", "pyproject.toml",
    "requirements*",
)  # fmt: skip
WRITTEN_BY_RUNS = ":(exclude)results"


def code(repo: Path = Path()) -> dict[str, Any]:
    """{"commit", "dirty", "patch", "patch_sha256", "patch_cut"} of the working tree.

    The patch against the commit holds changes of tracked files, but for those below `results`, and new files of the
    kinds that make a run (MAKES_A_RUN); what `.gitignore` names stays out. commit: "unknown" without git. dirty:
    whether there is such a change. patch_cut: why the patch does not hold all of it, "" where it does.
    """
    if shutil.which("git") is None:
        return _no_code("git is not installed")
    head = git(repo, "rev-parse", "HEAD")
    if head.returncode != 0:
        return _no_code(" ".join(head.stderr.split()))
    with tempfile.TemporaryDirectory() as scratch:
        # A copy of the index takes the new files in, so that the user's own index stays as it is.
        index = Path(scratch) / "index"
        own = Path(git(repo, "rev-parse", "--absolute-git-dir").stdout.strip()) / "index"
        if own.is_file():
            shutil.copy2(own, index)  # with its time, by which git knows which files it must read to see a change
        missed = _take_in(repo, index, Path(scratch) / "new")
        patch, cut = _bounded(repo, index)
    return _code(head.stdout.strip(), patch, missed or cut)


def _code(commit: str, patch: str, cut: str) -> dict[str, Any]:
    sha256 = hashlib.sha256(patch.encode()).hexdigest() if patch else ""
    return {
        "commit": commit, "dirty": bool(patch or cut), "patch": patch, "patch_sha256": sha256, "patch_cut": cut,
    }  # fmt: skip


def _no_code(why: str) -> dict[str, Any]:
    print(f"spkd: the run will not say which code made it: {why}", file=sys.stderr)
    return _code("unknown", "", "")


def _take_in(repo: Path, index: Path, names: Path) -> str:
    """Let the index know the new files that make a run; returns why that failed, or "". names: a scratch file."""
    listed = git(repo, "ls-files", "--others", "--exclude-standard", "-z", "--", *MAKES_A_RUN, index=index)
    found = [name for name in listed.stdout.split("\0") if name]
    new, foreign = ([name for name in found if name.endswith("/") == own] for own in (False, True))
    names.write_text("\0".join(new), encoding="utf-8", errors="surrogateescape")
    words = ["--literal-pathspecs", "add", "--intent-to-add", f"--pathspec-from-file={names}", "--pathspec-file-nul"]
    added = git(repo, *words, index=index) if new else listed
    failed = next((done for done in (listed, added) if done.returncode != 0), None)
    if foreign:
        return f"{foreign[0]} is a git repository of its own"
    return f"git does not take in new files ({' '.join(failed.stderr.split())[:200]})" if failed else ""


def git(repo: Path, *words: str, index: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """The answer of git in a folder, which need not be success; whatever repository the caller's variables name, and
    without the user's hooks, which are for another purpose and may fail.

    Raises SpkdError where git is not installed.
    """
    try:
        return subprocess.run(
            ["git", "-c", f"core.hooksPath={os.devnull}", *words], cwd=repo, env=_environ(index),
            capture_output=True, check=False, encoding="utf-8", errors="surrogateescape",
        )  # fmt: skip
    except FileNotFoundError:
        if not repo.is_dir():
            raise
        raise SpkdError("git", "the program", "none on PATH", "install git: it brings the code of a run back") from None


def _environ(index: Path | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")}
    return {**kept, "LC_ALL": "C"} | ({"GIT_INDEX_FILE": str(index)} if index else {})


def _bounded(repo: Path, index: Path) -> tuple[str, str]:
    """(patch against HEAD, why it is not whole or ""): reads no further than the limit, however large the change is."""
    # What a user's own git settings would change in a patch, so that it does not apply, is set here.
    form = ["--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/"]
    form += ["--unified=3", "--diff-algorithm=myers", "--full-index", "--find-renames"]
    form += ["--inter-hunk-context=0"]
    own = ["-c", "core.quotePath=true", "-c", "diff.suppressBlankEmpty=false"]
    command = ["git", *own, "diff", "HEAD", *form, "--", ".", WRITTEN_BY_RUNS]
    with subprocess.Popen(command, cwd=repo, env=_environ(index), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = process.stdout.read(LONGEST_PATCH_BYTES + 1)
        if len(found) > LONGEST_PATCH_BYTES:
            process.kill()
            whole = f"the uncommitted changes are more than {LONGEST_PATCH_BYTES / 1e6:g} MB"
            return found[:LONGEST_PATCH_BYTES].decode("utf-8", "replace"), whole
        failed = process.wait() != 0
    if re.search(rb"^\+Subproject commit \w+-dirty$", found, re.MULTILINE):
        return found.decode("utf-8", "replace"), "a submodule has uncommitted changes"
    try:
        return found.decode("utf-8"), "git diff failed" if failed else ""
    except UnicodeDecodeError:
        return found.decode("utf-8", "replace"), "an uncommitted text is not UTF-8"
