// Counters, gauges and histograms in the Prometheus text format, nothing more.

/** Label sets per metric; more are added up under {overflow="true"} so that a hostile client cannot fill the memory. */
const seriesMax = 500;

const durationBucketsSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

type Labels = Record<string, string | number>;

function labelText(labels: Labels): string {
  const parts = Object.entries(labels).map(
    ([name, value]) => `${name}="${String(value).replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`))}"`,
  );
  return parts.join(",");
}

interface Histogram {
  counts: number[];
  sum: number;
  count: number;
}

export interface Metrics {
  count(name: string, help: string, labels?: Labels, by?: number): void;
  observeSeconds(name: string, help: string, labels: Labels, seconds: number): void;
  /** Read at each scrape. */
  gauge(name: string, help: string, read: () => number): void;
  text(): string;
}

export function createMetrics(): Metrics {
  const helps = new Map<string, { help: string; type: string }>();
  const counters = new Map<string, Map<string, number>>();
  const histograms = new Map<string, Map<string, Histogram>>();
  const gauges = new Map<string, () => number>();

  function seriesOf<T>(all: Map<string, Map<string, T>>, name: string, labels: Labels): [Map<string, T>, string] {
    let series = all.get(name);
    if (series === undefined) {
      series = new Map();
      all.set(name, series);
    }
    const text = labelText(labels);
    return series.has(text) || series.size < seriesMax ? [series, text] : [series, 'overflow="true"'];
  }

  function histogramLines(name: string, labels: string, histogram: Histogram): string {
    const separator = labels === "" ? "" : ",";
    let cumulative = 0;
    let text = "";
    durationBucketsSeconds.forEach((bound, i) => {
      cumulative += histogram.counts[i] ?? 0;
      text += `${name}_bucket{${labels}${separator}le="${bound}"} ${cumulative}\n`;
    });
    text += `${name}_bucket{${labels}${separator}le="+Inf"} ${histogram.count}\n`;
    return `${text}${name}_sum{${labels}} ${histogram.sum}\n${name}_count{${labels}} ${histogram.count}\n`;
  }

  return {
    count(name, help, labels = {}, by = 1) {
      if (!helps.has(name)) helps.set(name, { help, type: "counter" });
      const [series, text] = seriesOf(counters, name, labels);
      series.set(text, (series.get(text) ?? 0) + by);
    },
    observeSeconds(name, help, labels, seconds) {
      if (!helps.has(name)) helps.set(name, { help, type: "histogram" });
      const [series, text] = seriesOf(histograms, name, labels);
      let histogram = series.get(text);
      if (histogram === undefined) {
        histogram = { counts: new Array<number>(durationBucketsSeconds.length).fill(0), sum: 0, count: 0 };
        series.set(text, histogram);
      }
      const bucket = durationBucketsSeconds.findIndex((bound) => seconds <= bound);
      if (bucket >= 0) histogram.counts[bucket] = (histogram.counts[bucket] ?? 0) + 1;
      histogram.sum += seconds;
      histogram.count += 1;
    },
    gauge(name, help, read) {
      helps.set(name, { help, type: "gauge" });
      gauges.set(name, read);
    },
    text() {
      let text = "";
      for (const [name, { help, type }] of helps) {
        text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
        for (const [labels, value] of counters.get(name) ?? []) {
          text += labels === "" ? `${name} ${value}\n` : `${name}{${labels}} ${value}\n`;
        }
        for (const [labels, value] of histograms.get(name) ?? []) text += histogramLines(name, labels, value);
        const read = gauges.get(name);
        if (read !== undefined) text += `${name} ${read()}\n`;
      }
      return text;
    },
  };
}
