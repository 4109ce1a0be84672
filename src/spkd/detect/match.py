"""Which record of a COCO JSON each image of a YOLO data set is: by its path, as two folders may hold one name.

Contract: pure functions of names; nothing is opened.
"""

from collections import Counter
from collections.abc import Iterable, Sequence


def rows(images: Iterable[str], files: Sequence[str]) -> list[int]:
    """The row in `files` of each image, -1 where it is none of them.

    images: paths of any length. files: the records' file_name. The longest end of an image's path that is the whole
    path of a record wins; suffixes and folders called `images` do not count, as the converter leaves those out. Where
    no record fits as a whole (someone put all images into one folder), a bare name that only one record has does.
    """
    whole = {"/".join(_parts(file)): row for row, file in enumerate(files)}
    names = Counter(key.rpartition("/")[2] for key in whole)
    bare = {name: row for key, row in whole.items() if names[name := key.rpartition("/")[2]] == 1}
    found = []
    for image in images:
        parts = _parts(image)
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        found.append(next((whole[end] for end in ends if end in whole), bare.get(parts[-1], -1)))
    return found


def _parts(path: str) -> list[str]:
    """Folders and bare name."""
    *folders, name = path.replace("\\", "/").split("/")
    return [folder for folder in folders if folder not in ("images", ".")] + [name.rpartition(".")[0] or name]
