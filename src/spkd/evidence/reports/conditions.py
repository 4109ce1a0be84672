"""The conditions that stand above every form of a table's report: windows, training, choice. Pure: records in.

Every value is read from the cells that are done; one that is not the same in all of them is named with all its values.
"""

from collections.abc import Sequence

from spkd.evidence.reports import findings
from spkd.evidence.reports.findings import Record

# (words, where a record has the value, its key); `dataset.*` is the section of whatever data set a row uses.
WINDOWS = (
    ("{}", "context", "data.dataset"),
    ("digest {}", "context", "data.digest"),
    ("{}", "context", "data.window"),
    ("step {}", "context", "data.step"),
    ("rule {}", "context", "data.rule"),
    ("{} classes", "context", "data.classes"),
    ("{} subjects", "context", "data.subjects"),
    ("scaling {}", "settings", "dataset.*.scaling"),
    ("split {}", "settings", "dataset.*.split.rule"),
    ("train fraction {}", "settings", "dataset.*.split.train_fraction"),
    ("test fraction {}", "settings", "dataset.*.split.test_fraction"),
    ("validation subjects {}", "settings", "dataset.*.split.validation_subjects"),
)
TRAINING = (
    ("{} epochs", "settings", "train.epochs"),
    ("batch {}", "settings", "train.batch"),
    ("last batch {}", "settings", "train.last_batch"),
    ("learning rate {}", "settings", "train.lr"),
    ("at last {}", "settings", "train.lr_final"),
    ("schedule {}", "settings", "train.schedule"),
    ("momentum {}", "settings", "train.momentum"),
    ("weight decay {}", "settings", "train.weight_decay"),
)
CHOICE = (
    "A row (a lambda, an alpha) may be chosen by its accuracy on validation subjects alone: held-out training "
    "subjects, at the epoch that they chose, so it is no estimate of a result. Every other figure is of the test "
    "subjects: it reports the row that was chosen, and chooses none."
)


def sentences(records: Sequence[Record]) -> list[str]:
    """A line of the windows and one of the training, and what they mean beside published values; [] with no cell."""
    done = [r for r in records if r.status == "done"]
    if not done:
        return []
    windows, training = _line(done, WINDOWS), _line(done, TRAINING)
    folds, trials = (" ".join(map(str, sorted(own))) for own in ({r.fold for r in records}, {r.trial for r in records}))
    found = [f"Windows: {windows}."] if windows else []
    found.append(f"Training: {training}{', ' if training else ''}folds {folds}, trials {trials}.")
    if any(findings.VALIDATION in r.results for r in done):
        found.append(CHOICE)
    if any(r.published is not None for r in done):
        n = " | ".join(values(done, "settings", "dataset.*.split.validation_subjects"))
        published = "Published: the best TEST epoch of networks that learned from every training subject"
        found.append(
            f"{published}, as here."
            if n == "0"
            else f"{published}. Here validation subjects{f' ({n})' if n else ''} "
            "are held out of those to choose the epoch: each row learns from fewer subjects than the value beside it."
        )
    return found


def values(records: Sequence[Record], of: str, key: str) -> list[str]:
    """The different values that the records have at a key, sorted. of: "settings" or "context"."""
    start, star, rest = key.partition("*.")
    return sorted({
        str(value) for r in records for name, value in getattr(r, of).items()
        if name == key or (star and name.startswith(start) and name.removeprefix(start).partition(".")[2] == rest)
    })  # fmt: skip


def _line(records: Sequence[Record], facts: Sequence[tuple[str, str, str]]) -> str:
    found = [(words, values(records, of, key)) for words, of, key in facts]
    return ", ".join(words.format(" | ".join(own)) for words, own in found if own)
