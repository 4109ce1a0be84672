import math

import pytest
import torch

from spkd.losses.cross_entropy import cross_entropy


def test_value_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    labels = torch.tensor([1, 1])
    assert cross_entropy(logits, labels).item() == pytest.approx((math.log(4 / 3) + math.log(5)) / 2)


def test_even_logits_cost_log_of_the_number_of_classes():
    assert cross_entropy(torch.zeros(5, 12), torch.arange(5)).item() == pytest.approx(math.log(12))
