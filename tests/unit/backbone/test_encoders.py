from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from encoder_files import letters
from sortal.backbone import encoders, loading
from sortal.backbone.template import own_template
from sortal.errors import ConfigError, ModelError


def settings_of(folder, labels=3):
    settings = loading.load_config(str(folder))
    settings.num_labels = labels
    return settings


@pytest.mark.parametrize(
    ("files", "pooling"),
    [
        ({}, "own"),
        ({"sentence_bert_config.json": {}}, "mean"),
        ({"config_sentence_transformers.json": {}}, "mean"),
        ({"modules.json": []}, "mean"),
        ({"modules.json": [], "1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}, "mean"),
        ({"modules.json": [], "1_Pooling/config.json": {"pooling_mode_mean_tokens": False}}, "own"),
    ],
)
def test_the_folder_says_how_it_pools(tmp_path, files, pooling):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    assert encoders.choose_pooling("auto", tmp_path) == pooling
    assert encoders.choose_pooling("mean", tmp_path) == "mean"
    assert encoders.choose_pooling("own", tmp_path) == "own"


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert", "distilbert"])
def test_the_longest_text_has_a_position_for_every_token(tiny_encoders, family):
    settings = settings_of(tiny_encoders[family])
    longest = encoders.longest_text(settings, settings.pad_token_id)
    assert longest == (128 if family == "roberta" else 130)
    body = encoders.load_body(str(tiny_encoders[family]), settings).eval()
    ids = torch.full((1, longest), 7)
    assert body(input_ids=ids).last_hidden_state.shape[1] == longest
    if family in ("bert", "roberta"):
        with pytest.raises((IndexError, RuntimeError)):
            body(input_ids=torch.full((1, longest + 1), 7))


def test_a_length_without_positions_is_refused():
    assert encoders.check_length(None, 512, 256) == 256
    assert encoders.check_length(None, 128, 256) == 128
    assert encoders.check_length(512, 512, 256) == 512
    with pytest.raises(ConfigError, match=r"max_length 513 is more .* \(512\)"):
        encoders.check_length(513, 512, 256)


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_one_rate_for_every_dropout(tiny_encoders, family, rate):
    settings = settings_of(tiny_encoders[family])
    encoders.set_dropout(settings, rate)
    body = encoders.load_body(str(tiny_encoders[family]), settings)
    whole = encoders.with_own_head(body, settings)
    found = {module.p for module in whole.modules() if isinstance(module, torch.nn.Dropout)}
    assert found == {rate}


def test_every_pretrained_weight_has_its_place(tiny_encoders, tmp_path):
    base = tiny_encoders["bert"]
    body = encoders.load_body(str(base), settings_of(base))
    saved = load_file(base / "model.safetensors")
    for name, value in body.state_dict().items():
        if not name.startswith("pooler."):
            torch.testing.assert_close(value, saved[f"bert.{name}"], rtol=0, atol=0)
    shutil.copytree(base, tmp_path / "broken")
    saved.pop("bert.encoder.layer.1.output.dense.weight")
    save_file(saved, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"weights missing: encoder\.layer\.1\.output\.dense\.weight"):
        encoders.load_body(str(tmp_path / "broken"), settings_of(base))


def test_a_head_the_checkpoint_had_is_not_carried_over(tiny_encoders, tmp_path):
    """Its rows belong to other labels, even if there are as many of them."""
    base = tiny_encoders["bert"]
    settings = settings_of(base)
    first = encoders.with_own_head(encoders.load_body(str(base), settings), settings)
    with torch.no_grad():
        first.classifier.weight.fill_(7.0)
    first.save_pretrained(tmp_path)
    again = encoders.with_own_head(encoders.load_body(str(tmp_path), settings), settings)
    assert again.classifier.weight.abs().max() < 1
    torch.testing.assert_close(again.bert.pooler.dense.weight, first.bert.pooler.dense.weight)


def test_an_encoder_with_a_decoder_is_refused(tiny_encoders):
    settings = settings_of(tiny_encoders["bert"])
    settings.is_encoder_decoder = True
    with pytest.raises(ModelError, match="is an encoder with a decoder"):
        encoders.load_body("somewhere", settings)


def test_the_own_template_is_what_the_tokenizer_adds():
    tokenizer = letters()
    template = own_template(tokenizer)
    assert (template.prefix, template.suffix) == (
        (tokenizer.cls_token_id,),
        (tokenizer.sep_token_id,),
    )
    tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(ModelError, match="adds no token to a text"):
        own_template(tokenizer)
