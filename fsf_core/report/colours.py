"""The colours of classes on a light and on a dark page, and the shades of a heat map. Knows no data."""

from collections.abc import Sequence

Rgb = tuple[int, int, int]

PAPER = ((251, 250, 248), (22, 21, 20))
"""Background of the page, light and dark, as report.css has it."""

MIN_CONTRAST = 3.0
"""Contrast of graphics on the page, WCAG 2.2 criterion 1.4.11."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
RIGHT, WRONG = ((15, 94, 102), (124, 199, 207)), ((163, 38, 46), (240, 139, 139))
"""Full shade of right and of wrong cells, on a light and on a dark page."""

SHADES = 8


def class_variables(palette: Sequence[Rgb]) -> str:
    """Return a CSS declaration for every class: --kN is drawn on the page, --sN is the class's own colour."""
    return "".join(
        f"--k{k}:light-dark({_hex(visible(colour, PAPER[0]))},{_hex(visible(colour, PAPER[1]))});--s{k}:{_hex(colour)};"
        for k, colour in enumerate(palette)
    )


def heat_rules() -> str:
    """Return a CSS rule for each shade of the cells that are right (hN) and wrong (eN)."""
    rules = []
    for name, (light, dark) in (("h", RIGHT), ("e", WRONG)):
        for step in range(SHADES + 1):
            grounds = [mix(paper, full, step / SHADES) for paper, full in zip(PAPER, (light, dark), strict=True)]
            inks = [BLACK if contrast(BLACK, ground) >= contrast(WHITE, ground) else WHITE for ground in grounds]
            rules.append(
                f".{name}{step}{{background:light-dark({_hex(grounds[0])},{_hex(grounds[1])});"
                f"color:light-dark({_hex(inks[0])},{_hex(inks[1])})}}"
            )
    return "".join(rules)


def visible(colour: Rgb, paper: Rgb) -> Rgb:
    """Return a colour with enough contrast to the page: the same, or mixed with black or white as little as needed."""
    end = BLACK if contrast(BLACK, paper) >= contrast(WHITE, paper) else WHITE
    for step in range(21):
        mixed = mix(colour, end, step / 20)
        if contrast(mixed, paper) >= MIN_CONTRAST:
            return mixed
    return end


def mix(one: Rgb, other: Rgb, share: float) -> Rgb:
    """Return a colour between two; share 0 is the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def contrast(one: Rgb, other: Rgb) -> float:
    """Return the contrast ratio of two colours, 1 to 21, by WCAG 2.2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: Rgb) -> float:
    """Return the relative luminance of an sRGB colour, 0 to 1, by WCAG 2.2."""
    linear = [
        level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4  # noqa: PLR2004 - sRGB
        for level in (channel / 255 for channel in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _hex(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
