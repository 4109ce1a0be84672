"""The JSON files of a gathered run and their types, on which whoever reads them relies, wherever they came from."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from spkd.errors import SpkdError


class _Told(BaseModel):
    """What the store told of a run, as far as it is read."""

    id: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    inputs: dict[str, str] = {}


class _Environment(BaseModel):
    lock_sha256: str | None


class _Model(BaseModel):
    network: str
    view: str


class _Training(BaseModel):
    """Settings of a teacher or student."""

    run: dict[str, Any]
    dataset: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    model: _Model
    fold: int
    train: dict[str, Any]
    network: dict[str, Any]
    view: dict[str, Any]
    distill: dict[str, Any] | None = None
    losses: dict[str, Any] | None = None


class _Detection(BaseModel):
    """Settings of a detector."""

    run: dict[str, Any]
    detect: dict[str, Any]


KINDS: dict[str, Any] = {
    "run.json": _Told,
    "history.json": dict[str, list[tuple[int, float]]],
    "trials.json": list[_Told],
    "artifacts/environment.json": _Environment,
    "artifacts/settings.json": _Training | _Detection,
}


def read(folder: Path, name: str) -> Any:
    """What stands in a file of KINDS below the folder. Raises SpkdError where it is missing or of another type."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
        TypeAdapter(KINDS[name]).validate_python(found)
    except (OSError, ValueError, RecursionError) as error:  # pydantic's is a ValueError
        got = " ".join(str(error).split())[:300]
        raise SpkdError(folder / name, "a part of the run", got, "export the run again") from None
    return found
