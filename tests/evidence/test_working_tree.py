"""The patch of a working tree brings it back, or says what it lacks."""

import hashlib
import os
import shutil
import subprocess
from unittest.mock import Mock

import pytest

from spkd.errors import SpkdError
from spkd.evidence import provenance, working_tree
from spkd.evidence.tracking import Run
from spkd.experiment import checkout


def git(folder, *words):
    own = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    done = subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **own}, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def repo(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("one\n")
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "old.bin").write_bytes(bytes(range(256)))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "report.md").write_text("old\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_clean_tree_is_its_commit_and_no_patch(repo):
    (repo / "ignored").write_text("x")
    found = working_tree.code(repo)
    commit = git(repo, "rev-parse", "HEAD").strip()
    assert found == {"commit": commit, "dirty": False, "patch": "", "patch_sha256": "", "patch_cut": ""}


@pytest.fixture
def rebuilt(repo, tmp_path_factory):
    """rebuilt() -> (what is recorded of the repository, a worktree of its commit with the recorded patch)."""

    def build():
        before = git(repo, "status", "--porcelain")
        found = working_tree.code(repo)
        assert git(repo, "status", "--porcelain") == before
        other = tmp_path_factory.mktemp("other")
        patch = other / "code.patch"
        patch.write_text(found["patch"], "utf-8")
        with checkout.worktree(repo, found["commit"], patch if found["patch"] else None, other / "code") as there:
            shutil.copytree(there, other / "kept")
        return found, other / "kept"

    return build


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.py", b"two\n"),
        ("a.py", None),
        ("src/new.py", b"new\n"),
        ("src/deep/new.bin", bytes(range(255, -1, -1))),
        ("src/old.bin", b"\x00\xff" * 99),
        ("src/with space \u00e9.py", b"new\n"),
        ("src/windows.py", b"one \r\ntwo\t\r\n"),
        ("requirements-lab.in", b"numpy\n"),
        ("params.yaml", b"preset: none\n"),
        ("dvc.yaml", b"stages: {}\n"),
    ],
)
def test_the_patch_of_a_dirty_tree_recreates_it(repo, rebuilt, path, content):
    changed = repo / path
    changed.parent.mkdir(exist_ok=True)
    changed.write_bytes(content) if content is not None else changed.unlink()
    found, there = rebuilt()
    assert found["dirty"] and found["patch_cut"] == ""
    assert found["patch_sha256"] == hashlib.sha256(found["patch"].encode()).hexdigest()
    assert (there / path).read_bytes() == content if content is not None else not (there / path).exists()


def test_settings_and_hooks_of_the_users_git_do_not_change_the_patch(repo, rebuilt, tmp_path_factory):
    lines = ["first", *[""] * 8, "last"]  # two hunks, with empty lines around them
    (repo / "src" / "long.py").write_text("\n".join(lines))
    git(repo, "add", "src/long.py")
    git(repo, "commit", "-q", "-m", "long")
    (repo / "src" / "long.py").write_text("\n".join(["one", *lines[1:-1], "two"]))
    (repo / "a.py").write_text("two \n")
    (repo / "src" / "걷기.py").write_text("new\n")
    git(repo, "mv", "src/old.bin", "src/moved.bin")
    plain = working_tree.code(repo)["patch_sha256"]
    hook = tmp_path_factory.mktemp("hooks") / "post-checkout"  # such as that of git-lfs where it is not installed
    hook.write_text("#!/bin/sh\nexit 2\n")
    hook.chmod(0o755)
    settings = {
        "diff.noprefix": "true", "color.ui": "always", "apply.whitespace": "fix", "core.quotepath": "false",
        "core.abbrev": "12", "diff.renames": "false", "diff.context": "0", "diff.algorithm": "histogram",
        "diff.suppressBlankEmpty": "true", "diff.interHunkContext": "9", "core.hooksPath": str(hook.parent),
    }  # fmt: skip
    for key, value in settings.items():
        git(repo, "config", key, value)
    found, there = rebuilt()
    assert found["patch_sha256"] == plain
    assert (there / "a.py").read_text() == "two \n" and (there / "src" / "걷기.py").read_text() == "new\n"
    assert (there / "src" / "moved.bin").is_file() and not (there / "src" / "old.bin").exists()


def test_the_code_that_is_brought_back_records_the_patch_that_brought_it(repo, tmp_path_factory):
    (repo / "docs").mkdir()
    (repo / "docs" / "new.md").write_text("new\n")
    git(repo, "add", "docs/new.md")
    git(repo, "mv", "a.py", "b.py")
    found, folder = working_tree.code(repo), tmp_path_factory.mktemp("back")
    (folder / "code.patch").write_text(found["patch"], "utf-8")
    with checkout.worktree(repo, found["commit"], folder / "code.patch", folder / "code") as there:
        assert working_tree.code(there) == found


def test_a_project_in_a_folder_of_a_larger_repository_is_brought_back_as_that_folder(repo, tmp_path_factory):
    project = repo / "lab" / "distil"
    (project / "src").mkdir(parents=True)
    (project / "params.yaml").write_text("one\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "lab")
    (project / "params.yaml").write_text("two\n")
    (project / "src" / "new.py").write_text("new\n")
    (repo / "a.py").write_text("another project's\n")
    found, folder = working_tree.code(project), tmp_path_factory.mktemp("back")
    (folder / "code.patch").write_text(found["patch"], "utf-8")
    with checkout.worktree(project, found["commit"], folder / "code.patch", folder / "code") as there:
        assert (there / "params.yaml").read_text() == "two\n" and (there / "src" / "new.py").read_text() == "new\n"
        assert working_tree.code(there) == found and "another" not in found["patch"]
    assert not (folder / "code").exists()


def test_changes_inside_a_submodule_are_said_to_be_missing(repo, tmp_path_factory):
    inner = tmp_path_factory.mktemp("inner")
    git(inner, "init", "-q", "-b", "main")
    (inner / "x.py").write_text("one\n")
    git(inner, "add", ".")
    git(inner, "commit", "-q", "-m", "inner")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "src/inner")
    git(repo, "commit", "-q", "-m", "with it")
    assert working_tree.code(repo)["patch_cut"] == ""
    (repo / "src" / "inner" / "x.py").write_text("two\n")
    assert working_tree.code(repo)["patch_cut"] == "a submodule has uncommitted changes"


@pytest.mark.parametrize("path", [".env", "run.zip", "notes/plan.md", "results/tables/sample/report.md", "src/ignored"])
def test_new_files_that_make_no_run_are_not_recorded(repo, path):
    (repo / path).parent.mkdir(parents=True, exist_ok=True)
    (repo / path).write_text("TOKEN=secret\n")
    (repo / "results" / "report.md").write_text("new\n")  # tracked: what a table wrote again
    found = working_tree.code(repo)
    assert (found["dirty"], found["patch"], found["patch_cut"]) == (False, "", "")


def test_new_files_that_were_added_to_the_index_are_recorded_wherever_they_are(repo, rebuilt):
    (repo / "tool.py").write_text("new\n")
    git(repo, "add", "tool.py")
    assert (rebuilt()[1] / "tool.py").read_text() == "new\n"


@pytest.mark.parametrize("empty", [True, False])
def test_a_repository_below_the_code_is_dirty_and_said_while_the_rest_is_recorded(repo, rebuilt, empty):
    inner = repo / "src" / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "x.py").write_text("x\n")
    if not empty:
        git(inner, "add", ".")
        git(inner, "commit", "-q", "-m", "inner")
    found = working_tree.code(repo)
    assert (found["dirty"], found["patch"]) == (True, "")
    assert found["patch_cut"] == "src/inner/ is a git repository of its own"
    (repo / "src" / "new.py").write_text("new\n")
    assert (rebuilt()[1] / "src" / "new.py").read_text() == "new\n"


def test_a_git_that_does_not_take_in_new_files_makes_the_tree_dirty(repo, monkeypatch):
    (repo / "src" / "new.py").write_text("new\n")
    real = working_tree.git

    def refusing(folder, *words, **more):
        return real(folder, "add", "--no-such-option") if "add" in words else real(folder, *words, **more)

    monkeypatch.setattr(working_tree, "git", refusing)
    found = working_tree.code(repo)
    assert found["dirty"] and "git does not take in new files (error: unknown option" in found["patch_cut"]


def test_a_change_that_is_no_text_for_json_is_said(repo):
    (repo / "a.py").write_bytes(b"caf\xe9\n")
    assert working_tree.code(repo)["patch_cut"] == "an uncommitted text is not UTF-8"


def test_a_change_of_the_second_in_which_git_looked_last_is_in_the_patch_however_late_the_run(repo):
    """git tells it from none by its content, as the file is no older than the index: so must the copy of the index."""
    git(repo, "config", "core.trustctime", "false")
    then = (1_700_000_000, 1_700_000_000)
    os.utime(repo / "a.py", then)
    git(repo, "update-index", "--refresh")
    (repo / "a.py").write_text("two\n")
    for path in (repo / "a.py", repo / ".git" / "index"):
        os.utime(path, then)
    assert "+two" in working_tree.code(repo)["patch"]


def test_variables_of_a_git_hook_do_not_lend_the_run_another_commit(repo, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "elsewhere")
    expected = working_tree.code(repo)["commit"]
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    (repo / "a.py").write_text("two\n")
    found = working_tree.code(repo)
    assert found["commit"] == expected and "+two" in found["patch"]


def test_a_huge_change_is_cut_and_the_patch_that_fails_says_so(repo, tmp_path_factory):
    (repo / "src" / "big.txt").write_text("0123456789\n" * 200_000)
    found = working_tree.code(repo)
    assert len(found["patch"]) <= working_tree.LONGEST_PATCH_BYTES
    assert found["dirty"] and found["patch_cut"] == "the uncommitted changes are more than 1 MB"
    folder = tmp_path_factory.mktemp("cut")
    (folder / "code.patch").write_text(found["patch"])
    with (
        pytest.raises(SpkdError, match="kept only the first 1 MB"),
        checkout.worktree(repo, found["commit"], folder / "code.patch", folder / "code"),
    ):
        pass


def test_a_patch_that_does_not_apply_says_why_and_not_that_it_was_cut(repo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "code.patch").write_text("--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-a\n+b\n")
    with (
        pytest.raises(
            SpkdError, match=r"none.py: (No such file|does not exist).*this run cannot be repeated"
        ) as refused,
        checkout.worktree(repo, "HEAD", folder / "code.patch", folder / "code"),
    ):
        pass
    assert "1 MB" not in str(refused.value)


def test_code_without_git_or_outside_a_repository_is_unknown_and_said_aloud(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert working_tree.code(tmp_path)["commit"] == "unknown"
    assert "not a git repository" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert working_tree.code(tmp_path)["commit"] == "unknown"
    assert "git is not installed" in capsys.readouterr().err


def test_a_command_that_needs_git_says_that_it_is_not_installed(repo, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SpkdError, match="install git"):
        working_tree.git(repo, "status")


def test_a_run_says_at_once_that_it_cannot_be_repeated(repo, capsys):
    def tags(run):
        return {key: value for call in run.tags.call_args_list for key, value in call.args[0].items()}

    (repo / "src" / "new.py").write_text("new\n")
    whole, cut = Mock(spec=Run), Mock(spec=Run)
    provenance.tell(whole, {}, repo)
    (patch, name), _ = whole.text.call_args
    assert (name, tags(whole)["code.patch_sha256"]) == ("code.patch", hashlib.sha256(patch.encode()).hexdigest())
    assert "code.patch_cut" not in tags(whole) and "cannot be repeated" not in capsys.readouterr().err
    (repo / "src" / "big.txt").write_text("0123456789\n" * 200_000)
    provenance._code.cache_clear()  # as in another process
    provenance.tell(cut, {}, repo)
    assert "more than 1 MB" in tags(cut)["code.patch_cut"]
    assert "this run cannot be repeated: the uncommitted changes are more than 1 MB: commit or ignore" in (
        capsys.readouterr().err
    )
