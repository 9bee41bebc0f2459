"""The page that reports are written on: a jinja2 template with its style, no outside files."""

SCRIPTS = (
    "data.js",
    "state.js",
    "colors.js",
    "thresholds.js",
    "panels.js",
    "grid.js",
    "details.js",
    "controls.js",
    "main.js",
)
"""The scripts of an explorer in the order in which they run."""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="captum_vae">
{% if explorer %}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file: data:;
 script-src 'self' file:; style-src 'self' file: 'unsafe-inline'">
{% endif %}
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #5c5c66; --line: #dedee3;
  --paper: #fff; --ground: #f5f5f7; --accent: #1558b0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf0; --soft: #a9a9b4; --line: #3a3a42; --paper: #1b1b1f;
    --ground: #111114; --accent: #8ab8ff; }
}
* { box-sizing: border-box; }
body { margin: 0; overflow-wrap: break-word; background: var(--ground); color: var(--ink);
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 3rem 2.5rem 2rem; background: var(--paper);
  min-height: 100vh; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 .8rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; margin: 0 0 .5rem; }
p { max-width: 44rem; margin: 0 0 .8rem; }
a { color: var(--accent); }
.lead { font-size: 1.15rem; color: var(--soft); }
section { margin-top: 2.2rem; padding-top: 1.6rem; border-top: 1px solid var(--line); }
figure { margin: 1rem 0 0; }
.picture { overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { max-width: 44rem; margin-top: .6rem; font-size: .92rem; color: var(--soft); }
.wide { overflow-x: auto; }
:is(.picture, .wide, a):focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; margin-top: .8rem; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1.4rem .35rem 0;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th { font-weight: 600; }
pre { margin: 1rem 0 0; padding: .9rem 1.1rem; overflow-x: auto; background: var(--ground);
  border: 1px solid var(--line); border-radius: 6px; font: .88rem/1.5 ui-monospace, Menlo,
  Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 2.4rem; font-size: .85rem; color: var(--soft); }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem; }
  th, td { padding-right: .8rem; }
  table:not(:has(th:nth-child(3))) td:not(:first-child) { overflow-wrap: anywhere; }
}
@media print {
  @page { margin: 16mm; }
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #ccc; --paper: #fff;
    --ground: #fff; --accent: #000; }
  html { font-size: 10pt; }
  body { background: none; font-size: 1rem; }
  main { padding: 0; max-width: none; min-height: 0; }
  p, figcaption { max-width: none; }
  section { margin-top: 1.2rem; padding-top: 1rem; }
  figure, pre, tr, p { break-inside: avoid; }
  table:has(th:nth-child(8)) { font-size: .75rem; }
  table:has(th:nth-child(8)) :is(th, td) { padding-right: .5rem; }
  h2, section > p:not(:last-child) { break-after: avoid; }
  .picture, .wide { overflow: visible; }
  figure img { width: 100%; max-height: 195mm; object-fit: contain; object-position: left;
    min-width: 0 !important; }
}
</style>
{% if explorer %}
<link rel="stylesheet" href="{{ explorer }}/explorer.css">
{% endif %}
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% if lead %}
<p class="lead">{{ lead }}</p>
{% endif %}
{% if explorer %}
<div id="explorer" data-folder="{{ explorer }}"></div>
<noscript><p>With JavaScript, which asks no server, this page lets you choose images, maps, colour
scales and thresholds. Without it, what follows is all.</p></noscript>
{% endif %}
{% for section in sections %}
<section{% if section.still %} class="still"{% endif %}>
<h2>{{ section.title }}</h2>
{% for paragraph in section.paragraphs %}
<p>{{ paragraph }}</p>
{% endfor %}
{% for picture in section.pictures %}
{% set place = source(picture) %}
{% set width, height = size(picture) %}
{% set legible_width = legible_width_of(picture) %}
<figure>
<div class="picture"
{%- if legible_width %} tabindex="0" role="group" aria-label="wide picture"{% endif %}>
<img src="{{ place }}" alt="{{ picture.alt }}" width="{{ width }}" height="{{ height }}"
{%- if legible_width %} style="min-width: {{ legible_width }}px"{% endif %}>
</div>
<figcaption>{{ picture.caption }}</figcaption>
</figure>
{% endfor %}
{% for table in section.tables %}
<div class="wide" tabindex="0" role="group" aria-label="table: {{ section.title }}">
<table>
<thead><tr>{% for name in table.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.cells %}
<tr>{% for cell in row %}<td>{{ cell | unbroken }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endfor %}
{% if section.links %}
<ul>
{% for words, place in section.links %}
<li><a href="{{ link(place) }}">{{ words }}</a></li>
{% endfor %}
</ul>
{% endif %}
{% if section.code %}
<pre><code>{{ section.code }}</code></pre>
{% endif %}
</section>
{% endfor %}
{% if footer %}
<footer>{{ footer }}</footer>
{% endif %}
</main>
{% if explorer %}
{% for script in scripts %}
<script src="{{ explorer }}/{{ script }}" defer></script>
{% endfor %}
{% endif %}
</body>
</html>
"""
