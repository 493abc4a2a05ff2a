"""The tables in which a warehouse remembers what it is and what was synced into it."""

from __future__ import annotations

from dspy_session.opencode.analytics._table import table
from dspy_session.opencode.analytics.tables import TABLES

SYNCED = table(
    "synced",
    "What the sync remembers of each session, so that it is read again only after it changed.",
    "session_id",
    """
    session_id VARCHAR: the session
    source VARCHAR: the place that it was read from
    rank BIGINT: how much that kind of place is believed
    updated_at TIMESTAMP: when the session's head was last touched
    changed_at TIMESTAMP: the last change that was seen
    fingerprint VARCHAR: what tells that it changed; empty if it is to be read again
    form BIGINT: the form of the rows
    synced_at TIMESTAMP: when it was looked at
    """,
)

SKIPPED = table(
    "skipped",
    "What could not be read.",
    "session_id path place reason",
    """
    session_id VARCHAR: the session; NULL for a place that could not be read at all
    path VARCHAR: the file
    place VARCHAR: the row, message or part in it, where there is one
    reason VARCHAR: what is wrong with it
    """,
)

LOOKS = table(
    "looks",
    "Histories that were synced whole: nothing is listed again while they are as they were.",
    "history",
    """
    history VARCHAR: the places that it consists of
    changed_at TIMESTAMP: the last change that was seen
    fingerprint VARCHAR: what tells that something changed
    sessions BIGINT: the sessions in it
    form BIGINT: the form of the rows
    synced_at TIMESTAMP: when it was looked at
    """,
)

ABOUT = table(
    "about",
    "What the file is.",
    "name",
    """
    name VARCHAR: form
    value BIGINT: the form of the tables, raised with each change of their meaning
    """,
)

EVERY = (*TABLES, SYNCED, SKIPPED, LOOKS, ABOUT)
"""All tables of a warehouse."""
