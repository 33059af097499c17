"""What each unshipped ingredient of the search changes, and that it begins or ends where it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.recipe.candidates import EPISODE, LORA_PLUS, Episodes, read_states, tried
from safetensors.torch import load_file

from sortal.backbone.lora import trainable, training_mode
from sortal.backbone.packing import pack
from sortal.config import build_config
from sortal.methods import head
from sortal.methods.layer_search import best_regression
from sortal.methods.score_init import begin_at_names
from sortal.methods.text_folder import make_encoder
from sortal.training import loop
from sortal.training.losses import make_loss
from sortal.training.objective import Classification
from tiny_runs import classifier, fit, rows, stir, write_csv

TEXTS = pack([[5, 6, 7, 8], [9, 4], [3, 3, 3]])


def built(tiny, candidate, pooling="last", **settings):
    """A tuned network as method head builds it inside ``tried``; its adapters say something."""
    config = build_config(settings)
    with tried(candidate):
        torch.manual_seed(0)
        model = head.tunable(classifier(tiny), config, pooling)
    stir(model.classifier)
    return model


def test_without_a_candidate_nothing_is_changed():
    before = head.tunable, loop.make_optimizer, Classification.losses
    with tried(None):
        assert before == (head.tunable, loop.make_optimizer, Classification.losses)
    with tried("layer mixing"):
        assert before[0] is not head.tunable
    assert before == (head.tunable, loop.make_optimizer, Classification.losses)


def test_a_mix_of_the_last_layer_alone_is_what_is_shipped(tiny):
    plain, mixed = built(tiny, None), built(tiny, "layer mixing")
    assert (mixed.states(TEXTS) - plain.states(TEXTS)).abs().max() > 0.01, "at first all layers count alike"
    with torch.no_grad():
        mixed.mix[-1] = 50.0
    # The last layer is brought to the last one's scale by the norm that stands behind it.
    torch.testing.assert_close(mixed.states(TEXTS), plain.states(TEXTS))


def test_latent_pooling_begins_as_the_mean_and_learns(tiny):
    plain, latent = built(tiny, None, "mean"), built(tiny, "latent pooling", "mean")
    torch.testing.assert_close(latent.states(TEXTS), plain.states(TEXTS))
    latent(TEXTS).square().sum().backward()
    assert latent.down.weight.grad.abs().max() > 0


def test_lora_plus_gives_b_a_rate_of_its_own(tiny):
    config = build_config({"learning_rate": 1e-3})
    parameters = trainable(built(tiny, None))
    with tried("LoRA+"):
        optimizer = loop.make_optimizer(parameters, config)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert set(rate) == set(map(id, parameters.values()))
    for name, parameter in parameters.items():
        expected = (
            LORA_PLUS * 1e-3 if ".lora_B." in name else config.head_learning_rate if "score" in name else 1e-3
        )
        assert rate[id(parameter)] == pytest.approx(expected), name


def test_r_drop_adds_what_two_dropouts_disagree_about(tiny):
    config = build_config({"lora_dropout": 0.5})
    model = built(tiny, None, lora_dropout=0.5)
    texts = make_encoder(str(tiny), config).encode(["one text", "another", "a third"])
    every = gold = np.arange(3)
    loss = make_loss(config, "single", ("a", "b", "c"), gold)
    objective = Classification(model, texts, gold, loss, torch.device("cpu"))
    training_mode(model, False)
    plain = objective.losses(every)
    with tried("R-Drop"):
        torch.testing.assert_close(objective.losses(every), plain)
        training_mode(model, True)
        torch.manual_seed(1)
        apart = objective.losses(every)
    torch.manual_seed(1)
    without = (objective.losses(every) + objective.losses(every)) / 2
    assert (apart > without).all()


def test_a_second_stage_begins_at_the_adapters_of_another_set(tiny, tmp_path):
    data = write_csv(tmp_path / "d.csv", rows(60))
    fit(data, tiny, tmp_path / "banking77" / "plain-0")
    kept = load_file(tmp_path / "banking77" / "plain-0" / "model" / "adapter_model.safetensors")
    with tried("two stages"):
        config = build_config({"out": str(tmp_path / "goemotions" / "two-stages-0")})
        model = head.tunable(classifier(tiny), config)
    found = {name.replace(".default.", "."): p for name, p in model.classifier.named_parameters()}
    adapters = {name: weight for name, weight in kept.items() if ".lora_" in name}
    assert adapters
    for name, weight in adapters.items():
        torch.testing.assert_close(found[name].detach(), weight, rtol=0, atol=0)
    assert any(weight.abs().max() > 0 for name, weight in adapters.items() if "lora_B" in name)


def test_dora_learns_a_magnitude_and_begins_as_the_base_is(tiny):
    config = build_config({})
    plain = head.tunable(classifier(tiny), config)
    with tried("DoRA"):
        model = head.tunable(classifier(tiny), config)
    assert any("magnitude" in name for name in trainable(model))
    torch.testing.assert_close(model.states(TEXTS), plain.states(TEXTS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", ["single", "multi"])
def test_score_begins_at_the_regression_that_dev_likes_best(tiny, tmp_path, monkeypatch, task):
    found = {}
    with tried("score at a probe"):
        begin = head.begin_at_names

        def seen(model, score, encoder, train, gold, context, max_tokens, units):
            begin(model, score, encoder, train, gold, context, max_tokens, units)
            space, data = context.label_space, (context.train, context.dev)
            x, x_dev = (read_states(model, encoder.encode(part.iter_texts()), max_tokens=40) for part in data)
            expected = best_regression(x, x_dev, tuple(map(space.encode, data)), space, context.config).dense
            found["apart"] = (score(x_dev) - expected.score(x_dev)).abs().max().item()
            found["spread"] = expected.score(x_dev).std().item()

        with monkeypatch.context() as inner:  # undone before the candidate is
            inner.setattr(head, "begin_at_names", seen)
            fit(
                write_csv(tmp_path / "d.csv", rows(120, ("good", "bad", "odd"))),
                tiny,
                tmp_path / "r",
                task=task,
            )
    assert found["apart"] < 0.1 * found["spread"]
    assert head.begin_at_names is begin_at_names, "outside, what is shipped"


@pytest.mark.parametrize("task", ["single", "multi"])
def test_an_episode_knows_a_few_labels_and_rows_of_them_alone(tiny, task):
    config = build_config({})
    names = tuple("abcdef")
    kinds = np.arange(40) % len(names)
    gold = kinds if task == "single" else (kinds[:, None] == np.arange(len(names))).astype(np.int64)
    model = head.tunable(classifier(tiny, labels=len(names)), config)
    texts = make_encoder(str(tiny), config).encode([f"text {row}" for row in range(40)])
    objective = Episodes(model, texts, gold, make_loss(config, task, names, gold), torch.device("cpu"))
    plain = Classification(model, texts, gold, objective.loss, torch.device("cpu"))
    batch = np.array([3, 30, 1, 39, 7, 8])
    objective.prepare(batch, step=5)
    known = objective.open.numpy().nonzero()[0]
    assert len(known) == len(names) // 2 < EPISODE
    together = objective.losses(batch)
    torch.testing.assert_close(together[2:4], objective.losses(batch[2:4]), rtol=1e-4, atol=1e-5)
    drawn = np.array([objective._drawn[row] for row in batch])
    assert sorted(kinds[drawn]) == sorted([*known, *known]), "as many rows of each label"
    with torch.no_grad():
        logits = model(pack([texts[row].tolist() for row in drawn]))[:, known]
    right = torch.from_numpy(kinds[drawn][:, None] == known)
    if task == "single":
        expected = torch.nn.functional.cross_entropy(logits, right.int().argmax(1), reduction="none")
        assert (together < plain.losses(drawn)).all(), "fewer labels to tell apart"
    else:
        each = torch.nn.functional.binary_cross_entropy_with_logits
        expected = each(logits, right.float(), reduction="none").mean(1)
    torch.testing.assert_close(together, expected)
    objective.prepare(batch, step=6)
    assert not torch.equal(objective.losses(batch), together)
