"""What the fuzzer does to cases that were fine: to a value anywhere in a JSON body, and to a request's bytes."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any, Final

from tests.fuzz.rig import Asked


def _nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


STRANGE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2, 5.0, 1.5, -0.0, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(10**19), 1e308, 5e-324,
    "", " ", "5", "true", "null", "\x00", "a\nb", "\u202e", "😀", "é" * 100, "a" * 300, "x" * 5_000, " " * 5_000,
    "../../x", "a:b", "{}", "{x}", "*", "%00", "users", "config:tier:free", "<|endoftext|>", "<script>", "'; DROP",
    "$(id)", "${x}", "EVAL", "\r\nx-y: z", "http://169.254.169.254/", "https://example.com/hook", "m", "small", "gpt",
    [], {}, [[]], [None], [{}], {"": None}, {"__proto__": {}}, {"role": "user"}, list(range(50)), ["user"] * 300,
    {str(number): number for number in range(80)}, _nested(20), _nested(31), _nested(33), _nested(100),
)  # fmt: skip
NAMES: Final = (
    "api_base", "api_key", "base_url", "extra_headers", "Extra-Headers", "timeout", "aws_region", "stream", "n", "seed",
    "max_tokens", "max_completion_tokens", "model", "messages", "tools", "metadata", "not_before", "webhook_url",
    "priority", "on_budget", "retry", "expires_after", "custom_id", "user", "tier", "overrides", "scopes", "overlap_s",
    "weight", "tokens_per_day", "a/b~c", "", "💥", "constructor", "x" * 200,
)  # fmt: skip

Place = tuple[dict[str, Any] | list[Any], Any]


def changed(body: Any, other: Any, random: Random) -> Any:
    """The body with one to three of its values replaced, left out, added, doubled, wrapped, or taken from another."""
    whole = {"body": copy.deepcopy(body)}
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(whole))
        holder, step = random.choice(places)
        _change(holder, step, other, random)
    return whole.get("body")


def _places(value: dict[str, Any] | list[Any]) -> Iterator[Place]:
    steps = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for step, inner in steps:
        yield value, step
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _change(holder: Any, step: Any, other: Any, random: Random) -> None:
    value = holder[step]
    match random.randrange(7):
        case 0 if step != "body":
            del holder[step]
        case 1 if isinstance(value, dict):
            value[random.choice(NAMES)] = copy.deepcopy(random.choice(STRANGE))
        case 1 if isinstance(value, list):
            value.append(copy.deepcopy(random.choice(STRANGE)))
        case 2 if isinstance(value, list):
            value.extend(copy.deepcopy(value))
        case 3:
            holder[step] = [value]
        case 4 if isinstance(other, dict) and other:
            holder[step] = copy.deepcopy(other[random.choice(list(other))])
        case 5 if isinstance(value, str):
            holder[step] = value + str(random.choice(STRANGE))
        case _:
            holder[step] = copy.deepcopy(random.choice(STRANGE))


Mutation = Callable[[Asked, Random], Asked]


def _cut(asked: Asked, random: Random) -> Asked:
    return replace(asked, body=asked.body[: random.randrange(len(asked.body) + 1)])


def _flip(asked: Asked, random: Random) -> Asked:
    body = bytearray(asked.body or b"{}")
    for _ in range(random.choice((1, 1, 2, 8))):
        body[random.randrange(len(body))] = random.randrange(256)
    return replace(asked, body=bytes(body))


_BITS: Final = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"NaN", b"-Infinity", b"1e999", b"9" * 5_000, b'"a":1,"a":2', b"//x",
    b"[" * 200, b"{", b"}", b",", b'"', b"\\", b"\xef\xbb\xbf", b"\t", b"\x0b",
)  # fmt: skip


def _insert(asked: Asked, random: Random) -> Asked:
    at = random.randrange(len(asked.body) + 1)
    return replace(asked, body=asked.body[:at] + random.choice(_BITS) + asked.body[at:])


def _encode(asked: Asked, random: Random) -> Asked:
    text = asked.body.decode("utf-8", "replace")
    return replace(asked, body=text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))))


def _double_a_member(asked: Asked, random: Random) -> Asked:
    if not asked.body.startswith(b"{") or len(asked.body) < 5:
        return replace(asked, body=b'{"body":{},"body":{}}')
    return replace(asked, body=asked.body[:-1] + b"," + asked.body[1:])


def _in_pieces(asked: Asked, random: Random) -> Asked:
    return replace(asked, pieces=random.randrange(2, 40))


def _without_key(asked: Asked, random: Random) -> Asked:
    kept = [one for one in asked.headers if one[0].lower() != b"authorization"]
    return replace(asked, headers=tuple(kept))


_STRANGE_HEADERS: Final = (
    (b"authorization", b"Bearer x"), (b"authorization", b"Basic eDp5"), (b"authorization", b"Bearer " + b"pk_" * 900),
    (b"authorization", b"\xff"), (b"content-type", b"text/plain"), (b"content-type", b"application/json;charset=x"),
    (b"content-type", b"multipart/form-data; boundary=x"), (b"content-encoding", b"gzip"),
    (b"content-length", b"99999999"), (b"content-length", b"-1"), (b"content-length", b"x"),
    (b"host", b"evil"), (b"prefer", b"wait=99999999999999"),
    (b"prefer", b"wait=1, wait=2;x=y, \xff"), (b"prefer", b'wait="3"'), (b"idempotency-key", b""),
    (b"idempotency-key", b'"'), (b"idempotency-key", b"\xff"), (b"idempotency-key", b"k" * 256),
    (b"x-request-id", b"a b"), (b"x-request-id", b"ok-1"), (b"if-none-match", b"*"), (b"if-none-match", b'W/"1", "2"'),
    (b"last-event-id", b"1.done"), (b"last-event-id", b"9" * 400), (b"x-forwarded-for", b"1.1.1.1, x"),
    (b"forwarded", b"for=[::1]"), (b"transfer-encoding", b"gzip"), (b"expect", b"x"), (b"range", b"bytes=0-1"),
    (b"upgrade", b"websocket"), (b"accept", b"text/html"), (b"cookie", b"a=b"), (b"x-http-method-override", b"DELETE"),
)  # fmt: skip


def _strange_header(asked: Asked, random: Random) -> Asked:
    name, value = random.choice(_STRANGE_HEADERS)
    kept = asked.headers
    if random.randrange(2):
        kept = tuple(one for one in kept if one[0].lower() != name)
    return replace(asked, headers=(*kept, (name, value)))


_STRANGE_QUERIES: Final = (
    "limit=0", "limit=101", "limit=1e1", "limit=%20", "limit=5&limit=x", "wait=-1", "wait=", "wait=1.5", "after=x",
    "after=job_", "after=%00", "status=QUEUED", "status=", "custom_id=%ff%fe", "user=%2a", "user=../x", "user=",
    "group_by=x", "group_by=,", "start=2026-02-30", "start=0000-00-00", "end=9999-99-99", "start=2020-01-01", "a[]=b",
    "&&&=&", "%", "%zz=%", "limit=" + "9" * 400, "q=" + "x" * 4_000, "job_id=x", "job_id=%F0%9F%98%80", "status=failed",
)  # fmt: skip


def _strange_query(asked: Asked, random: Random) -> Asked:
    path, _, query = asked.target.partition("?")
    return replace(asked, target=f"{path}?{random.choice(_STRANGE_QUERIES)}&{query}")


def _shuffled_query(asked: Asked, random: Random) -> Asked:
    path, _, query = asked.target.partition("?")
    parts = query.split("&")
    random.shuffle(parts)
    return replace(asked, target=f"{path}?{'&'.join(parts + parts[:1])}")


OF_BODIES: Final[tuple[Mutation, ...]] = (_cut, _flip, _insert, _encode, _double_a_member, _in_pieces)
OF_HEADS: Final[tuple[Mutation, ...]] = (_without_key, _strange_header, _strange_query, _shuffled_query)
