// HTML by tagged template: whatever is put in is escaped, unless it is HTML made here.

export class Html {
  constructor(readonly text: string) {}
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

type Value = string | number | Html | false | undefined | null | readonly Value[];

function render(value: Value): string {
  if (value instanceof Html) return value.text;
  if (value === false || value === undefined || value === null) return "";
  if (typeof value === "string") return escapeHtml(value);
  return typeof value === "number" ? String(value) : value.map(render).join("");
}

export function html(strings: TemplateStringsArray, ...values: Value[]): Html {
  let text = strings[0] ?? "";
  for (const [i, value] of values.entries()) text += render(value) + (strings[i + 1] ?? "");
  return new Html(text);
}
