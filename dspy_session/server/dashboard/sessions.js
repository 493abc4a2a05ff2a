// Sessions as a tree: sub-agents' sessions under those that started them.

import { ask } from "./api.js";
import { arrows, h } from "./dom.js";
import { count, duration, money, plural, rowTokens, tokens, when } from "./format.js";
import { skipped } from "./tables.js";

const PAGE = 50;
const ORDERS = [["created", "Newest"], ["ended", "Last active"], ["cost", "Cost"], ["tokens", "Tokens"], ["turns", "Turns"], ["duration", "Duration"]];
const opened = new Set();

export async function sessionsView({ filters, query, go, search }) {
  const page = Math.max(1, Number.parseInt(query.page, 10) || 1);
  const order = ORDERS.some(([name]) => name === query.order) ? query.order : "created";
  const answer = await ask("/api/sessions", { ...filters, search: query.search, order, tree: true, limit: PAGE, offset: (page - 1) * PAGE });
  const pages = Math.max(1, Math.ceil(answer.meta.count / PAGE));
  return h("div", { class: "view" },
    h("h1", {}, "Sessions ", h("span", { class: "total" }, count(answer.meta.count))),
    h("div", { class: "toolbar" },
      h("label", { class: "field grow" }, h("span", {}, "Search"),
        h("input", { type: "search", "data-key": "search", value: query.search || "", placeholder: "title, folder or id", maxlength: 200, oninput: (event) => search(event.target.value) })),
      h("label", { class: "field" }, h("span", {}, "Order"),
        h("select", { "data-key": "order", onchange: (event) => go({ order: event.target.value, page: null }) },
          ORDERS.map(([name, text]) => h("option", { value: name, selected: name === order }, text))))),
    skipped(answer.meta.skipped),
    answer.sessions.length ? tree(answer.sessions) : h("p", { class: "empty" }, "No session fits these filters."),
    pager(page, pages, go));
}

/** Buttons for the other pages of a list. */
export function pager(page, pages, go, what = "page") {
  if (pages < 2) return null;
  const to = (number, text) => h("button", { type: "button", "data-key": `page-${text}`, disabled: number < 1 || number > pages, onclick: () => go({ [what]: number === 1 ? null : number }) }, text);
  return h("nav", { class: "pager", "aria-label": "Pages" }, to(1, "First"), to(page - 1, "Previous"), h("span", {}, `${page} of ${pages}`), to(page + 1, "Next"), to(pages, "Last"));
}

function tree(sessions) {
  const body = h("tbody");
  const fill = () => body.replaceChildren(...sessions.flatMap((session) => rows(session, 1)));
  const rows = (session, level) => [
    row(session, level, toggle),
    ...(opened.has(session.id) ? session.children.flatMap((child) => rows(child, level + 1)) : []),
  ];
  const toggle = (id, open = !opened.has(id)) => {
    if (open) opened.add(id);
    else opened.delete(id);
    fill();
    [...body.querySelectorAll("[data-item]")].find((each) => each.dataset.id === id)?.focus();
  };
  fill();
  const heads = [["Session"], ["Project"], ["Begun"], ["Turns", 1], ["Tools", 1], ["Duration", 1], ["Tokens", 1], ["Cost", 1]];
  const table = h("table", { class: "tree", role: "treegrid", "aria-label": "Sessions" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads.map(([name, number]) => h("th", { role: "columnheader", scope: "col", class: number && "number" }, name)))), body);
  return arrows(table, {
    onside: (item, right) => {
      if (item.hasAttribute("aria-expanded")) return toggle(item.dataset.id, right);
      if (!right && item.dataset.parent) [...body.children].find((each) => each.dataset.id === item.dataset.parent)?.focus();
    },
  });
}

function row(session, level, toggle) {
  const target = `#/session/${encodeURIComponent(session.id)}`;
  const parent = session.children.length > 0;
  const open = opened.has(session.id);
  const mark = parent
    ? h("button", { type: "button", class: "twist", tabindex: -1, "aria-label": open ? "Hide sub-agents" : "Show sub-agents", onclick: (event) => { event.stopPropagation(); toggle(session.id); } }, open ? "▾" : "▸")
    : h("span", { class: "twist", "aria-hidden": "true" }, level > 1 ? "└" : "");
  const numbers = [count(session.turns), tools(session), duration(session.duration_ms), tokens(rowTokens(session)), money(session.cost_with_sub_agents)];
  const names = ["turns", "tools", "took", "tokens", "cost"];
  return h("tr", {
    role: "row", "data-item": true, "data-key": `row-${session.id}`, "data-id": session.id, "data-parent": level > 1 ? session.parent_id : null,
    "aria-level": level, "aria-expanded": parent ? String(open) : null, tabindex: -1,
    onclick: () => { location.hash = target; },
    onkeydown: (event) => { if (event.key === "Enter" && event.target === event.currentTarget) location.hash = target; },
  },
  h("td", { role: "gridcell", class: "name" }, h("div", { class: "title", "--level": level - 1 }, mark,
    h("a", { href: target, tabindex: -1 }, session.title || session.id), marks(session))),
  h("td", { role: "gridcell", class: "project", title: session.directory }, session.project || ""),
  h("td", { role: "gridcell", class: "begun" }, h("time", { datetime: session.created_at }, when(session.created_at))),
  numbers.map((text, place) => h("td", { role: "gridcell", class: "number", "data-name": names[place] }, text)));
}

function tools(session) {
  if (!session.tool_failures) return count(session.tool_calls);
  return h("span", { title: `${session.tool_failures} of ${session.tool_calls} calls did not succeed` }, count(session.tool_calls), h("span", { class: "bad" }, ` (${count(session.tool_failures)}✗)`));
}

/** Small marks for what is special about a session. */
export function marks(session) {
  return [
    session.sub_agents > 0 && mark(plural(session.sub_agents, "sub-agent"), "sessions of sub-agents, at any depth"),
    session.is_fork && mark("fork", "began as a copy of another session"),
    session.errors > 0 && mark(plural(session.errors, "error"), "calls of the model that ended with an error", "bad"),
    session.turns_reverted > 0 && mark("undone", "the user undid a part of it", "warn"),
    session.compactions > 0 && mark("compacted", "the conversation was summed up to make room"),
  ].filter(Boolean);
}

export function mark(text, title, kind = "") {
  return h("span", { class: `mark ${kind}`, title }, text);
}

/** A few sessions as a list of links. */
export function briefList(sessions) {
  if (!sessions.length) return h("p", { class: "empty" }, "No session yet.");
  return arrows(h("ul", { class: "brief" }, sessions.map((session) => h("li", {},
    h("a", { href: `#/session/${encodeURIComponent(session.id)}`, "data-item": true, "data-key": `brief-${session.id}` }, h("span", { class: "what" }, session.title || session.id)),
    marks(session),
    h("span", { class: "facts" }, session.agent ? h("span", {}, session.agent) : null, h("time", { datetime: session.created_at }, when(session.created_at)), h("span", {}, plural(session.turns, "turn")), h("span", {}, tokens(rowTokens(session))), h("span", { class: "money" }, money(session.cost_with_sub_agents)))))));
}
