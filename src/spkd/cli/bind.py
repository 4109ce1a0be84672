"""Let `mlflow run .` use this environment, after checking it against requirements.lock, and make MLflow's store.

`mlflow run` would make a missing one itself, for some seconds, and a kill meanwhile leaves one that MLflow cannot open.
"""

from pathlib import Path
from typing import Any

from spkd.errors import SpkdError
from spkd.evidence import lock_file
from spkd.evidence.tracking import environment, store
from spkd.settings import Settings

SECTIONS = ()


def main(words: list[str], settings: Settings, tree: dict[str, Any]) -> int:
    """Bind and say where, and which other environment it takes the place of; one that is not as locked is refused."""
    if wrong := lock_file.differing(lock_file.NAME):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        got = "; ".join(wrong[:3]) + more
        raise SpkdError(lock_file.NAME, "the locked versions installed", got, "run `make setup` again")
    link, before = environment.bind(Path.cwd())
    if store.database(store.uri()):
        store.client()
    print(f"mlflow run . uses this environment ({link})")
    if before is not None:
        gone = "" if before.exists() else ", which is gone"
        print(f"was: {before}{gone}; a clone of its own each: MLFLOW_ENV_ROOT (docs/data-flow.md)")
    return 0
