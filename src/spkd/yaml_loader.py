"""How YAML is read and written: each key once, numbers as YAML 1.2 has them."""

import re
from typing import Any

import yaml

from spkd.errors import SpkdError

# libyaml where PyYAML was built with it: a tenth of the time, on the way of every command.
Loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
Dumper: Any = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper
# Numbers and truths as YAML 1.2 has them, and DVC reads them: 1e-2 is a number, 010 is ten, `no` is a word.
NUMBERS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
MOST_VALUES = 100_000  # params.yaml has 4,000; nine aliases of nine aliases of nine ... would be read for ever


def _parts(node: yaml.Node) -> list[yaml.Node]:
    """The nodes in a node: keys and values of a mapping, items of a list."""
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    return [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node is with every alias written out. known: those of other nodes, by id; filled here."""
    if id(node) not in known:
        known[id(node)] = 1 + sum(_n_values(part, known) for part in _parts(node))
    return known[id(node)]


class UniqueKeys(Loader):  # type: ignore[misc]
    """SafeLoader that refuses a key written twice in one mapping (YAML would silently keep the last).

    source: the file, or what else the text is from.
    """

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.source = source
        self.deep_construct = True  # else PyYAML lets a mapping hold itself

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name
        first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in NUMBERS]
        for first, known in Loader.yaml_implicit_resolvers.items()
    }

    def get_single_data(self) -> Any:
        """The value of the text, None of an empty one; raises SpkdError where aliases multiply it without measure."""
        node = self.get_single_node()
        if node is not None and (n := _n_values(node, {})) > MOST_VALUES:
            expected = f"at most {MOST_VALUES:,} values with every alias (*name) written out"
            raise SpkdError(self.source, expected, f"{n:,}", "use fewer aliases of aliases")
        return self.construct_document(node) if node is not None else None

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """A whole number: 010 is ten."""
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; raises SpkdError that names its line where it is not what it looks like: 2026-02-30."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError):  # of dates, of thousands of digits, of !!bool and its kin
            where, kind = f"{self.source}:{node.start_mark.line + 1}", node.tag.rpartition(":")[2]
            do = "correct it there, or write it in quotes"
            raise SpkdError(where, f"what YAML takes for {kind}", repr(str(node.value)[:80]), do) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises SpkdError on a key that is there twice, or is no name."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if isinstance(key, list | dict):
                raise SpkdError(f"{self.source}:{line}", "a name as a key", repr(key), "correct it there")
            if key in seen:
                raise SpkdError(f"{self.source}:{line}", "each key once", f"{key!r} twice", "delete one of them")
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class ForDvc(UniqueKeys):
    """UniqueKeys that also refuses [gaf:wrn16-3] without quotes: DVC reads the file too, and takes it for no YAML."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; raises SpkdError where a word with a colon stands bare between brackets."""
        if isinstance(node, yaml.CollectionNode) and node.flow_style:
            for word in _parts(node):
                if isinstance(word, yaml.ScalarNode) and not word.style and ":" in word.value:
                    where, do = f"{self.source}:{word.start_mark.line + 1}", f'write "{word.value}"'
                    raise SpkdError(where, "quotes around a word with a colon within brackets", word.value, do)
        return super().construct_object(node, deep)


class Writer(Dumper):  # type: ignore[misc]
    """SafeDumper that quotes a text which either version of YAML would read as something else."""


for _kind, (_pattern, _first) in NUMBERS.items():
    for _of in (UniqueKeys, Writer):
        _of.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), list(_first))
UniqueKeys.add_constructor("tag:yaml.org,2002:int", UniqueKeys.construct_whole)
