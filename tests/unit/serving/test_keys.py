"""Who is let in, and where a server without keys may listen."""

from __future__ import annotations

import hmac

import pytest

from served import serving
from sortal.errors import ConfigError
from sortal.serving.keys import Keys, check_address, is_loopback

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"{FIRST}\n\n  {SECOND}  \n")
    return Keys.read(str(path))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (f"Bearer {FIRST}", True),
        (f"bearer {SECOND}", True),
        (f"Bearer  {FIRST} ", True),
        (f"Bearer {FIRST}x", False),
        (f"Bearer {FIRST[:-1]}", False),
        (f"Basic {FIRST}", False),
        (FIRST, False),
        ("Bearer ", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_known_key_is_accepted(keys, header, accepted):
    assert keys.accept(None if header is None else header.encode()) is accepted


def test_bytes_that_are_no_text_are_a_wrong_key(keys):
    assert keys.accept(b"Bearer \xff\x00") is False


def test_every_key_is_compared_whole_whichever_fits(keys, monkeypatch):
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: bool(compared.append((a, b))) or a == b)
    for header in (f"Bearer {FIRST}", f"Bearer {SECOND}", "Bearer x", f"Basic {FIRST}"):
        compared.clear()
        keys.accept(header.encode())
        assert [(len(a), len(b)) for a, b in compared] == [(32, 32)] * 2


def test_without_keys_everybody_is_accepted():
    assert Keys().accept(None)
    assert not Keys()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no key"),
        (b"\n \n", "holds no key"),
        (b"short\n", "line 1: a key needs at least 16 characters"),
        (FIRST.encode() + b"\nwith spaces in the middle\n", "line 2: a key needs"),
        ("schlüssel-0123456789".encode(), "ASCII"),
    ],
)
def test_a_bad_file_is_refused_without_showing_a_key(tmp_path, content, sentence):
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence) as error:
        Keys.read(str(path))
    assert not any(word in str(error.value) for word in ("short", "middle", "first-key"))
    with pytest.raises(ConfigError, match="No such file"):
        Keys.read(str(tmp_path / "none"))


def test_keys_are_not_kept_as_they_are(keys):
    assert FIRST not in repr(keys)


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_an_address_that_others_reach_needs_keys(host, alone, keys):
    assert is_loopback(host) is alone
    check_address(host, keys)
    if alone:
        check_address(host, Keys())
    else:
        with pytest.raises(ConfigError, match="no key is asked for"):
            check_address(host, Keys())


def test_a_server_with_keys_tells_strangers_nothing_but_that_it_lives(single, keys):
    with serving(single, keys=keys) as served:
        client = served.client
        for path in ("/predict", "/classify"):
            for headers in ({}, bearer("wrong"), {"Authorization": FIRST}):
                response = client.post(path, content=b"not even json", headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert response.json()["error_type"] == "unauthorized"
            assert client.post(path, json={}, headers=bearer(SECOND)).status_code == 422
        for path in ("/info", "/metrics", "/openapi.json", "/nothing"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=bearer(FIRST)).status_code in (200, 404)
        for path in ("/health", "/ready"):
            assert client.get(path).status_code == 200
        document = client.get("/openapi.json", headers=bearer(FIRST)).json()
        assert document["paths"]["/predict"]["post"]["security"] == [{"HTTPBearer": []}]
        assert "401" in document["paths"]["/predict"]["post"]["responses"]
        written = served.written.getvalue()
    for hidden in (FIRST, SECOND, "wrong", "uthorization"):
        assert hidden not in written
