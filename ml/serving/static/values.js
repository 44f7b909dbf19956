// From a form to features, and from one person to the same person with one thing changed.

const PRESSURES = ["systolic", "diastolic"];

// One reading, taken today, is the newest and the mean of the year at once; what is left empty is not sent.
export function typedValues(form) {
  const values = {};
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") values[field.name] = field.checked;
    else if (field.type === "number" && field.value !== "") values[field.name] = Number(field.value);
    else if (field.tagName === "SELECT" && field.value !== "") values[field.name] = field.value;
  }
  for (const kind of PRESSURES) {
    const newest = values[`${kind}_last_mmhg`];
    if (newest !== undefined) values[`${kind}_mean_12m_mmhg`] = newest;
  }
  if (values.systolic_last_mmhg !== undefined && values.diastolic_last_mmhg !== undefined) {
    values.pulse_pressure_last_mmhg = values.systolic_last_mmhg - values.diastolic_last_mmhg;
    values.blood_pressure_count_12m = 1;
    values.blood_pressure_age_days = 0;
  }
  return values;
}

// The other way round: a patient's inputs as if they had been typed, ready to be changed by hand.
export function fillForm(form, inputs) {
  const known = new Map(inputs.map((input) => [input.name, input.value]));
  for (const field of form.elements) {
    if (!known.has(field.name)) continue;
    const value = known.get(field.name);
    if (field.type === "checkbox") field.checked = value === true;
    else if (field.type === "number") field.value = isNumber(value) ? Number(value.toFixed(2)) : "";
    else field.value = [...field.options].some((option) => option.value === value) ? value : field.options[0].value;
  }
}

const withPressure = (values, systolic, diastolic) => {
  const changed = { ...values };
  for (const [kind, by] of [["systolic", systolic], ["diastolic", diastolic]]) {
    for (const name of [`${kind}_last_mmhg`, `${kind}_mean_12m_mmhg`]) if (isNumber(values[name])) changed[name] = values[name] + by;
  }
  if (isNumber(values.pulse_pressure_last_mmhg)) changed.pulse_pressure_last_mmhg = values.pulse_pressure_last_mmhg + systolic - diastolic;
  return changed;
};
const withMass = (values, by) => ({ ...values, bmi_last_kg_m2: values.bmi_last_kg_m2 + by });
const withoutSmoke = (values) => ({ ...values, smoking_status: "former" });
const isNumber = (value) => typeof value === "number";

// Changes that make sense for this person; all of them together last, where there are several.
export function alternatives(values) {
  const known = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null && value !== undefined));
  const offered = [];
  if (isNumber(known.systolic_last_mmhg) && known.systolic_last_mmhg >= 110 && known.diastolic_last_mmhg >= 65) {
    offered.push({ text: "Blood pressure lower by 10/5 mmHg", change: (base) => withPressure(base, -10, -5) });
  }
  if (isNumber(known.bmi_last_kg_m2) && known.bmi_last_kg_m2 >= 22) {
    offered.push({ text: "Body mass index lower by 2 kg/m²", change: (base) => withMass(base, -2) });
  }
  if (known.smoking_status === "current") offered.push({ text: "No longer smoking", change: withoutSmoke });
  if (offered.length > 1) {
    const all = offered.map((each) => each.change);
    offered.push({ text: "All of these", change: (base) => all.reduce((changed, change) => change(changed), base) });
  }
  if (isNumber(known.systolic_last_mmhg) && known.systolic_last_mmhg <= 150) {
    offered.push({ text: "Blood pressure higher by 10/5 mmHg", change: (base) => withPressure(base, 10, 5) });
  }
  return offered.map(({ text, change }) => ({ text, values: change(known) }));
}
