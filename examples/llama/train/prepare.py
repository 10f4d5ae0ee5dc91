#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Prints the King James Bible with Debian's `bible`, splits it, trains the tokenizer.

Writes WORK/train.txt, WORK/{train,fit,val,heldout}.npy (token ids), and, in MODEL,
heldout.txt and tokenizer.json.

The split is by position and needs no seed. Verse i (from 0, Genesis 1:1 to Revelation 22:21)
lies in block i // 50. Every 20th block is held out: those with block % 20 == 19. The blocks with
block % 20 == 9 are part of the training text; while settings are being chosen they serve as the
validation slice (val.npy, with fit.npy the rest). Nothing here, tokenizer included, learns from
the held-out blocks.
"""

import argparse
import pathlib
import subprocess

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

EOS = "<|endoftext|>"
VOCAB = 2048
BLOCK = 50  # verses
HELDOUT, VAL, PERIOD = 19, 9, 20

HERE = pathlib.Path(__file__).resolve().parent


def read_verses():
    """[(book, text)], in order."""
    out = subprocess.run(
        ["bible", "-f", "gen1:1-rev22:21"], check=True, capture_output=True, text=True
    ).stdout
    verses = []
    for line in out.splitlines():
        label, _, text = line.partition(" ")  # "Ge1:1 In the beginning ..."
        book = label.partition(":")[0].rstrip("0123456789")
        verses.append((book, text.strip()))
    assert len(verses) == 31102 and all(text for _, text in verses)
    return verses


def documents(verses, blocks):
    """Runs of neighbouring verses of one book whose block is in `blocks`, as texts."""
    docs, last = [], None
    for i, (book, text) in enumerate(verses):
        if i // BLOCK % PERIOD not in blocks:
            last = None
            continue
        if book != last:
            docs.append([])
        last = book
        docs[-1].append(text + "\n")
    return ["".join(d) for d in docs]


def train_tokenizer(texts):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCAB,
            special_tokens=[EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    assert tok.get_vocab_size() == VOCAB and tok.token_to_id(EOS) == 0
    return tok


def ids_of(tok, docs):
    """Each document after an end-of-text token."""
    ids = []
    for doc in docs:
        ids.append(0)
        ids += tok.encode(doc).ids
    return np.array(ids, np.uint16)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--work", type=pathlib.Path, default="build/train")
    ap.add_argument("--model", type=pathlib.Path, default=HERE.parent / "model")
    args = ap.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.model.mkdir(parents=True, exist_ok=True)

    verses = read_verses()
    every = set(range(PERIOD))
    train = documents(verses, every - {HELDOUT})
    heldout = "".join(documents(verses, {HELDOUT}))

    tok = train_tokenizer([line for d in train for line in d.splitlines(keepends=True)])
    tok.save(str(args.model / "tokenizer.json"), pretty=False)
    (args.model / "heldout.txt").write_bytes(heldout.encode())
    (args.work / "train.txt").write_bytes("\n".join(train).encode())

    parts = {
        "train": ids_of(tok, train),
        "fit": ids_of(tok, documents(verses, every - {HELDOUT, VAL})),
        # As the held-out text is read: one text, no end-of-text tokens in it.
        "val": np.array(tok.encode("".join(documents(verses, {VAL}))).ids, np.uint16),
        "heldout": np.array(tok.encode(heldout).ids, np.uint16),
    }
    assert tok.decode(parts["heldout"].tolist()) == heldout
    for name, ids in parts.items():
        np.save(args.work / f"{name}.npy", ids)
        print(f"{name}: {len(ids)} tokens")
    print(f"heldout: {len(heldout)} characters, {len(heldout) / len(parts['heldout']):.3f} a token")


if __name__ == "__main__":
    main()
