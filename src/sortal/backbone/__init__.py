"""Where a pretrained model comes from and how it computes: sources, quantisation, LoRA, attention, packing."""
