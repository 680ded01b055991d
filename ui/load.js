// The view of live load: /metrics read every second while it is shown, as figures, short courses, and quantiles of the
// time to first token. Quantiles come from a histogram's buckets, so they are as fine as those.

import { metrics } from "/ui/api.js";

const PERIOD_MS = 1000;
const KEPT = 120;

/// {name: [{labels, value}]} of Prometheus' text format.
export function parseMetrics(text) {
  const series = {};
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, key, value] of (match[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value;
    (series[match[1]] ||= []).push({ labels, value: match[3] === "+Inf" ? Infinity : Number(match[3]) });
  }
  return series;
}

const sum = (series, name) => (series[name] || []).reduce((total, row) => total + row.value, 0);
const largest = (series, name) => Math.max(0, ...(series[name] || []).map((row) => row.value));

/// The quantile of a histogram in seconds, interpolated within its bucket; null without observations.
export function quantile(series, name, part) {
  const bounds = new Map();
  for (const { labels, value } of series[`${name}_bucket`] || []) {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    bounds.set(bound, (bounds.get(bound) || 0) + value);
  }
  const rows = [...bounds].sort((a, b) => a[0] - b[0]);
  const total = rows.length ? rows[rows.length - 1][1] : 0;
  if (!total) return null;
  let [before, below] = [0, 0];
  for (const [bound, count] of rows) {
    if (count >= part * total) {
      if (bound === Infinity) return before;
      return before + (bound - before) * ((part * total - below) / Math.max(1, count - below));
    }
    [before, below] = [bound, count];
  }
  return before;
}

const seconds = (value) => (value === null ? "–" : value < 1 ? `${(value * 1000).toFixed(0)} ms` : `${value.toFixed(2)} s`);
const bytes = (value) => (value < 1 << 30 ? `${(value / (1 << 20)).toFixed(0)} MiB` : `${(value / (1 << 30)).toFixed(2)} GiB`);

const CARDS = [
  { key: "running", name: "Running", show: (v) => v.toFixed(0), read: (s) => sum(s, "bittern:num_requests_running") },
  { key: "waiting", name: "Waiting", show: (v) => v.toFixed(0), read: (s) => sum(s, "bittern:num_requests_waiting") },
  { key: "kv", name: "KV cache in use", top: 1, show: (v) => `${(v * 100).toFixed(1)} %`, read: (s) => largest(s, "bittern:kv_cache_usage_perc") },
  { key: "out", name: "Output tokens per second", rate: true, show: (v) => v.toFixed(0), read: (s) => sum(s, "bittern:generation_tokens_total") },
  { key: "in", name: "Prompt tokens per second", rate: true, show: (v) => v.toFixed(0), read: (s) => sum(s, "bittern:prompt_tokens_total") },
  { key: "memory", name: "Resident memory", show: bytes, read: (s) => sum(s, "bittern:resident_memory_bytes") },
];
const HISTOGRAMS = [
  ["Time to first token", "bittern:time_to_first_token_seconds"],
  ["Gap between tokens", "bittern:inter_token_latency_seconds"],
  ["Whole request", "bittern:e2e_request_latency_seconds"],
];

const SVG = "http://www.w3.org/2000/svg";
const path = (d, kind = "") => {
  const node = document.createElementNS(SVG, "path");
  node.setAttribute("d", d);
  node.setAttribute("class", kind);
  return node;
};

function course(values, top) {
  const high = top || Math.max(1e-9, ...values);
  const points = values.map((value, i) => `${((i + KEPT - values.length) / (KEPT - 1)) * 200},${52 - (value / high) * 48}`);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 200 54");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  if (points.length > 1) {
    const from = points[0].split(",")[0];
    svg.append(path(`M${from},54L${points.join("L")}L200,54Z`, "area"), path(`M${points.join("L")}`));
  }
  return svg;
}

const div = (kind, ...children) => {
  const node = document.createElement("div");
  node.className = kind;
  node.append(...children);
  return node;
};

export class LoadView {
  constructor(root, key) {
    this.root = root;
    this.key = key;
    this.values = Object.fromEntries(CARDS.map((card) => [card.key, []]));
    this.before = null;
  }
  start() {
    this.stop();
    this.tick();
    this.timer = setInterval(() => this.tick(), PERIOD_MS);
  }
  stop() {
    clearInterval(this.timer);
    this.before = null;
  }
  async tick() {
    try {
      this.take(parseMetrics(await metrics(this.key())), performance.now() / 1000);
    } catch (error) {
      this.root.replaceChildren(div("error", error.message));
    }
  }
  take(series, now) {
    const before = this.before;
    this.before = { series, now };
    for (const card of CARDS) {
      let value = card.read(series);
      if (card.rate) value = before ? Math.max(0, value - card.read(before.series)) / (now - before.now) : 0;
      this.values[card.key].push(value);
      if (this.values[card.key].length > KEPT) this.values[card.key].shift();
    }
    this.draw(series);
  }
  draw(series) {
    const cards = div("cards", ...CARDS.map((card) => {
      const values = this.values[card.key];
      const box = div("card", div("name", card.name), div("value", card.show(values[values.length - 1])), course(values, card.top));
      box.dataset.card = card.key;
      return box;
    }));
    const title = document.createElement("h2");
    title.textContent = "Latencies since the server started";
    const table = document.createElement("table");
    const add = (parts, kind) => {
      const row = table.insertRow();
      for (const part of parts) {
        const cell = document.createElement(kind);
        cell.textContent = part;
        row.append(cell);
      }
    };
    add(["", "median", "90 %", "99 %"], "th");
    for (const [name, metric] of HISTOGRAMS) add([name, ...[0.5, 0.9, 0.99].map((part) => seconds(quantile(series, metric, part)))], "td");
    this.root.replaceChildren(cards, title, table);
  }
}
