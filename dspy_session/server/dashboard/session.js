// One session: its place in the tree, its turns in brief, and page by page what was done for each.

import { ask } from "./api.js";
import { bars } from "./chart.js";
import { changed, diffOf } from "./diff.js";
import { arrows, h } from "./dom.js";
import { all, bytes, clock, count, duration, money, plural, rowTokens, tokens, when } from "./format.js";
import { kinds, KINDS, tile } from "./overview.js";
import { briefList, mark, marks, pager } from "./sessions.js";

const PAGE = 10;
const PREVIEW = 140;
const OPEN_LINES = 60;

export async function sessionView({ id, query, go, hash }) {
  const path = `/api/session/${encodeURIComponent(id)}`;
  const wanted = Number.parseInt(query.turn, 10);
  const page = Number.isNaN(wanted) ? Math.max(1, Number.parseInt(query.page, 10) || 1) : Math.floor(wanted / PAGE) + 1;
  const [head, turns] = await Promise.all([ask(path), ask(`${path}/turns`, { offset: (page - 1) * PAGE, limit: PAGE })]);
  const pages = Math.max(1, Math.ceil(head.meta.count / PAGE));
  const view = h("div", { class: "view session" },
    trail(head), h("h1", {}, head.session.title || id), facts(head), numbers(head.session),
    related(head), todos(head.todos),
    h("div", { class: "reader" },
      outline(head.turns, page, id, hash, go),
      h("div", { class: "timeline" }, turns.turns.map(turnOf), turns.turns.length ? null : h("p", { class: "empty" }, "No turn yet."), pager(page, pages, (change) => go({ ...change, turn: null })))));
  if (!Number.isNaN(wanted)) view.target = `turn-${wanted}`;
  return view;
}

// -- the head --

function trail({ parent, session }) {
  return h("nav", { class: "trail", "aria-label": "Where this session stands" }, h("a", { href: "#/sessions" }, "Sessions"),
    parent ? [" › ", h("a", { href: `#/session/${encodeURIComponent(parent.id)}` }, parent.title)] : null,
    " › ", h("span", {}, session.parent_id ? "sub-agent" : "session"));
}

function facts({ session, forked_from: source }) {
  return h("p", { class: "factline" },
    session.agent ? mark(session.agent, "the agent that answered last") : null,
    session.models.map((model) => mark(model, "a model that was called")), marks(session),
    h("span", { title: session.directory }, session.project || session.directory),
    h("time", { datetime: session.created_at }, when(session.created_at)),
    source ? h("span", {}, "copied from ", h("a", { href: `#/session/${encodeURIComponent(source.id)}` }, source.title)) : null,
    session.skipped ? mark(`${session.skipped} damaged`, "pieces that could not be read", "warn") : null,
    h("code", {}, session.id));
}

function numbers(session) {
  return h("dl", { class: "tiles" },
    tile("Cost", money(session.cost_with_sub_agents), session.sub_agents ? `${money(session.cost)} without sub-agents` : null),
    tile("Turns", count(session.turns), `${count(session.calls)} calls of models`),
    tile("Tools", count(session.tool_calls), session.tool_failures ? `${count(session.tool_failures)} did not succeed` : "all succeeded"),
    tile("Worked", duration(session.working_ms), `over ${duration(session.duration_ms)}`),
    tile("Tokens", tokens(rowTokens(session)), KINDS.filter(([kind]) => session[`tokens_${kind}`]).map(([kind, name]) => `${tokens(session[`tokens_${kind}`])} ${name}`).join(", "), kinds(session)));
}

const TODO_SIGNS = { completed: "✓", in_progress: "▸", cancelled: "✗" };

function todos(list) {
  if (!list.length) return null;
  const done = list.filter((each) => each.status === "completed").length;
  return h("details", { class: "panel todos", "data-key": "todos" }, h("summary", {}, `To do: ${done} of ${list.length} done`),
    h("ul", {}, list.map((each) => h("li", { class: each.status === "completed" || each.status === "cancelled" ? "gone" : null },
      h("span", { class: "sign", "aria-hidden": "true" }, (Object.hasOwn(TODO_SIGNS, each.status) && TODO_SIGNS[each.status]) || "○"), h("span", { class: "hidden" }, `${each.status || ""}: `), each.content, each.priority === "high" ? mark("high", "priority") : null))));
}

function related({ children, forks }) {
  const lists = [["Sub-agents", children], ["Forks", forks]].filter(([, sessions]) => sessions.length);
  return lists.map(([name, sessions]) => h("section", { class: "panel" }, h("h2", {}, name), briefList(sessions)));
}

function outline(turns, page, id, hash, go) {
  if (turns.length < 2) return null;
  const spent = turns.some((turn) => turn.cost > 0) ? "cost" : "tokens";
  const points = turns.map((turn) => ({ label: `Turn ${turn.index + 1}`, value: turn[spent] || 0 }));
  const chart = bars(points, { title: `${spent === "cost" ? "Cost" : "Tokens"} of each turn; the list below has the same`, show: spent === "cost" ? money : tokens, height: 56, axis: false, choose: (index) => go({ turn: turns[index].index, page: null }) });
  const item = (turn) => h("li", {}, h("a", {
    href: hash({ turn: turn.index, page: null }), "data-item": true, "data-key": `outline-${turn.index}`, class: turn.reverted ? "gone" : null,
  }, h("span", { class: "no" }, turn.index + 1), h("span", { class: "what" }, turn.title || turn.kind), h("span", { class: "sub" }, `${money(turn.cost)}`)));
  return h("nav", { class: "outline", "aria-label": "Turns" }, h("h2", {}, plural(turns.length, "turn")), chart,
    arrows(h("ol", {}, turns.map(item))));
}

// -- a turn --

function turnOf(turn) {
  const ended = turn.success === null ? null : turn.success ? mark("✓ done", `${turn.signal}: ${turn.detail || ""}`, "good") : mark(`✗ ${turn.signal || "failed"}`, turn.detail, "bad");
  return h("article", { class: `turn ${turn.reverted ? "gone" : ""}`, id: `turn-${turn.index}`, "aria-labelledby": `turn-${turn.index}-title`, tabindex: -1 },
    h("header", {},
      h("h2", { id: `turn-${turn.index}-title` }, `Turn ${turn.index + 1}`, turn.kind !== "prompt" ? ` · ${turn.kind}` : "", turn.summary_title ? h("span", { class: "sub" }, turn.summary_title) : null),
      ended, turn.reverted ? mark("undone", "the user undid this turn", "warn") : null, turn.copied ? mark("copied", "brought along by the fork; its tokens were spent in the other session") : null,
      h("span", { class: "facts" }, h("time", { datetime: turn.started_at }, clock(turn.started_at)), h("span", {}, duration(turn.duration_ms)), h("span", {}, plural(turn.step_count, "call")), h("span", {}, `${tokens(all(turn.tokens))} tokens`), h("span", { class: "money" }, money(turn.cost)))),
    turn.messages.map(messageOf),
    turn.diffs.length ? h("section", { class: "changes" }, h("h3", {}, `Changed in this turn: ${plural(turn.diffs.length, "file")}`), turn.diffs.map((diff, place) => fileChange(diff.file, diff.patch, diff, `diff-${turn.index}-${place}`))) : null);
}

function messageOf(message) {
  const error = message.error_name ? h("p", { class: "error" }, h("strong", {}, message.error_name), ` ${message.error_message || ""}`, message.error_status ? ` (HTTP ${message.error_status})` : "") : null;
  if (message.role === "user") {
    return h("div", { class: `message user ${message.reverted ? "gone" : ""}` }, message.steps.flatMap((step) => step.parts).map(partOf), error);
  }
  return h("div", { class: `message assistant ${message.reverted ? "gone" : ""}` }, message.is_summary ? mark("summary", "sums up the conversation for a compaction") : null, message.steps.map(stepOf), error);
}

function stepOf(step) {
  const called = step.index !== undefined;
  return h("div", { class: "step" }, step.parts.map(partOf), called ? h("p", { class: "stepline" },
    h("span", {}, `call ${step.index + 1}`), step.model ? h("span", {}, step.model) : null,
    h("span", { title: "input, cache read, cache write" }, `${tokens(step.tokens.input)} in`, step.tokens.cache_read ? ` + ${tokens(step.tokens.cache_read)} cached` : "", step.tokens.cache_write ? ` + ${tokens(step.tokens.cache_write)} to cache` : ""),
    h("span", {}, `${tokens(step.tokens.output)} out`, step.tokens.reasoning ? ` + ${tokens(step.tokens.reasoning)} thought` : ""),
    h("span", { class: "money" }, money(step.cost)), step.finish_reason ? h("span", {}, step.finish_reason) : mark("cut off", "the call never ended, or has not yet", "warn"),
    step.retried ? mark("retried", "an earlier try broke off", "warn") : null,
    step.cost_issues && step.cost_issues.length ? mark("doubtful cost", step.cost_issues.join(", "), "warn") : null) : null);
}

// -- parts --

function partOf(part) {
  const draw = (Object.hasOwn(PARTS, part.type) && PARTS[part.type]) || ((each) => line(each.type, each.content || ""));
  const drawn = draw(part);
  if (drawn && part.reverted) drawn.classList.add("gone");
  return drawn;
}

const PARTS = {
  text: (part) => part.synthetic
    ? folded(`text-${part.id}`, "aside", [h("span", { class: "tag" }, "added by OpenCode"), preview(part.content)], () => text(part.content, part))
    : h("div", { class: "part text" }, text(part.content, part)),
  reasoning: (part) => folded(`thought-${part.id}`, "reasoning", [h("span", { class: "tag" }, "Thought"), part.duration_ms ? h("span", { class: "sub" }, duration(part.duration_ms)) : null, part.signed ? mark("signed", "bears the provider's signature") : null, preview(part.reasoning)], () => text(part.reasoning, part)),
  tool: toolOf,
  file: (part) => line("Attached", part.file_name || part.file_mime || "file", [part.file_mime, part.file_size ? bytes(part.file_size) : null].filter(Boolean).join(", ")),
  patch: (part) => part.files && part.files.length ? line("Snapshot", plural(part.files.length, "file"), part.files.join(", ")) : null,
  compaction: (part) => line("Compaction", part.compaction_auto ? "by itself: the conversation had grown too long" : "asked for"),
  subtask: (part) => line("Task", part.content || ""),
  agent: () => null,
  snapshot: () => null,
  retry: (part) => h("p", { class: "part line bad" }, h("span", { class: "tag" }, "Tried again"), part.error_message || part.content || ""),
};

function toolOf(part) {
  const state = part.tool_status === "pending" || part.tool_status === "running" ? "…" : part.succeeded ? "✓" : "✗";
  const told = part.command || part.tool_title || (part.files && part.files.join(", ")) || part.arguments || "";
  const failed = state === "✗";
  const head = [
    h("span", { class: failed ? "sign bad" : state === "✓" ? "sign good" : "sign" }, h("span", { class: "hidden" }, failed ? "failed" : state === "✓" ? "succeeded" : "not ended"), h("span", { "aria-hidden": "true" }, state)),
    h("span", { class: "tool" }, part.tool_name), preview(told),
    part.exit_code ? mark(`exit ${part.exit_code}`, "the command's exit status", "bad") : null,
    failed && part.error_class ? mark(part.error_class.replaceAll("_", " "), part.error_message, "bad") : null,
    part.changes.map((each) => changed(each.additions ?? null, each.deletions ?? null)),
    h("span", { class: "sub" }, part.duration_ms === undefined ? "" : duration(part.duration_ms)),
  ];
  return folded(`tool-${part.id}`, "toolcall", head, () => [
    part.child_session_id ? h("p", {}, h("a", { href: `#/session/${encodeURIComponent(part.child_session_id)}` }, "Open the sub-agent's session")) : null,
    part.changes.filter((each) => each.diff).map((each, place) => fileChange(each.path, each.diff, each, `op-${part.id}-${place}`)),
    part.arguments ? argumentsOf(part) : null,
    part.error_message ? [h("h4", {}, "Error"), code(part.error_message)] : null,
    part.result_chars ? [h("h4", {}, part.result_chars > part.result_summary.length ? `Result, the beginning of ${count(part.result_chars)} characters` : "Result"), part.result_summary ? code(part.result_summary) : null] : null,
  ]);
}

/** A diff says what the arguments say, and better. */
function argumentsOf(part) {
  const shown = code(pretty(part.arguments));
  if (!part.changes.some((each) => each.diff)) return [h("h4", {}, "Arguments"), shown];
  return h("details", { "data-key": `arguments-${part.id}` }, h("summary", { class: "tag" }, "Arguments"), shown);
}

function fileChange(path, diff, change, key) {
  const head = [change.status ? h("span", { class: "tag" }, change.status) : null, h("span", { class: "path" }, path), changed(change.additions ?? null, change.deletions ?? null)];
  if (!diff) return h("p", { class: "filechange plain" }, head, h("span", { class: "sub" }, "no diff was recorded"));
  const short = diff.split("\n").length <= OPEN_LINES;
  return h("details", { class: "filechange", "data-key": key, open: short }, h("summary", {}, head), diffOf(diff), change.cut ? cutNote() : null);
}

/** A part that opens; what it holds is drawn when it does. */
function folded(key, kind, head, content) {
  const inner = h("div", { class: "inner" });
  const details = h("details", { class: `part ${kind}`, "data-key": key, ontoggle: () => details.fill() }, h("summary", {}, head), inner);
  details.fill = () => {
    if (details.open && !inner.hasChildNodes()) inner.append(...content().flat(Infinity).filter(Boolean));
  };
  return details;
}

function line(name, what, note) {
  return h("p", { class: "part line" }, h("span", { class: "tag" }, name), what, note ? h("span", { class: "sub" }, note) : null);
}

function preview(value) {
  const flat = (value || "").replace(/\s+/g, " ").trim();
  return h("span", { class: "preview" }, flat.length > PREVIEW ? `${flat.slice(0, PREVIEW)}…` : flat);
}

function text(value, part) {
  return [h("div", { class: "prose" }, value || ""), part.cut ? cutNote() : null];
}

function code(value) {
  return h("pre", { tabindex: 0 }, value);
}

function cutNote() {
  return h("p", { class: "note" }, "This is the beginning; the rest is too long for the page.");
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
