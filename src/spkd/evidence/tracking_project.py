"""Binds this environment to the name under which `mlflow run .` looks for the project's environment.

MLflow would otherwise build one with pyenv. The bond is refused when an installed version differs from the lock.
"""

import re
import shlex
import sys
from importlib import metadata
from pathlib import Path

from mlflow.environment_variables import MLFLOW_ENV_ROOT
from mlflow.utils.environment import _PythonEnv
from mlflow.utils.virtualenv import _get_virtualenv_name
from packaging.requirements import Requirement

from spkd.errors import SpkdError


def differing(lock: Path) -> list[str]:
    """Packages whose installed version is not the locked one, each as "name: locked x, installed y"."""
    found = []
    for line in re.findall(r"^[A-Za-z0-9][^\s#]*==[^\\\n]+", lock.read_text(encoding="utf-8"), re.MULTILINE):
        wanted = Requirement(line.strip())
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            installed = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            installed = "nothing"
        if not wanted.specifier.contains(installed if installed != "nothing" else "0", prereleases=True):
            found.append(f"{wanted.name}: locked {str(wanted.specifier).lstrip('=')}, installed {installed}")
    return found


def bind(project: Path) -> Path:
    """The path, under MLflow's environments, that now points to this interpreter's environment.

    project: the folder with MLproject. Raises SpkdError where versions differ from the lock or the name is taken.
    """
    lock = project / "requirements.lock"
    wrong = differing(lock)
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SpkdError(lock, "the locked versions installed", "; ".join(wrong[:3]) + more, "run `make setup` again")
    python_env = _PythonEnv.from_yaml(str(project / "python_env.yaml"))
    link = Path(str(MLFLOW_ENV_ROOT.get())) / str(_get_virtualenv_name(python_env, project))
    if link.exists() and not link.is_symlink():
        got = "a folder that `mlflow run` made, whole or stopped half-way"
        raise SpkdError(link, "no environment yet, or a link", got, f"rm -r {shlex.quote(str(link))} && make setup")
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f"{link.name}.{Path(sys.prefix).name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(sys.prefix)
    temporary.replace(link)
    return link
