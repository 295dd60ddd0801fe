"""Lua scripts: composed of fragments that own one state each, loaded from `.lua` files, called through one class.

A script names the fragments it uses in lines of the form `-- @use budget`; each is put in that place once, with what
it uses itself before it. Fragments are looked for beside the script and then in the given folders, so that the rooms
above the limiter build their scripts of the very same code.

A server makes all functions of a script anew at each call. `-- @rarely finish` says that most calls do not need the
fragment: its functions are made when the first of them is called. It can then be reached through its table alone.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from redis.exceptions import NoScriptError

FOLDER = Path(__file__).parent / "lua"

Argument: TypeAlias = str | bytes | int | float

_USE = re.compile(r"^-- @(use|rarely) (\w+)$", re.MULTILINE)
_RARE = re.compile(r"^@rarely (\w+)\n(.*?)^@always\n", re.MULTILINE | re.DOTALL)
_WRAPPED = """local {name} = setmetatable({{}}, {{__index = function({name}, member)
setmetatable({name}, nil)
{body}return {name}[member]
end}})
"""
_FUNCTION = re.compile(
    r"^((?:local )?function ([\w.]+)\((?:.*\bend\n|.*\n(?:(?!end\b).*\n)*end\n))", re.MULTILINE
)
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.\w+)?")
_LOADS = 10
"""How often a script is loaded for one call: others may flush the cache again and again meanwhile."""
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)


class Commands(Protocol):
    """The two commands a script needs: satisfied by `redis.asyncio.Redis`, its kin, and fakeredis."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any: ...

    def script_load(self, script: str) -> Any: ...


def compose(path: Path, folders: Sequence[Path]) -> str:
    """The text of the script at `path` with every fragment it uses, each once, in the order of need.

    Raises FileNotFoundError for a fragment that is in none of the folders.
    """
    eager = _eager(path.read_text(), folders, path.name)
    seen: set[str] = set()

    def expand(text: str) -> str:
        def fragment(match: re.Match[str]) -> str:
            name = match[2]
            if name in seen:
                return ""
            seen.add(name)
            text = _fragment(name, folders, path.name)
            if name in eager:
                return expand(text)
            needs = "".join(fragment(use) for use in _USE.finditer(text))
            return f"{needs}@rarely {name}\n{_USE.sub('', text)}@always\n"

        return _USE.sub(fragment, text)

    return _RARE.sub(_wrap, prune(expand(path.read_text())))


def _fragment(name: str, folders: Sequence[Path], script: str) -> str:
    for folder in folders:
        candidate = folder / f"{name}.lua"
        if candidate.exists():
            return candidate.read_text()
    raise FileNotFoundError(f"{script} uses the fragment {name!r}, which is in none of {folders}")


def _eager(text: str, folders: Sequence[Path], script: str) -> set[str]:
    """The fragments that are used, not rarely, by the script or by one of these themselves."""
    eager: set[str] = set()
    texts = [text]
    while texts:
        for how, name in _USE.findall(texts.pop()):
            if how == "use" and name not in eager:
                eager.add(name)
                texts.append(_fragment(name, folders, script))
    return eager


def _wrap(match: re.Match[str]) -> str:
    """A fragment that makes its functions when it is first asked for one; nothing, if none of them is needed."""
    name, body = match[1], match[2]
    if f"function {name}." not in body:
        return ""
    return _WRAPPED.format(name=name, body=body.replace(f"local {name} = {{}}\n", "", 1))


def prune(text: str) -> str:
    """Leave out the functions that nothing needs: a server makes all functions of a script anew at each call.

    A function begins at the start of a line and ends with that line or with an `end` at the start of one; it is
    needed if its name stands anywhere else in what is needed. All that is not a function stays.
    """
    blocks = _FUNCTION.split(_COMMENT.sub("", text))
    functions = list(zip(blocks[2::3], blocks[1::3], strict=True))
    mentioned = [_names(body) for _, body in functions]
    needed = set().union(*(_names(block) for block in blocks[0::3]))
    kept: set[int] = set()
    while found := {i for i, (name, _) in enumerate(functions) if i not in kept and name in needed}:
        kept |= found
        needed.update(*(mentioned[i] for i in found))
    parts = [blocks[0]]
    for i, (_, body) in enumerate(functions):
        parts += [body if i in kept else "", blocks[3 * i + 3]]
    return "".join(parts)


def _names(text: str) -> set[str]:
    """The names in a piece of Lua: of `window.open(…)` both `window.open` and `window`."""
    dotted = set(_NAME.findall(text))
    return dotted | {name.partition(".")[0] for name in dotted}


class Script:
    """One composed script. It survives a script cache that was emptied by a restart, a failover or SCRIPT FLUSH."""

    def __init__(self, path: Path, folders: Sequence[Path] = (FOLDER,)) -> None:
        self.name = path.stem
        self.text = compose(path, (path.parent, *folders))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Commands, *arguments: Argument) -> Any:
        """Run the script; raises redis.exceptions.RedisError as the client does.

        A NOSCRIPT answer proves that nothing ran, so that loading and running again is safe: more than once, since
        the cache may be emptied again between the two.
        """
        for _ in range(_LOADS):
            try:
                return await redis.evalsha(self.sha, 0, *arguments)
            except NoScriptError:
                await redis.script_load(self.text)
        return await redis.evalsha(self.sha, 0, *arguments)
