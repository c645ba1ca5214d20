"""The page's ES modules joined into one text, without a JavaScript toolchain.

A module imports by ``import { a, b } from "./file.js";`` and exports by the word before const, function or class; that is
all there is to read here. Whatever else a file says is an error that names the file and the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_IMPORT = re.compile(r'^import \{([\w$,\s]+)\} from "\./([\w-]+\.js)";[ \t]*$', re.MULTILINE)
_DECLARED = re.compile(r"(export )?(?:async )?(?:function\*?|class|const|let|var) ([\w$]+)")
_DEFAULT = re.compile(r"export default \{ ?(\w+) ?\};?\s*$")
#: In an inline script these end it or make a comment of the rest.
_UNSAFE = re.compile(r"</script|<!--|\u2028|\u2029", re.IGNORECASE)


class BundleError(ValueError):
    """Modules that do not join; the message has the file and the line."""


@dataclass(frozen=True)
class _Module:
    name: str
    text: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]
    names: Mapping[str, int]
    exports: frozenset[str]
    default: str | None


def module() -> str:
    """The ES module that notebooks load; its default export has `render`."""
    return _web("explorer.js")[0]


@cache
def script() -> str:
    """The same as the script of a page, which starts itself."""
    body = join(sources(), ("explorer.js", "host.js"), default=False)
    return f"{body}openPage({_web('explorer.js')[1]});\n"


@cache
def style() -> str:
    """The style sheet."""
    return (files(__package__) / "web" / "explorer.css").read_text("utf-8")


@cache
def sources() -> Mapping[str, str]:
    """The text of every module by its name."""
    web = sorted((files(__package__) / "web").iterdir(), key=lambda path: path.name)
    return {path.name: path.read_text("utf-8") for path in web if path.name.endswith(".js")}


def check() -> None:
    """Join all modules there are, also those that no page needs yet.

    Raises
    ------
    BundleError
        As `join`.
    """
    join(sources(), tuple(sources()))


@cache
def _web(entry: str) -> tuple[str, str]:
    return join(sources(), (entry,)), read(entry, sources()[entry]).default or ""


def join(texts: Mapping[str, str], entries: tuple[str, ...], *, default: bool = True) -> str:
    """The modules that `entries` need, those first that others import, as one module.

    Parameters
    ----------
    texts : mapping of str to str
        Modules by file name.
    entries : tuple of str
        Where to begin.
    default : bool
        Whether the default export stays.

    Raises
    ------
    BundleError
        For an import of something that is not there, a circle, a name that two files declare, or a line that is
        none of the forms above.
    """
    order: list[_Module] = []
    for entry in entries:
        _visit(texts, entry, (), order)
    taken: dict[str, str] = {}
    for each in order:
        for name, line in each.names.items():
            if name in taken:
                raise BundleError(f"{each.name}:{line}: {name} is declared in {taken[name]} too")
            taken[name] = f"{each.name}:{line}"
    kept = [f"// {each.name}\n{_stripped(each.text)}" for each in order]
    ends = [f"export default {{ {each.default} }};\n" for each in order if each.default and default]
    if len(ends) != default:
        raise BundleError(f"{', '.join(entries)}: {len(ends)} default exports, expected one")
    return "\n".join(kept + ends)


def _visit(texts: Mapping[str, str], name: str, path: tuple[str, ...], order: list[_Module]) -> None:
    if any(each.name == name for each in order):
        return
    found = read(name, texts[name])
    for line, source, names in found.imports:
        where = f"{name}:{line}"
        if source not in texts:
            raise BundleError(f"{where}: there is no {source}")
        if source in (*path, name):
            raise BundleError(f"{where}: a circle of imports, {' -> '.join((*path, name, source))}")
        missing = [one for one in names if one not in read(source, texts[source]).exports]
        if missing:
            raise BundleError(f"{where}: {source} does not export {', '.join(missing)}")
        _visit(texts, source, (*path, name), order)
    order.append(found)


def read(name: str, text: str) -> _Module:
    """What a module imports, declares and exports."""
    imports, names, exports, default = [], {}, set(), None
    for match in _IMPORT.finditer(text):
        number = text.count("\n", 0, match.start()) + 1
        wanted = tuple(part.strip() for part in match[1].split(",") if part.strip())
        if any(not re.fullmatch(r"[\w$]+", one) for one in wanted):
            raise BundleError(f"{name}:{number}: an import keeps its name")
        imports.append((number, match[2], wanted))
    for number, line in enumerate(_IMPORT.sub(_blank, text).splitlines(), 1):
        where = f"{name}:{number}"
        if _UNSAFE.search(line):
            raise BundleError(f"{where}: this would end an inline script")
        if re.match(r"import\b|(?!\s*(?:/?\*|//)).*\bimport\(", line):  # in a comment it names a type
            raise BundleError(f'{where}: expected import {{ a, b }} from "./file.js";')
        declared, ended = _DECLARED.match(line), _DEFAULT.match(line)
        if ended:
            if default is not None:
                raise BundleError(f"{where}: a second default export")
            default = ended[1]
        elif declared:
            if declared[2] in names:
                raise BundleError(f"{where}: {declared[2]} is declared twice")
            names[declared[2]] = number
            exports |= {declared[2]} if declared[1] else set()
        elif re.match(r"export\b|(?:const|let|var) [{\[]", line):
            raise BundleError(f"{where}: expected export or a declaration of one name")
    return _Module(name, text, tuple(imports), names, frozenset(exports), default)


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _stripped(text: str) -> str:
    """The text without its imports and the word export; the lines keep their numbers."""
    lines = _IMPORT.sub(_blank, text).splitlines()
    return "\n".join("" if _DEFAULT.match(line) else re.sub(r"^export ", "", line) for line in lines).rstrip() + "\n"
