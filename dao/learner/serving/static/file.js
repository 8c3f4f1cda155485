"use strict";

// Questions about a file: it is chosen, then sent, and its answers are shown as a table.

const PREVIEW = 20; // rows of a file that are shown

// A choice sends nothing, so that the column and the encoding can be named first.
function chosen() {
  const file = $("file").files[0];
  $("chosen").hidden = !file;
  $("chosen").textContent = file ? file.name : "";
  $("send").classList.toggle("plain", !file);
  $("upload-error").textContent = "";
}

function askFile() {
  const leaving = new AbortController();
  $("cancel").onclick = () => leaving.abort();
  $("cancel").hidden = false;
  return during($("send"), "upload", async () => {
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
    const answer = await asked("predict/file", { method: "POST", body: form, signal: leaving.signal });
    told(JSON.parse(answer.headers.get("X-Dao-Notes") || "[]"));
    const content = await answer.blob();
    const own = Number(answer.headers.get("X-Dao-Columns"));
    const [header, ...rows] = readCsv(await content.text());
    $("results").replaceChildren(tableCard(file.name, content, header, rows, own, wanted));
    $("status").textContent = `Answers to ${counted(rows.length, "row")} of ${file.name}.`;
  }).finally(() => { $("cancel").hidden = true; });
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
