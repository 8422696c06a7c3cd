"""The style sheet of the report page, for light and dark screens and for print."""

SHADED = 'class=heat style="--share: {:.2f}"'
"""Attributes of a cell that is coloured by a share."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5c6675; --line: #dde2e9;
  --page: #f6f7f9; --panel: #ffffff; --c0: #2f6fde; --c1: #d9601a; --c2: #1d8f63;
  --c3: #8a4fd0; --c4: #b8860b; --c5: #c2366b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa4b2;
  --line: #303846; --page: #12161d; --panel: #1a202a; --c0: #6ea0ff; --c1: #ff9d5c;
  --c2: #4fca9a; --c3: #b88cf0; --c4: #e0b64a; --c5: #f07aa6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 940px; margin: 0 auto; padding: 32px 20px 48px; }
header h1 { font-size: 26px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
header p, .note { color: var(--soft); margin: 4px 0 0; }
.note { font-size: 13px; margin-top: 10px; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 22px; margin-top: 18px; break-inside: avoid; }
section.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr));
  gap: 14px; background: none; border: 0; padding: 0; margin-top: 22px; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px 18px; display: flex; flex-direction: column; }
.card b { font-size: 27px; line-height: 1.2; font-weight: 650; color: var(--c0);
  white-space: nowrap; }
.card span { font-weight: 600; }
.card small { color: var(--soft); font-size: 13px; margin-top: 4px; }
h2 { font-size: 17px; margin: 0 0 10px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; border-top: 1px solid var(--line);
  white-space: nowrap; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: 13px; }
tbody tr:first-child td { border-top-color: var(--line); }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 6.5em; }
.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9em; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
.scroll, figure { overflow-x: auto; }
.scroll { background: linear-gradient(90deg, var(--panel) 30%, transparent) left / 30px 100%
  local no-repeat, linear-gradient(270deg, var(--panel) 30%, transparent) right / 30px 100% local
  no-repeat, linear-gradient(90deg, var(--line), transparent) left / 12px 100% scroll no-repeat,
  linear-gradient(270deg, var(--line), transparent) right / 12px 100% scroll no-repeat; }
.wide { min-width: 640px; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr));
  gap: 18px; margin-top: 14px; }
figure { margin: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 18px; font-weight: 600; font-size: 13px;
  color: var(--soft); }
.legend { display: flex; gap: 14px; font-weight: 400; }
.key { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 6px;
  vertical-align: middle; }
svg { display: block; width: 100%; height: auto; }
.grid { stroke: var(--line); stroke-width: 1; }
.tick { fill: var(--soft); font-size: 12px; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); }
.c3 { stroke: var(--c3); } .c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); }
.b0 { background: var(--c0); } .b1 { background: var(--c1); } .b2 { background: var(--c2); }
.b3 { background: var(--c3); } .b4 { background: var(--c4); } .b5 { background: var(--c5); }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); }
.f3 { fill: var(--c3); } .f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
.band { opacity: 0.16; } .dashed { stroke-dasharray: 5 5; }
.dot { fill: var(--panel); stroke-width: 2; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; margin: 0 0 12px; overflow-x: auto; font-size: 13px; line-height: 1.45; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
summary { cursor: pointer; color: var(--soft); }
details pre { margin-top: 10px; }
.heat { background: color-mix(in srgb, var(--c0) calc(var(--share) * 55%), transparent); }
.empty { color: var(--soft); }
@media (max-width: 560px) { main { padding: 20px 10px; } section { padding: 14px; }
  section.cards { grid-template-columns: 1fr 1fr; gap: 10px; } .card b { font-size: 22px; }
  .card { padding: 12px; } th, td { padding: 5px 6px; font-size: 13px; } }
"""
