// What was published and uploaded, for who has a token. All text goes in as text: names are what strangers chose.

const KEY = "assetserver.token";
const SHORT = 12;
const find = (selector, inside = document) => inside.querySelector(selector);

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

// The link brings the token in its fragment; it is taken out of the address, so that neither history nor screenshots keep it.
function takeToken() {
  const brought = new URLSearchParams(location.hash.slice(1)).get("token");
  if (brought) {
    sessionStorage.setItem(KEY, brought);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

async function ask(path, token) {
  const headers = { Authorization: `Bearer ${token}`, Accept: "application/json" };
  const response = await fetch(path, { headers, cache: "no-store", credentials: "omit" });
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, told.detail ?? response.statusText);
  return told;
}

function cell(content, className) {
  const element = document.createElement("td");
  element.append(content ?? "");
  if (className) element.className = className;
  return element;
}

function link(href, text) {
  const url = new URL(href, location.href);
  if (!/^https?:$/.test(url.protocol)) return text;
  const element = document.createElement("a");
  Object.assign(element, { href: url.href, textContent: text, rel: "noreferrer", target: "_blank" });
  return element;
}

function inUnits(count) {
  if (count === null || count === undefined) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = count, unit = 0;
  while (size >= 1000 && unit < units.length - 1) { size /= 1000; unit += 1; }
  return `${unit ? size.toFixed(1) : size}\u00a0${units[unit]}`;
}

const when = (moment) => new Date(moment).toLocaleString();

function rowOfRelease(release) {
  const row = document.createElement("tr");
  const states = [...(release.active ? ["live"] : []), ...(release.aliases ?? []).map((alias) => `@${alias}`)];
  const id = release.id.slice(0, SHORT);
  row.append(
    cell(link(`/-/releases/${id}/`, id), "id"), cell(when(release.published * 1000)), cell(release.message), cell(states.join(" ")),
  );
  return row;
}

function note(text) {
  const element = document.createElement("small");
  element.textContent = text;
  return element;
}

// What is not complete says so. Of a signed collection there is no link: only `assetserver sign` can make one.
function nameOf(upload, signed) {
  const name = document.createDocumentFragment();
  if (upload.state !== "complete") name.append(upload.name, " ", note(upload.state));
  else if (signed.has(upload.collection)) name.append(upload.name, " ", note("signed"));
  else name.append(link(upload.url, upload.name));
  return name;
}

function rowOfUpload(upload, signed) {
  const row = document.createElement("tr");
  const size = upload.state === "complete" ? inUnits(upload.size) : `${inUnits(upload.offset)} of ${inUnits(upload.size) || "?"}`;
  row.append(
    cell(nameOf(upload, signed), "name"), cell(upload.media_type.split(";")[0], "type"), cell(size, "number"),
    cell(upload.collection), cell(upload.owner, "id"), cell(when(upload.created)),
  );
  return row;
}

function show(section, rows, makeRow, { more = false } = {}) {
  const body = find("tbody", section);
  if (!more) body.replaceChildren();
  body.append(...rows.map(makeRow));
  find("table", section).hidden = !body.childElementCount;
  find(".empty", section).hidden = body.childElementCount > 0;
  section.hidden = false;
}

async function showReleases(token) {
  show(find("#releases"), (await ask("/-/api/releases", token)).releases, rowOfRelease);
}

async function showUploads(token, cursor = "") {
  const section = find("#uploads");
  const known = (await ask("/-/api/collections", token)).collections;
  const signed = new Set(known.filter((one) => one.access === "signed").map((one) => one.name));
  const page = await ask(`/uploads?limit=50&cursor=${encodeURIComponent(cursor)}`, token);
  show(section, page.uploads, (one) => rowOfUpload(one, signed), { more: cursor !== "" });
  const button = find(".more", section);
  button.hidden = !page.next;
  button.onclick = () => open(showUploads(token, page.next));
}

// A token sees what its scopes let it see; what they do not is left out, and said.
async function open(...parts) {
  const outcomes = await Promise.allSettled(parts);
  const errors = outcomes.filter((one) => one.status === "rejected").map((one) => one.reason);
  find("#told").textContent = [...new Set(errors.map((error) => error.message))].join(" · ");
  if (errors.some((error) => error.status === 401)) leave();
}

function leave() {
  sessionStorage.removeItem(KEY);
  for (const section of document.querySelectorAll("section")) section.hidden = true;
  find("#leave").hidden = true;
  find("#enter").hidden = false;
}

function enter(token) {
  find("#enter").hidden = true;
  find("#leave").hidden = false;
  return open(showReleases(token), showUploads(token));
}

find("#leave").onclick = () => { find("#told").textContent = ""; leave(); };
find("#enter").onsubmit = (event) => {
  event.preventDefault();
  const field = find("#token");
  sessionStorage.setItem(KEY, field.value.trim());
  field.value = "";
  enter(sessionStorage.getItem(KEY));
};

function start() {
  const token = takeToken();
  if (token) enter(token);
  else leave();
}

window.addEventListener("hashchange", start);
start();
