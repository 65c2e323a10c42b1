// A process of the benchmark that is ours: the backend, a meshbed proxy as a gateway or as one end of a mutual TLS tunnel, or what
// configures one. Started with one JSON argument. Each role loads only what it needs: its memory is measured.

export type Role =
  | { role: "backend"; port: number }
  | ({ role: "gateway" } & GatewayFacts)
  /** A gateway that gets its configuration over ADS from a `controlPlane`, as in a mesh. */
  | ({ role: "meshGateway" } & AdsFacts)
  | ({ role: "controlPlane"; gateway: GatewayFacts } & AdsFacts)
  | { role: "tunnelClient"; port: number; tunnelPort: number; backendPort: number; pem: string; ca: string }
  | { role: "tunnelServer"; tunnelPort: number; backendPort: number; pem: string; ca: string };

export type RoleOf<Name extends Role["role"]> = Role & { role: Name };

export interface AdsFacts {
  adsPort: number;
  /** PEM files: this side's certificate and key, and the authority both trust. */
  pem: string;
  ca: string;
}

export interface GatewayFacts {
  port: number;
  backendPort: number;
  /** PEM of certificate and key: the port speaks TLS. */
  pem?: string;
  /** Routes before the one for everything. */
  routes?: number;
  /** Clusters that get no traffic. */
  idleClusters?: number;
  telemetry?: TelemetryFacts;
}

/** Absent: Istio's metrics, no access log, no tracing. */
export interface TelemetryFacts {
  metrics?: false;
  /** A file, in Envoy's default format. */
  accessLog?: string;
  /** Share of requests traced, with spans sent over OTLP to the backend. */
  tracedPercent?: number;
}

if (import.meta.main) {
  const role = JSON.parse(process.argv[2]!) as Role;
  if (role.role === "backend") (await import("./backend.ts")).serveBackend(role.port);
  else if (role.role === "meshGateway") await (await import("./mesh_gateway.ts")).startMeshGateway(role);
  else if (role.role === "controlPlane") await (await import("./control_plane.ts")).startControlPlane(role);
  else if (role.role === "gateway") await (await import("./gateway.ts")).startGateway(role);
  else if (role.role === "tunnelServer") await (await import("./tunnel.ts")).startTunnelServer(role);
  else await (await import("./tunnel.ts")).startTunnelClient(role);
}
