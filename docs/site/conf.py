"""The configuration of Sphinx. ``lakefeed_site.build`` copies it beside the pages."""

import re
from html import escape
from textwrap import shorten
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain

import lakefeed
from lakefeed_site.paths import SITE
from lakefeed_site.source_pages import collect_source_pages, resolve_source_links

DESCRIPTION_CHARACTERS = 160

project = "lakefeed"
author = "the lakefeed authors"
copyright = author
version = release = lakefeed.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 6
myst_url_schemes = {"http": None, "https": None, "mailto": None, "source": None}
myst_enable_extensions = ["colon_fence"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"lakefeed {version}"
html_static_path = ["static"]
html_css_files = ["lakefeed.css"]
html_search_scorer = str(SITE / "static" / "scorer.js")
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": []}
pygments_style = "default"
pygments_dark_style = "github-dark"
# Classes of one name in two modules, such as Dataset: the link leads to the first.
suppress_warnings = ["myst.header", "ref.python"]


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the pages of source files, and the names of the house to fields."""
    app.connect("doctree-resolved", resolve_source_links)
    app.connect("html-collect-pages", collect_source_pages)
    app.connect("html-page-context", describe_page)
    app.connect("autodoc-process-signature", hide_private_parameters)
    for field in PythonDomain.directives["attribute"].doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    return {"parallel_read_safe": True, "parallel_write_safe": False}


def describe_page(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], tree: nodes.document | None
) -> None:
    """Adds the beginning of a page as its description, which search engines and previews of links show."""
    if tree is None:
        return
    text = " ".join(" ".join(each.astext() for each in tree.findall(nodes.paragraph) if _is_prose(each)).split())
    context["metatags"] += (
        f'<meta name="description" content="{escape(shorten(text, DESCRIPTION_CHARACTERS, placeholder=" …"))}">\n'
    )


def _is_prose(paragraph: nodes.paragraph) -> bool:
    return not isinstance(paragraph.parent, nodes.entry | nodes.list_item)


def hide_private_parameters(*event: Any) -> tuple[str, str] | None:
    """Returns a signature without parameters whose names begin with an underscore."""
    signature, result = event[-2:]
    return None if signature is None else (re.sub(r", _\w+: [^,)]+", "", signature), result)
