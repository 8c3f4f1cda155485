"use strict";

// Which tokens an answer rests on. Colour is never alone: a line under a token says the same.

const NOTABLE = 0.15; // share of the largest attribution from which on a token is marked
const signed = (number) => (number > 0 ? "+" : number < 0 ? "\u2212" : "") + figure(Math.abs(number));

// A button that asks why, and puts what it learns into a place of the card.
function whyOf(text, name, place) {
  const button = make("button", "Why?", "plain why");
  button.type = "button";
  button.setAttribute("aria-label", `Why? ${name}`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    place.replaceChildren(make("p", "The model is at work …", "hint"));
    try {
      const answer = await asked("explain", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ text, task: name }),
      });
      place.replaceChildren(...explained(await answer.json()));
    } catch (error) {
      place.replaceChildren(make("p", error.message, "error"));
    } finally {
      button.disabled = false;
      place.scrollIntoView({ block: "nearest" });
    }
  });
  return button;
}

function explained(found) {
  const ofClass = model.tasks[found.task].classes.length > 0;
  const [up, down] = ofClass ? ["speaks for the answer", "speaks against it"] : ["raises the number", "lowers it"];
  const largest = Math.max(...found.tokens.map((one) => Math.abs(one.attribution ?? 0)), 0);
  const answer = typeof found.answer === "number" ? measured(found.answer, model.tasks[found.task].targets) : found.answer || "none";
  const legend = put(make("p", "", "legend"), make("span", up, "token for strong"), make("span", down, "token against strong"));
  const words = make("p", "", "tokens");
  found.tokens.forEach((one, place) => put(words, place && !one.token.startsWith("##") ? " " : null, tokenOf(one, largest)));
  const of = found.of[0].toUpperCase() + found.of.slice(1);
  const sum = `${of} is ${figure(found.value)}, and ${figure(found.baseline)} without the words.`;
  const numbers = put(make("details"), make("summary", "Every token as a number"), numbersOf(found.tokens));
  return [
    make("h3", `Why is ${found.task} ${answer}?`), legend, words, make("p", sum, "hint"),
    ...found.notes.map((note) => make("p", note, "hint")), numbers,
  ];
}

function tokenOf({ token, attribution }, largest) {
  const share = largest ? Math.abs(attribution) / largest : 0;
  const words = token.replace(/^##/, "") || "\u00a0";
  if (share < NOTABLE) return make("span", words);
  const strength = share < 0.4 ? "" : share < 0.7 ? " middle" : " strong";
  const made = make("span", words, `token ${attribution > 0 ? "for" : "against"}${strength}`);
  made.title = signed(attribution);
  return put(made, make("span", ` (${signed(attribution)})`, "unseen"));
}

function numbersOf(tokens) {
  const scroll = put(make("div", "", "scroll"), tableOf(["token", "adds"], tokens.map((one) => [
    make("span", one.token), make("span", signed(one.attribution)),
  ])));
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "What every token adds");
  return scroll;
}
