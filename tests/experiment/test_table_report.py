"""Which maps a table's report shows."""

import pytest

from spkd.errors import SpkdError
from spkd.evidence import tracking
from spkd.evidence.reports.findings import Record
from spkd.experiment import table_report


def test_the_report_shows_the_last_panel_of_the_first_done_cell_of_each_row(tmp_path, monkeypatch):
    def artifact(run_id, name, folder):
        if run_id == "none":
            raise SpkdError("run none", "an artifact 'maps'", "none", "look at the run")
        for step in (0, 6, 12):
            (tmp_path / run_id).mkdir(exist_ok=True)
            (tmp_path / run_id / f"panel_{step:04d}.svg").write_text(f"{run_id} at {step}")
        return tmp_path / run_id

    monkeypatch.setattr(tracking, "artifact", artifact)
    records = [
        Record("SP", 0, 0, "1", status="failed", run_id="failed"), Record("SP", 1, 0, "2", run_id="first"),
        Record("SP", 1, 1, "2", run_id="second"), Record("bare", 0, 0, "1", run_id="none"),
        Record("KD", 0, 2, "1", run_id="other"),
    ]  # fmt: skip
    assert table_report.maps(records) == {
        "SP, fold 1 (2), trial 0": "first at 12", "KD, fold 0 (1), trial 2": "other at 12",
    }  # fmt: skip


def test_maps_that_a_store_which_is_away_does_not_give_are_not_left_out(monkeypatch):
    def artifact(run_id, name, folder):
        raise tracking.Away("http://lab:5000", "an answer", "refused", "try again")

    monkeypatch.setattr(tracking, "artifact", artifact)
    with pytest.raises(tracking.Away):
        table_report.maps([Record("SP", 0, 0, "1", run_id="first")])
