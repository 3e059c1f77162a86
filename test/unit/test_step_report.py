"""The report of a training step: its figures, and that every renderer shows the same ones."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tiny_dialect.dialect import new_context
from tiny_pipelines.cli import tiny_report
from tiny_pipelines.frontends import import_model
from tiny_pipelines.step_report import (
    StepReport,
    chrome_trace,
    collect_report,
    record_of_trace,
    report_page,
    report_text,
)
from tiny_pipelines.training import TrainingOptions
from tiny_targets.target import find_target

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
MODEL, SCHEME = EXAMPLE / "digits.mlirbc", EXAMPLE / "sparse.json"


@pytest.fixture(scope="module")
def report() -> StepReport:
    with new_context():
        module = import_model(MODEL)
        return collect_report(module, TrainingOptions(str(SCHEME)), find_target("cortex-m7"))


class _Tables(HTMLParser):
    """The cells of every table by its id, and the JSON that the page carries."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.json = ""
        self._table = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self._table = given.get("id") or ""
            self.rows[self._table] = []
        elif tag == "tr" and self._table:
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")
        self._inside = "json" if tag == "script" else tag

    def handle_endtag(self, tag: str) -> None:
        self._table = "" if tag == "table" else self._table
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "json":
            self.json += data
        elif self._inside in ("td", "th"):
            self.rows[self._table][-1][-1] += data.strip()


def test_figures_add_up(report: StepReport) -> None:
    totals = report.totals
    work = sum(op.instructions for op in report.ops)
    assert work < totals["step"] < 1.1 * work, "the ops are the step, but for its dispatch"
    by_layer = sum(one.forward_instructions + one.backward_instructions for one in report.layers)
    assert by_layer == work
    assert sum(layer.trained_bytes for layer in report.layers) <= totals["state"]
    most = max(op.sram_bytes for op in report.ops)
    assert most <= totals["arena"] + totals["state"] <= totals["sram"]
    assert most >= totals["bound"] + totals["state"] - 64
    first, last = report.stages[0], report.stages[-1]
    assert last.arena_bytes == totals["arena"] < first.arena_bytes
    assert all(max(stage.profile) <= stage.arena_bytes for stage in report.stages)


def test_page_shows_the_record(report: StepReport) -> None:
    page = report_page(report)
    parsed = _Tables()
    parsed.feed(page)
    record = json.loads(parsed.json)
    assert record == report.record()
    names = (
        "macs",
        "forward_instructions",
        "backward_instructions",
        "flash_bytes",
        "trained_bytes",
        "sram_bytes",
    )
    shown = [
        [row[0], *(int(cell.replace(",", "")) for cell in row[1:7])]
        for row in parsed.rows["layers"][1:]
    ]
    assert shown == [[one["layer"], *(one[name] for name in names)] for one in record["layers"]]
    assert len(parsed.rows["ops"]) == len(record["ops"]) + 1
    assert not re.search(r"(src|href)=\"?https?:", page), "the page must not load anything"


def test_trace_loses_nothing(report: StepReport) -> None:
    trace = json.loads(json.dumps(chrome_trace(report)))
    assert record_of_trace(trace) == report.record()
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["pid"] == 1]
    ends = [event["ts"] + event["dur"] for event in slices]
    assert [event["ts"] for event in slices[1:]] == ends[:-1], "ops follow each other"


def test_text_marks_the_peak(report: StepReport) -> None:
    lines = report_text(report).splitlines()
    peak = max(report.layers, key=lambda layer: layer.sram_bytes)
    assert [line.split()[0] for line in lines if line.endswith("<- peak")] == [peak.layer]


def test_command_writes_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, trace = tmp_path / "report.html", tmp_path / "report.json"
    arguments = [str(MODEL), "--scheme", str(SCHEME), "--json"]
    assert tiny_report.main([*arguments, "--html", str(page), "--trace", str(trace)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record_of_trace(json.loads(trace.read_text("utf-8"))) == record
    assert json.dumps(record["layers"]) in page.read_text("utf-8")


def test_page_opens_in_a_browser(report: StepReport, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(report_page(report), "utf-8")
    ran = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
         f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}",
         "--window-size=1280,2400", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ":CONSOLE" not in ran.stderr, "the page wrote to the console"
    assert picture.stat().st_size > 20_000
