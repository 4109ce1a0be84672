import xml.etree.ElementTree as ElementTree

import pytest

from spkd.evidence.charts.text import apart, esc, shortened, text_px, without_shared_words


def test_escaped_text_comes_back_from_xml_as_text():
    hostile = "</text><script>alert(1)</script>&amp; \"'"
    element = ElementTree.fromstring(f'<a b="{esc(hostile)}">{esc(hostile)}</a>')
    assert (element.text, element.get("b")) == (hostile, hostile)
    assert len(element) == 0


def test_what_xml_may_not_hold_is_replaced():
    assert esc("a\x00b\x1b\ud800c\uffff") == "a\ufffdb\ufffd\ufffdc\ufffd"
    assert esc("tab\tline\n") == "tab\tline\n"


def test_a_long_name_keeps_its_beginning_and_its_end():
    assert shortened("short", 100) == "short"
    cut = shortened("activity number 12 of a long list (345)", 120)
    assert cut.startswith("activity") and cut.endswith("(345)") and "\u2026" in cut
    assert text_px(cut) <= 120


def test_wide_letters_count_as_wide():
    assert text_px("\uac77\uae30", 10) == 20
    assert text_px("ab", 10) == 12
    assert text_px("W%", 10) == 18


def test_names_lose_the_words_that_all_share():
    names = ["pamap2 s1 wrn scratch t0", "pamap2 s1 gaf:wrn teacher t0"]
    assert without_shared_words(names) == ["wrn scratch", "gaf:wrn teacher"]
    assert without_shared_words(["coco yolo t0", "coco yolo <- sp t0"]) == ["yolo t0", "yolo <- sp t0"]
    assert without_shared_words(["a b", "a b"]) == ["a b", "a b"]
    assert without_shared_words(["a b x c", "a b y c"]) == ["x c", "y c"]
    assert without_shared_words(["only one"]) == ["only one"]


def test_places_are_moved_apart_in_their_order_and_no_further_than_needed():
    assert apart([10.0, 10.0, 50.0], 12.0, -99, 99) == [4.0, 16.0, 50.0]
    assert apart([30.0, 29.0, 28.0], 10.0, -99, 99) == [39.0, 29.0, 19.0]
    assert apart([0.0, 100.0], 12.0, -99, 100) == [0.0, 100.0]
    assert apart([10.0, 12.0, 25.0], 12.0, -99, 99) == pytest.approx([47 / 3 - 12, 47 / 3, 47 / 3 + 12])
    assert apart([], 12.0, 0, 1) == []


def test_places_stay_between_their_bounds_and_move_together_where_there_is_no_room():
    assert apart([10.0, 10.0, 50.0], 12.0, 5, 60) == [5.0, 17.0, 50.0]
    assert apart([50.0, 58.0, 59.0], 10.0, 0, 60) == [40.0, 50.0, 60.0]
    assert apart([1.0, 2.0, 3.0], 10.0, 0, 12) == [0.0, 6.0, 12.0]
    assert apart([99.0], 10.0, 0, 12) == [12.0]
