"""A chat whose every call is in the journal: nothing is bought twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast, get_args

from guerdon.journal import CallRecord, Journal
from guerdon.llm.budget import Budget, Cost
from guerdon.llm.client import Answer, Chat, ErrorKind, ModelError, Request

AGAIN = "asked again after "
"""How the failure of a call begins that was repeated, so that it decides nothing."""

Note = Callable[[str, dict[str, Any]], None]
"""Told ``(kind, data)`` of what is worth an event of the run."""


class Relay:
    """The watch of a chat whose journal comes later."""

    def __init__(self) -> None:
        self.to: Journaled | None = None

    def again(self, request: Request, error: ModelError, seconds: float) -> None:
        """A call failed and will be repeated."""
        if self.to is not None:
            self.to.again(request, error, seconds)

    def breaker(self, is_open: bool, reason: str) -> None:
        """The endpoint is left alone from now on, or answers again."""
        if self.to is not None:
            self.to.breaker(is_open, reason)


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
        note: told ``model_down`` with a reason when the endpoint is left alone, and
            ``model_up`` when it answers again.
        relay: of the chat inside; every call that it repeats is recorded too.
        budget: of the run. An answer that was bought, but not recorded before the run
            was killed, comes from the run's own cache, and is paid for here.
    """

    def __init__(
        self,
        chat: Chat,
        journal: Journal,
        told: Callable[[Answer], None] = lambda answer: None,
        *,
        shared_cache: bool = False,
        note: Note = lambda kind, data: None,
        relay: Relay | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._shared_cache = shared_cache
        self._budget = budget
        self._note = note
        if relay is not None:
            relay.to = self
        self._chat = chat
        self._told = told
        self._closed = False
        self._journal = journal
        self._failed = {
            call.key: call.failure
            for call in journal.calls()
            if call.failure is not None and not call.failure.startswith(AGAIN)
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
            self._record_failure(request, error, time.perf_counter() - started)
            raise
        # As the journal gives it back: a resumed run must read the same text.
        text = answer.text.encode("utf-8", "backslashreplace").decode()
        answer = replace(answer, text=text)
        if answer.cached and self._shared_cache:
            answer = replace(answer, prompt_tokens=0, completion_tokens=0, usd=0.0)
        elif answer.cached and self._budget is not None:
            self._budget.count(Cost(answer.tokens, answer.usd))
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

    def again(self, request: Request, error: ModelError, seconds: float) -> None:
        """Record a call that failed and will be repeated: it may have cost something.

        A run that is killed before the repetition asks anew.
        """
        if not self._closed:
            self._record_failure(request, error, seconds, AGAIN)

    def breaker(self, is_open: bool, reason: str) -> None:
        """Pass on that the endpoint is left alone, or answers again."""
        if not self._closed:
            self._note("model_down" if is_open else "model_up", {"reason": reason})

    def _record_failure(
        self, request: Request, error: ModelError, seconds: float, how: str = ""
    ) -> None:
        self._journal.add_call(
            CallRecord(
                key=request.key(self.model),
                model=self.model,
                request=request.as_json(),
                prompt_tokens=error.prompt_tokens,
                completion_tokens=error.completion_tokens,
                usd=error.usd,
                seconds=seconds,
                failure=f"{how}{error}",
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
