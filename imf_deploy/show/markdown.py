"""Untrusted text in GitHub-flavoured Markdown, escaped."""

import html
import re

from imf_deploy.errors import visible

# Every character that can begin markup in the middle of a line; a _ inside a word cannot.
_SPECIAL = re.compile(r"[\\`*\[\]<>&|~#$!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# At the start of a line these begin lists and underlined headings; with a full stop, numbers do.
_LEADING = re.compile(r"^([-+=]|\d+(?=[.)]))")
_PLAIN_NAME = re.compile(r"[\w./@+:-]+", re.ASCII)


def text(words: str) -> str:
    """Return untrusted text as Markdown that shows it verbatim.

    Characters of Markdown and HTML become entities, which are never parsed as structure (CommonMark 0.31,
    section 2.5). Addresses do not become links, and ``@name`` mentions nobody.
    """
    line = " ".join(visible(" ".join(words.split())).split())
    line = _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", line)
    line = _LEADING.sub(lambda match: "".join(f"&#{ord(char)};" for char in match[0]), line)
    # GitHub links addresses and names after it has decoded entities; a zero-width space prevents it.
    line = re.sub(r"(?<!\w)@(?=\w)", "@&#8203;", line)
    return re.sub(r"(?i)(?<!\w)www\.|:(?=//)", lambda match: f"{match[0]}&#8203;", line)


def code(name: str) -> str:
    """Return a name as code, also inside a table; special characters become entities."""
    return f"`{name}`" if _PLAIN_NAME.fullmatch(name) else f"<code>{text(name)}</code>"


def fenced(lines: str, language: str) -> str:
    """Return a block of code that its content cannot close; it contains no HTML tags either."""
    shown = "\n".join(visible(line) for line in lines.splitlines())
    if re.search("[<>]", shown):
        return f"<pre><code>{html.escape(shown, quote=False)}</code></pre>"
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"
