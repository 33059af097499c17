from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sortal.backbone import loading
from sortal.backbone.packing import pack
from sortal.backbone.pooling import token_states
from sortal.backbone.trunk import Trunk
from tiny_runs import classifier, random_rows

ROWS = pack(random_rows(12, 1, 40, 3, 25))


def trunk(folder):
    model = classifier(folder, labels=3)
    return Trunk(getattr(model, model.base_model_prefix), 1)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "mistral"])
def test_the_layers_above_give_from_the_states_below_what_the_whole_gives(tiny_models, family):
    model = classifier(tiny_models[family], labels=3)
    assert loading.enable_packing(model)
    base = getattr(model, model.base_model_prefix)
    parts = Trunk(base, 1)
    assert parts.exact()
    with torch.inference_mode():
        whole = token_states(base, ROWS)
        below = parts.below(ROWS)
        with parts.only_above():
            found = token_states(base, replace(ROWS, below=below))
        after = token_states(base, ROWS)
    torch.testing.assert_close(found, whole)
    assert torch.equal(after, whole), "the decoder is put together again"
    assert base.config.num_hidden_layers == 2
    assert not torch.allclose(below, base.embed_tokens(ROWS.input_ids)[0]), "a layer was computed"


def test_positions_added_to_embeddings_are_noticed(tiny_models):
    model = classifier(tiny_models["gpt2"], labels=3)
    assert loading.enable_packing(model)
    assert not Trunk(getattr(model, model.base_model_prefix), 1).exact()


def test_an_error_inside_leaves_the_decoder_whole(tiny_models):
    parts = trunk(tiny_models["gemma3"])
    kinds = list(parts.base.config.layer_types)
    seen = []

    def fail():
        with parts.only_above():
            seen.extend((len(parts.base.layers), list(parts.base.config.layer_types)))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [1, kinds[1:]]
    assert len(parts.base.layers) == 2
    assert parts.base.config.layer_types == kinds
