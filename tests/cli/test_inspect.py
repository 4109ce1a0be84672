"""The picture of a data set's windows is there as a whole or not at all."""

import warnings
from types import SimpleNamespace

import pytest

from spkd.cli import inspect
from spkd.data import inspection, windowset
from spkd.errors import SpkdError


@pytest.fixture
def settings(tmp_path, monkeypatch, waves):
    monkeypatch.chdir(tmp_path)
    waves.save(tmp_path / "data" / "windows" / "waves")
    return SimpleNamespace(dataset="waves", datasets={"waves": None})


@pytest.mark.parametrize(("words", "dataset"), [([], "waves"), (["waves"], "other")])
def test_a_picture_is_drawn_and_said(settings, tmp_path, capsys, words, dataset):
    settings.dataset = dataset
    assert inspect.main(words, settings, {}) == 0
    assert (tmp_path / "data" / "inspect" / "waves.png").read_bytes().startswith(b"\x89PNG")
    assert "SIMULATED" in capsys.readouterr().out


def test_a_data_set_that_is_none_is_refused_with_the_nearest(settings):
    with pytest.raises(SpkdError, match="expected a data set of params.yaml, got 'wave'; did you mean 'waves'"):
        inspect.main(["wave"], settings, {})


def test_a_picture_that_cannot_be_written_leaves_the_one_before_and_nothing_else(settings, tmp_path, monkeypatch):
    folder = tmp_path / "data" / "inspect"
    folder.mkdir()
    (folder / "waves.png").write_text("before")

    def full(path, **how):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inspection, "figure", lambda windows: SimpleNamespace(savefig=full))
    with pytest.raises(OSError, match="No space left"):
        inspect.main(["waves"], settings, {})
    assert [(p.name, p.read_text()) for p in folder.iterdir()] == [("waves.png", "before")]


def test_letters_that_the_font_lacks_are_said_once(settings, waves, monkeypatch, capsys, recwarn):
    named = waves.manifest | {"classes": ["걷기", "b", "c"]}
    korean = type(waves)(waves.signal, waves.starts, waves.label, waves.subject, named)
    monkeypatch.setattr(windowset, "load", lambda folder: korean)
    assert inspect.main([], settings, {}) == 0
    assert capsys.readouterr().out.count("letters of some names are boxes in the picture") == 1
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_other_warnings_of_the_picture_are_not_swallowed(settings, monkeypatch):
    drawn = inspection.figure

    def warned(windows):
        warnings.warn("something else", stacklevel=1)
        return drawn(windows)

    monkeypatch.setattr(inspection, "figure", warned)
    with pytest.warns(UserWarning, match="something else"):
        inspect.main([], settings, {})
