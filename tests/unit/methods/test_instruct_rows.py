from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sortal.backbone import loading
from sortal.backbone.language_model import LanguageModel, enable_trees
from sortal.backbone.lora import add_lora, fuse, trainable
from sortal.config import build_config, resolve_sizes
from sortal.data.labels import LabelSpace
from sortal.methods.instruct import InstructMethod
from sortal.methods.instruct_rows import Branches, EachLoss, ResponseLoss, Trunks
from sortal.prompting.prompt import Prompt
from sortal.prompting.shots import Shot
from sortal.prompting.template import make_prompt_text
from sortal.prompting.verbalizer import Verbalizer
from sortal.training.distributed import Processes
from sortal.training.loop import Loop
from sortal.training.losses import make_loss
from sortal.training.progress import NoProgress
from sortal.training.signals import StopRequest
from tiny_runs import FAMILIES, stir

# Names with a common beginning, one the beginning of another, with spaces, of another script, and very short.
NAMES = ("good", "good enough", "goods", "Größe 好", "a", "other")
TEXTS = (
    "",
    "fine",
    "a <|end|> b",
    "rather longer, well past a window of a few tokens",
    "x" * 9,
    "文字 \U0001f600",
    "q",
    "why",
)
SINGLE = np.array([0, 1, 2, 3, 4, 5, 1, 0])
MULTI = np.array(
    [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0],
    ],
    np.uint8,
)
CANDIDATES = np.array(
    [[0, 2, 5], [0, 1, 5], [1, 2, 4], [2, 3, 4], [3, 4, 5], [1, 4, 5], [0, 1, 5], [0, 1, 4]], np.int64
)
FORMS = ("label", "list", "each")


def _language_model(base, *, fused=True):
    config = loading.load_config(str(base))
    causal = loading.load_language_model(str(base), config, dtype=torch.float32, device=torch.device("cpu"))
    shares = enable_trees(causal)
    assert shares
    torch.manual_seed(0)
    model = LanguageModel(add_lora(causal, build_config({})), shares)
    if fused:
        fuse(model)
    return stir(model)


@pytest.fixture(scope="module")
def models(tiny_models):
    """A stirred model of every family, for all tests: none changes weights."""
    made = {}

    def get(family="llama"):
        if family not in made:
            made[family] = _language_model(tiny_models[family])
        return made[family]

    return get


@pytest.fixture(scope="module")
def plain(tiny_models):
    """transformers and peft alone, with the weights of ``models(family)``."""

    def get(family, model):
        bare = _language_model(tiny_models[family], fused=False)
        with torch.no_grad():
            for name, parameter in trainable(model).items():
                trainable(bare)[name].copy_(parameter)
        bare.inner.set_attn_implementation("eager")
        return bare.model

    return get


@pytest.fixture(scope="module")
def prompts(tiny_models):
    tokenizer = loading.load_tokenizer(str(tiny_models["llama"]))  # all families have the same one

    def make(form, names=NAMES, **more):
        text = make_prompt_text("classify", form, tokenizer)
        return Prompt(tokenizer, text, form, Verbalizer(names, names), **more)

    return make


def _objective(model, prompt, *, candidates=None, seed=0, gold=None, weights=None, negatives=9, **more):
    trunks = Trunks(prompt, prompt.encode(TEXTS), candidates)
    if prompt.form == "each":
        gold = MULTI if gold is None else gold
        names = NAMES[: gold.shape[1]]
        loss = make_loss(build_config(more), "multi", names, gold)
        return EachLoss(model, trunks, gold, loss, negatives=negatives, seed=seed)
    labels = [(int(i),) for i in SINGLE]
    if prompt.form == "list":
        labels = [tuple(np.flatnonzero(row).tolist()) for row in MULTI]
    weights = torch.ones(len(TEXTS)) if weights is None else weights
    return ResponseLoss(model, trunks, labels, len(NAMES), weights=weights, seed=seed, **more)


def _step(objective, max_tokens, order=None, step=0):
    """Loss and gradients of one optimiser step over all rows, as the loop accumulates them."""
    loop = Loop(
        objective.model,
        objective,
        dict,
        resolve_sizes(build_config({"batch_size": len(TEXTS)}), len(TEXTS)),
        processes=Processes(0, 1, torch.device("cpu")),
        max_tokens=max_tokens,
        store=None,
        stop=StopRequest(),
        view=NoProgress(),
        say=print,
    )
    loop.progress.step = step
    value = loop._accumulate(np.arange(len(TEXTS)) if order is None else np.array(order))
    return value, {name: p.grad.clone() for name, p in trainable(objective.model).items()}


class unshared:  # noqa: N801 - reads as a statement
    """Every path through a row as a sequence of its own, prompt included, under transformers' own attention."""

    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.before = self.model.inner.config._attn_implementation
        self.model.inner.set_attn_implementation("eager")
        self.model.shares = False

    def __exit__(self, *error):
        self.model.inner.set_attn_implementation(self.before)
        self.model.shares = True


def _same(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert gradient.norm() > 0, f"{name} has a gradient"
        error = (found[1][name] - gradient).norm()
        assert error <= tolerance * gradient.norm() + 1e-9, name


def _row_losses(objective, step=0):
    everything = np.arange(len(TEXTS))
    objective.prepare(everything, step)
    with torch.no_grad():
        return objective.losses(everything)


# the prompt computed once, and the cut into microbatches


@pytest.mark.parametrize(("family", "form"), [*product(FAMILIES, FORMS)])
def test_a_shared_prompt_gives_the_loss_and_gradients_of_whole_sequences(models, prompts, family, form):
    """Whole steps and single rows, in any order, against padded sequences of transformers' own attention."""
    model = models(family)
    objective = _objective(model, prompts(form))
    with unshared(model):
        expected = _step(objective, 10_000)
    for max_tokens in (10_000, 90, 1):
        _same(_step(objective, max_tokens), expected)
    _same(_step(objective, 90, order=[5, 2, 7, 0, 1, 6, 3, 4]), expected)


@pytest.mark.parametrize("form", FORMS)
def test_labels_listed_beside_each_text_give_the_gradients_of_whole_sequences(models, prompts, form):
    model = models()
    objective = _objective(model, prompts(form), candidates=CANDIDATES)
    with unshared(model):
        expected = _step(objective, 10_000)
    for max_tokens in (10_000, 120, 1):
        _same(_step(objective, max_tokens), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("listed", [False, True])
def test_the_tokens_that_rows_are_counted_with_are_the_tokens_they_have(
    models, prompts, form, listed, monkeypatch
):
    """The budget of a microbatch holds: what a forward reads is the rows' lengths and the shared prompt, or less."""
    from sortal.backbone import language_model

    model, read = models(), []
    real = language_model.packed_states
    monkeypatch.setattr(
        language_model,
        "packed_states",
        lambda m, pack, *rest: read.append(pack.tokens) or real(m, pack, *rest),
    )
    objective = _objective(model, prompts(form), candidates=CANDIDATES if listed else None)
    _row_losses(objective)
    assert len(read) == 1
    counted = int(objective.lengths.sum()) + objective.shared_tokens
    # A tree of questions merges their common beginnings, more or less of them according to which are asked.
    assert counted == read[0] if form != "each" else 0.7 * counted < read[0] < 1.3 * counted


# what the loss is


def _logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([[int(i) for i in ids]]), use_cache=False).logits[0].double()


def _sequence(prompt, text, candidates=None):
    """The ids before an answer, from one string."""
    names = NAMES if candidates is None else [NAMES[i] for i in candidates]
    before = prompt.text.before
    if prompt.text.lists_labels:
        before += "\n".join(names) + prompt.text.between
    whole = before + prompt.text.query + text + prompt.text.after
    return prompt.tokenizer(whole, split_special_tokens=True)["input_ids"]


def _ids(prompt, text):
    return prompt.tokenizer(text, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("candidates", [None, CANDIDATES])
@pytest.mark.parametrize("form", ["label", "list"])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_the_loss_is_minus_log_p_of_the_answer_in_a_plain_forward(
    models, plain, prompts, family, form, candidates
):
    """Instruction, labels, text, cue, answer and end as one string, read by plain transformers and peft."""
    model, prompt = models(family), prompts(form)
    found = _row_losses(_objective(model, prompt, candidates=candidates))
    bare = plain(family, model)
    for i, text in enumerate(TEXTS):
        before = _sequence(prompt, text, None if candidates is None else candidates[i])
        names = [NAMES[SINGLE[i]]]
        if form == "list":
            names = [NAMES[j] for j in np.flatnonzero(MULTI[i])]
        words = "".join((" " if number == 0 else ", ") + name for number, name in enumerate(names))
        answer = [*_ids(prompt, words), prompt.tokenizer.eos_token_id]
        logprobs = _logits(bare, [*before, *answer[:-1]]).log_softmax(-1)[len(before) - 1 :]
        expected = -sum(float(logprobs[k, token]) for k, token in enumerate(answer))
        assert float(found[i]) == pytest.approx(expected, rel=1e-5), text


@pytest.mark.parametrize("candidates", [None, CANDIDATES])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pos_weight": 3.0, "loss": "focal", "class_weight": {"a": 2.0}},
        {"loss": "asymmetric"},
        {"logit_adjustment": 1.0, "negative_smoothing": 0.05},
    ],
)
def test_every_label_is_a_yes_or_no_in_a_plain_forward(models, plain, prompts, candidates, settings):
    model, prompt = models(), prompts("each")
    objective = _objective(model, prompt, candidates=candidates, **settings)
    found = _row_losses(objective)
    bare, loss = plain("llama", model), objective.loss
    yes, no = prompt.yes_no
    assert prompt.tokenizer.decode([yes]) + prompt.tokenizer.decode([no]) == "yn"
    for i, text in enumerate(TEXTS):
        asked = range(len(NAMES)) if candidates is None else candidates[i].tolist()
        logits = torch.zeros(1, len(NAMES))
        for j in asked:
            ids = [*_sequence(prompt, text, candidates[i] if candidates is not None else None)]
            last = _logits(bare, [*ids, *_ids(prompt, f"\n{NAMES[j]}:")])[-1]
            logits[0, j] = last[yes] - last[no]
        each = loss.per_label(logits, torch.from_numpy(MULTI[i : i + 1]).float())[0]
        assert float(found[i]) == pytest.approx(float(each[list(asked)].mean()), rel=1e-5), text
    if not settings and candidates is None:
        assert float(each.mean()) == pytest.approx(
            float(F.binary_cross_entropy_with_logits(logits, torch.from_numpy(MULTI[-1:]).float())), rel=1e-6
        )


def test_examples_in_the_prompt_are_read_and_not_predicted(models, prompts):
    """The loss of a row under shots is that of its own answer below a longer prompt."""
    model = models()
    shown = prompts("label", shots=(Shot("a text", (2,)), Shot("another", (3,))))
    objective = _objective(model, shown)
    with unshared(model):
        expected = _step(objective, 10_000)
    _same(_step(objective, 10_000), expected)
    bare, with_shots = _row_losses(_objective(model, prompts("label"))), _row_losses(objective)
    assert len(with_shots) == len(bare) == len(TEXTS)
    assert (with_shots - bare).abs().min() > 1e-4
    assert objective.lengths.tolist() == _objective(model, prompts("label")).lengths.tolist()


def test_a_row_without_labels_is_an_answer_too(models, prompts):
    """Its mask is never empty: the end is predicted right after the cue."""
    objective = _objective(models(), prompts("list"))
    (row,) = (i for i in range(len(TEXTS)) if not MULTI[i].any())
    assert objective.responses[row].tolist() == [objective.trunks.prompt.terminator]
    assert float(_row_losses(objective)[row]) > 0


# weights


def test_row_weights_scale_the_loss_of_their_rows(models, prompts):
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0])
    plain = _row_losses(_objective(models(), prompts("label")))
    found = _row_losses(_objective(models(), prompts("label"), weights=weights))
    torch.testing.assert_close(found, plain * weights)


def test_class_weights_of_a_run_become_row_weights_with_a_mean_of_one(models, prompts):
    """S11: scaled over the whole training set, so that a step may be cut anywhere."""
    space = LabelSpace(NAMES, "single")
    trunks = Trunks(prompts("label"), prompts("label").encode(TEXTS))

    def losses(**settings):
        config = resolve_sizes(build_config({"method": "instruct", **settings}), len(TEXTS))
        objective = InstructMethod()._objective(config, space, models(), trunks, SINGLE)
        return objective, _row_losses(objective)

    balanced, found = losses(class_weight="balanced")
    _, plain = losses()
    counts = np.bincount(SINGLE)
    expected = (1 / counts)[SINGLE] / (1 / counts)[SINGLE].mean()
    torch.testing.assert_close(found / plain, torch.tensor(expected, dtype=torch.float32))
    _same(_step(balanced, 1), _step(balanced, 10_000))


# labels listed in another order, or some of them only


def _listed(objective):
    """Names in the label list of the prepared step."""
    text = objective.trunks.prompt.text
    decoded = objective.trunks.prompt.tokenizer.decode(objective.shared)
    assert decoded.startswith(text.before)
    return decoded[len(text.before) :].split(text.between)[0].split("\n")


BATCH = np.array([0, 6, 7])  # labels "good" and "good enough"


def test_shuffled_labels_are_drawn_by_seed_and_step_alone(models, prompts):
    objective = _objective(models(), prompts("label"), shuffle=True)
    again = _objective(models(), prompts("label"), shuffle=True)
    other = _objective(models(), prompts("label"), shuffle=True, seed=1)
    drawn, others = [], []
    for step in (0, 1, 2, 3, 0):
        objective.prepare(BATCH, step)
        drawn.append(_listed(objective))
        other.prepare(BATCH, step)
        others.append(_listed(other))
        assert objective.shared_tokens == len(objective.shared)
    again.prepare(BATCH[::-1].copy(), 3)  # as after resuming at step 3, or in another process
    assert drawn[3] == _listed(again)
    assert drawn[0] == drawn[4]
    assert len({tuple(order) for order in drawn}) == 4
    assert drawn != others
    assert all(sorted(order) == sorted(NAMES) for order in drawn)


def test_shuffling_puts_every_label_in_every_place(models, prompts):
    objective = _objective(models(), prompts("label"), shuffle=True)
    places = set()
    for step in range(80):
        objective.prepare(BATCH, step)
        places |= set(enumerate(_listed(objective)))
    assert places == set(product(range(len(NAMES)), NAMES))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("listed", [2, 4])
def test_a_subset_of_labels_always_holds_those_of_the_steps_rows(models, prompts, shuffle, listed):
    objective = _objective(models(), prompts("label"), shuffle=shuffle, listed=listed)
    company = set()
    for step in range(30):
        objective.prepare(BATCH, step)
        names = _listed(objective)
        assert len(names) == len(set(names)) == max(listed, 2)
        assert {"good", "good enough"} <= set(names)
        company |= set(names)
        if not shuffle:
            assert names == [name for name in NAMES if name in names], "in their usual order"
    assert company == (set(NAMES) if listed == 4 else {"good", "good enough"})


def test_more_gold_labels_than_listed_ones_are_all_listed(models, prompts):
    objective = _objective(models(), prompts("label"), shuffle=True, listed=2)
    objective.prepare(np.arange(len(TEXTS)), 0)
    assert sorted(_listed(objective)) == sorted(NAMES)


@pytest.mark.parametrize("form", ["label", "list"])
@pytest.mark.parametrize("settings", [{"shuffle": True}, {"shuffle": True, "listed": 3}])
def test_a_prompt_drawn_for_a_step_is_shared_exactly(models, prompts, form, settings):
    model = models()
    objective = _objective(model, prompts(form), **settings)
    with unshared(model):
        expected = _step(objective, 10_000, step=5)
    for max_tokens in (10_000, 60, 1):
        _same(_step(objective, max_tokens, step=5), expected)
    other = _step(objective, 10_000, step=6)
    assert (other[0] - expected[0]).abs() > 1e-4, "another step has another prompt"


# labels without a yes are sampled


def test_negatives_are_drawn_by_seed_step_and_row(models, prompts):
    everything = np.arange(len(TEXTS))

    def draws(seed, step, batch=everything):
        objective = _objective(models(), prompts("each"), negatives=2, seed=seed)
        objective.prepare(batch, step)
        return {i: asked.tolist() for i, asked in objective.asked.items()}

    assert draws(0, 3) == draws(0, 3)
    assert draws(0, 3) != draws(0, 4)
    assert draws(0, 3) != draws(1, 3)
    some = np.array([7, 2])
    assert draws(0, 3, some) == {i: draws(0, 3)[i] for i in (2, 7)}, "whatever rows are in the step"
    assert draws(0, 3)[0] != draws(0, 3)[7] or draws(0, 4)[0] != draws(0, 4)[7], "equal rows, own draws"
    for i, asked in draws(0, 3).items():
        assert set(np.flatnonzero(MULTI[i])) <= set(asked), "every yes is asked about"
        assert len(asked) == MULTI[i].sum() + min(2, len(NAMES) - MULTI[i].sum())
        assert asked == sorted(set(asked))


def test_every_negative_is_drawn_equally_often(models, prompts):
    objective = _objective(models(), prompts("each"), negatives=2)
    counts = np.zeros(len(NAMES))
    for step in range(600):
        objective.prepare(np.array([1]), step)
        counts[objective.asked[1]] += 1
    negative = MULTI[1] == 0
    assert (counts[~negative] == 600).all()
    assert np.abs(counts[negative] - 400).max() < 60  # 2 of 3; five standard deviations


def test_the_mean_loss_over_all_draws_is_the_loss_over_all_labels(models, prompts):
    """Enumerated, for rows with no yes, some, and nothing but yes; gradients follow, being linear in it."""
    from itertools import combinations

    full = _row_losses(_objective(models(), prompts("each"), negatives=9, pos_weight=2.0))
    objective = _objective(models(), prompts("each"), negatives=2, pos_weight=2.0)
    for i in (1, 2, 3, 5):
        positive, negative = np.flatnonzero(MULTI[i]), np.flatnonzero(MULTI[i] == 0)
        found = []
        for drawn in combinations(negative.tolist(), min(2, len(negative))):
            objective.asked = {i: np.sort(np.concatenate([positive, np.array(drawn, np.int64)]))}
            with torch.no_grad():
                found.append(float(objective.losses(np.array([i]))[0]))
        assert np.mean(found) == pytest.approx(float(full[i]), rel=1e-5)
        assert len(found) == 1 or np.std(found) > 1e-3, "the draws do differ"


def test_few_labels_are_all_asked_about(models, prompts):
    objective = _objective(models(), prompts("each"), negatives=6)
    objective.prepare(np.arange(len(TEXTS)), 0)
    assert all(asked.tolist() == list(range(len(NAMES))) for asked in objective.asked.values())


def test_only_candidates_are_asked_about(models, prompts):
    objective = _objective(models(), prompts("each"), negatives=1, candidates=CANDIDATES)
    objective.prepare(np.arange(len(TEXTS)), 0)
    for i, asked in objective.asked.items():
        assert set(asked.tolist()) <= set(CANDIDATES[i].tolist())
        assert set(CANDIDATES[i][MULTI[i, CANDIDATES[i]] == 1].tolist()) <= set(asked.tolist())


@pytest.mark.parametrize("candidates", [None, CANDIDATES])
def test_a_step_with_sampled_negatives_does_not_depend_on_its_cut(models, prompts, candidates):
    model = models()
    objective = _objective(model, prompts("each"), negatives=1, candidates=candidates)
    with unshared(model):
        expected = _step(objective, 10_000, step=2)
    for max_tokens in (10_000, 60, 1):
        _same(_step(objective, max_tokens, step=2), expected)


def test_one_label_alone_can_be_asked_about(models, prompts):
    """S8: a single wide column."""
    prompt, gold = prompts("each", NAMES[:1]), MULTI[:, :1]
    objective = _objective(models(), prompt, gold=gold)
    assert torch.isfinite(_row_losses(objective)).all()
    with unshared(models()):
        expected = _step(objective, 10_000)
    _same(_step(objective, 10_000), expected)


def test_logits_come_text_after_text_in_the_order_asked(models, prompts):
    """Each label's logit is the same whatever else is asked, and stands where it was asked."""
    prompt = prompts("each")
    branches = Branches.build(prompt, range(len(NAMES)))
    trunks = Trunks(prompt, prompt.encode(TEXTS))
    rows = [trunks[i] for i in (1, 3)]
    with torch.no_grad():
        everything = [np.arange(len(NAMES))] * 2
        whole = branches.logits(models(), trunks.shared, None, rows, everything).view(2, -1)
        some = branches.logits(models(), trunks.shared, None, rows, [np.array([4, 1]), np.array([2])])
    torch.testing.assert_close(
        some, torch.stack([whole[0, 4], whole[0, 1], whole[1, 2]]), rtol=1e-5, atol=1e-5
    )
    assert whole.std() > 1e-2
