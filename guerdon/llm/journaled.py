"""A chat whose every call is in the journal: nothing is bought twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast, get_args

from guerdon.journal import CallRecord, Journal
from guerdon.llm.client import Answer, Chat, ErrorKind, ModelError, Request


class Journaled:
    """Answers from the journal where it can, and records what it must ask.

    A call that failed is a failure again when the run is resumed, so that a resumed
    run takes the same way as the one that was interrupted.

    Args:
        chat: what answers.
        journal: of the run.
        told: told every answer, new or from the journal.
        shared_cache: the chat has a cache that other runs fill too; what comes from
            there cost this run nothing.
    """

    def __init__(
        self,
        chat: Chat,
        journal: Journal,
        told: Callable[[Answer], None] = lambda answer: None,
        *,
        shared_cache: bool = False,
    ) -> None:
        self._shared_cache = shared_cache
        self._chat = chat
        self._told = told
        self._closed = False
        self._journal = journal
        self._failed = {
            call.key: call.failure
            for call in journal.calls()
            if call.failure is not None
        }

    @property
    def model(self) -> str:
        """Identity of the model."""
        return self._chat.model

    def chat(self, request: Request) -> Answer:
        """Answer one request, from the journal if it stands there.

        Raises:
            ModelError: when there is no usable answer, now or when it was asked.
        """
        key = request.key(self.model)
        known = self._journal.call(key)
        if known is not None and known.answer is not None:
            answer = Answer(
                text=known.answer,
                prompt_tokens=known.prompt_tokens or 0,
                completion_tokens=known.completion_tokens or 0,
                usd=known.usd,
                seconds=known.seconds or 0.0,
                model=known.model,
                cached=True,
            )
            self._told(answer)
            return answer
        if key in self._failed:
            raise _failure(self._failed[key] or "")
        started = time.perf_counter()
        try:
            answer = self._chat.chat(request)
        except ModelError as error:
            if self._closed:
                raise
            self._record_failure(key, request, error, time.perf_counter() - started)
            raise
        if answer.cached and self._shared_cache:
            answer = replace(answer, prompt_tokens=0, completion_tokens=0, usd=0.0)
        self._journal.add_call(
            CallRecord(
                key=key,
                model=self.model,
                request=request.as_json(),
                answer=answer.text,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
                usd=answer.usd,
                seconds=answer.seconds,
            )
        )
        self._told(answer)
        return answer

    def _record_failure(
        self, key: str, request: Request, error: ModelError, seconds: float
    ) -> None:
        self._journal.add_call(
            CallRecord(
                key=key,
                model=self.model,
                request=request.as_json(),
                prompt_tokens=error.prompt_tokens,
                completion_tokens=error.completion_tokens,
                seconds=seconds,
                failure=str(error),
            )
        )

    def close(self) -> None:
        """Close the chat inside; a call that this breaks off is not recorded."""
        self._closed = True
        self._chat.close()


def _failure(text: str) -> ModelError:
    """The error that was recorded as ``kind: message``."""
    kind, _, message = text.partition(": ")
    if kind not in get_args(ErrorKind):
        return ModelError(text, "server")
    return ModelError(message, cast(ErrorKind, kind))
