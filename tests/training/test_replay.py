"""Steps recorded as CUDA graphs are the plain steps; without a GPU, that what cannot be recorded is called plainly."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from spkd import seeding
from spkd.losses import sp
from spkd.training import checkpoint, loop
from spkd.training.loop import Run
from spkd.training.progress import Progress
from spkd.training.remembered import remember
from spkd.training.replay import PLAIN_CALLS, Replay
from spkd.training.side_by_side import fit_many

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def ignore(state):
    pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a graph can be recorded")
def test_what_cannot_be_recorded_is_called_plainly_and_said_once(capsys):
    double = Replay(lambda x: 2 * x, True, "doubling")
    given = [torch.full((2,), float(k)) for k in range(PLAIN_CALLS + 3)]
    assert [double(x).tolist() for x in given] == [(2 * x).tolist() for x in given]
    assert capsys.readouterr().out.count("doubling: no CUDA graph, kernels start one by one: ") == 1


@pytest.mark.parametrize(("sizes", "expected"), [
    ((2, 2, 2, 2, 2, 1, 2), ["plain"] * 3 + ["recorded", "replayed", "replayed", "plain", "replayed"]),
    # A run that goes on before the short last batch of an epoch.
    ((1, 2, 2, 1, 2, 2, 2, 1), ["plain"] * 5 + ["recorded", "replayed", "replayed", "plain"]),
])  # fmt: skip
def test_a_recorded_call_gets_each_calls_values_and_another_shape_is_called_plainly(monkeypatch, sizes, expected):
    """A CPU in a GPU's place: what is called while recording does nothing but note where its numbers will lie."""
    told, recording, places = [], [], []

    def double(x):
        told.append("recorded" if recording else "plain")
        if not recording:
            return 2 * x
        places.append((x, torch.zeros_like(x)))
        return places[-1][1]

    class Graph:
        def replay(self):
            told.append("replayed")
            ((own, result),) = places
            result.copy_(2 * own)

    @contextmanager
    def graph(*words, **named):
        recording.append(True)
        yield
        recording.clear()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    replay = Replay(double, True, "doubling")
    given = [torch.full((n,), float(k)) for k, n in enumerate(sizes)]
    assert [replay(x).tolist() for x in given] == [[2.0 * k] * len(x) for k, x in enumerate(given)]
    assert told == expected
    assert [x.tolist() for x in given] == [[float(k)] * len(x) for k, x in enumerate(given)]


@pytest.fixture
def flags():
    before = torch.get_num_threads()
    yield seeding.set_flags(deterministic=True, tf32=False, threads=0)
    torch.set_num_threads(before)
    torch.set_deterministic_debug_mode("default")


@pytest.fixture
def replays(monkeypatch):
    """The number of replays of each graph, in a list that grows by one graph when it is first replayed."""
    counts = {}
    plain = torch.cuda.CUDAGraph.replay

    def counted(graph):
        counts[id(graph)] = counts.get(id(graph), 0) + 1
        plain(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    return counts


KINDS = ("scratch", "live teachers", "remembered teacher", "noise", "short batches")


@pytest.fixture
def study(make_task, settings, tmp_path, flags):
    """study(kind) -> (a fresh task on the GPU, the settings it is trained with)."""

    def make(kind):
        changes = {"noise": {"noise": 0.1}, "short batches": {"last_batch": "keep", "batch": 14}}.get(kind, {})
        task = make_task({"scratch": 0, "remembered teacher": 1, "noise": 1}.get(kind, 2), device="cuda")
        if kind == "remembered teacher":
            known, how = remember(task.teachers[0], task.train, 64, 2**30, tmp_path, sp.Products)
            assert "in memory" in how
            task = replace(task, teachers=[known])
        return task, settings.model_copy(update={"epochs": 6, **changes})

    return make


def fit(task, settings, path):
    loop.fit(task, settings, 0, path, "key", ignore)
    return bits(path)


def bits(path):
    """(every tensor of a checkpoint as bytes, its history without clocks)."""
    tensors, plain = checkpoint.load(path)
    for epoch in plain["history"]:
        del epoch["seconds"], epoch["windows_per_s"]
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, plain["history"]


@on_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_steps_and_evaluations_leave_the_bits_of_plain_ones(study, tmp_path, replays, kind):
    task, settings = study(kind)
    plain = fit(task, settings.model_copy(update={"cuda_graphs": False}), tmp_path / "plain")
    assert not replays
    task, settings = study(kind)
    assert fit(task, settings, tmp_path / "recorded") == plain
    full = 6 * (len(task.train) // settings.batch)
    assert sorted(replays.values()) == sorted([6 - PLAIN_CALLS, full - PLAIN_CALLS])


@on_gpu
def test_a_recorded_run_that_was_stopped_goes_on_to_the_same_bits(study, tmp_path):
    task, settings = study("remembered teacher")
    whole = fit(task, settings, tmp_path / "whole")
    task, settings = study("remembered teacher")
    learner = loop.Learner(Run(task, 0, tmp_path / "stopped", "key", ignore), settings)
    with Progress("stopped", 6, 1, 0) as progress:
        for _ in range(3 * len(learner.batches) + 1):
            learner.advance(progress)
    learner.keep()
    assert learner.update.graph is not None
    task, settings = study("remembered teacher")
    assert fit(task, settings, tmp_path / "stopped") == whole


@on_gpu
def test_recorded_runs_side_by_side_leave_the_bits_that_they_leave_alone(study, tmp_path):
    settings = study("scratch")[1]

    def runs(folder):
        folder.mkdir()
        kinds = ("scratch", "live teachers", "remembered teacher", "scratch")
        return [Run(study(kind)[0], k, folder / f"{k}", "key", ignore) for k, kind in enumerate(kinds)]

    fit_many(runs(tmp_path / "many"), settings)
    for k, run in enumerate(runs(tmp_path / "alone")):
        loop.fit(run.task, settings, k, run.path, run.key, ignore)
        assert bits(run.path) == bits(tmp_path / "many" / f"{k}")


@on_gpu
def test_as_many_runs_at_once_as_torch_has_streams_leave_the_bits_of_one(study, tmp_path):
    """Runs alike: what the kernels of one wrote into the memory of another would show."""
    settings = study("scratch")[1]
    runs = [Run(study("remembered teacher")[0], 0, tmp_path / f"{k}", "key", ignore) for k in range(32)]
    fit_many(runs, settings)
    found = [bits(run.path) for run in runs]
    assert [k for k, one in enumerate(found) if one != found[0]] == []
    task, settings = study("remembered teacher")
    assert fit(task, settings, tmp_path / "alone") == found[0]


def looked_at(logits, labels):
    """Cross entropy that reads a number on the CPU, as no recorded step can."""
    assert float(logits.detach().sum()) < 1e9
    return torch.nn.functional.cross_entropy(logits, labels)


@on_gpu
def test_a_loss_that_reads_a_number_is_trained_plainly_and_said(study, tmp_path, capsys, replays):
    task, settings = study("live teachers")
    plain = fit(task, settings.model_copy(update={"cuda_graphs": False}), tmp_path / "plain")
    task, settings = study("live teachers")
    task.objective.cross_entropy = replace(task.objective.cross_entropy, function=looked_at)
    assert fit(task, settings, tmp_path / "looking") == plain
    assert "waves: no CUDA graph, kernels start one by one: " in capsys.readouterr().out
    assert sorted(replays.values()) == [6 - PLAIN_CALLS]  # of the evaluation


@on_gpu
def test_a_teacher_whose_answers_lie_on_the_disk_is_asked_plainly(study, tmp_path, replays):
    task, settings = study("live teachers")
    known, how = remember(task.teachers[0], task.train, 64, 0, tmp_path / "answers")
    assert "on disk" in how
    fit(replace(task, teachers=[known]), settings, tmp_path / "spilled")
    assert not replays


@on_gpu
def test_a_gpu_and_a_cpu_train_alike(make_task, settings, tmp_path, flags):
    """Up to the order of sums, which differs: three steps."""
    one = settings.model_copy(update={"epochs": 1})
    both = [make_task(1, device=device) for device in ("cuda", "cpu")]
    for task in both:
        loop.fit(task, one, 0, tmp_path / task.train.device.type, "key", ignore)
    for (name, ours), theirs in zip(
        both[0].network.state_dict().items(), both[1].network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
