"""How the site is built from the Markdown of this repository: `make docs`, into build/docs."""

from consumer import __version__

project = "microbatch"
version = release = __version__

# The sources are those of the whole repository, so that one link works in both: on the site and beside the file.
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md", "deploy/*.md"]
exclude_patterns = [".*", "build", "consumer", "schemas", "tests"]
root_doc = "docs/index"
linkcheck_ignore = [r"http://(127\.|10\.|localhost)"]  # examples
html_extra_path = ["start"]  # an index.html at the top, which leads to the first page

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3  # the anchors that headings have on GitHub

nitpicky = True
# There is no network while the site is built: what the standard library says of itself is not linked. Nor are aliases
# of types, which have no module in front.
nitpick_ignore_regex = [("py:.*", r"(collections|datetime|typing|enum)\..*|[A-Z]\w+")]

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
autodoc_typehints_format = "short"
default_role = "code"  # docstrings write code as Markdown does

highlight_language = "text"
html_theme = "furo"
html_title = "microbatch"
html_copy_source = False
html_show_sphinx = html_show_copyright = False
