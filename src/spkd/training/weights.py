"""Trained weights with all that is needed to use them: network, view, scaling, class order, subjects, data digest.

A weights file without its card is refused, so normalisation and label order cannot be lost on the way.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from spkd import config, memory, plugin, seeding
from spkd.errors import SpkdError
from spkd.training import checkpoint


@dataclass(frozen=True)
class Card:
    """What a network was trained on and how its input is made. `scaling` is data.scaling.Scaling as a dictionary.

    train_subjects, validation_subjects: those of the networks that it learned from, too.
    """

    network: str
    network_settings: dict[str, Any]
    view: str
    view_settings: dict[str, Any]
    dataset: str
    data_digest: str
    length: int
    channels: list[str]
    classes: list[str]
    scaling: dict[str, Any]
    train_subjects: list[str]
    validation_subjects: list[str]
    test_subjects: list[str]
    fold: int
    seed: int
    origin: str


def build(card: Card, generator: torch.Generator) -> torch.nn.Module:
    """The untrained network that a card names, initialised from `generator`."""
    sizes = len(card.channels), len(card.classes)
    return build_of(card.network, card.network_settings, card.view, *sizes, generator)


def build_of(
    name: str, network_settings: dict[str, Any], view: str, n_channels: int, n_classes: int, generator: torch.Generator
) -> torch.nn.Module:
    """The same of a network's entry in params.yaml, on a view. Raises SpkdError where the entry does not fit."""
    arguments = dict(network_settings)
    if not isinstance(model := arguments.pop("model", None), str):
        do = "name the file of src/spkd/models that builds it"
        raise SpkdError(f"networks.{name}", "a `model`", repr(model), do)
    module = plugin.load("models", model)
    settings = config.check(module.Settings, arguments, f"networks.{name}")
    dims = plugin.load("views", view).DIMS
    enough = memory.enough(f"params.yaml: networks.{name}", "make it smaller, or choose another network")
    with enough, seeding.global_from(generator):
        network: torch.nn.Module = module.build(settings, n_channels, n_classes, dims, generator)
    return network


def save(path: Path, network: torch.nn.Module, card: Card) -> None:
    """Write weights and card as one safetensors file, atomically."""
    checkpoint.save(path, dict(network.state_dict()), {"card": asdict(card)})


def load(path: Path) -> tuple[torch.nn.Module, Card]:
    """(network in eval mode on the CPU, card). Raises SpkdError where the card is missing or does not fit."""
    tensors, state = checkpoint.load(path, "its run's file in the store was changed: bring it back, or train it again")
    raw = state.get("card", {})
    if not isinstance(raw, dict) or set(raw) != {f.name for f in fields(Card)}:
        got = f"keys {sorted(raw)}" if isinstance(raw, dict) else repr(raw)[:80]
        raise SpkdError(path, "a card with the weights", got, "train it again with this version")
    try:
        TypeAdapter(Card).validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = f"{path}: card: {'.'.join(map(str, first['loc']))}"
        raise SpkdError(where, first["msg"], repr(first["input"]), "train it again, or use an untouched copy") from None
    card = Card(**raw)
    network = build(card, torch.Generator())
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise SpkdError(path, f"weights of {card.network}", str(error).split("\n")[0], "train it again") from None
    return network.eval(), card
