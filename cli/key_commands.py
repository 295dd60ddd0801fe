"""`penstock keys`: API keys, made and taken away in Redis itself, so that the first one needs no other."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from pydantic import JsonValue

from cli.errors import CommandError
from cli.output import console, duration, moment, notices, print_json, table
from cli.redis_access import opened_redis
from cli.secrets import known_secret
from cli.times import parse_future, parse_span_s
from jobs.config import Config
from jobs.config.load import load
from jobs.environment import Environment
from jobs.secrets import NewKey, digest, new_key, parse_key
from jobs.users import SCOPES, KeyRecord, Users, is_user_name

DEFAULT_SCOPES = "jobs,usage,webhooks"
_PAGE = 500

Result = TypeVar("Result")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
KeyId = Annotated[
    str, typer.Argument(metavar="KEY", help="The key's id, or the key itself.", show_default=False)
]

app = typer.Typer(
    name="keys",
    help="Make, list, rotate and revoke API keys. Works on Redis itself: on REDIS_URL, or on the embedded server.",
    no_args_is_help=True,
)


@app.command()
def create(
    user: Annotated[str, typer.Option(help="Whose key; made if new.", show_default=False)],
    tier: Annotated[
        str | None,
        typer.Option(help="The tier the user is put on.", show_default="as it is; needed for a new user"),
    ] = None,
    scopes: Annotated[str, typer.Option(help=f"Of {', '.join(SCOPES)}, with commas.")] = DEFAULT_SCOPES,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="30d, or 2030-01-31.", show_default="never")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and its user if it is new. The key is shown this once."""
    environment = Environment.load()
    config = load(environment.config_path)
    if not is_user_name(user):
        raise CommandError(
            f'a user cannot be called "{user}": letters, digits and . _ @ -, a letter or digit first, at most 64',
            exit_code=2,
        )
    _check_tier(tier, config)
    wanted = _scopes(scopes)
    expires_ms = None if expires is None else 1000 * parse_future(expires, "--expires", time.time())
    made = new_key()
    record = _record(environment, made, user, wanted, expires_ms)

    async def put(users: Users) -> str:
        known = await users.get(user)
        if known is None and tier is None:
            tiers = ", ".join(config.tiers)
            raise CommandError(f'"{user}" is a new user: say on which --tier ({tiers})', exit_code=2)
        if known is not None and tier is not None and known.tier != tier:
            await users.change(user, tier=tier)
            notices().print(f"{user} was on the tier {known.tier} and is on {tier} now", style="dim")
        return (await users.put_key(record, tier=tier)).tier

    on_tier = _with_users(environment, put)
    if as_json:
        print_json(_created(record, made))
    else:
        notices().print(f"a key of {user} ({on_tier}), shown this once:", style="dim")
        console().print(made.text)


@app.command("list")
def list_keys(
    user: Annotated[str | None, typer.Option(help="Only this user's.", show_default="all")] = None,
    as_json: AsJson = False,
) -> None:
    """List the keys, without what makes them keys."""

    async def everything(users: Users) -> list[KeyRecord]:
        found: list[KeyRecord] = []
        more = True
        while more:
            page, more = await users.keys(user=user, limit=_PAGE, after=found[-1].id if found else None)
            found += page
            more = more and bool(page)
        return found

    records = _with_users(Environment.load(), everything)
    if as_json:
        print_json({"object": "list", "data": [_described(record) for record in records], "has_more": False})
        return
    if not records:
        notices().print("no keys")
        return
    rows = [
        (
            record.id,
            record.user,
            " ".join(record.scopes),
            moment(_seconds(record.created_ms)),
            moment(_seconds(record.expires_ms)),
            moment(_seconds(record.last_used_ms)),
        )
        for record in records
    ]
    console().print(table(("key", "user", "scopes", "created", "expires", "last used"), rows))


@app.command()
def rotate(
    key: KeyId,
    overlap: Annotated[str, typer.Option(metavar="SPAN", help="How long the old key still works.")] = "24h",
    as_json: AsJson = False,
) -> None:
    """Make a key in place of another, which ends after an overlap. The new key is shown this once."""
    environment = Environment.load()
    key_id, overlap_s = _key_id(key), parse_span_s(overlap, "--overlap")
    made = new_key()

    async def replace(users: Users) -> KeyRecord:
        old = await users.key(key_id)
        if old is None or (old.expires_ms is not None and old.expires_ms <= _now_ms()):
            raise _unknown(key_id)
        record = _record(environment, made, old.user, old.scopes, old.expires_ms)
        await users.put_key(record)
        await users.expire_key(key_id, _now_ms() + 1000 * overlap_s)
        return record

    record = _with_users(environment, replace)
    if as_json:
        print_json(_created(record, made))
    else:
        notices().print(
            f"a key of {record.user}, shown this once; {key_id} ends in {duration(overlap_s)}:", style="dim"
        )
        console().print(made.text)


@app.command()
def revoke(key: KeyId) -> None:
    """Take a key away, at once."""
    key_id = _key_id(key)

    async def forget(users: Users) -> bool:
        return await users.revoke_key(key_id)

    if not _with_users(Environment.load(), forget):
        raise _unknown(key_id)
    notices().print(f"{key_id} is revoked")


def _with_users(environment: Environment, work: Callable[[Users], Awaitable[Result]]) -> Result:
    async def connected() -> Result:
        async with opened_redis(environment) as redis:
            return await work(Users(redis))

    return asyncio.run(connected())


def _record(
    environment: Environment, made: NewKey, user: str, scopes: tuple[str, ...], expires_ms: int | None
) -> KeyRecord:
    secret = known_secret(environment)
    if secret is None:
        raise CommandError(
            "PENSTOCK_SECRET is not set; keys only work under the secret that the API was started with "
            "(`penstock up` keeps its own in PENSTOCK_DATA_DIR)"
        )
    return KeyRecord(made.id, user, scopes, _now_ms(), expires_ms, None, digest(secret, made.text))


def _check_tier(tier: str | None, config: Config) -> None:
    if tier is not None and tier not in config.tiers:
        raise CommandError(f'there is no tier "{tier}"; there are {", ".join(config.tiers)}', exit_code=2)


def _scopes(text: str) -> tuple[str, ...]:
    wanted = dict.fromkeys(scope for scope in (part.strip() for part in text.split(",")) if scope)
    for scope in wanted:
        if scope not in SCOPES:
            raise CommandError(f'there is no scope "{scope}"; there are {", ".join(SCOPES)}', exit_code=2)
    if not wanted:
        raise CommandError(f"a key needs a scope: --scopes with one of {', '.join(SCOPES)}", exit_code=2)
    return tuple(wanted)


def _key_id(text: str) -> str:
    # Of a mistyped key too no more than the id may be repeated in an error.
    return parse_key(text) or text.removeprefix("pk_").partition("_")[0]


def _unknown(key_id: str) -> CommandError:
    return CommandError(f"there is no key {key_id}, or it has ended; see `penstock keys list`")


def _created(record: KeyRecord, made: NewKey) -> dict[str, JsonValue]:
    """What `POST /v1/admin/keys` answers."""
    described = _described(record)
    return {"id": described.pop("id"), "key": made.text, **described}


def _described(record: KeyRecord) -> dict[str, JsonValue]:
    return {
        "id": record.id,
        "object": "key",
        "user": record.user,
        "scopes": list(record.scopes),
        "created_at": _seconds(record.created_ms),
        "expires_at": _seconds(record.expires_ms),
        "last_used_at": _seconds(record.last_used_ms),
    }


def _seconds(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms // 1000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
