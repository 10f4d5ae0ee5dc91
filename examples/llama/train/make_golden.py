#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes MODEL/golden.json: what MODEL must answer, computed in float32 on the CPU.

The weights are the saved bf16 ones, widened. The greedy prompts are picked from many so that the
best token always leads the second by a clear margin (at least 0.02 of logit).
"""

import argparse
import json
import pathlib

import torch
from tokenizers import Tokenizer

import model as M

HERE = pathlib.Path(__file__).resolve().parent
WINDOW = 512
STEPS = 64
MARGIN = 0.02

# Prompt lengths in tokens, and from how many places in which text to try them.
WANTED = [
    (4, "heldout", 300),
    (6, "train", 300),
    (8, "heldout", 300),
    (8, "train", 300),
    (12, "heldout", 300),
    (16, "train", 200),
    (40, "heldout", 100),
    (200, "heldout", 30),
]

STRINGS = [
    "",
    " ",
    "  ",
    "   \t ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    "a",
    " a",
    "a  b",
    "a   b ",
    "a\n\n\nb",
    "line one\nline two\n  indented\n",
    "In the beginning God created the heaven and the earth.",
    "And it came to pass",
    "AND IT CAME TO PASS",
    "Hello, world!",
    "don't",
    "I'll we've they're he's I'd I'm can't",
    "DON'T I'LL 'tis 'twas rock'n'roll",
    "'''' '' '",
    "0",
    "1234567890",
    "v1.2.3-rc4 3.14159e-10 1,000,000",
    "x2y3 4z",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "...!!!???",
    "Thou shalt not --- (ever) -- steal; [see below]: {yes}",
    "foo_bar fooBar FOO-BAR foo.bar()",
    "https://example.org/a?b=c&d=%20#e",
    "if (a<b) {\n\treturn a[i++] << 2;\n}\n",
    "na\u00efve caf\u00e9 \u00dcber stra\u00dfe \u00e6on \u0141\u00f3d\u017a",
    "e\u0301 combining, o\u0308u\u0308",
    "\u0412 \u043d\u0430\u0447\u0430\u043b\u0435 \u0431\u044b\u043b\u043e \u0421\u043b\u043e\u0432\u043e",
    "\u1f18\u03bd \u1f00\u03c1\u03c7\u1fc7 \u1f26\u03bd \u1f41 \u03bb\u03cc\u03b3\u03bf\u03c2",
    "\u05d1\u05b0\u05bc\u05e8\u05b5\u05d0\u05e9\u05b4\u05c1\u05d9\u05ea \u05d1\u05b8\u05bc\u05e8\u05b8\u05d0",
    "\u8d77\u521d\uff0c\u795e\u521b\u9020\u5929\u5730\u3002",
    "\u521d\u3081\u306b\u30b3\u30c8\u30d0\u304c\u3042\u3063\u305f \ud0dc\ucd08\uc5d0",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1ec\U0001f1e7 \u2764\ufe0f",
    "\u00a0no\u00a0break\u3000wide\u2003em\u2028line\u200bzero",
    "\u00b2\u00bd\u2167\u0969\u0660 number-like",
    "\u2018quoted\u2019 \u201cdouble\u201d \u2014 \u2026",
    "\u0000\u0001\u0007\u007f\u0085 controls",
    "\ufffd \ufeffbom \U0010ffff",
    "supercalifragilisticexpialidocious",
    "Mahershalalhashbaz begat Zaphnathpaaneah",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    " " * 33 + "x",
]


@torch.no_grad()
def greedy_batch(model, prompts, steps):
    """Greedy continuations of equally long prompts, with a cache: (ids, margins)."""
    caches = [[] for _ in model.model.layers]
    ids, margins = [], []
    feed = torch.tensor(prompts)
    for _ in range(steps):
        top = model(feed, caches)[:, -1].topk(2)
        ids.append(top.indices[:, 0])
        margins.append(top.values[:, 0] - top.values[:, 1])
        feed = top.indices[:, :1]
    return torch.stack(ids, 1).tolist(), torch.stack(margins, 1)


@torch.no_grad()
def greedy_check(model, prompt, out):
    """Margins of the continuation `out` of `prompt`, from one pass without a cache."""
    logits = model(torch.tensor([prompt + out[:-1]]))[0, len(prompt) - 1 :]
    top = logits.topk(2)
    assert top.indices[:, 0].tolist() == out
    return (top.values[:, 0] - top.values[:, 1]).tolist()


def rounded(values, digits=5):
    return [round(v, digits) for v in values]


def top8(logits, positions):
    top = logits[positions].topk(8)
    return [
        {"position": p, "ids": i, "values": rounded(v)}
        for p, i, v in zip(positions, top.indices.tolist(), top.values.tolist())
    ]


def candidates(tok, lines, tokens, count):
    """Texts of exactly `tokens` tokens that begin a verse and end between words."""
    space = {i for t, i in tok.get_vocab().items() if t[0] == "\u0120"}
    stride = max(1, len(lines) // count)
    found = {}
    for at in range(0, len(lines), stride):
        ids = tok.encode("".join(lines[at : at + tokens // 8 + 2])).ids
        if len(ids) <= tokens or ids[tokens] not in space:
            continue
        text = tok.decode(ids[:tokens])
        if tok.encode(text).ids == ids[:tokens]:
            found[text] = ids[:tokens]
    return found


def greedy_cases(model, tok, texts):
    cases = []
    for tokens, source, count in WANTED:
        found = candidates(tok, texts[source], tokens, count)
        prompts = list(found.items())
        outs, margins = greedy_batch(model, [ids for _, ids in prompts], STEPS)
        best = None
        for (text, ids), out, margin in zip(prompts, outs, margins):
            dull = len(set(out)) < STEPS * 0.45 or 0 in out
            if dull or any(c["text"] == tok.decode(out) for c in cases):
                continue
            if best is None or margin.min() > best[0]:
                best = (margin.min().item(), text, ids, out)
        least, text, ids, out = best
        print(f"{source} {tokens}: of {len(prompts)}, least margin {least:.3f}: {text[-60:]!r}")
        assert least >= MARGIN
        cases.append(
            {
                "prompt": text,
                "source": source,
                "prompt_ids": ids,
                "ids": out,
                "text": tok.decode(out),
                "margins": rounded(greedy_check(model, ids, out)),
            }
        )
    return cases


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--work", type=pathlib.Path, default="build/train", help="prepare.py's output")
    ap.add_argument("--model", type=pathlib.Path, default=HERE.parent / "model")
    args = ap.parse_args()
    model = M.load(args.model)
    tok = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    heldout = (args.model / "heldout.txt").read_bytes().decode()
    train = (args.work / "train.txt").read_bytes().decode()
    ids = tok.encode(heldout).ids
    lines = {
        "heldout": heldout.splitlines(keepends=True),
        "train": [v for v in train.splitlines(keepends=True) if v != "\n"],
    }

    nlls = M.windows_nll(model, ids, WINDOW)
    window = ids[:WINDOW]
    with torch.no_grad():
        logits = model(torch.tensor([window]))[0]

    strings = []
    for s in STRINGS:
        e = tok.encode(s).ids
        assert tok.decode(e, skip_special_tokens=False) == s
        strings.append({"text": s, "ids": e})
    special = []
    for s in ["<|endoftext|>", "a<|endoftext|>b", "a <|endoftext|>\n<|endoftext|><|endoftext>"]:
        e = tok.encode(s).ids
        special.append({"text": s, "ids": e})

    golden = {
        "about": "float32 on the CPU from the saved bf16 weights; see train/README.md",
        "loss": {
            "nats_per_token": round(M.loss_of(nlls), 6),
            "tokens": sum(len(n) for n in nlls),
            "heldout_tokens": len(ids),
            "window": WINDOW,
            "window_means": rounded([n.double().mean().item() for n in nlls], 5),
        },
        "greedy": greedy_cases(model, tok, lines),
        "logits": {"window_ids": window, "top": top8(logits, list(range(7, WINDOW, 8)))},
        "tokenizer": strings,
        "tokenizer_special": special,
    }
    text = dump(golden)
    (args.model / "golden.json").write_bytes(text.encode())
    print("loss", golden["loss"]["nats_per_token"], "strings", len(strings), "bytes", len(text))


def dump(golden):
    """JSON with one entry of each list a line."""
    compact = lambda v: json.dumps(v, ensure_ascii=False)
    parts = []
    for key, value in golden.items():
        if isinstance(value, list):
            rows = ",\n  ".join(compact(v) for v in value)
            parts.append(f" {compact(key)}: [\n  {rows}\n ]")
        elif key == "logits":
            rows = ",\n   ".join(compact(v) for v in value["top"])
            ids = compact(value["window_ids"])
            parts.append(f' "logits": {{\n  "window_ids": {ids},\n  "top": [\n   {rows}\n  ]\n }}')
        else:
            parts.append(f" {compact(key)}: {compact(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
