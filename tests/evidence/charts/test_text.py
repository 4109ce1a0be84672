import xml.etree.ElementTree as ElementTree

from spkd.evidence.charts.text import esc, shortened, text_px, without_shared_words


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


def test_names_lose_the_words_that_all_share():
    names = ["pamap2 s1 wrn scratch t0", "pamap2 s1 gaf:wrn teacher t0"]
    assert without_shared_words(names) == ["wrn scratch", "gaf:wrn teacher"]
    assert without_shared_words(["coco yolo t0", "coco yolo <- sp t0"]) == ["yolo t0", "yolo <- sp t0"]
    assert without_shared_words(["a b", "a b"]) == ["a b", "a b"]
    assert without_shared_words(["only one"]) == ["only one"]
