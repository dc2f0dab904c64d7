"""What a notebook shows of a report."""

import html
from pathlib import Path

from clonalnet_jax.errors import UserError


class ReportPage:
    """The page of a report, which a notebook shows where a cell ends with it.

    Attributes:
      path: The page, `report/index.html` of a workdir.
    """

    def __init__(self, path: Path) -> None:
        """Remembers the path of a page that was written."""
        self.path = path

    def __repr__(self) -> str:
        """Names the page, where no notebook shows it."""
        return f"ReportPage({str(self.path)!r})"

    def __fspath__(self) -> str:
        """Lets the page be opened as a path is."""
        return str(self.path)

    def _repr_html_(self) -> str:
        try:
            page = self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                str(self.path),
                got=error.strerror or str(error),
                expected="the page that was written there",
                remedy="write it again, by `report()`",
            ) from error
        # A frame of its own: neither page takes the other's style. It runs no scripts.
        return (
            f'<iframe title="Report" srcdoc="{html.escape(page)}" '
            'sandbox="allow-popups allow-downloads" '
            'style="width: 100%; height: 45em; border: 1px solid #8888"></iframe>'
        )
