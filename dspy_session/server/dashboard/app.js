// The page: which view, with which filters, and when it is drawn anew.

import { ask } from "./api.js";
import { costView } from "./cost.js";
import { h, remember } from "./dom.js";
import { clock, plural } from "./format.js";
import { overviewView } from "./overview.js";
import { reportsView, reportView } from "./reports.js";
import { sessionView } from "./session.js";
import { sessionsView } from "./sessions.js";

const FILTERS = ["days", "project", "model", "agent"];
const PERIODS = [["", "All time"], ["1", "24 hours"], ["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "A year"]];
const VIEWS = [["", "Overview"], ["sessions", "Sessions"], ["skills", "Skills"], ["tools", "Tools"], ["models", "Models"], ["cost", "Cost"], ["reports", "Reports"]];
const main = document.getElementById("main");
const live = document.getElementById("live");

// -- the address --

function place() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").map(safely), query: Object.fromEntries(new URLSearchParams(search)) };
}

function safely(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function address(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const search = new URLSearchParams(given).toString();
  return `#/${path}${search ? `?${search}` : ""}`;
}

function filtersOf(query) {
  return Object.fromEntries(FILTERS.filter((name) => query[name]).map((name) => [name, query[name]]));
}

// -- drawing --

let drawing = 0;
let drawn = false;
let arriving = true;

async function draw({ again = false } = {}) {
  const mine = ++drawing;
  const { path, query } = place();
  const raw = path.map(encodeURIComponent).join("/");
  const filters = filtersOf(query);
  const hash = (change) => address(raw, { ...query, ...change });
  const context = {
    filters, query, hash,
    go: (change) => { location.hash = hash(change); },
    link: (to, more = {}) => address(to, { ...filters, ...more }),
    search: later((text) => { history.replaceState(null, "", hash({ search: text, page: null })); draw({ again: true }); }),
  };
  if (!again) {
    // What is drawn anew before this view is there arrives in its place.
    arriving = true;
    navigation(path[0], filters);
    drawFilters();
    main.setAttribute("aria-busy", "true");
  }
  let view;
  try {
    view = await viewOf(path, context);
  } catch (error) {
    view = h("div", { class: "view" }, h("h1", {}, error.status === 404 ? "Not found" : "This did not work"), h("p", { class: "error", role: "alert" }, error.message));
  }
  if (mine !== drawing) return;
  const restore = arriving ? null : remember(main);
  main.replaceChildren(view);
  main.removeAttribute("aria-busy");
  const title = view.querySelector("h1")?.textContent || "";
  document.title = `${title.trim()} · OpenCode's history`;
  if (restore) restore();
  else arrive(view);
  arriving = false;
  drawn = true;
}

function arrive(view) {
  const target = view.target && document.getElementById(view.target);
  if (target) {
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  } else {
    window.scrollTo(0, 0);
    // The link that was followed is gone. At the first visit, reading begins at the top.
    if (drawn && document.activeElement === document.body) main.focus({ preventScroll: true });
  }
}

function viewOf([first, second], context) {
  if (!first) return overviewView(context);
  if (first === "sessions") return sessionsView(context);
  if (first === "session" && second) return sessionView({ ...context, id: second });
  if (first === "cost") return costView(context);
  if (first === "reports") return reportsView(context);
  if (first === "report" && second) return reportView({ ...context, name: second });
  if (["skills", "tools", "models"].includes(first)) return reportView({ ...context, name: first });
  throw Object.assign(new Error("There is no such view."), { status: 404 });
}

function later(call, wait = 250) {
  return (value) => {
    clearTimeout(later.timer);
    later.timer = setTimeout(() => call(value), wait);
  };
}

function navigation(current, filters) {
  const at = current === "session" ? "sessions" : current === "report" ? "reports" : current || "";
  document.getElementById("views").replaceChildren(...VIEWS.map(([path, name]) => h("li", {}, h("a", { href: address(path, filters), "aria-current": path === at ? "page" : null, "data-key": `view-${path}` }, name))));
}

// -- filters --

let known = { projects: [], models: [], agents: [] };

function drawFilters() {
  const { path, query } = place();
  const view = path[0];
  const go = (change) => { location.hash = address(path.map(encodeURIComponent).join("/"), { ...query, ...change }); };
  const form = document.getElementById("filters");
  form.hidden = view === "session" || view === "reports";
  const option = (value, text, chosen) => h("option", { value, selected: value === (chosen || "") }, text);
  const select = (name, label, options) => h("label", { class: "field" }, h("span", {}, label), h("select", { id: `filter-${name}`, onchange: (event) => go({ [name]: event.target.value, page: null }) }, options));
  const listed = (values, chosen) => (chosen && !values.includes(chosen) ? [chosen, ...values] : values);
  const names = known.projects.map((each) => each.name);
  const projects = known.projects.map((each) => [each.id, names.indexOf(each.name) === names.lastIndexOf(each.name) ? each.name || each.id : `${each.name} (${each.worktree})`]);
  if (query.project && !projects.some(([id]) => id === query.project)) projects.unshift([query.project, query.project]);
  const restore = remember(form);
  form.replaceChildren(
    select("days", "Period", PERIODS.map(([value, text]) => option(value, text, query.days))),
    select("project", "Project", [option("", "All projects", query.project), ...projects.map(([id, name]) => option(id, name, query.project))]),
    select("model", "Model", [option("", "All models", query.model), ...listed(known.models, query.model).map((each) => option(each, each, query.model))]),
    select("agent", "Agent", [option("", "All agents", query.agent), ...listed(known.agents, query.agent).map((each) => option(each, each, query.agent))]),
  );
  restore();
}

// -- live --

let revision = null;

async function look() {
  let wait = 2000;
  try {
    const status = await ask("/api/status");
    wait = Math.max(1000, status.interval * 1000);
    tell(status);
    // What a reader has marked, to copy it, must not vanish under the mouse.
    if (status.revision !== revision && getSelection().isCollapsed) {
      const choices = await ask("/api/filters");
      if (JSON.stringify(choices) !== JSON.stringify(known)) {
        known = choices;
        drawFilters();
      }
      const first = revision === null;
      revision = status.revision;
      if (!first) await draw({ again: true });
    }
    if (status.syncing) wait = 700;
  } catch (error) {
    show("off", error.status === 0 ? "server not reached" : "error", error.message);
  }
  setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", look, { once: true }) : look()), wait);
}

function tell(status) {
  if (status.error) show("off", "sync failed", status.error);
  else if (status.syncing && status.progress) show("busy", `reading ${status.progress.done} of ${plural(status.progress.total, "session")}`, "");
  else if (!status.live) show("", "not live", "this server does not follow OpenCode");
  else if (status.synced_at) show("on", "live", `in step with OpenCode as of ${clock(status.synced_at)}. ${status.report}`);
  else show("busy", "reading", "");
}

function show(kind, text, title) {
  if (live.dataset.kind === kind && live.textContent === text) {
    live.title = title;
    return;
  }
  live.dataset.kind = kind;
  live.title = title;
  live.replaceChildren(h("span", { class: "dot", "aria-hidden": "true" }), text);
}

// -- theme --

function theme() {
  const button = document.getElementById("theme");
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => {
    button.textContent = dark() ? "☀" : "☾";
    button.setAttribute("aria-label", dark() ? "Use the light theme" : "Use the dark theme");
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", () => draw());
theme();
draw();
look();
