"""The front door: `spkd <command> [words] [--section.key value ...]`. Finds the command's file in cli/ and runs it.

`--help` reads files as text and imports no command, so that it answers at once.
"""

import contextlib
import gc
import itertools
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from spkd import __version__, config, plugin
from spkd.errors import SpkdError
from spkd.settings import Settings

# Rounds that an OpenMP thread waits awake before it sleeps: some microseconds. Asleep at once, two threads train a
# small student at half the speed; the library's own 300,000 cost a machine with other work many times what they gain.
SPINS = "3000"
FEWER_THREADS = ("OMP_DYNAMIC", "OMP_THREAD_LIMIT")


def overview() -> str:
    """The list of commands, one line each."""
    lines = ["usage: spkd <command> [--section.key value ...]", ""]
    for name in plugin.names("cli"):
        lines.append(f"  {name.replace('_', '-'):<16} {plugin.describe('cli', name)[0]}")
    return "\n".join([*lines, "", "spkd <command> --help explains every setting that the command reads."])


def explain(command: str, path: Path) -> str:
    """The help of one command: its words, its options, and every setting it reads with value, meaning and unit.

    Where the settings file `path` is missing, as outside of a project, the help says so in their place.
    """
    summary, constants = plugin.describe("cli", command)
    sections, positional = constants.get("SECTIONS", ()), constants.get("POSITIONAL", {})
    words = {f"[{w[:-1]}]" if w.endswith("?") else f"<{w}>": meaning for w, meaning in positional.items()}
    options = {f"--{name} VALUE": meaning for name, meaning in constants.get("OPTIONS", {}).items()}
    options["--params VALUE"] = f"the settings file, default {config.PARAMS} [path]"
    usage = [command.replace("_", "-"), *words, "[--option VALUE ...]", *["[--section.key value ...]"] * bool(sections)]
    lines = [f"usage: spkd {' '.join(usage)}", "", summary, ""]
    lines += [f"  {word}".ljust(24) + f" {meaning}" for word, meaning in {**words, **options}.items()]
    if "RESOLVES" in constants:
        lines += ["", "Any setting of `spkd distill` may be given as well, for every cell."]
    return "\n".join([*lines, *_settings(sections, path)])


def _settings(sections: tuple[str, ...], path: Path) -> list[str]:
    """The lines of help for the settings in these sections."""
    if not sections:
        return []
    if not path.is_file():
        there = f"see this help in a project's folder ({path} is missing)"
        return ["", f"It reads the settings {', '.join(sections)}: {there}."]
    tree, comments = config.resolve(config.read(path), {}, path), config.comments(path)
    lines = [""]
    if "train" in sections:
        sections = (*sections, *(f"datasets.{tree['dataset']}.{part}" for part in ("split", "scaling")))
    for section in sections:
        found = {section: config.at(tree, section)}
        if section in comments and found[section] and isinstance(found[section], dict):
            lines += ["", f"{section}: {comments[section]}"][not lines[-1] :]
        if section == "tables":  # what each is about; params.yaml holds their definitions
            shown = [(f"tables.{name}", "", config.at(found, f"tables.{name}.about")) for name in found[section]]
        else:
            shown = [(key, config.dump(value), comments.get(key, "")) for key, value in config.leaves(found)]
        told = {section}
        for key, value, meaning in shown:
            for group in [g for g in comments if key.startswith(f"{g}.") and g not in told]:
                lines += [f"  {group}: {comments[group]}"] * (comments[group] != meaning)
                told.add(group)
            lines.append(f"  --{key} {value}".ljust(52) + f" {meaning}")
    return [*lines, "", f"Values shown are those of {path} with preset {tree.get('preset')!r} over them."]


def _fitted(text: str) -> str:
    """The text, on a terminal broken between words, with what goes on further in; whole lines for a pipe or a file."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    further = " " * (53 if width > 106 else 8)
    broken = []
    for line in text.split("\n"):
        inside = further if line.startswith(" ") else ""
        broken += textwrap.wrap(line, width, subsequent_indent=inside, break_on_hyphens=False) or [""]
    return "\n".join(broken)


def split_words(words: list[str], options: Collection[str]) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    """(positional words, this command's own options, settings overrides)."""
    plain = []
    while words and not words[0].startswith("--"):
        plain.append(words[0])
        words = words[1:]
    given = config.overrides(words, options)
    own = {key: str(given.pop(key)) for key in list(given) if key in options}
    return plain, own, given


def run(command: str, words: list[str]) -> int:
    """Run one command; returns its exit status. Raises SpkdError on a mistake that the user can mend."""
    name = command.replace("-", "_")
    if name not in plugin.names("cli"):
        known = [n.replace("_", "-") for n in plugin.names("cli")]
        raise SpkdError("command line", "a command", repr(command), plugin.nearest(command, known))
    constants = plugin.describe("cli", name)[1]
    if "--help" in words or "-h" in words:
        parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
        file = next((after for word, after in itertools.pairwise(parts) if word == "--params"), config.PARAMS)
        print(_fitted(explain(name, Path(file))))
        return 0
    plain, own, given = split_words(words, ("params", *constants.get("OPTIONS", {})))
    allowed = constants.get("POSITIONAL", {})
    needed = sum(not w.endswith("?") for w in allowed)
    if not needed <= len(plain) <= len(allowed):
        setting = next((word for word in plain if "=" in word), None)
        do = f"write --{setting}" if setting else f"see `spkd {command} --help`"
        raise SpkdError("command line", f"words: {' '.join(allowed) or 'none'}", " ".join(plain) or "none", do)
    file = Path(own.pop("params", config.PARAMS))
    raw = config.read(file)
    tree = config.resolve(raw, given, file)
    sections = constants.get("SECTIONS", ())
    if "RESOLVES" not in constants:
        config.require_read(given, tree, sections, command)
    line = config.preset_line(raw, given, sections) if "preset" in sections else ""
    if "preset" in sections:
        config.require_expected(tree, sections)
    settings = config.check(Settings, tree, "", file)
    if line:
        print(line, flush=True)
    _keep_all_threads()
    with _importing():
        module = plugin.load("cli", name)
    if "RESOLVES" in constants:  # it puts further keys between the file's and the command line's
        return int(module.main(plain, raw, given) or 0)
    arguments = (plain, settings, tree, own) if "OPTIONS" in constants else (plain, settings, tree)
    return int(module.main(*arguments) or 0)


def _keep_all_threads() -> None:
    """Leave out what lets OpenMP give fewer threads than it is asked for, and say so; it reads this when it is loaded.

    oneDNN's products wait for the missing ones for ever, and sums would come in an order that no record knows.
    """
    for name in FEWER_THREADS:
        value = os.environ.get(name, "")
        if value and value.lower() != "false":
            del os.environ[name]
            print(f"spkd: {name}={value} is left out: run.threads says how many threads there are", file=sys.stderr)


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Imports make a million objects that stay: looking for garbage among them takes a sixth of a short run."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(f"signal {signal.Signals(number).name}")


def main(argv: list[str] | None = None) -> int:
    """Exit status of one call: 0 done, 1 a check failed, 2 a mistake that the message says how to mend, 130 stopped."""
    words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    signal.signal(signal.SIGTERM, _interrupt)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        if words[0] == "--version":
            print(__version__)
            return 0
        if words[0] in ("--help", "-h", "help"):
            if words[1:]:
                return run(words[1], ["--help"])
            print(_fitted(overview()))
            return 0
        return run(words[0], words[1:])
    except SpkdError as error:
        print(f"spkd {words[0]}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a folder that may not be written: nothing that a traceback would explain
        place = error.filename2 or error.filename  # of a copy: where it goes
        where = f"{place}: " if place else ""
        print(f"spkd {words[0]}: {where}{error.strerror or error}; check space and permissions there", file=sys.stderr)
        return 2
    except MemoryError as error:  # numpy's
        said = str(error) or "no memory is left"
        print(f"spkd {words[0]}: {said}; look what else takes it, or use a machine with more", file=sys.stderr)
        return 2
    except RuntimeError as error:  # torch's of a device full of others' work: a traceback would not say what to do
        from spkd import memory

        said = memory.lacking(error)
        if not said:
            raise
        do = "look what else takes it (a GPU's: nvidia-smi), or use another device"
        print(f"spkd {words[0]}: {said}; {do}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"spkd {words[0]}: stopped ({str(stop) or 'Ctrl-C'})", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
