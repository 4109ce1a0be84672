"""What a lock file asks for on this machine."""

from importlib import metadata
from pathlib import Path

from spkd.evidence import lock_file

ROOT = Path(__file__).parents[2]
LOCK = """\
# a comment: pandas==1
numpy==1.0.0 \\
    --hash=sha256:0000
pywin32==306 ; sys_platform == "win32" \\
    --hash=sha256:1111
no-such-package==2.0 ; python_version >= "3.0"
PyYAML=={yaml}
"""


def test_a_lock_is_read_without_comments_hashes_and_what_other_platforms_need(tmp_path):
    lock = tmp_path / lock_file.NAME
    lock.write_text(LOCK.format(yaml=metadata.version("pyyaml")))
    assert [(p.name, str(p.specifier)) for p in lock_file.pinned(lock)][:2] == [
        ("numpy", "==1.0.0"), ("no-such-package", "==2.0"),
    ]  # fmt: skip
    assert lock_file.differing(lock) == [
        f"numpy: locked 1.0.0, installed {metadata.version('numpy')}",
        "no-such-package: locked 2.0, installed nothing",
    ]
    sizes = [sum(f.size or 0 for f in metadata.files(name)) for name in ("numpy", "pyyaml")]
    assert lock_file.installed_bytes(lock) == sum(sizes)


def test_a_locked_version_before_a_release_is_the_one_installed(tmp_path, monkeypatch):
    lock = tmp_path / lock_file.NAME
    lock.write_text("early==2.0rc1\n")
    monkeypatch.setattr(metadata, "version", lambda name: "2.0rc1")
    assert lock_file.differing(lock) == []
    monkeypatch.setattr(metadata, "version", lambda name: "2.0rc2")
    assert lock_file.differing(lock) == ["early: locked 2.0rc1, installed 2.0rc2"]


def test_the_lock_of_the_project_pins_every_requirement():
    pinned = {p.name for p in lock_file.pinned(ROOT / lock_file.NAME)}
    assert {"torch", "mlflow", "dvc"} <= pinned
