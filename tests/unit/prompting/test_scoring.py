from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_files import byte_tokenizer
from sortal.backbone import loading
from sortal.backbone.encoding import encode_after
from sortal.backbone.language_model import LanguageModel, enable_trees
from sortal.backbone.trees import TreeRow
from sortal.prompting.scoring import SharedPrompt, answer_logprobs
from sortal.prompting.trie import Trie
from tiny_runs import FAMILIES, random_rows

END = 0
PROMPT = np.array([5, 17, 200, 33, 90, 41, 8, 77, 12])
TRUNKS = [np.array(row) for row in random_rows(12, 1, 40, 3, 25)]
# Shared beginnings, one label the beginning of another, non-ASCII, spaces, and one of a single character.
LABELS = (
    "card",
    "card arrival",
    "card  arrival",
    "cards",
    "größer",
    "größe",
    "文字",
    "a",
    "\U0001f600 a",
    " x",
)
answer_sets = st.lists(
    st.lists(st.integers(2, 5), min_size=1, max_size=5).map(tuple), min_size=1, max_size=10, unique=True
)


def _answers(labels=LABELS):
    return [(*ids, END) for ids in encode_after(byte_tokenizer(), "", [f" {label}" for label in labels])]


def _base(folder):
    config = loading.load_config(str(folder))
    base = loading.load_language_model(str(folder), config, dtype=torch.float32, device=torch.device("cpu"))
    # Random logits are nearly equal; larger ones prefer a few tokens, as a tuned model's do.
    with torch.no_grad():
        base.get_output_embeddings().weight.mul_(8.0 if config.model_type == "llama" else 1.0)
    return base


@pytest.fixture(scope="module")
def models(tiny_models):
    """By family: a model that shares, and the same one as transformers runs it."""
    found = {}
    for family, folder in tiny_models.items():
        base = _base(folder)
        assert enable_trees(base)
        found[family] = LanguageModel(base, shares=True), LanguageModel(_base(folder), shares=False)
    return found


def _forward(model, prompt, trunk, answer):
    """Log-probability of every token of ``answer`` from one plain forward of one sequence."""
    ids = np.concatenate([prompt, trunk, answer])
    with torch.inference_mode():
        logits = model.inner(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
    start = len(ids) - len(answer)
    table = logits[start - 1 : -1].double().log_softmax(-1)
    return table[torch.arange(len(answer)), torch.tensor(answer)].numpy()


def _exact(model, trunk, answers, prompt=PROMPT):
    return np.array([_forward(model, prompt, trunk, answer).sum() for answer in answers])


def _scores(model, trunks, tries, tolerance=0.0, prompt=PROMPT, budget=None):
    with torch.inference_mode():
        shared = SharedPrompt.compute(model, prompt)
        return answer_logprobs(shared, trunks, tries, tolerance, budget=budget)


# exact


@pytest.mark.parametrize("sharing", [True, False], ids=["shared", "alone"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_answers_probability_is_the_sum_of_one_forward_per_label(models, family, sharing):
    """S13."""
    model, plain = models[family]
    answers = _answers()
    trie = Trie.build(answers)
    found = _scores(model if sharing else plain, TRUNKS, [trie] * len(TRUNKS))
    for trunk, row in zip(TRUNKS, found, strict=True):
        assert row.dtype == np.float64
        np.testing.assert_allclose(row, _exact(plain, trunk, answers), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("sharing", [True, False], ids=["shared", "alone"])
def test_every_text_may_have_answers_of_its_own(models, sharing):
    model, plain = models["llama"]
    sets = [_answers(LABELS[i : i + 3 + i]) for i in range(len(TRUNKS))]
    found = _scores(model if sharing else plain, TRUNKS, [Trie.build(answers) for answers in sets])
    for trunk, answers, row in zip(TRUNKS, sets, found, strict=True):
        np.testing.assert_allclose(row, _exact(plain, trunk, answers), rtol=1e-6, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(answers=answer_sets, prompt=st.integers(0, 9))
def test_any_set_of_answers_below_any_prompt(models, answers, prompt):
    model, plain = models["mistral"]
    answers = [(*answer, END) for answer in answers]
    (found,) = _scores(model, TRUNKS[:1], [Trie.build(answers)], prompt=PROMPT[:prompt])
    np.testing.assert_allclose(
        found, _exact(plain, TRUNKS[0], answers, PROMPT[:prompt]), rtol=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("tolerance", [0.0, 1e-2])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_a_text_has_the_same_scores_in_any_company_and_order(models, family, tolerance):
    model, _ = models[family]
    sets = [_answers(LABELS[i:]) for i in range(len(TRUNKS))]
    tries = [Trie.build(answers) for answers in sets]
    together = _scores(model, TRUNKS, tries, tolerance)
    order = [3, 0, 4, 2, 1]
    shuffled = _scores(model, [TRUNKS[i] for i in order], [tries[i] for i in order], tolerance)
    for i, row in enumerate(together):
        (alone,) = _scores(model, [TRUNKS[i]], [tries[i]], tolerance)
        np.testing.assert_allclose(alone, row, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(shuffled[order.index(i)], row, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("tolerance", [1e-9, 1e-2, np.inf])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_trees_that_overlap_have_the_scores_of_trees_that_begin_together(models, family, tolerance):
    model, _ = models[family]
    trunks = [TRUNKS[i % len(TRUNKS)] for i in range(12)]
    tries = [Trie.build(_answers(LABELS[i % 4 :])) for i in range(12)]
    together = _scores(model, trunks, tries, tolerance)
    for budget in (1, 9, 25, 1000):
        sizes, states = [], LanguageModel.states

        def counted(self, rows, *more, sizes=sizes, states=states, **named):
            sizes.append(sum(len(row.ids) for row in rows))
            return states(self, rows, *more, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LanguageModel, "states", counted)
            overlapping = _scores(model, trunks, tries, tolerance, budget=budget)
        for a, b in zip(overlapping, together, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)
        if budget == 25:
            largest_tree = max(len(trie.inner) for trie in tries)
            assert max(sizes) <= budget + len(trunks) * largest_tree
            assert sum(sizes[:-1]) / len(sizes[:-1]) > 8, "forwards are fuller than single trees"


def test_memory_keeps_the_tokens_that_are_asked_for(models):
    model, _ = models["llama"]
    with torch.inference_mode():
        memory = model.remember(PROMPT).with_prompt_only(grow=True)
        model.states([TreeRow(TRUNKS[0]), TreeRow(TRUNKS[1])], PROMPT[:0], memory)
        before = {layer: (k.clone(), v.clone()) for layer, (k, v) in memory.rows.items()}
        positions, slots = memory.positions.clone(), np.array([len(TRUNKS[0]), 0, 1])
        memory.keep(slots)
        assert memory.positions.tolist() == positions[slots].tolist()
        for layer, (k, v) in memory.rows.items():
            assert torch.equal(k, before[layer][0][slots])
            assert torch.equal(v, before[layer][1][slots])
        memory.keep(np.zeros(0, np.int64))
    assert memory.tokens == 0
    assert not memory.rows


@pytest.mark.parametrize("tolerance", [0.0, 1e-2])
def test_the_order_of_the_answers_only_reorders_their_scores(models, tolerance):
    model, _ = models["llama"]
    answers, order = _answers(), np.random.default_rng(0).permutation(len(LABELS))
    (found,) = _scores(model, TRUNKS[:1], [Trie.build(answers)], tolerance)
    (shuffled,) = _scores(model, TRUNKS[:1], [Trie.build([answers[i] for i in order])], tolerance)
    np.testing.assert_allclose(shuffled, found[order], rtol=1e-6, atol=1e-5)


def test_a_shared_prompt_serves_any_number_of_calls(models):
    """Grown trees leave nothing behind in the memory they hang below."""
    model, _ = models["mistral"]
    trie = Trie.build(_answers())
    with torch.inference_mode():
        shared = SharedPrompt.compute(model, PROMPT)
        first = answer_logprobs(shared, TRUNKS, [trie] * 5, 1e-2)
        again = answer_logprobs(shared, TRUNKS, [trie] * 5, 1e-2)
    assert shared.memory.tokens == 0
    assert len(shared.ids) == 0
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_sharing_the_prompt_stands_before_every_text(models):
    shared = SharedPrompt.compute(models["llama"][1], PROMPT)
    assert shared.memory is None
    assert shared.ids.tolist() == PROMPT.tolist()


# grown


def _normalised(logprobs):
    p = np.exp(logprobs - logprobs.max())
    return p / p.sum()


def _prefixes(model, trunk, answers):
    """Log-probability of every beginning of an answer, from plain forwards."""
    found = {(): 0.0}
    for answer in answers:
        for n, total in enumerate(np.cumsum(_forward(model, PROMPT, trunk, answer)), start=1):
            found[answer[:n]] = total
    return found


@pytest.mark.parametrize("tolerance", [1e-12, 1e-6, 1e-3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_grown_tree_is_within_its_tolerance_of_the_whole_one(models, family, tolerance):
    model, plain = models[family]
    answers = _answers()
    found = _scores(model, TRUNKS, [Trie.build(answers)] * len(TRUNKS), tolerance)
    for trunk, row in zip(TRUNKS, found, strict=True):
        exact = _exact(plain, trunk, answers)
        assert np.isfinite(row).all()
        assert np.abs(_normalised(row) - _normalised(exact)).max() <= 2 * tolerance + 1e-5


@settings(max_examples=20, deadline=None)
@given(answers=answer_sets, tolerance=st.sampled_from([1e-6, 1e-2, 0.3, 2.0]), which=st.integers(0, 4))
def test_answers_left_out_share_their_branch_and_no_probability_is_lost(models, answers, tolerance, which):
    """Every score is exact, or an equal part of what stands at an unopened beginning that the answer shares."""
    model, plain = models["llama"]
    answers, trunk = [(*answer, END) for answer in answers], TRUNKS[which]
    (found,) = _scores(model, [trunk], [Trie.build(answers)], tolerance)
    prefixes = _prefixes(plain, trunk, answers)
    assert np.isfinite(found).all()
    assert found.max() <= 1e-5
    total, exact = np.exp(found).sum(), np.exp([prefixes[answer] for answer in answers]).sum()
    assert exact * (1 - 1e-4) <= total <= 1 + 1e-4
    for answer, score in zip(answers, found, strict=True):
        shares = []
        for n in range(1, len(answer) + 1):
            below = [i for i, other in enumerate(answers) if other[:n] == answer[:n]]
            equal = np.allclose(found[below], score, rtol=1e-6, atol=1e-5)
            shares.append(equal and abs(prefixes[answer[:n]] - np.log(len(below)) - score) < 1e-4)
        assert any(shares)


def test_a_tolerance_spares_nodes_and_one_of_almost_nothing_spares_none(models, monkeypatch):
    model, _ = models["llama"]
    answers = _answers()
    trie, counts = Trie.build(answers), {}
    real = LanguageModel.states
    for tolerance in (1e-300, 1e-3, 0.2):
        tokens = []
        monkeypatch.setattr(
            LanguageModel,
            "states",
            lambda self, rows, *rest, tokens=tokens, **named: (
                tokens.append(sum(len(row.ids) for row in rows)) or real(self, rows, *rest, **named)
            ),
        )
        _scores(model, TRUNKS[:1], [trie], tolerance)
        counts[tolerance] = sum(tokens) - len(TRUNKS[0])
    assert counts[1e-300] == len(trie.inner) - 1
    assert counts[0.2] <= counts[1e-3] < counts[1e-300]


@pytest.mark.parametrize("tolerance", [0.0, 1e-3, np.inf])
def test_every_text_is_told_of_once_in_order(models, tolerance):
    model, _ = models["llama"]
    told = []
    with torch.inference_mode():
        shared = SharedPrompt.compute(model, PROMPT)
        tries = [Trie.build(_answers())] * len(TRUNKS)
        answer_logprobs(shared, TRUNKS, tries, tolerance, budget=20, began=told.append)
    assert [i for part in told for i in part] == list(range(len(TRUNKS)))
    assert len(told) > 1 or tolerance == 0


@settings(max_examples=30, deadline=None)
@given(answers=answer_sets)
def test_what_only_decides_finds_the_likeliest_answer(models, answers):
    model, plain = models["llama"]
    tries = [Trie.build([(*answer, END) for answer in answers])] * len(TRUNKS)
    exact, found = _scores(model, TRUNKS, tries), _scores(model, TRUNKS, tries, np.inf)
    firsts = sorted({answer[:1] for answer in answers})
    for trunk, whole, row in zip(TRUNKS, exact, found, strict=True):
        best = int(np.argmax(whole))
        assert int(np.argmax(row)) == best
        within = np.logaddexp.reduce(_exact(plain, trunk, firsts))
        assert abs(row[best] - (whole[best] - within)) < 1e-4, "exact among answers, whatever is outside them"


def test_what_only_decides_survives_logits_of_any_size(models, monkeypatch):
    model, _ = models["llama"]
    real, few = LanguageModel.logits, LanguageModel.logits_of
    monkeypatch.setattr(LanguageModel, "logits", lambda self, states: real(self, states) * 1e4)
    monkeypatch.setattr(LanguageModel, "logits_of", lambda self, *given: few(self, *given) * 1e4)
    tries = [Trie.build(_answers())] * len(TRUNKS)
    exact, found = _scores(model, TRUNKS, tries), _scores(model, TRUNKS, tries, np.inf)
    assert [row.argmax() for row in found] == [row.argmax() for row in exact]


def test_deciding_opens_no_more_than_a_tolerance_and_less_than_everything(models, monkeypatch):
    model, _ = models["llama"]
    trie, tokens = Trie.build(_answers()), []
    real = LanguageModel.states
    monkeypatch.setattr(
        LanguageModel,
        "states",
        lambda self, rows, *rest, **named: (
            tokens.append(sum(len(row.ids) for row in rows)) or real(self, rows, *rest, **named)
        ),
    )
    counts = {}
    for tolerance in (1e-300, 1e-3, np.inf):
        tokens.clear()
        _scores(model, TRUNKS, [trie] * len(TRUNKS), tolerance)
        counts[tolerance] = sum(tokens)
    assert counts[np.inf] <= counts[1e-3]
    assert counts[np.inf] < counts[1e-300]


def test_a_branch_that_does_not_fork_is_opened_to_its_end_at_once(models, monkeypatch):
    model, plain = models["gpt2"]
    calls = []
    real = LanguageModel.states
    monkeypatch.setattr(
        LanguageModel,
        "states",
        lambda self, *args, **named: calls.append(len(args[0])) or real(self, *args, **named),
    )
    answer = (*range(40, 60), END)
    (found,) = _scores(model, TRUNKS[:1], [Trie.build([answer])], 1e-3)
    assert calls == [1, 1], "the text, then the whole answer"
    np.testing.assert_allclose(found, _exact(plain, TRUNKS[0], [answer]), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_answers_that_are_almost_impossible_stay_finite(models, monkeypatch, tolerance):
    """Probabilities that underflow in fp64 still have logarithms, and a tree without any likely answer ends."""
    model, _ = models["llama"]
    real = LanguageModel.logits
    monkeypatch.setattr(LanguageModel, "logits", lambda self, states: real(self, states) * 300)
    answers = _answers()
    for row in _scores(model, TRUNKS, [Trie.build(answers)] * len(TRUNKS), tolerance):
        assert np.isfinite(row).all()
        assert row.min() < -800


@pytest.mark.parametrize("tolerance", [1e-6, 1e-3])
def test_the_tolerance_can_be_measured_against_a_few_of_the_answers(models, tolerance):
    """However likely the others are: what is asked for is as exact among itself as if it stood alone."""
    model, plain = models["llama"]
    answers, wanted = _answers(), []
    exact = [_exact(plain, trunk, answers) for trunk in TRUNKS]
    for row in exact:
        wanted.append(row < np.sort(row)[5])  # the five least likely
    with torch.inference_mode():
        shared = SharedPrompt.compute(model, PROMPT)
        tries = [Trie.build(answers)] * len(TRUNKS)
        found = answer_logprobs(shared, TRUNKS, tries, tolerance, wanted)
    for row, expected, few in zip(found, exact, wanted, strict=True):
        assert np.isfinite(row).all()
        assert np.abs(_normalised(row[few]) - _normalised(expected[few])).max() <= 2 * tolerance + 1e-5


def test_branches_without_a_wanted_answer_are_not_opened(models, monkeypatch):
    model, _ = models["llama"]
    answers, tokens = _answers(), []
    real = LanguageModel.states
    monkeypatch.setattr(
        LanguageModel,
        "states",
        lambda self, rows, *rest, **named: (
            tokens.extend(len(r.ids) for r in rows) or real(self, rows, *rest, **named)
        ),
    )
    for i, answer in enumerate(answers):
        tokens.clear()
        with torch.inference_mode():
            shared = SharedPrompt(model, PROMPT[:0], model.remember(PROMPT))
            wanted = np.arange(len(answers)) == i
            answer_logprobs(shared, TRUNKS[:1], [Trie.build(answers)], 1e-12, [wanted])
        assert sum(tokens) == len(TRUNKS[0]) + len(answer) - 1
