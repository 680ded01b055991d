// Markdown as models write it, straight into DOM nodes: headings, lists, quotes, tables, code, emphasis and links.
// Text becomes text nodes alone, never HTML, so whatever a model writes is shown and not run. A reply that is still
// growing is drawn as far as it goes: an open code fence counts as code.

const element = (name, ...children) => {
  const node = document.createElement(name);
  node.append(...children);
  return node;
};

// Only these may be followed; everything else stays text.
const safeLink = (url) => /^(https?:\/\/|mailto:)/i.test(url);

const INLINE = [
  [/^(`+)([\s\S]*?[^`])\1(?!`)/, (m) => element("code", m[2].replace(/^ (.*) $/, "$1"))],
  [/^\\([\\`*_{}[\]()#+\-.!|<>~])/, (m) => document.createTextNode(m[1])],
  [/^\*\*(?=\S)([\s\S]*?\S)\*\*/, (m) => element("strong", ...inline(m[1]))],
  [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, (m) => element("strong", ...inline(m[1]))],
  [/^~~(?=\S)([\s\S]*?\S)~~/, (m) => element("del", ...inline(m[1]))],
  [/^\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)/, (m) => element("em", ...inline(m[1]))],
  [/^_(?=[^\s_])([\s\S]*?[^\s_])_(?!\w)/, (m) => element("em", ...inline(m[1]))],
  [/^!?\[([^\]\n]+)\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/, (m) => link(m[1], m[2])],
  [/^<?(https?:\/\/[^\s<>"')\]]*[^\s<>"')\].,;:!?])>?/, (m) => link(m[1], m[1])],
];

function link(text, url) {
  if (!safeLink(url)) return document.createTextNode(text);
  const a = element("a", ...(text === url ? [text] : inline(text)));
  a.href = url;
  a.target = "_blank";
  a.rel = "noopener noreferrer nofollow";
  return a;
}

export function inline(text) {
  const nodes = [];
  let plain = "";
  for (let at = 0; at < text.length; ) {
    // A mark inside a word (snake_case, 2*3) begins nothing.
    const inWord = text[at] === "_" && /\w/.test(text[at - 1] || "");
    const rest = /[`\\*_~[!<h]/.test(text[at]) && !inWord ? text.slice(at) : "";
    let found = null;
    for (const [pattern, make] of rest ? INLINE : []) {
      const match = pattern.exec(rest);
      if (match) { found = [match, make]; break; }
    }
    if (!found) { plain += text[at++]; continue; }
    if (plain) nodes.push(document.createTextNode(plain));
    plain = "";
    nodes.push(found[1](found[0]));
    at += found[0][0].length;
  }
  if (plain) nodes.push(document.createTextNode(plain));
  return nodes;
}

function codeBlock(language, text) {
  const copy = element("button", "Copy");
  copy.type = "button";
  copy.className = "quiet copy";
  const bar = element("div", element("span", language || "text"), copy);
  bar.className = "bar";
  const box = element("div", bar, element("pre", element("code", text)));
  box.className = "block";
  return box;
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim());
const isRule = (line) => /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(line) && line.includes("-");

function table(head, rows) {
  const row = (line, kind) => element("tr", ...cells(line).map((cell) => element(kind, ...inline(cell))));
  const box = element("div", element("table", element("thead", row(head, "th")), element("tbody", ...rows.map((r) => row(r, "td")))));
  box.className = "scroll";
  return box;
}

const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;

// Items with their deeper lines; what is deeper is parsed as a document of its own.
function list(lines, start, depth) {
  const first = ITEM.exec(lines[start]);
  const ordered = /\d/.test(first[2]);
  const node = element(ordered ? "ol" : "ul");
  if (ordered) node.start = parseInt(first[2], 10);
  let at = start;
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length !== first[1].length || /\d/.test(item[2]) !== ordered) break;
    const inner = [item[3]];
    for (at++; at < lines.length; at++) {
      const indent = /^\s*/.exec(lines[at])[0].length;
      if (lines[at].trim() === "") {
        const next = lines[at + 1];
        if (next === undefined || next.trim() === "" || /^\s*/.exec(next)[0].length <= first[1].length) break;
        inner.push("");
      } else if (indent > first[1].length) {
        inner.push(lines[at].slice(Math.min(indent, first[1].length + 2)));
      } else {
        break;
      }
    }
    node.append(element("li", ...blocks(inner, true, depth + 1)));
    while (at < lines.length && lines[at].trim() === "" && ITEM.test(lines[at + 1] || "")) at++;
  }
  return [node, at];
}

const startsBlock = (line) => /^\s*(```|~~~|#{1,6}\s|>|([-*_])(\s*\2){2,}\s*$)/.test(line) || ITEM.test(line);

function blocks(lines, tight, depth) {
  const out = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const fence = /^\s*(`{3,}|~{3,})\s*([\w+#.-]*)/.exec(line);
    const heading = /^\s{0,3}(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (line.trim() === "") {
      at++;
    } else if (fence) {
      const body = [];
      for (at++; at < lines.length && !lines[at].trim().startsWith(fence[1]); at++) body.push(lines[at]);
      at++;
      out.push(codeBlock(fence[2], body.join("\n")));
    } else if (heading) {
      out.push(element(`h${Math.min(4, heading[1].length)}`, ...inline(heading[2])));
      at++;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      out.push(element("hr"));
      at++;
    } else if (/^\s*>/.test(line) && depth < 8) {
      const inner = [];
      for (; at < lines.length && /^\s*>/.test(lines[at]); at++) inner.push(lines[at].replace(/^\s*> ?/, ""));
      out.push(element("blockquote", ...blocks(inner, false, depth + 1)));
    } else if (ITEM.test(line) && depth < 8) {
      const [node, next] = list(lines, at, depth);
      out.push(node);
      at = next;
    } else if (line.includes("|") && lines[at + 1] !== undefined && isRule(lines[at + 1])) {
      const rows = [];
      let next = at + 2;
      for (; next < lines.length && lines[next].includes("|"); next++) rows.push(lines[next]);
      out.push(table(line, rows));
      at = next;
    } else {
      const text = [line];
      for (at++; at < lines.length && lines[at].trim() !== "" && !startsBlock(lines[at]); at++) text.push(lines[at]);
      const nodes = text.flatMap((part, i) => (i ? [element("br"), ...inline(part.trim())] : inline(part.trim())));
      if (tight) out.push(...nodes);
      else out.push(element("p", ...nodes));
    }
  }
  return out;
}

/// Nodes for a whole reply.
export const markdown = (text) => blocks(text.replace(/\r\n?/g, "\n").split("\n"), false, 0);
