"""API keys: their shape, their checksum, and comparisons that never fail on strange text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.secrets import ALPHABET, NewKey, digest, is_admin_key, matches, new_key, parse_key

KEY = f"pk_0123456789AB_{'x' * 43}_1rKEu6"
ADMIN_KEY = "correct horse battery staple"
STRANGE = [
    "",
    "é" * 66,
    KEY.replace("x", "ｘ"),
    "\udc80",
    "\x00",
    KEY + "\n",
    KEY.upper(),
    "pk_" + "0" * 10_000,
]


def test_a_new_key_has_the_documented_shape_and_tells_its_id() -> None:
    key = new_key()

    assert re.fullmatch(r"pk_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", key.text)
    assert key.text[3:15] == key.id
    assert parse_key(key.text) == key.id


def test_every_new_key_is_another_and_every_letter_occurs_about_as_often() -> None:
    keys = [new_key() for _ in range(300)]

    assert len({key.id for key in keys}) == len({key.text for key in keys}) == 300
    letters = "".join(key.id + key.text[16:59] for key in keys)
    counts = [letters.count(letter) for letter in ALPHABET]
    # 16,500 letters, 266 of each on average, standard deviation 16: six of them are left to chance.
    assert len(ALPHABET) == 62
    assert min(counts) > 170
    assert max(counts) < 362


@pytest.mark.parametrize(
    ("body", "checksum"),
    [
        # zlib.crc32 1704102494
        (f"pk_0123456789AB_{'x' * 43}", "1rKEu6"),
        # small enough for two zeros in front
        (f"pk_0123456789AB_{'509'.rjust(43, '0')}", "00witR"),
    ],
)
def test_the_checksum_is_the_crc32_in_base62_padded_to_six(body: str, checksum: str) -> None:
    assert parse_key(f"{body}_{checksum}") == "0123456789AB"


@pytest.mark.parametrize("position", [0, 2, 3, 14, 15, 16, 40, 58, 59, 60, 65])
def test_one_mistyped_letter_is_noticed_wherever_it_is(position: int) -> None:
    other = "7" if KEY[position] != "7" else "8"

    assert parse_key(KEY[:position] + other + KEY[position + 1 :]) is None


@pytest.mark.parametrize("text", STRANGE)
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert parse_key(text) is None


@given(st.text())
def test_any_text_can_be_looked_at_and_compared(text: str) -> None:
    assert parse_key(text) is None
    assert not matches("pepper", text, digest("pepper", KEY))
    assert not is_admin_key(text, ADMIN_KEY)


def test_a_digest_is_hmac_sha256_in_hex() -> None:
    # RFC 4231, test case 2
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

    assert digest("Jefe", "what do ya want for nothing?") == expected
    assert digest(b"Jefe", "what do ya want for nothing?") == expected


def test_a_key_matches_its_own_digest_under_the_same_pepper_only() -> None:
    stored = digest("pepper", KEY)

    assert matches("pepper", KEY, stored)
    assert not matches("salt", KEY, stored)
    assert not matches("pepper", new_key().text, stored)
    assert not matches("pepper", KEY, "")
    assert not matches("pepper", KEY, "é")


def test_an_empty_pepper_is_refused() -> None:
    with pytest.raises(ValueError, match="PENSTOCK_SECRET"):
        digest("", KEY)


@pytest.mark.parametrize("admin_key", [ADMIN_KEY, KEY, "ключ ключ ключ ключ"])
def test_the_admin_key_may_have_any_shape(admin_key: str) -> None:
    assert is_admin_key(admin_key, admin_key)
    assert not is_admin_key(admin_key[:-1], admin_key)
    assert not is_admin_key("", admin_key)


@pytest.mark.parametrize("admin_key", ["", "a", "fifteen letters"])
def test_an_admin_key_that_could_be_guessed_opens_nothing(admin_key: str) -> None:
    assert not is_admin_key(admin_key, admin_key)


def test_a_key_does_not_show_in_its_representation() -> None:
    key = NewKey("0123456789AB", KEY)

    assert repr(key) == str(key) == "NewKey(id='0123456789AB')"
    assert KEY not in f"{key} {[key]}"
