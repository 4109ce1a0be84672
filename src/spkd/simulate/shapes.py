"""The eight kinds of objects in the simulated scenes: flat drawings in the unit square, each with a look of its own.

Ids and names are COCO's; the ids leave gaps, so that `category_id - 1` is wrong for all but the first.
"""

from dataclasses import dataclass

import numpy as np

Points = list[tuple[float, float]]
Color = tuple[int, int, int]

WHITE, BLACK, RED, BROWN = (248, 248, 250), (28, 28, 32), (200, 25, 35), (60, 30, 10)
SKIN, BLUE, ORANGE, SKY = (236, 188, 150), (52, 80, 190), (240, 130, 30), (190, 225, 240)
TEAL, YELLOW, CRUST, GREEN = (40, 200, 200), (250, 218, 70), (214, 160, 70), (40, 170, 70)


@dataclass(frozen=True)
class Kind:
    """One class. parts: (color, outline in the unit square), drawn in order; the first `solid` of them are its outline.

    aspect: height / width. size: smallest and largest width [shares of the image's shorter side].
    """

    id: int
    name: str
    supercategory: str
    parts: list[tuple[Color, Points]]
    aspect: float
    size: tuple[float, float]
    solid: int = 1


def _oval(x: float, y: float, width: float, height: float) -> Points:
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return [(x + width * (1 + np.cos(a)) / 2, y + height * (1 + np.sin(a)) / 2) for a in turns]


def _bar(x: float, y: float, width: float, height: float) -> Points:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _shrunk(points: Points, by: float) -> Points:
    return [(0.5 + (x - 0.5) * by, 0.5 + (y - 0.5) * by) for x, y in points]


DISC = _oval(0, 0, 1, 1)
OCTAGON = [(0.3, 0.0), (0.7, 0.0), (1.0, 0.3), (1.0, 0.7), (0.7, 1.0), (0.3, 1.0), (0.0, 0.7), (0.0, 0.3)]
CAR = [(0.0, 0.55), (0.18, 0.5), (0.32, 0.0), (0.7, 0.0), (0.84, 0.5), (1.0, 0.55), (1.0, 1.0), (0.0, 1.0)]
WHEELS = [(BLACK, _oval(0.1, 0.62, 0.26, 0.38)), (BLACK, _oval(0.64, 0.62, 0.26, 0.38))]
TOPPING = [(RED, _oval(x, y, 0.2, 0.2)) for x, y in ((0.25, 0.25), (0.58, 0.3), (0.4, 0.6))]
HANDS = [(BLACK, _bar(0.46, 0.18, 0.08, 0.36)), (BLACK, _bar(0.46, 0.46, 0.3, 0.08))]
SEAMS = [(BROWN, _bar(0.46, 0.02, 0.08, 0.96)), (BROWN, _bar(0.02, 0.46, 0.96, 0.08))]
PERSON = [(BLUE, _bar(0, 0.3, 1, 0.7)), (SKIN, _oval(0.2, 0, 0.6, 0.3))]
SIGN = [(WHITE, OCTAGON), (RED, _shrunk(OCTAGON, 0.84)), (WHITE, _bar(0.2, 0.42, 0.6, 0.16))]
KITE = [(TEAL, [(0.5, 0.0), (1.0, 0.38), (0.5, 1.0), (0.0, 0.38)]), (YELLOW, [(0.5, 0.0), (1.0, 0.38), (0.5, 0.38)])]
BRUSH = [(GREEN, _bar(0, 0.5, 1, 0.5)), (WHITE, _bar(0.66, 0, 0.34, 0.5))]

KINDS = [
    Kind(1, "person", "person", PERSON, 2.4, (0.12, 0.24), solid=2),
    Kind(3, "car", "vehicle", [(RED, CAR), *WHEELS, (SKY, _bar(0.38, 0.12, 0.28, 0.34))], 0.5, (0.3, 0.6)),
    Kind(13, "stop sign", "outdoor", SIGN, 1.0, (0.2, 0.42)),
    Kind(37, "sports ball", "sports", [(ORANGE, DISC), *SEAMS], 1.0, (0.14, 0.3)),
    Kind(38, "kite", "sports", KITE, 1.3, (0.2, 0.42)),
    Kind(59, "pizza", "food", [(CRUST, DISC), (YELLOW, _shrunk(DISC, 0.82)), *TOPPING], 0.8, (0.24, 0.45)),
    Kind(85, "clock", "indoor", [(BLACK, DISC), (WHITE, _shrunk(DISC, 0.8)), *HANDS], 1.0, (0.2, 0.42)),
    Kind(90, "toothbrush", "indoor", BRUSH, 0.22, (0.35, 0.6), solid=2),
]
