"""The sizes of a network's input at which a model is traced, measured and compared.

A model whose input has one size is tried at that size. One whose input depends on the image is tried at several,
because a graph may be right at one of them alone. Knows numbers; knows no torch and no onnx.
"""

# N images, H rows, W columns

from fsf_core.model.preprocess import Profile, input_hw

HEIGHT, WIDTH = "height", "width"
"""Names of the free sides of an input."""

_EXAMPLE_HW, _OTHER_HW = (240, 320), (333, 251)
"""Images whose inputs are the examples. Their sides differ, so that a swap of them is noticed."""


def example_hw(profile: Profile) -> tuple[int, int]:
    """Return rows and columns of the input that a model is traced and measured with."""
    return input_hw(*_EXAMPLE_HW, profile)


def other_hw(profile: Profile) -> tuple[int, int]:
    """Return rows and columns of an input of another size; the same where every input has one size."""
    return input_hw(*_OTHER_HW, profile)


def declared_hw(profile: Profile) -> tuple[int | str, int | str]:
    """Return the sides as a graph declares them: a name for a free one."""
    return (profile.height_px, profile.width_px) if profile.is_fixed else (HEIGHT, WIDTH)


def declared_output(shape: tuple[int, ...], other: tuple[int, ...]) -> tuple[int | str, ...]:
    """Return an output's sizes behind the batch as a graph declares them: a name for those that follow the input.

    Args:
        shape: sizes for the example.
        other: sizes for an input of another size.
    """
    return tuple(
        size if size == found else f"output{axis}" for axis, (size, found) in enumerate(zip(shape, other, strict=True))
    )
