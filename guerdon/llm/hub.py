"""Weights from the hub: one file over HTTP."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from guerdon.llm.weights import (
    HUB,
    FetchError,
    Progress,
    Weights,
    is_right,
    partial_of,
    rejected,
)

SILENCE = 10.0
"""Seconds without a byte after which a download is given up."""

_CHUNK = 1 << 20


def from_hub(
    weights: Weights, folder: Path, hub: str = HUB, progress: Progress | None = None
) -> Path:
    """Download a file from the hub, going on where an earlier try stopped.

    Raises:
        FetchError: when the hub cannot be reached (``unreachable``), or sent other
            bytes.
    """
    url = f"{hub}/{weights.repository}/resolve/main/{weights.filename}"
    partial = partial_of(folder / weights.filename)
    have = partial.stat().st_size if partial.exists() else 0
    if have >= weights.size:
        partial.unlink()
        have = 0
    headers = {"User-Agent": "guerdon"}
    if have:
        headers["Range"] = f"bytes={have}-"
    have = _download(
        urllib.request.Request(url, headers=headers), have, weights, partial, progress
    )
    if have < weights.size:
        raise FetchError(f"{url} ended after {have} of {weights.size} bytes")
    if not is_right(partial, weights):
        os.replace(partial, rejected(folder / weights.filename))
        raise FetchError(f"{url} has another hash; kept as {weights.filename}.rejected")
    os.replace(partial, folder / weights.filename)
    return folder / weights.filename


def _download(
    request: urllib.request.Request,
    have: int,
    weights: Weights,
    partial: Path,
    progress: Progress | None,
) -> int:
    """Bytes that there are then; one byte too many ends it."""
    answered = False
    try:
        with urllib.request.urlopen(request, timeout=SILENCE) as response:
            answered = True
            if response.status != 206:
                have = 0
            with partial.open("ab" if have else "wb") as file:
                for chunk in iter(lambda: response.read(_CHUNK), b""):
                    have += len(chunk)
                    if have > weights.size:
                        break
                    file.write(chunk)
                    if progress is not None:
                        progress(have, weights.size)
    except urllib.error.HTTPError as error:
        error.close()
        said = f"HTTP {error.code}: {error.reason}"
        raise FetchError(f"{request.full_url} failed ({said})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        # Bytes that stopped coming are half an answer; what is no HTTP, too.
        silent = not answered and isinstance(error, OSError)
        raise FetchError(
            f"{request.full_url} failed ({reason})", unreachable=silent
        ) from None
    return have
