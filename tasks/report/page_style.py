"""Style of a page: light and dark, from a phone's width up, and the colours of charts and maps."""

STYLE = """
:root { color-scheme: light dark; --page: light-dark(#fff, #11171e);
  --ink: light-dark(#1b2733, #e6edf3); --muted: light-dark(#52606d, #a9b6c2);
  --line: light-dark(#d9e1e8, #2f3b47); --soft: light-dark(#f3f6f9, #19222b);
  --ours: light-dark(#b3263f, #ff8fa1); --truth: light-dark(#0f6f65, #4fd1bd);
  --rival: light-dark(#8f5a00, #f0b757); --focus: light-dark(#0b57d0, #8ab4f8); }
:root[data-theme="light"] { color-scheme: light; }
:root[data-theme="dark"] { color-scheme: dark; }
body { margin: 0; color: var(--ink); background: var(--page);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { max-width: 46rem; }
h1 + p { font-size: 1.1rem; margin: .4rem 0 1rem; }
a { color: var(--focus); }
code { font-size: .88em; background: var(--soft); padding: .1em .3em; border-radius: 4px;
  overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--soft); padding: .8rem 1rem; border-radius: 6px; }
pre code { padding: 0; white-space: pre; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
button, select { font: inherit; color: inherit; background: var(--soft); padding: .35rem .7rem;
  border: 1px solid var(--muted); border-radius: 6px; cursor: pointer; max-width: 100%; }
#theme { float: right; font-size: .8rem; margin-left: 1rem; }
[hidden] { display: none !important; }
details { margin: .5rem 0; border: 1px solid var(--line); border-radius: 6px; }
summary { cursor: pointer; padding: .5rem .8rem; font-weight: 600; font-size: .95rem; }
details > :not(summary) { margin-left: .8rem; margin-right: .8rem; }
details > h3 { display: none; }
details p { font-size: .92rem; }
.scroll { overflow-x: auto; margin: .4rem 0 .8rem; }
table { border-collapse: collapse; width: 100%; font-size: .84rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding: .2rem 0 .4rem; }
th, td { padding: .38rem .55rem; text-align: left; white-space: nowrap; font-weight: 400;
  border-bottom: 1px solid var(--line); }
thead th { background: var(--soft); font-weight: 600; vertical-align: bottom; }
.number { text-align: right; }
td[style="text-align:left"] { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
.ours > *, td strong { color: var(--ours); font-weight: 600; }
table:has(td:first-child:empty) tr:has(:first-child:not(:empty)) > *
  { border-top: 2px solid var(--muted); }
[data-sortable] th:first-child { position: sticky; left: 0; background: var(--page);
  box-shadow: 1px 0 var(--line); }
[data-sortable] thead th:first-child { background: var(--soft); }
th button { all: unset; cursor: pointer; text-decoration: underline dotted; }
th button:focus-visible { outline: 3px solid var(--focus); }
[aria-sort="ascending"] button::after { content: " ▲"; }
[aria-sort="descending"] button::after { content: " ▼"; }
figure { margin: 1rem 0; max-width: 46rem; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .4rem; }
.chart { display: block; width: 100%; overflow: visible; }
.chart text { fill: var(--ink); font-size: 13px; font-family: inherit; paint-order: stroke;
  stroke: var(--page); stroke-width: 5px; stroke-linejoin: round; }
.chart .muted { fill: var(--muted); font-size: 12px; }
.chart .strong { font-weight: 600; }
.axis { stroke: var(--line); }
.mark { stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 4 3; }
.ahead, .truth { --c: var(--truth); } .behind, .ours { --c: var(--ours); }
.alike, .known { --c: var(--muted); } .known { --c: var(--ink); } .rival { --c: var(--rival); }
.chart circle, .bar { fill: var(--c); stroke: var(--c); stroke-width: 2; }
.chart circle.alike { fill: var(--page); }
.span { stroke: var(--c); stroke-width: 4; stroke-linecap: round; opacity: .55; }
.line { fill: none; stroke: var(--c); stroke-width: 2; vector-effect: non-scaling-stroke; }
.line.ours { stroke-width: 3; }
.d1 { stroke-dasharray: 8 4; } .d2 { stroke-dasharray: 2 3; } .d3 { stroke-dasharray: 9 3 2 3; }
.d4 { stroke-dasharray: 4 7; } .grey { --c: var(--muted); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: .3rem 0;
  list-style: none; font-size: .84rem; }
.legend li { display: flex; align-items: center; }
.legend svg { flex: none; width: 30px; height: 10px; margin-right: .4rem; }
.map svg.view { display: block; width: 100%; aspect-ratio: 4 / 3; max-height: 34rem;
  background: var(--soft); border: 1px solid var(--line); border-radius: 6px; cursor: grab; }
.map svg.view:focus { touch-action: none; }
.map svg.view text { fill: var(--muted); font-size: calc(11px * var(--unit, 1)); }
.net { fill: none; stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.dot { stroke: var(--c); stroke-width: 9; stroke-linecap: round; fill: none;
  vector-effect: non-scaling-stroke; }
.line.sample { stroke-width: 1; opacity: .45; }
.area { fill: var(--ours); fill-opacity: .1; stroke: var(--ours); stroke-dasharray: 3 3;
  vector-effect: non-scaling-stroke; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: center;
  margin: .6rem 0; }
.controls label { max-width: 100%; }
.controls select { width: 100%; }
.controls input[type="range"] { flex: 1 1 12rem; accent-color: var(--ours); }
.scale { display: inline-block; white-space: nowrap;
  border: solid var(--muted); border-width: 0 1px 1px;
  text-align: center; font-size: .75rem; color: var(--muted); line-height: 1.1; }
output { display: block; min-height: 3.2em; font-size: .9rem; }
.hint { color: var(--muted); font-size: .82rem; }
@media (min-width: 40rem) { main { padding: 2.5rem 1.5rem 4rem; } }
@media print { .controls, #theme { display: none; } }
"""
