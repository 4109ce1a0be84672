from pathlib import Path

import pytest
import torch

from spkd.training import checkpoint


def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run" / "c.safetensors"
    checkpoint.save(path, {"w": torch.ones(3)}, {"epoch": 1})

    def full(tensors, to, metadata):
        Path(to).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"w": torch.zeros(3)}, {"epoch": 2})
    tensors, state = checkpoint.load(path)
    assert state == {"epoch": 1} and tensors["w"].tolist() == [1.0, 1.0, 1.0]
    assert [p.name for p in path.parent.iterdir()] == ["c.safetensors"]
