// The floor plan: which room of src/ may import which. tools/tidy.ts checks it.

const planes = [
  "apiserver",
  "controllers",
  "scheduler",
  "host",
  "kubelet",
  "mesh",
  "proxy",
  "store",
  "identity",
  "xds",
  "client",
  "wire",
  "api",
  "kernel",
] as const;

/** Room → rooms it may import, besides itself. */
export const floorplan: Readonly<Record<string, readonly string[]>> = {
  kernel: [],
  wire: ["kernel"],
  api: ["kernel"],
  store: ["kernel"],
  identity: ["kernel"],
  xds: ["kernel"],
  client: ["kernel", "api"],
  apiserver: ["kernel", "api", "store", "identity"],
  controllers: ["kernel", "api", "client"],
  scheduler: ["kernel", "api", "client"],
  host: ["kernel"],
  kubelet: ["kernel", "api", "client", "host"],
  mesh: ["kernel", "api", "client", "identity", "xds"],
  proxy: ["kernel", "wire", "identity", "xds"],
  explain: ["kernel", "wire", "api", "client", "identity", "xds", "mesh", "proxy"],
  cluster: [...planes, "explain"],
  lab: ["kernel", "wire", "api", "client", "cluster"],
  console: ["kernel", "api", "client"],
  cli: [...planes, "explain", "cluster", "lab", "console"],
};

/** Lines of a file: above the cap the check fails. */
export const fileLinesMax = 500;

/** Files that are started, not imported: they may stand without an importer. */
export const entryFiles: readonly string[] = ["src/main.ts", "apps/video/web/main.ts", "apps/video/cache/main.ts"];
