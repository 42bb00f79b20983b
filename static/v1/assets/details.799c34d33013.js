// The field guide: every header field seen in this delivery, what it means, and the values it had. Loaded on request.

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
  panel.replaceChildren(element("h3", {}, "Field guide to this delivery"), list);
  panel.focus({ preventScroll: true });
}
