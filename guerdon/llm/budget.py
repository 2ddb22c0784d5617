"""What a model costs, and a cap that holds while a search runs."""

from __future__ import annotations

import math
import re
import threading
from dataclasses import dataclass
from typing import NamedTuple

from guerdon.llm.client import Answer, Chat, ModelError, Request

PRICES_AS_OF = "2026-06"
"""Month in which ``PRICES`` were last compared with the source."""

PRICES_SOURCE = "https://developers.openai.com/api/docs/pricing"


class Price(NamedTuple):
    """US dollars for a million tokens, without discounts for cached prompts."""

    prompt: float
    completion: float

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Price of one call in US dollars.

        >>> Price(2.0, 8.0).usd(1_000_000, 500_000)
        6.0
        """
        paid = prompt_tokens * self.prompt + completion_tokens * self.completion
        return paid / 1e6


FREE = Price(0.0, 0.0)

PRICES: dict[str, Price] = {
    "gpt-5": Price(1.25, 10.00),
    "gpt-5-mini": Price(0.25, 2.00),
    "gpt-5-nano": Price(0.05, 0.40),
    "gpt-4.1": Price(2.00, 8.00),
    "gpt-4.1-mini": Price(0.40, 1.60),
    "gpt-4.1-nano": Price(0.10, 0.40),
    "gpt-4o": Price(2.50, 10.00),
    "gpt-4o-mini": Price(0.15, 0.60),
}
"""List prices of OpenAI's models; see ``PRICES_AS_OF`` and ``PRICES_SOURCE``."""

_DUST = 1e-9
"""US dollars that a sum of floats may be wrong by."""

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def find_price(model: str) -> Price | None:
    """Price of an OpenAI model, dated snapshots included; None when not known.

    >>> find_price("gpt-4o-mini-2024-07-18")
    Price(prompt=0.15, completion=0.6)
    >>> find_price("gpt-7") is None
    True
    """
    return PRICES.get(_DATED.sub("", model))


def count_tokens(text: str) -> int:
    """Roughly how many tokens a text has: a third of its UTF-8 bytes.

    English prose has about four bytes a token and code about three, so this errs
    upwards, which is the right side for a cap.

    >>> count_tokens("reward")
    2
    """
    return math.ceil(len(text.encode("utf-8", "replace")) / 3)


def prompt_size(request: Request) -> int:
    """Roughly how many tokens the conversation of a request has."""
    # A chat template puts a few marks around every turn.
    return sum(count_tokens(m.content) + 8 for m in request.messages)


MOST_TOKENS = 10_000_000
"""Tokens beyond which a reported number is absurd; no model's context is larger."""

_FEWEST = 16
"""Bytes of text that one token stands for at most, on average over a text."""


_LONGEST = 64
"""Bytes of text that no token exceeds on average, however the text is chosen."""


def could_have(text: str, tokens: int) -> bool:
    """Whether a text can be one of so many tokens.

    >>> could_have("a reward", 3), could_have("reward " * 100, 3)
    (True, False)
    """
    return len(text.encode("utf-8", "replace")) <= _LONGEST * tokens


def believable(reported: object, text: str, most: int = MOST_TOKENS) -> bool:
    """Whether a server's number of tokens can be that of a text.

    A number below the fewest that the text can have would let a cap be overrun, and
    one that is too large would use it up.

    >>> believable(5, "a reward"), believable(0, "a reward"), believable(True, "a")
    (True, False, False)
    """
    if type(reported) is not int:
        return False
    size = len(text.encode("utf-8", "replace"))
    return -(-size // _FEWEST) <= reported <= min(most, MOST_TOKENS)


class Cost(NamedTuple):
    """Tokens and money; ``usd`` is None where the price is not known."""

    tokens: int
    usd: float | None

    def __str__(self) -> str:
        money = "price unknown" if self.usd is None else f"${self.usd:.4f}"
        return f"{self.tokens:,} tokens, {money}"


def estimate(
    price: Price | None, *, requests: int, prompt_tokens: int, max_tokens: int
) -> Cost:
    """Most that a run will cost, before it starts.

    Args:
        price: of the model; None when it is not known.
        requests: how many requests the run makes.
        prompt_tokens: tokens of one prompt.
        max_tokens: most tokens of one answer.

    >>> print(estimate(FREE, requests=10, prompt_tokens=900, max_tokens=300))
    12,000 tokens, $0.0000
    """
    prompt, completion = requests * prompt_tokens, requests * max_tokens
    usd = None if price is None else price.usd(prompt, completion)
    return Cost(prompt + completion, usd)


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """A part of the budget that a call in flight may use up."""

    tokens: int
    usd: float


class Budget:
    """A cap on tokens and money that many threads share.

    A call first reserves the most that it can cost and then settles what it did cost,
    so calls in flight cannot overshoot together. Only a prompt that is longer than
    ``count_tokens`` believes can, by that difference and once.

    Args:
        tokens: most tokens, or None for no cap.
        usd: most US dollars, or None for no cap.
        spent: what earlier parts of a resumed run have used up.

    Raises:
        ValueError: for a cap that is negative or not finite.
    """

    def __init__(
        self,
        tokens: int | None = None,
        usd: float | None = None,
        *,
        spent: Cost | None = None,
    ) -> None:
        for name, cap in (("tokens", tokens), ("usd", usd)):
            if cap is not None and not (math.isfinite(cap) and cap >= 0):
                raise ValueError(f"budget {name}: expected a number >= 0, got {cap}")
        self.tokens = tokens
        self.usd = usd
        self._lock = threading.Lock()
        self._spent_tokens = 0 if spent is None else spent.tokens
        self._spent_usd = 0.0 if spent is None else spent.usd or 0.0
        self._open: set[Reservation] = set()

    @property
    def spent(self) -> Cost:
        """What is used up; calls of unknown price count no money."""
        with self._lock:
            return Cost(self._spent_tokens, self._spent_usd)

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left of a cap."""
        with self._lock:
            return (self.tokens is not None and self._spent_tokens >= self.tokens) or (
                self.usd is not None and 0 < self.usd <= self._spent_usd + _DUST
            )

    def reserve(self, cost: Cost) -> Reservation:
        """Set ``cost`` aside for a call.

        Raises:
            ModelError: kind ``budget``, when it would exceed the cap.
        """
        reservation = Reservation(cost.tokens, cost.usd or 0.0)
        with self._lock:
            tokens = self._spent_tokens + sum(r.tokens for r in self._open)
            usd = self._spent_usd + sum(r.usd for r in self._open)
            if self.tokens is not None and tokens + cost.tokens > self.tokens:
                raise ModelError(
                    f"the budget of {self.tokens:,} tokens has {self.tokens - tokens:,}"
                    f" left and the call may take {cost.tokens:,}",
                    "budget",
                )
            if self.usd is not None and usd + reservation.usd > self.usd + _DUST:
                raise ModelError(
                    f"the budget of ${self.usd:.2f} has ${self.usd - usd:.4f} left and "
                    f"the call may take ${reservation.usd:.4f}",
                    "budget",
                )
            self._open.add(reservation)
        return reservation

    def count(self, cost: Cost) -> None:
        """Add what was spent before, by a call that nobody reserved anything for."""
        with self._lock:
            self._spent_tokens += cost.tokens
            self._spent_usd += cost.usd or 0.0

    def spend(self, reservation: Reservation, cost: Cost) -> None:
        """Settle a reservation with what the call did cost.

        Raises:
            ValueError: when the reservation was settled before.
        """
        with self._lock:
            if reservation not in self._open:
                raise ValueError("budget: this reservation was settled before")
            self._open.remove(reservation)
            self._spent_tokens += cost.tokens
            self._spent_usd += cost.usd or 0.0


class Metered:
    """A chat whose calls are paid from a budget, failed ones included.

    Args:
        chat: what answers.
        budget: what pays.
        price: what the model costs, or None when that is not known.

    Raises:
        ValueError: for a cap in dollars that cannot be kept, because the price is not
            known.
    """

    def __init__(self, chat: Chat, budget: Budget, price: Price | None) -> None:
        if price is None and budget.usd is not None:
            raise ValueError(
                f"budget: a cap of ${budget.usd:.2f} cannot be kept, because the price "
                f"of {chat.model!r} is not known; cap the tokens instead, or say what "
                "a million tokens cost with price=Price(prompt, completion)"
            )
        self._chat = chat
        self._budget = budget
        self._price = price

    @property
    def model(self) -> str:
        """Identity of the model."""
        return self._chat.model

    def chat(self, request: Request) -> Answer:
        """Answer one request from the budget.

        Raises:
            ModelError: kind ``budget`` before a call that would exceed it.
        """
        size = prompt_size(request)
        reservation = self._budget.reserve(self._cost(size, request.max_tokens))
        cost = self._cost(0, 0)
        try:
            answer = self._chat.chat(request)
            cost = Cost(answer.tokens, answer.usd)
        except ModelError as error:
            cost = self._cost(error.prompt_tokens, error.completion_tokens)
            error.usd = cost.usd
            raise
        finally:
            self._budget.spend(reservation, cost)
        return answer

    def close(self) -> None:
        """Close the chat inside."""
        self._chat.close()

    def _cost(self, prompt: int, completion: int) -> Cost:
        usd = None if self._price is None else self._price.usd(prompt, completion)
        return Cost(prompt + completion, usd)
