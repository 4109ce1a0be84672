"""One open run: what a program may log to it.

Contract: every method writes to the outbox and returns; the sender delivers. The names MLflow does not allow are mended
here, and what it would cut is kept whole as an artifact.
"""

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from spkd import config
from spkd.errors import SpkdError
from spkd.evidence.outbox import Outbox
from spkd.evidence.tracking import store
from spkd.evidence.tracking.delivery import Sender

if TYPE_CHECKING:
    import torch

PARAM_LENGTH, TAG_LENGTH = 6000, 8000
PATIENCE_S = 15.0


def texts(values: Mapping[str, Any], longest: int) -> dict[str, str]:
    """Keys as MLflow allows them; values as text, cut where MLflow would not take them."""
    found = {}
    for key, value in values.items():
        text = value if isinstance(value, str) else config.dump(value) if _is_plain(value) else str(value)
        found[store.clean_name(key)] = text if len(text) <= longest else text[: longest - 4] + " ..."
    return found


def logged(values: Mapping[str, Any], prefix: str = "cfg/") -> dict[str, str]:
    """Settings, nested or dotted, as `Run.params` logs them."""
    flat = {f"{prefix}{key}": value for key, value in config.leaves(dict(values))}
    return texts(flat, PARAM_LENGTH)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | list | dict | tuple)


class Run:
    """One run. `id`, `experiment_id`: MLflow's. `folder`: its local folder. Every method returns at once.

    `goes_on`: it was opened before, and what that process left in the folder is its own.
    """

    def __init__(self, box: Outbox, run_id: str, experiment_id: str, sender: Sender) -> None:
        self.id, self.experiment_id, self.folder = run_id, experiment_id, box.folder
        self._box, self._sender = box, sender
        self._params: dict[str, str] = {}
        self._steps: set[tuple[str, int]] = set()
        opened = 0
        for _, event in box.read():
            opened += event["kind"] == "open"
            if event["kind"] == "params":
                self._params.update(event["values"])
            elif event["kind"] == "metrics":
                self._steps.update((key, event["step"]) for key in event["values"])
            elif event["kind"] == "image":
                self._steps.add((event["key"], event["step"]))
        self.goes_on = opened > 1

    def params(self, values: Mapping[str, Any], prefix: str = "cfg/") -> None:
        """Settings, nested or dotted. The whole tree is kept as `settings.json`, as MLflow cuts long values.

        A resumed run keeps its first values. Another setting is an error; another machine (prefix not `cfg/`) is put on
        record as the tag `changed.<key>`.
        """
        words = logged(values, prefix)
        changed = {key: text for key, text in words.items() if self._params.get(key, text) != text}
        if changed and prefix == "cfg/":
            key, text = next(iter(changed.items()))
            expected = f"{self._params[key]!r}, as in the run that is continued"
            raise SpkdError(f"{self.folder}: {key}", expected, repr(text), "start a new run")
        if changed:
            self.tags({f"changed.{key}": text for key, text in changed.items()})
        new = {key: text for key, text in words.items() if key not in self._params}
        if new:
            self._params.update(new)
            self._box.append("params", values=new)
        if prefix == "cfg/":
            self.json(dict(values), "settings.json")

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of one step. What a resumed run logged for this step before it was stopped stays as it is."""
        new = {store.clean_name(k): float(v) for k, v in values.items()}
        new = {key: value for key, value in new.items() if (key, step) not in self._steps}
        if new:
            self._steps.update((key, step) for key in new)
            self._box.append("metrics", values=new, step=step)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Words about the run that may still change."""
        self._box.append("tags", values=texts(values, TAG_LENGTH))

    def note(self, markdown: str) -> None:
        """The description on the run's page; in full as `description.md`."""
        self.tags({"mlflow.note.content": markdown})
        self.text(markdown, "description.md")

    def image(self, key: str, pixels: np.ndarray, step: int) -> None:
        """One image of a series. pixels: (h, w) or (h, w, 3) uint8."""
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise SpkdError(
                f"image {key}", "uint8 of (h, w) or (h, w, 3)", f"{pixels.dtype} {pixels.shape}", "convert it"
            )
        key = store.clean_name(key).replace(":", "_")
        if (key, step) in self._steps:
            return
        self._steps.add((key, step))
        buffer = io.BytesIO()
        np.save(buffer, pixels, allow_pickle=False)
        self._box.append("image", key=key, step=step, kept=self._box.keep_bytes(buffer.getvalue(), "image.npy"))

    def figure(self, figure: Any, name: str) -> None:
        """A matplotlib figure as an artifact, e.g. `plots/accuracy_cost.png`."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format=Path(name).suffix[1:] or "png")
        self._bytes(buffer.getvalue(), name)

    def file(self, path: Path, name: str) -> None:
        """A copy of a file as an artifact called name (`folder/name`)."""
        self._box.append("file", artifact=name, kept=self._box.keep_file(Path(path), name))

    def text(self, text: str, name: str) -> None:
        """A text as an artifact."""
        self._bytes(text.encode(), name)

    def json(self, value: Any, name: str) -> None:
        """A JSON artifact. What JSON does not know (a path, a numpy number) is written as text or number."""
        self.text(json.dumps(value, indent=1, default=_for_json, ensure_ascii=False), name)

    def table(self, name: str, columns: Mapping[str, list[Any]]) -> None:
        """A table artifact `<name>.json` that the UI shows and compares. All columns must be of one length."""
        lengths = {key: len(column) for key, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise SpkdError(f"table {name}", "columns of one length", lengths, "fill the gaps")
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        text = json.dumps({"columns": list(columns), "data": rows}, default=_for_json, ensure_ascii=False)
        self._bytes(text.encode(), f"{name}.json", table=True)

    def arrays(self, arrays: Mapping[str, np.ndarray], name: str) -> None:
        """Arrays as a compressed `.npz` artifact."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        self._bytes(buffer.getvalue(), name)

    def _bytes(self, data: bytes, name: str, **more: Any) -> None:
        self._box.append("file", artifact=name, kept=self._box.keep_bytes(data, name), **more)

    def dataset(self, name: str, digest: str, source: str, profile: Mapping[str, Any]) -> None:
        """What the run was given. digest: at most 36 characters (an md5). profile: counts and shapes, for the UI."""
        if len(digest) > 36:
            raise SpkdError(f"data set {name}", "a digest of at most 36 characters", f"{len(digest)}", "use its md5")
        self._box.append("dataset", name=name, digest=digest, source=source, profile=dict(profile))

    def model(
        self,
        weights: Path,
        name: str,
        registered_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        network: "torch.nn.Module | None" = None,
        input_shape: tuple[int, ...] | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        """Weights as the artifact `model/<file>`, as a logged model, and as a version of registered_name.

        network, input_shape (one input, no batch axis): also kept as a traced graph, for mlflow.pytorch.load_model.
        card: what that graph takes and gives, as the model's metadata.
        """
        # Here, because torch takes a second that readers of runs need not wait for.
        from spkd.evidence.tracking import logged_model

        weights = Path(weights)
        kept = self._box.keep_folder("model")
        logged_model.write(self._box.path_of(kept), weights, network, input_shape, card)
        clean = store.clean_name(name).replace("/", "_").replace(":", "_")
        words = texts(tags or {}, TAG_LENGTH)
        self._box.append("model", kept=kept, file=weights.name, name=clean, registered_name=registered_name, tags=words)

    def close(self, status: str = "FINISHED", why: str = "", patience_s: float = PATIENCE_S) -> None:
        """End the run: deliver the rest, or say how to. status: FINISHED, FAILED or KILLED."""
        if why:
            self.tags({"failure" if status == "FAILED" else "ended": why})
        self._box.append("end", status=status)
        self._box.sync()
        arrived = self._sender.close(patience_s)
        self._box.close()
        if not arrived:
            count = self._box.pending()
            print(
                f"spkd: {count} events did not reach {store.told()}; later: spkd upload {self.folder}", file=sys.stderr
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self.close()
        elif isinstance(error, KeyboardInterrupt):
            self.close("KILLED", f"stopped by {str(error) or 'Ctrl-C'}")
        else:
            self.close("FAILED", f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000])


def _for_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
