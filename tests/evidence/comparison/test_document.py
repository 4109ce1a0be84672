"""The comparison page: what it holds, by hand-made records; nothing of a run reaches it unescaped."""

import base64
import contextlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from spkd.cli import compare
from spkd.evidence import similarity
from spkd.evidence.comparison import differences, document, map_cards, plain_text, sections
from spkd.evidence.comparison.record import Map, Record, differing, entries, short
from spkd.evidence.tracking.reading import RunInfo

LABELS = np.array([0, 0, 1, 1])
EVIL = "<script>alert('x')</script>&\"`"
VOID = {"meta", "input", "br", "img", "link"}


def run(name, number, **changes):
    metrics = {
        "headline/accuracy": 0.5 + 0.1 * number, "headline/macro_f1": 0.4, "last/accuracy": 0.5, "best/accuracy": 0.9,
        "headline/epoch": 2.0, "cost/parameters": 1000.0 * (number + 1), "cost/macs": 1e6, "cost/latency_ms": 0.5,
    }  # fmt: skip
    tags = {"kind": "scratch", "data.origin": "recorded", "headline": "validation", "data.digest": "d", "fold": "0"}
    made = RunInfo(f"{number:032x}", name, "FINISHED", "0", 0, 0, {}, metrics, tags)
    return replace(made, tags={**tags, **changes.pop("tags", {})}, **changes)


def record(name="net a", number=0, factor=1.0, **changes):
    features = np.random.default_rng(number).normal(size=(4, 6))
    product = factor * features @ features.T
    given = {
        "settings": {"train.epochs": 3, "train.lr": 0.1 + number},
        "data": {"digest": "d"},
        "environment": {"cpu": "x"},
        "code": {"commit": "c"},
        "curves": {"test/accuracy": [(1, 0.2), (2, 0.5)], "lr": [(1, 0.1), (2, 0.01)]},
        "maps": {0: {"group1": Map(LABELS, {"student": product})}, 3: {"group1": Map(LABELS, {"student": product})}},
        "rows": "probe", "classes": ["sit", "walk"], "confusion": np.array([[3, 1], [0, 4]]),
        "subjects": {"s1": (0.875, 8)},
    }  # fmt: skip
    return Record(run(name, number, **changes.pop("run", {})), **{**given, **changes})


def detector(number=1):
    metrics = {"best/mAP50-95": 0.25, "best/mAP50": 0.5, "cost/parameters": 3e6, "cost/gflops": 8.7}
    made = run("coco yolov8n", number, tags={"kind": "detect", "data.origin": "recorded"})
    maps = {1: {"image/P3": Map(LABELS, {"student": np.eye(4)})}}
    return Record(replace(made, metrics=metrics), curves={"val/mAP50": [(1, 0.1), (2, 0.2)]}, maps=maps, rows="images")


class Checker(HTMLParser):
    """Every tag is closed in order; collects tags, and attributes that load or run something."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        assert not [k for k, _ in attrs if k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def checked(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def shown(*records):
    har, detection = entries(list(records))
    return har or detection


def test_the_page_is_well_formed_and_loads_nothing():
    page = checked(document.page([record(), record("net b", 1), detector(2)], "title"))
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert page.seen.count("script") == 1 and not {"link", "img", "iframe"} & set(page.seen)


def test_every_word_of_a_run_is_escaped():
    evil = record(
        EVIL, 1, settings={EVIL: EVIL}, data={EVIL: EVIL}, environment={EVIL: EVIL}, code={EVIL: EVIL},
        curves={EVIL: [(1, 0.1), (2, 0.2)]}, classes=[EVIL, EVIL + "2"], subjects={EVIL: (0.5, 3)},
        maps={3: {EVIL: Map(LABELS, {"student": np.eye(4), EVIL: np.ones((4, 4))})}},
        run={"tags": {"teacher." + EVIL + ".run_id": EVIL, "headline": EVIL}},
    )  # fmt: skip
    page = document.page([record(), evil], EVIL)
    assert "<script>alert" not in page
    parsed = checked(page)
    assert parsed.seen.count("script") == 1
    assert EVIL in "".join(parsed.text)


def test_simulated_runs_are_named_on_top():
    simulated = record("net b", 1, run={"tags": {"data.origin": "simulated"}})
    assert "SIMULATED" not in document.page([record()], "t")
    page = document.page([record(), simulated], "t")
    assert f"{document.SIMULATED} (B)" in page
    assert page.index("SIMULATED") < page.index("<nav>")


def test_runs_on_other_data_carry_a_warning():
    other = record("net b", 1, run={"tags": {"data.digest": "e", "test_subjects": "9"}})
    assert "do not share the same data and test subjects" in document.page([record(), other], "t")
    assert "do not share" not in document.page([record(), record("net b", 1)], "t")


def test_a_detection_run_has_map_columns_and_its_own_sections():
    page = document.page([record(), detector()], "t")
    for word in ("mAP50-95", "0.2500", "Detection: Curves", "val/mAP50", "image/P3", "mAP50-95 against parameters"):
        assert word in page, word
    assert page.count("Data: ?, data d.") == 2


def test_the_repetition_of_a_detector_stands_among_the_detectors(capsys):
    own = detector()
    tags = {**own.run.tags, "kind": "repetition", "repeats": own.run.id, "distill.method": "none"}
    repetition = replace(own, run=replace(own.run, tags=tags))
    har, detection = entries([record(), own, repetition])
    assert [e.record for e in har] != [] and [e.record for e in detection] == [own, repetition]
    compare.tell([own.run, repetition.run])
    out = capsys.readouterr().out
    assert "accuracy" not in out and out.count("0.2500") == 2


def test_the_table_names_every_data_set_of_its_runs_once(capsys):
    runs = [run("a", k, tags={"data.dataset": name}) for k, name in enumerate(["pamap2", "chest", "pamap2"])]
    compare.tell(runs)
    assert "\npamap2, data d | chest, data d: accuracy on test subjects" in capsys.readouterr().out
    assert "Data: pamap2, data d." in document.page([Record(runs[0])], "t")


def test_below_each_table_of_runs_stands_what_is_not_the_same_in_its_rows(capsys):
    settings = ("cfg/train.batch", "32"), ("cfg/train.batch", "64")
    har = [run("a", k, params=dict([own])) for k, own in enumerate(settings)]
    boxes = [replace(detector(k).run, params={"cfg/detect.epochs": str(k)}) for k in (2, 3)]
    compare.tell([*har, *boxes])
    recordings, detection = capsys.readouterr().out.split(": detection\n")
    assert "not the same in every row: train.batch 32 | 64" in recordings
    assert "not the same in every row: detect.epochs 2 | 3" in detection


def test_below_each_table_of_runs_stands_what_chose_the_epoch_of_its_results(capsys):
    har = [run("a", k, tags={"headline": rule}) for k, rule in enumerate(["the last", "on TEST", "the last"])]
    boxes = detector().run
    compare.tell([*har, replace(boxes, tags={**boxes.tags, "headline": "on the validation images"})])
    recordings, detection = capsys.readouterr().out.split(": detection\n")
    assert "headline: the last | on TEST. " in recordings
    assert "headline: on the validation images.\n" in detection


@pytest.mark.parametrize(("origins", "origin"), [
    (("simulated", "UCI 231"), "simulated"), (("UCI 231", "UCI 287"), "recorded"),
])  # fmt: skip
def test_one_simulated_run_makes_a_comparison_simulated(tmp_path, monkeypatch, capsys, origins, origin):
    runs, given = [run("a", k, tags={"data.origin": one}) for k, one in enumerate(origins)], []
    compare.tell(runs)
    assert (document.SIMULATED in capsys.readouterr().out) is (origin == "simulated")
    made = SimpleNamespace(id="c", params=lambda tree: None, text=lambda text, name: None)
    monkeypatch.setattr(compare.tracking, "sweep", lambda folder: [])
    monkeypatch.setattr(compare.tracking, "forget", lambda folder: None)
    opened = contextlib.nullcontext(made)
    monkeypatch.setattr(compare.tracking, "open_run", lambda *words, tags, fresh: given.append(tags) or opened)
    settings = SimpleNamespace(
        compare=SimpleNamespace(out=str(tmp_path / "c.html")), tracking=SimpleNamespace(experiment="e")
    )
    compare.write("page", runs, settings, {"compare": {}}, tmp_path)
    assert [tags["data.origin"] for tags in given] == [origin]


def test_a_run_that_recorded_nothing_but_a_result_still_has_its_row():
    page = document.page([Record(run("bare", 0)), record("net b", 1)], "t")
    checked(page)
    assert "bare" in page and "Without maps: A" in page


def test_only_unequal_keys_differ_and_a_missing_key_is_a_difference():
    keys, unequal = differing([{"a": 1, "b": 2, "c": [1]}, {"a": 1, "b": 3, "c": [1]}, {"a": 1, "b": 2}])
    assert keys == ["a", "b", "c"]
    assert unequal == ["b", "c"]
    assert differing([{"a": None}, {}]) == (["a"], ["a"])


def test_settings_data_environment_and_code_each_have_their_table():
    others = {"data": {"digest": "e"}, "environment": {"cpu": "y"}, "code": {"commit": "f"}}
    runs = shown(record(), record("b", 1, **others))
    assert "settings 1 of 2, data 1 of 1, environment 1 of 1, code 1 of 1 keys" in differences.summary(runs)
    html = differences.section(runs)
    told = dict(re.findall(r'<tr class="differs"><th>([\w.]+)</th>(.*?)</tr>', html))
    cells = {key: re.findall(r">([^<]+)</td>", cells) for key, cells in told.items()}
    assert cells == {"train.lr": ["0.1", "1.1"], "digest": ["d", "e"], "cpu": ["x", "y"], "commit": ["c", "f"]}


def test_teachers_of_other_settings_differ_and_a_run_without_them_does_not():
    small, large = ({"gaf-wrn16-3.view.size": size, "gaf-wrn16-3.fold": "0"} for size in ("8", "64"))
    runs = shown(record(), record("b", 1, taught=small), record("c", 2, taught=large))
    html = differences.section(runs)
    assert "Settings of the teachers <span class='quiet'>1 of 2 differ" in html
    assert '<tr class="differs"><th>gaf-wrn16-3.view.size</th>' in html
    assert "settings of the teachers 1 of 2" in differences.summary(runs)
    assert "settings of the teachers 0 of 2" in differences.summary(runs[:2])
    assert "teachers" not in differences.section(runs[:1]) + differences.summary(runs[:1])


def test_equal_keys_are_folded_and_the_unusual_value_is_stressed():
    html = differences.section(shown(record(), record("b", 1), record("c", 2, settings={"train.lr": 0.1})))
    assert '<tr class="differs"><th>train.epochs</th>' in html
    lr = re.search(r"<th>train.lr</th>(.*?)</tr>", html)[1]
    assert re.findall(r'class="(r\d[^"]*)"', lr) == ["r0", "r1 other", "r2"]
    html = differences.section(shown(record("b", 1), record(), record("c", 2, settings={"train.lr": 0.1})))
    lr = re.search(r"<th>train.lr</th>(.*?)</tr>", html)[1]
    assert re.findall(r'class="(r\d[^"]*)"', lr) == ["r0 other", "r1", "r2"]
    assert "all 1 are equal" in html and "are equal" not in differences.section(shown(record()))
    assert '<table class="facts same">' in html


def test_a_long_value_keeps_its_identity():
    one, other = short("x" * 500), short("x" * 499 + "y")
    assert len(one) < 100
    assert one != other


def pixels(svg, before=r'height="[\d.]+"'):
    """Images of maps; those of scales stand behind another attribute."""
    data = re.findall(before + r' href="data:image/png;base64,([^"]+)', svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(d))).convert("RGB")) for d in data]


def test_maps_of_one_layer_and_step_share_one_colour_scale():
    """Two runs whose maps have entries in common show those in one colour, whatever their other entries are."""
    product = np.array([[4.0, 3, 0, 0], [3, 4, 0, 0], [0, 0, 4, 3], [0, 0, 3, 4]])
    other = np.array([[4.0, 3, 0, 0], [3, 4, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]])
    maps = [{3: {"g": Map(LABELS, {"student": p})}} for p in (product, other)]
    html = map_cards.section(shown(record(maps=maps[0]), record("b", 1, maps=maps[1])))
    first, first_diff, second, second_diff = pixels(html)
    assert (first[:2] == second[:2]).all()
    assert (first[2, 3] != second[2, 3]).any()
    assert (first_diff == first_diff[0, 0]).all()
    assert (second_diff[2:, 2:] != first_diff[0, 0]).any()


def test_the_difference_is_of_row_normalised_maps():
    html = map_cards.section(shown(record(), record("b", 0, factor=7.0)))
    drawn = pixels(html)
    assert (drawn[0] == drawn[2]).all()


def test_the_ends_of_a_narrow_scale_are_told_apart():
    product = np.eye(4) + 0.1
    maps = [{3: {"g": Map(LABELS, {"student": p})}} for p in (product, product + 4e-4 * LABELS)]
    html = map_cards.section(shown(record(maps=maps[0]), record("b", 1, maps=maps[1])))
    ticks = [re.findall(r'class="tick">([^<]+)<', part) for part in html.split('<div class="scale ')[1:]]
    assert len(ticks) == 2
    assert all(len(found) == len(set(found)) > 1 for found in ticks)
    assert all(float(one[1:]) < 1e-3 for one in ticks[1] if one != "0")


BLOCKS = np.kron(np.eye(2), np.ones((2, 2)))  # its map: 0.707 within a class, 0 between


def test_a_difference_is_a_runs_map_minus_the_first_runs():
    maps = [{3: {"g": Map(LABELS, {"student": p, "t": np.ones((4, 4))})}} for p in (np.eye(4), BLOCKS)]
    html = map_cards.section(shown(record(maps=maps[0]), record("b", 1, maps=maps[1])))
    teacher, first, second = pixels(html)[1::2]
    assert (first == first[0, 0]).all() and first.min() > 240  # no difference to itself: white
    red = second[0, 1].astype(int)
    assert red[0] > red[2]  # 0.707 - 0: more than the first run
    blue = second[0, 0].astype(int)
    assert blue[2] > blue[0]  # 0.707 - 1: less
    assert "difference: red = more alike, blue = less" in html


def test_the_contrast_of_a_teacher_is_its_mean_within_a_class_above_that_between_classes():
    maps = {3: {"g": Map(LABELS, {"student": np.eye(4), "t": BLOCKS})}}
    teacher, student = map_cards.cards([(shown(record(maps=maps))[0], maps[3]["g"], 3)], False)
    assert teacher.numbers == ["contrast 0.707"]
    assert student.numbers[0] == "contrast 0.000"


def test_the_last_maps_are_shown_first_and_the_others_are_a_choice():
    html = map_cards.section(shown(record()))
    assert re.findall(r'<option value="(\d)"( selected)?>', html) == [("0", ""), ("3", " selected")]
    assert re.findall(r'data-step="(\d)"( hidden)?>', html) == [("0", " hidden"), ("3", "")]


def test_the_high_end_of_a_scale_is_on_top():
    html = map_cards.section(shown(record()))
    scale = pixels(html, 'preserveAspectRatio="none"')[0][:, 0].tolist()
    assert (scale[0], scale[-1]) == ([253, 231, 36], [68, 1, 84])  # viridis


def test_a_teacher_of_two_students_is_drawn_once_and_names_them():
    teacher = np.eye(4) + 0.1
    maps = {3: {"g": Map(LABELS, {"student": np.eye(4), "gaf-wrn": teacher})}}
    html = map_cards.section(shown(record(maps=maps), record("b", 1, maps=maps)))
    assert html.count("<figure") == 3
    assert "teacher gaf-wrn <span class='quiet'>of A, B</span>" in html
    distance = similarity.distance(np.eye(4), teacher)
    assert html.count(f"distance to gaf-wrn: {distance:.2g}") == 2


def test_runs_that_end_at_other_steps_are_compared_at_their_last():
    longer = record("b", 1, maps={0: record().maps[0], 9: record().maps[3]})
    assert map_cards.steps(shown(record(), longer)) == [map_cards.LAST, 0, 3, 9]
    html = map_cards.section(shown(record(), longer))
    assert "last of each" in html and "epoch 9" in html and "No map at this epoch: A" in html


def test_no_difference_is_drawn_to_another_run_than_the_one_that_the_switch_names():
    first, other = record(), record("b", 1, maps={1: record().maps[0], 3: record().maps[3]})
    html = map_cards.section(shown(first, other))
    at_1 = html.split('data-step="1"')[1].split("data-step=")[0]
    assert "difference to A" in html and "No map at this epoch: A" in at_1
    assert at_1.count("no map of A") == 1 and "difference: " not in at_1
    assert "difference: " in html.split('data-step="3"')[1]


def test_maps_of_other_windows_stand_apart():
    html = map_cards.section(shown(record(), record("b", 1, rows="other windows")))
    assert html.count('<div class="maps">') == 2


def test_the_difference_of_confusion_shares_is_the_one_computed_by_hand():
    html = sections.confusions(shown(record(), record("b", 1, confusion=np.array([[1, 3], [0, 4]]))))
    change = html.split("minus A")[2]
    assert "true sit, predicted sit: -50" in change and "true sit, predicted walk: 50" in change
    assert ">-50<" in change and ">+50<" in change


def test_people_of_other_data_sets_are_others_under_the_same_name():
    of = [record(n, k, run={"tags": {"data.dataset": d}}) for k, (n, d) in enumerate([("a", "x"), ("b", "y")])]
    html = sections.subjects(shown(*of))
    assert "x s1 (8)" in html and "y s1 (8)" in html
    origins = [record(n, k, run={"tags": {"data.origin": n}}) for k, n in enumerate(["simulated", "recorded"])]
    assert len(set(re.findall(r"<title>([^<]*s1 \(8\))</title>", sections.subjects(shown(*origins))))) == 2
    same = sections.subjects(shown(record(), record("b", 1, subjects={"s1": (0.5, 4)})))
    assert "s1 (8/4)" in same


def test_more_than_the_first_runs_share_is_red_and_less_is_blue_as_in_the_maps():
    html = sections.confusions(shown(record(), record("b", 1, confusion=np.array([[1, 3], [0, 4]]))))
    found = re.findall(r'fill="#(..)..(..)"><title>true sit, predicted (\w+): (-?50)<', html)
    more = {(what, change): int(red, 16) > int(blue, 16) for red, blue, what, change in found}
    assert more == {("sit", "-50"): False, ("walk", "50"): True}
    assert "red = more, blue = less" in html


def test_shares_of_half_a_per_cent_are_written_and_smaller_ones_are_coloured_alone():
    html = sections.confusions(shown(record(confusion=np.array([[98, 2], [1, 999]]))))
    first = html.split('class="diff"')[0]
    assert re.findall(r'class="cell[^"]*" text-anchor="middle">([^<]+)<', first) == ["98", "2", "100"]


def test_confusions_of_other_test_subjects_carry_a_warning():
    other = record("b", 1, run={"tags": {"test_subjects": "9"}})
    assert "tested on different subjects" in sections.confusions(shown(record(), other))
    assert "tested on different subjects" not in sections.confusions(shown(record(), record("b", 1)))


def test_a_subject_is_a_group_of_bars_in_the_order_of_the_names():
    subjects = {"s2": (1.0, 8), "s1": (0.5, 4)}
    html = sections.subjects(shown(record(subjects=subjects), record("b", 1, subjects={"s1": (0.25, 4)})))
    assert re.findall(r"<title>(s\d \(\d\))</title>", html) == ["s1 (4)", "s2 (8)"]
    half, quarter, whole = (float(w) for w in re.findall(r'<rect [^>]*width="([^"]+)"', html))
    assert (half, quarter) == pytest.approx((whole / 2, whole / 4), abs=0.1) and whole > 300


def test_results_stand_over_costs_in_their_units():
    page = document.page([record(), record("net b", 1), detector(2)], "t")
    assert "accuracy % against parameters" in page and "mAP50-95 against FLOPs per image" in page
    assert "A: net a\n50, parameters 1000<" in page and "B: net b\n60, parameters 2000<" in page
    assert "A: net a\n50, MACs per window 1e+06<" in page
    assert "C: coco yolov8n\n0.25, FLOPs per image 8.7e+09<" in page
    unfinished = record("net b", 1, run={"metrics": {"cost/parameters": 9.0}})
    html = sections.costs(shown(record(), unfinished), "headline/accuracy", "accuracy %", 100.0)
    assert "A: net a\n50, parameters 1000<" in html and "B: net b" not in html


def test_the_dot_of_a_curve_is_the_reported_epoch():
    assert 'r="4"' in sections.curves(shown(record())) and "Dot: the epoch" in sections.curves(shown(record()))
    assert "Dot:" not in sections.curves(shown(detector()))
    made = record()
    other = replace(made.run, metrics={**made.run.metrics, "headline/epoch": 7.0, "best/epoch": 2.0})
    assert 'r="4"' not in sections.curves(shown(replace(made, run=other)))


def test_the_loss_that_is_shown_first_is_one_that_runs_of_other_weights_share():
    html = sections.curves(
        shown(record(curves={k: [(1, 0.1), (2, 0.2)] for k in ("train/loss", "loss/cross_entropy")}))
    )
    assert re.findall(r'data-key="([\w/]+)"( hidden)?>', html) == [
        ("loss/cross_entropy", ""),
        ("train/loss", " hidden"),
    ]


def test_numbers_of_similarity_maps_are_folded_away_from_the_other_curves():
    html = sections.curves(shown(record(curves={k: [(1, 0.1), (2, 0.2)] for k in ("sim/g/contrast", "test/accuracy")})))
    assert re.findall(r'data-chart="([^"]+)"', html.split("<details>")[0]) == ["test/accuracy"]
    assert re.findall(r'data-chart="([^"]+)"', html.split("<details>")[1]) == ["sim/g/contrast"]


def test_recordings_come_first_and_keep_their_names_beside_detectors():
    har, detection = entries([detector(), record("net a"), record("net b", 1)])
    assert [(e.letter, e.title) for e in [*har, *detection]] == [("A", "net a"), ("B", "net b"), ("C", "coco yolov8n")]


def test_a_switch_hides_its_own_run():
    assert ".hide1 .r1{display:none!important}" in document.page([record(), record("b", 1)], "t")


def test_other_classes_are_not_subtracted():
    other = record("b", 1, classes=["lie", "run"])
    html = sections.confusions(shown(record(), other))
    assert "Other classes than A, not subtracted: B" in html
    assert "B: b minus A" not in html


def test_the_best_of_a_column_is_bold_and_the_test_chosen_one_is_quiet():
    html = sections.overview(shown(record(), record("b", 1)), plain_text.HAR, [])
    assert "<b>60.0</b>" in html and "<b>50.0</b>" not in html
    assert "<b>1,000</b>" in html
    assert '<th class="quiet">best on test %</th>' in html


def test_the_best_test_epoch_ranks_no_run():
    made = [replace(r, run=replace(r.run, metrics={"headline/accuracy": 0.5, "best/accuracy": best}))
            for r, best in ((record(), 0.5), (record("b", 0), 0.9))]  # fmt: skip
    html = sections.overview(shown(*made), plain_text.HAR, [])
    assert '<td class="quiet">90.0</td>' in html


def test_a_row_says_whom_the_run_learned_from_how_it_ended_and_the_table_by_which_rule_it_is_judged():
    taught = {"teacher.gaf-wrn.run_id": f"{0:032x}", "teacher.old.run_id": "e" * 32}
    runs = shown(record(), record("b", 1, run={"status": "KILLED", "tags": taught}))
    html = sections.overview(runs, plain_text.HAR, runs)
    assert re.search(r'>gaf-wrn <b style="color:#\w+">A</b>, old <code>eeeeeeee</code><', html)
    assert re.findall("<em>(.*?)</em>", html) == ["killed"]
    assert "Result: validation." in html
    last = shown(record(), record("b", 1, run={"tags": {"headline": "last epoch"}}))
    assert "Different rules: last epoch; validation." in sections.overview(last, plain_text.HAR, [])


def test_the_lowest_cost_is_the_best_and_equal_best_values_are_all_bold():
    costs = [(900.0, 2e6), (1000.0, 1e6), (1100.0, 1e6)]
    made = [record(f"net {k}", 0) for k in range(3)]
    made = [replace(r, run=replace(r.run, metrics={**r.run.metrics, "cost/parameters": p, "cost/macs": m}))
            for r, (p, m) in zip(made, costs, strict=True)]  # fmt: skip
    html = sections.overview(shown(*made), plain_text.HAR, [])
    assert re.findall(r"<b>([\d.,]+)</b>", html) == ["900", "1.0", "1.0"]


def test_the_csv_has_every_result_that_the_table_of_detectors_shows():
    metrics = {"best/mAP50-95": 0.3, "best/mAP50": 0.5, "coco/AP": 0.37, "cost/parameters": 9.0, "val/mAP50": 0.4}
    run = RunInfo("id", "name", "FINISHED", "0", 0, 1, {}, metrics, {"kind": "detect"})
    shown = dict(plain_text.DETECTION)
    assert shown["COCO AP"](run) == "0.3700"
    head, line = plain_text.csv_text([run], ["kind"]).splitlines()
    assert head == "run,name,kind,best/mAP50,best/mAP50-95,coco/AP,cost/parameters"
    assert line == "id,name,detect,0.5,0.3,0.37,9.0"


def test_columns_that_are_treated_apart_are_columns():
    heads = {head for head, _ in (*plain_text.HAR, *plain_text.DETECTION)}
    assert {*sections.CLOCKS, *sections.LOWER_IS_BETTER} <= heads


def test_a_wall_time_is_shown_without_a_best_and_without_a_front():
    records = [record("net a"), record("net b", 1)]
    slow = replace(records[1].run, metrics={**records[1].run.metrics, "cost/latency_ms": 6.86})
    html = document.page([records[0], replace(records[1], run=slow)], "t")
    assert "<td>0.50</td>" in html and "<td>6.86</td>" in html
    assert "its load included" in html and "latency" not in html


@pytest.mark.parametrize("number", [0, 25, 26, 30])
def test_letters_and_colours_never_run_out(number):
    entry = replace(shown(record())[0], number=number)
    assert entry.letter == {0: "A", 25: "Z", 26: "AA", 30: "AE"}[number]
    assert entry.colour.startswith("#")
