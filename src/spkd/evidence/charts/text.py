"""Text in charts and pages: escaped, measured, cut to fit or to what tells names apart."""

import html
import re
import unicodedata
from collections.abc import Sequence

NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def esc(value: object) -> str:
    """Text for HTML or SVG, in an attribute too. What no XML may hold becomes the replacement character."""
    return html.escape(NOT_XML.sub("\ufffd", str(value)), quote=True)


def text_px(text: str, size_px: float = 11) -> float:
    """About how wide a text is drawn, rather more than less."""
    return size_px * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.9 if c in "WM@%" else 0.6 for c in text)


def shortened(text: str, most_px: float, size_px: float = 11) -> str:
    """The text, or as much of its beginning and end as fits: names often differ in their last words."""
    if text_px(text, size_px) <= most_px:
        return text
    kept = len(text) - 1
    while kept > 1 and text_px(_halves(text, kept), size_px) > most_px:
        kept -= 1
    return _halves(text, kept)


def letter(number: int) -> str:
    """A ... Z, AA, AB ... for 0, 1 ..."""
    high, low = divmod(number, 26)
    return (chr(64 + high) if high else "") + chr(65 + low)


def _halves(text: str, kept: int) -> str:
    tail = kept // 2
    return text[: kept - tail].rstrip() + "\u2026" + text[len(text) - tail :].lstrip()


def without_shared_words(names: Sequence[str]) -> list[str]:
    """The names without the first and last words that all of them share; at least two words stay."""
    words = [name.split() for name in names]
    most = max(min(len(w) for w in words) - 2, 0) if len(words) > 1 else 0
    front = next((k for k in range(most) if len({w[k] for w in words}) > 1), most)
    back = next((k for k in range(most - front) if len({w[-1 - k] for w in words}) > 1), most - front)
    return [" ".join(w[front : len(w) - back]) for w in words]


def apart(places: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Places of texts, moved as little as need be until neighbours are `distance` apart, in their order, in low..high.

    Where there is no room for that they are as far apart as there is room.
    """
    distance = min(distance, (high - low) / max(1, len(places) - 1))
    order = sorted(range(len(places)), key=lambda k: places[k])
    blocks: list[list[float]] = []  # [mean place, how many] of runs of touching labels, from the top down
    for k in order:
        blocks.append([places[k], 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < distance * (blocks[-1][1] + blocks[-2][1]) / 2:
            (b, m), (a, n) = blocks.pop(), blocks.pop()
            blocks.append([(a * n + b * m) / (n + m), n + m])
    moved = [mean + distance * (j - (n - 1) / 2) for mean, n in blocks for j in range(int(n))]
    last = distance * (len(places) - 1)
    inside = [min(max(y - k * distance, low), high - last) + k * distance for k, y in enumerate(moved)]
    return [place for _, place in sorted(zip(order, inside, strict=True))]
