"""Colours of lines, and of numbers: viridis, Blues and RdBu as matplotlib has them, without the time to import it.

Contract: a name that ends in `_r` is the map from its other end. What is not a number is BLANK.
"""

import base64
import functools
import io

import numpy as np
from PIL import Image

BLANK = (236, 236, 236)
LINES = (
    "#2f6db3", "#d9772b", "#2a9464", "#b8439b", "#5a4fcf", "#c23b3b", "#178fa6", "#8a6d3b", "#7c8a1e", "#6f7782",
)  # fmt: skip
DASHES = ("", "6 3", "2 3", "12 4", "8 3 2 3", "1 5", "12 3 2 3 2 3")
Limits = tuple[float, float]

# Blues and RdBu: ColorBrewer's colours (Brewer, Harrower et al., Apache 2.0), even steps with straight lines between.
STOPS = {
    "Blues": "f7fbffdeebf7c6dbef9ecae16baed64292c62171b508519c08306b",
    "RdBu": "67001fb2182bd6604df4a582fddbc7f7f7f7d1e5f092c5de4393c32166ac053061",
    # Smith and van der Walt, CC0: all 256 colours.
    "viridis": (
        "44015444025544035745055845065a45085b46095c460b5e460c5f460e61470f6247116347126547146647156747166947186a48196b"
        "481a6c481c6e481d6f481e70482071482172482273482374472575472676472777472878472a79472b7a472c7b462d7c462f7c46307d"
        "46317e45327f45347f453580453681443781443982433a83433b83433c84423d84423e854240854141864142864043874044873f4587"
        "3f47883e48883e49893d4a893d4b893d4c893c4d8a3c4e8a3b508a3b518a3a528b3a538b39548b39558b38568b38578c37588c37598c"
        "365a8c365b8c355c8c355d8c345e8d345f8d33608d33618d32628d32638d31648d31658d31668d30678d30688d2f698d2f6a8d2e6b8e"
        "2e6c8e2e6d8e2d6e8e2d6f8e2c708e2c718e2c728e2b738e2b748e2a758e2a768e2a778e29788e29798e287a8e287a8e287b8e277c8e"
        "277d8e277e8e267f8e26808e26818e25828e25838d24848d24858d24868d23878d23888d23898d22898d228a8d228b8d218c8d218d8c"
        "218e8c208f8c20908c20918c1f928c1f938b1f948b1f958b1f968b1e978a1e988a1e998a1e998a1e9a891e9b891e9c891e9d881e9e88"
        "1e9f881ea0871fa1871fa2861fa38620a48520a58521a68521a78422a78423a88323a98224aa8225ab8126ac8127ad8028ae7f29af7f"
        "2ab07e2bb17d2cb17d2eb27c2fb37b30b47a32b57a33b67935b77836b87738b97639b9763bba753dbb743ebc7340bd7242be7144be70"
        "45bf6f47c06e49c16d4bc26c4dc26b4fc36951c46853c56755c66657c66559c7645bc8625ec96160c96062ca5f64cb5d67cc5c69cc5b"
        "6bcd596dce5870ce5672cf5574d05477d05279d1517cd24f7ed24e81d34c83d34b86d44988d5478bd5468dd64490d64392d74195d73f"
        "97d83e9ad83c9dd93a9fd938a2da37a5da35a7db33aadb32addc30afdc2eb2dd2cb5dd2bb7dd29bade27bdde26bfdf24c2df22c5df21"
        "c7e01fcae01ecde01dcfe11cd2e11bd4e11ad7e219dae218dce218dfe318e1e318e4e318e7e419e9e419ece41aeee51bf1e51cf3e51e"
        "f6e61ff8e621fae622fde724"
    ),
}


@functools.cache
def table(name: str) -> np.ndarray:
    """(256, 3) uint8: the colours of a map from its low end to its high end."""
    known = np.frombuffer(bytes.fromhex(STOPS[name.removesuffix("_r")]), np.uint8).reshape(-1, 3)
    places, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(known))
    # The little more than nothing keeps a stop's own colour from being cut to the one below.
    found = np.stack([np.interp(places, stops, known[:, k] + 1e-9) for k in range(3)], axis=1).astype(np.uint8)
    return found[::-1] if name.endswith("_r") else found


def of_line(number: int) -> tuple[str, str]:
    """(colour, dashes as SVG has them) of a line; no two of seventy are alike."""
    return LINES[number % len(LINES)], DASHES[number // len(LINES) % len(DASHES)]


def _places(entries: np.ndarray, limits: Limits) -> np.ndarray:
    """(...) uint8 rows of the table; entries beyond the limits take its ends, NaN the low one."""
    low, high = limits
    share = np.clip(np.nan_to_num((np.asarray(entries, np.float64) - low) / (high - low)), 0, 1)
    return np.minimum(share * 256, 255).astype(np.uint8)


def pixels(entries: np.ndarray, limits: Limits, name: str) -> np.ndarray:
    """(..., 3) uint8: a colour for every entry, low..high over the whole map."""
    found: np.ndarray = table(name)[_places(entries, limits)]
    return np.where(np.isnan(entries)[..., None], np.array(BLANK, np.uint8), found)


def shades(entries: np.ndarray, limits: Limits, name: str) -> np.ndarray:
    """The same as CSS colours, `#rrggbb`."""
    codes = pixels(entries, limits, name).astype(np.int64) @ (65536, 256, 1)
    found: np.ndarray = np.vectorize("#{:06x}".format, otypes=["U7"])(codes)
    return found


def png(entries: np.ndarray, limits: Limits, name: str) -> str:
    """A (h, w) map as the base64 text of a PNG, one pixel an entry; a large one of numbers has a palette."""
    if entries.size <= 256 or np.isnan(entries).any():  # of fewer pixels than it has colours, the palette is the most
        image = Image.fromarray(pixels(entries, limits, name))
    else:
        image = Image.fromarray(_places(entries, limits))
        image.putpalette(table(name).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
