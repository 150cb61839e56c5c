"""One HTML page that needs no network: headings, texts, tables, and plotly pictures with one packed copy of their library."""

import base64
import gzip
import json
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from .errors import FileError
from .words import Words, text

Figure = Any  # plotly.graph_objects.Figure


class Section(NamedTuple):
    """A heading, what to know of it, a picture, and tables as HTML."""

    title: str
    texts: tuple[str, ...] = ()
    figure: Figure | None = None
    body: str = ""


class Column(NamedTuple):
    """A table column, its cells already written; texts stand left, numbers right; `best` marks rows to show bold."""

    title: str
    cells: Sequence[str]
    left: bool = False
    best: Sequence[int] = ()


def table(columns: Sequence[Column], quiet: Sequence[int] = ()) -> str:
    """An HTML table, every text escaped; `quiet` rows stand back."""
    side = [' class="l"' if c.left else "" for c in columns]
    head = "".join(f"<th{at}>{escape(c.title)}</th>" for c, at in zip(columns, side, strict=True))
    lines = []
    for row in range(len(columns[0].cells)):
        cells = "".join(f"<td{_mark(c, row)}>{escape(c.cells[row])}</td>" for c in columns)
        lines.append(f'<tr class="base">{cells}</tr>\n' if row in quiet else f"<tr>{cells}</tr>\n")
    return f'<div class="wide{" dense" if len(columns) > 9 else ""}"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{"".join(lines)}</tbody></table></div>\n'


def pairs(facts: Sequence[tuple[str, str]], what: str, value: str) -> str:
    """A table of two columns: what, and its value."""
    return table([Column(what, [k for k, _ in facts], left=True), Column(value, [v for _, v in facts], left=True)])


def folded(summary: str, body: str) -> str:
    """A part the reader opens."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}</details>\n"


def paragraphs(texts: Sequence[str], kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return "".join(f"<p{mark}>{escape(t)}</p>\n" for t in texts if t)


def page(title: str, under: str, top: str, sections: Sequence[Section], say: Words, *, foot: str = "") -> str:
    """The whole document. `top` is HTML; title, `under`, the sections' texts and `foot`, a caution in the footer, are plain and escaped here."""
    parts, figures = [], 0
    for section in sections:
        figures += section.figure is not None
        picture = _figure(section.figure, f"figure-{figures}") if section.figure is not None else ""
        parts.append(f"<section>\n<h2>{escape(section.title)}</h2>\n{paragraphs(section.texts, 'text')}{picture}{section.body}</section>\n")
    script = f'<script type="text/plain" id="library">{_library()}</script>\n<script>\n{text("report.js")}</script>\n' if figures else ""
    missing = f'<noscript><p>{escape(say["no_script"])}</p></noscript>\n<p class="old">{escape(say["old_browser"])}</p>\n' if figures else ""
    return (
        f'<!DOCTYPE html>\n<html lang="{say.lang}">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="foretell">\n<title>{escape(title)}</title>\n<style>\n{text("report.css")}</style>\n</head>\n<body>\n<main>\n'
        f'<h1>{escape(title)}</h1>\n<p class="under">{escape(under)}</p>\n{missing}{top}{"".join(parts)}'
        f"<footer>{paragraphs([foot])}{escape(say['footer'].format(maker=maker()))}</footer>\n</main>\n{script}</body>\n</html>\n"
    )


def write(path: Path, document: str) -> Path:
    """Under a temporary name first, so that a file is there whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from None
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as out:
            out.write(document)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from None
    finally:
        Path(name).unlink(missing_ok=True)
    return path


def _figure(figure: Figure, name: str) -> str:
    # "<" would let a series' name end the script element; as \u003c it stays a letter of the name.
    data = json.dumps(json.loads(figure.to_json()), ensure_ascii=False, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
    height = int(figure.layout.height or 400)
    return f'<div class="figure" id="{name}" style="height:{height}px"></div>\n<script type="application/json" id="{name}-data">{data}</script>\n'


@cache
def _library() -> str:
    """plotly.js, packed to two fifths of its size; the page unpacks it with what every browser since 2023 has."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _mark(column: Column, row: int) -> str:
    kinds = " ".join(kind for kind, on in (("l", column.left), ("best", row in column.best)) if on)
    return f' class="{kinds}"' if kinds else ""


def maker() -> str:
    """Name and version of this package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"foretell {version('foretell')}"
    except PackageNotFoundError:
        return "foretell"  # a checkout that is not installed
