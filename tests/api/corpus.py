"""What attackers and broken clients send: the corpus, which grows with everything that was ever found.

The tests send it to see what is answered, bench/hostile.py to see that nobody else is held up by it.
"""

import json
from typing import Final

from tests.api.harness import chat

LIMIT = 1_048_576


def with_body(text: str) -> bytes:
    return b'{"body":{"model":"m","messages":[{"role":"user","content":"x"}],"seed":' + text.encode() + b"}}"


def with_prompt(text: bytes) -> bytes:
    return b'{"body":{"model":"m","messages":[{"role":"user","content":"' + text + b'"}]}}'


BODIES: Final[dict[str, tuple[bytes, int]]] = {
    "nothing": (b"", 400),
    "nan": (with_body("NaN"), 400),
    "infinity": (with_body("Infinity"), 400),
    "minus infinity": (with_body("-Infinity"), 400),
    "1e999": (with_body("1e999"), 400),
    "5,000 digits": (with_body("9" * 5_000), 400),
    "duplicate keys": (b'{"body":{},"body":{}}', 400),
    "duplicate keys inside": (with_body('{"a":1,"a":2}'), 400),
    "lone surrogate": (with_prompt(b"\\ud800"), 422),
    "lone surrogate in a name": (with_body('{"\\udfff":1}'), 422),
    "100,000 deep": (with_body("[" * 100_000 + "]" * 100_000), 422),
    "100,000 deep without an end": (with_body("[" * 100_000), 422),
    "33 deep": (with_body("[" * 31 + "]" * 31), 422),
    "nul byte": (with_prompt(b"\x00"), 400),
    "byte-order mark": (b"\xef\xbb\xbf" + with_prompt(b"x"), 400),
    "utf-16": (with_prompt(b"x").decode().encode("utf-16"), 400),
    "utf-32": (with_prompt(b"x").decode().encode("utf-32"), 400),
    "invalid utf-8": (with_prompt(b"\xc3\x28"), 400),
    "overlong utf-8": (with_prompt(b"\xc0\xaf"), 400),
    "a text of escaped quotes without an end": (b'{"body":"' + b'\\"' * 500_000, 400),
    "a text of backslashes without an end": (b'{"body":"' + b"\\" * 1_000_000, 400),
    "nothing but quotes": (b'"' * 1_000_000, 400),
    "250,000 numbers": (with_body("[" + "0," * 250_000 + "0]"), 422),
    "an array": (b"[]", 422),
    "a text": (b'"x"', 422),
    "unknown field": (b'{"bdoy":{}}', 422),
    "constructor": (b'{"__proto__":{},"body":{}}', 422),
    "too large": (with_prompt(b"x" * LIMIT), 413),
    "30 MB": (b" " * 30_000_000, 413),
    "350,000 arrays": (b'{"body":{"model":"m","messages":[' + b"[]," * 349_000 + b"[]]}}", 422),
    "60,000 fields": (json.dumps({f"f{n}": n for n in range(60_000)}).encode(), 422),
    "redirected": (json.dumps({"body": chat(api_base="http://169.254.169.254/")}).encode(), 422),
    **{
        f"steering: {field}": (json.dumps({"body": chat(**{field: "http://x"})}).encode(), 422)
        for field in (
            "api_key",
            "base_url",
            "extra_headers",
            "Extra-Body",
            "timeout",
            "azure_endpoint",
            "aws_region",
        )
    },
    "a text where a number belongs": (with_body("1")[:-2] + b',"max_tokens":"5"}}', 422),
    "a fraction where a number belongs": (with_body("1")[:-2] + b',"max_tokens":5.0}}', 422),
    "true where a number belongs": (with_body("1")[:-2] + b',"n":true}}', 422),
    "a number of 4,000 digits": (with_body("1")[:-2] + b',"max_tokens":' + b"9" * 4_000 + b"}}", 422),
    "numbers whose product cannot be printed": (
        with_body("1")[:-2] + b',"n":128,"max_tokens":' + b"9" * 4_299 + b"}}",
        422,
    ),
    "two bodies": (with_prompt(b"x") * 2, 400),
    "a comment": (b"/* */" + with_prompt(b"x"), 400),
    "a trailing comma": (with_prompt(b"x")[:-1] + b",}", 400),
    "single quotes": (b"{'body':{}}", 400),
    "a form": (b"body=%7B%7D", 400),
    "metadata of 100,000 pairs": (
        json.dumps({"body": chat(), "metadata": {f"m{n}": "" for n in range(100_000)}}).encode(),
        413,
    ),
    "metadata of 17 pairs": (
        json.dumps({"body": chat(), "metadata": {f"m{n}": "" for n in range(17)}}).encode(),
        422,
    ),
    "a field of a megabyte": (b'{"' + b"x" * 1_000_000 + b'":1}', 422),
}
"""Bodies of POST /v1/jobs, and the status that answers each."""

PROMPTS: Final[dict[str, bytes]] = {
    "a million spaces": b" " * 1_000_000,
    "a million letters": b"a" * 1_000_000,
    "500,000 line breaks": b"\\n" * 500_000,
    "150,000 NULs": b"\\u0000" * 150_000,
    "a million brackets": b"[[{{" * 250_000,
    "250,000 emoji": "😀".encode() * 250_000,
    "a million digits": b"1234567890" * 100_000,
    "200,000 tokens": b"The quick brown fox. " * 47_000,
    "a megabyte of marks": b"[{," * 330_000,
    "200,000 escaped quotes and commas": b'\\",' * 200_000,
    "combining marks": "e\u0301\u0302\u0303\u0304".encode() * 100_000,
    "special tokens": b"<|endoftext|>" * 10,
    "50,000 special tokens": b"<|endoftext|>" * 50_000,
    "Redis commands": b"EVAL 'redis.call(\\\"FLUSHALL\\\")' 0\\r\\n*1\\r\\n$8\\r\\nFLUSHALL\\r\\n",
}
"""JSON texts that are strange and yet prompts: accepted, or refused for their tokens."""

LARGE: Final[dict[str, bytes]] = {
    **{
        name: with_prompt(PROMPTS[name])
        for name in ("a million spaces", "a million letters", "200,000 tokens")
    },
    "24,000 messages": json.dumps({"body": chat() | {"messages": [{"role": "user"}] * 24_000}}).encode(),
}
"""Whole bodies just below the limit, of which the most work is made."""

GET: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST: Final = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

REQUESTS: Final[dict[str, tuple[list[bytes], int, str]]] = {
    "5,000 headers": (
        [GET + b"".join(b"X-%d: 1\r\n" % n for n in range(5_000)) + b"\r\n"],
        431,
        "headers_too_large",
    ),
    "a header of 200 KB": ([GET + b"X: " + b"x" * 200_000 + b"\r\n\r\n"], 431, "headers_too_large"),
    "70 KB of headers in pieces": ([GET, *[b"X: " + b"x" * 1_000 + b"\r\n"] * 70], 431, "headers_too_large"),
    "a header without an end": ([GET + b"X: ", *[b"x" * 10_000] * 20], 431, "headers_too_large"),
    "a path of 200 KB": (
        [b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
        431,
        "headers_too_large",
    ),
    "no Host": ([b"GET /healthz HTTP/1.1\r\n\r\n"], 400, "bad_request"),
    "two Hosts": ([GET + b"Host: y\r\n\r\n"], 400, "bad_request"),
    "nonsense": ([b"nonsense\r\n\r\n"], 400, "bad_request"),
    "TLS": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400, "bad_request"),
    "bytes in the path": ([b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n"], 400, "bad_request"),
    "no host in the URL": ([b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n"], 400, "bad_request"),
    "OPTIONS *": ([b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"], 404, "not_found"),
    "both lengths": (
        [GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        400,
        "bad_request",
    ),
    "two lengths": ([GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"], 400, "bad_request"),
    "a negative length": ([GET + b"Content-Length: -5\r\n\r\n"], 400, "bad_request"),
    "an endless length": ([GET + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"], 400, "bad_request"),
    "a space in a name": ([GET + b"X : y\r\n\r\n"], 400, "bad_request"),
    "a NUL in a value": ([GET + b"X: a\x00b\r\n\r\n"], 400, "bad_request"),
    "a folded header": ([GET + b"X: a\r\n b\r\n\r\n"], 400, "bad_request"),
    "HTTP/9.9": ([b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n"], 400, "bad_request"),
    "HTTP/2's preface": ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400, "bad_request"),
    "a bad chunk": ([POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], 400, "bad_request"),
    "an encoding that is not last": (
        [POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"],
        400,
        "bad_request",
    ),
    "CONNECT": ([b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n"], 400, "bad_request"),
    "TRACE": ([b"TRACE /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], 405, "method_not_allowed"),
    "dots": ([b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"], 404, "not_found"),
    "encoded dots": ([b"GET /v1/jobs/%2e%2e%2f%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n"], 404, "not_found"),
    "an encoded line break": ([b"GET /v1/x%0d%0aX-Y:%20z HTTP/1.1\r\nHost: x\r\n\r\n"], 404, "not_found"),
}
"""Bytes on a connection, in pieces, and what answers them."""
