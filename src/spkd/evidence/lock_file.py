"""requirements.lock: which versions it asks for on this machine, and what of them is installed here."""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

NAME = Path("requirements.lock")


def pinned(lock: Path) -> list[Requirement]:
    """The packages of a lock file with their versions, without those that another platform or Python needs."""
    lines = re.findall(r"^[A-Za-z0-9][^\s#]*==[^\\\n]+", lock.read_text(encoding="utf-8"), re.MULTILINE)
    found = [Requirement(line.strip()) for line in lines]
    return [wanted for wanted in found if wanted.marker is None or wanted.marker.evaluate()]


def differing(lock: Path) -> list[str]:
    """Packages whose installed version is not the locked one, each as "name: locked x, installed y"."""
    found = []
    for wanted in pinned(lock):
        try:
            installed = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            installed = "nothing"
        if not wanted.specifier.contains(installed if installed != "nothing" else "0", prereleases=True):
            found.append(f"{wanted.name}: locked {str(wanted.specifier).lstrip('=')}, installed {installed}")
    return found


def installed_bytes(lock: Path) -> int:
    """Disk that the locked packages take here; of those that are not installed here nothing is known."""
    total = 0
    for wanted in pinned(lock):
        try:
            files = metadata.files(wanted.name) or []
        except metadata.PackageNotFoundError:
            continue
        total += sum(file.size or 0 for file in files)
    return total
