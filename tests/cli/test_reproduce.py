"""spkd reproduce: what it allows, what it hands on and how it ends; nothing is repeated here."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from spkd.cli import reproduce as command
from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.reproduction.judge import Verdict
from spkd.experiment import reproduce


@pytest.fixture
def call(monkeypatch):
    """call(options, status) -> (exit status, what the repetition was given), for a verdict of that status."""
    monkeypatch.setattr(tracking, "sweep", lambda folder: [])
    settings = SimpleNamespace(run=SimpleNamespace(folder="runs"))

    def made(options, status="identical"):
        given = []
        monkeypatch.setattr(reproduce, "reproduce", lambda *words: given.append(words) or Verdict(status, 1, "why"))
        return command.main(["0123abcd"], settings, {}, options), given[0]

    return made


@pytest.mark.parametrize(("word", "allowed"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
@pytest.mark.parametrize("name", ["build", "here", "trust"])
def test_only_the_word_true_allows_what_a_user_must_agree_to(call, name, word, allowed):
    _, (_, _, _, choices) = call({name: word})
    names = ("build", "here", "trust")
    assert {other: getattr(choices, other) for other in names} == {other: other == name and allowed for other in names}


@pytest.mark.parametrize("word", ["yes", "1", ""])
def test_a_word_that_neither_agrees_nor_refuses_is_asked_for_again(call, word):
    with pytest.raises(SpkdError, match=f"--here: expected true or false, got '{word}'"):
        call({"here": word})


def test_nothing_is_allowed_where_nothing_is_said(call):
    _, (source, project, _, choices) = call({})
    assert (source, project) == ("0123abcd", Path.cwd())
    assert (choices.build, choices.here, choices.trust, dict(choices.machine)) == (False, False, False, {})
    assert choices.check_teacher is command.check_teacher


def test_another_device_and_thread_count_are_handed_on(call):
    _, (_, _, _, choices) = call({"device": "cuda:1", "threads": "3"})
    assert choices.machine == {"device": "cuda:1", "threads": 3}


def test_a_device_that_is_none_is_refused_before_anything_is_repeated(call):
    with pytest.raises(SpkdError, match="--device: expected cpu, cuda or cuda:<index>, got 'gpu'"):
        call({"device": "gpu"})


@pytest.mark.parametrize(
    ("status", "code"), [("identical", 0), ("equivalent", 0), ("different", 1), ("inconclusive", 3)]
)
def test_the_exit_status_says_the_verdict(call, capsys, status, code):
    assert call({}, status)[0] == code
    assert f"{status} (level 1): why" in capsys.readouterr().out


def test_a_call_without_a_run_and_threads_that_are_no_number_are_refused(call):
    with pytest.raises(SpkdError, match="--threads: expected a number of CPU threads, got 'all'"):
        call({"threads": "all"})
    settings = SimpleNamespace(reproduce=SimpleNamespace(run_id="none"))
    with pytest.raises(SpkdError, match="expected a run id or a bundle file, got none"):
        command.main([], settings, {}, {})
