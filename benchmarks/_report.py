"""Writes the table of docs/performance.md from results/benchmarks/*.json, between its two marks.

python benchmarks/_report.py
"""

import json
import re

import _measure

PAGE, MARK = _measure.ROOT / "docs" / "performance.md", "<!-- figures: python benchmarks/_report.py -->"


def line(script: str, row: dict) -> str:
    """One row of the table."""
    met = {True: "yes", False: "no", None: "-"}[row["met"]]
    return f"| {_measure.title(row)} | {_measure.figure(row)} | {row['target']} | {met} | `{script}` |"


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
    """Every row that is shown of every file, then where and when each file ran."""
    lines, places = ["| what | ratio or amount | target | met | file |", "|---|---|---|---|---|"], []
    for path in sorted(_measure.RESULTS.glob("*.json")):
        made = json.loads(path.read_text("utf-8"))
        script = made["command"].split()[1].removeprefix("benchmarks/")
        lines += [line(script, row) for row in made["rows"] if row.get("shown", True)]
        places.append(place(made))
    return "\n".join([*lines, "", *places])


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
