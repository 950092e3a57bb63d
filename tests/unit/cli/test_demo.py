"""`fsf demo` in the folder of an earlier version: what it lacks is drawn, and its run is made anew."""

from fsf_core.cli import demo


def test_data_without_labels_of_the_video_is_drawn_again_and_its_run_removed(tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    out.mkdir()
    (data / "manifest.csv").write_text("id,uri\norange_000,pictures/orange_000.jpg\n")
    (out / "run.json").write_text("{}")

    manifest = demo._draw(data, out)

    assert manifest.read_text().count("\n") == 15
    assert len([*(data / "labels" / "conveyor").glob("*.png")]) == 48
    assert not out.exists()

    out.mkdir()
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert demo._draw(data, out) == manifest
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    assert out.exists()
