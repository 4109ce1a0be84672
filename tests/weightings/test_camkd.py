import math

import pytest
import torch

from spkd.weightings.camkd import camkd


def test_weights_by_hand_of_two_teachers():
    # The true class has probability 3/4 and 1/4: softmax of the costs is (p2, p1) / (p1 + p2) = (1/4, 3/4).
    logits = [torch.tensor([[math.log(3.0), 0.0]] * 2), torch.tensor([[0.0, math.log(3.0)]] * 2)]
    weights = camkd(logits, torch.tensor([0, 1]))  # of each window by itself
    assert weights.T.flatten().tolist() == pytest.approx([3 / 4, 1 / 4, 1 / 4, 3 / 4])


def test_weights_by_hand_of_three_teachers():
    costs = [math.log(2), math.log(2), math.log(4)]
    logits = [torch.tensor([[-c, math.log(1 - math.exp(-c))]]) for c in costs]
    by_hand = [(1 - math.exp(c) / 8) / 2 for c in costs]
    assert camkd(logits, torch.tensor([0])).flatten().tolist() == pytest.approx(by_hand)
