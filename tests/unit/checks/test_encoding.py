from __future__ import annotations

from checked import context, found, notes, rows


def test_mojibake_shows_what_is_meant_and_is_repaired_in_train_only():
    damaged = [("fine", "a"), ("the cafÃ© is open", "a"), ("café", "a")]
    findings = found("encoding", context(damaged, test=damaged))
    assert [(f.part, f.severity, rows(f)) for f in findings] == [
        ("train", "warning", [2]),
        ("test", "warning", [2]),
    ]
    assert notes(findings[0]) == ["'Ã©' should be 'é'"]
    (remedy,) = findings[0].remedies
    assert remedy.repair("the cafÃ© is open") == "the café is open"
    assert findings[1].remedies == ()


def test_lost_characters_are_told_apart_and_cannot_be_repaired():
    (finding,) = found("encoding", context([("caf\ufffd au lait", "a"), ("fine", "a")]))
    assert (rows(finding), notes(finding)) == ([1], ["at 'caf\ufffd au lait'"])
    assert finding.remedies == ()


def test_a_replacement_character_that_was_damaged_itself_is_both():
    assert [rows(f) for f in found("encoding", context([("cafï¿½", "a")]))] == [[1], [1]]


def test_text_in_any_script_is_fine():
    texts = ["plain", "café", "привет", "日本語", "😀", "naïve – “quoted”"]
    assert found("encoding", context([(text, "a") for text in texts])) == []
