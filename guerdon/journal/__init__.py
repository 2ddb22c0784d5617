"""The journal: one SQLite file per run folder, so that nothing is paid for twice.

Every call of a language model, candidate, training and event is one row, written in
one transaction, and never changed afterwards. A run that was killed at any moment
goes on from what stands here.

    with Journal.open_or_create(folder, config) as journal:
        if journal.call(key) is None:
            journal.add_call(CallRecord(key=key, model=model, answer=ask(model)))
"""

from guerdon.journal.file import JournalBusy, JournalError
from guerdon.journal.journal import Journal
from guerdon.journal.records import (
    CallRecord,
    CandidateRecord,
    EventRecord,
    Purpose,
    RoundRecord,
    Totals,
    TrainingRecord,
    canonical,
    furthest,
)

__all__ = [
    "CallRecord",
    "CandidateRecord",
    "EventRecord",
    "Journal",
    "JournalBusy",
    "JournalError",
    "Purpose",
    "RoundRecord",
    "Totals",
    "TrainingRecord",
    "canonical",
    "furthest",
]
