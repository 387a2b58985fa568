"""The frame of the HTML reports: one file, light and dark, readable on a phone."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --surface: #fff; --plane: #f6f6f4; --ink: #16181d; --muted: #5c6068;
  --line: #dddcd8;
  --s1: #2a78d6; --s2: #eb6834; --s3: #1baf7a; --s4: #8a63d2; --s5: #d6a100; --s6: #d64f86; }
@media (prefers-color-scheme: dark) { :root { --surface: #1d1e20; --plane: #131415; --ink: #f1f1ef; --muted: #a3a6ad;
  --line: #37393d;
  --s1: #4f97ea; --s2: #f0804f; --s3: #2cc48d; --s4: #a688e6; --s5: #e2b32b; --s6: #e874a3; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--plane); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 1160px; margin: 0 auto; padding: 32px 20px 64px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px } h2 { font-size: 20px; margin: 40px 0 2px }
  h3 { font-size: 15px; margin: 0 }
p { margin: 0 0 12px; color: var(--muted); max-width: 75ch }
.tiles, .cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)) }
.tiles { grid-template-columns: repeat(auto-fit, minmax(min(100%, 200px), 1fr)); margin-top: 20px }
.tile, .card, .scroll, pre { background: var(--surface); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px }
.card { max-width: 560px } .tile b { display: block; font-size: 28px; line-height: 1.2 }
  .tile span, .tile small { display: block }
.tile small, .card small { color: var(--muted); font-size: 13px }
svg { display: block; width: 100%; height: auto; margin-top: 6px } svg text { font: 11px system-ui, sans-serif;
  fill: var(--muted) }
.grid { stroke: var(--line); stroke-width: 1 }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 13px; margin: 6px 0 0 }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px }
.scroll { overflow-x: auto; padding: 4px 12px } table { border-collapse: collapse; width: 100%; font-size: 13px;
  font-variant-numeric: tabular-nums }
th { font-weight: 600; color: var(--muted) } th, td { text-align: right; padding: 5px 6px; white-space: nowrap }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left } tr + tr { border-top: 1px solid var(--line) }
pre { overflow-x: auto; font-size: 13px; margin: 8px 0 12px } details { margin: 10px 0 } summary { cursor: pointer }
@media (max-width: 600px) { main { padding: 20px 12px 40px } h1 { font-size: 24px } }
"""


def document(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>\n"
        + "\n".join(filter(None, sections))
        + "\n</main></body></html>\n"
    )


def card(title: str, body: str, text: str) -> str:
    """A titled box around a chart."""
    return f'<div class="card"><h3>{escape(title)}</h3><small>{escape(text)}</small>{body}</div>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways inside its own box."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(about: Mapping[str, Any]) -> str:
    """Machine, versions and settings, folded."""
    lines = []
    for group in ("machine", "versions", "model", "settings"):
        lines += [f"{group}.{name}: {value}" for name, value in about.get(group, {}).items()]
    lines += [f"{name}: {value}" for name, value in about.items() if isinstance(value, str)]
    return f"<details><summary>Machine, versions, settings</summary><pre>{escape(chr(10).join(lines))}</pre></details>"
