"""A folder is one kind of list; what is not part of it is counted and named, and never scored or lost in silence."""

import io
import json
import logging
import re
import tarfile
from pathlib import Path

import deltalake
import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

import fsf_core
from fsf_core import storage
from fsf_core.errors import ConfigError, ManifestError
from fsf_core.manifest import Selection, open_manifest
from fsf_core.manifest.left_out import exclusion
from fsf_core.manifest.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(params=["disk", "store"])
def home(request, tmp_path):
    """A folder on a disk or in a store."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield str(tmp_path / "home") if request.param == "disk" else "memory://home"
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def put(home, *names, data=b"x"):
    for name in names:
        storage.write_bytes(storage.join(home, name), data)


def parquet(**columns):
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def tar(*names):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return data.getvalue()


def ids(manifest):
    return [item for batch in manifest.batches() for item in batch.column("item_id").to_pylist()]


def omitted(manifest):
    return {one.reason: (one.count, one.first) for one in manifest.omissions}


# --- names ---

MEDIA = [
    "a.jpg", "B.JPG", "c.Jpeg", "d.jfif", "e.jpe", "h.mpo", "i.j2k", "j.jpx", "k.avifs", "l.pgm", "m.PAM", "n.vob",
    "o.asf", "p.f4v", "q.3g2", "r.m2t", "s.MTS", "t.divx", "u.mxf", "v.dv", "w.ivf", "x.apng",
]  # fmt: skip
OTHERS = ["f", "g.jpg_large", "l.jpg.1", "sha256-0a1b", "notes.txt", "Thumbs.db", "desktop.ini"]


def test_files_with_other_endings_are_counted_and_named(home, caplog):
    """Kind: a file that is passed over because of its name."""
    put(home, *MEDIA, *OTHERS, ".DS_Store", "._a.jpg", "packed.tar.gz", "old.ZIP")
    with caplog.at_level(logging.INFO, "fsf"):
        manifest = open_manifest(home)

    assert sorted(ids(manifest)) == sorted(MEDIA)
    assert omitted(manifest)["not_media"] == (7, tuple(sorted(OTHERS)[:5]))
    assert omitted(manifest)["compressed"] == (2, ("old.ZIP", "packed.tar.gz"))
    assert manifest.left_out == 9
    assert re.search(r"event=files_left_out reason=not_media files=7 first=\('Thumbs.db', 'desktop.ini'", caplog.text)


def test_the_manual_lists_the_endings_of_images_and_videos():
    manual = (Path(fsf_core.__file__).parent / "manifest" / "README.md").read_text()
    lines = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[1].strip("| ").split()
        for line in manual.splitlines()
        if line.startswith(("| images |", "| videos |"))
    }

    assert {*lines["images"]} == IMAGE_SUFFIXES
    assert {*lines["videos"]} == VIDEO_SUFFIXES


def test_a_glob_takes_files_whatever_their_names(home):
    put(home, "f", "a.jpg", "notes.txt")

    assert ids(open_manifest(f"{home}/*")) == ["a.jpg", "f", "notes.txt"]


@pytest.mark.parametrize("name", ["photo", "sha256-0a1b", "clip.dat", "a.jpg_large"])
def test_a_single_file_is_an_item_by_its_content(name, tmp_path):
    """Kind: a file that is named itself, whatever its ending."""
    clip = bytes.fromhex("0000001866747970 69736f6d00000200 69736f6d")
    storage.write_bytes(f"{tmp_path}/{name}", clip if name == "clip.dat" else bytes.fromhex("ffd8ffe000104a464946"))

    assert ids(open_manifest(f"{tmp_path}/{name}")) == [name]


# --- folders of the system, and what the user excludes ---

PHOTOS = ["1.jpg", "images/2.jpg", "images/2.seg.png", "labels/1.png", "labels/deep/3.png", "x/labels.jpg"]
JUNK = ["@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "$Recycle.Bin/$R1.jpg", "images/__MACOSX/2.jpg", "#recycle/z.jpg"]


@pytest.mark.parametrize("pattern", ["", "/**/*.*"])
def test_folders_of_the_system_are_left_out_and_counted(pattern, home):
    """Kind: thumbnails, resource forks and deleted files that systems keep beside pictures."""
    put(home, *PHOTOS, *JUNK)

    manifest = open_manifest(home + pattern)

    assert sorted(ids(manifest)) == PHOTOS
    assert manifest.left_out == 0
    assert omitted(manifest)["system_folders"] == (4, ("#recycle/", "$Recycle.Bin/", "@eaDir/", "images/__MACOSX/"))
    assert ids(open_manifest(f"{home}/@eaDir")) == ["1.jpg/SYNOPHOTO_THUMB_M.jpg"]
    assert ids(open_manifest(f"{home}/**/@eaDir/*/*.jpg")) == ["@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg"]


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (("labels",), ["1.jpg", "images/2.jpg", "images/2.seg.png", "x/labels.jpg"]),
        (("labels/",), ["1.jpg", "images/2.jpg", "images/2.seg.png", "x/labels.jpg"]),
        (("/labels",), ["1.jpg", "images/2.jpg", "images/2.seg.png", "x/labels.jpg"]),
        (("labels/*",), ["1.jpg", "images/2.jpg", "images/2.seg.png", "x/labels.jpg"]),
        (("*.png",), ["1.jpg", "images/2.jpg", "x/labels.jpg"]),
        (("*.seg.*", "x/**"), ["1.jpg", "images/2.jpg", "labels/1.png", "labels/deep/3.png"]),
        (("**/deep/*.png",), [name for name in PHOTOS if name != "labels/deep/3.png"]),
        (("[12].jpg",), [name for name in PHOTOS if not name.endswith(("1.jpg", "2.jpg"))]),
        (("deep/",), [name for name in PHOTOS if name != "labels/deep/3.png"]),
        (("1.png/",), PHOTOS),
        (("/1.*",), PHOTOS[1:]),
        (("image*/2.jp?",), [name for name in PHOTOS if name != "images/2.jpg"]),
    ],
)
@pytest.mark.parametrize("pattern", ["", "/**/*.*"])
def test_excluded_files_are_left_out_as_in_gitignore_and_counted(exclude, expected, pattern, home):
    put(home, *PHOTOS)

    manifest = open_manifest(home + pattern, Selection(exclude=exclude))

    assert sorted(ids(manifest)) == expected
    assert omitted(manifest).get("excluded", (0,))[0] == len(PHOTOS) - len(expected)


def test_what_is_excluded_is_part_of_what_the_run_is():
    assert Selection(exclude=("a", "b")).facts() == {"exclude": ["a", "b"]}
    assert Selection(tar_ids="name", image_column="x").facts() == {"tar_ids": "name", "image_column": "x"}
    assert Selection().facts() == {}


@pytest.mark.parametrize("pattern", ["a**b", "/", "//"])
def test_a_pattern_that_excludes_nothing_is_refused(pattern, tmp_path):
    put(str(tmp_path), "a.jpg")

    with pytest.raises(ConfigError, match=r"--exclude is .*, expected patterns"):
        open_manifest(str(tmp_path), Selection(exclude=(pattern,)))


def test_exclude_is_refused_for_a_list_of_rows(tmp_path):
    (tmp_path / "l.txt").write_text("a.jpg\n")

    with pytest.raises(ConfigError, match="--exclude is for files of folders and globs, and members of tar archives"):
        open_manifest(f"{tmp_path}/l.txt", Selection(exclude=("*.png",)))


def test_a_pattern_matches_whole_names_only():
    assert not exclusion(("a.jp",)).match("a.jpg")
    assert not exclusion(("labels",)).match("labels2/a.jpg")
    assert exclusion(("a[1].jpg",)).match("x/a1.jpg")


# --- several kinds of list in one folder ---

CELLS = pa.array([{"bytes": b"A", "path": None}], IMAGE)


@pytest.mark.parametrize("columns", [{"uri": ["/a.jpg"]}, {"image": CELLS}, {"a": [b"1"], "b": [b"2"]}])
def test_media_beside_tables_of_items_are_refused_with_advice_that_works(columns, home):
    """Kind: a Hugging Face repository, whose logo was scored in place of its tables."""
    put(home, "README.md", "assets/logo.png")
    put(home, "data/train-00000-of-00001.parquet", data=parquet(**columns))

    with pytest.raises(ManifestError, match=r"1 images or videos \(assets/logo\.png\) and 1 Parquet tables") as caught:
        open_manifest(home)
    pattern, table = re.findall(r"'([^']*)'", str(caught.value))
    assert ids(open_manifest(home, Selection(exclude=(pattern,)))) == ["assets/logo.png"]
    chosen = open_manifest(table, Selection(image_column="a" if "a" in columns else None))
    assert chosen.items == 1
    assert table == f"{home}/**/*.parquet"


def test_media_beside_archives_of_media_are_refused_with_advice_that_works(home):
    put(home, "logo.png")
    put(home, "train-0.tar", data=tar("1.jpg", "1.json"))

    with pytest.raises(ManifestError, match=r"1 images or videos \(logo\.png\) and 1 tar archives") as caught:
        open_manifest(home)
    pattern, archives = re.findall(r"'([^']*)'", str(caught.value))
    assert ids(open_manifest(home, Selection(exclude=(pattern,)))) == ["logo.png"]
    assert ids(open_manifest(archives)) == ["train-0/1"]


def test_media_beside_other_tables_and_archives_are_the_list_and_those_are_named(home):
    put(home, "1.jpg", "damaged.parquet", "damaged.tar")
    put(home, "metadata.parquet", data=parquet(file_name=["1.jpg"], text=["a"]))
    put(home, "code.tar", data=tar("main.py"))

    manifest = open_manifest(home)

    assert ids(manifest) == ["1.jpg"]
    assert omitted(manifest) == {
        "tables": (2, ("damaged.parquet", "metadata.parquet")),
        "archives": (2, ("code.tar", "damaged.tar")),
    }


def test_archives_beside_their_tables_of_facts_are_the_list(home):
    """Kind: img2dataset writes a Parquet file without items beside every archive."""
    put(home, "00000.tar", data=tar("000000000.jpg", "000000000.txt"))
    put(home, "00000.parquet", data=parquet(url=["http://x/a.jpg"], key=["000000000"]))
    put(home, "00000_stats.json")

    manifest = open_manifest(home)

    assert ids(manifest) == ["00000/000000000"]
    assert omitted(manifest) == {
        "not_media": (1, ("00000_stats.json",)),
        "tables": (1, ("00000.parquet",)),
        "other_members": (1, ("00000.tar/000000000.txt",)),
    }


def test_tables_without_items_are_refused_by_their_columns_where_nothing_else_is_a_list(home):
    put(home, "a.parquet", data=parquet(url=["x"]))
    with pytest.raises(ManifestError, match=r"has the columns \['url'\], expected one named `uri`"):
        open_manifest(home)


def test_a_glob_of_tables_is_a_list_of_their_rows_and_its_folders_become_columns(home):
    put(home, "split=a/1.parquet", data=parquet(uri=["x.jpg"]))
    put(home, "split=b/2.pq", "split=b/n.txt", data=parquet(uri=["y.jpg"]))

    manifest = open_manifest(f"{home}/**/*.p*", Selection(where="split == 'b'"))

    assert [row["uri"] for batch in manifest.batches() for row in batch.to_pylist()] == [f"{home}/y.jpg"]


# --- what writers of tables keep for themselves ---


@pytest.mark.parametrize("private", ["_temporary/0/p.parquet", "_metadata.parquet", ".staging/p.parquet", ".p.parquet"])
def test_tables_under_names_that_writers_keep_are_left_out(private, home):
    """Kind: names that begin with _ or a dot, as Spark, Hive and Arrow leave them out; _day=1 is a column's folder."""
    put(home, "part-0.parquet", "_day=1/part-1.parquet", data=parquet(uri=["a.jpg"], id=["1"]))
    put(home, "_day=1/part-1.parquet", data=parquet(uri=["b.jpg"], id=["2"]))
    put(home, private, data=parquet(uri=["c.jpg"], id=["3"]))
    put(home, "_SUCCESS")

    for pattern in ("", "/**/*.parquet"):
        manifest = open_manifest(home + pattern)
        assert sorted(ids(manifest)) == ["1", "2"]
    assert manifest.left_out == 0


@pytest.fixture
def deleted(tmp_path):
    """A Delta table by days with one live row and a deleted one."""
    path = str(tmp_path / "tables" / "delta")
    deltalake.write_deltalake(path, pa.table({"uri": ["/a.jpg", "/b.jpg"], "day": ["1", "2"]}), partition_by=["day"])
    deltalake.DeltaTable(path).delete("day = '2'")
    return path


@pytest.mark.parametrize("below", ["", "/day=1", "/**/*.parquet", "/../**/*.parquet", "/.."])
def test_a_delta_table_is_refused_as_what_it_is_with_an_example_that_works(below, deleted, tmp_path):
    """Kind: the files of a table format hold rows that were deleted, however the folder is named."""
    with pytest.raises(ManifestError, match=r"delta is a Delta table, whose Parquet files also hold rows") as caught:
        open_manifest(deleted + below)

    example = re.search(r"for example with (pq\.write_table.*)$", str(caught.value))[1]
    target = str(tmp_path / "list.parquet")
    exec(example.replace("list.parquet", target), {"pq": pyarrow.parquet, "deltalake": deltalake})  # noqa: S102 - the advice is followed
    assert ids(open_manifest(target)) == ["/a.jpg"]


@pytest.mark.parametrize(
    ("name", "mark", "data"),
    [
        ("Iceberg", "metadata/v1.metadata.json", "data/day=1/p.parquet"),
        ("Iceberg", "metadata/00000-abc.metadata.json", "data/p.parquet"),
        ("Hudi", ".hoodie/hoodie.properties", "day=1/p.parquet"),
        ("Delta", "_delta_log/00000000000000000000.json", "p.parquet"),
    ],
)
def test_tables_of_other_formats_are_refused_from_above_and_from_within(name, mark, data, home):
    put(home, f"lake/t/{mark}")
    put(home, f"lake/t/{data}", data=parquet(uri=["/a.jpg"]))

    for folder in ("lake/t", f"lake/t/{data.rpartition('/')[0]}".rstrip("/"), "lake", "lake/**/*.parquet"):
        with pytest.raises(ManifestError, match=rf"lake/t is a {name} table"):
            open_manifest(f"{home}/{folder}")


def test_a_table_of_a_format_below_photos_is_no_list_and_is_named(home):
    put(home, "1.jpg", "tables/masks/_delta_log/0.json")
    put(home, "tables/masks/p.parquet", data=parquet(uri=["/a.jpg"]))

    manifest = open_manifest(home)

    assert ids(manifest) == ["1.jpg"]
    assert omitted(manifest) == {"tables": (1, ("tables/masks/p.parquet",))}


# --- links ---


@pytest.mark.parametrize("pattern", ["", "/**/*.jpg"])
def test_the_pictures_behind_links_are_items_and_loops_are_counted_and_named(pattern, tmp_path):
    """Kind: a linked folder beside pictures, and a folder of links alone."""
    put(str(tmp_path), "photos/a.jpg", "far/b.jpg", "far/sub/c.jpg")
    (tmp_path / "photos/linked").symlink_to("../far")
    (tmp_path / "far/round").symlink_to("..")
    (tmp_path / "only").mkdir()
    (tmp_path / "only/train").symlink_to("../far/sub")

    manifest = open_manifest(f"{tmp_path}/photos{pattern}")

    assert sorted(ids(manifest)) == [
        "a.jpg", "linked/b.jpg", "linked/round/only/train/c.jpg", "linked/sub/c.jpg",
    ]  # fmt: skip
    assert omitted(manifest)["loops"] == (2, ("linked/round/far", "linked/round/photos"))
    assert ids(open_manifest(f"{tmp_path}/only{pattern}")) == ["train/c.jpg"]


@pytest.mark.parametrize("pattern", ["", "/**/*.jpg"])
def test_what_the_job_writes_is_left_out_behind_a_link_too(pattern, tmp_path):
    put(str(tmp_path), "photos/a.jpg", "runs/out/overlays/b.jpg", "runs/old/overlays/c.jpg")
    put(str(tmp_path), "runs/old/run.json", data=json.dumps({"layout": 2, "run_id": "r", "fingerprint": {}}).encode())
    (tmp_path / "photos/runs").symlink_to("../runs")

    assert ids(open_manifest(f"{tmp_path}/photos{pattern}", outputs=[f"{tmp_path}/runs/out"])) == ["a.jpg"]
