"""Names that files and models may have, and that broke drawings, pages or tables somewhere."""

import os

NAMES = {
    "formula": "cost_$5_$x^.png",
    "unfinished formula": "a$\\frac0$.png",
    "one dollar": "5$.png",
    "escaped dollar": "a\\$b$c$.png",
    "unknown command": "$\\nonsense$",
    "super and subscript": "$x^_2$ $_$",
    "markup": "<script>alert('1')</script>&amp;.png",
    "attribute": '" onerror="alert(1)',
    "template": "{{ 7 * 7 }}{% raw %}",
    "not UTF-8": os.fsdecode(b"caf\xe9.png"),
    "long": "x" * 251 + ".png",
    "longest line": "y" * 5000,
    "control characters": "bell\x07 escape\x1b[31m null\x00.png",
    "line feed and return": "two\r\nlines\x0b.png",
    "turned round": "photo\u202egnp.exe",
    "isolates": "\u2066left\u2069\u200fright\u200e",
    "no glyph": "画像 صورة 🦔 \U000e0001.png",
    "combining": "e\u0301\u0301\u0301" * 5,
    "private use": "\ue000\uf8ff\U0010ffff",
    "percent and hash": "50%20#1?.png",
    "table": "a | b\n| c |",
    "underscore": "_nolegend_",
    "empty": "",
}
