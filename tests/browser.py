"""The HTML report of ``lossbackend parity`` in a real browser: ``python tests/browser.py CHROMIUM REPORT.html REPORT.json SCREENSHOT.png``."""

import json
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

WIDTHS = (1280, 390)


def check(page: Page, record: dict) -> None:
    """AssertionError unless the page says what the run found, each fact in a cell with a tooltip."""
    facts = sum(len(record["columns"]) + 1 for _ in record["losses"])
    outcome = f"{len(record['breaches'])} breaches" if len(record["breaches"]) > 1 else "1 breach" if record["breaches"] else "no breach"
    assert page.title().startswith("Parity of losses: "), page.title()
    assert page.title().endswith(outcome), page.title()
    expect(page.get_by_role("heading", level=1)).to_have_text("Parity of losses")
    tables = page.locator("table.heat")
    assert tables.count() == len(record["dtypes"])
    for table in tables.all():
        expect(table).to_be_visible()
        assert table.locator("thead th").all_text_contents() == ["Loss", *record["columns"], "gradient"]
    cells = page.locator("table.heat td")
    assert cells.count() == facts, f"{cells.count()} cells for {facts} facts"
    for cell, tip, box in cells.evaluate_all("cells => cells.map(c => [c.innerText.trim(), c.title, c.getBoundingClientRect().width])"):
        assert cell, tip
        assert tip, cell
        assert box > 0, cell
    names = page.locator("table.heat tbody th").all_text_contents()
    assert names == [entry["loss"] for dtype in record["dtypes"] for entry in record["losses"] if entry["dtype"] == dtype]


def main(chromium: str, report: Path, facts: Path, screenshot: Path) -> None:
    record = json.loads(facts.read_text(encoding="utf-8"))
    complaints: list[str] = []
    with sync_playwright() as playwright:
        # The sandbox needs what a container often lacks, and the page is the project's own.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                context = browser.new_context(java_script_enabled=False, viewport={"width": width, "height": 900}, color_scheme=scheme)
                page = context.new_page()
                page.on("console", lambda message: complaints.append(f"console: {message.text}"))
                page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
                page.on("request", lambda request: None if request.url == report.as_uri() else complaints.append(f"request: {request.url}"))
                page.goto(report.as_uri())
                check(page, record)
                across = page.evaluate("document.documentElement.scrollWidth")
                assert across <= width, f"{across} pixels of page in a window of {width}"
                if (width, scheme) == (WIDTHS[0], "light"):
                    page.screenshot(path=screenshot)
                context.close()
        browser.close()
    assert not complaints, complaints
    cells = len(record["losses"]) * (len(record["columns"]) + 1)
    print(f"{cells} cells with tooltips in {len(record['dtypes'])} tables, at widths of {' and '.join(map(str, WIDTHS))} pixels: {screenshot}")


if __name__ == "__main__":
    chromium, *paths = sys.argv[1:]
    main(chromium, *(Path(path).resolve() for path in paths))
