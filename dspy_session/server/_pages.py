"""The two pages that need no script: the one that asks for the token, and the one after a link that works once."""

from __future__ import annotations

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head}<title>OpenCode's history</title>
<link rel="stylesheet" href="/static/styles.css">
</head>
<body class="login">
<main>
<h1>OpenCode's history</h1>
{body}
</main>
</body>
</html>
"""
_FORM = """<form method="post" action="/login">
{message}<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Open</button>
</form>"""
_WRONG = '<p class="error" role="alert">That is not the token.</p>\n'
_USED = '<p class="error" role="alert">This link has been used. Type the token.</p>\n'

OPENED = _PAGE.format(
    head='<meta http-equiv="refresh" content="0;url=/">\n', body='<p><a href="/">Open the dashboard</a></p>'
)
"""Leads on to the dashboard. A redirect would still count as a visit from where the link was followed, and the
cookie would not be sent with it."""


def login_page(*, wrong: bool = False, used: bool = False) -> str:
    """The page that asks for the token."""
    return _PAGE.format(head="", body=_FORM.format(message=_WRONG if wrong else _USED if used else ""))
