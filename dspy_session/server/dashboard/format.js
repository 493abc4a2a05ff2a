// Values as people read them.

const whole = new Intl.NumberFormat("en-US");
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const dayTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const clockTime = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export const NONE = "–";

export function count(value) {
  return value === null || value === undefined ? NONE : whole.format(value);
}

export function tokens(value) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) < 10000 ? whole.format(Math.round(value)) : compact.format(value);
}

export function money(value) {
  if (value === null || value === undefined) return NONE;
  const digits = value === 0 || Math.abs(value) >= 1 ? 2 : Math.abs(value) >= 0.01 ? 3 : 5;
  return `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: digits })}`;
}

export function share(value) {
  return value === null || value === undefined ? NONE : `${(value * 100).toFixed(value === 1 || value === 0 ? 0 : 1)}%`;
}

export function duration(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60000);
  if (minutes < 60) return `${minutes} min ${Math.round((ms % 60000) / 1000)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  return value < 1024 ? `${value} B` : value < 1048576 ? `${(value / 1024).toFixed(1)} KiB` : `${(value / 1048576).toFixed(1)} MiB`;
}

export function when(iso) {
  return iso ? dayTime.format(new Date(iso)) : NONE;
}

export function clock(iso) {
  return iso ? clockTime.format(new Date(iso)) : NONE;
}

export function all(kinds) {
  return kinds.input + kinds.output + kinds.reasoning + kinds.cache_read + kinds.cache_write;
}

export function rowTokens(row) {
  const kinds = ["input", "output", "reasoning", "cache_read", "cache_write"];
  return kinds.reduce((sum, kind) => sum + (row[`tokens_${kind}`] || 0), 0);
}

export function plural(number, one, many = `${one}s`) {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}

/** A value of a report by its column's unit. */
export function cell(value, unit, name) {
  if (value === null || value === undefined || value === "") return NONE;
  if (Array.isArray(value)) return value.map((each) => cell(each, unit, name)).join(", ") || NONE;
  if (typeof value === "object") {
    return Object.entries(value).map(([key, each]) => `${key}: ${cell(each, unit, name)}`).join(", ") || NONE;
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value) ? when(value) : value;
  const known = { USD: money, ms: duration, s: (each) => duration(each * 1000), tokens, share, bytes }[unit];
  if (known) return known(value);
  return Number.isInteger(value) ? count(value) : value.toLocaleString("en-US", { maximumFractionDigits: 2 });
}

/** A column's name as a heading. */
export function heading(name) {
  const words = name.replace(/^tokens_/, "").replace(/_ms$/, "").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
