// The first page: what there is, what it cost, who did it.

import { ask } from "./api.js";
import { divided } from "./chart.js";
import { costChart } from "./cost.js";
import { h } from "./dom.js";
import { count, money, rowTokens, share, tokens } from "./format.js";
import { briefList } from "./sessions.js";
import { reportTable, skipped } from "./tables.js";

export const KINDS = [["cache_read", "cache read"], ["input", "input"], ["cache_write", "cache write"], ["output", "output"], ["reasoning", "reasoning"]];

export async function overviewView({ filters, link }) {
  const report = (name, limit = 8) => ask(`/api/reports/${name}`, { ...filters, limit });
  const [overview, days, models, tools, skills, recent] = await Promise.all([
    report("overview"), report("cost_by_day", 10000), report("models"), report("tools"), report("skills"),
    ask("/api/sessions", { ...filters, tree: true, limit: 8, order: "ended" }),
  ]);
  const told = overview.rows[0];
  return h("div", { class: "view" },
    h("h1", {}, "Overview"),
    tiles(told),
    skipped(overview.meta.skipped),
    h("section", { class: "panel" },
      h("h2", {}, h("a", { href: link("cost") }, "Cost over time")),
      days.rows.length ? costChart(days.rows) : h("p", { class: "empty" }, "Nothing was spent for these filters.")),
    h("section", { class: "panel" },
      h("h2", {}, h("a", { href: link("sessions", { order: "ended" }) }, "Latest sessions")), briefList(recent.sessions)),
    h("div", { class: "columns" },
      panel("Models", link("models"), reportTable(models, { wanted: ["model", "calls", "errors", "cost"], bar: "cost" })),
      panel("Tools", link("tools"), reportTable(tools, { wanted: ["tool", "calls", "success_rate", "p50_ms"], bar: "calls" })),
      panel("Skills", link("skills"), reportTable(skills, { wanted: ["skill", "loads", "success_rate", "attributed_cost"], bar: "loads" }))));
}

function panel(title, target, content) {
  return h("section", { class: "panel" }, h("h2", {}, h("a", { href: target }, title)), content);
}

function tiles(told) {
  const input = told.tokens_input + told.tokens_cache_read + told.tokens_cache_write;
  return h("dl", { class: "tiles" },
    tile("Cost", money(told.cost), `${money(told.cost_per_day)} a day`),
    tile("Sessions", count(told.sessions), `${count(told.messages)} messages`),
    tile("Days", count(told.days), null),
    tile("Tokens", tokens(rowTokens(told)), `median ${tokens(told.median_tokens)} a session`, kinds(told)),
    tile("Served from cache", share(input ? told.tokens_cache_read / input : null), "of what was sent"));
}

/** Tokens by kind as one divided bar. */
export function kinds(row) {
  const parts = KINDS.map(([kind, name]) => ({ value: row[`tokens_${kind}`] || 0, title: `${name}: ${tokens(row[`tokens_${kind}`])}` }));
  return divided(parts, `Tokens: ${parts.map((part) => part.title).join(", ")}`);
}

/** One number with its name. */
export function tile(name, value, note, more) {
  return h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, h("strong", {}, value), note ? h("span", { class: "sub" }, note) : null, more || null));
}
