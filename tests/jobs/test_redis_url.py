"""REDIS_URL: what each kind means, and what is refused without telling the password."""

import pytest

from jobs.redis_url import RedisUrl, Scheme, parse


def a_url(scheme: Scheme, *hosts: tuple[str, int], **changes: object) -> RedisUrl:
    parts: dict[str, object] = {
        "path": "", "service": "", "database": 0, "username": None, "password": None, "options": {}
    }  # fmt: skip
    return RedisUrl(scheme, hosts, **(parts | changes))  # type: ignore[arg-type]  # each test names what it expects


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", a_url("redis", ("localhost", 6379))),
        ("redis://localhost/", a_url("redis", ("localhost", 6379))),
        ("redis://10.0.0.1:6380/3", a_url("redis", ("10.0.0.1", 6380), database=3)),
        ("redis://h?db=4", a_url("redis", ("h", 6379), database=4)),
        ("redis://[2001:db8::1]:6380/1", a_url("redis", ("2001:db8::1", 6380), database=1)),
        ("redis://:secret@h", a_url("redis", ("h", 6379), password="secret")),
        ("redis://ann:p%40ss%2Fw%3Ard@h", a_url("redis", ("h", 6379), username="ann", password="p@ss/w:rd")),
        ("redis://ann:a:b@c@h", a_url("redis", ("h", 6379), username="ann", password="a:b@c")),
        ("rediss://h:6380", a_url("rediss", ("h", 6380))),
        (
            "rediss://h/2?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
            a_url(
                "rediss",
                ("h", 6379),
                database=2,
                options={"ssl_cert_reqs": "none", "ssl_ca_certs": "/ca.pem"},
            ),
        ),
        ("unix:///run/redis.sock", a_url("unix", path="/run/redis.sock")),
        (
            "unix://ann:pw@/a%20b/redis.sock?db=2",
            a_url("unix", path="/a b/redis.sock", database=2, username="ann", password="pw"),
        ),
        ("redis+sentinel://s1/main", a_url("redis+sentinel", ("s1", 26379), service="main")),
        (
            "redis+sentinel://ann:pw@s1:1,s2,[::1]:3/main/5?sentinel_username=sue&sentinel_password=spw",
            a_url(
                "redis+sentinel",
                ("s1", 1),
                ("s2", 26379),
                ("::1", 3),
                service="main",
                database=5,
                username="ann",
                password="pw",
                options={"sentinel_username": "sue", "sentinel_password": "spw"},
            ),
        ),
    ],
)
def test_what_a_url_means(url: str, expected: RedisUrl) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must look like one of"),
        ("localhost:6379", "must look like one of"),
        ("http://:hunter2@h", "must look like one of"),
        ("redis://", "redis://user:password@host:6379/0"),
        ("redis:///3", "redis://user:password@host:6379/0"),
        ("redis://:hunter2@h:port", "redis://user:password@host:6379/0"),
        ("redis://:hunter2@h:0", "redis://user:password@host:6379/0"),
        ("redis://:hunter2@h:65536", "redis://user:password@host:6379/0"),
        ("redis://:hunter2@h/main", "redis://user:password@host:6379/0"),
        ("redis://:hunter2@h/-1", "redis://user:password@host:6379/0"),
        ("redis://:hunter2@h1,h2/0", "redis://user:password@host:6379/0"),
        # A password whose / was not written as %2F looks like a port.
        ("redis://:hunter2/secret@h/0", "must look like one of"),
        ("redis://:hunter2#secret@h/0", "must look like one of"),
        ("unix://", "unix://user:password@/path/to/socket"),
        ("unix://relative/redis.sock", "unix://user:password@/path/to/socket"),
        ("redis+sentinel://:hunter2@s1:26379", "host:26379/service/0"),
        ("redis+sentinel://:hunter2@s1,/main", "host:26379/service/0"),
        ("redis+sentinel:///main", "host:26379/service/0"),
        ("redis+sentinel://:hunter2@s1/main/zero", "host:26379/service/0"),
        ("rediss://:hunter2@h?ssl_cert_reqs=hunter2", "required, optional or none"),
        # Each of these would have redis-py break what its users rely on.
        ("redis://:hunter2@h?retry_on_timeout=true", "retry_on_timeout"),
        ("redis://:hunter2@h?decode_responses=true", "decode_responses"),
        ("redis://:hunter2@h?socket_timeout=hunter2", "socket_timeout"),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as refused:
        parse(url)

    assert reason in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_password_does_not_show_in_the_representation() -> None:
    url = parse("redis+sentinel://ann:hunter2@s1/main?sentinel_password=hunter3")

    assert "ann" in repr(url)
    assert "hunter" not in repr(url)
