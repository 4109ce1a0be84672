"""The whole fast path against the loop that people write: plain layers, live teachers, published formulas."""

from dataclasses import replace

import pytest
import torch
from tests.models.plain_wide_resnet import PlainWideResNet
from torch.nn import functional

from spkd.data.batches import order
from spkd.losses import sp
from spkd.models.wide_resnet import WideResNet
from spkd.training import loop
from spkd.training.remembered import remember
from spkd.training.schedule import learning_rate
from spkd.training.taps import taps
from spkd.training.teachers import LiveTeacher
from spkd.views import gaf

TAPS = ["group1", "group2", "group3"]
BETA, LAMBDA, TEMPERATURE, SIZE = 200.0, 0.5, 4.0, 8


def plain(of, dims):
    made = PlainWideResNet(10, of.head.in_features // 64, of.stem.in_channels, of.head.out_features, dims)
    made.load_state_dict(of.state_dict())
    return made


def plain_map(feature):
    gram = feature.flatten(1) @ feature.flatten(1).T
    return gram / gram.norm(dim=1, keepdim=True)


def plain_fit(student, teachers, task, settings, seed):
    """teachers: (network, function of a batch). One step after the other, nothing remembered."""
    momentum = [torch.zeros_like(p) for p in student.parameters()]
    losses = []
    for epoch in range(settings.epochs):
        lr = learning_rate(epoch, settings.epochs, settings.lr, settings.lr_final, settings.schedule)
        student.train()
        for rows in torch.split(order(task.train, seed, epoch), settings.batch):
            x, labels = task.windows.batch(rows).contiguous(), task.windows.label[rows]
            with taps(student, TAPS) as own:
                logits = student(x)
            total = (1 - LAMBDA) * functional.cross_entropy(logits, labels)
            maps = dict.fromkeys(TAPS, 0)
            for network, rendered in teachers:
                with torch.no_grad(), taps(network.eval(), TAPS) as known:
                    soft = network(rendered(x))
                p, q = (functional.log_softmax(z / TEMPERATURE, dim=1) for z in (soft, logits))
                total = total + LAMBDA / len(teachers) * TEMPERATURE**2 * (p.exp() * (p - q)).sum() / len(rows)
                maps = {tap: m + plain_map(known[tap]) / len(teachers) for tap, m in maps.items()}
            for tap in TAPS:
                total = total + BETA * (maps[tap] - plain_map(own[tap])).square().sum() / len(rows) ** 2
            gradients = torch.autograd.grad(total, list(student.parameters()))
            losses.append(float(total.detach()))
            with torch.no_grad():
                for parameter, gradient, moving in zip(student.parameters(), gradients, momentum, strict=True):
                    moving.mul_(settings.momentum).add_(gradient + settings.weight_decay * parameter)
                    parameter.sub_(lr * moving)
    return losses


@pytest.fixture
def image_task(make_task):
    """A student of a signal teacher and of a Gramian-field teacher, and the two live teachers."""
    task = make_task(teachers=1)
    network = WideResNet(10, 1, len(task.windows.channels), 3, 2, torch.Generator().manual_seed(20))
    image = LiveTeacher("image", network, lambda x, rows: gaf.render(x, SIZE), task.windows, TAPS)
    return replace(task, teachers=[*task.teachers, image])


@pytest.mark.parametrize("products", [True, False])
def test_training_is_that_of_plain_layers_live_teachers_and_published_formulas(
    image_task, settings, tmp_path, products
):
    settings = settings.model_copy(update={"epochs": 2, "lr": 0.003})
    slow, seed = plain(image_task.network, 1), 0
    teachers = [
        (plain(image_task.teachers[0].network, 1), lambda x: x),
        (plain(image_task.teachers[1].network, 2), lambda x: gaf.render(x, SIZE)),
    ]
    losses = plain_fit(slow, teachers, image_task, settings, seed)
    wrap = sp.Products if products else None
    kept = [remember(t, image_task.train, 10, 2**30, tmp_path / "answers", wrap)[0] for t in image_task.teachers]
    fast = replace(image_task, teachers=kept)
    state = loop.fit(fast, settings, seed, tmp_path / "c.safetensors", "key", lambda state: None)
    steps = len(losses) // settings.epochs
    means = [sum(losses[k * steps : (k + 1) * steps]) / steps for k in range(settings.epochs)]
    assert [e.losses["total"] for e in state.history] == pytest.approx(means, rel=1e-4)
    ours = fast.network.state_dict()
    counts = "num_batches_tracked"  # which nothing reads and ours does not keep
    for name, value in ((name, value) for name, value in slow.state_dict().items() if counts not in name):
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
