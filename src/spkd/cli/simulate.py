"""Write the small simulated recordings and images of sample/, byte-identical on every run."""

from pathlib import Path
from typing import Any

from spkd import plugin
from spkd.errors import SpkdError
from spkd.settings import Settings

SECTIONS = ()
OPTIONS = {
    "out": "the folder to write to, default sample [path]",
    "seed": "a whole number, default 0; another one is another world",
    "only": "the name of one simulated source, such as chest; default all of them",
}


def main(words: list[str], settings: Settings, tree: dict[str, Any], options: dict[str, str]) -> int:
    """Write each simulated source."""
    out, seed = Path(options.get("out", "sample")), options.get("seed", "0")
    names = [n for n in plugin.names("simulate") if hasattr(plugin.load("simulate", n), "write")]
    if not seed.isdecimal():
        raise SpkdError("--seed", "a whole number from 0", repr(seed), "correct it")
    if options.get("only", names[0]) not in names:
        raise SpkdError("--only", "a simulated source", repr(options["only"]), plugin.nearest(options["only"], names))
    for name in [options["only"]] if "only" in options else names:
        files = plugin.load("simulate", name).write(out / name, int(seed))
        print(f"{out / name}: {len(files)} files, {sum(f.stat().st_size for f in files) / 2**20:.2f} MiB, simulated")
    return 0
