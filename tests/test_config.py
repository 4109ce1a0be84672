import contextlib
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from ruamel.yaml import YAML, YAMLError

from spkd import config
from spkd.config import Section
from spkd.errors import SpkdError
from spkd.settings import Settings
from spkd.training import weights

ROOT = Path(__file__).parents[1]
PARAMS = """
preset: none             # which preset
train:
  epochs: 6              # passes [epochs]
  lr: 0.05               # first rate [-]
beta: {sp: 200.0}        # weights
presets:
  none: {}
  long: {train.epochs: 200}
"""


class Train(Section):
    epochs: int
    lr: float


class Tiny(Section):
    train: Train


@pytest.fixture
def tree():
    return config.parse(PARAMS, "params.yaml")


def test_the_command_line_beats_the_preset_which_beats_the_file(tree):
    assert config.resolve(tree, {})["train"]["epochs"] == 6
    assert config.resolve(tree, {"preset": "long"})["train"]["epochs"] == 200
    assert config.resolve(tree, {"preset": "long", "train.epochs": 3})["train"]["epochs"] == 3
    assert tree["train"]["epochs"] == 6


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tree):
    with pytest.raises(SpkdError, match=r"unknown key 'train.epoch'; did you mean 'train.epochs'"):
        config.resolve(tree, {"train.epoch": 3})
    with pytest.raises(SpkdError, match="did you mean 'train.epochs'"):  # and no value of a preset
        config.resolve(tree, {"preset.long.train.epochs": 3})


def test_a_key_that_lacks_its_section_is_taken_for_the_one_it_ends():
    tree = {"run": {"seed": 0}, "reproduce": {"run_id": "none"}}
    with pytest.raises(SpkdError, match=r"unknown key 'run_id'; did you mean 'reproduce.run_id'"):
        config.put(tree, "run_id", "a", "command line")


def test_an_unknown_key_in_a_preset_names_the_preset(tree):
    tree["presets"]["long"]["trane.epochs"] = 1
    with pytest.raises(SpkdError, match="presets.long"):
        config.resolve(tree, {"preset": "long"})


def test_a_preset_may_not_prepare_data_behind_the_back_of_dvc(tree):
    tree["datasets"] = {"a": {"windows": {"step": 1}, "scaling": "training"}}
    tree["views"] = {"stored": {"size": 64}, "rendered": {"size": 64}}
    tree["prepare"] = {"a-stored": {"dataset": "a", "view": "stored"}}
    for key in ("datasets.a.windows.step", "views.stored.size"):
        tree["presets"]["long"] = {key: 2}
        with pytest.raises(SpkdError, match="prepares data"):
            config.resolve(tree, {"preset": "long"})
    tree["presets"]["long"] = {"views.rendered.size": 24, "datasets.a.scaling": "paper"}
    assert config.resolve(tree, {"preset": "long"})["views"]["rendered"]["size"] == 24


def test_a_misspelt_key_in_the_file_names_key_and_neighbour(tree):
    with pytest.raises(SpkdError, match=r"params\.yaml: train\.epochs: expected a value, got nothing"):
        config.check(Train, {"lr": 0.1}, "train")
    with pytest.raises(
        SpkdError, match=r"train\.epoch: expected a known key, got an unknown one; did you mean 'epochs'"
    ):
        config.check(Train, {"epoch": 1, "lr": 0.1}, "train")
    with pytest.raises(SpkdError, match="did you mean 'epochs'"):
        config.check(Train, {"epochs": 1, "lr": 0.1, "epoks": 2}, "train")


def test_a_value_of_the_wrong_type_is_refused_with_its_key_path():
    with pytest.raises(SpkdError, match=r"train\.epochs.*got 'many'"):
        config.check(Tiny, {"train": {"epochs": "many", "lr": 0.1}}, "")


def test_a_wrong_value_below_a_chosen_kind_is_named_as_the_file_has_it():
    tree = config.read(Path(__file__).parents[1] / "params.yaml")
    tree["datasets"]["pamap2"]["split"]["validation_subjects"] = -1
    with pytest.raises(SpkdError, match=r"datasets\.pamap2\.split\.validation_subjects: expected .*got -1"):
        config.part("datasets", "pamap2", tree)


@pytest.mark.parametrize(("given", "message"), [
    ({"tables.sample.folds": "none"}, r"^tables\.sample\.folds: expected a list, such as \[a, b\], got 'none'"),
    ({"detect.annotations": {"vul": "a.json"}}, r"^detect\.annotations\.vul: expected 'train', 'val' or 'test'"),
])  # fmt: skip
def test_a_wrong_value_of_several_kinds_is_named_as_the_file_has_it(given, message):
    with pytest.raises(SpkdError, match=message):
        config.check(Settings, config.resolve(config.read(ROOT / "params.yaml"), given), "")


def test_a_part_without_an_entry_is_refused_with_the_nearest():
    with pytest.raises(SpkdError, match="params.yaml: views: expected an entry 'gaff', got none; did you mean 'gaf'"):
        config.part("views", "gaff", {"views": {"gaf": {}, "signal": {}}})


def test_a_missing_value_is_not_filled_in():
    with pytest.raises(SpkdError, match=r"train\.lr.*got nothing; write it there; if it was deleted, `git show HEAD:"):
        config.check(Tiny, {"train": {"epochs": 1}}, "")


def test_a_key_written_twice_is_refused_with_its_line():
    with pytest.raises(SpkdError, match=r":2.*'a' twice"):
        config.parse("a: 1\na: 2\n", "params.yaml")


def test_the_comment_behind_a_value_is_its_help(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    assert config.comments(tmp_path / "params.yaml") == {
        "preset": "which preset",
        "train.epochs": "passes [epochs]",
        "train.lr": "first rate [-]",
        "beta": "weights",
        "beta.sp": "weights",
    }


def test_a_comment_is_found_above_a_list_that_takes_several_lines(tmp_path):
    (tmp_path / "p.yaml").write_text("a:\n  classes:     # numbers\n  - 1\n  - 2\n  step: 3   # samples\n")
    assert config.comments(tmp_path / "p.yaml") == {"a.classes": "numbers", "a.step": "samples"}


def test_overrides_are_read_as_yaml_with_space_or_equals_sign():
    words = ["--train.epochs", "5", "--a=[1, 2]", "--b.c", "true", "--d", "gaf:wrn16-3"]
    assert config.overrides(words) == {"train.epochs": 5, "a": [1, 2], "b.c": True, "d": "gaf:wrn16-3"}


def test_a_key_without_a_value_is_refused():
    with pytest.raises(SpkdError, match="a value after the key"):
        config.overrides(["--train.epochs"])


def test_a_whole_number_for_another_is_one_of_its_kind_and_yes_is_no_number():
    tree = {"rate": 0.5, "n": 3}
    for given, kept in ((1, 1.0), (True, True), (None, None)):
        config.put(tree, "rate", given, "command line")
        assert (type(tree["rate"]), tree["rate"]) == (type(kept), kept)
        tree["rate"] = 0.5
    config.put(tree, "n", 1, "command line")
    assert type(tree["n"]) is int


def test_what_lies_below_a_value_is_nothing_and_an_empty_mapping_is_a_value():
    tree = {"a": {"b": 5, "c": {}}}
    assert (config.at(tree, "a.b"), config.at(tree, "a.b.c"), config.at(tree, "x.y")) == (5, None, None)
    assert list(config.leaves(tree)) == [("a.b", 5), ("a.c", {})]


def test_a_value_is_dumped_on_one_line_as_it_would_be_typed():
    assert [config.dump(value) for value in (5, "a b", True, [1, 2])] == ["5", "a b", "true", "[1, 2]"]
    assert "\n" not in config.dump([f"gaf:wrn16-{k}" for k in range(40)])


@pytest.mark.parametrize("value", [1, 0.5, True, None, "a b", ["x:y", "z"], {"sp": 200.0}])
def test_a_dumped_value_reads_back(value):
    assert yaml.safe_load(config.dump(value)) == value


def test_a_value_that_must_have_a_form_is_answered_with_its_help(monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root)
    tree = config.resolve(config.read(root / "params.yaml"), {"detect.device": "cuda"})
    with pytest.raises(SpkdError, match=r"detect.device: expected auto, cpu, or GPU indices: 0 or 0,1 .*got 'cuda'"):
        config.check(Settings, tree, "")


def test_a_wrong_value_in_a_list_is_answered_with_the_help_of_the_list(monkeypatch):
    monkeypatch.chdir(ROOT)
    tree = config.resolve(config.read(ROOT / "params.yaml"), {"robustness.noise": [0.1, -1.0]})
    with pytest.raises(SpkdError, match=r"robustness.noise.1: .*got -1.0; .*: Gaussian noise on every sample"):
        config.check(Settings, tree, "")


def test_a_misspelt_key_below_a_section_is_named_with_the_one_that_it_stands_for():
    with pytest.raises(SpkdError, match=r"train\.epoks: expected a known key, .*did you mean 'epochs'"):
        config.check(Tiny, {"train": {"epoks": 1, "lr": 0.1}}, "")


def test_a_row_of_prepare_is_named_as_messages_name_its_stage():
    tree = config.resolve(config.read(ROOT / "params.yaml"), {})
    tree["prepare"] = {"mine-range": {"dataset": "mine", "view": "stored_range"}}
    with pytest.raises(SpkdError, match="prepare: expected rows named <dataset>-<view>, as mine-stored_range, not"):
        config.check(Settings, tree, "")


@pytest.mark.parametrize(("key", "value"), [
    ("distill.taps", ["group1", "group1"]), ("distill.teachers", ["signal:a", "signal:a"]),
    ("detect.distill.levels", ["P3", "P3"]),
    ("train.batch", 1), ("train.epochs", 0), ("train.lr", 0.0), ("detect.imgsz", 100), ("yolo_versions.imgsz", 100),
    ("detect.distill.max_objects", 1), ("detect.maps.images", 1), ("robustness.segments", [1.5]),
    ("distill.lambda", 1.1),
    ("train.batch", 10**30), ("run.seed", 2**31), ("run.folder", ""), ("detect.data", ""), ("table.folder", ""),
    ("reproduce.min_trials", 1), ("reproduce.alpha", 0.5), ("reproduce.margin", 1.0), ("table.retries", -1),
])  # fmt: skip
def test_a_value_that_means_nothing_is_refused(key, value):
    tree = config.resolve(config.read(ROOT / "params.yaml"), {key: value})
    with pytest.raises(SpkdError, match=key):
        config.check(Settings, tree, "")


@pytest.mark.parametrize(("key", "word"), [
    ("train.epochs", "5.0"), ("fold", "true"), ("run.seed", '"1"'), ("train.early", "true"), ("train.lr", '"0.1"'),
    ("train.teacher_cache", "1"), ("run.tf32", '"no"'), ("networks.wrn16-1.width", "1.0"), ("student.view", "1"),
    ("views.gaf.size", "24.0"), ("train.lr", ".inf"), ("distill.beta.sp", ".nan"), ("robustness.noise", "[.inf]"),
    ("views.persistence.low", ".nan"), ("losses.kd.temperature", ".inf"),
    ("losses.kd.temperature", "1e200"), ("losses.dist.temperature", "1e200"),  # whose square is none
])  # fmt: skip
def test_a_value_of_another_kind_or_no_finite_number_is_refused(key, word):
    tree = config.resolve(config.read(ROOT / "params.yaml"), config.overrides([f"--{key}", word]))
    with pytest.raises(SpkdError, match=rf"^{key}(\.0)?: expected"):
        config.check(Settings, tree, "")
        for shelf in ("views", "losses"):
            for name in tree[shelf]:
                config.part(shelf, name, tree)
        weights.build_of("wrn16-1", tree["networks"]["wrn16-1"], "signal", 1, 2, torch.Generator())


def test_an_id_of_digits_alone_is_a_text():
    given = {"reproduce.run_id": 12345678, "compare.runs": 123456, "robustness.runs": 1234567, "detect.device": 0}
    made = config.check(Settings, config.resolve(config.read(ROOT / "params.yaml"), given), "")
    found = (made.reproduce.run_id, made.compare.runs, made.robustness.runs, made.detect.device)
    assert found == ("12345678", "123456", "1234567", "0")


@pytest.mark.parametrize(
    "value",
    ["2026-02-30", "9" * 5000, "!!bool maybe", "!!timestamp noon", "!!float x", "!!int ''"],
    ids=lambda v: v[:12],
)
def test_a_value_that_is_not_what_yaml_takes_it_for_is_refused_with_its_line(value):
    with pytest.raises(SpkdError, match=r"params\.yaml:2: expected what YAML takes for .*write it in quotes"):
        config.parse(f"a: 1\nb: {{c: {value}}}", "params.yaml")


@pytest.mark.parametrize("text", ["a: &a {b: *a}", "a: &a [*a]", "[" * 3000 + "]" * 3000])
def test_a_mapping_that_holds_itself_or_has_no_end_is_no_yaml(text):
    with pytest.raises(SpkdError, match=r"params\.yaml: expected YAML"):
        config.parse(text, "params.yaml")


def test_aliases_of_aliases_without_measure_are_refused_and_a_few_are_written_out():
    text = "a: &a {x: 1, y: 2}\nb: &b {x: *a, y: *a}\n"
    assert config.parse(text, "params.yaml")["b"]["y"] == {"x": 1, "y": 2}
    bomb = text + "".join(f"{c}: &{c} {{x: *{before}, y: *{before}}}\n" for before, c in pairwise("bcdefghijklmnopq"))
    with pytest.raises(SpkdError, match=r"params\.yaml: expected at most 100,000 values .* got 1,048,535"):
        config.parse(bomb, "params.yaml")


def test_a_key_given_twice_is_refused_as_it_is_in_a_file():
    with pytest.raises(SpkdError, match="command line: expected each key once, got --train.epochs twice"):
        config.overrides(["--train.epochs", "5", "--a", "1", "--train.epochs=7"])


def test_first_digits_of_an_id_stay_digits():
    assert config.overrides(["--compare.runs", "01234567", "--a", "17"]) == {"compare.runs": "01234567", "a": 17}


def test_what_a_preset_replaces_is_told_but_not_what_the_command_line_sets(tree):
    assert config.preset_line(tree, {}, ("preset", "train")) == ""
    assert config.preset_line(tree, {"preset": "long"}, ("train",)) == "preset long: train.epochs 200 (not 6)"
    assert config.preset_line(tree, {"preset": "long", "train.epochs": 3}, ("train",)) == ""
    tree["presets"]["as it is"] = {"train.epochs": 6}
    assert config.preset_line(tree, {"preset": "as it is"}, ("train",)) == ""


def test_of_a_preset_only_what_the_command_reads_is_told(tree):
    tree["presets"]["long"] |= {"beta.sp": 1.0, "datasets.a.scaling": "paper"}
    assert config.preset_line(tree, {"preset": "long"}, ("beta",)) == "preset long: beta.sp 1.0 (not 200.0)"
    assert config.preset_line(tree, {"preset": "long", "beta": {"at": 1000.0}}, ("beta",)) == ""
    assert config.preset_line(tree, {"preset": "long", "bet": 1}, ("beta",)) == "preset long: beta.sp 1.0 (not 200.0)"
    assert "datasets.a.scaling" in config.preset_line(tree, {"preset": "long"}, ("dataset",))


def test_a_preset_that_sets_nothing_for_the_command_is_refused_where_it_was_asked_for(tree):
    with pytest.raises(SpkdError, match="preset: expected one .*reads: none, got 'long', which sets none of them"):
        config.preset_line(tree, {"preset": "long"}, ("beta",))
    assert config.preset_line({**tree, "preset": "long"}, {}, ("beta",)) == ""
    assert config.preset_line(tree, {"preset": "none"}, ("beta",)) == ""


def test_a_preset_is_refused_with_other_settings_than_it_is_meant_for(tree):
    tree["presets"]["long"]["expects"] = {"beta.sp": 200.0}
    tree["presets"]["short"] = {"expects": {"beta.sp": 7}, "train.epochs": 1}
    config.require_expected(config.resolve(tree, {"preset": "long"}), ("beta",))
    assert config.preset_line(tree, {"preset": "long"}, ("train",)) == "preset long: train.epochs 200 (not 6)"
    for sp, do in ((7.0, "choose preset short, or beta.sp 200.0"), (8.0, "choose preset none, or beta.sp 200.0")):
        with pytest.raises(SpkdError, match=f"preset long: expected beta.sp 200.0, got {sp}; {do}"):
            config.require_expected(config.resolve(tree, {"preset": "long", "beta.sp": sp}), ("train", "beta"))
    config.require_expected(config.resolve(tree, {"preset": "long", "beta.sp": 8}), ("train",))  # it reads no beta


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "paper", "dataset": "geneactiv"}, "dataset pamap2, got geneactiv; choose preset paper-geneactiv"),
        ({"preset": "paper-geneactiv"}, "expected dataset geneactiv, got pamap2; choose preset paper"),
        ({"preset": "paper"}, r"rule paper, got sound; .*dvc exp run -S datasets.pamap2.windows.rule=paper"),
        ({"preset": "paper", "dataset": "chest"}, "choose preset none or quick or seed, or dataset"),
    ],
)
def test_the_published_presets_are_for_their_own_data_alone(given, message):
    raw = config.read(Path(__file__).parents[1] / "params.yaml")
    with pytest.raises(SpkdError, match=message):
        config.require_expected(config.resolve(raw, given), ("dataset", "train"))


def test_the_published_presets_have_the_weights_of_their_data():
    raw = config.read(Path(__file__).parents[1] / "params.yaml")
    raw["datasets"]["pamap2"]["windows"]["rule"] = "paper"
    for dataset, preset, lambda_, beta in (("pamap2", "paper", 0.99, 200), ("geneactiv", "paper-geneactiv", 0.7, 700)):
        tree = config.resolve(raw, {"preset": preset, "dataset": dataset})
        config.require_expected(tree, ("dataset", "train"))
        distill = tree["distill"]
        assert (distill["lambda"], distill["beta"]["sp"], tree["train"]["schedule"]) == (lambda_, beta, "paper")


def test_presets_that_are_gone_are_missed_by_name(tree):
    del tree["presets"]
    with pytest.raises(SpkdError, match="a section `presets`, got none; add it as"):
        config.resolve(tree, {})


def test_a_name_with_dots_in_it_is_a_key_like_any_other(tree):
    tree["models"] = {"yolov8n.yaml": 37.3, "yolov8n": {"yaml": 1}, "plain": {"a": {"x": 1}, "a.b": {"c.d": 2}}}
    resolved = config.resolve(tree, {"models.yolov8n.yaml": 40.0, "models.plain.a.b.c.d": 3})
    assert resolved["models"] == {
        "yolov8n.yaml": 40.0,
        "yolov8n": {"yaml": 1},
        "plain": {"a": {"x": 1}, "a.b": {"c.d": 3}},
    }
    with pytest.raises(SpkdError, match=r"unknown key 'models.yolov8.yaml'; did you mean 'models.yolov8n.yaml'"):
        config.resolve(tree, {"models.yolov8.yaml": 1})


@pytest.mark.parametrize("content", [PARAMS.encode("utf-16"), bytes(range(256))])
def test_settings_that_are_no_text_are_refused_by_the_name_of_their_file(tmp_path, content):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(SpkdError, match=r"mine.yaml: expected text in UTF-8.*save it as UTF-8"):
        config.read(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": ["a"]}, r"preset: expected one of none, long, got \['a'\]"),
        ({"presets": 5}, "mine.yaml: presets: expected a mapping, got 5"),
        ({"presets": {"none": 5}}, "mine.yaml: presets.none: expected a mapping, got 5"),
        ({"presets": {"none": {"expects": 5}}}, "mine.yaml: presets.none: expected a mapping"),
        ({"presets": {}}, "mine.yaml: expected a section `presets`"),
        ({"presets": {"none": {"trane": 5}}}, "mine.yaml: presets.none: expected a key of mine.yaml"),
        ({"prepare": 5, "presets": {"none": {"views.a.size": 1}}}, "unknown key 'views.a.size'"),
    ],
)
def test_a_malformed_section_is_named_with_the_file_that_it_stands_in(tree, change, message):
    with pytest.raises(SpkdError, match=message):
        config.resolve({**tree, **change}, {}, Path("mine.yaml"))


def test_a_wrong_value_is_looked_for_in_the_file_that_was_read(tree):
    with pytest.raises(SpkdError, match=r"mine.yaml: train.lrr: expected a known key.*; remove it"):
        config.check(Tiny, {"train": {"epochs": 1, "lr": 1.0, "lrr": 1}}, "", Path("mine.yaml"))
    with pytest.raises(SpkdError, match=r"correct it in mine.yaml"):
        config.check(Tiny, {"train": {"epochs": "x", "lr": 1.0}}, "", Path("mine.yaml"))


@pytest.mark.parametrize(
    ("text", "message"), [("a: 1\na: 2", "mine:2: expected each key once"), ("? [a]\n: 1", "mine:1")]
)
def test_a_key_that_cannot_be_meant_is_named_with_file_and_line(text, message):
    with pytest.raises(SpkdError, match=message):
        config.parse(text, "mine")


@pytest.mark.parametrize(
    "text", ["a: [gaf:wrn16-3, b]", "a: {set: {teachers: [gaf:wrn16-3]}}", "a: {set: gaf:wrn16-3}", "a: {x:y: 1}"]
)
def test_a_file_that_dvc_takes_for_no_yaml_is_refused_with_the_word_to_quote(text, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(f"none: 0\n{text}\n")
    with pytest.raises(YAMLError):
        YAML(typ="safe").load(text)
    with pytest.raises(SpkdError, match=r'params.yaml:2: expected quotes .* got (.*); write "\1"'):
        config.read(file)
    quoted = re.sub(r"\w+:\w[\w-]*", r'"\g<0>"', text)
    file.write_text(quoted)
    assert config.read(file) == YAML(typ="safe").load(quoted)
    assert config.overrides(["--a", text.removeprefix("a: ")])["a"]  # the command line may: DVC does not see it


@pytest.mark.parametrize(("text", "value"), [
    ("1e-2", 0.01), ("1e-05", 1e-05), ("010", 10), ("0x10", 16), ("0o10", 8), ("-3", -3), ("+4", 4), (".5", 0.5),
    ("5.", 5.0), ("-.inf", -math.inf), ("true", True), ("no", "no"), ("on", "on"), ("1:30", "1:30"), ("1_000", "1_000"),
    ("0.1.2", "0.1.2"), ("~", None), ("2e", "2e"),
])  # fmt: skip
def test_numbers_are_read_as_dvc_reads_them(text, value):
    read = config.parse(f"a: {text}", "mine")["a"]
    assert read == value and type(read) is type(value)
    by_dvc = YAML(typ="safe").load(f"a: {text}")["a"]
    assert by_dvc == value or text == "1_000"  # which ruamel takes for a number all the same


@pytest.mark.parametrize(
    "value", ["1e-2", "010", "no", "true", "1:30", "0x1f", "12e45678", "a # b", 1e-05, 3, None, True]
)
def test_what_is_written_is_read_as_it_was_by_either_version_of_yaml(value):
    assert config.parse(config.dump(value), "mine") == yaml.safe_load(config.dump(value)) == value


@pytest.mark.parametrize(("text", "value"), [
    ("", ""), ('""', ""), ("'' # none", ""), ("wrist #2", "wrist #2"),
    ("'wrist' #2", "wrist"), ("5 # five", 5), ("51122e10", "51122e10"),
    ("12e456", "12e456"), ("1e3", 1e3), ("01234567", "01234567"), ("[a, b]", ["a", "b"]),
    ("tags.trial = '0'", "tags.trial = '0'"),
])  # fmt: skip
def test_a_word_of_the_command_line_is_what_was_typed(text, value):
    assert config.overrides(["--a", text]) == config.overrides([f"--a={text}"]) == {"a": value}


def test_the_texts_of_a_commands_own_options_are_taken_as_they_are():
    words = ["--out", "1.10", "--csv=results #2", "--b", "1.10"]
    assert config.overrides(words, ("out", "csv")) == {"out": "1.10", "csv": "results #2", "b": 1.1}


def test_a_number_keeps_the_kind_that_its_setting_has(tree):
    tree["train"]["noise"] = 0.0
    resolved = config.resolve(tree, {"train.noise": 0, "train.epochs": 3})
    assert [type(resolved["train"][key]) for key in ("noise", "epochs")] == [float, int]


def test_an_open_mapping_takes_a_key_that_it_lacks_and_others_do_not():
    raw = config.read(ROOT / "params.yaml")
    given = {"distill.beta.at": 1000, "detect.train.lr0": 0.02, "yolo_versions.weights.yolov8n.yaml": "mine.pt"}
    resolved = config.resolve(raw, {"preset": "none", **given})
    assert resolved["distill"]["beta"] == {**raw["distill"]["beta"], "at": 1000}
    assert (
        resolved["detect"]["train"]["lr0"] == 0.02 and resolved["yolo_versions"]["weights"]["yolov8n.yaml"] == "mine.pt"
    )
    with pytest.raises(SpkdError, match="unknown key 'distill.bet'"):
        config.resolve(raw, {"distill.bet": 1})


def test_a_preset_may_not_change_how_coco_is_converted(tree):
    tree["coco"] = {"segments": False}
    tree["presets"]["long"]["coco.segments"] = True
    with pytest.raises(SpkdError, match="no setting that prepares data"):
        config.resolve(tree, {"preset": "long"})


@pytest.mark.parametrize(("sections", "key", "do"), [
    (("preset", "detect"), "train.epochs", "did you mean 'detect.epochs'"),
    (("preset", "student", "distill"), "teacher.network", "did you mean 'student.network'"),
    (("dataset", "train"), "presets.quick.train.epochs", "did you mean 'train.epochs'"),
    (("dataset",), "distill.lambda", "leave it out; see `spkd mine --help`"), ((), "preset", "leave it out"),
    (("dataset", "train"), "datasets.geneactiv.scaling", "leave it out"),  # the data set is pamap2
])  # fmt: skip
def test_a_setting_that_the_command_does_not_read_is_refused(sections, key, do):
    tree = config.read(ROOT / "params.yaml")
    with pytest.raises(SpkdError, match=f"reads.*got {key}; {do}"):
        config.require_read({key: 1}, tree, sections, "mine")
    given = {"datasets.chest.scaling": "subject", "dataset": "chest"}
    config.require_read(given, config.resolve(tree, given), ("dataset",), "mine")


@pytest.mark.parametrize(("alphas", "ok"), [([], True), ([1 / 3] * 3, True), ([0.333] * 3, True), ([1.0, 1.0], False)])
def test_the_weights_of_teachers_share_what_lambda_and_beta_weigh(alphas, ok):
    raw = config.read(Path(__file__).parents[1] / "params.yaml")
    with contextlib.nullcontext() if ok else pytest.raises(SpkdError, match=r"alphas: expected weights that sum to 1;"):
        config.check(Settings, config.resolve(raw, {"distill.alphas": alphas}), "")
