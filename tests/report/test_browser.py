"""The page in a real browser: no sideways scrolling at any width, figures to suit, everything on paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
pytestmark = [
    pytest.mark.slow,
    # a browser is no Python package: those who have none test the page's text in test_page.py
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]

# A page beside the report measures it in a frame of a given width; the report itself runs no script.
MEASURE = """<!DOCTYPE html><body>
<iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const shown = [...page.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().width > 0);
  const sizes = shown.map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width * 9);
  document.title = [page.documentElement.scrollWidth, shown.length, Math.min(...sizes).toFixed(2),
                    page.querySelector("details + pre").getBoundingClientRect().height].join(" ");
}});
</script></body>"""


def run(folder: Path, *arguments: str) -> str:
    assert BROWSER is not None
    return subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--allow-file-access-from-files",
            f"--user-data-dir={folder / 'profile'}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


@pytest.mark.parametrize("width", [360, 390, 768, 1000, 1440])
def test_page_fits_its_width(whole: str, tmp_path: Path, width: int) -> None:
    (tmp_path / "report.html").write_text(whole, encoding="utf-8")
    (tmp_path / "measure.html").write_text(MEASURE.format(width=width), encoding="utf-8")
    window = f"--window-size={width + 100},1000"
    found = run(tmp_path, window, "--dump-dom", (tmp_path / "measure.html").as_uri())
    title = re.search("<title>(.*?)</title>", found)
    assert title is not None
    wide, figures, letters, folded = (float(part) for part in title[1].split())
    assert wide <= width  # tables scroll inside their own box
    assert figures == 16  # one drawing of each figure
    assert letters >= 10  # pixels of the figures' type
    assert folded == 0  # the plan is folded away on screen


CARDS = """<!DOCTYPE html><body>
<iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const whole = page.querySelector(".cards").getBoundingClientRect();
  const ends = {{}};
  for (const card of page.querySelectorAll(".cards li")) {{
    const box = card.getBoundingClientRect();
    ends[Math.round(box.top)] = whole.right - box.right;
  }}
  document.title = Object.values(ends).map(gap => gap.toFixed(1)).join(" ");
}});
</script></body>"""


@pytest.mark.parametrize("many", [4, 5, 7, 8, 9])
@pytest.mark.parametrize("width", [390, 1200])
def test_headline_numbers_fill_their_frame(whole: str, tmp_path: Path, width: int, many: int) -> None:
    """However many there are, no row ends before the frame does."""
    found = re.search(r'<ul class="cards[^"]*">\n(.*?)</ul>', whole, re.DOTALL)
    assert found is not None
    cards = "".join(f"<li>{card}" for card in found[1].split("<li>")[1 : many + 1])
    threes = " threes" if many in (3, 5, 6, 9) else ""
    page = whole.replace(found[0], f'<ul class="cards{threes}">{cards}</ul>')
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    (tmp_path / "measure.html").write_text(CARDS.format(width=width), encoding="utf-8")
    window = f"--window-size={width + 100},1000"
    title = re.search(
        "<title>(.*?)</title>", run(tmp_path, window, "--dump-dom", (tmp_path / "measure.html").as_uri())
    )
    assert title is not None
    gaps = [float(gap) for gap in title[1].split()]
    assert len(gaps) == -(-many // (2 if width < 500 else 3 if threes else 4))
    assert max(gaps) <= 2


# nor is poppler; the rules for paper are looked at here only, so run this before a release
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext on this machine")
def test_paper_shows_what_is_folded_away_on_screen(whole: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(whole, encoding="utf-8")
    pdf = tmp_path / "report.pdf"
    run(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", (tmp_path / "report.html").as_uri())
    text = subprocess.run(
        ["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True
    ).stdout
    assert "withhold_families = 1" in text
    assert "Skip to the summary" not in text
    assert "stays at the site" in text
