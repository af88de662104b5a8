import os

import pytest

from trailgate.cli import files
from trailgate.cli.errors import InputError


def test_reading_is_bounded_and_names_the_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10)
    assert files.read(path, 10) == b"x" * 10
    with pytest.raises(InputError, match=r"f: got more than 9 bytes"):
        files.read(path, 9)
    with pytest.raises(InputError, match="Is a directory"):
        files.read(tmp_path, 9)


def test_a_file_that_could_not_be_written_is_not_left_behind(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        files.create(tmp_path / "f", b"x", secret=True)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(("secret", "mode"), [(True, 0o600), (False, 0o644)])
def test_a_secret_is_its_owners(tmp_path, secret, mode):
    mask = os.umask(0o022)
    try:
        files.create(tmp_path / "f", b"x", secret=secret)
    finally:
        os.umask(mask)
    assert (tmp_path / "f").stat().st_mode & 0o777 == mode
