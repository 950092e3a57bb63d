"""What the driver reads of a list before a job: its first items and their labels."""

from fsf_core.config import DoctorConfig
from fsf_core.doctor import driver
from fsf_core.doctor.subject import Subject
from tests.support.labelled import write_list


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
