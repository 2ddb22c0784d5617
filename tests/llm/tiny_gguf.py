"""A model of a few hundred kilobytes that llama.cpp really runs, made in a second.

It is a llama of one layer with random weights and a vocabulary that was learnt from the
text it will be asked about. It knows nothing, so whatever sense an answer has, the
grammar has put there.

The layout of the file is that of GGUF, version 3 (the ggml project's ``docs/gguf.md``):
header, typed keys and values, descriptions of tensors, and their data from a multiple
of 32 bytes on.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from guerdon.llm.weights import Parts, Weights

WIDTH = 32
HEADS = 2
HIDDEN = 64
LAYERS = 1
CONTEXT = 4096
NAME = "tiny"
FILENAME = "tiny.gguf"

_ALIGNMENT = 32
_F32 = 0
_SPACE = "\u2581"  # how this kind of tokenizer writes a space
_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


class U32(NamedTuple):
    """A number that is kept in 32 bits without a sign."""

    value: int


Value = U32 | float | str | bool | Sequence[str] | np.ndarray
Table = Mapping[str, np.ndarray]

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Kinds of tokens."""


class Vocabulary(NamedTuple):
    """Tokens with the score that their merging has, and their kinds."""

    tokens: list[str]
    scores: np.ndarray
    kinds: np.ndarray


def learn_vocabulary(text: str, merges: int) -> Vocabulary:
    """Byte tokens, the letters of a text, and its most frequent pairs of tokens.

    Args:
        text: what the model will have to read.
        merges: most pairs that become tokens.
    """
    letters = sorted(set(text.replace(" ", _SPACE)) - {"\n"})
    learnt = letters + _frequent_pairs(text, merges)
    special = ["<unk>", "<s>", "</s>"]
    tokens = special + [f"<0x{i:02X}>" for i in range(256)] + learnt
    kinds = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(learnt)
    # What was learnt first is merged first.
    scores = [0.0] * (3 + 256) + [-float(i) for i in range(len(learnt))]
    return Vocabulary(tokens, np.array(scores, np.float32), np.array(kinds, np.int32))


def _frequent_pairs(text: str, merges: int) -> list[str]:
    words = Counter(
        tuple(_SPACE + word) for line in text.splitlines() for word in line.split(" ")
    )
    found: list[str] = []
    for _ in range(merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        (left, right), times = min(pairs.items(), key=lambda p: (-p[1], p[0]))
        if times < 2:
            break
        found.append(left + right)
        merged: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            merged[_merge(word, left, right)] += count
        words = merged
    return list(dict.fromkeys(found))


def _merge(word: tuple[str, ...], left: str, right: str) -> tuple[str, ...]:
    out: list[str] = []
    for part in word:
        if out and out[-1] == left and part == right:
            out[-1] = left + right
        else:
            out.append(part)
    return tuple(out)


def _tensors(vocabulary: Vocabulary, seed: int) -> dict[str, np.ndarray]:
    """Random weights; shapes as (rows, columns), columns being the input."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.3, shape).astype(np.float32)

    size = len(vocabulary.tokens)
    embedding, output = normal(size, WIDTH), normal(size, WIDTH)
    # One direction is the same in every state and likes long tokens and the ends of
    # things, so that an answer is done within a few hundred tokens.
    embedding[:, 0] = 4.0
    output[:, 0] = [_liking(t) for t in vocabulary.tokens]
    tensors = {
        "token_embd.weight": embedding,
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "output.weight": output,
    }
    shapes = {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH)),
        **dict.fromkeys(("ffn_gate", "ffn_up"), (HIDDEN, WIDTH)),
        "ffn_down": (WIDTH, HIDDEN),
    }
    for i in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{i}.{name}.weight"] = np.ones(WIDTH, np.float32)
        for name, shape in shapes.items():
            tensors[f"blk.{i}.{name}.weight"] = 0.3 * normal(*shape)
    return tensors


def _liking(token: str) -> float:
    ends = token in ("<0x0A>", "_", '"')
    byte = token.startswith("<") and not ends
    return 1.0 if ends else -0.5 if byte else min(1.0, 0.15 * len(token))


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    """A value with its type in front."""
    if isinstance(value, U32):
        return struct.pack("<II", 4, value.value)
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, np.ndarray):
        kind = {"float32": 6, "int32": 5}[str(value.dtype)]
        return struct.pack("<IIQ", 9, kind, value.size) + value.tobytes()
    return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))


def pack(metadata: Mapping[str, Value], tensors: Table) -> bytes:
    """The bytes of a file."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += _text(key) + _value(value)
    data = b""
    for name, tensor in tensors.items():
        # The fastest dimension stands first.
        out += _text(name) + struct.pack("<I", tensor.ndim)
        out += struct.pack(f"<{tensor.ndim}Q", *reversed(tensor.shape))
        out += struct.pack("<IQ", _F32, len(data))
        data += _padded(tensor.astype("<f4").tobytes())
    return _padded(out) + data


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)


def write_tiny(
    folder: Path, text: Iterable[str] = (), *, merges: int = 300, seed: int = 0
) -> Weights:
    """Write ``tiny.gguf`` into a folder.

    Args:
        folder: where to.
        text: what the model will read; all of ASCII can be read without.
        merges: most tokens longer than a letter.
        seed: of the weights.

    Returns:
        What pins the file: its hash and its size.
    """
    ascii_letters = "".join(map(chr, range(32, 127)))
    vocabulary = learn_vocabulary("\n".join([ascii_letters, *text]), merges)
    size = len(vocabulary.tokens)
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "general.name": NAME,
        "llama.vocab_size": U32(size),
        "llama.context_length": U32(CONTEXT),
        "llama.embedding_length": U32(WIDTH),
        "llama.block_count": U32(LAYERS),
        "llama.feed_forward_length": U32(HIDDEN),
        "llama.attention.head_count": U32(HEADS),
        "llama.attention.head_count_kv": U32(HEADS),
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": U32(WIDTH // HEADS),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": vocabulary.tokens,
        "tokenizer.ggml.scores": vocabulary.scores,
        "tokenizer.ggml.token_type": vocabulary.kinds,
        "tokenizer.ggml.unknown_token_id": U32(0),
        "tokenizer.ggml.bos_token_id": U32(1),
        "tokenizer.ggml.eos_token_id": U32(2),
        "tokenizer.ggml.add_bos_token": True,
        # A server that decodes JSON reads the end of the template by its own grammar.
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": _TEMPLATE,
    }
    data = pack(metadata, _tensors(vocabulary, seed))
    (folder / FILENAME).write_bytes(data)
    return Weights(
        name=NAME,
        filename=FILENAME,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        licence="MIT",
        repository="none/none",
        parts=Parts("none-{i}", "0", 1, "none"),
        memory=1 << 26,
    )
