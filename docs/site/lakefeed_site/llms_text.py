"""``llms.txt``: the pages of the site with a sentence each, for language models. Each link is to Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lakefeed_site.navigation import INDEX, Section, title

MAX_CHARACTERS = 200


def write_llms_text(output: Path, contents: list[Section], texts: Mapping[str, str]) -> None:
    """Writes ``llms.txt`` and the Markdown of each page into the folder of the site.

    Args:
        output: the folder of the site.
        contents: the navigation.
        texts: the text of each page by its name.
    """
    lines = ["# lakefeed", "", f"> {first_sentence(texts[INDEX])}", "", f"- [Home]({INDEX}): five minutes, and a map"]
    for section in contents:
        lines += ["", f"## {section.title}", ""]
        for page in section.pages:
            lines.append(f"- [{title(texts[page])}]({_file(page)}): {first_sentence(texts[page])}")
    (output / "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")
    for page, text in texts.items():
        target = output / _file(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


def _file(page: str) -> str:
    return f"{page.removesuffix('.rst')}.md" if page.endswith(".rst") else page


def first_sentence(text: str) -> str:
    """Returns the first sentence of the first paragraph of a page, without marks."""
    for paragraph in re.split(r"\n\s*\n", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)):
        if paragraph.strip() and paragraph.strip()[0] not in "#|!<>-*:.=":
            plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()).replace("**", ""))
            sentence = re.split(r"(?<=[.:]) ", plain.replace("`", ""))[0].rstrip(":.")
            return sentence if len(sentence) <= MAX_CHARACTERS else sentence[: MAX_CHARACTERS - 1] + "…"
    return ""
