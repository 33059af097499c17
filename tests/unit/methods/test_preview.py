from __future__ import annotations

from sortal.methods.preview import FeaturePreview, FeatureRow, TokenPreview, TokenRow


def test_a_row_of_tokens_says_what_is_read_where():
    row = TokenRow(3, [5, 6], "a b", [1], "token 1 is read")
    assert row.lines() == ["2 tokens, token 1 is read", "  decoded  'a b'", "  ids      [5, 6]"]
    assert row.to_json() == {"ids": [5, 6], "decoded": "a b", "attention_mask": [1, 1], "read_at": [1]}


def test_token_totals_name_the_truncation():
    preview = TokenPreview([], 12_345, 2, 64, "abc", 64)
    assert preview.summary("tail") == "12,345 tokens per epoch, 2 truncated to 64 tokens (tail)"
    assert preview.to_json() == {"tokens_per_epoch": 12_345, "truncated": 2, "template_hash": "abc"}


def test_a_row_of_features_counts_all_and_shows_the_largest():
    row = FeatureRow(0, {"words": {"b": 0.75, "a": 0.5, "c": 0.25}, "characters": {}}, shown=2)
    assert row.lines()[:2] == ["features: 3 words, 0 characters", "  words       'b' 0.750, 'a' 0.500, …"]
    assert row.to_json() == {"features": {"words": {"b": 0.75, "a": 0.5, "c": 0.25}, "characters": {}}}


def test_a_row_without_features_says_so():
    assert FeatureRow(0, {}).lines() == ["features: none"]
    assert FeaturePreview([], "nothing", {"features": 0}).to_json() == {"features": 0}
