import pytest
import torch

from spkd.detect import features

BOXES = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.75, 0.5, 0.25, 0.5]])
IMAGE = torch.tensor([0, 0, 1])


def slow_under_boxes(x: torch.Tensor, boxes: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The twin with loops: every cell weighted by the area that the box covers of it."""
    found = []
    for (cx, cy, w, h), i in zip(boxes.tolist(), image.tolist(), strict=True):
        rows, columns = x.shape[2:]
        total, area = torch.zeros(x.shape[1]), 0.0
        for r in range(rows):
            for c in range(columns):
                down = max(0.0, min(cy + h / 2, (r + 1) / rows) - max(cy - h / 2, r / rows))
                across = max(0.0, min(cx + w / 2, (c + 1) / columns) - max(cx - w / 2, c / columns))
                total += down * across * x[i, :, r, c]
                area += down * across
        found.append(total / area)
    return torch.stack(found)


def test_object_pooling_equals_the_loop_over_cells() -> None:
    x = torch.randn(2, 5, 3, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(features.under_boxes(x, BOXES, IMAGE), slow_under_boxes(x, BOXES, IMAGE))


def test_a_box_over_one_quadrant_pools_that_quadrant() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert features.under_boxes(x, BOXES[:1], IMAGE[:1]).item() == (0 + 1 + 4 + 5) / 4


def test_a_box_smaller_than_a_cell_takes_that_cell() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert features.under_boxes(x, torch.tensor([[0.75, 0.25, 0.01, 0.01]]), IMAGE[:1]).item() == 1.0


def test_images_without_objects_leave_the_others_alone() -> None:
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    pooled = features.under_boxes(x, BOXES[1:2], torch.tensor([2]))
    torch.testing.assert_close(pooled[0], x[2].mean((1, 2)))


def test_pooled_and_object_rows_are_centred_and_flattened_ones_are_not() -> None:
    x = torch.rand(2, 5, 4, 4, generator=torch.Generator().manual_seed(2)) + 3
    for mode in ("pooled", "object"):
        assert features.rows(x, mode, BOXES, IMAGE).mean(0).abs().max() < 1e-6
    assert features.rows(x, "batch", BOXES, IMAGE).shape == (2, 80)
    assert features.rows(x, "batch", BOXES, IMAGE).mean() > 3


def test_rows_are_float32_whatever_the_features_and_the_autocast() -> None:
    x = torch.full((2, 4, 80, 80), 200.0, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {features.rows(x, mode, BOXES, IMAGE).dtype for mode in features.MODES} == {torch.float32}


def test_levels_are_named_by_their_stride() -> None:
    assert features.level_names(torch.tensor([8.0, 16.0, 32.0, 64.0])) == ["P3", "P4", "P5", "P6"]


def test_at_most_so_many_objects_are_chosen_evenly_and_in_order() -> None:
    chosen = features.evenly(10, 4, torch.device("cpu"))
    assert chosen.tolist() == [0, 3, 6, 9]
    assert features.evenly(6, 4, torch.device("cpu")).tolist() == [0, 2, 3, 5]  # of 0, 1.67, 3.33, 5
    assert features.evenly(3, 4, torch.device("cpu")).tolist() == [0, 1, 2]


def test_a_dead_teacher_is_told_from_a_nearly_uniform_one() -> None:
    noise = torch.randn(8, 6, 4, 4, generator=torch.Generator().manual_seed(4))
    nearly_uniform = 1 + 0.1 * noise.mean((2, 3), keepdim=True) + 0 * noise
    assert features.is_dead(nearly_uniform) == ""
    assert "untrained" in features.is_dead(noise * 1e-8)
    assert "vary by" in features.is_dead(torch.ones_like(noise) + 1e-6 * noise)


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: (None, p), lambda p: {"one2many": p, "one2one": {}}])
def test_the_head_inputs_are_found_in_every_form_of_output(wrap: object) -> None:
    levels = [torch.zeros(1), torch.ones(1)]
    assert features.of(wrap({"feats": levels})) == levels  # type: ignore[operator]
