"""What S3 is asked for: an object and its version in one request, a copy in one, deletions a thousand at once."""

import hashlib
from collections import Counter

import fsspec
import pytest
from botocore.exceptions import ClientError
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error

from fsf_core import storage
from fsf_core.errors import FetchError, StorageError
from fsf_core.storage import prefetching, usage
from tests.support.bucket import bucket_of

ANY = storage.Access(schemes=("s3",))


class Rewritten(dict):
    """Objects that another program replaces after every response."""

    responses = 0

    def __getitem__(self, key):
        self.responses += 1
        return b"%s, version %d" % (key.encode(), self.responses)


OBJECTS = {f"{number}.jpg": b"%d" % number * 50 for number in range(3)} | {"empty.jpg": b"", "large.jpg": b"x" * 1000}


@pytest.fixture
def objects():
    return dict(OBJECTS)


@pytest.fixture
def bucket(objects, monkeypatch):
    with bucket_of(objects) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield "s3://bucket"


@pytest.fixture
def asked(monkeypatch):
    """Count the requests by the name of their method."""
    counts, really = Counter(), S3FileSystem._call_s3

    async def counting(self, method, *given, **options):
        counts[method] += 1
        return await really(self, method, *given, **options)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counting)
    return counts


def fetched(uris):
    """Return bytes and version of each file as they are prefetched."""
    found = []
    for opener in storage.open_prefetched(uris, ANY):
        with opener() as file:
            found.append((file.read(), storage.etag_or_mtime(file)))
    return found


def opened(uri):
    """Return bytes and version of a file that is opened by itself."""
    with storage.open_binary(uri) as file:
        return file.read(), storage.etag_or_mtime(file)


def test_an_image_costs_one_request_and_has_the_version_that_it_has_when_it_is_opened(bucket, asked):
    uris = [f"{bucket}/{number}.jpg" for number in range(3)]

    found = fetched(uris)

    assert asked == {"get_object": 3}
    assert found == [opened(uri) for uri in uris]
    assert found[0][1] == hashlib.md5(found[0][0], usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("objects", [Rewritten({"a.jpg": b"", "b.jpg": b""})], ids=["rewritten"])
def test_a_version_is_that_of_the_bytes_although_the_object_is_replaced_all_the_time(bucket):
    for data, version in fetched([f"{bucket}/a.jpg", f"{bucket}/b.jpg"] * 5):
        assert version == hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_range_has_the_version_of_its_object(bucket, asked):
    ranges = [storage.byte_range(f"{bucket}/large.jpg", start, 10) for start in (0, 990, 995)]

    found = fetched(ranges)

    assert asked == {"get_object": 3}
    assert [len(data) for data, _ in found] == [10, 10, 5]
    assert {version for _, version in found} == {opened(f"{bucket}/large.jpg")[1]}


def test_of_an_object_beyond_the_limit_nothing_is_prefetched_and_an_empty_one_is_read(bucket, monkeypatch):
    monkeypatch.setattr(prefetching, "PREFETCH_BYTES", 1000)
    uris = [f"{bucket}/{name}.jpg" for name in ("large", "empty", "1")]
    before = usage.totals()[usage.READ_BYTES]

    found = fetched(uris)

    assert found == [opened(uri) for uri in uris]
    assert usage.totals()[usage.READ_BYTES] - before == 2 * (1000 + 0 + 50)


def test_an_object_is_read_whole_in_one_request_whatever_its_size(bucket, asked, monkeypatch):
    """s3fs reads it in ranges, which may be of several versions."""
    monkeypatch.setattr(S3FileSystem, "default_block_size", 100)

    assert storage.read_bytes(f"{bucket}/large.jpg") == OBJECTS["large.jpg"]
    assert asked == {"get_object": 1}


@pytest.fixture
def sent(monkeypatch):
    """Record requests, and respond to them as a bucket of 2,500 objects would."""
    requests = []

    async def respond(self, method, *given, **options):
        requests.append((method, options))
        keys = [f"folder/{number}" for number in range(2500)]
        contents = [{"Key": key, "Size": 3, "LastModified": None} for key in keys]
        return {"ContentLength": 3, "ETag": '"x"', "Contents": contents}

    monkeypatch.setattr(S3FileSystem, "_call_s3", respond)
    return requests


def test_a_file_of_known_size_is_copied_by_one_request(sent):
    storage.copy("s3://bucket/a b", "s3://bucket/c", size_bytes=3)
    assert sent == [("copy_object", {"Bucket": "bucket", "Key": "c", "CopySource": {"Bucket": "bucket", "Key": "a b"}})]


@pytest.mark.parametrize("size_bytes", [None, (150 << 20) + 1])
def test_a_file_that_may_be_too_large_for_one_copy_is_looked_at_first(size_bytes, sent):
    storage.copy("s3://bucket/a", "s3://bucket/c", size_bytes=size_bytes)
    assert [method for method, _ in sent] == ["head_object", "copy_object"]


def test_a_folder_is_removed_by_a_listing_and_a_request_for_every_thousand_files(sent):
    storage.remove_folder("s3://bucket/folder")

    methods, options = zip(*sent, strict=True)
    assert methods == ("list_objects_v2", *["delete_objects"] * 3)
    removed = [each["Key"] for one in options[1:] for each in one["Delete"]["Objects"]]
    assert sorted(removed) == sorted(f"folder/{number}" for number in range(2500))


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_every_request_that_removes_a_folder_follows_a_check(scheme, sent):
    checks = []
    with storage.guarded(f"{scheme}://bucket", lambda: checks.append(len(sent))):
        storage.remove_folder(f"{scheme}://bucket/folder")

    assert checks == [0, 1, 2, 3]
    assert len(sent) == 4


ACCESS_POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint/mine"


@pytest.mark.parametrize(
    ("folder", "bucket", "prefix"),
    [
        ("bucket", "bucket", ""),
        ("bucket/a", "bucket", "a/"),
        ("bucket/a/b", "bucket", "a/b/"),
        ("bucket/a//b", "bucket", "a//b/"),
        (ACCESS_POINT, ACCESS_POINT, ""),
        (f"{ACCESS_POINT}/a/b", ACCESS_POINT, "a/b/"),
    ],
)
def test_a_folder_is_listed_by_its_prefix_in_a_bucket_or_an_access_point(folder, bucket, prefix, sent):
    [*storage.list_files(f"s3://{folder}")]
    assert [(method, asked["Bucket"], asked["Prefix"]) for method, asked in sent] == [
        ("list_objects_v2", bucket, prefix)
    ]


def test_who_pays_is_part_of_every_request_that_reads_an_object(sent, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"requester_pays": True})
    with pytest.raises(FetchError):  # the response has no bytes
        storage.read_bytes("s3://bucket/a")
    assert sent[0] == ("get_object", {"Bucket": "bucket", "Key": "a", "RequestPayer": "requester"})


def refuse_batches(monkeypatch, code):
    """Respond as a store that refuses to delete several objects at once; return the requests."""
    requests = []

    async def respond(self, method, *given, **options):
        requests.append((method, options.get("Key")))
        if method == "delete_objects":
            raise ClientError({"Error": {"Code": code}}, "DeleteObjects")
        return {}

    monkeypatch.setattr(S3FileSystem, "_call_s3", respond)
    return requests


@pytest.mark.parametrize("code", ["NotImplemented", "MissingContentMD5", "MalformedXML"])
def test_where_a_store_cannot_delete_many_files_at_once_each_is_deleted_by_itself(code, monkeypatch):
    requests = refuse_batches(monkeypatch, code)
    storage.remove_files("s3://bucket/folder", ["a", "b"])
    assert [requests[0], *sorted(requests[1:])] == [
        ("delete_objects", None), ("delete_object", "folder/a"), ("delete_object", "folder/b"),
    ]  # fmt: skip


def test_where_a_store_denies_a_deletion_no_other_is_tried(monkeypatch):
    requests = refuse_batches(monkeypatch, "AccessDenied")
    with pytest.raises(StorageError, match="grant this identity access"):
        storage.remove_files("s3://bucket/folder", ["a", "b"])
    assert requests == [("delete_objects", None)]


def find_where_the_store_responds(code, monkeypatch):
    async def respond(self, method, *given, **options):
        raise translate_boto_error(ClientError({"Error": {"Code": code, "Message": "refused"}}, "GetObject"))

    monkeypatch.setattr(S3FileSystem, "_call_s3", respond)
    return storage.find_bytes("s3://bucket/run.json")


@pytest.mark.parametrize("code", ["NoSuchKey", "404"])
def test_an_object_that_is_missing_is_not_found(code, monkeypatch):
    assert find_where_the_store_responds(code, monkeypatch) is None


@pytest.mark.parametrize("code", ["AccessDenied", "403", "NoSuchBucket", "InvalidAccessKeyId", "Unknown"])
def test_an_object_that_a_store_refuses_is_not_taken_for_a_missing_one(code, monkeypatch):
    with pytest.raises(StorageError):
        find_where_the_store_responds(code, monkeypatch)


ODD = {
    "run/o/a b.jpg",
    "run/o/é+%41.jpg",
    "run/o/.x/y",
    "run/o/z//w",
    "run/o/",
    "run/o/f_$folder$",
    "run/of",
    "run/p/a",
}


@pytest.mark.parametrize("objects", [dict.fromkeys(ODD, b"12")], ids=["odd"])
def test_a_listing_in_any_order_has_the_files_of_a_listing_in_order(bucket):
    for path, files in {"/run/o": 4, "/run/o/": 4, "": 6, "/none": 0}.items():
        found = [*storage.list_in_any_order(bucket + path)]
        assert sorted(found, key=lambda entry: entry.uri) == [*storage.list_files(bucket + path, hidden=True)]
        assert len(found) == files
    with pytest.raises(StorageError, match="cannot be listed"):
        [*storage.list_in_any_order("s3://other/run")]


def test_a_listing_in_any_order_asks_for_a_page_when_the_last_one_is_used(monkeypatch):
    marks = []

    async def respond(self, method, *given, **options):
        marks.append(options.get("ContinuationToken"))
        contents = [{"Key": f"run/{len(marks)}-{number}", "Size": number} for number in range(2)]
        return {"Contents": contents, "IsTruncated": len(marks) < 3, "NextContinuationToken": f"after {len(marks)}"}

    monkeypatch.setattr(S3FileSystem, "_call_s3", respond)
    found = storage.list_in_any_order("s3://bucket/run")
    assert [(next(found).relative, len(marks)) for _ in range(3)] == [("1-0", 1), ("1-1", 1), ("2-0", 2)]
    assert [(each.relative, each.size_bytes) for each in found] == [("2-1", 1), ("3-0", 0), ("3-1", 1)]
    assert marks == [None, "after 1", "after 2"]
