"""The documentation site: it turns the pages of the repository, docstrings and commands into HTML with Sphinx.

``make docs`` builds it. ``navigation.toml`` has the order of the pages.
"""
