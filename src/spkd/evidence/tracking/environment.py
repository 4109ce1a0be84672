"""Binds this environment to the name under which `mlflow run .` looks for the project's environment.

MLflow would otherwise build one with pyenv.
"""

import shlex
import sys
from pathlib import Path

from mlflow.environment_variables import MLFLOW_ENV_ROOT
from mlflow.utils.environment import _PythonEnv
from mlflow.utils.virtualenv import _get_virtualenv_name

from spkd.errors import SpkdError


def bind(project: Path) -> tuple[Path, Path | None]:
    """(the path, under MLflow's environments, that now points to this interpreter's environment, where it pointed).

    The latter is None unless it pointed to another one: MLflow names environments by what they hold, so that clones
    of one commit share the path. project: the folder with MLproject.
    Raises SpkdError where the name is taken, or MLflow could not read the path.
    """
    python_env = _PythonEnv.from_yaml(str(project / "python_env.yaml"))
    link = Path(str(MLFLOW_ENV_ROOT.get())) / str(_get_virtualenv_name(python_env, project))
    if " " in str(link):
        do = "export MLFLOW_ENV_ROOT=/a/folder/without/spaces && make setup"
        raise SpkdError(link, "a path without spaces: `mlflow run` cannot source another", "one with spaces", do)
    if link.exists() and not link.is_symlink():
        got = "a folder that `mlflow run` made, whole or stopped half-way"
        raise SpkdError(link, "no environment yet, or a link", got, f"rm -r {shlex.quote(str(link))} && make setup")
    link.parent.mkdir(parents=True, exist_ok=True)
    before = link.readlink() if link.is_symlink() else Path(sys.prefix)
    temporary = link.with_name(f"{link.name}.{Path(sys.prefix).name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(sys.prefix)
    temporary.replace(link)
    return link, None if before == Path(sys.prefix) else before
