"""Composes scripts of fragments that own one state each, and makes them small: a server runs the whole text each time.

A script names the fragments it uses in lines of the form `-- @use budget`; each is put in that place once, with what
it uses itself before it. Fragments are looked for beside the script and then in the given folders, so that the rooms
above the limiter build their scripts of the very same code.

A server makes all functions of a script anew at each call. So those that nothing needs are left out; names of keys
stand where they are used; and `-- @rarely finish` says that most calls do not need the fragment: its functions are made
when the first of them is called. It can then be reached through its table alone.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

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
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
_CONSTANT = re.compile(r"^([a-z_]+\.[A-Z_]+) = ('[^'\n]*')\n", re.MULTILINE)
_JOINED = re.compile(
    r"^function ([a-z_]+\.[a-z_]+)\(([\w, ]+)\) return ((?:'[^'\n]*'|\w+)(?: \.\. (?:'[^'\n]*'|\w+))*) end\n",
    re.MULTILINE,
)
_TEXT = re.compile(r"'(?:[^'\\\n]|\\.)*'")
_NAMED = re.compile(r"(?<![\w.])[a-z_]+\.[A-Z_]+\b")
_CALL = re.compile(r"(?<!function )(?<![\w.])([a-z_]+\.[a-z_]+)\(")
_PART = re.compile(r"'[^'\n]*'|\w+")
_TOKEN = re.compile(r"'(?:[^'\\\n]|\\.)*'|[(){}\[\],]")


def compose(path: Path, folders: tuple[Path, ...]) -> str:
    """The text of the script at `path` with every fragment it uses, each once, in the order of need.

    Raises FileNotFoundError for a fragment that is in none of the folders.
    """
    eager = _eager(path.read_text(), folders)
    seen: set[str] = set()

    def expand(text: str) -> str:
        def fragment(match: re.Match[str]) -> str:
            name = match[2]
            if name in seen:
                return ""
            seen.add(name)
            text = _fragment(name, folders)
            if name in eager:
                return expand(text)
            needs = "".join(fragment(use) for use in _USE.finditer(text))
            return f"{needs}@rarely {name}\n{_USE.sub('', text)}@always\n"

        return _USE.sub(fragment, text)

    text = prune(_COMMENT.sub("", expand(path.read_text())))
    return _RARE.sub(_wrap, prune(inline(text)))


@cache
def _fragment(name: str, folders: tuple[Path, ...]) -> str:
    for folder in folders:
        candidate = folder / f"{name}.lua"
        if candidate.exists():
            return candidate.read_text()
    raise FileNotFoundError(f"the fragment {name!r} is in none of {', '.join(map(str, folders))}")


def _eager(text: str, folders: tuple[Path, ...]) -> set[str]:
    """The fragments that are used, not rarely, by the script or by one of these themselves."""
    eager: set[str] = set()
    texts = [text]
    while texts:
        for how, name in _USE.findall(texts.pop()):
            if how == "use" and name not in eager:
                eager.add(name)
                texts.append(_fragment(name, folders))
    return eager


def _wrap(match: re.Match[str]) -> str:
    """A fragment that makes its functions when it is first asked for one; nothing, if none of them is needed."""
    name, body = match[1], match[2]
    if f"function {name}." not in body:
        return ""
    return _WRAPPED.format(name=name, body=body.replace(f"local {name} = {{}}\n", "", 1))


def inline(text: str) -> str:
    """Write the names of keys out where they are used.

    They are constants (`key.DUE = 'due'`), and functions of one line that join texts and their parameters, each of
    these once and in order (`function key.job(id) return 'job:' .. id end`). What is handed on instead of called stays.
    """
    constants = dict(_CONSTANT.findall(text))
    text = _NAMED.sub(lambda match: constants.get(match[0], match[0]), _CONSTANT.sub("", text))
    joined: dict[str, list[str]] = {}
    for name, parameters, expression in _JOINED.findall(text):
        parts = _PART.findall(expression)
        if [part for part in parts if part[0] != "'"] == parameters.split(", "):
            joined[name] = parts
    return _written_out(text, joined)


def _written_out(text: str, joined: Mapping[str, Sequence[str]]) -> str:
    """The text with each call of one of these functions replaced by its parts and the call's arguments."""
    written, done = [], 0
    for call in _CALL.finditer(text):
        if call.start() < done or call[1] not in joined:
            continue
        arguments, end = _arguments(text, call.end())
        given = iter(f"({_written_out(argument, joined)})" for argument in arguments)
        parts = [part if part[0] == "'" else next(given) for part in joined[call[1]]]
        written += [text[done : call.start()], f"({' .. '.join(parts)})"]
        done = end
    return "".join(written) + text[done:]


def _arguments(text: str, start: int) -> tuple[list[str], int]:
    """The arguments of a call, whose opening bracket ends at `start`, and where what follows the call begins."""
    found, depth, begun = [], 0, start
    for token in _TOKEN.finditer(text, start):
        closes = token[0] in ")}]"
        if depth == 0 and (closes or token[0] == ","):
            found.append(text[begun : token.start()].strip())
            begun = token.end()
            if closes:
                break
        depth += (token[0] in "({[") - closes
    return found, begun


def prune(text: str) -> str:
    """Leave out the functions that nothing needs: a server makes all functions of a script anew at each call.

    A function begins at the start of a line and ends with that line or with an `end` at the start of one; it is
    needed if its name stands anywhere else in what is needed. All that is not a function stays.
    """
    blocks = _FUNCTION.split(text)
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


@cache
def _names(text: str) -> set[str]:
    """The names in a piece of Lua: of `window.open(…)` both `window.open` and `window`."""
    dotted = set(_NAME.findall(_TEXT.sub("", text)))
    return dotted | {name.partition(".")[0] for name in dotted}
