"""Digests of files."""

import hashlib

from fsf_core import storage


def test_the_digest_covers_everything_from_the_position_to_the_end(tmp_path):
    content = bytes(range(256)) * 5000  # several blocks
    (tmp_path / "file").write_bytes(content)

    with storage.open_binary(str(tmp_path / "file")) as file:
        assert storage.file_sha256(file) == hashlib.sha256(content).hexdigest()
        file.seek(1000)
        assert storage.file_sha256(file) == hashlib.sha256(content[1000:]).hexdigest()


def test_the_digest_of_a_file_in_a_store_is_that_of_its_bytes():
    storage.write_bytes("memory://digests/file", b"abc")

    with storage.open_binary("memory://digests/file") as file:
        assert storage.file_sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
