from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_files import byte_tokenizer
from sortal.backbone import loading
from sortal.backbone.language_model import LanguageModel, enable_trees
from sortal.prompting.listing import STOP_BIASES, ListTries, Step, decode, logits
from sortal.prompting.prompt import Prompt
from sortal.prompting.scoring import SharedPrompt
from sortal.prompting.template import make_prompt_text
from sortal.prompting.verbalizer import Verbalizer

LABELS = ("card", "card arrival", "größe", "a", "cards", "文")
GOLD = [(0, 2), (), (1, 3, 5), (4,), (0, 1, 2, 3, 4, 5)]
TEXTS = ["fine and nice", "", "x <|end|> y", "a rather long text that goes on", "odd"]


def _prompt(labels=LABELS):
    tokenizer = byte_tokenizer()
    # After this cue a first label has no space in front, and a later one has.
    text = make_prompt_text("{labels}\nText: {text}\nLabels:\n", "list", tokenizer)
    return Prompt(tokenizer, text, "list", Verbalizer(labels, labels))


def _base(folder):
    config = loading.load_config(str(folder))
    return loading.load_language_model(str(folder), config, dtype=torch.float32, device=torch.device("cpu"))


def _fitted(folder, prompt, responses):
    """Two copies of a model that has nearly learnt to answer `TEXTS`: one that shares, and one as transformers runs it."""
    questions = [[*prompt.shared().tolist(), *ids.tolist()] for ids in prompt.encode(TEXTS)]
    width = max(len(q) + len(r) for q, r in zip(questions, responses, strict=True))
    ids = torch.zeros(len(TEXTS), width, dtype=torch.long)
    targets = torch.full(ids.shape, -100)
    for i, (question, response) in enumerate(zip(questions, responses, strict=True)):
        end = len(question) + len(response)
        ids[i, :end] = torch.tensor([*question, *response])
        targets[i, len(question) : end] = torch.tensor(response)
    plain, sharing = _base(folder), _base(folder)
    optimizer = torch.optim.Adam(plain.requires_grad_(True).parameters(), lr=1e-2)
    for _ in range(40):
        guesses = plain(input_ids=ids, use_cache=False).logits[:, :-1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(guesses.flatten(0, 1), targets[:, 1:].flatten()).backward()
        optimizer.step()
    sharing.load_state_dict(plain.requires_grad_(False).state_dict())
    assert enable_trees(sharing)
    return LanguageModel(sharing, shares=True), LanguageModel(plain, shares=False)


@pytest.fixture(scope="module")
def models(tiny_models):
    """A model that knows the labels of `TEXTS`, and the same one as transformers runs it."""
    prompt = _prompt()
    return _fitted(tiny_models["llama"], prompt, [prompt.response(labels) for labels in GOLD])


@pytest.fixture(scope="module")
def disorderly(tiny_models):
    """A model that names the last label of `GOLD` first, so that what it would say next is not allowed."""
    prompt = _prompt()
    responses = []
    for labels in GOLD:
        ids = []
        for number, label in enumerate(reversed(labels)):
            ids += [*prompt.separator, *prompt.later_answers[label]] if number else prompt.answers[label]
        responses.append([*ids, prompt.terminator])
    return _fitted(tiny_models["llama"], prompt, responses)


def _decode(model, prompt, texts, tries=None, max_labels=3, stop_bias=0.0, tolerance=0.0):
    trunks = [ids.astype(np.int64) for ids in prompt.encode(texts)]
    if tries is None:
        tries = [ListTries.build(prompt, range(len(prompt.verbalizer.answers)))] * len(texts)
    with torch.inference_mode():
        shared = SharedPrompt.compute(model, prompt.shared())
        return decode(shared, prompt, trunks, tries, max_labels, stop_bias, tolerance)


def _logprob(model, context, answer):
    """log p(answer | context) from one plain forward."""
    ids = torch.tensor([*context, *answer])[None]
    with torch.inference_mode():
        table = model.inner(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
    at = torch.arange(len(context) - 1, ids.shape[1] - 1)
    return float(table[at, torch.tensor(answer)].sum())


def _reference(model, prompt, trunk, labels, max_labels, stop_bias):
    """``(log p(stop), {label: log p(next)})`` of every greedy step, written down as the automaton is described."""
    end, separator = prompt.terminator, prompt.separator[0]
    context, steps, allowed, stop = [*prompt.shared().tolist(), *trunk.tolist()], [], list(labels), None
    while allowed and len(steps) < max_labels:
        wordings = prompt.later_answers if steps else prompt.answers
        ended = {i: _logprob(model, context, [*wordings[i], end]) for i in allowed}
        goes_on = {i: _logprob(model, context, [*wordings[i], separator]) for i in allowed}
        either = {i: np.logaddexp(ended[i], goes_on[i]) for i in allowed}
        of_labels = np.logaddexp.reduce(list(either.values()))
        if stop is None:
            nothing = _logprob(model, context, [end])
            whole = np.logaddexp(nothing, of_labels)
            stop, following = nothing - whole, {i: value - whole for i, value in either.items()}
        else:
            following = {i: np.log1p(-np.exp(stop)) + value - of_labels for i, value in either.items()}
        steps.append((stop, following))
        best = max(following, key=following.get)
        if stop - following[best] >= stop_bias:
            break
        stop = ended[best] - either[best]
        context += [*wordings[best], *prompt.separator]
        allowed = [i for i in allowed if i > best]
    return steps


def _compare(found, expected, labels, atol=2e-5):
    assert len(found) == len(expected)
    for step, (stop, following) in zip(found, expected, strict=True):
        assert step.stop == pytest.approx(stop, abs=atol)
        wanted = np.array([following.get(i, -np.inf) for i in labels])
        np.testing.assert_allclose(step.following, wanted, rtol=1e-6, atol=atol)


# decoding


@pytest.mark.parametrize("sharing", [True, False], ids=["shared", "alone"])
@pytest.mark.parametrize("stop_bias", [0.0, 4.0, np.inf])
def test_decoding_is_greedy_under_the_automaton(models, sharing, stop_bias):
    prompt, everything = _prompt(), range(len(LABELS))
    found = _decode(models[0 if sharing else 1], prompt, TEXTS, stop_bias=stop_bias)
    assert len(found) == len(TEXTS)
    for ids, steps in zip(prompt.encode(TEXTS), found, strict=True):
        _compare(steps, _reference(models[1], prompt, ids, everything, 3, stop_bias), everything)


@pytest.mark.parametrize("tolerance", [0.0, 1e-5])
def test_a_model_that_knows_the_labels_lists_them_and_ends(models, tolerance):
    """The longest answer, the empty one, and every length between."""
    for labels, steps in zip(
        GOLD, _decode(models[0], _prompt(), TEXTS, None, 6, 0.0, tolerance), strict=True
    ):
        assert tuple(np.flatnonzero(logits(steps, 0.0) > 0).tolist()) == labels


def test_every_text_may_have_labels_of_its_own(models):
    prompt = _prompt()
    sets = [[0, 2, 5], [1], [0, 1, 2, 3, 4, 5], [4, 5], [2, 3, 4]]
    tries = [ListTries.build(prompt, labels) for labels in sets]
    found = _decode(models[0], prompt, TEXTS, tries, stop_bias=np.inf)
    for ids, labels, steps in zip(prompt.encode(TEXTS), sets, found, strict=True):
        _compare(steps, _reference(models[1], prompt, ids, labels, 3, np.inf), labels)


@pytest.mark.parametrize("tolerance", [1e-9, 1e-5, 1e-3])
@pytest.mark.parametrize("kind", ["models", "disorderly"])
def test_a_tolerance_moves_no_probability_by_more_than_itself(request, kind, tolerance):
    """Measured against what is allowed: labels that may no longer follow must not use the tolerance up."""
    model, _ = request.getfixturevalue(kind)
    exact = _decode(model, _prompt(), TEXTS, None, 6, 4.0)
    for found, wanted in zip(_decode(model, _prompt(), TEXTS, None, 6, 4.0, tolerance), exact, strict=True):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert np.abs(np.exp(a.following) - np.exp(b.following)).max() <= 2 * tolerance + 1e-5
            assert abs(np.exp(a.stop) - np.exp(b.stop)) <= 2 * tolerance + 1e-5


def test_a_text_is_decoded_the_same_in_any_company(models):
    prompt = _prompt()
    together = _decode(models[0], prompt, TEXTS, stop_bias=2.0)
    for text, steps in zip(TEXTS, together, strict=True):
        (alone,) = _decode(models[0], prompt, [text], stop_bias=2.0)
        _compare(alone, [(s.stop, dict(enumerate(s.following))) for s in steps], range(len(LABELS)))


@pytest.mark.parametrize("stop_bias", [0.0, np.inf])
def test_every_step_is_a_distribution_over_the_end_and_later_labels(models, stop_bias):
    for steps in _decode(models[0], _prompt(), TEXTS, max_labels=6, stop_bias=stop_bias):
        taken = -1
        for number, step in enumerate(steps):
            assert np.exp(step.stop) + np.exp(step.following).sum() == pytest.approx(1.0)
            assert np.isneginf(step.following[: taken + 1]).all(), f"step {number} goes back"
            assert np.isfinite(step.following[taken + 1 :]).all()
            taken = int(step.following.argmax())


@pytest.mark.parametrize("max_labels", [1, 2, 4, 10])
def test_a_list_is_never_longer_than_allowed_and_ends_at_the_last_label(models, max_labels):
    """Where nothing ever ends it, a list goes on until its length or its labels are used up."""
    for steps in _decode(models[0], _prompt(), TEXTS, max_labels=max_labels, stop_bias=np.inf):
        taken = [int(step.following.argmax()) for step in steps]
        assert taken == sorted(set(taken))
        assert len(steps) <= max_labels
        assert len(steps) == max_labels or taken[-1] == len(LABELS) - 1


def _lean(monkeypatch, token, more):
    """Let the model say ``token`` more often, everywhere."""
    real = LanguageModel.logits
    bias = torch.zeros(258).index_fill(0, torch.tensor(token), more)
    monkeypatch.setattr(LanguageModel, "logits", lambda self, states: real(self, states) + bias)


def test_a_list_may_be_empty(models, monkeypatch):
    prompt = _prompt()
    _lean(monkeypatch, prompt.terminator, 60.0)
    for steps in _decode(models[0], prompt, TEXTS):
        assert len(steps) == 1
        assert (logits(steps, 0.0) < 0).all()


@pytest.mark.parametrize("what", ["terminator", "separator"])
def test_a_certain_end_or_a_certain_continuation_has_finite_logarithms(models, monkeypatch, what):
    prompt = _prompt()
    _lean(monkeypatch, prompt.terminator if what == "terminator" else prompt.separator[0], 300.0)
    for steps in _decode(models[0], prompt, TEXTS, max_labels=6, stop_bias=np.inf):
        assert len(steps) > 1
        for number, step in enumerate(steps):
            assert np.isfinite(step.stop)
            assert np.isfinite(step.following).any()
            if what == "terminator":
                assert step.stop > -1e-6
            elif number:
                assert step.stop < -100
        assert np.isfinite(logits(steps, np.inf)).all()


def test_no_texts_give_no_decodings(models):
    prompt = _prompt()
    with torch.inference_mode():
        shared = SharedPrompt.compute(models[0], prompt.shared())
        assert decode(shared, prompt, [], [], 3, 0.0, 0.0) == []


# the stop bias


@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_a_larger_bias_only_adds_steps_and_one_decoding_serves_all(models, tolerance):
    prompt = _prompt()
    runs = [_decode(models[0], prompt, TEXTS, None, 6, bias, tolerance) for bias in STOP_BIASES]
    assert len({len(steps) for steps in runs[-1]} | {len(steps) for steps in runs[0]}) > 1
    for fewer, more in pairwise(runs):
        for short, long in zip(fewer, more, strict=True):
            assert len(short) <= len(long)
            _compare(long[: len(short)], [(s.stop, dict(enumerate(s.following))) for s in short], range(6))
    for bias, found in zip(STOP_BIASES, runs, strict=True):
        for steps, widest in zip(found, runs[-1], strict=True):
            np.testing.assert_allclose(logits(widest, bias), logits(steps, bias), rtol=1e-4, atol=1e-4)


@st.composite
def decodings(draw):
    """Steps of any sharpness, later ones without the labels that were passed."""
    n = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    scale = draw(st.sampled_from([0.1, 5.0, 80.0, 2000.0]))
    steps, first = [], 0
    while first < n and len(steps) < 4:
        raw = rng.normal(size=n + 1) * scale
        raw[1 : 1 + first] = -np.inf
        raw -= np.logaddexp.reduce(raw)
        steps.append(Step(float(raw[0]), raw[1:]))
        first += 1
    return steps


@settings(max_examples=100, deadline=None)
@given(decodings())
def test_scores_only_grow_with_the_bias_and_are_finite(steps):
    previous = None
    for bias in (-1.0, *STOP_BIASES, 50.0, np.inf):
        found = logits(steps, bias)
        assert found.shape == steps[0].following.shape
        assert np.isfinite(found).all()
        assert previous is None or (found >= previous).all()
        previous = found


@settings(max_examples=100, deadline=None)
@given(decodings(), st.sampled_from([0.0, 1.0, np.inf]))
def test_a_score_is_the_logit_of_the_labels_best_step_before_the_end(steps, bias):
    reached = [steps[0]]
    for before, step in pairwise(steps):
        if before.stop - before.following.max() >= bias:
            break
        reached.append(step)
    p = np.exp(np.max([step.following for step in reached], axis=0))
    found = logits(steps, bias)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), p, atol=2e-9)
    order = np.argsort(p)
    assert (np.diff(found[order]) >= 0).all()


# tries


def test_every_label_may_end_or_go_on_and_only_the_first_list_may_be_empty():
    prompt = _prompt()
    tries = ListTries.build(prompt, [0, 1, 4])
    end, separator = prompt.terminator, prompt.separator[0]
    for trie, wordings, more in (
        (tries.first, prompt.answers, [(end,)]),
        (tries.later, prompt.later_answers, []),
    ):
        expected = [(*wordings[i], last) for last in (end, separator) for i in (0, 1, 4)] + more
        found = []
        for node in trie.ends:
            path = np.flatnonzero(trie.ancestors[node])[1:]
            found.append(tuple(trie.token[path].tolist()))
        assert found == expected
    assert tries.labels.tolist() == [0, 1, 4]
