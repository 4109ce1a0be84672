"""The READMEs promise only what is there, and the Korean one has the same commands."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from spkd import __main__ as front
from spkd import config, plugin

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.ko.md")


def commands(name):
    """Command lines of a README's bash blocks, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_both_languages_have_the_same_commands():
    assert commands("README.md") == commands("README.ko.md")


@pytest.mark.parametrize("name", READMES)
def test_every_link_leads_to_a_file(name):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_every_command_and_every_key_exists():
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    entries = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in commands("README.md"):
        words = line.replace('"', "").split()
        if words[0] == "make":
            assert len(words) == 1 or words[1] in targets
        if words[0] == "spkd":
            assert words[1].replace("-", "_") in plugin.names("cli")
        if words[:2] == ["mlflow", "run"]:
            assert words[words.index("-e") + 1] in entries
        for key, value in re.findall(r"-[PS] \"?([\w.]+)=(\[.*?\]|[^\"\s]+)", line):
            config.resolve(tree, {key: yaml.safe_load(value)})


def test_make_lets_dvc_say_why_data_cannot_be_prepared():
    assert not re.search(r"dvc repro.*(--quiet|-q)", (ROOT / "Makefile").read_text(encoding="utf-8"))


def test_git_ignores_data_and_results_that_are_links_to_another_disk(tmp_path):
    shutil.copy(ROOT / ".gitignore", tmp_path)
    for name in ("data", "runs", "mlruns"):
        (tmp_path / name).symlink_to(ROOT)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    status = ["git", "status", "--porcelain"]
    assert subprocess.run(status, cwd=tmp_path, check=True, capture_output=True).stdout == b"?? .gitignore\n"


@pytest.mark.parametrize("name", sorted(page.parent.name for page in (ROOT / "sample").glob("*/README.md")))
def test_the_commands_in_the_readme_of_a_sample_exist(name):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    text = (ROOT / "sample" / name / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"`((?:spkd|dvc) [^`]*|--[^`]*)`", text)
    assert found
    for words in (line.split() for line in found):
        if words[0] == "spkd":
            constants = plugin.describe("cli", words[1].replace("-", "_"))[1]
            plain, _, given = front.split_words(words[2:], constants.get("OPTIONS", ()))
            assert len(plain) <= len(constants.get("POSITIONAL", ())) and given == {}
        else:
            assert words[:4] == ["dvc", "exp", "run", "-S"]
            config.resolve(tree, dict([words[4].split("=")]))


def test_the_licence_file_is_the_agpl():
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]


def test_make_installs_anew_what_a_killed_set_up_left_half_installed(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    packages = tmp_path / ".venv/lib/python3.11/site-packages"
    for name, written in (("half", ["METADATA"]), ("whole", ["METADATA", "INSTALLER"])):
        (packages / f"{name}-1.dist-info").mkdir(parents=True)
        for file in written:
            (packages / f"{name}-1.dist-info" / file).touch()
    pip = tmp_path / ".venv/bin/pip"
    pip.parent.mkdir()
    pip.write_text(f"#!/bin/sh\nls {packages} > {tmp_path}/seen-by-pip\n")
    pip.chmod(0o755)
    subprocess.run(["make", "--silent", ".venv/installed", "PYTHON=true"], cwd=tmp_path, check=True)
    assert (tmp_path / "seen-by-pip").read_text().split() == ["whole-1.dist-info"]


def test_two_set_ups_at_once_do_not_install_at_once(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    (tmp_path / ".venv/lib/python3.11/site-packages").mkdir(parents=True)
    pip = tmp_path / ".venv/bin/pip"
    pip.parent.mkdir()
    pip.write_text("#!/bin/sh\nmkdir busy || touch clash\nsleep 0.3\nrmdir busy\n")
    pip.chmod(0o755)
    words = ["make", "--silent", ".venv/installed", "PYTHON=true"]
    both = [subprocess.Popen(words, cwd=tmp_path) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert (tmp_path / ".venv/installed").is_file() and not (tmp_path / "clash").exists()
