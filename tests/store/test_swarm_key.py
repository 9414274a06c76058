"""The file of a private network's key: each way to write it, what may be wrong with it, and that it is made once."""

import logging
from pathlib import Path

import pytest

from sidecar.core.errors import ConfigError, StorageError
from sidecar.store.swarm_key import create_psk, load_psk, parse_psk

KEY = bytes(range(32))


@pytest.mark.parametrize(
    "content",
    [
        b"/key/swarm/psk/1.0.0/\n/base16/\n" + KEY.hex().encode(),
        b"/key/swarm/psk/1.0.0/\r\n/base16/\r\n" + KEY.hex().upper().encode() + b"\r\n",
        b"/key/swarm/psk/1.0.0/\n/base64/\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        b"/key/swarm/psk/1.0.0/\n/bin/\n" + KEY,
    ],
)
def test_each_encoding_of_a_key_is_read(content: bytes) -> None:
    assert parse_psk(content) == KEY


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "first line"),
        (b"/key/swarm/psk/2.0.0/\n/base16/\n" + KEY.hex().encode(), "first line"),
        (b"/key/swarm/psk/1.0.0/\n/base58/\nabc", "second line"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\nxyz", "third line is not base16"),
        (b"/key/swarm/psk/1.0.0/\n/base64/\n*", "third line is not base64"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\nabcd", "2 bytes, not 32"),
        (b"/key/swarm/psk/1.0.0/\n/bin/\n" + KEY + b"\n", "33 bytes, not 32"),
        (b"x" * 2000, "more than 1024 bytes"),
    ],
)
def test_what_is_wrong_with_a_key_file_is_said(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "swarm.key"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_psk(file)
    assert "network.psk_file" in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_key_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_psk(tmp_path / "nothing")


def test_a_key_made_is_ours_alone_and_never_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "swarm.key"
    create_psk(file)
    assert file.stat().st_mode & 0o777 == 0o600
    key = load_psk(file)
    assert len(key) == 32
    assert not caplog.records
    create_psk(file)
    assert load_psk(file) == key
    file.chmod(0o440)  # as Kubernetes mounts a Secret
    assert load_psk(file) == key
    assert not caplog.records
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert load_psk(file) == key
    assert "chmod 600" in caplog.text
    with pytest.raises(StorageError, match="private network's key"):
        create_psk(tmp_path / "missing" / "swarm.key")
