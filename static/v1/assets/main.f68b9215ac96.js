// Writes the delivery note. Resource Timing knows what arrived and what it weighed; a HEAD request per file adds what the
// server says about it. Nothing here knows the names of the files beforehand.

const page = (id) => document.getElementById(id);
const body = document.querySelector(".parcels tbody");
const parcels = new Map(); // URL → { url, name, entry, row, answer }
const here = new URL(".", location.href).pathname;

const bytes = (n) => `${n.toLocaleString("en")} ${n === 1 ? "byte" : "bytes"}`;
const weight = (n) => (n < 1000 ? `${n} B` : `${(n / 1000).toFixed(n < 99_950 ? 1 : 0)} kB`);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Splits `assets/NAME.HASH.ext` into its parts; the fingerprint is empty for a plain name. */
function readName(url) {
  const { pathname } = new URL(url);
  const path = pathname.startsWith(here) ? pathname.slice(here.length) : pathname;
  const last = path.split("/").pop() || "index.html";
  const [, stem, fingerprint = "", extension = ""] = /^(.+?)(?:\.([0-9a-f]{12}))?(?:\.(\w+))?$/.exec(last);
  return { path: path || last, short: extension ? `${stem}.${extension}` : stem, fingerprint };
}

/** Draws twelve hexadecimal digits as 48 bars: a set bit is a bar, a clear bit is a space. */
function drawBars(fingerprint) {
  const bits = [...fingerprint].map((digit) => parseInt(digit, 16).toString(2).padStart(4, "0")).join("");
  const path = [...bits].map((bit, x) => (bit === "1" ? `M${x + 1} 0h1v13h-1z` : "")).join("");
  const holder = element("span");
  holder.innerHTML = `<svg class="bars" viewBox="0 0 50 13" preserveAspectRatio="none" aria-hidden="true">
    <path fill="currentcolor" d="M0 0h.5v13H0zM49.5 0h.5v13h-.5z${path}"/></svg>`;
  return holder.firstChild;
}

function fillCell(cell, value) {
  if (value) cell.replaceChildren(...value.split(/(?<=,)/).flatMap((part) => [part, element("wbr")]));
  else cell.replaceChildren(element("span", { className: "none" }, "none"));
}

function addRow(parcel) {
  const { name, url } = parcel;
  const row = element("tr");
  const label = element("th", { scope: "row" }, element("a", { href: url }, name.short));
  const small = element("small");
  if (name.fingerprint) small.append(drawBars(name.fingerprint), name.fingerprint);
  else small.append(name.path === name.short ? "plain name" : name.path);
  label.append(small);
  row.append(label);
  for (const column of document.querySelectorAll(".parcels thead th + th")) {
    const cell = element("td", {}, "…");
    cell.dataset.label = column.textContent;
    row.append(cell);
  }
  // A table drawn as slips on a narrow screen would otherwise lose its roles.
  body.parentNode.setAttribute("role", "table");
  body.setAttribute("role", "rowgroup");
  row.setAttribute("role", "row");
  label.setAttribute("role", "rowheader");
  for (const cell of row.querySelectorAll("td")) cell.setAttribute("role", "cell");
  row.lastChild.className = "weight";
  body.append(row);
  return row;
}

function showAnswer(parcel) {
  const { answer, entry, row } = parcel;
  const [status, coding, etag, cacheControl, vary, scales] = row.querySelectorAll("td");
  const mark = element("span", { className: answer.status === 200 ? "status" : "status odd" }, `${answer.status}`);
  status.replaceChildren(mark);
  fillCell(coding, answer.headers.get("content-encoding"));
  coding.classList.toggle("coding", answer.headers.has("content-encoding"));
  const tag = answer.headers.get("etag");
  fillCell(etag, tag && tag.length > 24 ? `${tag.slice(0, 13)}…${tag.slice(-7)}` : tag);
  if (tag) etag.title = tag;
  fillCell(cacheControl, answer.headers.get("cache-control"));
  fillCell(vary, answer.headers.get("vary"));

  const stated = Number(answer.headers.get("content-length"));
  parcel.wire = entry?.encodedBodySize || stated;
  parcel.decoded = entry?.decodedBodySize || parcel.wire;
  const share = parcel.decoded ? parcel.wire / parcel.decoded : 1;
  const bar = element("i");
  bar.style.width = `${Math.min(100, share * 100).toFixed(1)}%`;
  scales.replaceChildren(`${weight(parcel.wire)} / ${weight(parcel.decoded)}`);
  if (share < 1) scales.append(`, ${Math.round(share * 100)}%`);
  scales.append(element("span", { className: "scale" }, bar));
  scales.title = `${bytes(parcel.wire)} on the wire, ${bytes(parcel.decoded)} decoded`;
}

function addUp() {
  const known = [...parcels.values()].filter((parcel) => parcel.answer);
  const sum = (key) => known.reduce((total, parcel) => total + parcel[key], 0);
  page("count").textContent = parcels.size;
  page("wire").textContent = weight(sum("wire"));
  page("unpacked").textContent = weight(sum("decoded"));
}

function offerQuestion(parcel) {
  const select = page("about");
  select.append(element("option", { value: parcel.url }, parcel.name.short));
  const sheet = [...select.options].find((option) => option.text.endsWith(".css"));
  if (sheet && !select.dataset.chosen) sheet.selected = true;
}

async function receive(url, entry) {
  if (parcels.has(url) || !url.startsWith(location.origin)) return;
  const parcel = { url, entry, name: readName(url) };
  parcels.set(url, parcel);
  parcel.row = addRow(parcel);
  if (document.readyState === "complete" && performance.now() > 4000) parcel.row.classList.add("late");
  parcel.answer = await fetch(url, { method: "HEAD", cache: "no-store" });
  showAnswer(parcel);
  offerQuestion(parcel);
  addUp();
}

/** Names the browser for the field "To", without trying hard. */
function nameBrowser() {
  const brands = navigator.userAgentData?.brands ?? [];
  const brand = brands.find(({ brand }) => !/not|chromium/i.test(brand)) ?? brands.find(({ brand }) => brand === "Chromium");
  if (brand) return `${brand.brand} ${brand.version}`;
  const [, name, version] = /(Firefox|Version)\/(\d+)/.exec(navigator.userAgent) ?? [];
  return name ? `${name === "Version" ? "Safari" : name} ${version}` : "Your browser";
}

// Questions

function tell(answer, status, words, explanation, lines, dump) {
  const transcript = element("pre", { tabIndex: 0 });
  transcript.setAttribute("role", "region");
  transcript.setAttribute("aria-live", "off"); // the verdict is read out, a hundred bytes are not
  transcript.setAttribute("aria-label", "What was asked and answered");
  for (const [kind, line] of lines) transcript.append(element(kind, {}, line), "\n");
  if (dump) transcript.append("\n", dump);
  const verdict = element("p", { className: "verdict" }, element("b", {}, `${status}`), words);
  answer.replaceChildren(verdict, element("p", {}, explanation), transcript);
  answer.classList.add("told");
}

const answered = (response, names) =>
  names.filter((name) => response.headers.has(name)).map((name) => ["span", `< ${name}: ${response.headers.get(name)}`]);

async function askAgain() {
  const parcel = parcels.get(page("about").value);
  const tag = parcel.answer.headers.get("etag");
  const box = page("again-answer");
  if (!tag) {
    box.replaceChildren(element("p", {}, "The server sent no entity tag for this file, so there is nothing to ask with."));
    return;
  }
  const start = performance.now();
  const response = await fetch(parcel.url, { cache: "no-store", headers: { "If-None-Match": tag } });
  const { byteLength } = await response.arrayBuffer();
  const took = `${Math.max(1, Math.round(performance.now() - start))} ms`;
  const same = response.status === 304;
  tell(
    box,
    response.status,
    same ? "Not Modified" : "Sent again",
    same
      ? `${bytes(byteLength)} of body instead of ${bytes(parcel.wire)}, in ${took}.`
      : `The tag did not spare the journey: ${bytes(byteLength)} came back, in ${took}.`,
    [
      ["b", `> GET ${new URL(parcel.url).pathname}`],
      ["span", `> if-none-match: ${tag}`],
      ["b", `< ${response.status}`],
      ...answered(response, ["etag", "cache-control", "vary", "date"]),
    ],
  );
}

function dumpBytes(data, perLine) {
  const lines = [];
  for (let at = 0; at < data.length; at += perLine) {
    const part = [...data.subarray(at, at + perLine)];
    const hexadecimal = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(perLine * 3 - 1);
    const text = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${String(at).padStart(3)}  ${hexadecimal}  ${text}`);
  }
  return lines.join("\n");
}

async function askForPiece() {
  const parcel = parcels.get(page("about").value);
  const box = page("piece-answer");
  const response = await fetch(parcel.url, { cache: "no-store", headers: { Range: "bytes=0-99" } });
  const data = new Uint8Array(await response.arrayBuffer());
  const partial = response.status === 206;
  tell(
    box,
    response.status,
    partial ? "Partial Content" : "The whole file",
    partial
      ? `${bytes(data.length)} came, and the answer says which: ${response.headers.get("content-range")}.`
      : `This server sent all ${bytes(data.length)}. A client may be told so, and has to cope.`,
    [
      ["b", `> GET ${new URL(parcel.url).pathname}`],
      ["span", "> range: bytes=0-99"],
      ["b", `< ${response.status}`],
      ...answered(response, ["content-range", "content-length", "content-type", "etag"]),
    ],
    element("i", {}, dumpBytes(data.subarray(0, 100), box.clientWidth > 600 ? 16 : 8)),
  );
}

/** Disables the button while its question is under way; a network failure is told in place of an answer. */
function onPress(id, box, act) {
  const button = page(id);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await act(button);
    } catch (error) {
      box.replaceChildren(element("p", {}, `No answer: ${error.message}.`));
    } finally {
      button.disabled = false;
    }
  });
}

onPress("again", page("again-answer"), askAgain);
onPress("piece", page("piece-answer"), askForPiece);
page("about").addEventListener("change", ({ target }) => (target.dataset.chosen = "yes"));

onPress("explain", page("guide"), async (button) => {
  const guide = page("guide");
  if (button.getAttribute("aria-expanded") === "true") {
    guide.hidden = true;
    button.setAttribute("aria-expanded", "false");
    button.textContent = "Explain the header fields";
    return;
  }
  guide.hidden = false;
  const [{ showGuide }, glossary] = await Promise.all([
    import("./details.799c34d33013.js"),
    fetch(new URL("../data/sample.json", import.meta.url)).then((response) => response.json()),
  ]);
  showGuide(guide, [...parcels.values()], glossary);
  button.setAttribute("aria-expanded", "true");
  button.textContent = "Put the explanation away";
});

// The delivery itself

page("from").textContent = location.host;
page("to").textContent = nameBrowser();
page("received").textContent = new Date(performance.timeOrigin).toLocaleTimeString("en-GB");

const [navigation] = performance.getEntriesByType("navigation");
receive(location.href.split("#")[0], navigation).then(() => {
  page("stamp").textContent = navigation?.responseStatus || 200;
});

new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    receive(entry.name, entry).catch(() => parcels.delete(entry.name));
  }
}).observe({ type: "resource", buffered: true });

// The icon is fetched by the browser for itself, which keeps no record that a page may read.
addEventListener("load", () => {
  const icon = document.querySelector('link[rel="icon"]').href;
  receive(icon, undefined).catch(() => parcels.delete(icon));
});
