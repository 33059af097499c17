from __future__ import annotations

import pytest
import torch
from torch import nn

from sortal.backbone import loading
from sortal.backbone.depth import POOLINGS, LayerReader, cut_layers
from sortal.backbone.packing import pack
from sortal.backbone.pooling import pool, token_states, token_states_padded
from sortal.errors import ConfigError, ModelError
from tiny_runs import FAMILIES, random_rows

ROWS = random_rows(7, 3, 20, 12, 1)  # gemma3 and mistral have a window of 6 tokens


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Decoders of four layers."""
    from model_files import save_tiny

    root = tmp_path_factory.mktemp("deep")
    return {family: save_tiny(family, root / family, layers=4) for family in FAMILIES}


def decoder(path, layers=None):
    settings = loading.load_config(str(path))
    settings.num_labels, settings.pad_token_id = 3, 1
    if layers is not None:
        cut_layers(settings, layers)
    model = loading.load_classifier(str(path), settings, dtype=torch.float32, device=torch.device("cpu"))
    return model, getattr(model, model.base_model_prefix)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_reads_as_the_model_cut_there(deep, family, packed):
    """The promise of a probe: what it measured at a layer is what the cut model gives."""
    model, base = decoder(deep[family])
    if packed:
        assert loading.enable_packing(model)
    rows = pack(ROWS)
    with torch.inference_mode():
        found = LayerReader(base, packed, 1, skip=2)(rows)
    assert found.shape == (5, len(POOLINGS), 4, 32)
    for layers in (1, 2, 3, 4):
        shallow, cut = decoder(deep[family], layers)
        assert shallow.config.num_hidden_layers == layers
        if packed:
            assert loading.enable_packing(shallow)
        with torch.inference_mode():
            states = token_states(cut, rows) if packed else token_states_padded(cut, rows, 1)
            expected = torch.stack([pool(states, rows, pooling, 2) for pooling in POOLINGS], 1)
        torch.testing.assert_close(found[:, :, layers - 1], expected, rtol=1e-5, atol=1e-5)
    assert (found[:, :, 0] - found[:, :, 3]).abs().max() > 1e-2, "layers differ"


def test_lists_with_an_entry_per_layer_are_cut_with_them(deep):
    settings = loading.load_config(str(deep["gemma3"]))
    cut_layers(settings, 3)
    assert settings.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]


@pytest.mark.parametrize("layers", [0, 5])
def test_a_depth_that_the_model_does_not_have_is_refused(deep, layers):
    with pytest.raises(ConfigError, match=f"keep_layers is {layers}, and the model has 4 layers"):
        cut_layers(loading.load_config(str(deep["llama"])), layers)


def test_reading_leaves_no_hooks_behind(deep):
    model, base = decoder(deep["llama"])
    assert loading.enable_packing(model)
    reader = LayerReader(base, True, 1)
    reader(pack(ROWS))
    assert not any(module._forward_hooks for module in base.modules())


def test_a_decoder_whose_norm_cannot_be_told_is_refused(deep):
    """Its layers' states would not be what a cut model gives."""
    model, base = decoder(deep["llama"])
    assert loading.enable_packing(model)

    class Louder(nn.Module):
        def forward(self, states):
            return 3 * states

    base.final_norm = Louder()  # a second norm: which of them ends the model?
    with pytest.raises(ModelError, match="could not be told from outside"):
        LayerReader(base, True, 1)
