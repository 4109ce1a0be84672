"""Writes the table of docs/performance.md from results/benchmarks/*.json, between its two marks.

python benchmarks/_report.py
"""

import json
import re

import _measure

PAGE, MARK = _measure.ROOT / "docs" / "performance.md", "<!-- figures: python benchmarks/_report.py -->"


def line(name: str, row: dict) -> str:
    """One row of the table."""
    found, met = row["ratio"], {True: "yes", False: "no", None: "-"}[row["met"]]
    spread = f"sd {found['sd']:.2f}, n={found['n']}" if found["n"] > 1 else "n=1"
    return f"| {row['what']} {row['peer']} | {found['ratio']:.2f} ({spread}) | {row['target']} | {met} | `{name}.py` |"


def table() -> str:
    """Every row of every file, then where and when each file ran."""
    lines, places = ["| what | ratio | target | met | file |", "|---|---|---|---|---|"], []
    for path in sorted(_measure.RESULTS.glob("*.json")):
        kept = json.loads(path.read_text("utf-8"))
        lines += [line(path.stem, row) for row in kept["rows"]]
        machine = kept["machine"]
        versions = ", ".join(f"{name} {number}" for name, number in kept["versions"].items())
        places.append(
            f"- `{path.stem}.py`: {machine['cores']} cores of {machine['cpu']}, load at its end {machine['load']:.1f}; "
            f"{versions}. {kept['notes']}"
        )
    return "\n".join([*lines, "", *places])


def main() -> None:
    page = PAGE.read_text("utf-8")
    between = re.compile(re.escape(MARK) + ".*" + re.escape(MARK), re.DOTALL)
    if not between.search(page):
        raise SystemExit(f"{PAGE}: two lines {MARK!r} are missing: put them where the table belongs")
    made = between.sub(lambda _: f"{MARK}\n{table()}\n{MARK}", page)
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
