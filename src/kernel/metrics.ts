// Counters, gauges and histograms in Prometheus text format. A series is a plain object the hot path increments directly.

export type Labels = Readonly<Record<string, string>>;
export interface Counter {
  value: number;
}
export interface Histogram {
  /** Count per bucket, not cumulative; one more than `bounds` for +Inf. */
  readonly counts: Float64Array;
  readonly bounds: readonly number[];
  sum: number;
  /** The latest one of each bucket; undefined: none are kept. */
  exemplars?: (Exemplar | undefined)[];
}
export interface Exemplar {
  traceId: string;
  value: number;
}

export const newHistogram = (bounds: readonly number[]): Histogram => ({
  counts: new Float64Array(bounds.length + 1),
  bounds,
  sum: 0,
});

/** Adds one observation. */
export function observe(histogram: Histogram, value: number): void {
  const { bounds } = histogram;
  let i = 0;
  while (i < bounds.length && value > bounds[i]!) i++;
  histogram.counts[i]!++;
  histogram.sum += value;
}

/** Remembers which trace an observation belongs to; shown in OpenMetrics text only. */
export function keepExemplar(histogram: Histogram, value: number, traceId: string): void {
  const { bounds } = histogram;
  let i = 0;
  while (i < bounds.length && value > bounds[i]!) i++;
  histogram.exemplars ??= [];
  histogram.exemplars[i] = { traceId, value };
}

type Family =
  | { type: "counter" | "gauge"; help: string; series: Map<string, Counter> }
  | { type: "histogram"; help: string; bounds: readonly number[]; series: Map<string, Histogram> };

/** At most this many series per family; past it, series are merged into one with the label overflow="true". */
const seriesPerFamilyMax = 10_000;

function labelText(labels: Labels): string {
  let text = "";
  for (const key of Object.keys(labels)) {
    const value = labels[key]!.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
    text += `${text === "" ? "" : ","}${key}="${value}"`;
  }
  return text;
}

export class Metrics {
  readonly #families = new Map<string, Family>();

  /** The counter with exactly these labels, created on first use. Keep the returned object: look-ups are not for hot paths. */
  counter(name: string, help: string, labels: Labels = {}): Counter {
    return this.#scalar("counter", name, help, labels);
  }
  gauge(name: string, help: string, labels: Labels = {}): Counter {
    return this.#scalar("gauge", name, help, labels);
  }
  histogram(name: string, help: string, bounds: readonly number[], labels: Labels = {}): Histogram {
    let family = this.#families.get(name);
    if (!family) {
      family = { type: "histogram", help, bounds, series: new Map() };
      this.#families.set(name, family);
    }
    if (family.type !== "histogram") throw new Error(`metric ${name} is a ${family.type}`);
    return seriesOf(family.series, labels, () => newHistogram(bounds));
  }
  #scalar(type: "counter" | "gauge", name: string, help: string, labels: Labels): Counter {
    let family = this.#families.get(name);
    if (!family) {
      family = { type, help, series: new Map() };
      this.#families.set(name, family);
    }
    if (family.type === "histogram") throw new Error(`metric ${name} is a histogram`);
    return seriesOf(family.series, labels, () => ({ value: 0 }));
  }

  /** Whoever holds the series counts in vain from now on. */
  remove(name: string, labels: Labels): void {
    const family = this.#families.get(name);
    family?.series.delete(labelText(labels));
    if (family?.series.size === 0) this.#families.delete(name);
  }

  /** Every family in the Prometheus text exposition format 0.0.4, or in OpenMetrics 1.0, which also has exemplars. */
  expose(format: "prometheus" | "openmetrics" = "prometheus"): string {
    const open = format === "openmetrics";
    let text = "";
    for (const [name, family] of this.#families) {
      // A counter's family is called without the suffix of its samples.
      const called = open && family.type === "counter" ? name.replace(/_total$/, "") : name;
      text += `# HELP ${called} ${family.help}\n# TYPE ${called} ${family.type}\n`;
      if (family.type === "histogram")
        for (const [labels, series] of family.series) text += exposeHistogram(name, labels, series, open);
      else
        for (const [labels, series] of family.series)
          text += `${name}${labels === "" ? "" : `{${labels}}`} ${series.value}\n`;
    }
    return open ? `${text}# EOF\n` : text;
  }
}

function seriesOf<T>(series: Map<string, T>, labels: Labels, create: () => T): T {
  let key = labelText(labels);
  let found = series.get(key);
  if (found) return found;
  if (series.size >= seriesPerFamilyMax) {
    key = 'overflow="true"';
    found = series.get(key);
    if (found) return found;
  }
  found = create();
  series.set(key, found);
  return found;
}

function exposeHistogram(name: string, labels: string, histogram: Histogram, open: boolean): string {
  const exemplar = (bucket: number): string => {
    const kept = open ? histogram.exemplars?.[bucket] : undefined;
    return kept === undefined ? "" : ` # {trace_id="${kept.traceId}"} ${kept.value}`;
  };
  const prefix = labels === "" ? "" : `${labels},`;
  let text = "";
  let cumulative = 0;
  for (let i = 0; i < histogram.bounds.length; i++) {
    cumulative += histogram.counts[i]!;
    text += `${name}_bucket{${prefix}le="${histogram.bounds[i]}"} ${cumulative}${exemplar(i)}\n`;
  }
  cumulative += histogram.counts[histogram.bounds.length]!;
  const braces = labels === "" ? "" : `{${labels}}`;
  return `${text}${name}_bucket{${prefix}le="+Inf"} ${cumulative}${exemplar(histogram.bounds.length)}\n${name}_sum${braces} ${histogram.sum}\n${name}_count${braces} ${cumulative}\n`;
}
