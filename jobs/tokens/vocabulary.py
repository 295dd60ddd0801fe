"""The tokenizer's vocabularies, shipped with the project: loaded once per process, checked, never
downloaded.

Everything that counts tokens (the estimate before a job, the usage of an answer that came without one)
starts here.
"""

import hashlib
import lzma
import threading
from binascii import a2b_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from tiktoken import Encoding


class UnknownEncodingError(ValueError):
    """The configuration names an encoding that does not come with the project."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown encoding {name!r}; use one of {', '.join(ENCODING_NAMES)}")


class VocabularyError(RuntimeError):
    """A vocabulary file is missing or damaged."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"the vocabulary of {name} {problem}; install penstock again")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What turns a vocabulary into an encoding. Source: tiktoken_ext/openai_public.py of tiktoken 0.14.

    Written out here because tiktoken's own constructors download the vocabulary before they return the
    rest.
    """

    sha256: str
    pattern: str
    special_tokens: Mapping[str, int]


_RECIPES: Mapping[str, _Recipe] = {
    "cl100k_base": _Recipe(
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
            r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        special_tokens={
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": _Recipe(
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern=(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
}

ENCODING_NAMES: tuple[str, ...] = tuple(_RECIPES)
"""The encodings that a model's configuration may name."""

_DATA = resources.files(__package__) / "data"

_loaded: dict[str, Encoding] = {}
_loading = threading.Lock()


def load(name: str) -> Encoding:
    """The encoding of that name, built on first use (about 0.1 s for cl100k_base, 0.3 s for o200k_base).

    Safe from any thread; each is built once. Raises UnknownEncodingError and VocabularyError.
    """
    encoding = _loaded.get(name)
    if encoding is None:
        with _loading:
            encoding = _loaded.get(name)
            if encoding is None:
                encoding = _loaded[name] = _build(name)
    return encoding


def is_loaded(name: str) -> bool:
    """Whether load(name) returns at once."""
    return name in _loaded


def preload(names: Iterable[str]) -> None:
    """Load these encodings now, so that no request waits for it. Raises what load raises."""
    for name in names:
        load(name)


def _build(name: str) -> Encoding:
    recipe = _RECIPES.get(name)
    if recipe is None:
        raise UnknownEncodingError(name)
    try:
        raw = lzma.decompress((_DATA / f"{name}.tiktoken.xz").read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise VocabularyError(name, f"cannot be read ({error})") from error
    if hashlib.sha256(raw).hexdigest() != recipe.sha256:
        raise VocabularyError(name, "is not the one that belongs to it (its SHA-256 differs)")
    cells = (line.split() for line in raw.splitlines())
    return Encoding(
        name,
        pat_str=recipe.pattern,
        mergeable_ranks={a2b_base64(token): int(rank) for token, rank in cells},
        special_tokens=dict(recipe.special_tokens),
    )
