"""What a result depends on besides its settings: machine, packages, code, data, weights.

Contract: reads, and `tell` alone writes, to a run; everything returned is plain JSON. What cannot be found
out is said on stderr and recorded as such; what would make a result wrong (prepared data that no longer fit settings or
code) is an error.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spkd import config
from spkd.errors import SpkdError

if TYPE_CHECKING:
    from spkd.evidence.tracking_run import Run

LOCK = Path("requirements.lock")
DVC_LOCK = Path("dvc.lock")
IMPORT = Path("data.dvc")
LONGEST_PATCH_BYTES = 1_000_000
MAKES_A_RUN = (
    "src", "params.yaml", "dvc.yaml", "dvc.lock", "data.dvc", "MLproject", "python_env.yaml", "pyproject.toml",
    "requirements*",
)  # fmt: skip
WRITTEN_BY_RUNS = ":(exclude)results"


def environment(flags: Mapping[str, Any], repo: Path = Path()) -> dict[str, Any]:
    """Machine, packages and build of the run. flags: what seeding.set_flags returned. repo: holds the lock file."""
    lock = repo / LOCK
    return {
        "os": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
        "driver": _driver(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "torch_build": torch.__config__.show(),
        "torch_threads": torch.__config__.parallel_info(),
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "packages": packages(),
        "flags": dict(flags),
        "variables": {
            k: v for k, v in sorted(os.environ.items()) if k.startswith(("OMP_", "MKL_", "CUDA_", "CUBLAS_"))
        },
    }


def compared(found: Mapping[str, Any]) -> dict[str, Any]:
    """The ten facts of an environment that are compared most, for `run.params(..., prefix="env/")`."""
    gpu = found["gpus"][0] if found["gpus"] else None
    return {
        "os": found["os"],
        "python": found["python"],
        "cpu": f"{found['cpu']}, {found['cores']} cores",
        "gpu": f"{len(found['gpus'])} x {gpu['name']} (sm_{gpu['capability']}, {gpu['sms']} SMs)" if gpu else "none",
        "driver": found["driver"] or "none",
        "cuda": found["cuda"] or "none",
        "cudnn": found["cudnn"] or "none",
        "torch": found["torch"],
        "lock": (found["lock_sha256"] or "none")[:16],
        "flags": ", ".join(f"{key}={value}" for key, value in sorted(found["flags"].items())) or "none",
    }


def tell(run: "Run", flags: Mapping[str, Any], repo: Path = Path()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record in the run on which machine, with which packages and by which code; returns (environment, code).

    Says on stderr where the code is not recorded as a whole, so that the run could not be repeated.
    """
    here, made_by = environment(flags, repo), code(repo)
    run.json(here, "environment.json")
    run.params(compared(here), prefix="env/")
    run.tags({f"code.{key}": made_by[key] for key in ("commit", "dirty", "patch_sha256")})
    if made_by["patch_cut"]:
        run.tags({"code.patch_cut": made_by["patch_cut"]})
        print(
            f"spkd: this run cannot be repeated: {made_by['patch_cut']}: commit or ignore that (git status)",
            file=sys.stderr,
        )
    if made_by["patch"]:
        run.text(made_by["patch"], "code.patch")
    return here, made_by


def packages() -> dict[str, str]:
    """Every installed distribution and its version, by normalised name."""
    found = {}
    for distribution in metadata.distributions():
        told = distribution.metadata  # read anew at every access
        if told["Name"]:
            found[told["Name"].lower().replace("_", "-")] = told["Version"]
    return dict(sorted(found.items()))


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = f"{properties.major}{properties.minor}"
        memory_gib = round(properties.total_memory / 2**30, 1)
        sms = properties.multi_processor_count
        found.append({"name": properties.name, "capability": capability, "sms": sms, "memory_gib": memory_gib})
    return found


def _driver() -> str | None:
    if not torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return answer.stdout.split("\n", 1)[0].strip() or None


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
            shutil.copyfile(own, index)
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
    """The answer of git in a folder, which need not be success; whatever repository the caller's variables name.

    Raises SpkdError where git is not installed.
    """
    try:
        return subprocess.run(
            ["git", *words], cwd=repo, env=_environ(index), capture_output=True, check=False,
            encoding="utf-8", errors="surrogateescape",
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
    command = ["git", "-c", "core.quotePath=true", "diff", "HEAD", *form, "--", ".", WRITTEN_BY_RUNS]
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


def data(folder: Path, repo: Path = Path()) -> dict[str, Any]:
    """{"manifest", "dvc_md5", "dvc_lock"} of prepared data. folder: relative to repo, e.g. data/windows/pamap2.

    dvc_md5: what dvc.lock says of the folder (36 characters), None where DVC did not make it; dvc_lock: its text.
    Raises SpkdError where the data are not there.
    """
    text = (repo / DVC_LOCK).read_text(encoding="utf-8") if (repo / DVC_LOCK).is_file() else ""
    stage = _stage(text, folder)
    md5 = next((out["md5"] for out in stage["outs"] if out["path"] == folder.as_posix()), None) if stage else None
    return {"manifest": _manifest(folder, repo), "dvc_md5": md5, "dvc_lock": text}


def _manifest(folder: Path, repo: Path) -> dict[str, Any]:
    path = repo / folder / "manifest.json"
    if not path.is_file():
        raise SpkdError(path, "prepared data", "nothing", f"run `dvc repro windows@{folder.name}`")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def _stage(lock_text: str, folder: Path) -> dict[str, Any] | None:
    stages = (config.parse(lock_text, str(DVC_LOCK)) or {}).get("stages", {})
    for stage in stages.values():
        if any(out["path"] == folder.as_posix() for out in stage.get("outs", [])):
            return dict(stage)
    return None


def check_fresh(folder: Path, settings: Mapping[str, Any], repo: Path = Path()) -> None:
    """Raise SpkdError where prepared data are missing, or older than the settings or the code that make them.

    folder: relative to repo, e.g. data/windows/pamap2. settings: the current `datasets.<name>.windows`. Code is
    compared with the md5 that DVC recorded of each single file. Raw data are left to `dvc repro`, but for recordings
    that `spkd use-recordings` named and nothing has imported yet.
    """
    do = f"run `dvc repro windows@{folder.name}`"
    used = _manifest(folder, repo).get("settings", {})
    if settings.get("source", "raw") == "raw" and (named := _not_imported(repo / IMPORT)):
        raise SpkdError(folder, f"data prepared from {named}, which {IMPORT} names", "data from before that", do)
    changed = [key for key in sorted({*used, *settings}) if used.get(key) != settings.get(key)]
    if changed:
        now = ", ".join(f"{key} = {settings.get(key, 'absent')}" for key in changed)
        was = ", ".join(f"{key} = {used.get(key, 'absent')}" for key in changed)
        raise SpkdError(folder, f"data prepared with {now}", f"stale data with {was}", do)
    check_code(folder, do, repo)


def check_code(folder: Path, do: str, repo: Path = Path()) -> None:
    """Raise SpkdError where a DVC stage made the folder with other code than is here now. do: what renews it."""
    lock = repo / DVC_LOCK
    stage = _stage(lock.read_text(encoding="utf-8"), folder) if lock.is_file() else None
    for dependency in stage.get("deps", []) if stage else []:
        path = repo / dependency["path"]
        if dependency.get("md5", "").endswith(".dir") or path.is_dir() or "md5" not in dependency:
            continue
        if not path.is_file() or _changed(path, dependency):
            raise SpkdError(
                folder, "data prepared with the code that is here", f"{dependency['path']} changed since", do
            )


def _not_imported(path: Path) -> str | None:
    """Where data.dvc says that recordings are, if `dvc repro` has not brought them from there yet."""
    stage = (config.parse(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None) or {}
    outs, deps = stage.get("outs"), stage.get("deps")
    return str(deps[0].get("path")) if outs and deps and "md5" not in outs[0] else None


def _changed(path: Path, dependency: Mapping[str, Any]) -> bool:
    if path.stat().st_size != dependency.get("size", path.stat().st_size):
        return True
    return bool(hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != dependency["md5"])


def state_sha256(state: Mapping[str, torch.Tensor | np.ndarray]) -> str:
    """The hash of weights: names, types, shapes and bits, whatever file or order they were stored in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = torch.as_tensor(state[name]).detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
