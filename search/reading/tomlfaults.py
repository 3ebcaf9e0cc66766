"""Explain in plain words why a text is not valid TOML, and what to write instead.

`tomllib` reports where it stopped and seldom why. Each rule searches the line there for one common mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from search.reading.tomltext import value

# (line where tomllib stopped, index in that line, message of tomllib) -> explanation, or "".
_Rule = Callable[[str, int, str], str]

_EXPLANATIONS = {
    "Cannot overwrite a value": "the key stands twice; remove one of them",
    "Cannot mutate immutable": "the table stands twice; remove one of them",
    "Unterminated string": "a text is not closed",
    "Illegal character '\\n'": "a text is not closed",
    'Expected "\'"': "a text is not closed",
    "Expected ']' at the end of a table": "a section's name stands in brackets, [section], on a line of its own",
    "Expected ']]' at the end of an array": "[[section]] ends with two brackets",
    "Unclosed array": "a list is not closed, or a comma between two of its values is missing",
    "Unclosed inline table": "a table is not closed, or a comma is missing in it; write { low = 0.0, high = 1.0 }",
    "Invalid value": "invalid value; put strings in quotes; write true and false in lower case",
    "Expected newline": "a line holds one `key = value`",
    "Invalid statement": "a line is `key = value` or `[section]`",
    "Invalid initial character for a key": "a key is missing, or has a letter beyond a-z, 0-9, _ and - without quotes",
    "Expected '=' after": "a line is `key = value` or `[section]`",
}
_BOOLEANS = {"true": "true", "false": "false", "yes": "true", "no": "false", "on": "true", "off": "false"}
_NULLS = ("none", "null", "nil", "undefined", "~")
_NOT_FINITE = {"inf", "infinity", "nan"}
# Messages of tomllib behind a value, where a separator or the end of the line should stand.
_BEHIND_VALUE = ("Expected newline", "Unclosed inline table", "Unclosed array")
# A key and its number, as they end the text before the place where tomllib stopped.
_NUMBER_BEFORE = re.compile(r"(?:([\w-]+)\s*=\s*|[\[,]\s*)([+-]?\d[\d_.]*(?:[eE][+-]?\d+)?)\s*$")


def explain(message: str, line: str, column: int) -> str:
    """Return what is wrong in plain words; tomllib stopped in `line` at `column` (from 1), or at the end of the text (0)."""
    at = column - 1 if column else len(line)
    for rule in _RULES:
        if explanation := rule(line, at, message):
            return explanation
    return next((explanation for start, explanation in _EXPLANATIONS.items() if message.startswith(start)), message)


def _curly_quotes(line: str, at: int, message: str) -> str:  # noqa: ARG001
    if re.search("[“”„‘’«»]", line[max(0, at - 1) : at + 1]):
        return 'curly quotes; texts stand in straight ones, "'
    return ""


def _backslash(line: str, at: int, message: str) -> str:  # noqa: ARG001
    if message.startswith(("Unescaped '\\'", "Invalid hex value", "Illegal escape", "Escaped character is not")):
        return "a backslash in a text; write a path with / or in single quotes, 'C:\\data'"
    return ""


def _bare_point(line: str, at: int, message: str) -> str:
    """Explain `.1`, `-.5` and `5.`: a point needs a digit on both sides."""
    if message.startswith("Invalid value") and (number := re.match(r"([+-]?)\.(\d[\d_]*(?:[eE][+-]?\d+)?)", line[at:])):
        return f"a number begins with a digit; write {number[1]}0.{number[2]}"
    if line[at : at + 1] == "." and (before := re.search(r"(?<![\w.])(?<![eE][+-])[+-]?\d[\d_]*$", line[:at])):
        if line[at + 1 : at + 2] == ".":
            return "invalid value; a range is { low = ..., high = ... }"
        if exponent := re.match(r"\.([eE][+-]?\d+)", line[at:]):
            return f"a point stands between two digits; write {before[0]}.0{exponent[1]}"
        if re.match(r"\.(?:\D|$)", line[at:]):
            return f"a number ends with a digit; write {before[0]}.0"
    return ""


def _exponent(line: str, at: int, message: str) -> str:
    """Explain `5e-` and `5e`."""
    number = _NUMBER_BEFORE.search(line[:at])
    if number and message.startswith(_BEHIND_VALUE) and re.match(r"[eE][+-]?\s*(?:[,}\]#]|$)", line[at:]):
        return f"the digits of the exponent are missing; write {number[2]}e-4, say"
    return ""


def _calculation(line: str, at: int, message: str) -> str:
    """Explain `10**-4` and `1/10`."""
    number, rest = _NUMBER_BEFORE.search(line[:at]), line[at:].lstrip()
    # `[1 -2]` lacks a comma, while `1 - 2` and `1-2` are differences.
    is_sign = rest[:1] in ("+", "-") and " " in line[at - 1 : at + 1] and not rest[1:2].isspace()
    if not number or not message.startswith(_BEHIND_VALUE) or is_sign or not re.match(r"[*/^]|[+-]\s*\d", rest):
        return ""
    # Only this sum is done for the reader: learning rates are often written so.
    power = re.match(r"(?:\*\*|\^)\s*(-\d{1,3})\s*(?:[,}\]#]|$)", rest) if number[2] == "10" else None
    return f"TOML computes nothing; write {f'1e{power[1]}' if power else 'the result'}"


def _percent(line: str, at: int, message: str) -> str:
    number = _NUMBER_BEFORE.search(line[:at])
    if not number or not message.startswith(_BEHIND_VALUE) or not line[at:].lstrip().startswith("%"):
        return ""
    if number[1] == "percentile":
        return f"invalid value; percentile counts in percent; write {number[2]}"
    return "invalid value; TOML has no %; write a whole number, or a share such as 0.1 for 10%"


def _decimal_comma(line: str, at: int, message: str) -> str:
    """Explain `0,1`, in a table and on a line of its own."""
    if message.startswith("Expected '=' after"):
        number = re.search(r"=\s*([+-]?\d[\d_]*),(\d[\w+-]*)\s*$", line[:at])
    elif message.startswith("Expected newline"):
        number = re.search(r"=\s*([+-]?\d[\d_]*),(\d[\w+-]*)\s*(?:#.*)?$", line)
    else:
        return ""
    if not number:
        return ""
    if number[1].strip("+-") != "0" and re.fullmatch(r"\d{3}", number[2]):
        return f"digits are parted by _; write {number[1]}_{number[2]}"
    is_list = message.startswith("Expected newline") and not number[2].startswith("0")
    or_list = f", or [{number[1]}, {number[2]}] for a list" if is_list else ""
    return f"decimals follow a point, not a comma; write {number[1]}.{number[2]}{or_list}"


def _braced_list(line: str, at: int, message: str) -> str:
    """Explain `{8, 16}`."""
    item = r"\s*(?:\"[^\"]*\"|'[^']*'|[+-]?\d[\w.+-]*|true|false)\s*"
    inside = re.search(rf"=\s*\{{({item}(?:,{item})*),?\s*\}}", line)
    if inside and inside.start(1) <= at <= inside.end() and message.startswith(("Expected '=' after", "Invalid")):
        return f"a list stands in square brackets; write [{inside[1].strip()}]"
    return ""


def _multiline_table(line: str, at: int, message: str) -> str:
    if not message.startswith("Invalid initial character for a key"):
        return ""
    rest = line[at:].strip()
    if rest.startswith("}") and line[:at].rstrip().endswith(","):
        return "a comma before }; remove it"
    # tomllib stops at the end of the line that opens the table.
    if not rest.startswith(("}", ",")) and re.search(r"[{,]\s*(#.*)?$", line) and "{" in line:
        name = re.match(r"\s*([\w.-]+)\s*=", line)
        section = f"[{'space.' if name and '.' not in name[1] else ''}{name[1] if name else 'section.key'}]"
        return f"a table in braces stands on one line; join the lines, or write {section} and a line a key below it"
    return ""


def _missing_comma(line: str, at: int, message: str) -> str:
    if not message.startswith(("Unclosed inline table", "Unclosed array")) or not (rest := line[at:].strip()):
        return ""
    if rest.startswith(";"):
        return "a semicolon; values are parted by commas"
    before = re.search(r'("[^"]*"|\'[^\']*\'|[^\s,={\[]+)\s*$', line[:at])
    return f"a comma is missing after {before[1]}" if before and not rest.startswith("#") else ""


def _colon(line: str, at: int, message: str) -> str:
    if message.startswith("Expected '=' after") and line[at:].lstrip().startswith(":"):
        return "a colon; a line is `key = value` or `[section]`, with ="
    return ""


def _equals(line: str, at: int, message: str) -> str:
    if not message.startswith("Invalid value"):
        return ""
    if line[at : at + 1] == "=":
        return "two =; write one"
    rest = line[at:].strip()
    if re.match(r"[\w-]+\s*=", rest):
        return f"braces are missing; write {{ {rest} }}"
    if not rest or rest.startswith("#"):
        return "a value is missing after =; give one, or remove the line"
    return ""


def _bare_word(line: str, at: int, message: str) -> str:  # noqa: PLR0911 (one return for each kind of word)
    """Explain words of Python, YAML and JSON, and texts without quotes."""
    if not message.startswith("Invalid value"):
        return ""
    rest = line[at:]
    if rest.startswith("("):
        return "a list stands in square brackets, [1, 2]"
    if rest[:1] == ",":
        return "a comma too many; remove it"
    word = re.match(r"[+-]?[^\s,\]}#]+", rest)
    if word is None:
        return ""
    bare = word[0].lower()
    if bare in _BOOLEANS:
        return f"invalid value; write {_BOOLEANS[bare]} (put strings in quotes; write true and false in lower case)"
    if bare in _NULLS:
        return "TOML has no such value; remove the line, so that the key has its default"
    if bare.lstrip("+-") in _NOT_FINITE:
        return "no finite number; give one"
    if call := re.match(r"([\w.]+)\(", rest):
        return _call(call[1])
    if re.fullmatch(r"[^\W\d][\w.:/\\-]*", word[0]):
        return f"invalid value; put strings in quotes: {value(word[0])}"
    return ""


def _call(name: str) -> str:
    is_log = "log" in name.lower()
    if re.search(r"uniform|range|float|int|suggest|quniform|randint", name.lower()):
        return f"invalid value; a range is {{ low = ..., high = ...{', log = true' if is_log else ''} }}"
    if "choice" in name.lower():
        return "invalid value; a choice is a list, [1, 2, 3]"
    return "invalid value; a study file holds no calls"


def _after_value(line: str, at: int, message: str) -> str:  # noqa: PLR0911 (one return for each fault)
    """Explain what may not follow a value: a unit, a second value, separators of thousands."""
    if not message.startswith("Expected newline"):
        return ""
    rest, before = line[at:].strip(), line[:at]
    number = re.search(r"(?:^|[=\s])([+-]?\d[\d_.]*(?:[eE][+-]?\d+)?)\s*$", before)
    if line.lstrip().startswith("["):
        return "brackets too many, or more behind [section]; its keys stand on lines of their own"
    if rest.startswith(";"):
        return "a semicolon; remove it: a line ends by itself"
    if number and re.match(r",\d{3}", rest):
        return f"digits are parted by _; write {number[1]}{rest.replace(',', '_')}"
    if number and number[1].strip("+-") == "0" and rest[:1].isdigit():
        return f"a number begins with no 0; write {rest.lstrip('0') or '0'}"
    if number and re.match(r"\d*[A-Za-z]", line[at:]) and not re.search(r"[\s=]", rest):
        return f"invalid value; a value with a unit is a text: {value(number[1] + rest)}"
    if number and rest.startswith(".."):
        return "invalid value; a range is { low = ..., high = ... }"
    if rest.startswith(","):
        return "a list stands in square brackets, [1, 2], and a line holds one `key = value`"
    if rest.startswith(("]", "}", ")")):
        return f"{rest[0]} closes what is not open; remove it"
    return ""


def _statement(line: str, at: int, message: str) -> str:  # noqa: ARG001
    stripped = line.strip()
    if not message.startswith(("Invalid statement", "Expected '=' after")):
        return ""
    if stripped.startswith(("//", "--", ";", "/*", "%")):
        return "remarks begin with #"
    if stripped.startswith(("{", "}")):
        return "a line is `key = value` or `[section]`, and the file has no braces around it: is this JSON?"
    if "=" in stripped:
        name = stripped.split("=")[0].strip()
        if re.search(r"\s", name) or not name.isascii():
            return f"a key with blanks or other letters stands in quotes: {value(name)} = ..."
        if not name:
            return "a key is missing before =; a line is `key = value` or `[section]`"
    return ""


_RULES: tuple[_Rule, ...] = (
    _curly_quotes,
    _backslash,
    _bare_point,
    _exponent,
    _calculation,
    _percent,
    _decimal_comma,
    _braced_list,
    _multiline_table,
    _missing_comma,
    _colon,
    _equals,
    _bare_word,
    _after_value,
    _statement,
)
