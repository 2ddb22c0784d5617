"""The reward search: propose, screen, score, reflect; by ask and tell."""

from guerdon.reward_design.search.archive import Archive
from guerdon.reward_design.search.bandit import Bandit
from guerdon.reward_design.search.bank import Bank, collect
from guerdon.reward_design.search.candidate import Proposal, Score, Trained
from guerdon.reward_design.search.distance import deduplicate, distances
from guerdon.reward_design.search.fit import Fitted, fit_params
from guerdon.reward_design.search.propose import Proposer
from guerdon.reward_design.search.screen import Screening, screen, screen_many
from guerdon.reward_design.search.search import Request, Search, SearchConfig

__all__ = [
    "Archive",
    "Bandit",
    "Bank",
    "Fitted",
    "Proposal",
    "Proposer",
    "Request",
    "Score",
    "Screening",
    "Search",
    "SearchConfig",
    "Trained",
    "collect",
    "deduplicate",
    "distances",
    "fit_params",
    "screen",
    "screen_many",
]
