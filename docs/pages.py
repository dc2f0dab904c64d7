"""A hook of mkdocs: pages that lie elsewhere in the repository, and links to them.

Links in README.md and below docs/ are written for whoever reads the repository; here
those between pages are turned into the site's.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parent.parent
_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the repository by the page that they become."""
_LINK = re.compile(r"(\]\()([^)#:\s]+\.(?:md|svg|py))(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that lie outside of docs/."""
    for source, page in _PAGES.items():
        content = (_ROOT / source).read_text()
        files.append(File.generated(config, page, content=content))
    files.append(File.generated(config, "examples.md", content=_examples()))
    files.remove(files.src_uris["pages.py"])
    return files


def _examples() -> str:
    """The programs of examples/, one after the other."""
    parts = ["# Examples"]
    for path in sorted((_ROOT / "examples").glob("*.py")):
        heading = f"## `{path.name}` {{#{path.stem}}}"
        parts.append(f"{heading}\n\n```python\n{path.read_text()}```")
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points the links of a page to the site's pages."""
    sources = {page: source for source, page in _PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def replace(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        if path.startswith("examples/"):
            return f"{match[1]}examples.md#{Path(path).stem}{match[4]}"
        target = _PAGES.get(path, path.removeprefix("docs/"))
        return f"{match[1]}{target}{match[3] or ''}{match[4]}"

    return _LINK.sub(replace, markdown)
