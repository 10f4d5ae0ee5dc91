# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A Llama (or Qwen2-style) decoder in plain PyTorch, and safetensors reading and writing.

Tensor names, shapes and the rotate-half RoPE are those of Hugging Face checkpoints, so that
state_dict() is the checkpoint.
"""

import json
import math
import pathlib
import struct

import torch
import torch.nn.functional as F
from torch import nn


def rms_norm(x, weight, eps):
    h = x.float()
    h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps)
    return weight * h.to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


def rope(cfg, positions):
    dim = cfg["head_dim"]
    inv = cfg["rope_theta"] ** (-torch.arange(0, dim, 2, device=positions.device).float() / dim)
    angle = positions.float()[:, None] * inv
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Attention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, hd = cfg["hidden_size"], cfg["head_dim"]
        self.heads, self.kv, self.hd = cfg["num_attention_heads"], cfg["num_key_value_heads"], hd
        bias = cfg["model_type"] == "qwen2" or cfg.get("attention_bias", False)
        self.q_proj = nn.Linear(d, self.heads * hd, bias=bias)
        self.k_proj = nn.Linear(d, self.kv * hd, bias=bias)
        self.v_proj = nn.Linear(d, self.kv * hd, bias=bias)
        self.o_proj = nn.Linear(self.heads * hd, d, bias=False)

    def forward(self, x, cos, sin, drop, cache):
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.heads, self.hd).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.kv, self.hd).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv, self.hd).transpose(1, 2)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        causal = t > 1
        if cache is not None:
            if cache:
                assert t == 1
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        group = self.heads // self.kv  # query head h reads key/value head h / group
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(
            q, k, v, is_causal=causal, dropout_p=drop if self.training else 0.0
        )
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, m = cfg["hidden_size"], cfg["intermediate_size"]
        self.gate_proj = nn.Linear(d, m, bias=False)
        self.up_proj = nn.Linear(d, m, bias=False)
        self.down_proj = nn.Linear(m, d, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.input_layernorm = RMSNorm(cfg["hidden_size"], cfg["rms_norm_eps"])
        self.self_attn = Attention(cfg)
        self.post_attention_layernorm = RMSNorm(cfg["hidden_size"], cfg["rms_norm_eps"])
        self.mlp = MLP(cfg)

    def forward(self, x, cos, sin, drop, attn_drop, cache):
        y = self.self_attn(self.input_layernorm(x), cos, sin, attn_drop, cache)
        x = x + F.dropout(y, drop, self.training)
        y = self.mlp(self.post_attention_layernorm(x))
        return x + F.dropout(y, drop, self.training)


class Decoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed_tokens = nn.Embedding(cfg["vocab_size"], cfg["hidden_size"])
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg["num_hidden_layers"]))
        self.norm = RMSNorm(cfg["hidden_size"], cfg["rms_norm_eps"])


class LM(nn.Module):
    """forward(ids[batch, n]) -> logits[batch, n, vocab]."""

    def __init__(self, cfg, dropout=0.0, attn_dropout=0.0):
        super().__init__()
        self.cfg, self.drop, self.attn_drop = cfg, dropout, attn_dropout
        self.model = Decoder(cfg)
        self.lm_head = None
        if not cfg["tie_word_embeddings"]:
            self.lm_head = nn.Linear(cfg["hidden_size"], cfg["vocab_size"], bias=False)

    def init(self, seed):
        """Normal weights: 0.02 for the embedding, 1/sqrt(inputs) for the rest."""
        g = torch.Generator().manual_seed(seed)
        deep = 1 / math.sqrt(2 * len(self.model.layers))
        with torch.no_grad():
            for name, p in self.named_parameters():
                if p.dim() < 2:
                    continue
                std = 0.02 if "embed" in name else p.shape[1] ** -0.5
                if "o_proj" in name or "down_proj" in name:
                    std *= deep
                p.copy_(torch.randn(p.shape, generator=g) * std)
        return self

    def forward(self, ids, caches=None):
        """`caches`, a list of one list per layer, empty at first, holds earlier positions."""
        start = caches[0][0].shape[2] if caches and caches[0] else 0
        cos, sin = rope(self.cfg, torch.arange(start, start + ids.shape[1], device=ids.device))
        x = F.dropout(self.model.embed_tokens(ids), self.drop, self.training)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, self.drop, self.attn_drop, caches[i] if caches else None)
        x = self.model.norm(x)
        head = self.lm_head.weight if self.lm_head else self.model.embed_tokens.weight
        return F.linear(x, head)


@torch.no_grad()
def windows_nll(model, ids, window):
    """Negative log-likelihoods of `ids` in windows that begin at 0, window, 2*window, ...

    Each window is read alone, with nothing before it; all its tokens but the first are
    predicted. The last one may be shorter. Returns one tensor of values per window.
    """
    was = model.training
    model.eval()
    device = next(model.parameters()).device
    out = []
    ids = torch.as_tensor(ids, dtype=torch.long)
    full = len(ids) // window * window
    batches = list(ids[:full].view(-1, window).split(32))
    if len(ids) - full >= 2:
        batches.append(ids[None, full:])
    for batch in batches:
        batch = batch.to(device)
        logits = model(batch[:, :-1]).float()
        nll = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
        out += list(nll.view(len(batch), -1).cpu())
    model.train(was)
    return out


def loss_of(nlls):
    return torch.cat(nlls).double().mean().item()


DTYPES = {"BF16": (torch.bfloat16, torch.int16), "F32": (torch.float32, torch.int32)}


def save_safetensors(path, tensors):
    """Writes bf16 tensors by name; returns their size in bytes."""
    header, data = {"__metadata__": {"format": "pt"}}, []
    end = 0
    for name, t in tensors.items():
        raw = t.detach().cpu().to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(t.shape),
            "data_offsets": [end, end + len(raw)],
        }
        end += len(raw)
        data.append(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    return end


def load_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    tensors = {}
    for name, info in json.loads(raw[8 : 8 + n]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + n + o for o in info["data_offsets"])
        dtype, as_int = DTYPES[info["dtype"]]
        t = torch.frombuffer(bytearray(raw[begin:end]), dtype=as_int).view(dtype)
        tensors[name] = t.view(info["shape"]).float()
    return tensors


def load(folder):
    """The model in `folder`, its weights widened to float32, on the CPU."""
    folder = pathlib.Path(folder)
    cfg = json.loads((folder / "config.json").read_text())
    index = folder / "model.safetensors.index.json"
    files = {"model.safetensors"}
    if index.exists():
        files = set(json.loads(index.read_text())["weight_map"].values())
    tensors = {}
    for f in sorted(files):
        tensors.update(load_safetensors(folder / f))
    model = LM(cfg)
    model.load_state_dict(tensors)
    return model.eval()
