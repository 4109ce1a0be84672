"""Settings: params.yaml read once, checked, overridden by key from any door. Holds no default of its own.

The comment behind a value in params.yaml is its help text. The types and limits of the sections are in settings.py;
those of a shelf's part (`views.gaf`) are in that part's own file.
"""

import copy
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from spkd import plugin
from spkd.errors import SpkdError
from spkd.yaml_loader import ForDvc, Loader, UniqueKeys, Writer

PARAMS = Path("params.yaml")
EXPECTS = "expects"
TYPED = {"list_type": "a list, such as [a, b]", "dict_type": "a mapping, such as {a: 1}"}


class Section(BaseModel):
    """Base of every typed section: every key required, none unknown, numbers finite, nothing changed after reading."""

    # Strict: 5.0, true or "5" read as 5 would be another setting wherever settings are compared.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)
# Mappings that take any key: a loss's weight, an argument of ultralytics, a split, a network.
OPEN = ("distill.beta", "detect.train", "detect.annotations", "yolo_versions.weights")


def parse(text: str, where: str, kind: type[UniqueKeys] = UniqueKeys) -> Any:
    """The value that a piece of YAML means. Raises SpkdError where it is not YAML."""
    try:
        return kind(text, where).get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        raise SpkdError(where, "YAML", " ".join(str(error).split()), "correct it there") from None


def dump(value: Any) -> str:
    """One value as YAML on one line, as it would be typed behind its key."""
    text: str = yaml.dump(value, Dumper=Writer, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def read(path: Path) -> dict[str, Any]:
    """params.yaml as nested dictionaries, unchecked."""
    if not path.is_file():
        raise SpkdError(path, "the settings file", "nothing", "run from the project's top folder or pass --params")
    try:
        tree = parse(path.read_text(encoding="utf-8"), str(path), ForDvc)
    except UnicodeDecodeError as error:
        do = "save it as UTF-8, or restore it with git checkout params.yaml"
        raise SpkdError(path, "text in UTF-8", error, do) from None
    if not isinstance(tree, dict):
        raise SpkdError(path, "a mapping of sections", type(tree).__name__, "restore it with git checkout params.yaml")
    return tree


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every value that is not a non-empty mapping."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def at(tree: dict[str, Any], key: str) -> Any:
    """The value or mapping at a dotted key, None where there is none."""
    found: Any = tree
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def put(tree: dict[str, Any], key: str, value: Any, where: str, file: Path = PARAMS) -> None:
    """Replace the value at a dotted key that already exists. Raises SpkdError with the nearest known key otherwise.

    A name may hold dots itself, as `yolov8n.yaml` does: of the names in a mapping, the longest that fits is meant.
    """
    node: Any = tree
    last = key
    while isinstance(node, dict) and last not in node and key[: -len(last) - 1] not in OPEN:
        name = max((n for n in node if last.startswith(f"{n}.")), key=lambda n: len(str(n)), default=None)
        node, last = node.get(name), last[len(str(name)) + 1 :]
    if not isinstance(node, dict):
        known = [
            k for k in [*(k for k, _ in leaves(tree)), *map(str, tree)] if not k.startswith(("presets.", "tables."))
        ]
        short = [k for k in known if k.endswith(f".{key}")]  # what lacks its section alone
        raise SpkdError(where, f"a key of {file}", f"unknown key {key!r}", plugin.nearest(key, short or known))
    whole = isinstance(value, int) and not isinstance(value, bool)
    # 0 for 0.0 is the same setting, and must look the same to whatever compares settings.
    node[last] = float(value) if whole and isinstance(node.get(last), float) else value


def overrides(words: list[str], texts: Collection[str] = ()) -> dict[str, Any]:
    """`--a.b 1 --c=2` as {"a.b": 1, "c": 2}; values are read as YAML, those of the keys in `texts` taken as they are.

    Raises SpkdError on anything else.
    """
    found: dict[str, Any] = {}
    for word in (rest := iter(words)):
        if not word.startswith("--"):
            raise SpkdError("command line", "--section.key value", repr(word), "see `spkd <command> --help`")
        key, equals, text = word[2:].partition("=")
        if not equals:
            text = next(rest, None)  # type: ignore[assignment]
            if text is None:
                do = f"write --{key} VALUE"
                raise SpkdError(f"--{key}", "a value after the key", "the end of the command line", do)
        if key in found:
            raise SpkdError("command line", "each key once", f"--{key} twice", "leave one of them out")
        found[key] = text if key in texts else _meant(text, f"--{key}")
    return found


def _meant(text: str, where: str) -> Any:
    """The value of a word of the command line: YAML, but for what only a text can have been meant by."""
    # 01234567 and 123e4567 can only be the first digits of a run's id.
    if not text or re.fullmatch(r"0\d+|(?=.{6})\d+e\d+", text):
        return text
    value = parse(text, where)
    # What YAML takes for a comment was typed to be read, unless the value before it is in quotes.
    return text if isinstance(value, str) and value and value != text and text.startswith(value) else value


def resolve(tree: dict[str, Any], given: dict[str, Any], file: Path = PARAMS) -> dict[str, Any]:
    """The settings tree after the preset and then the command line's keys were put over it. file: where it was read."""
    resolved: dict[str, Any] = copy.deepcopy(tree)
    preset = given.get("preset", tree.get("preset"))
    presets = _presets(tree, file)
    if isinstance(preset, list | dict) or preset not in presets:
        raise SpkdError("preset", f"one of {', '.join(presets)}", repr(preset), "choose one or add it under `presets`")
    for key, value in _sets(presets[preset]).items():
        if _prepares_data(key, tree):
            do = "change it where it stands, or with `dvc exp run -S`; DVC does not see presets"
            raise SpkdError(f"{file}: presets.{preset}", "no setting that prepares data", key, do)
        put(resolved, key, value, f"{file}: presets.{preset}", file)
    for key, value in given.items():
        put(resolved, key, value, "command line", file)
    return resolved


def _presets(tree: dict[str, Any], file: Path) -> dict[str, dict[str, Any]]:
    """The section `presets`. Raises SpkdError where it is none, or not of names with settings by their dotted keys."""
    presets = tree.get("presets", {})
    if not presets:
        raise SpkdError(file, "a section `presets`", "none", f"add it as `git show HEAD:{PARAMS}` has it")
    named = {f"presets.{name}": preset for name, preset in presets.items()} if isinstance(presets, dict) else {}
    for where, found in {"presets": presets, **named}.items():
        if not isinstance(found, dict) or not isinstance(found.get(EXPECTS, {}), dict):
            do = f"write it as `git show HEAD:{PARAMS}` has it"
            raise SpkdError(f"{file}: {where}", "a mapping", dump(found), do)
    return dict(presets)


def preset_line(tree: dict[str, Any], given: dict[str, Any], sections: Sequence[str]) -> str:
    """What the preset sets in these sections instead of the values that stand in the file; "" where nothing.

    sections: those that the command reads; `dataset` means that data set's section too. Raises SpkdError where the
    command line chose a preset that sets nothing in them.
    """
    used = {name: _read(values, sections) for name, values in tree["presets"].items()}
    preset, own = given.get("preset", tree["preset"]), dict(leaves(tree))
    if "preset" in given and tree["presets"][preset] and not used[preset]:
        useful = ", ".join(name for name, values in used.items() if values or not tree["presets"][name])
        got = f"{preset!r}, which sets none of them"
        raise SpkdError("preset", f"one for the settings that this command reads: {useful}", got, "choose one of those")
    whole = tuple(f"{key}." for key in given)
    replaced = {k: v for k, v in used[preset].items() if not f"{k}.".startswith(whole) and own.get(k) != v}
    words = ", ".join(f"{key} {dump(value)} (not {dump(own.get(key))})" for key, value in replaced.items())
    return f"preset {preset}: {words}" if words else ""


def require_expected(resolved: dict[str, Any], sections: Sequence[str]) -> None:
    """Raise SpkdError where the resolved settings are not those that their preset is meant for: its `expects`.

    sections: those that the command reads, as of `preset_line`; what is expected of others does not matter to it.
    """
    presets = resolved["presets"]
    for key, wanted in _read(presets[resolved["preset"]].get(EXPECTS, {}), sections).items():
        if (got := at(resolved, key)) == wanted:
            continue
        if _prepares_data(key, resolved):
            do = f"prepare them so (`dvc exp run -S {key}={dump(wanted)}`), or choose another preset"
        else:
            made_for = [name for name, preset in presets.items() if preset.get(EXPECTS, {}).get(key) == got]
            plain = {name: preset for name, preset in presets.items() if EXPECTS not in preset}
            for_all = [name for name, preset in plain.items() if not preset or _read(preset, sections)]
            do = f"choose preset {' or '.join(made_for or for_all)}, or {key} {dump(wanted)}"
        raise SpkdError(f"preset {resolved['preset']}", f"{key} {dump(wanted)}", dump(got), do)


def require_read(given: dict[str, Any], tree: dict[str, Any], sections: Sequence[str], command: str) -> None:
    """Raise SpkdError where the command line sets what the command, of these sections, does not read."""
    if unread := sorted(set(given) - set(_read(given, sections, f"datasets.{tree['dataset']}"))):
        known = [key for name in sections for key, _ in leaves({name: at(tree, name)})]
        expected = f"a setting that it reads, of {', '.join(sections)}" if sections else "no setting: it reads none"
        last = unread[0].rpartition(".")[2]
        twins = [key for key in known if key.rpartition(".")[2] == last]
        do = f"did you mean {twins[0]!r}?" if twins else f"leave it out; see `spkd {command} --help`"
        raise SpkdError("command line", expected, unread[0], do)


def _read(values: dict[str, Any], sections: Sequence[str], data: str = "datasets") -> dict[str, Any]:
    """Those of the keys in sections which a command reads. data: what it reads as well where it reads `dataset`."""
    read = tuple(f"{name}." for name in (*sections, *([data] if "dataset" in sections else [])))
    return {key: value for key, value in values.items() if f"{key}.".startswith(read)}


def _sets(preset: dict[str, Any]) -> dict[str, Any]:
    """What a preset sets; `expects` says what it is meant for."""
    return {key: value for key, value in preset.items() if key != EXPECTS}


def _prepares_data(key: str, tree: dict[str, Any]) -> bool:
    """Whether a DVC stage depends on this key: a data set's windows, a view that is prepared, COCO's conversion."""
    shelf, _, rest = key.partition(".")
    name, _, inner = rest.partition(".")
    rows = tree.get("prepare")
    prepared = {row.get("view") for row in (rows.values() if isinstance(rows, dict) else ()) if isinstance(row, dict)}
    windows = shelf == "datasets" and inner.split(".")[0] == "windows"
    return windows or (shelf == "views" and name in prepared) or shelf == "coco"


def check(model: type[S], tree: Any, where: str, file: Path = PARAMS) -> S:
    """The tree as a typed section. Raises SpkdError that names the key path, what is allowed and a near key.

    file: where the tree was read.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A misspelt key is unknown, and the right one missing: the former says both.
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        path = ".".join(str(p) for p in (where, *_keys(first["loc"], tree)) if p != "")
        if first["type"] == "extra_forbidden":
            known = {f.alias or n for n, f in model.model_fields.items()} if len(first["loc"]) == 1 else set()
            known |= {str(e["loc"][-1]) for e in found if e["type"] == "missing" and e["loc"][:-1] == first["loc"][:-1]}
            advice = plugin.nearest(str(first["loc"][-1]), sorted(known)) if known else "remove it"
            raise SpkdError(f"{file}: {path}", "a known key", "an unknown one", advice) from None
        if first["type"] == "missing":
            do = f"write it there; if it was deleted, `git show HEAD:{PARAMS}` has it"
            raise SpkdError(f"{file}: {path}", "a value", "nothing", do) from None
        expected = TYPED.get(first["type"], first["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
        meaning = (comments(file) if file.is_file() else {}).get(re.sub(r"(\.\d+)+$", "", path))
        do = f"correct it in {file}, the preset or the command line"
        if meaning and first["type"] == "string_pattern_mismatch":
            expected = meaning
        elif meaning:
            do += f": {meaning}"
        raise SpkdError(path, expected, repr(first.get("input")), do) from None


def _keys(place: tuple[int | str, ...], tree: Any) -> list[int | str]:
    """What of pydantic's place of an error stands in the file: not the names of a union's members."""
    kept, node = [], tree
    for n, key in enumerate(place, 1):
        there = key in node if isinstance(node, dict) else isinstance(node, list) and isinstance(key, int)
        if there or (n == len(place) and isinstance(node, dict)):
            kept.append(key)
            node = node[key] if there else None
    return kept


def part(shelf: str, name: str, tree: dict[str, Any]) -> Any:
    """The typed settings of one part of a shelf: `<shelf>.<name>` of the tree, checked by that file's `Settings`."""
    section = tree.get(shelf, {})
    if name not in section:
        raise SpkdError(f"{PARAMS}: {shelf}", f"an entry {name!r}", "none", plugin.nearest(name, list(section)))
    return check(plugin.load(shelf, name).Settings, section[name], f"{shelf}.{name}")


def comments(path: Path) -> dict[str, str]:
    """Dotted key -> the comment behind its value in params.yaml: the help text of that setting."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found: dict[str, str] = {}

    def visit(node: yaml.Node | None, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            block = isinstance(value, yaml.CollectionNode) and not value.flow_style
            mark = key.end_mark if block else value.end_mark
            _, hash_sign, text = lines[mark.line][mark.column :].partition("#")
            if hash_sign:
                found[name] = text.strip()
            visit(value, f"{name}.")

    visit(yaml.compose(path.read_text(encoding="utf-8"), Loader=Loader), "")
    return found
