"""What the library costs, beside other libraries, as tables.

    python -m tests.benchmarks                            every suite; writes docs/explanation/performance.md
    python -m tests.benchmarks --only session,stores      some suites, printed only
    python -m tests.benchmarks --quick                    small sizes: that it works, not what it costs
    python -m tests.benchmarks --no-peers                 without installing other libraries

Other libraries are installed into environments of their own, `.venv-peers/` at the root of the repository, and
run there as processes (`peers.py`, `peer_scripts/`). `opencode stats` is measured if OPENCODE_BINARY names the
program. A suite runs in a process of its own: if it fails, the others and its own first tables are kept.

**A suite is a module of this package and its name in `SUITES` (`suites.py`).** The module has

- a docstring: its first line is the section's heading on the page, the rest the section's text. It says what is
  measured and how; what came out is for the tables to say, as prose must be true whatever comes out;
- `measure(run)`, a generator of what `report.py` defines: a `Table` as soon as it is measured, a `Missing` for
  what could not be, `Versions` of what was measured. `run.pick(full, quick)` chooses sizes. Titles and columns
  are the same for both, since a test compares the page with a quick run.
- `alone(measure)` under `if __name__ == "__main__"`, so that `python -m tests.benchmarks.NAME` works, too.

A table's `ratios` are what this library costs, divided by what a peer does. The page's first table shows those of
all suites, and which peers cost less.
"""
