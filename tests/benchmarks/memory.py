"""Many users of one `with_memory` app, beside the same without a library and the published `dspy-session`.

One process for each, one event loop, 200 users at a time, each with a state of his own that is bound for each of
his two calls. The model answers at once, so that all time is DSPy's and the library's. Contestants take turns.
With the published package each user has a fork of one session. By hand is DSPy with a `dspy.History` for each user
and predictor, passed on and appended to. The bare program is given no history: what it lacks is what rendering a
history costs. With `two nodes` the program has two predictors; in this library's app each has a memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.peers import BARE, HERE, OURS, PUBLISHED, Contest, columns, contest, over
from tests.benchmarks.report import Item, Ratio, Table
from tests.benchmarks.suites import Run, alone

BY_HAND, PROGRAM, THEIRS = "DSPy by hand", "bare program", "published dspy-session"
NAMES = (OURS, BY_HAND, PROGRAM, THEIRS)
CONTESTANTS = {
    OURS: (HERE, "app"),
    BY_HAND: (BARE, "hand"),
    PROGRAM: (BARE, "bare"),
    THEIRS: (PUBLISHED, "forks"),
}
PROGRAMS = ("one predictor", "two nodes")


def measure(run: Run) -> Iterator[Item]:
    with contest("users", CONTESTANTS, others=run.peers) as users:
        yield throughput(users, run)
        yield weights(users, run.pick((100, 500), (10, 20)))
        yield from users.report()


def throughput(users: Contest, run: Run) -> Table:
    rows, ratios = [], []
    for program in PROGRAMS:
        for count in run.pick((200, 2_000), (20,)):
            found = users.in_turns(
                "serve", seconds=0.0, least=run.pick(3, 1), warm=0, program=program, users=count
            )
            shares = over(found)
            speeds = [1 / taken if (taken := found.get(name)) else None for name in NAMES]
            rows.append([program, count, *speeds, *(shares.get(name) for name in NAMES[1:])])
            what = f"a turn of an app of {program}, {count:,} users"
            ratios += [Ratio(what, name, value) for name, value in shares.items()]
    shares_of = (f"time ÷ that of {name}|.2f" for name in NAMES[1:])
    return Table(
        "Serving users",
        ["program", "users|,", *columns(NAMES, "turns a second", ",.0f"), *shares_of],
        rows,
        [
            "A speed that does not depend on the number of users means that a state costs nothing until it is bound."
        ],
        ratios,
    )


def weights(users: Contest, counts: tuple[int, ...]) -> Table:
    rows, ratios = [], []
    names = (OURS, BY_HAND, THEIRS)
    if bare := users.peers.pop(PROGRAM, None):
        # It keeps nothing.
        bare.close()
    for program in PROGRAMS:
        for count in counts:
            found = users.each("weigh", program=program, users=count)
            shares = over(found)
            rows.append(
                [
                    program,
                    count,
                    *(found.get(name) for name in names),
                    *(shares.get(name) for name in names[1:]),
                ]
            )
            what = f"memory of a user of an app of {program}, {count:,} users"
            ratios += [Ratio(what, name, value) for name, value in shares.items()]
    return Table(
        "Memory of a user",
        ["program", "users|,", *columns(names, "bytes", ",.0f"), *(f"÷ {name}|.2f" for name in names[1:])],
        rows,
        [],
        ratios,
    )


if __name__ == "__main__":
    alone(measure)
