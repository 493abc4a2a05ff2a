"""What must not leave: secrets, home folders, and fields that you choose.

Goes over every string of a value, keys and JSON inside strings too, and counts what it replaced. Patterns
find what looks like a secret; they cannot find a password that looks like a word. Read what you publish.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SENSITIVE_FIELDS = frozenset(
    {
        "responseHeaders",
        "responseBody",
        "headers",
        "authorization",
        "cookie",
        "set-cookie",
        "access_token",
        "refresh_token",
        "apiKey",
        "api_key",
        "password",
        "secret",
    }
)
"""Fields that are replaced whole, wherever they stand; letter case does not matter."""

_NAMED = (
    r"(?:api[_-]?key|apikey|secret(?:[_-]?(?:key|access[_-]?key))?|access[_-]?token|auth[_-]?token|"
    r"refresh[_-]?token|client[_-]?secret|private[_-]?key|password|passwd|pwd|token|credentials?)"
)
_KEY = rf"{_NAMED}[\\\"']{{0,3}}"
_VALUE = r"[^\s\"'\\,;&(){}\[\]]{6,}"
_SECRETS: tuple[tuple[str, str], ...] = (
    (
        "private_key",
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    ("jwt", r"\beyJ[\w-]{8,2000}\.eyJ[\w-]{8,8000}\.[\w-]{8,2000}"),
    ("aws_key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("github_token", r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"),
    ("gitlab_token", r"\bglpat-[\w-]{16,}"),
    ("slack_token", r"\bxox[abeoprs]-[\w-]{10,}"),
    ("google_key", r"\bAIza[\w-]{30,}"),
    ("stripe_key", r"\b[rs]k_(?:live|test)_\w{16,}"),
    ("hugging_face_token", r"\bhf_[A-Za-z0-9]{20,}"),
    ("package_token", r"\b(?:npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,})"),
    ("api_key", r"\bsk-(?:ant-|proj-|or-)?[\w-]{16,}"),
)
_KEPT_HEAD: tuple[tuple[str, str], ...] = (
    ("url_credentials", r"(://[^\s/:@\"'<>]{0,200}:)[^\s/@\"'<>]{1,300}(?=@)"),
    ("bearer", r"(?i)(\b(?:bearer|basic)\s+)[\w.~+/-]{12,}=*"),
    ("url_parameter", rf"(?i)([?&](?:{_NAMED}|key|sig|signature|code)=)[^\s&#\"'<>\\]+"),
    ("assigned", rf"(?i)({_KEY}\s*[:=]\s*[\\\"']{{1,3}})(?!\[redacted){_VALUE}"),
    ("assigned", rf"({_NAMED.upper()}[A-Z0-9_]*=)(?!\[redacted){_VALUE}"),
    ("assigned", rf"(?i)({_KEY}\s*[:=]\s*)(?!\[redacted)(?=[^\s\"'\\,;]{0, 100}[\d+/!@#$%^*~-]){_VALUE}"),
)
"""What stands before the secret is kept. A name with a value in quotes, or in the way of a shell's
environment, is taken for a secret whatever the value; in other code (`token: string`) only if the value has
more than letters."""
_NEEDLES: Mapping[str, tuple[str, ...]] = {
    "private_key": ("-----begin",),
    "jwt": ("eyj",),
    "aws_key": ("akia", "asia"),
    "github_token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    "gitlab_token": ("glpat-",),
    "slack_token": ("xox",),
    "google_key": ("aiza",),
    "stripe_key": ("_live_", "_test_"),
    "hugging_face_token": ("hf_",),
    "package_token": ("npm_", "pypi-"),
    "api_key": ("sk-",),
    "url_credentials": ("://",),
    "bearer": ("bearer", "basic"),
    "url_parameter": ("?", "&"),
    "assigned": ("key", "secret", "token", "passw", "pwd", "credential"),
    "home": ("home", "users", "root"),
}
"""What a text must hold, in lower case, for a kind to be looked for: texts are long, secrets are rare."""
_HOME = re.compile(r"(?<![\w.])(/home/|/Users/|[A-Za-z]:(?:\\{1,2}|/)Users(?:\\{1,2}|/))([^/\\\s\"'<>:|]+)")
_ROOT = re.compile(r"(?<![\w/.])/root(?=[/\s\"'\\:]|$)")


@dataclass(frozen=True)
class _Rule:
    """Replace what the pattern finds; all but its first group, if that is kept."""

    kind: str
    pattern: re.Pattern[str]
    replacement: str
    keeps_head: bool = False


@dataclass
class RedactionReport:
    """What was replaced.

    Attributes:
        counts: replacements by kind.
        places: replacements by session (or other label) and kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    places: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, kind: str, place: str) -> None:
        """Count one replacement."""
        self.counts[kind] += 1
        self.places[place, kind] += 1

    def __str__(self) -> str:
        if not self.counts:
            return "nothing was redacted"
        kinds = ", ".join(f"{kind}: {n}" for kind, n in sorted(self.counts.items()))
        return f"{self.counts.total()} values redacted ({kinds})"


class Redactor:
    """Replaces what must not leave, and keeps count in `report`.

    Args:
        secrets: keys, tokens, passwords and credentials in urls.
        home: the user's name in paths of home folders: `/home/ann/x` becomes `/home/user/x`.
        fields: names of fields that are replaced whole, besides `SENSITIVE_FIELDS`.
        patterns: further regular expressions, by kind.
    """

    def __init__(
        self,
        *,
        secrets: bool = True,
        home: bool = True,
        fields: Iterable[str] = (),
        patterns: Mapping[str, str] | None = None,
    ) -> None:
        self.report = RedactionReport()
        self._fields = {name.lower() for name in (*(SENSITIVE_FIELDS if secrets else ()), *fields)}
        whole = (*(_SECRETS if secrets else ()), *(patterns or {}).items())
        self._rules = [_Rule(kind, re.compile(p, re.DOTALL), f"[redacted:{kind}]") for kind, p in whole]
        tails = _KEPT_HEAD if secrets else ()
        self._rules += [_Rule(kind, re.compile(p), f"[redacted:{kind}]", True) for kind, p in tails]
        if home:
            self._rules += [_Rule("home", _HOME, "user", True), _Rule("home", _ROOT, "/home/user")]

    def __call__(self, value: Any, place: str = "") -> Any:
        """A copy of a JSON value with everything replaced that must be.

        Args:
            place: what the report calls the value, as a session's id.
        """
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, Mapping):
            return {
                self._text(str(key), place): self._field(str(key), each, place) for key, each in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self(each, place) for each in value]
        return value

    def _field(self, name: str, value: Any, place: str) -> Any:
        if name.lower() in self._fields and value not in (None, "", {}, []):
            self.report.add("field", place)
            return "[redacted:field]"
        return self(value, place)

    def _text(self, text: str, place: str) -> str:
        lowered = text.lower()
        for rule in self._rules:
            if not any(needle in lowered for needle in _NEEDLES.get(rule.kind, ("",))):
                continue

            def replace(found: re.Match[str], rule: _Rule = rule) -> str:
                new = (found.group(1) if rule.keeps_head else "") + rule.replacement
                if new != found.group(0):
                    self.report.add(rule.kind, place)
                return new

            text = rule.pattern.sub(replace, text)
        return text
