"""The machine's rate in a large bf16 matrix product, the ceiling of utilisation: ``python -m benchmarks.speed.peak`` prints it as a line of JSON."""

from __future__ import annotations

import json

import torch

from benchmarks.step import matrix_rate

if __name__ == "__main__":
    cuda = torch.cuda.is_available()
    rate = matrix_rate(torch.bfloat16, torch.device("cuda" if cuda else "cpu"), 8192 if cuda else 2048)
    name = torch.cuda.get_device_name() if cuda else "cpu"
    print(json.dumps({"flops": rate, "threads": torch.get_num_threads(), "device": name}))
