#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains tpx-kjv-4m on the King James Bible; run prepare.py first.

With --val it trains on fit.npy and prints the loss on val.npy as it goes: that is how the
settings below were chosen. Without, it trains on all of train.npy for the set number of steps
and saves config.json and model.safetensors. The held-out text is looked at once, after saving.
"""

import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

import model as M

HERE = pathlib.Path(__file__).resolve().parent

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "num_attention_heads": 16,
    "num_hidden_layers": 3,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 2048,
}

WINDOW = 512


def batches(ids, size, rng):
    """Endless batches of windows: each epoch cuts the text at a new offset and shuffles."""
    pool = []
    while True:
        while len(pool) < size:
            offset = rng.integers(WINDOW)
            starts = np.arange(offset, len(ids) - WINDOW, WINDOW)
            pool += rng.permutation(starts).tolist()
        take, pool = pool[:size], pool[size:]
        yield torch.from_numpy(np.stack([ids[s : s + WINDOW + 1] for s in take]).astype(np.int64))


def bf16_copy(cfg, state, device):
    """A float32 model with the weights rounded as they are saved."""
    m = M.LM(cfg).to(device)
    m.load_state_dict({k: v.to(torch.bfloat16).float() for k, v in state.items()})
    return m.eval()


def train(args, ids, val=None, log=print):
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    model = M.LM(CONFIG, args.dropout, args.attn_dropout).init(args.seed).to(device)
    named = list(model.named_parameters())
    groups = [
        {"params": [p for _, p in named if p.dim() > 1], "weight_decay": args.wd},
        {"params": [p for _, p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = device.type == "cuda"
    opt = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, args.beta2), fused=fused)
    ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
    source = batches(ids, args.batch, rng)
    begin, total, seen = time.time(), torch.zeros((), device=device), 0
    model.train()
    result = None
    for step in range(1, args.steps + 1):
        warm = min(1.0, step / args.warmup)
        lr = args.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for g in opt.param_groups:
            g["lr"] = lr
        block = next(source).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=fused):
            logits = model(block[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), block[:, 1:].flatten())
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        decay = min(args.ema, step / (step + 10))
        state = model.state_dict()
        torch._foreach_lerp_(list(ema.values()), list(state.values()), 1 - decay)
        total += loss.detach()
        seen += 1
        if step % args.every == 0 or step == args.steps:
            line = f"step {step} train {total.item() / seen:.4f}"
            total.zero_()
            seen = 0
            if val is not None:
                result = M.loss_of(M.windows_nll(bf16_copy(CONFIG, ema, device), val, WINDOW))
                line += f" val {result:.4f}"
            log(f"{line} {time.time() - begin:.0f} s")
    return ema, result


def options():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--work", type=pathlib.Path, default="build/train", help="prepare.py's output")
    ap.add_argument("--out", type=pathlib.Path, default=HERE.parent / "model")
    ap.add_argument("--val", action="store_true", help="hold out the validation slice, save nothing")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    ap.add_argument("--steps", type=int, default=3000)
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--beta2", type=float, default=0.95)
    ap.add_argument("--wd", type=float, default=1.0)
    ap.add_argument("--warmup", type=int, default=50)
    ap.add_argument("--dropout", type=float, default=0.25)
    ap.add_argument("--attn-dropout", type=float, default=0.1)
    ap.add_argument("--ema", type=float, default=0.99)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--every", type=int, default=100)
    return ap


def main():
    args = options().parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    if args.val:
        train(args, np.load(args.work / "fit.npy"), np.load(args.work / "val.npy"))
        return
    state, _ = train(args, np.load(args.work / "train.npy"))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    size = M.save_safetensors(args.out / "model.safetensors", state)
    nlls = M.windows_nll(M.load(args.out), np.load(args.work / "heldout.npy"), WINDOW)
    print(f"{size} bytes; held-out loss {M.loss_of(nlls):.4f} nats/token")


if __name__ == "__main__":
    main()
