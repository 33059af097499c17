// Elements of the page. Texts and labels are data: they become text nodes, never markup.

export const byId = (id) => document.getElementById(id);

// A new element; `properties` are those of the DOM, `children` are elements or strings.
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A label; a long one may go on in the next line after its underscores, slashes and dots.
export function labelName(name) {
  const parts = name.split(/(?<=[_/.])/);
  return element("span", { className: "label" }, ...parts.flatMap((part, i) => (i ? [element("wbr"), part] : [part])));
}

// A probability for people.
export function percent(p) {
  if (p > 0 && p < 0.0005) return "< 0.1 %";
  if (p < 1 && p >= 0.9995) return "> 99.9 %";
  return `${(100 * p).toFixed(1)} %`;
}

export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
