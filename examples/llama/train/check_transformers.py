#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares a folder's golden.json with what Hugging Face transformers makes of its weights.

Needs `transformers`, which nothing else here does: check_transformers.py FOLDER...
"""

import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM

for folder in map(pathlib.Path, sys.argv[1:]):
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        for case in golden["greedy"]:
            ids, n = case["prompt_ids"] + case["ids"], len(case["prompt_ids"])
            logits = model(torch.tensor([ids])).logits[0]
            assert logits[n - 1 : -1].argmax(-1).tolist() == case["ids"], case["prompt"]
        logits = model(torch.tensor([golden["logits"]["window_ids"]])).logits[0]
        worst = 0.0
        for row in golden["logits"]["top"]:
            top = logits[row["position"]].topk(8)
            assert top.indices.tolist() == row["ids"], row
            worst = max(worst, (top.values - torch.tensor(row["values"])).abs().max().item())
    print(f"{folder}: {type(model).__name__} agrees; greatest logit difference {worst:.1e}")
