#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes a tiny Qwen2-style model with random weights, for tests, and its golden.json.

It has what the trained model lacks: biases on q, k and v, an untied lm_head, a head_dim that is
not hidden_size / heads, and weights in two safetensors files with an index.
"""

import argparse
import json
import pathlib
import shutil

import torch
from tokenizers import Tokenizer

import make_golden as G
import model as M

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 16

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "max_window_layers": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 2048,
}

PROMPTS = [
    "In the beginning",
    "And it came to pass",
    "Blessed are the meek",
    "The LORD is my shepherd",
    "Then said Jesus unto them",
    "Hear, O Israel",
    "Thou shalt not steal",
    "A voice crying in the wilderness",
]


def random_weights(seed):
    """Weights large enough that layers, biases and positions all show in the logits."""
    g = torch.Generator().manual_seed(seed)
    model = M.LM(CONFIG)
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g)
            if name.endswith("norm.weight"):
                p.copy_(1 + 0.2 * r)
            elif p.dim() == 1:
                p.copy_(0.5 * r)
            elif "embed" in name:
                p.copy_(r)
            elif "lm_head" in name:
                p.copy_(0.3 * r)
            else:
                p.copy_(r * 1.5 * p.shape[1] ** -0.5)
    return model.state_dict()


def save(folder, tensors):
    shards = [{}, {}]
    for name, t in tensors.items():
        first = "embed_tokens" in name or "layers.0." in name
        shards[0 if first else 1][name] = t
    total, weight_map = 0, {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        total += M.save_safetensors(folder / file, shard)
        weight_map.update({name: file for name in shard})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--out", type=pathlib.Path, default=HERE.parent / "testdata" / "qwen2-tiny")
    ap.add_argument("--tokenizer", type=pathlib.Path, default=HERE.parent / "model/tokenizer.json")
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    save(args.out, random_weights(seed=7))
    shutil.copyfile(args.tokenizer, args.out / "tokenizer.json")

    tok = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    model = M.load(args.out)
    cases = []
    for text in PROMPTS:
        ids = tok.encode(text).ids
        (out,), _ = G.greedy_batch(model, [ids], STEPS)
        margins = G.greedy_check(model, ids, out)
        cases.append(
            {
                "prompt": text,
                "prompt_ids": ids,
                "ids": out,
                "margins": G.rounded(margins),
            }
        )
    cases.sort(key=lambda c: -min(c["margins"]))
    cases = cases[:2]
    print("least margins", [min(c["margins"]) for c in cases])
    assert min(cases[-1]["margins"]) >= G.MARGIN

    text = "And God said, Let there be light: and there was light.\n" * 4
    window = tok.encode(text).ids[:48]
    with torch.no_grad():
        logits = model(torch.tensor([window]))[0]
    golden = {
        "about": "float32 on the CPU from the saved bf16 weights; see train/README.md",
        "greedy": cases,
        "logits": {"window_ids": window, "top": G.top8(logits, list(range(5, 48, 6)))},
    }
    (args.out / "golden.json").write_bytes(G.dump(golden).encode())


if __name__ == "__main__":
    main()
