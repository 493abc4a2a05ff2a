// Asks the server; an error is what the server said of it.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const search = new URLSearchParams(given).toString();
  let response;
  try {
    response = await fetch(search ? `${path}?${search}` : path, { headers: { Accept: "application/json" } });
  } catch {
    throw new Refused("The server cannot be reached.", 0);
  }
  if (response.status === 401) location.assign("/login");
  const document = await response.json();
  if (!document.success) throw new Refused(document.error, response.status);
  return document.data;
}
