// Reports as tables that can be sorted, with bars behind the numbers that matter.

import { h } from "./dom.js";
import { cell, heading } from "./format.js";

const sorted = new Map();

/**
 * A report: `wanted` names the columns to show (all by default), `bar` the column with bars,
 * `link` gives the address for a row.
 */
export function reportTable(report, { wanted, bar, link, caption } = {}) {
  const columns = report.columns.filter((column) => !wanted || wanted.includes(column.name));
  if (wanted) columns.sort((a, b) => wanted.indexOf(a.name) - wanted.indexOf(b.name));
  if (!report.rows.length) return h("p", { class: "empty" }, "Nothing here for these filters.");
  const numeric = new Set(columns.filter((column) => report.rows.some((row) => typeof row[column.name] === "number")).map((column) => column.name));
  const most = bar ? Math.max(...report.rows.map((row) => row[bar] || 0), 0) : 0;
  const body = h("tbody");
  const head = h("tr");
  const fill = () => {
    const order = sorted.get(report.name);
    const rows = order ? [...report.rows].sort(by(order)) : report.rows;
    body.replaceChildren(...rows.map((row) => drawn(row, columns, { numeric, bar, most, link })));
    for (const [place, each] of [...head.children].entries()) {
      const mine = order && order.name === columns[place].name;
      each.setAttribute("aria-sort", mine ? (order.down ? "descending" : "ascending") : "none");
    }
  };
  head.append(...columns.map((column) => h("th", { scope: "col", class: numeric.has(column.name) && "number", title: column.doc },
    h("button", { type: "button", "data-key": `sort-${report.name}-${column.name}`, onclick: () => {
      const order = sorted.get(report.name);
      const down = order && order.name === column.name ? !order.down : numeric.has(column.name);
      sorted.set(report.name, { name: column.name, down });
      fill();
    } }, heading(column.name)))));
  fill();
  const title = caption || report.title;
  return h("div", { class: "tablebox", tabindex: 0, role: "region", "aria-label": title },
    h("table", { class: "report" }, h("caption", { class: "hidden" }, title), h("thead", {}, head), body));
}

function by({ name, down }) {
  return (one, other) => {
    const [a, b] = [one[name], other[name]];
    if (a === b) return 0;
    if (a === null || a === undefined) return 1;
    if (b === null || b === undefined) return -1;
    return (a < b ? -1 : 1) * (down ? -1 : 1);
  };
}

function drawn(row, columns, { numeric, bar, most, link }) {
  return h("tr", {}, columns.map((column, place) => {
    const text = cell(row[column.name], column.unit, column.name);
    const classes = [numeric.has(column.name) && "number", column.name === bar && "withbar", place === 0 && "first"].filter(Boolean).join(" ");
    const share = column.name === bar && most ? `${((row[bar] || 0) / most) * 100}%` : null;
    const target = place === 0 && link ? link(row) : sessionLink(column.name, row[column.name]);
    const inner = target ? h("a", { href: target }, text) : h("span", {}, text);
    return h(place === 0 ? "th" : "td", { class: classes || null, scope: place === 0 ? "row" : null, "--share": share }, inner);
  }));
}

function sessionLink(name, value) {
  const named = ["session_id", "session", "parent_id", "child_session_id"].includes(name);
  return named && typeof value === "string" && value ? `#/session/${encodeURIComponent(value)}` : null;
}

/** How many pieces were left out, if any were. */
export function skipped(number) {
  return number ? h("p", { class: "note" }, `${number} damaged ${number === 1 ? "piece" : "pieces"} of these sessions could not be read and ${number === 1 ? "is" : "are"} not counted.`) : null;
}
