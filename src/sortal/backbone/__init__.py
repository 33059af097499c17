"""Where a pretrained model comes from and how it computes: sources, quantisation, LoRA, attention, packing."""

import logging

# bitsandbytes warns at import of an optional kernel package that nothing here uses.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
