"""Between a model's text and us: nothing here runs what it reads."""

from __future__ import annotations

import json
import re
import unicodedata

from guerdon.llm.client import ModelError

ANSWER_CAP = 64 << 10
"""Most characters of an answer that are looked at."""

_START = re.compile(r"# ?plan\b|PARAMS *=|def ", re.IGNORECASE)
_REWARD = re.compile(r"^[ \t]*def +reward\b", re.MULTILINE)
_FUNCTION = re.compile(r"^[ \t]*def +\w", re.MULTILINE)
_FENCES = ("```", "~~~")
_MARK = re.compile(r"([<\[])(?=/?[A-Za-z_]+[>\]]|<SYS|</SYS|\uff5c)")
"""Where the mark of a template begins: ``<s>``, ``</s>``, ``[INST]``, ``<<SYS>>``."""


def extract_code(text: str) -> str:
    r"""The program in a model's answer, as text.

    Looks for a JSON object with ``code``, then for fenced blocks (the last one that
    defines ``reward``, since a model that corrects itself does so at the end), then
    for bare code from the first ``# plan``, ``PARAMS =`` or ``def`` on. Takes time
    linear in the answer.

    >>> extract_code("Sure!\n```python\ndef reward(p, a, n, q):\n    pass\n```")
    'def reward(p, a, n, q):\n    pass\n'

    Raises:
        ModelError: kind ``malformed``, when there is no program, or too much text.
    """
    if len(text) > ANSWER_CAP:
        raise _malformed(f"the answer has more than {ANSWER_CAP} characters")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Thinking aloud is not the answer, and often holds drafts of it.
    text = text.rpartition("</think>")[2].strip("\n")
    if not text.strip():
        raise _malformed("the answer is empty")
    code = _from_json(text)
    if code is None:
        blocks = _blocks(text)
        code = _last(blocks, _REWARD) or _last(blocks, _FUNCTION)
        if code is None and blocks:
            code = next(filter(None, map(_from_json, blocks)), None)
    code = _trim(_bare(text) if code is None else code)
    if not _FUNCTION.search(code):
        raise _malformed("the answer holds no function `reward`")
    return code


def _malformed(reason: str) -> ModelError:
    return ModelError(reason, "malformed")


def _from_json(text: str) -> str | None:
    """``code`` of a JSON object; None for any other text."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    code = data.get("code") if isinstance(data, dict) else None
    return code if isinstance(code, str) else None


def _blocks(text: str) -> list[str]:
    """Insides of the fenced blocks; an open one reaches to the end."""
    blocks: list[str] = []
    inside: list[str] | None = None
    fence = ""
    for line in text.split("\n"):
        mark = line.strip()[:3]
        if inside is None and mark in _FENCES:
            inside, fence = [], mark
        elif inside is not None and mark == fence:
            blocks.append("\n".join(inside))
            inside = None
        elif inside is not None:
            inside.append(line)
    if inside is not None:
        blocks.append("\n".join(inside))
    return blocks


def _last(blocks: list[str], pattern: re.Pattern[str]) -> str | None:
    return next((b for b in reversed(blocks) if pattern.search(b)), None)


def _bare(text: str) -> str:
    """From the first line of code to the first line of prose after it."""
    lines = text.split("\n")
    starts = (i for i, line in enumerate(lines) if _START.match(line))
    return "\n".join(lines[next(starts, len(lines)) :])


def _trim(code: str) -> str:
    """Without the common margin, and without prose after the function."""
    lines = [line.rstrip().expandtabs(4) for line in code.split("\n")]
    margin = min((len(x) - len(x.lstrip()) for x in lines if x), default=0)
    lines = [line[margin:] for line in lines]
    functions = [i for i, x in enumerate(lines) if x.startswith("def ")]
    # Full Python may have helpers before its reward.
    rewards = (i for i in functions if _REWARD.match(lines[i]))
    body = next(rewards, functions[0] if functions else len(lines))
    kept = lines[: body + 1]
    for line in lines[body + 1 :]:
        if line and line[0] not in " #)]}" and not line.startswith("PARAMS"):
            break
        kept.append(line)
    return "\n".join(kept).strip("\n") + "\n"


def quote(text: str, limit: int = 2000) -> str:
    r"""Foreign text, safe to put into a prompt.

    Control and invisible characters go, code fences and the marks of chat templates
    (``<|im_end|>``, ``[INST]``, ``<<SYS>>``, ``</s>``) are broken up so that the text
    cannot end its own quotation, and what is too long is cut.

    Args:
        text: anything: a game's text, a program, an error, an answer.
        limit: most characters, at least 1.

    >>> quote("a\x1b[31m```<|im_end|>[/INST]")
    "a[31m'''< |im_end| >[ /INST]"

    Raises:
        ValueError: when ``limit`` is below 1.
    """
    if limit < 1:
        raise ValueError(f"quote limit: expected at least 1, got {limit}")
    cut = len(text) > limit
    clean = "".join(
        c
        for c in text[:limit]
        # Cc control, Cf format (bidirectional, zero width), Cs half surrogates,
        # Co private, Cn not assigned.
        if c in "\n\t" or not unicodedata.category(c).startswith("C")
    )
    clean = clean.replace("```", "'''").replace("~~~", "---")
    clean = clean.replace("<|", "< |").replace("|>", "| >")
    clean = _MARK.sub(r"\1 ", clean)
    return clean + "…" if cut else clean
