"""One report of a training step, and its renderers: terminal, web page, JSON, Chrome trace.

`collect_report` measures; every renderer shows the same `StepReport` and adds nothing to it.
"""

from tiny_pipelines.step_report.collect import StepReport, collect_report
from tiny_pipelines.step_report.page import report_page
from tiny_pipelines.step_report.text import report_text
from tiny_pipelines.step_report.trace import chrome_trace, record_of_trace

__all__ = [
    "StepReport",
    "chrome_trace",
    "collect_report",
    "record_of_trace",
    "report_page",
    "report_text",
]
