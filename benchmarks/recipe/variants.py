"""The changes that are tried, each beside the same plain recipe."""

from __future__ import annotations

from typing import Any

# Of a run; ``candidate`` names what is no setting (`candidates`).
Settings = dict[str, Any]

PLAIN = "plain"
# Ordered by how much is expected of them: a search that is cut short has tried the first ones. The plain recipe is what is
# shipped, without the linear model on words that is blended in. ``members`` are other variants, which have to be named, too.
VARIANTS: dict[str, Settings] = {
    PLAIN: {"blend": "none"},
    "preset fast": {"preset": "fast"},
    "mean of 12 layers": {"pooling": "mean", "keep_layers": 12},
    "score at random": {"score_init": "random"},
    "blend with tfidf": {"blend": "tfidf"},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "learning rate 5e-4": {"learning_rate": 5e-4},
    "learning rate 4e-3": {"learning_rate": 4e-3},
    "6 epochs": {"epochs": 6},
    "dropout 0.1": {"lora_dropout": 0.1},
    "rank 32": {"lora_r": 32, "lora_alpha": 64},
    "label smoothing": {"label_smoothing": 0.1},
    "more warm-up": {"warmup_ratio": 0.2},
    "topic template": {"template": "topic"},
    "mean": {"pooling": "mean"},
    "batch 16": {"batch_size": 16},
    "weight decay 0.1": {"weight_decay": 0.1},
    "score learns faster": {"head_learning_rate": 1e-2},
    "256 tokens": {"max_length": 256},
    "two thirds of the layers": {"keep_layers": 20},
    "layer mixing": {"candidate": "layer mixing"},
    "latent pooling": {"candidate": "latent pooling", "pooling": "mean"},
    "LoRA+": {"candidate": "LoRA+", "learning_rate": 1e-3},
    "rsLoRA": {"lora_alpha": 45},  # at rank 8 all that it changes: 16 / √8 = 45 / 8
    "two stages": {"candidate": "two stages"},
    "score at a probe": {"candidate": "score at a probe"},
    "names in the template": {"template": "labels"},
    "episodes": {"candidate": "episodes"},
    "tfidf": {"method": "tfidf"},
    "probe": {"method": "probe"},
    "plain and tfidf": {"method": "ensemble", "members": (PLAIN, "tfidf")},
    "plain and probe": {"method": "ensemble", "members": (PLAIN, "probe")},
    "plain, tfidf and probe": {"method": "ensemble", "members": (PLAIN, "tfidf", "probe")},
    "names and tfidf": {"method": "ensemble", "members": ("names in the template", "tfidf")},
    "R-Drop": {"candidate": "R-Drop", "lora_dropout": 0.1},
    "DoRA": {"candidate": "DoRA"},
}
