// Every code `analyze` can say: Istio's (its public list of analysis messages), with name and level, and our own (MB…).

import type { Level } from "./types.ts";

export interface MessageType {
  name: string;
  level: Level;
  description: string;
}

const type = (name: string, level: Level, description: string): MessageType => ({ name, level, description });

export const messages = {
  IST0001: type("InternalError", "Error", "A check failed; this is a bug in meshbed."),
  IST0002: type("Deprecated", "Warning", "The configuration depends on something deprecated."),
  IST0101: type("ReferencedResourceNotFound", "Error", "Something that is referred to does not exist."),
  IST0102: type("NamespaceNotInjected", "Info", "A namespace does not say whether its pods belong to the mesh."),
  IST0106: type("SchemaValidationError", "Error", "The API server would refuse the object."),
  IST0107: type("MisplacedAnnotation", "Warning", "An Istio annotation stands on a kind it does not apply to."),
  IST0108: type("UnknownAnnotation", "Warning", "An annotation in Istio's name that Istio does not know."),
  IST0109: type(
    "ConflictingMeshGatewayVirtualServiceHosts",
    "Error",
    "Several VirtualServices define one host in the mesh, where they do not merge.",
  ),
  IST0110: type("ConflictingSidecarWorkloadSelectors", "Error", "Several Sidecars select the same workload."),
  IST0111: type(
    "MultipleSidecarsWithoutWorkloadSelectors",
    "Error",
    "Several Sidecars of a namespace have no workload selector.",
  ),
  IST0112: type(
    "VirtualServiceDestinationPortSelectorRequired",
    "Error",
    "A route leads to a service with several ports and does not say which.",
  ),
  IST0113: type("MTLSPolicyConflict", "Error", "A DestinationRule and a PeerAuthentication disagree about mutual TLS."),
  IST0116: type(
    "DeploymentAssociatedToMultipleServices",
    "Warning",
    "Services with one port and different protocols select the same pods.",
  ),
  IST0118: type(
    "PortNameIsNotUnderNamingConvention",
    "Info",
    "Neither appProtocol nor the port's name says which protocol it speaks.",
  ),
  IST0119: type(
    "JwtFailureDueToInvalidServicePortPrefix",
    "Warning",
    "JWT rules for pods whose port is not known to speak HTTP.",
  ),
  IST0123: type("NamespaceMultipleInjectionLabels", "Warning", "A namespace has injection labels that contradict."),
  IST0125: type("InvalidAnnotation", "Warning", "The value of an Istio annotation is not valid."),
  IST0127: type("NoMatchingWorkloadsFound", "Warning", "A policy's selector fits no workload."),
  IST0128: type(
    "NoServerCertificateVerificationDestinationLevel",
    "Warning",
    "A DestinationRule starts TLS and does not say which CA to trust.",
  ),
  IST0129: type(
    "NoServerCertificateVerificationPortLevel",
    "Warning",
    "A DestinationRule starts TLS for a port and does not say which CA to trust.",
  ),
  IST0130: type("VirtualServiceUnreachableRule", "Warning", "A rule can never be used."),
  IST0131: type("VirtualServiceIneffectiveMatch", "Info", "A match is covered by an earlier one."),
  IST0132: type("VirtualServiceHostNotFoundInGateway", "Warning", "No server of the gateway has the host."),
  IST0133: type("SchemaWarning", "Warning", "Accepted, but the API server warns about it."),
  IST0134: type("ServiceEntryAddressesRequired", "Warning", "A TCP port of a ServiceEntry needs addresses."),
  IST0135: type("DeprecatedAnnotation", "Info", "The annotation is deprecated."),
  IST0137: type(
    "DeploymentConflictingPorts",
    "Warning",
    "Services lead to one container port from different service ports.",
  ),
  IST0138: type("GatewayDuplicateCertificate", "Warning", "Gateways share a certificate: HTTP/2 reuse may give 404s."),
  IST0140: type("IngressRouteRulesNotAffected", "Warning", "Subset rules of the mesh do not apply at the gateway."),
  IST0144: type("InvalidApplicationUID", "Warning", "User 1337 is reserved for Istio's proxy."),
  IST0145: type("ConflictingGateways", "Error", "Gateways have the same selector, port and host."),
  IST0146: type("ImageAutoWithoutInjectionWarning", "Warning", "`image: auto` outside of injection."),
  IST0147: type("ImageAutoWithoutInjectionError", "Error", "A pod with `image: auto` outside of injection."),
  IST0149: type(
    "JwtClaimBasedRoutingWithoutRequestAuthN",
    "Error",
    "Routing by claims at a gateway that validates no token.",
  ),
  IST0150: type(
    "ExternalNameServiceTypeInvalidPortName",
    "Warning",
    "A port of an ExternalName service is not named after a protocol.",
  ),
  IST0151: type("EnvoyFilterUsesRelativeOperation", "Warning", "A relative patch without a priority."),
  IST0152: type("EnvoyFilterUsesReplaceOperationIncorrectly", "Error", "REPLACE is for filters only."),
  IST0153: type("EnvoyFilterUsesAddOperationIncorrectly", "Error", "ADD is ignored for routes."),
  IST0154: type("EnvoyFilterUsesRemoveOperationIncorrectly", "Error", "REMOVE is ignored for routes."),
  IST0155: type(
    "EnvoyFilterUsesRelativeOperationWithProxyVersion",
    "Warning",
    "A relative patch without a priority, bound to a proxy version.",
  ),
  IST0157: type("InvalidTelemetryProvider", "Warning", "A Telemetry without providers is ignored."),
  IST0159: type("ConflictingTelemetryWorkloadSelectors", "Error", "Several Telemetries select the same workload."),
  IST0160: type(
    "MultipleTelemetriesWithoutWorkloadSelectors",
    "Error",
    "Several Telemetries of a namespace have no workload selector.",
  ),
  IST0161: type("InvalidGatewayCredential", "Error", "A gateway's certificate or key is not usable."),
  IST0162: type("GatewayPortNotDefinedOnService", "Warning", "The gateway's Service does not have the port."),
  IST0165: type("ReferencedInternalGateway", "Warning", "A gateway that the implementation made is referred to."),
  IST0166: type("IneffectiveSelector", "Warning", "Selectors have no effect on Gateway API gateways."),
  IST0167: type("IneffectivePolicy", "Warning", "The policy has no effect."),
  IST0171: type("NegativeConditionStatus", "Warning", "The object's own status says that something is wrong."),
  IST0173: type("DestinationRuleSubsetNotSelectPods", "Error", "A subset's labels fit no pod of the host."),
  IST0174: type("UnknownDestinationRuleHost", "Warning", "The host of a DestinationRule is no service of the mesh."),
  IST0177: type(
    "ConflictingServiceEntryProtocol",
    "Warning",
    "ServiceEntries give one host and port different protocols.",
  ),
  IST0178: type(
    "EnvoyFilterMayClearRouteCache",
    "Warning",
    "An EnvoyFilter adds a filter where policies depend on the route.",
  ),
  MB0001: type("UnreadableManifest", "Error", "The file is not YAML or not a Kubernetes object."),
  MB0002: type("KindNotServed", "Info", "The testbed does not serve the kind; it was not looked at."),
  MB0003: type("DuplicateObject", "Error", "The same object is given twice; the later one was looked at."),
  MB0101: type("NotCarriedOut", "Warning", "Accepted, but not or not wholly carried out by meshbed."),
  MB0102: type("Conflicting", "Warning", "Cannot be carried out beside something older."),
  MB0103: type("SubsetUnused", "Info", "No route leads to the subset: its policy is never applied."),
  MB0104: type("DestinationWithoutTraffic", "Info", "A destination has weight 0."),
  MB0105: type("FaultWithoutPercentage", "Warning", "A fault without a percentage is never injected."),
  MB0106: type(
    "MergesDifferently",
    "Warning",
    "VirtualServices for one host merge at the gateway but not in the mesh.",
  ),
  MB0107: type("TokenNotRequired", "Warning", "JWTs are validated but nothing demands one."),
  MB0108: type("PolicyOverridden", "Warning", "Another DestinationRule's traffic policy is used instead."),
  MB0109: type("HttpRuleOnTcpPort", "Warning", "Authorization rules about HTTP for a port that is not HTTP."),
  MB0110: type("HttpRoutesIgnored", "Warning", "HTTP routes for a host whose port is not HTTP are not used."),
  MB0111: type("ServiceSelectsNothing", "Warning", "A service's selector fits no workload."),
  MB0112: type("TargetPortNotFound", "Error", "No container has the port that the service names."),
  MB0113: type("GatewayWithoutRoutes", "Info", "No VirtualService is bound to the gateway: it answers 404."),
  MB0114: type("RuleWithoutEffect", "Warning", "The authorization policy denies everything, or nothing."),
  MB0115: type(
    "NotAccepted",
    "Error",
    "What a Gateway API object asks for is not accepted; the reason is its status's.",
  ),
} as const satisfies Record<string, MessageType>;

export type Code = keyof typeof messages;

export const isCode = (text: string): text is Code => Object.hasOwn(messages, text);

/** Istio's codes that are never said here, and why. */
export const notSaid: Readonly<Record<string, readonly [name: string, why: string]>> = {
  IST0103: ["PodMissingProxy", "sidecars are virtual: a pod joins and leaves the mesh without a restart"],
  IST0122: ["InvalidRegexp", "the API server refuses the pattern, so it is an error: IST0106"],
  IST0126: ["UnknownMeshNetworksServiceRegistry", "there is one cluster and one network"],
  IST0136: ["AlphaAnnotation", "Istio's own analyzers no longer say it"],
  IST0139: ["InvalidWebhook", "injection and validation are built in, there are no webhooks"],
  IST0141: ["InsufficientPermissions", "nothing is installed into a cluster"],
  IST0142: ["UnsupportedKubernetesVersion", "the API server is meshbed's own"],
  IST0143: ["LocalhostListener", "only a look into a running pod could tell; Istio retired the check"],
  IST0148: ["NamespaceInjectionEnabledByDefault", "there is no such installation option"],
  IST0156: ["UnsupportedGatewayAPIVersion", "the Gateway API's kinds are built in"],
  IST0158: ["PodsIstioProxyImageMismatchInNamespace", "there is no proxy image"],
  IST0163: ["InvalidExternalControlPlaneConfig", "there is no external control plane"],
  IST0164: ["ExternalControlPlaneAddressIsNotAHostname", "there is no external control plane"],
  IST0168: ["UnknownUpgradeCompatibility", "about upgrades of Istio"],
  IST0169: ["UpdateIncompatibility", "about upgrades of Istio"],
  IST0170: ["MultiClusterInconsistentService", "there is one cluster"],
  IST0175: ["JwksUriFetchUnrestricted", "keys are fetched by the proxies, within the testbed's network"],
  IST0176: ["GatewayAPICRDVersionBelowMinimum", "the Gateway API's kinds are built in"],
};

/** Where a code is explained. */
export function documentationUrl(code: Code): string {
  return code.startsWith("IST")
    ? `https://istio.io/latest/docs/reference/config/analysis/${code.toLowerCase()}/`
    : `docs/analyze.md#${code.toLowerCase()}`;
}
