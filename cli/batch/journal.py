"""What is remembered of a batch between two starts: a small SQLite file beside the output, `OUTPUT.state`.

One row for each line of the input. `new` → `submitted` (`job` is its id) → `succeeded` or `failed`; `bad` lines are
never submitted. `output` is the line that came of it, until it is in the output file. A change is safe when `commit`
has returned; whatever was done since the last one is done again, and comes to the same: submissions have their
Idempotency-Key, and the output file is cut back to what is committed.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from cli.errors import CommandError

PAGE = 500
"""Lines that are to be submitted, held in memory at once."""
OUTPUTS = 50
"""Lines of the output, which may be long, held in memory at once."""

End = Literal["succeeded", "failed", "bad"]

_TABLES = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE line (
  number INTEGER PRIMARY KEY, at INTEGER NOT NULL, custom_id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0, job TEXT, tokens INTEGER NOT NULL DEFAULT 0, cost_usd REAL NOT NULL DEFAULT 0,
  output BLOB
);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line that is to be submitted; `at` is its place in the input, in bytes."""

    number: int
    at: int
    tries: int


@dataclass(frozen=True, slots=True)
class Written:
    """How far the output file is: up to which line of the input, and how many bytes that makes."""

    number: int = 0
    size_bytes: int = 0


@dataclass(slots=True)
class Sums:
    """What has become of the lines so far. Tokens and estimated dollars are those of the jobs that ended."""

    lines: int = 0
    succeeded: int = 0
    failed: int = 0
    bad: int = 0
    tokens: int = 0
    cost_usd: float = 0.0

    @property
    def ended(self) -> int:
        """Lines for which nothing is left to be done."""
        return self.succeeded + self.failed + self.bad


class DuplicateIdError(ValueError):
    """Two lines with one custom_id; `first` is the number of the other one."""

    def __init__(self, first: int) -> None:
        super().__init__(f"line {first} has this custom_id already")
        self.first = first


class Journal:
    """The file, locked for this process until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, timeout=0)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the file, makes it if it is not there. Raises CommandError, also if another process has it."""
        journal = cls(path)
        try:
            journal._prepare()
        except sqlite3.OperationalError as error:
            journal.close()
            if "locked" in str(error):
                raise CommandError(
                    f"another penstock batch is at work on this output ({path} is locked)"
                ) from None
            raise CommandError(f"{path} cannot be used: {error}") from None
        except sqlite3.DatabaseError as error:
            journal.close()
            raise CommandError(f"{path} is no state of a batch: {error}") from None
        return journal

    def _prepare(self) -> None:
        for setting in ("locking_mode=EXCLUSIVE", "journal_mode=DELETE", "synchronous=FULL"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("BEGIN EXCLUSIVE")
        if not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            for statement in _TABLES.split(";\n"):
                self._db.execute(statement)
        self._db.execute("SELECT value FROM fact").fetchone()
        self._db.commit()

    def close(self) -> None:
        """Lets go of the file; what was not committed is forgotten."""
        self._db.close()

    def commit(self) -> None:
        """Everything up to here is on the disk when this returns."""
        self._db.commit()

    def facts(self) -> dict[str, str]:
        """What the batch was begun with; empty for a new one."""
        rows: Iterable[tuple[str, str]] = self._db.execute("SELECT name, value FROM fact")
        return dict(rows)

    def set_facts(self, **facts: str) -> None:
        """Remembers them, over those of the same names."""
        self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", facts.items())

    def drop_facts(self, *names: str) -> None:
        """Forgets them."""
        self._db.executemany("DELETE FROM fact WHERE name = ?", ((name,) for name in names))

    def add(self, number: int, at: int, custom_id: str, *, bad: bytes | None = None) -> None:
        """A line of the input; `bad`: it cannot be submitted, and this is what the output says of it.

        Raises DuplicateIdError.
        """
        try:
            self._db.execute(
                "INSERT INTO line (number, at, custom_id, state, output) VALUES (?, ?, ?, ?, ?)",
                (number, at, custom_id, "new" if bad is None else "bad", bad),
            )
        except sqlite3.IntegrityError:
            row = self._db.execute("SELECT number FROM line WHERE custom_id = ?", (custom_id,)).fetchone()
            raise DuplicateIdError(row[0]) from None

    def waiting(self) -> Iterator[Waiting]:
        """The lines that are to be submitted, in their order; each is told once."""
        last = 0
        while rows := self._db.execute(
            "SELECT number, at, tries FROM line WHERE state = 'new' AND number > ? ORDER BY number LIMIT ?",
            (last, PAGE),
        ).fetchall():
            for row in rows:
                last = row[0]
                yield Waiting(*row)

    def submitted(self, number: int, job: str) -> None:
        """The line has become a job."""
        self._db.execute("UPDATE line SET state = 'submitted', job = ? WHERE number = ?", (job, number))

    def jobs(self) -> dict[str, int]:
        """The jobs whose end is not known, with the numbers of their lines."""
        rows: Iterable[tuple[str, int]] = self._db.execute(
            "SELECT job, number FROM line WHERE state = 'submitted'"
        )
        return dict(rows)

    def custom_id(self, number: int) -> str:
        """Of a line."""
        row: tuple[str] = self._db.execute(
            "SELECT custom_id FROM line WHERE number = ?", (number,)
        ).fetchone()
        return row[0]

    def ended(
        self, number: int, state: End, output: bytes, *, tokens: int = 0, cost_usd: float = 0.0
    ) -> None:
        """The line has come to its end, and this is its line of the output."""
        self._db.execute(
            "UPDATE line SET state = ?, output = ?, tokens = tokens + ?, cost_usd = cost_usd + ? WHERE number = ?",
            (state, output, tokens, cost_usd, number),
        )

    def again(self) -> int:
        """All failed lines are to be submitted once more, as other jobs. Returns how many there are."""
        return self._db.execute(
            "UPDATE line SET state = 'new', tries = tries + 1, job = NULL, output = NULL WHERE state = 'failed'"
        ).rowcount

    def sums(self) -> Sums:
        """Counted over all lines."""
        found = Sums()
        for state, lines, tokens, cost_usd in self._db.execute(
            "SELECT state, count(*), sum(tokens), sum(cost_usd) FROM line GROUP BY state"
        ):
            found.lines += lines
            found.tokens += tokens
            found.cost_usd += cost_usd
            if state in ("succeeded", "failed", "bad"):
                setattr(found, state, lines)
        return found

    @property
    def written(self) -> Written:
        """How far the output file is."""
        facts = self.facts()
        return Written(int(facts.get("written", 0)), int(facts.get("written_bytes", 0)))

    def set_written(self, written: Written, *, behind: int = 0) -> None:
        """The output file is so far, and what it holds of the lines behind number `behind` need not be kept here."""
        self.set_facts(written=str(written.number), written_bytes=str(written.size_bytes))
        self._db.execute(
            "UPDATE line SET output = NULL WHERE number > ? AND number <= ? AND output IS NOT NULL",
            (behind, written.number),
        )

    def finished_after(self, number: int) -> list[tuple[int, bytes]]:
        """The next lines behind `number`, with what the output says of each, up to the first that has not ended."""
        found: list[tuple[int, bytes]] = []
        for row in self._db.execute(
            "SELECT number, output FROM line WHERE number > ? ORDER BY number LIMIT ?", (number, OUTPUTS)
        ):
            if row[1] is None:
                break
            found.append(row)
        return found

    def replaced(self, upto: int) -> Iterator[bytes | None]:
        """For each line up to number `upto`, what takes the place of its line in the output file."""
        last = 0
        while rows := self._db.execute(
            "SELECT number, output FROM line WHERE number > ? AND number <= ? ORDER BY number LIMIT ?",
            (last, upto, OUTPUTS),
        ).fetchall():
            for number, output in rows:
                last = number
                yield output

    def has_replacements(self, upto: int) -> bool:
        """Whether any line up to number `upto` has another output than the file."""
        found = self._db.execute(
            "SELECT 1 FROM line WHERE number <= ? AND output IS NOT NULL LIMIT 1", (upto,)
        ).fetchone()
        return found is not None
