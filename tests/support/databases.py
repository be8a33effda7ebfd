"""Airflow's metadata database for each process that runs tests: made once, and copied."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

TEMPLATE = "airflow_template"


def make_database(shared: Path, url: str, server: str | None) -> None:
    """The database at ``url``, copied from a template that the first process makes.

    ``shared`` is a folder that all processes have. ``server`` is the URL of a PostgreSQL's own database, where there is
    one. On SQLite a database is a file.
    """
    with (shared / "database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if server:
            _copy_on_server(shared / "database.made", url, server)
        else:
            _copy_file(shared / "airflow.db", Path(url.removeprefix("sqlite:///")))


def _copy_file(template: Path, database: Path) -> None:
    if not template.exists():
        _migrate()
        shutil.copyfile(database, template)
    elif not database.exists():
        shutil.copyfile(template, database)


def _copy_on_server(made: Path, url: str, server: str) -> None:
    name = _name(url)
    if url == server:  # one process runs all tests
        _migrate()
    elif made.exists():
        _on_server(server, f"CREATE DATABASE {name} TEMPLATE {made.read_text()}")
    else:
        _on_server(server, f"CREATE DATABASE {name}")
        _migrate()
        _on_server(server, f"CREATE DATABASE {TEMPLATE} TEMPLATE {name}")
        made.write_text(TEMPLATE)


def _name(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


def _migrate() -> None:
    """As Airflow's users do. The environment names the database; coverage, which would be measured too, is left out."""
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _on_server(server: str, statement: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(server, isolation_level="AUTOCOMMIT")  # no database is made within a transaction
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
