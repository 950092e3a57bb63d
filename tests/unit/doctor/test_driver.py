"""What the driver reads before a job: the bundle, the first items of a list and their labels."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from fsf_core.config import DoctorConfig
from fsf_core.doctor import driver
from fsf_core.doctor.subject import Once, Subject
from fsf_core.errors import ConfigError
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import PROFILES
from tests.support.labelled import write_list


def subject_of(profile=PROFILES["fastsegformer"], **options):
    """Return the job of a bundle of one class."""
    subject = Subject(DoctorConfig(bundle="b", **options))
    variants = {"plain": SimpleNamespace(size_bytes=100)}
    facts = {"uri": "b", "sha256": "a" * 64, "classes": ("a",), "num_classes": 1, "palette": ((0, 0, 0),)}
    bundle = SimpleNamespace(**facts, variants=variants, profile=profile, output=Output())
    subject.bundle = Once(lambda: bundle)
    return subject


def test_labels_of_the_first_items_are_read_like_the_items(tmp_path):
    """A folder will do for a video's; an address that items may not have is reported as it would fail."""
    (tmp_path / "labels").mkdir()
    for name in ("a.jpg", "b.jpg", "a.png"):
        (tmp_path / name).write_bytes(b"bytes")
    rows = [("a", "a.jpg", "a.png"), ("b", "b.jpg", "gone.png"), ("c", "a.jpg", ""), ("v", "b.jpg", "labels")]
    rows += [("d", "a.jpg", "http://127.0.0.1/l.png")]
    manifest = write_list(tmp_path, rows)

    items, labels = driver.check_items(Subject(DoctorConfig(bundle="bundle", manifest=str(manifest))))

    assert (items.status, items.found) == ("ok", "5 of the first 5 items can be read")
    assert labels.status == "warn"
    assert labels.found.startswith("2 of the first 4 labels can be read: ")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, "1 classes, plain (0.0 MB)"),
        ({"tile": True}, "1 classes, plain (0.0 MB); --tile: windows of 224×224 pixels that share at least 56"),
    ],
)
def test_a_bundle_is_described_as_the_job_would_use_it(options, found):
    [finding] = driver.check_bundle(subject_of(**options))

    assert (finding.status, finding.found) == ("ok", f"b is whole: sha256 {'a' * 12}, {found}")


@pytest.mark.parametrize(
    ("profile", "overlap"),
    [(PROFILES["fastsegformer"], 200), (replace(PROFILES["fastsegformer"], mode="own", height_px=0, width_px=0), None)],
)
def test_windows_that_the_job_would_refuse_are_refused(profile, overlap):
    with pytest.raises(ConfigError, match=r"--overlap is 200|--tile needs a model"):
        [*driver.check_bundle(subject_of(profile, tile=True, overlap=overlap))]
