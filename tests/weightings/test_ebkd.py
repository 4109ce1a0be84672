import math

import pytest
import torch

from spkd.weightings.ebkd import ebkd, entropy

LABELS = torch.zeros(1, dtype=torch.int64)


def test_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3.0), 0.0, -100.0, -100.0]])
    by_hand = [math.log(4), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))]
    assert entropy(logits).tolist() == pytest.approx(by_hand, rel=1e-6)


def test_weights_by_hand_of_three_teachers():
    logits = [torch.zeros(1, 4), torch.tensor([[math.log(3.0), 0.0, -100.0, -100.0]]), torch.zeros(1, 4)]
    h = [entropy(known).item() for known in logits]
    by_hand = [(1 - one / sum(h)) / 2 for one in h]
    assert ebkd(logits, LABELS).flatten().tolist() == pytest.approx(by_hand, rel=1e-6)
    assert by_hand[1] > by_hand[0]


def test_teachers_that_are_all_certain_have_equal_weights():
    certain = torch.tensor([[1000.0, 0.0]])
    assert ebkd([certain, certain.flip(1)], LABELS).flatten().tolist() == [0.5, 0.5]


def test_labels_do_not_matter():
    logits = list(torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(ebkd(logits, torch.zeros(5, dtype=torch.int64)), ebkd(logits, torch.arange(5) % 4))
