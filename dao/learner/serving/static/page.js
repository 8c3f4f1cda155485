"use strict";

// Every text is put into the page by textContent, so none of it is read as HTML.

const $ = (id) => document.getElementById(id);
const FEW = 6; // probabilities that are shown before the rest is folded away
const BADGES = { unsure: "unsure", unlike: "unlike the training texts" };
const CHIPS = {
  unsure: "The set of a task has several classes: any of them may be the truth.",
  unlike: "The text has more words that no training text has than 99 % of the validation texts, so take its answers with care.",
};
const OFF = new Set(["", "no", "false", "0", "none"]);

let model = null;

function make(tag, words = "", kind = "") {
  const made = document.createElement(tag);
  if (words !== "") made.textContent = words;
  if (kind) made.className = kind;
  return made;
}

function put(parent, ...children) {
  parent.append(...children.filter(Boolean));
  return parent;
}

function titled(made, words = "") {
  if (words) made.title = words;
  return made;
}

const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`);

function figure(value) {
  if (value === null || value === undefined || value === "") return "–";
  const number = Number(value);
  if (!Number.isFinite(number)) return String(value);
  if (Number.isInteger(number)) return number.toLocaleString("en");
  const size = Math.abs(number);
  if (size >= 1e9 || size < 1e-4) return number.toExponential(2);
  return number.toLocaleString("en", { maximumFractionDigits: size < 0.1 ? 4 : size < 100 ? 3 : 1 });
}

// A number as finely as the range of its training data makes sense of.
function measured(value, { lowest, highest }) {
  const number = Number(value);
  const range = highest - lowest;
  if (value === null || !Number.isFinite(number) || !(range > 0) || range > 1e6 || range < 1e-3) return figure(value);
  const decimals = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(range))));
  return number.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

// -- asking ---------------------------------------------------------------------------------------

async function asked(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  let line = `The server answered ${answer.status}.`;
  try {
    line = (await answer.json()).error || line;
  } catch { /* no JSON: the status has to do */ }
  throw new Error(line);
}

// A button says that the model is at work, and for how long, until the returned function is called.
function atWork(button) {
  const [begun, words] = [performance.now(), button.textContent];
  const tell = () => { button.textContent = `At work … ${Math.floor((performance.now() - begun) / 1000)} s`; };
  tell();
  button.disabled = true;
  button.scrollIntoView({ block: "nearest" });
  const timer = setInterval(tell, 500);
  return () => {
    clearInterval(timer);
    button.textContent = words;
    button.disabled = false;
  };
}

async function during(button, form, work) {
  const answers = $("answers");
  $("texts-error").textContent = $("upload-error").textContent = "";
  answers.setAttribute("aria-busy", "true");
  $("status").textContent = "The model is at work …";
  const done = atWork(button);
  try {
    await work();
    answers.classList.remove("empty");
    if (matchMedia("(max-width: 860px)").matches) answers.scrollIntoView({ behavior: "smooth" });
  } catch (error) {
    const cancelled = error.name === "AbortError";
    if (!cancelled) $(`${form}-error`).textContent = error.message;
    if (/`?data\.(text|encoding)/.test(error.message)) document.querySelector("#upload details").open = true;
    const rest = answers.classList.contains("empty")
      ? "What the model makes of your texts appears here."
      : "These are the answers of before.";
    $("status").textContent = cancelled ? `The request was cancelled. ${rest}` : rest;
  } finally {
    done();
    answers.removeAttribute("aria-busy");
  }
}

function typed() {
  const parts = (id) => {
    const text = $(id).value;
    const found = $("lines").checked ? text.split("\n") : [text];
    return found.map((line) => line.trim());
  };
  if (!model.pairs) return parts("first").filter(Boolean);
  const [firsts, seconds] = [parts("first"), parts("second")];
  const pairs = Array.from({ length: Math.max(firsts.length, seconds.length) }, (_, place) => [
    firsts[place] || "", seconds[place] || "",
  ]);
  return pairs.filter(([one, other]) => one || other);
}

function askTexts() {
  return during($("ask"), "texts", async () => {
    const texts = typed();
    if (!texts.length) throw new Error("Type a text first.");
    const answer = await asked("predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ texts }),
    });
    const { rows, notes } = await answer.json();
    told(notes);
    const why = model.unexplained ? [make("p", `Here is no button "Why?". ${model.unexplained}`, "hint")] : [];
    $("results").replaceChildren(...rows.map((row, place) => cardOf(texts[place], row)), ...why);
    $("status").textContent = `Answers to ${counted(rows.length, "text")}.`;
  });
}

function told(notes) {
  $("notes").replaceChildren(...notes.map((note) => make("li", note)));
  $("notes").hidden = !notes.length;
}

// -- one text -------------------------------------------------------------------------------------

function cardOf(text, row) {
  const card = make("article", "", "card");
  for (const part of [text].flat()) {
    put(card, make("p", part, part.length > 300 ? "quote long" : "quote"));
  }
  const used = new Set();
  const badges = put(make("div", "", "badges"), ...["unsure", "unlike"].map((name) => badge(row, name, used)));
  if (badges.children.length) put(card, badges);
  const grid = make("div", "", "grid");
  const reasons = make("div", "", "reasons");
  reasons.setAttribute("aria-live", "polite");
  for (const [name, task] of Object.entries(model.tasks)) {
    if (!Object.hasOwn(row, name)) continue;
    put(grid, put(taskOf(name, task, row, used), model.explains && whyOf(text, name, reasons)));
  }
  put(card, grid, reasons);
  const others = Object.entries(row).filter(([column]) => !used.has(column));
  if (others.length) {
    const words = others.map(([column, value]) => `${column} ${figure(value)}`).join(" · ");
    put(card, make("p", words, "others"));
  }
  return card;
}

function badge(row, column, used) {
  if (!Object.hasOwn(row, column)) return null;
  used.add(column);
  const value = row[column];
  const on = typeof value === "string" ? !OFF.has(value.toLowerCase()) : Boolean(value);
  if (!on) return null;
  const plainly = value === true || value === 1 || ["yes", "true", "1"].includes(String(value).toLowerCase());
  const words = BADGES[column] || column;
  const told = plainly ? words : `${words}: ${[value].flat().join(", ")}`;
  return titled(make("span", told, "badge"), CHIPS[column.match(/(unsure|unlike)$/)?.[0]]);
}

// The column of a task's set, or of an end of its interval. It has a number where a task has its name.
function regionOf(name, ending, row) {
  const wanted = name + ending;
  return Object.keys(row).find((column) => column.startsWith(wanted) &&
    /^(_\d+)?$/.test(column.slice(wanted.length)) && !Object.hasOwn(model.tasks, column));
}

// A bar within the name of a class has a backslash in front.
const classesOf = (cell) => cell.split(/(?<!\\)\|/).map((one) => one.replaceAll("\\|", "|"));

function taskOf(name, task, row, used) {
  const take = (column) => {
    used.add(column);
    return row[column];
  };
  const block = put(make("section", "", "task"), make("h3", name));
  const decision = take(name);
  const shares = task.classes
    .filter((label) => Object.hasOwn(row, `${name}_p_${label}`))
    .map((label) => [label, take(`${name}_p_${label}`)]);
  const region = (ending) => {
    const column = regionOf(name, ending, row);
    return column && take(column);
  };
  const [low, high] = [region("_low"), region("_high")];
  const chosen = new Set(task.separator ? String(decision).split(task.separator).filter(Boolean) : [String(decision)]);
  if (shares.length) put(block, put(decided([...chosen].join(", "), low, high, task), task.rule && make("small", ` (${task.rule})`)));
  else put(block, decided(measured(decision, task.targets), low, high, task));
  const odd = task.separator ? "" : unlikelier(task, String(decision), shares);
  if (odd) put(block, make("p", odd, "hint"));
  for (const ending of ["unsure", "unlike"]) put(block, badge(row, `${name}_${ending}`, used));
  const set = region("_set");
  if (set !== undefined && set !== null) {
    const names = classesOf(String(set)).filter(Boolean);
    const said = names.length > 1 ? "unsure, one of" : "only";
    put(block, put(make("p", "", "set"), make("span", said), ...names.map((one) => make("b", one)), task.coverage && make("small", task.coverage)));
  }
  if (shares.length) put(block, ...barsOf(task, shares, chosen));
  else put(block, scaleOf(task, decision, low, high));
  return block;
}

// Why a threshold decided for the class that is less likely; empty where it did not.
function unlikelier(task, decision, shares) {
  const own = shares.find(([label]) => label === decision);
  if (typeof task.threshold !== "number" || !own || !shares.some(([, share]) => share > own[1])) return "";
  const positive = task.classes[task.classes.length - 1];
  const whose = decision === positive ? "its probability reaches" : `the probability of ${positive} is below`;
  const suits = task.threshold_suits ? `, which suits ${task.threshold_suits} on the validation rows` : "";
  return `${decision}, because ${whose} the threshold ${Number((100 * task.threshold).toPrecision(3))} %${suits}`;
}

function decided(words, low, high, task) {
  const line = make("p", words || "none", words ? "decision" : "decision none");
  const known = [low, high].every((end) => end !== undefined && end !== null);
  return known ? put(line, make("small", ` between ${measured(low, task.targets)} and ${measured(high, task.targets)}${task.coverage ? ` (${task.coverage})` : ""}`)) : line;
}

function barsOf(task, shares, chosen) {
  const ordered = task.kind === "ordinal" ? shares : [...shares].sort((a, b) => b[1] - a[1]);
  const list = (some) => put(make("ul", "", "bars"), ...some.map(([label, share]) => barOf(label, share, chosen.has(label))));
  const most = task.kind === "ordinal" ? 2 * FEW : FEW;
  if (ordered.length <= most) return [list(ordered)];
  const rest = put(make("details", "", "more"), make("summary", `${ordered.length - most} more`), list(ordered.slice(most)));
  return [list(ordered.slice(0, most)), rest];
}

function barOf(label, share, called) {
  const fill = make("div", "", "fill");
  fill.style.width = `${100 * Math.min(1, Math.max(0, share ?? 0))}%`;
  const track = put(make("div", "", "track"), fill);
  track.setAttribute("aria-hidden", "true");
  const known = share === null || share === undefined ? "–" : percent(share);
  return put(make("li", "", called ? "called" : ""), make("span", label, "what"), make("span", known, "share"), track);
}

function scaleOf(task, value, low, high) {
  const { lowest, highest } = task.targets;
  const number = Number(value);
  const ends = [lowest, highest, number, low, high].filter((end) => Number.isFinite(end));
  if (value === null || !Number.isFinite(lowest) || !Number.isFinite(highest) || lowest === highest) return null;
  const [from, to] = [Math.min(...ends), Math.max(...ends)];
  const at = (end) => `${(100 * (end - from)) / (to - from)}%`;
  const track = make("div", "", "track");
  if (Number.isFinite(low) && Number.isFinite(high)) {
    const band = make("div", "", "band");
    band.style.left = at(low);
    band.style.width = `${(100 * (high - low)) / (to - from)}%`;
    put(track, band);
  }
  const mark = make("div", "", "mark");
  mark.style.left = at(number);
  put(track, mark);
  track.setAttribute("aria-hidden", "true");
  const under = put(make("div", "", "ends"), make("span", figure(from)), make("span", figure(to)));
  return put(make("div", "", "scale"), track, under);
}

// -- the start ------------------------------------------------------------------------------------

function fitForms() {
  const [first, second] = model.text_columns;
  $("column").placeholder = first;
  if (model.pairs) {
    $("first-label").textContent = `First text (${first})`;
    $("second-label").textContent = `Second text (${second})`;
    $("column-label").textContent = "Column of the first text";
    $("other").placeholder = second;
    for (const id of ["second-field", "other-field"]) $(id).hidden = false;
    for (const id of ["first", "second"]) $(id).rows = 3;
    $("file-hint").textContent = "CSV, TSV or Excel, a pair of texts per row";
    document.querySelector("label[for=lines]").textContent = "Each line is a text of its own";
  }
}

function listen() {
  $("texts").addEventListener("submit", (event) => { event.preventDefault(); askTexts(); });
  $("upload").addEventListener("submit", (event) => { event.preventDefault(); askFile(); });
  $("texts").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); askTexts(); }
  });
  $("file").addEventListener("change", chosen);
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    $("file").files = event.dataTransfer.files;
    chosen();
  });
}

async function start() {
  $("answers").classList.add("empty");
  try {
    model = await (await asked("about")).json();
  } catch (error) {
    $("texts-error").textContent = error.message;
    return;
  }
  showModel();
  fitForms();
  listen();
}

start();
