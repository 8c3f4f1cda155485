"use strict";

// Every text is put into the page by textContent, so none of it is read as HTML.

const $ = (id) => document.getElementById(id);
const FEW = 6; // probabilities that are shown before the rest is folded away
const PREVIEW = 20; // rows of a file that are shown
const BADGES = { unsure: "unsure", unlike: "unlike the training texts" };
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
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  let line = `The server answered ${answer.status}.`;
  try {
    line = (await answer.json()).error || line;
  } catch { /* no JSON: the status has to do */ }
  throw new Error(line);
}

async function during(button, place, work) {
  const answers = $("answers");
  $("texts-error").textContent = $("upload-error").textContent = "";
  button.disabled = true;
  answers.setAttribute("aria-busy", "true");
  $("status").textContent = "The model is at work …";
  try {
    await work();
    answers.classList.remove("empty");
    if (matchMedia("(max-width: 860px)").matches) answers.scrollIntoView({ behavior: "smooth" });
  } catch (error) {
    $(place).textContent = error.message;
    if (/`?data\.(text|encoding)/.test(error.message)) document.querySelector("#upload details").open = true;
    $("status").textContent = answers.classList.contains("empty")
      ? "What the model makes of your texts appears here."
      : "These are the answers of before.";
  } finally {
    button.disabled = false;
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
  return during($("ask"), "texts-error", async () => {
    const texts = typed();
    if (!texts.length) throw new Error("Type a text first.");
    const answer = await asked("predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ texts }),
    });
    const { rows, notes } = await answer.json();
    told(notes);
    $("results").replaceChildren(...rows.map((row, place) => cardOf(texts[place], row)));
    $("status").textContent = `Answers to ${counted(rows.length, "text")}.`;
  });
}

function askFile() {
  return during($("send"), "upload-error", async () => {
    const file = $("file").files[0];
    if (!file) throw new Error("Choose a file first.");
    if (file.size > model.limits.file) {
      throw new Error(`A file should have at most ${counted(model.limits.file, "byte")}. Found ` +
        `${counted(file.size, "byte")}. Split it.`);
    }
    const form = new FormData();
    form.append("data.encoding", $("encoding").value);
    const names = [$("column").value.trim(), $("other").value.trim()];
    const wanted = names.map((name, place) => name || model.text_columns[place]);
    if (names.some(Boolean)) form.append("data.text", JSON.stringify(wanted.filter(Boolean)));
    form.append("file", file);
    const answer = await asked("predict/file", { method: "POST", body: form });
    told(JSON.parse(answer.headers.get("X-Dao-Notes") || "[]"));
    const content = await answer.blob();
    const own = Number(answer.headers.get("X-Dao-Columns"));
    const [header, ...rows] = readCsv(await content.text());
    $("results").replaceChildren(tableCard(file.name, content, header, rows, own, wanted));
    $("status").textContent = `Answers to ${counted(rows.length, "row")} of ${file.name}.`;
  });
}

function told(notes) {
  $("notes").replaceChildren(...notes.map((note) => make("li", note)));
  $("notes").hidden = !notes.length;
}

function readCsv(text) {
  const rows = [];
  let row = [], cell = "", quoted = false;
  for (let place = 0; place < text.length; place += 1) {
    const sign = text[place];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[place + 1] === '"') { cell += '"'; place += 1; } else quoted = false;
    } else if (sign === '"') quoted = true;
    else if (sign === ",") { row.push(cell); cell = ""; }
    else if (sign === "\n") { row.push(cell); rows.push(row); row = []; cell = ""; }
    else cell += sign;
  }
  if (cell || row.length) rows.push([...row, cell]);
  return rows;
}

// A cell that a spreadsheet would take for a formula is written with an apostrophe.
const unguarded = (cell) => (/^'+[=+\-@\t\r]/.test(cell) ? cell.slice(1) : cell);

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
  return make("span", plainly ? words : `${words}: ${[value].flat().join(", ")}`, "badge");
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

// -- a file ---------------------------------------------------------------------------------------

function tableCard(name, content, header, rows, own, columns) {
  const card = make("article", "", "card");
  const grid = make("div", "", "grid");
  const decisions = new Map();
  for (const [task, about] of Object.entries(model.tasks)) {
    const place = header.findIndex((column, at) => at >= own && (column === task ||
      (column.startsWith(`${task}_`) && /^\d+$/.test(column.slice(task.length + 1)))));
    if (place < 0) continue;
    decisions.set(place, about);
    put(grid, overallOf(task, about, rows.map((row) => row[place])));
  }
  const link = make("a");
  link.href = URL.createObjectURL(content);
  link.download = `${name.replace(/\.[^.]*$/, "")}-predictions.csv`;
  const button = make("button", "Download the table", "plain");
  button.type = "button";
  button.addEventListener("click", () => link.click());
  const added = counted(header.length - own, "new column");
  put(card, grid, put(make("div", "", "actions"), button, make("span", `CSV with ${added}`, "hint")));
  const places = header.map((_, place) => place);
  const answers = places.slice(own).filter((place) => decisions.has(place) || /^((unsure|unlike)|.*_(low|high|set))(_\d+)?$/.test(header[place]));
  const texts = places.slice(0, own).filter((place) => columns.includes(unguarded(header[place])));
  const rest = places.slice(0, own).filter((place) => !texts.includes(place));
  return put(card, preview(header, rows, [...texts, ...answers, ...rest], own)); // a wide file hides no answer
}

function overallOf(task, about, cells) {
  const block = put(make("section", "", "task"), make("h3", task));
  if (!about.classes.length) {
    const numbers = cells.filter((cell) => cell !== "").map(Number).filter(Number.isFinite);
    if (!numbers.length) return block;
    const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
    const ends = numbers.reduce(([low, high], n) => [Math.min(low, n), Math.max(high, n)], [Infinity, -Infinity]);
    const line = put(make("p", measured(mean, about.targets), "decision"), make("small", ` on average, from ${measured(ends[0], about.targets)} to ${measured(ends[1], about.targets)}`));
    return put(block, line);
  }
  const counts = new Map(about.classes.map((label) => [label, 0]));
  for (const cell of cells.map(unguarded)) {
    for (const label of about.separator ? cell.split(about.separator) : [cell]) {
      if (counts.has(label)) counts.set(label, counts.get(label) + 1);
    }
  }
  const shares = [...counts].map(([label, count]) => [label, count / Math.max(1, cells.length)]);
  const most = Math.max(...shares.map(([, share]) => share));
  const top = shares.filter(([, share]) => share > 0 && share === most).map(([label]) => label);
  const caption = make("p", `share of the ${counted(cells.length, "row")} that ${cells.length === 1 ? "was" : "were"} answered so`, "hint");
  return put(block, caption, ...barsOf(about, shares, new Set(top)));
}

function preview(header, rows, shown, own) {
  const table = make("table");
  const head = make("tr");
  for (const place of shown) {
    const cell = make("th", unguarded(header[place]), place < own ? "" : "mine");
    cell.scope = "col";
    put(head, cell);
  }
  const body = make("tbody");
  for (const row of rows.slice(0, PREVIEW)) {
    const line = make("tr");
    for (const place of shown) {
      const text = unguarded(row[place] ?? "");
      const number = place >= own && text !== "" && Number.isFinite(Number(text));
      const cut = text.length > 160 ? `${text.slice(0, 160)}…` : text;
      const kind = [place < own ? "" : "mine", text.length > 40 ? "prose" : ""].filter(Boolean).join(" ");
      put(line, make("td", number ? figure(text) : cut, kind));
    }
    put(body, line);
  }
  const scroll = put(make("div", "", "scroll"), put(table, put(make("thead"), head), body));
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  const first = rows.length > PREVIEW ? `The first ${PREVIEW} of ${counted(rows.length, "row")}` : "All rows";
  scroll.setAttribute("aria-label", first);
  return put(make("div"), scroll, make("p", `${first}: the text, the answers, then the other columns. The download has the probabilities as well.`, "hint"));
}

// -- the model ------------------------------------------------------------------------------------

function showModel() {
  const tasks = Object.entries(model.tasks);
  const { sources, rows, steps, token_limit: tokens } = model.trained_on;
  document.title = `${model.name} – dao`;
  $("name").textContent = model.name;
  const facts = [
    counted(tasks.length, "task"),
    rows.train && `${counted(rows.train, "training text")}`,
    `encoder ${model.encoder}`,
    model.engine !== "eager" && `engine ${model.engine}`,
  ].filter(Boolean);
  $("facts").replaceChildren(...facts.map((fact) => make("li", fact)));
  $("version").textContent = `dao ${model.dao}`;
  const what = model.pairs ? "pairs of texts" : "texts";
  const learnt = rows.train ? `It learnt from ${rows.train.toLocaleString("en")} ${what}` : "It was trained";
  const of = sources.length ? ` of ${sources.join(", ")}` : "";
  const reads = tokens ? ` It reads up to ${counted(tokens, "token")} of a text.` : "";
  const sets = model.coverage ? ` Its sets and intervals hold the truth for about ${percent(model.coverage)} of texts like these.` : "";
  $("trained").textContent = `${learnt}${of}${steps ? ` in ${counted(steps, "step")}` : ""}.${reads}${sets} ` +
    "The figures are of texts that it never saw in training. Plain models, such as the most frequent class, are what it has to beat.";
  $("tasks").replaceChildren(...tasks.map(([name, task]) => qualityOf(name, task)));
  fitForms();
}

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

function qualityOf(name, task) {
  const title = put(make("h3", name), make("small", task.kind));
  const card = put(make("article", "", "card"), title, make("p", learntOf(task), "learnt"));
  if (!task.figures.length) return put(card, make("p", "There are no test figures.", "hint"));
  const table = tableOf(["On test", "This model", "Best plain model"], task.figures.map(({ label, better, model: own, plain }) => {
    const [rival, value] = bestPlain(plain, better);
    const known = [own, value].filter((one) => typeof one === "number");
    const best = rounded(better === "higher" ? Math.max(...known) : Math.min(...known));
    const mark = (figures) => (rounded(figures) === best ? "best" : "");
    return [
      make("span", `${label}\u00a0${better === "higher" ? "↑" : "↓"}`),
      make("span", rounded(own), mark(own)),
      put(make("span"), make("span", rounded(value), mark(value)), rival && make("small", rival)),
    ];
  }));
  const names = [...new Set(task.figures.flatMap((one) => Object.keys(one.plain)))];
  const all = tableOf(["", ...task.figures.map((one) => one.label)], names.map((rival) => [
    make("span", rival), ...task.figures.map((one) => make("span", rounded(one.plain[rival]))),
  ]));
  const scroll = put(make("div", "", "sideways"), all);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `Plain models of ${name}`);
  return put(card, table, names.length > 1 && put(make("details"), make("summary", `All ${names.length} plain models`), scroll));
}

function tableOf(heads, rows) {
  const head = make("tr");
  heads.forEach((words, place) => {
    const cell = make(words ? "th" : "td", words, place ? "number" : "");
    if (words) cell.scope = "col";
    put(head, cell);
  });
  const body = make("tbody");
  for (const [first, ...rest] of rows) {
    const label = put(make("th"), first);
    label.scope = "row";
    put(body, put(make("tr"), label, ...rest.map((cell) => put(make("td", "", "number"), cell))));
  }
  return put(make("table"), put(make("thead"), head), body);
}

function bestPlain(plain, better) {
  const known = Object.entries(plain).filter(([, value]) => typeof value === "number");
  known.sort((a, b) => (better === "higher" ? b[1] - a[1] : a[1] - b[1]));
  return known[0] || ["", null];
}

const rounded = (value) => (typeof value === "number" && Math.abs(value) < 100 && (Math.abs(value) >= 1e-3 || !value) ? value.toFixed(3) : figure(value));

function learntOf(task) {
  const tested = task.tested_on ? `tested on ${counted(task.tested_on, "text")}` : "";
  const { lowest, mean, highest } = task.targets;
  if (!task.classes.length) {
    const range = Number.isFinite(lowest) ? `numbers from ${measured(lowest, task.targets)} to ${measured(highest, task.targets)}, ${measured(mean, task.targets)} on average` : "";
    return [range, tested].filter(Boolean).join("; ");
  }
  const some = task.classes.slice(0, FEW).map((label) => (Object.hasOwn(task.targets, label) ? `${label} (${figure(task.targets[label])})` : label));
  const more = task.classes.length > FEW ? ` and ${task.classes.length - FEW} more` : "";
  return [`${some.join(", ")}${more}`, tested].filter(Boolean).join("; ");
}

// -- the start ------------------------------------------------------------------------------------

function chosen() {
  const file = $("file").files[0];
  $("chosen").hidden = !file;
  $("chosen").textContent = file ? file.name : "";
  if (file) askFile();
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
  listen();
}

start();
