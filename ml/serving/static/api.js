// The API as any client calls it.

export class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? "The API did not answer as expected.");
    this.status = status;
    this.fields = problem?.errors ?? [];
  }
}

async function post(path, token, body) {
  if (!token) throw new Refusal(401, { detail: "An access token is needed." });
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST", credentials: "omit", cache: "no-store",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refusal(0, { detail: "The API cannot be reached." });
  }
  const said = await answer.json().catch(() => null);
  if (!answer.ok || !said) throw new Refusal(answer.status, said);
  return said;
}

export const askPatient = (token, patientKey) => post("/v1/risk", token, { patient_key: patientKey });

export const askValues = (token, people) => post("/v1/risk/score", token, { people: people.map((values) => ({ values })) });
