"""The house as it is drawn is the house as it is built: arrows, stage dependencies, settings keys, and doors."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "spkd"
GROUND = {
    "atomic",
    "config",
    "errors",
    "matmul",
    "memory",
    "meter",
    "plugin",
    "raw_import",
    "seeding",
    "settings",
    "yaml_loader",
    "__init__",
}
GIANTS = {"mlflow": "evidence/tracking", "ultralytics": "detect/", "ray": "executor", "dvc": "nowhere"}


def imported(file: Path) -> set[str]:
    """Every module that a file imports, at any depth; `from a import b` gives a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files_of(modules: set[str]) -> set[Path]:
    """The project's source files among imported module names, with the packages that they lie in."""
    found = set()
    for module in modules:
        package, *names = module.split(".")
        if package == "spkd":
            path = SOURCE.joinpath(*names)
            packages = [SOURCE.joinpath(*names[:k], "__init__.py") for k in range(1, len(names) + 1)]
            found |= {p for p in (path.with_suffix(".py"), *packages) if p.is_file() and p.stat().st_size}
    return found


def room(file: Path) -> str:
    """ground, front (the front door), or the folder's name."""
    relative = file.relative_to(SOURCE)
    if len(relative.parts) > 1:
        return relative.parts[0]
    return "ground" if relative.stem in GROUND else relative.stem


def room_of_evidence(file: Path) -> str:
    """The folder or file of evidence/ that holds the file."""
    return Path(file.relative_to(SOURCE / "evidence").parts[0]).stem


def all_files(folder: str = "") -> list[Path]:
    return sorted((SOURCE / folder).rglob("*.py"))


HOUSES = {"arrows": ("", room), "arrows-evidence": ("evidence", room_of_evidence)}


def real_arrows(house: str) -> set[tuple[str, str]]:
    folder, name = HOUSES[house]
    inside = set(all_files(folder))
    arrows = {(name(f), name(target)) for f in inside for target in files_of(imported(f)) & inside}
    return {(a, b) for a, b in arrows if a != b}


def declared_arrows(house: str) -> set[tuple[str, str]]:
    page = (ROOT / "docs" / "data-flow.md").read_text(encoding="utf-8")
    block = re.search(rf"```{house}\n(.*?)```", page, re.DOTALL)
    assert block, f"docs/data-flow.md has no ```{house} block"
    lines = [line.split("->") for line in block[1].strip().splitlines()]
    return {(a.strip(), b) for a, targets in lines for b in targets.split()}


@pytest.mark.parametrize("house", HOUSES)
def test_the_drawn_arrows_are_the_imports_of_the_code(house):
    assert real_arrows(house) == declared_arrows(house)


@pytest.mark.parametrize("house", HOUSES)
def test_the_drawn_arrows_have_no_cycle(house):
    arrows, order = declared_arrows(house), []
    left = {x for arrow in arrows for x in arrow}
    while left:
        free = {x for x in left if not any(a == x and b in left for a, b in arrows)}
        assert free, f"a cycle among {sorted(left)}"
        order += sorted(free)
        left -= free


@pytest.mark.parametrize(("package", "door"), GIANTS.items())
def test_each_giant_has_one_door(package, door):
    users = [str(f.relative_to(SOURCE)) for f in all_files() if package in {m.split(".")[0] for m in imported(f)}]
    assert [u for u in users if not u.startswith(door)] == []


def closure(start: Path) -> set[Path]:
    """The files that importing `start` imports, itself included."""
    seen: set[Path] = set()
    todo = {start}
    while todo:
        file = todo.pop()
        seen.add(file)
        todo |= files_of(imported(file)) - seen
    return seen


def stages() -> list[tuple[str, dict]]:
    """Every stage of dvc.yaml with its templates filled in from params.yaml."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    found = []
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        if "foreach" not in stage:
            found.append((name, stage))
            continue
        for key, item in params[stage["foreach"].strip("${}")].items():
            text = yaml.safe_dump(stage["do"]).replace("${key}", key)
            for field, value in item.items():
                text = text.replace(f"${{item.{field}}}", str(value))
            found.append((f"{name}@{key}", yaml.safe_load(text)))
    return found


def shelves(file: Path, *how: str) -> set[str]:
    """Shelves that a file gets parts of by name: the first argument of its calls of these names, e.g. plugin.load."""
    calls = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    loads = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in how and c.args]
    return {str(c.args[0].value) for c in loads if isinstance(c.args[0], ast.Constant)}


@pytest.mark.parametrize(("name", "stage"), stages(), ids=[n for n, _ in stages()])
def test_a_stage_depends_on_every_file_that_its_command_imports(name, stage):
    words = stage["cmd"].split()
    door = SOURCE / "cli" / f"{words[words.index('spkd') + 1].replace('-', '_')}.py"
    parts, read = (
        {
            file
            for word in words[-1:]
            for shelf in shelves(door, *how)
            if (file := SOURCE / shelf / f"{word}.py").is_file()
        }
        for how in (("load", "part"), ("describe",))  # imported, and read as a text
    )
    files = read.union(*(closure(f) for f in {door} | parts))
    needed = {str(f.relative_to(ROOT)) for f in files if room(f) != "ground"}
    listed = {d if isinstance(d, str) else next(iter(d)) for d in stage["deps"]}
    assert needed <= listed, f"{name}: missing deps {sorted(needed - listed)}"
    assert {d for d in listed if d.startswith("src/") and not (ROOT / d).is_file()} == set()


def test_every_setting_has_an_explanation():
    from spkd import config

    explained = config.comments(ROOT / "params.yaml")
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    whole = ("presets", "prepare", "networks")
    sections = [k for k in tree if k not in whole]
    keys = [k for section in sections for k, v in config.leaves({section: tree[section]}) if v != {}]
    ancestors = {k: [".".join(k.split(".")[: i + 1]) for i in range(len(k.split(".")))] for k in keys}
    assert [k for k in keys if not any(a in explained for a in ancestors[k])] == []


def test_every_number_of_params_is_typed():
    from spkd import config, plugin
    from spkd.settings import Settings

    raw = config.read(ROOT / "params.yaml")
    for preset in raw["presets"]:
        tree = config.resolve(raw, {"preset": preset})
        config.check(Settings, tree, "")
        for shelf in ("datasets", "views", "losses", "weightings"):
            assert sorted(tree[shelf]) == plugin.names(shelf)
            for name in tree[shelf]:
                config.part(shelf, name, tree)


def test_every_entry_point_of_mlproject_is_a_command():
    from spkd import plugin

    entries = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    commands = {name: entry["command"].split()[-1].replace("-", "_") for name, entry in entries.items()}
    assert {c for c in commands.values() if c not in plugin.names("cli")} == set()


def test_no_file_imports_a_command():
    for path in SOURCE.rglob("*.py"):
        assert not [t for t in imported(path) if t.startswith("spkd.cli")], path


def test_the_front_door_imports_no_command():
    assert {
        t for t in imported(SOURCE / "__main__.py") if t.startswith(("torch", "spkd.cli", "spkd.training"))
    } == set()
