"""The style sheet of a report."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """\
:root { color-scheme: light; }
body { max-width: 68rem; margin: 2rem auto; padding: 0 1.5rem; color: #1a1a1a; background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .8rem; padding-bottom: .25rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
h4 { font-size: 1rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p { max-width: 52rem; margin: .4rem 0 .8rem; }
table { border-collapse: collapse; margin: .6rem 0 1.2rem; font-size: .87rem; line-height: 1.35; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e2e2e2; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #999; font-weight: 600; vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
td.key { color: #555; white-space: nowrap; }
td.code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .8rem;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
td.out { background: #fde3df; color: #8c1c0b; font-weight: 600; }
table.settings { width: 100%; }
table.settings td { overflow-wrap: anywhere; }
table.settings td.key { width: 9rem; }
table.cases { width: 100%; }
figure { margin: 1rem 0 1.6rem; break-inside: avoid; }
figure img { max-width: 100%; height: auto; }
figcaption ul { margin: .2rem 0 0; padding-left: 1.1rem; font-size: .87rem; }
.reason { display: inline-block; margin-left: .4rem; padding: 0 .5rem; border-radius: .7rem; background: #e8edf3;
  color: #26394d; font-size: .78rem; font-weight: 600; }
.note { padding: .5rem .8rem; border-left: 4px solid #c98a00; background: #fff6df; }
@media print {
  @page { margin: 14mm; }
  body { margin: 0; padding: 0; max-width: none; font-size: 10pt; }
  table { font-size: 8pt; }
  thead { display: table-header-group; }
  .scroll { overflow-x: visible; }
  tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  td.out, .reason, .note { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
