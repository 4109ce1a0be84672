"""The comparison of YOLO versions: right facts, timed in turns, and a name that is not there is an error."""

from pathlib import Path

import pytest

from spkd.detect import versions
from spkd.errors import SpkdError


@pytest.fixture(scope="module")
def pair(tiny_yaml: Path) -> dict[str, object]:
    return {"yolov8n.yaml": versions.build("yolov8n.yaml"), str(tiny_yaml): versions.build(str(tiny_yaml))}


def test_yolov8n_has_its_published_size_and_head(pair: dict[str, object]) -> None:
    found = versions.describe("yolov8n.yaml", pair["yolov8n.yaml"], 640, 37.3)
    assert round(found.parameters / 1e6, 1) == 3.2 and 8.5 < found.gflops < 9.0  # docs: 3.2 M, 8.7 GFLOPs
    assert (found.anchor_free, found.head, found.one_to_one, found.bins) == (True, "Detect", False, 16)
    assert "C2f" in found.blocks and "C3k2" not in found.blocks


def test_yolo26_regresses_plain_numbers_and_has_a_head_without_nms() -> None:
    found = versions.describe("yolo26n.yaml", versions.build("yolo26n.yaml"), 320, None)
    assert found.one_to_one and found.bins == 1 and "C3k2" in found.blocks and found.head == "Detect, depthwise"


def test_every_round_times_every_model_and_the_table_compares_with_the_reference(
    pair: dict[str, object], tiny_yaml: Path
) -> None:
    described = [versions.describe(n, m, 64, p) for (n, m), p in zip(pair.items(), (37.3, None), strict=True)]
    times = versions.time_in_turns(pair, 64, 3, "cpu")  # type: ignore[arg-type]
    assert [(len(wall), len(cpu)) for wall, cpu in times.values()] == [(3, 3), (3, 3)]
    from dataclasses import replace

    timed = [replace(v, latency_ms=t[0], cpu_ms=t[1]) for v, t in zip(described, times.values(), strict=True)]
    table = versions.columns(timed, "yolov8n")
    assert (
        table["time / yolov8n"][0] == 1.0
        and table["time / yolov8n"][1] < 1.0
        and table["model"] == ["yolov8n", tiny_yaml.stem]
    )
    text = versions.markdown(table).splitlines()
    assert len(text) == 4 and text[2].count("|") == text[0].count("|")
    assert versions.figure(timed, "a machine", 64).axes


def test_a_model_that_ultralytics_lacks_is_an_error() -> None:
    with pytest.raises(SpkdError, match="yolo_versions.models"):
        versions.build("yolov97q.yaml")
