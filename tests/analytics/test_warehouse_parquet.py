"""Parquet files of a warehouse: documented, replaced as a whole, brought together without counting twice."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from opencode_recordings import unpack
from warehouses import conversation, held, written

from docs._scripts.warehouse import PAGE, renewed
from dspy_session.errors import FormatError, SourceNotFoundError, UnsupportedVersionError
from dspy_session.opencode.analytics._batches import STORED
from dspy_session.opencode.analytics.tables import FORM
from dspy_session.opencode.analytics.warehouse import Warehouse

THREE = [conversation("ses_1", 2), conversation("ses_2", 1), conversation("ses_3", 3)]


def of(tmp_path: Path, *conversations: object, name: str = "opencode.db") -> Warehouse:
    warehouse = Warehouse()
    warehouse.sync(written(tmp_path / name, *conversations))  # type: ignore[arg-type]
    return warehouse


def test_the_page_shows_the_tables_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page) == page, "`python -m docs._scripts.warehouse` writes the tables into the page"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("polars", reason="polars is not installed: `make test` runs the page with it")
    assert PAGE.name == "opencode-warehouse.md"
    path = unpack("v1.18.33", tmp_path)
    monkeypatch.setenv("OPENCODE_DB", str(path))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert isinstance(names["cost"], float)
    assert names["cost"] > 0


def test_files_have_the_documented_columns_and_say_what_they_are(tmp_path: Path) -> None:
    files = of(tmp_path, *THREE).to_parquet(tmp_path / "it's a [folder]")
    assert [file.name for file in files] == [f"{table.name}.parquet" for table in STORED]
    kinds = {"VARCHAR": "string", "JSON": "string", "BIGINT": "int64", "BOOLEAN": "bool", "DOUBLE": "double"}
    exports = set()
    for file, table in zip(files, STORED, strict=True):
        schema = pq.read_schema(file)
        assert tuple(schema.names) == table.names
        for column in table.columns:
            if column.type in kinds:
                assert str(schema.field(column.name).type) == kinds[column.type]
        told = {key.decode(): value.decode() for key, value in schema.metadata.items()}
        assert told["dspy_session.format"] == "1"
        assert told["dspy_session.form"] == str(FORM)
        assert told["dspy_session.table"] == table.name
        exports.add(told["dspy_session.export"])
    assert len(exports) == 1
    assert (
        str(pq.read_schema(tmp_path / "it's a [folder]" / "steps.parquet").field("created_at").type)
        == "timestamp[us]"
    )
    again = Warehouse.from_parquet(tmp_path / "it's a [folder]")
    assert len(again.query("SELECT * FROM sessions")) == 3


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    warehouse = Warehouse()
    path = unpack("v1.18.33", tmp_path)
    warehouse.sync(path)
    warehouse.to_parquet(tmp_path / "out")
    again = Warehouse.from_parquet(tmp_path / "out", path=tmp_path / "again.duckdb")
    assert held(again) == held(warehouse)
    assert again.skipped == warehouse.skipped
    assert again.sync(path).read == 0


@pytest.mark.parametrize("order", [("desk", "laptop"), ("laptop", "desk")])
def test_of_a_session_on_two_machines_the_newest_is_taken_once(
    order: tuple[str, str], tmp_path: Path
) -> None:
    desk = [conversation("ses_1", 1), conversation("ses_2", 2), conversation("only_desk", 1)]
    laptop = [conversation("ses_1", 3), conversation("ses_2", 2), conversation("only_laptop", 1)]
    of(tmp_path, *desk, name="desk.db").to_parquet(tmp_path / "fleet" / "desk")
    of(tmp_path, *laptop, name="laptop.db").to_parquet(tmp_path / "fleet" / "laptop")
    fleet = Warehouse.from_parquet(*(tmp_path / "fleet" / name for name in order))
    wanted = of(tmp_path, laptop[0], desk[1], desk[2], laptop[2], name="both.db")
    assert held(fleet, "origin") == held(wanted, "origin")
    assert fleet.query("SELECT sum(cost) AS dollars FROM steps") == [{"dollars": 0.25 * 7}]
    assert fleet.merge(tmp_path / "fleet") == 0
    with duckdb.connect() as plain:
        pattern = str(tmp_path / "fleet" / "*" / "sessions.parquet")
        (rows,) = plain.execute("SELECT count(*) FROM read_parquet(?)", [pattern]).fetchone() or (0,)
    assert rows == 6


def test_a_local_sync_goes_on_after_a_merge(tmp_path: Path) -> None:
    of(tmp_path, *THREE, name="elsewhere.db").to_parquet(tmp_path / "elsewhere")
    warehouse = Warehouse.from_parquet(tmp_path / "elsewhere")
    report = warehouse.sync(
        written(tmp_path / "opencode.db", conversation("ses_1", 5), conversation("ses_4", 1))
    )
    assert report.read == 2
    rows = warehouse.query("SELECT id, turn_count FROM sessions ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [("ses_1", 5), ("ses_2", 1), ("ses_3", 3), ("ses_4", 1)]


def test_readers_see_whole_files_while_others_take_their_place(tmp_path: Path) -> None:
    warehouse, over = of(tmp_path, *THREE), threading.Event()
    warehouse.to_parquet(tmp_path / "out")
    found: set[int] = set()

    def ask() -> None:
        while not over.is_set():
            found.add(pq.read_table(tmp_path / "out" / "parts.parquet").num_rows)

    reader = threading.Thread(target=ask)
    reader.start()
    for _ in range(5):
        warehouse.to_parquet(tmp_path / "out")
    over.set()
    reader.join()
    assert found == {42}
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".parquet"] * len(STORED)


def test_what_is_no_export_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    warehouse = of(tmp_path, *THREE)
    before = held(warehouse)
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nothing"):
        with pytest.raises(SourceNotFoundError, match="to_parquet"):
            warehouse.merge(place)
    other = of(tmp_path, conversation("ses_9", 1), name="other.db")
    other.to_parquet(tmp_path / "mixed")
    (tmp_path / "mixed" / "parts.parquet").unlink()
    (tmp_path / "mixed" / "parts.parquet").write_bytes(
        warehouse.to_parquet(tmp_path / "mine")[6].read_bytes()
    )
    with pytest.raises(FormatError, match="different exports"):
        warehouse.merge(tmp_path / "mixed")
    with duckdb.connect() as plain:
        plain.execute(
            f"COPY (SELECT 1 AS id) TO '{tmp_path / 'mixed' / 'sessions.parquet'}' (FORMAT parquet)"
        )
    with pytest.raises(FormatError, match="not written by"):
        warehouse.merge(tmp_path / "mixed")
    with duckdb.connect() as plain:
        plain.execute(
            f"COPY (SELECT 1 AS id) TO '{tmp_path / 'mixed' / 'sessions.parquet'}' (FORMAT parquet, "
            "KV_METADATA {\"dspy_session.format\": '99', \"dspy_session.form\": '1'})"
        )
    with pytest.raises(UnsupportedVersionError, match="newer release"):
        warehouse.merge(tmp_path / "mixed")
    assert held(warehouse) == before
