import gc
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import spkd
from spkd import __main__ as front
from spkd import config, plugin
from spkd.errors import SpkdError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_help_lists_every_command_with_its_first_docstring_line(capsys):
    assert front.main([]) == 0
    out = capsys.readouterr().out
    for name in plugin.names("cli"):
        assert f"  {name.replace('_', '-')} " in out
        assert plugin.describe("cli", name)[0] in out


@pytest.mark.parametrize("name", plugin.names("cli"))
def test_every_command_explains_the_settings_it_reads(name, capsys):
    assert front.main([name.replace("_", "-"), "--help"]) == 0
    out = capsys.readouterr().out
    for section in plugin.describe("cli", name)[1]["SECTIONS"]:
        assert f"--{section}" in out


def test_a_preset_for_another_data_set_is_refused_before_anything_runs(capsys):
    assert front.main(["distill", "--preset", "paper-geneactiv"]) == 2
    assert "preset paper-geneactiv: expected dataset geneactiv, got pamap2" in capsys.readouterr().err


def test_help_says_value_meaning_and_unit(capsys):
    front.main(["distill", "--help"])
    line = next(x for x in capsys.readouterr().out.splitlines() if "--train.weight_decay" in x)
    assert "0.0001" in line and "L2 penalty" in line


def test_help_explains_an_empty_mapping_once(capsys):
    front.main(["yolo-versions", "--help"])
    assert capsys.readouterr().out.count("COCO JSON per split") == 1


def test_help_says_what_a_group_of_settings_is(capsys):
    for command, meaning in (("distill", "losses.dist: relations of the logits"), ("yolo-versions", "published COCO")):
        front.main([command, "--help"])
        assert capsys.readouterr().out.count(meaning) == 1


def test_help_fits_a_terminal_and_breaks_no_word(capsys, monkeypatch):
    front.main(["distill", "--help"])
    whole = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    front.main(["distill", "--help"])
    fitted = capsys.readouterr().out
    assert fitted.split() == whole.split() and max(map(len, fitted.splitlines())) <= 80


def test_help_imports_no_torch():
    code = "import sys; from spkd.__main__ import main; main(['distill', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", ["spkd.cli.table", "spkd.detect.follow"])
def test_a_run_does_not_wait_for_matplotlib(module):
    """Its figures are SVG; importing matplotlib takes longer than drawing them all ten times."""
    code = f"import sys, {module}; sys.exit(' '.join(m for m in sys.modules if m.startswith('matplotlib')) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_command_names_the_nearest(capsys):
    assert front.main(["distil"]) == 2
    assert "did you mean 'distill'" in capsys.readouterr().err


def test_an_unknown_key_stops_before_anything_runs(capsys, monkeypatch):
    monkeypatch.setattr(plugin, "load", lambda folder, name: pytest.fail(f"{folder}/{name} was loaded"))
    assert front.main(["distill", "--train.epoch", "5"]) == 2
    assert "did you mean 'train.epochs'" in capsys.readouterr().err


@pytest.fixture
def told_to(monkeypatch):
    """told_to(act) -> a command that does nothing but act; the handlers of signals are put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    yield lambda act: monkeypatch.setattr(front, "run", lambda command, words: act())
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_and_ctrl_c_end_a_command_with_130_and_a_word(told_to, capsys):
    told_to(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert front.main(["distill"]) == 130
    assert capsys.readouterr().err == "spkd distill: stopped (signal SIGTERM)\n"
    told_to(lambda: signal.raise_signal(signal.SIGINT))
    assert front.main(["distill"]) == 130
    assert capsys.readouterr().err == "spkd distill: stopped (Ctrl-C)\n"


@pytest.mark.parametrize("said", [
    "CUDA out of memory. Tried to allocate 2 MiB. GPU 0 has a total capacity of 4 GiB of which 1 MiB is free",
    "CUDA error: out of memory",
])  # fmt: skip
def test_a_gpu_that_others_fill_is_a_message_wherever_it_shows(told_to, capsys, said):
    def fill():
        raise RuntimeError(
            f"{said}. Of the allocated memory 1 GiB is allocated by PyTorch.\nCompile with TORCH_USE_CUDA_DSA"
        )

    told_to(fill)
    assert front.main(["robustness"]) == 2
    do = "look what else takes it (a GPU's: nvidia-smi), or use another device"
    assert capsys.readouterr().err == f"spkd robustness: {said}; {do}\n"


def test_a_processor_without_memory_is_a_message_wherever_it_shows(told_to, capsys):
    told_to(lambda: torch.empty(2**60))
    assert front.main(["robustness"]) == 2
    assert capsys.readouterr().err.startswith("spkd robustness: can't allocate memory: you tried to allocate ")
    told_to(lambda: np.empty(2**59))
    assert front.main(["windows"]) == 2
    assert capsys.readouterr().err.startswith("spkd windows: Unable to allocate ")
    told_to(lambda: bytes(2**62))
    assert front.main(["windows"]) == 2
    assert capsys.readouterr().err.startswith("spkd windows: no memory is left; look what else takes it")


def test_another_error_of_torch_keeps_its_traceback(told_to):
    def break_it():
        raise RuntimeError("shapes cannot be multiplied")

    told_to(break_it)
    with pytest.raises(RuntimeError, match="shapes"):
        front.main(["robustness"])


def test_only_a_commands_imports_look_for_no_garbage(monkeypatch, capsys):
    """A learner's reference circles hold a GPU's memory: they must go as ever."""
    seen = []

    def load(shelf, name):
        seen.append(gc.isenabled())
        raise SpkdError("here", "a part", "none", "put one there")

    monkeypatch.setattr(plugin, "load", load)
    gc.unfreeze()  # what the commands of other tests froze
    assert front.main(["inspect", "pamap2"]) == 2
    assert seen == [False] and gc.isenabled()
    assert gc.get_freeze_count() > 10_000
    gc.unfreeze()


def test_a_reader_that_has_gone_ends_a_command_with_141_and_without_a_word(told_to, tmp_path, monkeypatch, capsys):
    def write():
        raise BrokenPipeError

    told_to(write)
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert front.main(["table-status"]) == 141
        print("for nobody", flush=True)
    assert (tmp_path / "out").read_text() == "" and capsys.readouterr().err == ""


@pytest.mark.parametrize(("command", "preset", "useful"), [("detect", "seed", "coco"), ("distill", "coco", "seed")])
def test_a_preset_for_other_trainings_stops_before_anything_runs(command, preset, useful, capsys):
    assert front.main([command, "--preset", preset]) == 2
    said = capsys.readouterr().err
    assert f"got '{preset}', which sets none of them" in said and useful in said


@pytest.mark.parametrize(("given", "spins"), [
    ({}, front.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
])  # fmt: skip
def test_threads_wait_awake_for_microseconds_unless_the_user_says_how(given, spins, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert front.main(["--version"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize(("name", "value", "stays"), [
    ("OMP_DYNAMIC", "true", False), ("OMP_DYNAMIC", "FALSE", True), ("OMP_THREAD_LIMIT", "1", False),
])  # fmt: skip
def test_openmp_gives_the_threads_that_it_is_asked_for(name, value, stays, monkeypatch, capsys):
    """Products of oneDNN would wait for the others for ever."""
    seen = []

    def load(shelf, command):
        seen.append(os.environ.get(name))
        raise SpkdError("here", "a part", "none", "put one there")

    monkeypatch.setattr(plugin, "load", load)
    monkeypatch.setenv(name, value)
    assert front.main(["inspect", "pamap2"]) == 2
    gc.unfreeze()
    assert seen == [value if stays else None]
    assert (f"{name}={value} is left out" in capsys.readouterr().err) is not stays


def test_words_that_a_command_does_not_take_are_refused(capsys):
    assert front.main(["windows"]) == 2
    assert "dataset" in capsys.readouterr().err


def test_a_folder_that_may_not_be_written_is_a_message_with_its_name(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file where a folder should be")
    assert front.main(["simulate", "--out", str(tmp_path / "taken"), "--only", "chest"]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "taken") in said and "check space and permissions" in said


@pytest.mark.parametrize(("words", "message"), [(["--seed", "-1"], "a whole number"), (["--only", "chets"], "'chest'")])
def test_a_wrong_world_to_simulate_is_refused(words, message, capsys):
    assert front.main(["simulate", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["reproduce"], ["convert-coco", "--images", "a"], ["prepare", "chest", "signal"], ["fetch", "cocoa"]]
)
def test_a_command_is_named_once_in_what_it_refuses(words, capsys):
    assert front.main(words) == 2
    assert capsys.readouterr().err.startswith(f"spkd {words[0]}: command line: expected ")


@pytest.mark.parametrize("name", plugin.names("cli"))
def test_help_says_what_every_word_and_option_of_a_command_means(name, capsys):
    constants = plugin.describe("cli", name)[1]
    front.main([name.replace("_", "-"), "--help"])
    lines = capsys.readouterr().out.splitlines()
    options = {f"--{option} VALUE": meaning for option, meaning in constants.get("OPTIONS", {}).items()}
    words = {word.removesuffix("?"): meaning for word, meaning in constants.get("POSITIONAL", {}).items()}
    for word, meaning in {**options, **words, "--params VALUE": "the settings file"}.items():
        assert any(word in line and len(meaning) > 5 and meaning in line for line in lines), word
    has_settings = bool(constants["SECTIONS"])
    assert ("--section.key" in lines[0]) is has_settings and ("Values shown" in lines[-1]) is has_settings


def test_help_is_there_outside_of_a_project_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert front.main(["distill", "--help"]) == 0
    said = capsys.readouterr().out
    assert "usage: spkd distill" in said and "params.yaml is missing" in said


@pytest.mark.parametrize("words", [["--params", "mine.yaml"], ["--params=mine.yaml"]])
def test_help_shows_the_values_of_the_file_that_params_names(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    assert "epochs: 200 " in text
    (tmp_path / "mine.yaml").write_text(
        text.replace("preset: quick", "preset: none").replace("epochs: 200 ", "epochs: 201 ")
    )
    assert front.main(["teacher", *words, "--help"]) == 0
    said = capsys.readouterr().out
    assert "--train.epochs 201" in said and "those of mine.yaml with preset 'none'" in said


def test_version_and_help_are_words_of_their_own(capsys):
    assert front.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{spkd.__version__}\n"
    assert front.main(["help"]) == 0 and "usage: spkd <command>" in capsys.readouterr().out
    assert front.main(["help", "upload"]) == 0 and "usage: spkd upload <folder>" in capsys.readouterr().out


@pytest.mark.parametrize("written", [
    "FETCH = [{'url': 'x'}]", "FETCH: list[dict[str, str]] = [{'url': 'x'}]", "FETCH: list\nFETCH = [{'url': 'x'}]",
])  # fmt: skip
def test_a_parts_constants_are_found_with_a_type_and_without(written, tmp_path, monkeypatch):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.py").write_text(f'"""Mine."""\n{written}\nOTHER = len("no literal")\n')
    monkeypatch.setattr(plugin, "PACKAGE", tmp_path)
    assert plugin.describe("datasets", "mine") == ("Mine.", {"FETCH": [{"url": "x"}]})


@pytest.mark.parametrize(("command", "key"), [
    ("detect", "train.epochs"), ("distill", "teacher.network"), ("teacher", "distill.lambda"),
    ("compare", "train.epochs"), ("distill", "presets.quick.train.epochs"), ("bind", "run.seed"),
    ("detect", "run.device"), ("detect", "tracking.maps_every"), ("compare", "tracking.maps_every"),
    ("reproduce", "run.device"), ("yolo-versions", "detect.epochs"),
])  # fmt: skip
def test_a_setting_that_a_command_does_not_read_is_refused_before_anything_is_done(command, key):
    with pytest.raises(SpkdError, match=f"command line: expected .* got {key}"):
        front.run(command, [f"--{key}", "5"])


@pytest.mark.parametrize("name", plugin.names("cli"))
def test_a_command_names_every_section_that_its_file_reads(name):
    text = (plugin.PACKAGE / "cli" / f"{name}.py").read_text()
    read = {*re.findall(r"\bsettings\.([a-z_]+)", text), *re.findall(r"\b(?:tree|raw)\[\"([a-z_]+)\"\]", text)}
    sections = {section.split(".")[0] for section in plugin.describe("cli", name)[1]["SECTIONS"]} | {"settings"}
    assert read & set(config.read(ROOT / "params.yaml")) <= sections | (
        {"datasets"} if name == "use_recordings" else set()
    )


def test_the_device_of_a_detection_is_named_where_that_of_a_run_was_given():
    with pytest.raises(SpkdError, match=r"got run\.device; did you mean 'detect\.device'\?"):
        front.run("detect", ["--run.device", "cuda"])


def test_help_of_a_training_tells_the_split_and_scaling_of_its_data_set(capsys):
    front.main(["teacher", "--help"])
    out = capsys.readouterr().out
    assert "--datasets.pamap2.split.rule leave_one_subject_out" in out and "--datasets.pamap2.scaling " in out
    assert "--datasets.geneactiv" not in out and "--datasets.pamap2.windows" not in out


def test_help_of_a_table_names_the_tables_and_what_else_may_be_set(capsys):
    front.main(["table", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert any("--tables.sample" in line and "seconds a cell" in line for line in lines)
    assert len(lines) < 80 and any("`spkd distill` may be given" in line for line in lines)
