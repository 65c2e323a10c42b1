// The name that was probably meant: the nearest of those there are.

/** Names further away than this share of their length are no suggestion. */
const distanceShareMax = 0.45;
/** Longer names are not compared letter by letter. */
const lengthMax = 256;

/** Edits (insert, delete, replace, swap neighbours) that make one text the other. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(row[j - 1]! + 1, last[j]! + 1, last[j - 1]! + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, beforeLast[j - 2]! + 1);
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

/** The nearest of `names`, or undefined when none is near. */
export function nearest(name: string, names: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const each of names) {
    const limit = Math.max(1, Math.floor(Math.max(name.length, each.length) * distanceShareMax));
    if (each === name || Math.abs(each.length - name.length) > limit || each.length > lengthMax) continue;
    const distance = editDistance(name.toLowerCase(), each.toLowerCase());
    if (distance <= limit && distance < bestDistance) [best, bestDistance] = [each, distance];
  }
  return best;
}

/** "did you mean …?", else the names there are, else what `none` says. */
export function didYouMean(name: string, names: Iterable<string>, none: string): string {
  const all = [...new Set(names)].sort();
  const near = nearest(name, all);
  if (near !== undefined) return `did you mean "${near}"?`;
  if (all.length === 0) return none;
  const shown = all.slice(0, 5).map((each) => `"${each}"`);
  return `there ${all.length === 1 ? "is" : "are"} ${shown.join(", ")}${all.length > shown.length ? ", …" : ""}`;
}
