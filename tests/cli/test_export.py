"""spkd export: what it says of the file that it wrote; the packing is tested beside its code."""

from types import SimpleNamespace

import pytest

from spkd.cli import export as command
from spkd.errors import SpkdError
from spkd.evidence import selection
from spkd.evidence.reproduction import bundle, portable
from spkd.experiment import repetition


def test_the_command_that_it_names_takes_a_path_with_spaces(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(selection, "by_id", lambda start: SimpleNamespace(id="0123abcd"))
    monkeypatch.setattr(portable, "gather", lambda run_id, project, folder: None)
    monkeypatch.setattr(bundle, "pack", lambda folder, out: out.write_bytes(b""))
    monkeypatch.setattr(repetition.Recorded, "read", lambda folder: None)
    monkeypatch.setattr(repetition, "told_twice", lambda recorded: None)
    monkeypatch.setattr(repetition, "teachers", lambda recorded: None)
    assert command.main(["0123ab"], None, {}, {"out": str(tmp_path / "my b.zip")}) == 0
    assert capsys.readouterr().out.endswith("; there: spkd reproduce 'my b.zip'\n")


def test_a_bundle_that_reproduce_would_not_take_for_one_is_not_written(monkeypatch):
    monkeypatch.setattr(selection, "by_id", lambda start: SimpleNamespace(id="0123abcd"))
    with pytest.raises(SpkdError, match=r"--out: expected FILE\.zip, got b\.tar"):
        command.main(["0123ab"], None, {}, {"out": "b.tar"})
