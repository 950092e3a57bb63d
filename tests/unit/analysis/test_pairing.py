import pytest

from fsf_core.analysis.metrics.pairing import Named, name_in_pattern, pair
from fsf_core.errors import ConfigError
from fsf_core.keys import file_stem


def files(*names):
    return [Named(name, may_be_frame=True) for name in names]


def paired(masks, labels):
    found = pair(masks, labels).label_of_mask
    return {masks[mask]: labels[label] for mask, label in found.items()}


def names_of(masks, labels):
    return {mask.name: label.name for mask, label in paired(masks, labels).items()}


@pytest.mark.parametrize(
    ("mask", "label", "step"),
    [
        ("a/x", "a/x", "name"),
        ("müller/ü 1", "mu\u0308ller/u\u0308 1", "name"),  # as macOS decomposes names
        ("a/x.jpg", "a/x", "name without suffix"),
        ("v1.2/x", "v1.2/x", "name"),
        ("a/x.jpg", file_stem("a/x.jpg"), "name without suffix"),
        ("a/x", "a/x.label", "name up to its first dot"),
        ("x.published", "x.label", "name up to its first dot"),
        ("orchard/x.jpg", "x", "file name without suffix"),
        ("x", "deep/er/x", "file name without suffix"),
        ("x.png", "x_label", "file name without marker"),
        ("x_pred", "x-mask", "file name without marker"),
        ("aachen_000000_000019_leftImg8bit", "aachen/aachen_000000_000019_gtFine_labelIds", "file name without marker"),
    ],
)
def test_a_mask_is_paired_with_the_label_of_its_name(mask, label, step):
    found = pair([Named(mask)], files(label))
    assert found.label_of_mask == {0: 0}
    assert found.steps == {step: 1}


@pytest.mark.parametrize(
    ("mask", "label"), [("x", "y"), ("x1", "x10"), ("xlabel", "x"), ("a.1", "b.1"), ("label", "mask")]
)
def test_other_names_are_not_paired(mask, label):
    assert paired([Named(mask)], files(label)) == {}


def test_the_source_of_an_item_gives_it_a_name():
    masks = [
        Named("0001", None, "s3://bucket/photos/img236.jpg?versionId=1"),
        Named("0002", None, "/photos/img237.jpg"),
    ]
    assert names_of(masks[1:], files("img237")) == {"0002": "img237"}
    assert names_of(masks[1:], files("img237_label")) == {"0002": "img237_label"}
    assert names_of([Named("img237", None, "/photos/other.jpg")], files("img237", "other")) == {"img237": "img237"}


def test_whole_names_win_over_parts_of_names():
    masks = files("a/x", "b/x", "x")
    assert names_of(masks, files("x", "b/x", "a/x")) == {name: name for name in ("a/x", "b/x", "x")}
    assert names_of(masks, files("c/x")) == {}, "which of the three?"


def test_an_entry_of_several_names_is_not_paired_with_whichever_comes_first():
    masks = [Named("cam/img_1.mp4", 7), Named("other/000007")]
    for order in (masks, masks[::-1]):
        assert names_of(order, files("img_1.jpg/000007")) == {}, "frame 7 of the one, or the file name of the other?"


def test_a_name_that_several_have_is_an_error():
    with pytest.raises(ConfigError, match=r"found 2 masks \('a.jpg', 'a.png'\) and 1 labels \('a'\) of one name"):
        pair([Named("a.jpg"), Named("a.png")], files("a"))
    with pytest.raises(ConfigError, match=r"found 1 masks \('a'\) and 2 labels"):
        pair(files("a"), files("a", "a"))
    assert names_of(files("b"), files("a", "a", "b")) == {"b": "b"}, "no mask has the repeated name"


class TestFrames:
    clip = (Named("clips/clip.mp4", 0), Named("clips/clip.mp4", 7), Named("clips/clip.mp4", 12))

    @pytest.mark.parametrize(
        "names",
        [
            ("clips/clip/000000", "clips/clip/000007", "clips/clip/000012"),
            ("clips/clip.mp4/0", "clips/clip.mp4/7", "clips/clip.mp4/12"),
            ("clip/frame_0", "clip/frame_7", "clip/frame_12"),
            ("clip_000000", "clip_000007", "clip_000012"),
            ("clip-frame-0", "clip-frame-7", "clip-frame-12"),
        ],
    )
    def test_frames_of_a_video_are_found_by_their_number(self, names):
        masks = [Named("other.jpg"), *self.clip]
        assert paired(masks, files(*names)) == dict(zip(self.clip, files(*names), strict=True))

    def test_labels_of_a_manifest_are_frames_of_its_items(self):
        labels = [Named("clips/clip.mp4", 7)]
        assert paired(list(self.clip), labels) == {self.clip[1]: labels[0]}
        assert names_of(files("clip/000007", "clip/000008"), labels) == {"clip/000007": "clips/clip.mp4"}

    def test_a_frame_is_not_paired_with_the_label_of_a_whole_item(self):
        assert paired(list(self.clip), files("clips/clip")) == {}

    def test_an_image_whose_name_ends_with_a_number_is_no_frame(self):
        images = [Named("img_7"), Named("img", None)]
        assert names_of([*self.clip, *images], files("img_7")) == {"img_7": "img_7"}


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("*.label.png", "a.label.png", "a"),
        ("*_label.png", "a_b_label.png", "a_b"),
        ("*", "a.png", "a"),
        ("*/gt/*.png", "x/gt/a.png", "x/a"),
        ("**/*.png", "x/y/a.png", "x/y/a"),
        ("**/*.png", "a.png", "a"),
        ("img??.png", "img07.png", "07"),
        ("[ab]*.gt.png", "b1.gt.png", "b1"),
        ("ü*-(x).png", "ü1-(x).png", "1"),
    ],
)
def test_the_parts_that_wildcards_match_are_the_name(pattern, path, name):
    assert name_in_pattern(pattern, path) == name


def test_patterns_pair_files_of_one_folder():
    masks, labels = ([name_in_pattern(f"*.{kind}.png", f"{stem}.{kind}.png") for stem in "ab"] for kind in ("p", "l"))
    assert names_of(files(*masks), files(*labels)) == {"a": "a", "b": "b"}
