import sys
from pathlib import Path

import pytest
import torch

from spkd import config, plugin
from spkd.config import Section
from spkd.errors import SpkdError
from spkd.losses.cross_entropy import cross_entropy
from spkd.losses.kd import kd
from spkd.losses.sp import sp, summed
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
    maps = sum(summed([features[t]], [[a[2][t], b[2][t]]], [0.3, 0.7]) for t in TAPS)
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
    expected = sum(summed([student[1][t]], [[a[2][t], b[2][t]]], [0.5, 0.5], "paper") for t in TAPS)
    torch.testing.assert_close(parts["sp"], expected.detach())


def test_without_teachers_the_total_is_the_plain_cross_entropy(student, labels):
    total, parts = Objective(0.7, [], {"sp": 200.0}, LOSSES)(*student, [], labels)
    torch.testing.assert_close(total, cross_entropy(student[0], labels))
    assert set(parts) == {"cross_entropy"}


def test_parts_are_detached_and_the_total_is_not(student, labels):
    total, parts = Objective(0.7, [], {"sp": 200.0}, LOSSES)(*student, [teacher("a", 10)], labels)
    assert total.requires_grad
    assert not any(value.requires_grad for value in parts.values())


def test_features_are_asked_for_only_where_a_feature_loss_weighs_something(student, labels):
    assert Objective(0.7, [], {"sp": 200.0}, LOSSES, taps=["group1"]).tapped() == (["group1"], ["group1"])
    two = Objective(0.7, [], {"sp": 1.0, "at": 1.0}, LOSSES, taps=list(TAPS))
    assert two.tapped() == (list(TAPS), list(TAPS))  # each once
    without = Objective(0.7, [], {"sp": 0.0}, LOSSES)
    assert without.tapped() == ([], [])
    assert Objective(0.7, [], {}, LOSSES, taps=["group1"]).tapped() == ([], [])
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
    with pytest.raises(SpkdError, match="distill.taps"):
        Objective(0.7, [], {"sp": 1.0}, LOSSES, taps=[])
    assert Objective(0.7, [], {"dist": 1.0, "simkd": 1.0}, LOSSES, taps=[]).tapped() == (["projector"], ["norm"])


def test_a_student_without_a_tap_is_refused_by_name(student, labels):
    objective = Objective(0.7, [], {"sp": 1.0}, LOSSES, taps=["group1", "group3"])
    a = teacher("a", 10)
    a[2]["group3"] = a[2]["group2"]
    with pytest.raises(SpkdError, match=r"student: expected a feature of 'group3'"):
        objective(*student, [a], labels)


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
        for part in [p for name in ("losses", "weightings") for p in (plugin.PACKAGE / name).glob("*.py")]:
            (tmp_path / part.parent.name).mkdir(exist_ok=True)
            (tmp_path / part.parent.name / part.name).write_text(part.read_text())
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


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ('SEES = "{sees}"', "", r"losses/mean_gap.py: expected SEES, Settings, mean_gap, got no SEES"),
        ('SEES = "{sees}"', 'SEES = "feature"', r"losses/mean_gap.py: expected SEES, one of .*, got 'feature'"),
        ("def {name}", "def gap", r"losses/mean_gap.py: expected .*, got no mean_gap"),
        ("class Settings", "class Setting", r"losses/mean_gap.py: expected .*, got no Settings"),
        ("def {name}", "def each(student, teachers):\n    pass\ndef {name}", r"an argument of `each` for every key"),
        ("def {name}", "def parts(student, teacher, generator):\n    pass\ndef {name}", r"an argument of `parts`"),
        ("teacher, power", "teacher, strength", r"an argument of `mean_gap` for every key.*got none for \['power'\]"),
    ],
)
def test_a_mistake_in_a_new_loss_is_named_with_its_file(new_loss, monkeypatch, written, instead, message):
    assert written in NEW_LOSS
    monkeypatch.setitem(globals(), "NEW_LOSS", NEW_LOSS.replace(written, instead))
    new_loss("mean_gap", "features")
    with pytest.raises(SpkdError, match=message):
        Objective(0.0, [], {"mean_gap": 2.0}, {**LOSSES, "mean_gap": {"power": 2.0}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MIXES": "loses"}, r"weightings/camkd.py: expected MIXES, .*got 'loses'"),
        ({"camkd": None}, r"weightings/camkd.py: expected MIXES, .*no such function"),
        ({"camkd": lambda logits: logits}, r"weightings/camkd.py: expected an argument .*none for \['power'\]"),
    ],
)
def test_a_mistake_in_a_new_weighting_is_named_with_its_file(monkeypatch, change, message):
    module = plugin.load("weightings", "camkd")
    monkeypatch.setattr(module, "Settings", type("Settings", (Section,), {"__annotations__": {"power": float}}))
    for key, value in change.items():
        monkeypatch.setattr(module, key, value)
    with pytest.raises(SpkdError, match=message):
        Objective(0.0, [], {}, LOSSES, weighting="camkd", weightings={"camkd": {"power": 2.0}})


def test_a_new_logit_loss_needs_no_taps(new_loss, student, labels):
    new_loss("logit_gap", "logits")
    objective = Objective(0.0, [], {"logit_gap": 2.0}, {**LOSSES, "logit_gap": {"power": 1.0}})
    name, logits, _ = teacher("a", 10)
    total, _ = objective(student[0], {}, [(name, logits, {})], labels)
    assert objective.tapped() == ([], [])
    gap = (student[0].mean() - logits.mean()).abs()
    torch.testing.assert_close(total, cross_entropy(student[0], labels) + 2 * gap)


WEIGHTINGS = config.read(Path(__file__).parents[2] / "params.yaml")["weightings"]


def test_the_default_total_is_bit_for_bit_that_of_the_formula_without_base_and_weighting(student, labels):
    logits, features = student[0].float(), {tap: feature.float() for tap, feature in student[1].items()}
    teachers = [teacher("a", 10), teacher("b", 20)]
    teachers = [(n, z.float(), {tap: f.float() for tap, f in known.items()}) for n, z, known in teachers]
    softened = [kd(logits, z, 4.0) for _, z, _ in teachers]
    maps = torch.stack([summed([features[t]], [[k[2][t] for k in teachers]], [0.3, 0.7]) for t in TAPS]).sum()
    written_out = (1 - 0.99) * cross_entropy(logits, labels)
    written_out = written_out + 0.99 * torch.stack([0.3 * softened[0], 0.7 * softened[1]]).sum() + 200.0 * maps
    for extra in ({}, {"base": 1.0, "weighting": "fixed", "weightings": WEIGHTINGS, "taps": list(TAPS)}):
        objective = Objective(0.99, [0.3, 0.7], {"sp": 200.0}, LOSSES, **extra)
        total, _ = objective(logits, features, teachers, labels)
        assert torch.equal(total, written_out)


@pytest.mark.parametrize("name", ["ebkd", "camkd"])
def test_a_weighting_weighs_each_windows_kd(name, student, labels):
    a, b = teacher("a", 10), teacher("b", 20)
    objective = Objective(0.9, [0.2, 0.8], {"sp": 2.0}, LOSSES, weighting=name, weightings=WEIGHTINGS)
    total, parts = objective(*student, [a, b], labels)
    weights = getattr(plugin.load("weightings", name), name)([a[1], b[1]], labels)
    soft = sum(
        weights[k, i] * kd(student[0][i : i + 1], t[1][i : i + 1], 4.0) for i in range(B) for k, t in enumerate((a, b))
    )
    maps = sum(summed([student[1][t]], [[a[2][t], b[2][t]]], [0.2, 0.8]) for t in TAPS)
    torch.testing.assert_close(total, 0.1 * cross_entropy(student[0], labels) + 0.9 * soft / B + 2 * maps)
    assert set(parts) == {"cross_entropy", "kd/a", "kd/b", "weight/a", "weight/b", "sp"}
    torch.testing.assert_close(parts["kd/a"], kd(student[0], a[1], 4.0).detach())
    torch.testing.assert_close(parts["weight/b"], weights[1].mean())


def test_aver_is_kd_to_the_mean_of_the_logits(student, labels):
    a, b = teacher("a", 10), teacher("b", 20)
    objective = Objective(0.9, [], {}, LOSSES, weighting="aver", weightings=WEIGHTINGS)
    total, parts = objective(student[0], {}, [a, b], labels)
    soft = kd(student[0], (a[1] + b[1]) / 2, 4.0)
    torch.testing.assert_close(total, 0.1 * cross_entropy(student[0], labels) + 0.9 * soft)
    torch.testing.assert_close(parts["kd"], soft.detach())


@pytest.mark.parametrize("name", ["aver", "ebkd", "camkd"])
def test_one_teacher_under_any_weighting_is_plain_kd(name, student, labels):
    a = [teacher("a", 10)]
    plain, _ = Objective(0.9, [], {}, LOSSES)(student[0], {}, a, labels)
    total, _ = Objective(0.9, [], {}, LOSSES, weighting=name, weightings=WEIGHTINGS)(student[0], {}, a, labels)
    torch.testing.assert_close(total, plain)


def test_no_gradient_reaches_a_teacher_through_its_weight(student, labels):
    a, b = teacher("a", 10), teacher("b", 20)
    for _, logits, _ in (a, b):
        logits.requires_grad_()
    total, _ = Objective(0.9, [], {}, LOSSES, weighting="camkd", weightings=WEIGHTINGS)(student[0], {}, [a, b], labels)
    total.backward()
    assert a[1].grad is None
    assert b[1].grad is None


def test_base_zero_leaves_the_other_losses_alone(student, labels):
    a = [teacher("a", 10)]
    total, parts = Objective(0.7, [], {"sp": 3.0}, LOSSES, base=0.0)(*student, a, labels)
    torch.testing.assert_close(total, 3 * sum(sp(student[1][t], a[0][2][t]) for t in TAPS))
    assert set(parts) == {"cross_entropy", "kd/a", "sp"}
    with pytest.raises(SpkdError, match=r"distill.base"):
        Objective(0.7, [], {"sp": 0.0}, LOSSES, base=0.0)


def test_an_unknown_weighting_is_refused_with_the_nearest():
    with pytest.raises(SpkdError, match="did you mean 'camkd'"):
        Objective(0.7, [], {}, LOSSES, weighting="cakd", weightings=WEIGHTINGS)


def test_a_loss_with_layers_of_its_own_leaves_the_taps_to_the_others(student, labels):
    logits, features = student
    name, t_logits, t_features = teacher("a", 10)
    projected = draw(30, B, 7, 5).requires_grad_()
    features, t_features = {**features, "projector": projected}, {**t_features, "norm": draw(31, B, 7, 5)}
    objective = Objective(0.7, [], {"sp": 1.0, "simkd": 1.0}, LOSSES, taps=list(TAPS))
    assert objective.tapped() == ([*TAPS, "projector"], [*TAPS, "norm"])
    _, parts = objective(logits, features, [(name, t_logits, t_features)], labels)
    maps = sum(sp(features[t], t_features[t]) for t in TAPS)
    torch.testing.assert_close(parts["sp"], maps.detach())
    torch.testing.assert_close(parts["simkd/a"], (projected - t_features["norm"].relu()).square().mean().detach())


def test_trainable_parts_lie_where_the_features_do():
    features = {"norm": torch.empty(B, 7, 5, device="meta")}
    objective = Objective(0.7, [], {"dcd": 1.0}, LOSSES)
    objective.grow(features, [("a", draw(1, B, N_CLASSES), {"norm": features["norm"]})], torch.Generator())
    assert {p.device.type for p in objective.parts.parameters()} == {"meta"}


def test_trainable_parts_of_a_nested_layer_are_found_again(student, labels, monkeypatch):
    monkeypatch.setattr(plugin.load("losses", "dcd"), "TAPS", {"group1.0": "norm", "group1.1": "norm"})
    features = {f"group1.{i}": draw(i, B, 3 + i).float() for i in range(2)}
    a = ("a", draw(1, B, N_CLASSES).float(), {"norm": draw(2, B, 5).float()})
    objective = Objective(0.7, [], {"dcd": 1.0}, LOSSES)
    objective.grow(features, [a], torch.Generator().manual_seed(0))
    assert len(objective.parts) == 2
    _, parts = objective(student[0].float(), features, [a], labels)
    assert torch.isfinite(parts["dcd/a"])


def test_a_loss_with_trainable_parts_has_them_beside_losses_without_any(student, labels):
    features, known = ({name: draw(k, B, 7, 5).float() for name in ("group1", "norm")} for k in (30, 31))
    objective = Objective(0.7, [], {"sp": 1.0, "dcd": 1.0, "dist": 1.0}, LOSSES, taps=["group1"])
    assert objective.needs_parts
    teacher = ("a", draw(1, B, N_CLASSES).float(), known)
    objective.grow(features, [teacher], torch.Generator().manual_seed(0))
    assert set(objective.parts) == {"dcd-norm-0"}
    _, parts = objective(student[0].float(), features, [teacher], labels)
    assert {"sp", "dcd/a", "dist/a"} < set(parts)


def test_every_pair_of_layer_and_teacher_has_trainable_parts_of_its_own(student, labels):
    features = {"norm": draw(30, B, 7, 5).float()}
    teachers = [
        (n, draw(s, B, N_CLASSES).float(), {"norm": draw(s, B, 4 + s).float()}) for n, s in (("a", 1), ("b", 2))
    ]
    objective = Objective(0.7, [], {"dcd": 1.0}, LOSSES)
    assert objective.needs_parts
    objective.grow(features, teachers, torch.Generator().manual_seed(0))
    assert set(objective.parts) == {"dcd-norm-0", "dcd-norm-1"}
    assert [objective.parts[f"dcd-norm-{k}"].teacher.in_features for k in (0, 1)] == [5, 6]
    total, parts = objective(student[0].float(), features, teachers, labels)
    total.backward()
    assert set(parts) == {"cross_entropy", "kd/a", "kd/b", "dcd/a", "dcd/b"}
    assert all(p.grad is not None for p in objective.parts.parameters())
    assert not Objective(0.7, [], {"sp": 1.0}, LOSSES).needs_parts
