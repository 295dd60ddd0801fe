"""What the pages need of curl, for machines that have none: run as `python -m tests.docs.curl`."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import httpx2


def main(arguments: Sequence[str], out: BinaryIO) -> None:
    """One request; its answer goes to `out`, or to the file of -o, as curl would write it."""
    parser = ArgumentParser(prog="curl", allow_abbrev=False)
    parser.add_argument("url")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-i", action="store_true")
    parser.add_argument("-N", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="data")
    parser.add_argument("-o", dest="file")
    parser.add_argument("-w", dest="format", default="")
    given = parser.parse_args(arguments)
    with httpx2.Client(trust_env=False, timeout=None) as http:
        answer = http.request(
            given.method or ("GET" if given.data is None else "POST"),
            given.url,
            headers=[tuple(header.split(": ", 1)) for header in given.headers],
            content=given.data,
        )
    head = f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}\r\n"
    head += "".join(f"{name.lower()}: {value}\r\n" for name, value in answer.headers.items())
    body = (head + "\r\n").encode() + answer.content if given.i else answer.content
    if given.file:
        Path(given.file).write_bytes(body)
    else:
        out.write(body)
    out.write(given.format.replace("%{http_code}", str(answer.status_code)).replace("\\n", "\n").encode())


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdout.buffer)
