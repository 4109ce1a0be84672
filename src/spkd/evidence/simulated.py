"""What marks everything made from simulated recordings, wherever its numbers or pictures are shown."""

import functools

import numpy as np

ORIGIN = "simulated"  # data.origin of such a run
NOTE = "> **Simulated data.** The numbers show that the software works, nothing about people."
MARK = "[SIMULATED DATA]"
STRIP_PX = 16


def marked(pixels: np.ndarray, origin: str) -> np.ndarray:
    """The picture, (h, w, 3) uint8, above a strip with the mark where its data are simulated; else as it is."""
    return np.concatenate([pixels, _strip(pixels.shape[1])]) if origin == ORIGIN else pixels


@functools.cache
def _strip(width: int) -> np.ndarray:
    """(STRIP_PX, width, 3) uint8: the mark in red on white."""
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (width, STRIP_PX), "white")
    ImageDraw.Draw(strip).text((3, 2), MARK, "#b3261e", ImageFont.load_default(size=11))
    return np.asarray(strip)
