"""An optimised program goes back to OpenCode, as an agent or as a command.

OpenCode reads Markdown files with a head of YAML: agents from `.opencode/agent/NAME.md` (the text is the
agent's system prompt), commands from `.opencode/command/NAME.md` (the text is the prompt, with `$ARGUMENTS`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from dspy_session.errors import ConfigurationError

LONGEST_VALUE = 2_000
"""A demo's value is cut after this many characters: an agent's prompt is sent with every call."""


def agent_prompt(program: Any, *, max_demos: int = 8) -> str:
    """What an optimizer made of a program, as a system prompt: instructions, fields, and worked examples.

    Args:
        program: a DSPy module.
        max_demos: how many demos of each predictor are written at most.

    Raises:
        ConfigurationError: the program has no predictor.
    """
    predictors = dict(program.named_predictors())
    if not predictors:
        raise ConfigurationError(f"{type(program).__name__} has no predictor: there is nothing to write")
    sections = [_section(name, each, max_demos, len(predictors) > 1) for name, each in predictors.items()]
    return "\n\n".join(sections) + "\n"


def write_agent(
    program: Any,
    path: str | os.PathLike[str],
    *,
    description: str,
    mode: Literal["primary", "subagent", "all"] = "all",
    model: str | None = None,
    tools: Mapping[str, bool] | None = None,
    max_demos: int = 8,
) -> Path:
    """Write a program as an agent of OpenCode.

    Args:
        program: a DSPy module.
        path: the file, or a project's folder: then `.opencode/agent/<class name>.md` in it.
        description: when the agent is to be used; OpenCode and its models see it.
        mode: whether users choose it ("primary"), other agents call it ("subagent"), or both ("all").
        model: `provider/model`; OpenCode's own choice if None.
        tools: tools to switch on or off.
        max_demos: as for `agent_prompt`.

    Returns:
        The file.
    """
    head: dict[str, Any] = {"description": description, "mode": mode}
    if model is not None:
        head["model"] = model
    if tools:
        head["tools"] = dict(tools)
    return _write(_place(path, "agent", program), head, agent_prompt(program, max_demos=max_demos))


def write_command(
    program: Any,
    path: str | os.PathLike[str],
    *,
    description: str,
    agent: str | None = None,
    model: str | None = None,
    max_demos: int = 8,
) -> Path:
    """Write a program as a command of OpenCode: `/name what to do` fills the task in.

    Args:
        program: a DSPy module.
        path: the file, or a project's folder: then `.opencode/command/<class name>.md` in it.
        description: what OpenCode shows of the command.
        agent: the agent that runs it.
        model: `provider/model`.
        max_demos: as for `agent_prompt`.

    Returns:
        The file.
    """
    head = {"description": description, "agent": agent, "model": model}
    body = agent_prompt(program, max_demos=max_demos) + "\n## Task\n\n$ARGUMENTS\n"
    head = {key: value for key, value in head.items() if value is not None}
    return _write(_place(path, "command", program), head, body)


def _place(path: str | os.PathLike[str], kind: str, program: Any) -> Path:
    place = Path(path).expanduser()
    if place.suffix == ".md":
        return place
    name = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(program).__name__).lstrip("-")
    return place / ".opencode" / kind / f"{name}.md"


def _write(path: Path, head: Mapping[str, Any], body: str) -> Path:
    # JSON is YAML: quoting a value as JSON keeps colons and quotes in it from breaking the head.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["---", *lines, "---", "", body]), encoding="utf-8")
    return path


def _section(name: str, predictor: Any, max_demos: int, named: bool) -> str:
    signature = predictor.signature
    lines = [f"# {name}", ""] if named else []
    lines += [signature.instructions.strip(), "", "## What is given", *_fields(signature.input_fields)]
    lines += ["", "## What to produce", *_fields(signature.output_fields)]
    fields = [*signature.input_fields, *signature.output_fields]
    for number, demo in enumerate(list(predictor.demos)[:max_demos], 1):
        lines += ["", f"## Example {number}", *_demo(demo, fields)]
    return "\n".join(lines)


def _fields(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        described = (field.json_schema_extra or {}).get("desc", "")
        told = described if described and described != f"${{{name}}}" else ""
        yield f"- `{name}`: {told}" if told else f"- `{name}`"


def _demo(demo: Any, fields: list[str]) -> Iterator[str]:
    for name in fields:
        value = demo.get(name)
        if value is None or not str(value):
            continue
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        cut = shown if len(shown) <= LONGEST_VALUE else f"{shown[:LONGEST_VALUE]} […]"
        yield from ("", f"### {name}", "", cut)
