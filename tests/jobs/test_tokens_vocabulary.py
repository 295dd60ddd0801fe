"""The shipped vocabularies are tiktoken's own, whole, loaded once, and never fetched."""

import lzma
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from tiktoken import Encoding
from tiktoken_ext import openai_public  # type: ignore[import-untyped]  # a namespace package without a py.typed

from jobs.tokens import vocabulary


@pytest.fixture
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_loaded", {})


@pytest.mark.parametrize("name", vocabulary.ENCODING_NAMES)
def test_recipe_is_the_one_of_the_installed_tiktoken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[str] = []

    def without_download(_url: str, expected_hash: str) -> dict[bytes, int]:
        sums.append(expected_hash)
        return {}

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", without_download)
    theirs = openai_public.ENCODING_CONSTRUCTORS[name]()
    ours = vocabulary._RECIPES[name]

    assert (ours.pattern, ours.special_tokens) == (theirs["pat_str"], theirs["special_tokens"])
    assert sums == [ours.sha256]


@pytest.mark.parametrize(
    ("name", "tokens", "size"),
    [("cl100k_base", [15339, 1917], 100_277), ("o200k_base", [24912, 2375], 200_019)],
)
def test_encoding_gives_the_published_tokens(name: str, tokens: list[int], size: int) -> None:
    encoding = vocabulary.load(name)

    assert encoding.encode_ordinary("hello world") == tokens
    assert encoding.decode(tokens) == "hello world"
    assert encoding.n_vocab == size


@pytest.mark.usefixtures("nothing_loaded")
def test_loading_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a vocabulary was about to be downloaded")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    vocabulary.preload(["cl100k_base"])

    assert vocabulary.is_loaded("cl100k_base")
    assert not vocabulary.is_loaded("o200k_base")


@pytest.mark.usefixtures("nothing_loaded")
def test_threads_that_ask_at_once_share_one_encoding() -> None:
    together = Barrier(4)

    def load(_: int) -> Encoding:
        together.wait(timeout=20)
        return vocabulary.load("cl100k_base")

    with ThreadPoolExecutor(4) as threads:
        encodings = list(threads.map(load, range(4)))

    assert all(encoding is encodings[0] for encoding in encodings)


def test_unknown_encoding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        vocabulary.UnknownEncodingError, match="'p50k_base'; use one of cl100k_base, o200k_base"
    ):
        vocabulary.load("p50k_base")


@pytest.mark.usefixtures("nothing_loaded")
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lzma.compress(b"YQ== 0\n"), "SHA-256 differs"),
        (b"not xz", "cannot be read"),
        (None, "cannot be read"),
    ],
    ids=["another", "damaged", "missing"],
)
def test_wrong_vocabulary_file_is_refused(
    content: bytes | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "cl100k_base.tiktoken.xz").write_bytes(content)
    monkeypatch.setattr(vocabulary, "_DATA", tmp_path)

    with pytest.raises(vocabulary.VocabularyError, match=f"cl100k_base .*{problem}.*install penstock again"):
        vocabulary.load("cl100k_base")

    assert not vocabulary.is_loaded("cl100k_base")
