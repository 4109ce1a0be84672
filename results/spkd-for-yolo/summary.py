"""The table of the trial by the rule of README.md: python results/spkd-for-yolo/summary.py runs.jsonl"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean by Student's t: (low, high)."""
    n = len(differences)
    half = stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return differences.mean() - half, differences.mean() + half


def main(path: Path) -> None:
    """Print one row an arm, and every run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    arms = ["plain", "builtin", "sp batch", "sp pooled", "sp object"]
    seeds = sorted({line["seed"] for line in lines})
    seeds = [s for s in seeds if {line["arm"] for line in lines if line["seed"] == s} == set(arms)]
    at = {(line["arm"], line["seed"]): line for line in lines if line["seed"] in seeds}
    for seed in seeds:
        assert len({at[arm, seed]["initial_sha256"] for arm in arms}) == 1, "arms of one seed must start alike"
    print(f"n = {len(seeds)} seeds {seeds}; last epoch; +- is the sd over seeds (n - 1)")
    print("difference to plain of the same seed: mean (95 % interval)\n")
    head = ["arm", "mAP50", "difference", "mAP50-95", "difference", "told apart"]
    print(f"| {' | '.join([*head, 'CKA images P3/P4/P5', 'CKA objects P3/P4/P5', 's/run'])} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for arm in arms:
        cells = [arm]
        apart = []
        for key in ("mAP50", "mAP50-95"):
            values = np.array([at[arm, s][key] for s in seeds])
            cells.append(f"{values.mean():.4f} +- {values.std(ddof=1):.4f}")
            gap = values - np.array([at["plain", s][key] for s in seeds])
            low, high = interval(gap) if arm != "plain" else (0.0, 0.0)
            cells.append("" if arm == "plain" else f"{gap.mean():+.4f} ({low:+.4f} to {high:+.4f})")
            apart.append(arm != "plain" and (low > 0 or high < 0))
        cells.append("" if arm == "plain" else "yes" if apart[0] else "no")
        for what in ("image", "object"):
            agreement = [[at[arm, s]["agreement"][f"{what}/P{p}"] for s in seeds] for p in (3, 4, 5)]
            cells.append(" / ".join(f"{np.mean(a):.2f}" for a in agreement))
        cells.append(f"{np.mean([at[arm, s]['seconds'] for s in seeds]):.0f}")
        print("| " + " | ".join(cells) + " |")
    print("\n| arm | " + " | ".join(f"seed {s}" for s in seeds) + " |\n|---|" + "---|" * len(seeds))
    for arm in arms:
        print(f"| {arm} | " + " | ".join(f"{at[arm, s]['mAP50']:.4f}" for s in seeds) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
