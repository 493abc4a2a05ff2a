// What was spent over time.

import { ask } from "./api.js";
import { bars, legend } from "./chart.js";
import { h } from "./dom.js";
import { count, money, rowTokens, tokens } from "./format.js";

const KINDS = ["cache_read", "input", "cache_write", "output", "reasoning"];
const KIND_NAMES = ["Cache read", "Input", "Cache write", "Output", "Reasoning"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export async function costView({ filters, query, go }) {
  const measure = query.measure === "tokens" ? "tokens" : "cost";
  const report = await ask("/api/reports/cost_by_day", { ...filters, limit: 10000 });
  const grain = ["day", "week", "month"].includes(query.grain) ? query.grain : grainOf(report.rows);
  const periods = grouped(report.rows, grain);
  return h("div", { class: "view" },
    h("h1", {}, "Cost over time"),
    h("div", { class: "toolbar" },
      choice("Show", "measure", [["cost", "Cost"], ["tokens", "Tokens"]], measure, go),
      choice("By", "grain", [["day", "Day"], ["week", "Week"], ["month", "Month"]], grain, go)),
    periods.length ? h("section", { class: "panel" }, chart(periods, measure, grain)) : null,
    table(periods, grain));
}

function grainOf(rows) {
  if (rows.length < 2) return "day";
  const days = (new Date(rows.at(-1).day) - new Date(rows[0].day)) / 86400000;
  return days > 550 ? "month" : days > 120 ? "week" : "day";
}

/** The chart of a report of days, as it stands on the overview, too. */
export function costChart(rows, measure = "cost", height = 180) {
  const grain = grainOf(rows);
  return chart(grouped(rows, grain), measure, grain, height);
}

function chart(periods, measure, grain, height) {
  const told = measure === "cost" ? "Cost" : "Tokens";
  const points = periods.map((period) => ({
    label: period.label,
    short: period.short,
    value: measure === "cost" ? period.cost : rowTokens(period),
    parts: measure === "cost" ? undefined : KINDS.map((kind) => ({ value: period[`tokens_${kind}`] })),
  }));
  const title = `${told} by ${grain}, ${points.length ? `${points[0].label} to ${points.at(-1).label}` : "nothing"}`;
  const drawn = bars(points, { title, show: measure === "cost" ? money : tokens, kinds: measure === "cost" ? [] : KIND_NAMES, height });
  return measure === "cost" ? drawn : h("div", {}, drawn, legend(KIND_NAMES));
}

/** Days as days, weeks (from Monday) or months, with those that had nothing in between. */
function grouped(rows, grain) {
  const found = new Map();
  if (!rows.length) return [];
  const last = rows.at(-1).day;
  for (let at = start(rows[0].day, grain); key(at) <= last; at = next(at, grain)) {
    found.set(key(at), { ...labels(at, grain), sessions: 0, turns: 0, calls: 0, cost: 0, ...Object.fromEntries(KINDS.map((kind) => [`tokens_${kind}`, 0])) });
  }
  for (const row of rows) {
    const period = found.get(key(start(row.day, grain)));
    for (const name of ["sessions", "turns", "calls", "cost", ...KINDS.map((kind) => `tokens_${kind}`)]) period[name] += row[name];
  }
  return [...found.values()];
}

function start(day, grain) {
  const at = new Date(`${day}T00:00:00Z`);
  if (grain === "week") at.setUTCDate(at.getUTCDate() - ((at.getUTCDay() + 6) % 7));
  if (grain === "month") at.setUTCDate(1);
  return at;
}

function next(at, grain) {
  const later = new Date(at);
  if (grain === "month") later.setUTCMonth(later.getUTCMonth() + 1);
  else later.setUTCDate(later.getUTCDate() + (grain === "week" ? 7 : 1));
  return later;
}

function key(at) {
  return at.toISOString().slice(0, 10);
}

function labels(at, grain) {
  const month = MONTHS[at.getUTCMonth()];
  if (grain === "month") return { label: `${month} ${at.getUTCFullYear()}`, short: month };
  return { label: `${grain === "week" ? "week of " : ""}${key(at)}`, short: `${at.getUTCDate()} ${month}` };
}

function table(periods, grain) {
  if (!periods.length) return h("p", { class: "empty" }, "Nothing was spent for these filters.");
  const numbers = ["Turns", "Calls", ...KIND_NAMES, "Cost"];
  const rows = [...periods].reverse().filter((period) => period.calls).map((period) => h("tr", {},
    h("th", { scope: "row", class: "first" }, h("span", {}, period.label)),
    [count(period.turns), count(period.calls), ...KINDS.map((kind) => tokens(period[`tokens_${kind}`])), money(period.cost)]
      .map((text) => h("td", { class: "number" }, text))));
  return h("div", { class: "tablebox", tabindex: 0, role: "region", "aria-label": `Cost by ${grain}, as a table` },
    h("table", { class: "report" },
      h("caption", { class: "hidden" }, `Cost by ${grain}`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, grain[0].toUpperCase() + grain.slice(1)), numbers.map((name) => h("th", { scope: "col", class: "number" }, name)))),
      h("tbody", {}, rows)));
}

function choice(label, name, options, value, go) {
  return h("div", { class: "segments", role: "group", "aria-label": label },
    options.map(([each, text]) => h("button", { type: "button", "data-key": `${name}-${each}`, "aria-pressed": String(each === value), onclick: () => go({ [name]: each }) }, text)));
}
