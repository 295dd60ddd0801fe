"""The output of a batch: for each line of the input one in the form of OpenAI's Batch API, in the order of the input.

The file only grows, by whole lines that have reached the disk before the journal says so; what lies behind the
journal's last word is cut off at the next start and written again. When lines are tried again, the file is replaced
as a whole once they have ended.
"""

import json
import os
from pathlib import Path
from typing import BinaryIO

from pydantic import JsonValue

from cli.batch.journal import Journal, Written
from cli.batch.lines import Object
from cli.errors import CommandError
from cli.wire import Job

# Line ends to some readers of lines, though not to JSON.
_SEPARATORS = {ord(char): f"\\u{ord(char):04x}" for char in "\x7f\x85\u2028\u2029"}


def job_line(job: Job, custom_id: str) -> bytes:
    """What the output says of a job that has ended."""
    if job.status == "succeeded":
        answer: JsonValue = {"status_code": 200, "request_id": job.id, "body": job.result}
        return _line(job.id, custom_id, answer, None)
    error = job.error
    code = error.code if error else job.status
    message = error.message if error else f"the job was {job.status}"
    return _line(job.id, custom_id, None, {"code": code, "message": message})


def refused_line(number: int, custom_id: str, status: int, request_id: str | None, problem: Object) -> bytes:
    """What it says of a line that the service did not take."""
    answer: JsonValue = {"status_code": status, "request_id": request_id, "body": problem}
    code, detail = problem.get("code"), problem.get("detail")
    return _line(_no_job(number), custom_id, answer, {"code": code, "message": detail})


def gone_line(job_id: str, custom_id: str) -> bytes:
    """What it says of a job whose end nobody can tell any more."""
    message = "the service keeps no record of this job any longer; --retry-failed submits the line again"
    return _line(job_id, custom_id, None, {"code": "result_gone", "message": message})


def bad_line(number: int, custom_id: str, why: str) -> bytes:
    """What it says of a line that was never submitted."""
    error: JsonValue = {"code": "invalid_line", "message": f"line {number} {why}"}
    return _line(_no_job(number), custom_id, None, error)


def _no_job(number: int) -> str:
    return f"line_{number}"


def _line(id_: str, custom_id: str, response: JsonValue, error: JsonValue) -> bytes:
    value: JsonValue = {"id": id_, "custom_id": custom_id, "response": response, "error": error}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_SEPARATORS)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can hold and UTF-8 cannot.
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"


class Output:
    """The output file; `journal` says how much of it counts."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self._path = path
        self._beside = path.with_name(f"{path.name}.new")
        self._journal = journal
        self._written = journal.written
        self._file = self._opened()

    def _opened(self) -> BinaryIO:
        """Open at the end of what counts. Raises CommandError if that is not there."""
        self._end_replacement()
        try:
            # Made if it is not there, but never emptied.
            file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as error:
            raise CommandError(f"{self._path} cannot be written: {error.strerror}") from None
        if file.seek(0, os.SEEK_END) < self._written.size_bytes:
            file.close()
            raise CommandError(
                f"{self._path} has lost lines that were in it: bring it back, or begin anew without "
                f"it and {self._journal.path}"
            )
        file.truncate(self._written.size_bytes)
        file.seek(self._written.size_bytes)
        return file

    def close(self) -> None:
        """Closes the file as it is."""
        self._file.close()

    def grow(self) -> None:
        """Writes the lines whose turn it is, and commits the journal; all of it is on the disk then."""
        while lines := self._journal.finished_after(self._written.number):
            for _, line in lines:
                self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            behind = self._written.number
            self._written = Written(lines[-1][0], self._file.tell())
            self._journal.set_written(self._written, behind=behind)
            self._journal.commit()
        self._journal.commit()

    def replace(self) -> None:
        """Puts lines that were tried again, and have ended, in the place of those that were in the file."""
        if not self._journal.has_replacements(self._written.number):
            return
        self._file.seek(0)
        with self._beside.open("wb") as new:
            for replaced in self._journal.replaced(self._written.number):
                line = self._file.readline()
                new.write(line if replaced is None else replaced)
            new.flush()
            os.fsync(new.fileno())
            size_bytes = new.tell()
        # Should this process end here, it is seen by the other file's absence whether it took the place.
        self._journal.set_facts(replacing_bytes=str(size_bytes))
        self._journal.commit()
        self._file.close()
        self._beside.replace(self._path)
        _sync_folder(self._path)
        self._end_replacement()
        self._file = self._opened()

    def _end_replacement(self) -> None:
        """Remembers a replacement that took place, forgets one that did not."""
        size_bytes = self._journal.facts().get("replacing_bytes")
        if size_bytes is not None:
            if not self._beside.exists():
                self._written = Written(self._written.number, int(size_bytes))
                self._journal.set_written(self._written)
            self._journal.drop_facts("replacing_bytes")
            self._journal.commit()
        self._beside.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
