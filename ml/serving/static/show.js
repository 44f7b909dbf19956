// From an answer to what is seen. Text goes in as text, never as HTML.

const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function made(name, className, ...inside) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...inside);
  return element;
}

export const percent = (risk) => (risk < 0.001 ? (100 * risk).toFixed(2) : (100 * risk).toFixed(1));

function only(shown) {
  for (const id of ["empty", "problem", "assessed"]) at(id).hidden = id !== shown;
}

export function showWaiting(isWaiting) {
  at("result").setAttribute("aria-busy", String(isWaiting));
}

export function showProblem(error) {
  const problem = at("problem");
  problem.replaceChildren(made("h2", "", "No estimate"), made("p", "", error.message));
  if (error.fields?.length) {
    problem.append(made("ul", "", ...error.fields.map((each) => made("li", "", made("code", "", each.field), ` ${each.reason}`))));
  }
  only("problem");
}

export function showNotAssessed(said) {
  at("problem").replaceChildren(made("h2", "", "The risk does not apply"), made("p", "", said?.text ?? "This person is not assessed."));
  only("problem");
}

export function showAnswer(assessment, data) {
  const risk = assessment.risk_12_months;
  at("risk").dataset.band = assessment.band;
  at("risk-number").replaceChildren(percent(risk), made("small", "", "\u202f%"));
  at("risk-band").textContent = assessment.band;
  const people = Math.round(100 * risk);
  at("risk-words").textContent = people < 1
    ? "Of 100 people like this, fewer than one will be found hypertensive within a year."
    : `Of 100 people like this, about ${people} will be found hypertensive within a year.`;
  drawPeople(people);
  drawScale(risk, data.bands);
  drawReasons(assessment, data);
  drawInputs(assessment.inputs, data);
  const model = assessment.model;
  const origin = model.build_id ? `, features of build ${model.build_id} (snapshot ${model.clinical_snapshot})` : "";
  at("origin").textContent = `${model.name}, version ${model.version}${origin}. Prediction ${assessment.prediction_id}. `
    + "An estimate of a chance; it decides nothing.";
  at("changes-card").hidden = true;
  only("assessed");
}

function drawPeople(number) {
  const dots = [];
  for (let index = 0; index < 100; index += 1) {
    const dot = document.createElementNS(SVG, "circle");
    dot.setAttribute("cx", String(5 + 10 * (index % 25)));
    dot.setAttribute("cy", String(8 + 12 * Math.floor(index / 25)));
    dot.setAttribute("r", "3.6");
    if (index < number) dot.setAttribute("class", "will");
    dots.push(dot);
  }
  at("people").replaceChildren(...dots);
}

// Square root, so that small risks are told apart and large ones fit.
function drawScale(risk, bands) {
  const end = Math.max(0.25, risk * 1.1);
  const place = (value) => `${(100 * Math.sqrt(value / end)).toFixed(2)}%`;
  const zones = [["low", 0, bands.moderate], ["moderate", bands.moderate, bands.high], ["high", bands.high, end]].map(([band, from, to]) => {
    const zone = made("span", `zone ${band}`, made("span", "", band));
    zone.style.left = place(from);
    zone.style.width = `calc(${place(to)} - ${place(from)})`;
    return zone;
  });
  const ticks = [bands.moderate, bands.high].map((value) => {
    const tick = made("span", "tick", `${Math.round(100 * value)} %`);
    tick.style.left = place(value);
    return tick;
  });
  const marker = made("span", "marker");
  marker.style.left = place(risk);
  at("scale").replaceChildren(...zones, ...ticks, marker);
}

function drawReasons(assessment, data) {
  const { reasons } = assessment;
  const values = new Map(assessment.inputs.map((input) => [input.name, input.value]));
  const largest = Math.max(...reasons.map((each) => Math.abs(each.log_odds)), 0.1);
  at("reasons").replaceChildren(...reasons.map((each) => {
    const bar = made("span", `bar ${each.direction}`);
    bar.style.width = `${(50 * Math.abs(each.log_odds)) / largest}%`;
    const factor = Math.exp(Math.abs(each.log_odds)).toFixed(2);
    const size = made("small", each.direction, `${each.direction}, odds ${each.direction === "raises" ? "×" : "÷"}\u202f${factor}`);
    const value = `${shownValue(values.get(each.feature))} ${data.units[each.feature] ?? ""}`.trim();
    const words = made("span", "words", `${data.labels[each.feature] ?? each.feature}: `, made("b", "", value), size);
    words.title = each.text;
    const track = made("span", "track", bar);
    track.setAttribute("aria-hidden", "true");
    return made("li", "", words, track);
  }));
  at("reasons-card").hidden = !reasons.length;
}

export function showChanges(assessment, offered, changed, data) {
  const now = assessment.risk_12_months;
  const end = Math.max(now, ...changed.map((each) => each.risk_12_months), data.bands.high) * 1.05;
  at("changes").replaceChildren(...changed.map((each, index) => {
    const then = each.risk_12_months;
    const isLower = then < now;
    const line = made("span", `line ${isLower ? "lowers" : "raises"}`);
    line.style.left = `${(100 * Math.min(now, then)) / end}%`;
    line.style.width = `${(100 * Math.abs(then - now)) / end}%`;
    const before = made("span", "dot before");
    before.style.left = `${(100 * now) / end}%`;
    const after = made("span", `dot after ${isLower ? "lowers" : "raises"}`);
    after.style.left = `${(100 * then) / end}%`;
    const track = made("span", "track", line, before, after);
    track.setAttribute("aria-hidden", "true");
    const figure = made("span", "then", `${percent(now)} → `, made("b", "", `${percent(then)} %`));
    return made("li", "", made("span", "words", offered[index].text), figure, track);
  }));
  at("changes-card").hidden = !changed.length;
}

function drawInputs(inputs, data) {
  const present = inputs.filter((each) => each.status !== "absent");
  at("inputs").replaceChildren(...present.map((each) => made("tr", "",
    made("th", "", data.labels[each.name] ?? each.name),
    made("td", "n", shownValue(each.value), made("span", "unit", ` ${data.units[each.name] ?? each.unit ?? ""}`)),
    made("td", "n", shownAge(each.age_days)),
    made("td", "", made("span", `tag ${each.status}`, each.status)),
  )));
  for (const cell of at("inputs").querySelectorAll("th")) cell.scope = "row";
  const absent = inputs.filter((each) => each.status === "absent").map((each) => data.labels[each.name] ?? each.name);
  at("absent").textContent = absent.length ? `Not known: ${absent.join("; ")}.` : "";
}

function shownValue(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : value;
}

function shownAge(days) {
  if (days === null || days === undefined) return "–";
  if (days < 1) return "today";
  return days < 90 ? `${days} d` : days < 730 ? `${Math.round(days / 30.44)} months` : `${(days / 365.25).toFixed(1)} years`;
}
