// Skills, models, tools, and every other report.

import { ask } from "./api.js";
import { h } from "./dom.js";
import { heading } from "./format.js";
import { pager } from "./sessions.js";
import { reportTable, skipped } from "./tables.js";

const PAGE = 200;
const BARS = { skills: "loads", tools: "calls", models: "cost", errors: "count" };

export async function reportView({ filters, query, go, name, link }) {
  const page = Math.max(1, Number.parseInt(query.page, 10) || 1);
  const report = await ask(`/api/reports/${encodeURIComponent(name)}`, { ...filters, limit: PAGE, offset: (page - 1) * PAGE });
  const first = report.columns[0].name;
  const toSession = first === "id" && name === "sessions" ? (row) => `#/session/${encodeURIComponent(row.id)}` : null;
  return h("div", { class: "view" },
    h("h1", {}, report.title, " ", h("span", { class: "total" }, report.meta.count)),
    skipped(report.meta.skipped),
    reportTable(report, { bar: BARS[name], link: toSession }),
    pager(page, Math.ceil(report.meta.count / PAGE), go),
    report.rows.length ? meanings(report.columns) : null,
    h("p", {}, h("a", { href: link("reports") }, "All reports")));
}

function meanings(columns) {
  return h("details", { class: "meanings", "data-key": "meanings" }, h("summary", {}, "What the columns mean"),
    h("dl", {}, columns.map((column) => [h("dt", {}, heading(column.name)), h("dd", {}, column.doc)])));
}

export async function reportsView({ link }) {
  const { reports } = await ask("/api/reports");
  return h("div", { class: "view" }, h("h1", {}, "Reports"),
    h("ul", { class: "brief index" }, reports.map((report) => h("li", {}, h("a", { href: link(`report/${report.name}`) }, heading(report.name)), h("span", { class: "facts" }, report.description)))));
}
