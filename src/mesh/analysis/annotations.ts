// The annotations Istio knows (istio.io/api annotation), what they may stand on, and what their values may be.

export interface Annotation {
  /** Kinds it may stand on. */
  on: readonly string[];
  /** How its message goes on after "has been deprecated". */
  deprecated?: string;
  problemOf?(value: string): string | undefined;
}

const isBoolean = (value: string): string | undefined =>
  /^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)$/.test(value) ? undefined : `"${value}" is not true or false`;

const isInjection = (value: string): string | undefined =>
  /^(true|false|y|n|yes|no|on|off)$/i.test(value) ? undefined : `"${value}" is not true or false`;

const oneOf =
  (...values: string[]) =>
  (value: string): string | undefined =>
    values.includes(value) ? undefined : `"${value}" is none of ${values.join(", ")}`;

const number = (value: string): string | undefined => (/^\d+$/.test(value) ? undefined : `"${value}" is no number`);

const ports = (value: string): string | undefined => {
  if (value === "" || value === "*") return undefined;
  const bad = value.split(",").find((each) => !/^\d{1,5}$/.test(each.trim()) || Number(each) > 65535);
  return bad === undefined ? undefined : `"${bad}" is no port`;
};

const ranges = (value: string): string | undefined => {
  if (value === "" || value === "*") return undefined;
  const bad = value.split(",").find((each) => !/^[0-9a-fA-F.:]+\/\d{1,3}$/.test(each.trim()));
  return bad === undefined ? undefined : `"${bad}" is no range of addresses`;
};

const quantity = (value: string): string | undefined =>
  /^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi)?$/.test(value) ? undefined : `"${value}" is no quantity`;

const pod = ["Pod"] as const;
const any = ["Any"] as const;
const entry = ["WorkloadEntry"] as const;

const podAnnotation = (problemOf?: Annotation["problemOf"]): Annotation => ({
  on: pod,
  ...(problemOf && { problemOf }),
});
const old = (on: readonly string[]): Annotation => ({ on, deprecated: "" });

export const annotations: Readonly<Record<string, Annotation>> = {
  "ambient.istio.io/redirection": podAnnotation(),
  "ambient.istio.io/bypass-inbound-capture": podAnnotation(isBoolean),
  "alpha.istio.io/canonical-serviceaccounts": old(["Service"]),
  "alpha.istio.io/identity": old(pod),
  "alpha.istio.io/kubernetes-serviceaccounts": old(["Service"]),
  "galley.istio.io/analyze-suppress": { on: any },
  "inject.istio.io/templates": podAnnotation(),
  "install.operator.istio.io/chart-owner": { on: any },
  "install.operator.istio.io/owner-generation": { on: any },
  "install.operator.istio.io/version": { on: any },
  "internal.istio.io/parents": { on: any },
  "istio.io/autoRegistrationGroup": { on: entry },
  "istio.io/connectedAt": { on: entry },
  "istio.io/disconnectedAt": { on: entry },
  "istio.io/dry-run": { on: ["AuthorizationPolicy"], problemOf: isBoolean },
  "istio.io/rev": podAnnotation(),
  "istio.io/reroute-virtual-interfaces": podAnnotation(),
  "istio.io/use-waypoint": { on: any },
  "istio.io/workloadController": { on: entry },
  "kubernetes.io/ingress.class": { on: ["Ingress"] },
  "networking.istio.io/address-type": { on: ["Gateway"] },
  "networking.istio.io/exportTo": { on: ["Service"] },
  "networking.istio.io/service-type": { on: ["Gateway"] },
  "networking.istio.io/traffic-distribution": { on: ["Service", "ServiceEntry", "Namespace"] },
  "prometheus.istio.io/merge-metrics": podAnnotation(isBoolean),
  "proxy.istio.io/config": podAnnotation(),
  "proxy.istio.io/overrides": podAnnotation(),
  "readiness.status.sidecar.istio.io/applicationPorts": podAnnotation(ports),
  "readiness.status.sidecar.istio.io/failureThreshold": podAnnotation(number),
  "readiness.status.sidecar.istio.io/initialDelaySeconds": podAnnotation(number),
  "readiness.status.sidecar.istio.io/periodSeconds": podAnnotation(number),
  "sidecar.istio.io/agentLogLevel": podAnnotation(),
  "sidecar.istio.io/bootstrapOverride": podAnnotation(),
  "sidecar.istio.io/componentLogLevel": podAnnotation(),
  "sidecar.istio.io/controlPlaneAuthPolicy": old(pod),
  "sidecar.istio.io/discoveryAddress": old(pod),
  "sidecar.istio.io/enableCoreDump": podAnnotation(isBoolean),
  "sidecar.istio.io/extraStatTags": podAnnotation(),
  "sidecar.istio.io/inject": {
    on: pod,
    deprecated: ' in favor of the "sidecar.istio.io/inject" label',
    problemOf: isInjection,
  },
  "sidecar.istio.io/interceptionMode": podAnnotation(oneOf("REDIRECT", "TPROXY", "NONE")),
  "sidecar.istio.io/logLevel": podAnnotation(),
  "sidecar.istio.io/nativeSidecar": podAnnotation(isBoolean),
  "sidecar.istio.io/proxyCPU": podAnnotation(quantity),
  "sidecar.istio.io/proxyCPULimit": podAnnotation(quantity),
  "sidecar.istio.io/proxyImage": podAnnotation(),
  "sidecar.istio.io/proxyImageType": podAnnotation(),
  "sidecar.istio.io/proxyMemory": podAnnotation(quantity),
  "sidecar.istio.io/proxyMemoryLimit": podAnnotation(quantity),
  "sidecar.istio.io/rewriteAppHTTPProbers": podAnnotation(isBoolean),
  "sidecar.istio.io/statsCompression": podAnnotation(isBoolean),
  "sidecar.istio.io/statsHistogramBuckets": podAnnotation(),
  "sidecar.istio.io/statsInclusionPrefixes": old(pod),
  "sidecar.istio.io/statsInclusionRegexps": old(pod),
  "sidecar.istio.io/statsInclusionSuffixes": old(pod),
  "sidecar.istio.io/status": podAnnotation(),
  "sidecar.istio.io/userVolume": podAnnotation(),
  "sidecar.istio.io/userVolumeMount": podAnnotation(),
  "status.sidecar.istio.io/port": podAnnotation(number),
  "topology.istio.io/controlPlaneClusters": { on: ["Namespace"] },
  "traffic.istio.io/nodeSelector": { on: ["Service"] },
  "traffic.sidecar.istio.io/excludeInboundPorts": podAnnotation(ports),
  "traffic.sidecar.istio.io/excludeInterfaces": podAnnotation(),
  "traffic.sidecar.istio.io/excludeOutboundIPRanges": podAnnotation(ranges),
  "traffic.sidecar.istio.io/excludeOutboundPorts": podAnnotation(ports),
  "traffic.sidecar.istio.io/includeInboundPorts": podAnnotation(ports),
  "traffic.sidecar.istio.io/includeOutboundIPRanges": podAnnotation(ranges),
  "traffic.sidecar.istio.io/includeOutboundPorts": podAnnotation(ports),
  "traffic.sidecar.istio.io/kubevirtInterfaces": podAnnotation(),
};

/** In Istio's name, or the one of Kubernetes that Istio documents. */
export const isIstioAnnotation = (name: string): boolean =>
  name === "kubernetes.io/ingress.class" || /(^|\.)istio\.io\//.test(name);
