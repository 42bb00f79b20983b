// The field guide: when each parcel came, and every header field seen, what it means and the values it had. Loaded on request.

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const capital = (name) => name.replace(/(^|-)(\w)/g, (whole) => whole.toUpperCase()).replace("Etag", "ETag").replace("Cdn", "CDN");

/** Collects field → value → number of files that carried it. */
function collect(parcels) {
  const seen = new Map();
  for (const { answer } of parcels) {
    for (const [name, value] of answer?.headers ?? []) {
      if (!seen.has(name)) seen.set(name, new Map());
      const values = seen.get(name);
      values.set(value, (values.get(value) ?? 0) + 1);
    }
  }
  return seen;
}

function describeValues(values) {
  if (values.size > 4) return `${values.size} different values, such as ${values.keys().next().value}`;
  return [...values].map(([value, count]) => (count > 1 ? `${value} (${count} times)` : value)).join("; ");
}

/** Draws one lane per file, from the question to the last byte, on the scale of the first page load. */
function drawTimes(parcels) {
  const [{ loadEventStart }] = performance.getEntriesByType("navigation");
  const timed = parcels.filter(({ entry }) => entry?.responseEnd && entry.startTime <= loadEventStart);
  const end = Math.max(...timed.map(({ entry }) => entry.responseEnd));
  const list = element("ol");
  list.setAttribute("role", "list");
  for (const { entry, name } of timed.sort((a, b) => a.entry.startTime - b.entry.startTime)) {
    const bar = element("i");
    bar.style.marginInlineStart = `${((entry.startTime / end) * 100).toFixed(2)}%`;
    bar.style.width = `${(((entry.responseEnd - entry.startTime) / end) * 100).toFixed(2)}%`;
    const lane = element("span", { className: "lane" }, bar);
    const took = `${entry.startTime.toFixed(0)}–${entry.responseEnd.toFixed(0)} ms`;
    list.append(element("li", {}, element("span", {}, name.short), lane, element("span", { className: "ms" }, took)));
  }
  return element("div", { className: "times" }, list);
}

export function showGuide(panel, parcels, glossary) {
  const list = element("dl");
  for (const [name, values] of [...collect(parcels)].sort(([a], [b]) => a.localeCompare(b))) {
    const { source = "", text = "Not in the glossary of this release." } = glossary.fields[name] ?? {};
    list.append(
      element(
        "div",
        {},
        element("dt", {}, capital(name), element("small", {}, source)),
        element("dd", {}, text),
        element("dd", { className: "value" }, describeValues(values)),
      ),
    );
  }
  panel.replaceChildren(
    element("h3", {}, "When each parcel came"),
    drawTimes(parcels),
    element("h3", {}, "Field guide to this delivery"),
    list,
  );
  panel.focus({ preventScroll: true });
}
