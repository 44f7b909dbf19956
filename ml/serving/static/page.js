// Ties the page together: a form is sent, the API answers, the answer is shown.
import { askPatient, askValues, Refusal } from "/static/api.js";
import { alternatives, fillForm, typedValues } from "/static/values.js";
import { showAnswer, showChanges, showNotAssessed, showProblem, showWaiting } from "/static/show.js";

const data = JSON.parse(document.getElementById("page-data").textContent);
const patient = document.getElementById("patient");
const tokenField = document.getElementById("token");
const token = () => data.token ?? (tokenField ? tokenField.value.trim() : "");
let newest = 0; // an answer that comes after a newer question is not shown

async function ask(question, values) {
  const mine = ++newest;
  showWaiting(true);
  try {
    const answer = await question();
    if (mine !== newest) return;
    const [assessment] = answer.assessments;
    if (!assessment) {
      showNotAssessed(answer.not_assessed);
      return;
    }
    showAnswer(assessment, data);
    if (!values) fillForm(document.getElementById("values"), assessment.inputs);
    await change(assessment, values, mine);
  } catch (error) {
    if (mine === newest) showProblem(error);
  } finally {
    if (mine === newest) {
      showWaiting(false);
      if (matchMedia("(max-width: 880px)").matches) document.getElementById("result").scrollIntoView({ block: "start" });
    }
  }
}

// The same person with one thing changed, scored like any other; all of them in one request.
async function change(assessment, values, mine) {
  const base = values ?? Object.fromEntries(assessment.inputs.map((input) => [input.name, input.value]));
  const offered = alternatives(base);
  let changed = [];
  try {
    if (offered.length) changed = (await askValues(token(), offered.map((each) => each.values))).assessments;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error; // a token may allow the one and not the other
  }
  if (mine === newest) showChanges(assessment, offered, changed, data);
}

document.getElementById("choose")?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (patient.value) ask(() => askPatient(token(), patient.value.trim()));
});
if (patient?.tagName === "SELECT") {
  patient.addEventListener("change", () => {
    if (patient.value) ask(() => askPatient(token(), patient.value));
  });
}
document.getElementById("values").addEventListener("submit", (event) => {
  event.preventDefault();
  if (patient) patient.value = "";
  const values = typedValues(event.target);
  ask(() => askValues(token(), [values]), values);
});
