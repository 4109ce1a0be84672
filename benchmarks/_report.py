"""Writes the table of docs/performance.md from results/benchmarks/*/*.json, between its two marks.

python benchmarks/_report.py
"""

import json
import re

import _measure

PAGE, MARK = _measure.ROOT / "docs" / "performance.md", "<!-- figures: python benchmarks/_report.py -->"


def place(made: dict) -> str:
    """Where and when one file's rows were measured: as much of it as the file says, older ones say less."""
    words, machine = made["command"].removeprefix("python benchmarks/"), made["machine"]
    when = f", {made['date'][:10]}" if made.get("date") else ""
    when += f", commit {made['commit'][:10]}" if made.get("commit") else ""
    when += f" and changed {', '.join(made['changed'])}" if made.get("changed") else ""
    memory = f", {machine['memory_gib']:.0f} GiB" if "memory_gib" in machine else ""
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    return (
        f"- `{words}`{when}: {machine['cores']} cores of {machine['cpu']}{memory}, load at its end "
        f"{machine['load']:.1f}; {versions}. {made['notes']}"
    ).rstrip()


def table() -> str:
    """Two tables, of processors and of GPUs, with a column a device; then where and when each file ran."""
    found = [
        (path.parent.name, json.loads(path.read_text("utf-8"))) for path in sorted(_measure.RESULTS.glob("*/*.json"))
    ]
    kinds = [[(device, made) for device, made in found if (script(made) == "gpu.py") is gpu] for gpu in (False, True)]
    places = [place(made) for _, made in sorted(found, key=lambda one: (one[0], script(one[1])))]
    return "\n\n".join(["\n".join(lines(kind)) for kind in kinds if kind] + ["\n".join(places)])


def lines(found: list[tuple[str, dict]]) -> list[str]:
    """A table of the rows that are shown. found: (device, file) of each file."""
    devices = sorted({device for device, _ in found})
    rows: dict[tuple[str, str], dict[str, dict]] = {}
    for device, made in sorted(found, key=lambda one: script(one[1])):
        for row in made["rows"]:
            if row.get("shown", True):
                rows.setdefault((script(made), _measure.title(row)), {})[device] = row
    made_of = [f"| what | target | {' | '.join(devices)} | file |", "|---" * (3 + len(devices)) + "|"]
    for (name, title), of in sorted(rows.items(), key=lambda item: item[0][0]):
        cells = [_measure.figure(of[d]) + _measure.VERDICT[of[d]["met"]] if d in of else "-" for d in devices]
        target = next(iter(of.values()))["target"]
        made_of.append(f"| {title} | {target} | {' | '.join(cells)} | `{name}` |")
    return made_of


def script(made: dict) -> str:
    """The file of benchmarks/ that a record is of."""
    return str(made["command"].split()[1].removeprefix("benchmarks/"))


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text("utf-8")), encoding="utf-8")


def filled(page: str) -> str:
    """The page with the table between its two marks."""
    between = re.compile(re.escape(MARK) + ".*" + re.escape(MARK), re.DOTALL)
    if not between.search(page):
        raise SystemExit(f"{PAGE}: two lines {MARK!r} are missing: put them where the table belongs")
    return between.sub(lambda _: f"{MARK}\n{table()}\n{MARK}", page)


if __name__ == "__main__":
    main()
