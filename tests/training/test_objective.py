import sys
from pathlib import Path

import pytest
import torch

from spkd import config, plugin
from spkd.errors import SpkdError
from spkd.losses.cross_entropy import cross_entropy
from spkd.losses.kd import kd
from spkd.losses.sp import mixed, sp
from spkd.training.objective import Objective

LOSSES = config.read(Path(__file__).parents[2] / "params.yaml")["losses"]
B, N_CLASSES = 6, 4
TAPS = ("group1", "group2")


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def student() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = draw(0, B, N_CLASSES).requires_grad_()
    return logits, {tap: draw(i + 1, B, 3, 5).requires_grad_() for i, tap in enumerate(TAPS)}


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.arange(B) % N_CLASSES


def teacher(name: str, seed: int) -> tuple[str, torch.Tensor, dict[str, torch.Tensor]]:
    return name, draw(seed, B, N_CLASSES), {tap: draw(seed + i + 1, B, 2, 4, 4) for i, tap in enumerate(TAPS)}


def test_total_of_one_teacher_is_the_published_sum(student, labels):
    logits, features = student
    name, t_logits, t_features = teacher("image", 10)
    total, parts = Objective(0.7, [], {"sp": 200.0}, LOSSES)(logits, features, [(name, t_logits, t_features)], labels)
    ce, soft = cross_entropy(logits, labels), kd(logits, t_logits, 4.0)
    maps = sum(sp(features[tap], t_features[tap]) for tap in TAPS)
    torch.testing.assert_close(total, 0.3 * ce + 0.7 * soft + 200 * maps)
    assert {n: v.item() for n, v in parts.items()} == pytest.approx(
        {"cross_entropy": ce.item(), "kd/image": soft.item(), "sp": maps.item()}
    )


def test_total_of_two_teachers_weighs_them_by_alpha(student, labels):
    logits, features = student
    a, b = teacher("a", 10), teacher("b", 20)
    objective = Objective(0.99, [0.3, 0.7], {"sp": 5.0}, LOSSES)
    total, parts = objective(logits, features, [a, b], labels)
    soft = 0.3 * kd(logits, a[1], 4.0) + 0.7 * kd(logits, b[1], 4.0)
    maps = sum(mixed(features[t], [a[2][t], b[2][t]], [0.3, 0.7]) for t in TAPS)
    torch.testing.assert_close(total, 0.01 * cross_entropy(logits, labels) + 0.99 * soft + 5 * maps)
    assert set(parts) == {"cross_entropy", "kd/a", "kd/b", "sp"}


def test_no_alphas_means_equal_ones(student, labels):
    teachers = [teacher(name, 10 * i) for i, name in enumerate("abc", 1)]
    equal, _ = Objective(0.5, [], {"sp": 3.0}, LOSSES)(*student, teachers, labels)
    thirds, _ = Objective(0.5, [1 / 3] * 3, {"sp": 3.0}, LOSSES)(*student, teachers, labels)
    torch.testing.assert_close(equal, thirds)


def test_settings_of_the_losses_are_used(student, labels):
    losses = {**LOSSES, "kd": {"temperature": 2.0, "reduction": "paper"}, "sp": {"mixing": "paper"}}
    a, b = teacher("a", 10), teacher("b", 20)
    _, parts = Objective(0.5, [0.5, 0.5], {"sp": 1.0}, losses)(*student, [a, b], labels)
    torch.testing.assert_close(parts["kd/a"], kd(student[0], a[1], 2.0, "paper").detach())
    expected = sum(mixed(student[1][t], [a[2][t], b[2][t]], [0.5, 0.5], "paper") for t in TAPS)
    torch.testing.assert_close(parts["sp"], expected.detach())


def test_without_teachers_the_total_is_the_plain_cross_entropy(student, labels):
    total, parts = Objective(0.7, [], {"sp": 200.0}, LOSSES)(*student, [], labels)
    torch.testing.assert_close(total, cross_entropy(student[0], labels))
    assert set(parts) == {"cross_entropy"}


def test_parts_are_detached_and_the_total_is_not(student, labels):
    total, parts = Objective(0.7, [], {"sp": 200.0}, LOSSES)(*student, [teacher("a", 10)], labels)
    assert total.requires_grad
    assert not any(value.requires_grad for value in parts.values())


def test_no_gradient_reaches_a_teacher(student, labels):
    name, t_logits, t_features = teacher("a", 10)
    leaves = [t_logits.requires_grad_(), *(t.requires_grad_() for t in t_features.values())]
    total, _ = Objective(0.7, [], {"sp": 200.0}, LOSSES)(*student, [(name, t_logits, t_features)], labels)
    total.backward()
    assert all(leaf.grad is None for leaf in leaves)
    assert all(t.grad.abs().sum() > 0 for t in (student[0], *student[1].values()))


def test_features_are_asked_for_only_where_a_feature_loss_weighs_something(student, labels):
    assert Objective(0.7, [], {"sp": 200.0}, LOSSES).needs_features
    without = Objective(0.7, [], {"sp": 0.0}, LOSSES)
    assert not without.needs_features
    assert not Objective(0.7, [], {}, LOSSES).needs_features
    name, logits, _ = teacher("a", 10)
    _, parts = without(student[0], {}, [(name, logits, {})], labels)
    assert set(parts) == {"cross_entropy", "kd/a"}


def test_a_term_of_weight_zero_is_shown_but_cannot_break_the_total(student, labels):
    name, logits, features = teacher("a", 10)
    total, parts = Objective(0.0, [], {}, LOSSES)(*student, [(name, logits * torch.inf, features)], labels)
    assert not torch.isfinite(parts["kd/a"])
    torch.testing.assert_close(total, cross_entropy(student[0], labels))


def test_another_number_of_alphas_than_teachers_is_refused(student, labels):
    objective = Objective(0.7, [0.5, 0.5], {}, LOSSES)
    with pytest.raises(SpkdError, match=r"distill.alphas: expected 1 weights"):
        objective(*student, [teacher("a", 10)], labels)


def test_two_teachers_of_one_name_are_refused(student, labels):
    with pytest.raises(SpkdError, match="different names"):
        Objective(0.7, [], {}, LOSSES)(*student, [teacher("a", 10), teacher("a", 20)], labels)


def test_a_feature_loss_without_taps_is_refused(student, labels):
    with pytest.raises(SpkdError, match="distill.taps"):
        Objective(0.7, [], {"sp": 1.0}, LOSSES)(student[0], {}, [teacher("a", 10)], labels)


def test_a_teacher_without_the_students_tap_is_refused_by_name(student, labels):
    name, logits, features = teacher("a", 10)
    del features["group2"]
    with pytest.raises(SpkdError, match=r"teacher a: expected a feature of 'group2'"):
        Objective(0.7, [], {"sp": 1.0}, LOSSES)(*student, [(name, logits, features)], labels)


@pytest.mark.parametrize("name", ["cross_entropy", "kd"])
def test_beta_cannot_weigh_what_lambda_weighs(name):
    with pytest.raises(SpkdError, match=f"distill.beta.{name}"):
        Objective(0.7, [], {name: 1.0}, LOSSES)


def test_an_unknown_loss_is_refused_with_the_nearest():
    with pytest.raises(SpkdError, match="did you mean 'kd'"):
        Objective(0.7, [], {"kdd": 1.0}, LOSSES)


def test_a_wrong_setting_of_a_loss_names_its_key():
    with pytest.raises(SpkdError, match=r"losses.kd.temperature"):
        Objective(0.7, [], {}, {**LOSSES, "kd": {"temperature": -1.0, "reduction": "paper"}})


NEW_LOSS = '''"""Squared distance of the batch means."""
from spkd.config import Section
SEES = "{sees}"
class Settings(Section):
    power: float
def {name}(student, teacher, power):
    return (student.mean() - teacher.mean()).abs() ** power
'''


@pytest.fixture
def new_loss(tmp_path, monkeypatch):
    """Adds a file to the losses' shelf for one test: the package's folder is copied, nothing is registered."""

    def add(name: str, sees: str) -> None:
        shelf = tmp_path / "losses"
        shelf.mkdir(exist_ok=True)
        for part in (plugin.PACKAGE / "losses").glob("*.py"):
            (tmp_path / "losses" / part.name).write_text(part.read_text())
        (shelf / f"{name}.py").write_text(NEW_LOSS.format(name=name, sees=sees))
        monkeypatch.setattr(plugin, "PACKAGE", tmp_path)
        monkeypatch.setattr("spkd.losses.__path__", [str(shelf)])
        monkeypatch.delitem(sys.modules, f"spkd.losses.{name}", raising=False)

    yield add
    for name in ("mean_gap", "logit_gap"):
        sys.modules.pop(f"spkd.losses.{name}", None)


def test_a_new_feature_loss_is_one_file_and_one_entry(new_loss, student, labels):
    new_loss("mean_gap", "features")
    objective = Objective(0.0, [0.25, 0.75], {"mean_gap": 2.0}, {**LOSSES, "mean_gap": {"power": 2.0}})
    a, b = teacher("a", 10), teacher("b", 20)
    total, parts = objective(*student, [a, b], labels)
    gaps = [sum((student[1][t].mean() - k[2][t].mean()) ** 2 for t in TAPS) for k in (a, b)]
    torch.testing.assert_close(total, cross_entropy(student[0], labels) + 2 * (0.25 * gaps[0] + 0.75 * gaps[1]))
    torch.testing.assert_close(parts["mean_gap/b"], gaps[1].detach())


def test_a_new_logit_loss_needs_no_taps(new_loss, student, labels):
    new_loss("logit_gap", "logits")
    objective = Objective(0.0, [], {"logit_gap": 2.0}, {**LOSSES, "logit_gap": {"power": 1.0}})
    name, logits, _ = teacher("a", 10)
    total, _ = objective(student[0], {}, [(name, logits, {})], labels)
    assert not objective.needs_features
    gap = (student[0].mean() - logits.mean()).abs()
    torch.testing.assert_close(total, cross_entropy(student[0], labels) + 2 * gap)
