"""One command shows whether the clone wins, where, and why: a page without network."""

from clonalnet_jax.report.notebook import ReportPage
from clonalnet_jax.report.write import write_report

__all__ = ["ReportPage", "write_report"]
