"""What an HTML page holds, read by the standard library's parser: elements, attributes, texts."""

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Element:
    """One element."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    """Directly inside it."""


@dataclass
class Parsed:
    """A page."""

    elements: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """Return the elements of a name."""
        return [each for each in self.elements if each.tag == tag]

    @property
    def text(self) -> str:
        """The text that people read."""
        hidden = ("script", "style", "title")
        return " ".join(" ".join(each.text for each in self.elements if each.tag not in hidden).split())


def parse(page: str) -> Parsed:
    """Parse a page."""
    reader = _Reader()
    reader.feed(page)
    return reader.page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Parsed()
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.page.elements.append(element)
        if tag not in ("meta", "img", "input", "br", "link"):
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data
