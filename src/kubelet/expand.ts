// $(VAR) references in env values, commands and arguments (Kubernetes' third_party/forked/golang/expansion). Pure.

/** `$(NAME)` → the value, or itself when unknown; `$$(NAME)` → `$(NAME)` untouched; `$$` → `$`. */
export function expand(text: string, lookup: (name: string) => string | undefined): string {
  if (!text.includes("$")) return text;
  let result = "";
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== "$" || i + 1 >= text.length) {
      result += text[i];
      continue;
    }
    const next = text[i + 1];
    if (next === "$") {
      result += "$";
      i++;
    } else if (next === "(") {
      const end = text.indexOf(")", i + 2);
      if (end < 0) {
        result += "$(";
        i++;
        continue;
      }
      const name = text.slice(i + 2, end);
      result += lookup(name) ?? `$(${name})`;
      i = end;
    } else {
      result += `$${next}`;
      i++;
    }
  }
  return result;
}
