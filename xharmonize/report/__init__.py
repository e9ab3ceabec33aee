"""Reports: one page of HTML on a series, or on a prediction against a reference."""

from xharmonize.report.write import write_report

__all__ = ["write_report"]
