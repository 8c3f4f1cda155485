"use strict";

// What the model is, what it learnt from and how good it is, with the meanings of the words.

const ENOUGH = 200; // test rows from which on a coverage is no longer called uncertain
const KINDS = {
  binary: "one of two classes",
  classification: "one of several classes",
  multilabel: "any number of labels",
  ordinal: "one of several levels that have an order, such as 1 to 5 stars",
  regression: "a number",
};
const FIGURES = {
  accuracy: "The share of answers that are right.",
  subset_accuracy: "The share of texts whose labels are all right.",
  precision: "Of the texts that were answered with the class, the share that has it.",
  recall: "Of the texts that have the class, the share that was answered with it.",
  f1: "Precision and recall as one number, which is low where either is low. 1 is best.",
  macro_f1: "The mean of the F1 of all classes: a rare class counts as much as a frequent one.",
  micro_f1: "F1 over the labels of all texts together.",
  pr_auc: "How well the probabilities put texts that have the class before the others: the area under the curve of precision over recall. 1 is best; chance reaches the share of the class.",
  roc_auc: "How often a text that has the class gets a higher probability than one that lacks it. 1 is best, 0.5 is chance.",
  qwk: "How well the levels agree with the true ones; an error counts by its square, so two levels off is four times as bad as one. 1 is best, 0 is chance.",
  mae_levels: "By how many levels an answer is off, on average.",
  r2: "How much of the spread of the numbers the answers explain. 1 is best, 0 is what their mean reaches.",
  mse: "The mean of the squared errors.",
  mae: "By how much an answer is off, on average.",
  pearson: "How well the answers rise and fall with the truth along a line. 1 is best.",
  spearman: "How well the order of the answers is the true one. 1 is best.",
};

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
  const sets = model.coverage ? ` Its sets and intervals were asked to hold the truth for ${figure(100 * model.coverage)} % of texts; what each task reached on its test rows stands below.` : "";
  $("trained").textContent = `${learnt}${of}${steps ? ` in ${counted(steps, "step")}` : ""}.${reads}${sets} ` +
    "The figures are of texts that it never saw in training. Plain models, such as the most frequent class, are what it has to beat.";
  $("tasks").replaceChildren(...tasks.map(([name, task]) => qualityOf(name, task)));
  $("words").replaceChildren(...wordsOf(tasks.map(([, task]) => task)));
}

// The words of the page that a stranger may stumble on, as far as this model has them.
function wordsOf(tasks) {
  const found = new Map(tasks.map(({ kind }) => [kind, KINDS[kind]]));
  for (const { key, label } of tasks.flatMap((task) => task.figures)) {
    const both = new Set([found.get(label), meaningOf(key)].filter(Boolean)); // two kinds can have an MAE
    found.set(label, [...both].join(" Or: "));
  }
  if (model.coverage) for (const [column, meaning] of Object.entries(CHIPS)) found.set(BADGES[column], meaning);
  return [...found].filter(([, meaning]) => meaning).flatMap(([word, meaning]) => [make("dt", word), make("dd", meaning)]);
}

// A figure of the rare class is the same figure of one class.
const meaningOf = (key) => FIGURES[key.replace(/^rare_/, "")] || "";

function qualityOf(name, task) {
  const title = put(make("h3", name), titled(make("small", task.kind), KINDS[task.kind]));
  const card = put(
    make("article", "", "card"), title, make("p", learntOf(task), "learnt"),
    task.coverage && make("p", coverageOf(task), "learnt"),
    task.not_beaten && make("p", task.not_beaten, "beaten"),
  );
  if (!task.figures.length) return put(card, make("p", "There are no test figures.", "hint"));
  const table = tableOf(["On test", "This model", "Best plain model"], task.figures.map(({ key, label, better, model: own, plain }) => {
    const [rival, value] = bestPlain(plain, better);
    const known = [own, value].filter((one) => typeof one === "number");
    const best = rounded(better === "higher" ? Math.max(...known) : Math.min(...known));
    const mark = (figures) => (rounded(figures) === best ? "best" : "");
    return [
      titled(make("span", `${label}\u00a0${better === "higher" ? "↑" : "↓"}`), meaningOf(key)),
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
  const some = task.classes.slice(0, FEW).map((label, place) => (Object.hasOwn(task.targets, label) ? `${label} (${place ? figure(task.targets[label]) : counted(task.targets[label], "training text")})` : label));
  const more = task.classes.length > FEW ? ` and ${task.classes.length - FEW} more` : "";
  return [`${some.join(", ")}${more}`, tested].filter(Boolean).join("; ");
}

function coverageOf(task) {
  const uncertain = /reached/.test(task.coverage) && task.tested_on < ENOUGH ? " So few test rows leave it uncertain what new texts get." : "";
  return `${task.classes.length ? "Sets" : "Intervals"}: ${task.coverage}.${uncertain}`;
}
