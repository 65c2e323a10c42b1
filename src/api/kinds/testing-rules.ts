// Specs of Istio rules for tests: one that is right, with what the test is about put into it.

export const route = { route: [{ destination: { host: "web" } }] };
export const virtualService = (http: object, more: object = {}) => ({
  hosts: ["web"],
  http: [{ ...route, ...http }],
  ...more,
});
export const destinationRule = (policy: object, more: object = {}) => ({ host: "web", trafficPolicy: policy, ...more });
export const hash = (consistentHash: object) => destinationRule({ loadBalancer: { consistentHash } });
export const gateway = (server: object, port: object = {}) => ({
  servers: [{ hosts: ["a.test"], port: { number: 443, name: "tls", protocol: "HTTPS", ...port }, ...server }],
});
export const simple = { mode: "SIMPLE", credentialName: "c" };
export const entry = (more: object) => ({
  hosts: ["api.test"],
  ports: [{ number: 443, name: "tls", protocol: "TLS" }],
  ...more,
});
export const sidecar = (egress: object, more: object = {}) => ({ egress: [{ hosts: ["./*"], ...egress }], ...more });
export const ingress = (more: object) => ({
  ingress: [{ port: { number: 80, protocol: "HTTP", name: "http" }, ...more }],
});
export const patch = (more: object) => ({
  configPatches: [{ applyTo: "HTTP_FILTER", patch: { operation: "ADD", value: { name: "a" } }, ...more }],
});
export const custom = (rule: object) => ({ action: "CUSTOM", provider: { name: "p" }, rules: [rule] });
export const group = (probe: object) => ({ template: {}, probe });
