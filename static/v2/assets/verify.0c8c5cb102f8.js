// Takes the SHA-256 of every fingerprinted file and compares it with the file's own name. Loaded on request.

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function digest(url) {
  const content = await (await fetch(url)).arrayBuffer();
  const sum = await crypto.subtle.digest("SHA-256", content);
  return [...new Uint8Array(sum)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Fills `panel` with one line per fingerprinted file of `parcels()`, this module included. */
export async function proveNames(panel, parcels) {
  if (!globalThis.crypto?.subtle) throw new Error("browsers compute digests only on https pages and on localhost");
  // Let the list take note of this module first, so that it proves itself too.
  await new Promise((resolve) => setTimeout(resolve, 100));
  const named = parcels().filter(({ name }) => name.fingerprint);
  const sums = await Promise.all(named.map(({ url }) => digest(url)));
  const list = element("ul", { className: "proof" });
  let good = 0;
  named.forEach(({ name }, index) => {
    const sum = sums[index];
    const same = sum.startsWith(name.fingerprint);
    good += same;
    list.append(
      element(
        "li",
        {},
        element("b", {}, name.short),
        element("code", {}, element("mark", {}, sum.slice(0, 12)), sum.slice(12)),
        element("span", { className: same ? "status" : "status odd" }, same ? "matches" : "differs"),
      ),
    );
  });
  const verdict =
    good === named.length ? `All ${good} names are true.` : `${named.length - good} of ${named.length} names are not true.`;
  panel.replaceChildren(list, element("p", { className: "verdict" }, verdict));
}
