"""The report's style sheet: light and dark, wide and narrow."""

STYLE = """
:root { --paper: #ffffff; --ink: #1b1f24; --soft: #5b636e; --line: #d9dde3; --tint: #f3f5f8;
  --blue: #005a8f; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e9ed; --soft: #a3abb6; --line: #343a42; --tint: #1e2329;
  --blue: #6cbcf0; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 50rem; background: var(--paper);
  color: var(--ink);
  font: 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.4rem; line-height: 1.3; margin: 3.5rem 0 0.75rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
a { color: var(--blue); }
.lead { font-size: 1.15rem; color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 0.75rem;
  margin: 1.5rem 0; }
.facts div { display: flex; flex-direction: column-reverse; justify-content: flex-end; padding: 0.7rem 0.9rem;
  background: var(--tint); border-radius: 0.5rem; }
.facts dt { color: var(--soft); font-size: 0.9rem; line-height: 1.35; }
.facts dd { margin: 0; font-size: 1.4rem; font-weight: 650; }
nav ol { padding-left: 2rem; }
pre { padding: 0.8rem 1rem; background: var(--tint); border-radius: 0.5rem; overflow-x: auto; }
pre, code { font: 0.9rem/1.5 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
p code, figcaption code { padding: 0.1em 0.3em; background: var(--tint);
  border-radius: 0.25rem; }
.formula { border-left: 3px solid var(--blue); white-space: pre-wrap; }
.do { margin: 1.25rem 0 -0.5rem; color: var(--soft); font-size: 0.95rem; }
figure { margin: 1.5rem 0; }
img { display: block; width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line);
  border-radius: 0.5rem; }
figcaption, .caption { color: var(--soft); font-size: 0.95rem; line-height: 1.5; text-align: left; }
figcaption { padding-top: 0.4rem; }
figcaption small { opacity: 0.8; white-space: nowrap; }
.scroll { overflow-x: auto; margin: 0.5rem 0 1.5rem; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
.caption { margin: 1.5rem 0 0; }
th, td { padding: 0.35rem 0.8rem 0.35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
td:last-child { white-space: normal; min-width: 5rem; }
td:nth-child(5):last-child { min-width: 15rem; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
"""
