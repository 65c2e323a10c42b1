// The shapes of Istio's security kinds. The library spells out every combination of oneofs; these are the same fields, each optional.

/** Which pods of the namespace (of all namespaces, in the root namespace) a policy is about; absent: all. */
export interface WorkloadSelector {
  matchLabels?: Record<string, string>;
}

export interface PolicyTargetRef {
  group?: string;
  kind: string;
  name: string;
  namespace?: string;
}

/** What a policy is attached to: the pods of a selector, or what it names; nothing: the whole namespace. */
export interface Attached {
  selector?: WorkloadSelector;
  targetRef?: PolicyTargetRef;
  targetRefs?: PolicyTargetRef[];
}

interface Conditions {
  conditions?: { type?: string; status?: string; reason?: string; message?: string }[];
  [field: string]: unknown;
}

interface SecurityObject<Spec> {
  apiVersion?: string;
  kind?: string;
  metadata?: object;
  spec?: Spec;
  status?: Conditions;
}

export type IAuthorizationPolicy = SecurityObject<AuthorizationPolicySpec>;
export type IPeerAuthentication = SecurityObject<PeerAuthenticationSpec>;
export type IRequestAuthentication = SecurityObject<RequestAuthenticationSpec>;

export interface AuthorizationPolicySpec extends Attached {
  /** ALLOW unless said. */
  action?: "ALLOW" | "DENY" | "AUDIT" | "CUSTOM";
  provider?: { name?: string };
  rules?: AuthorizationRule[];
}

/** Matches when one of `from`, one of `to` and all of `when` do; what is absent matches. */
export interface AuthorizationRule {
  from?: { source?: Source }[];
  to?: { operation?: Operation }[];
  when?: Condition[];
}

export interface Source {
  principals?: string[];
  notPrincipals?: string[];
  requestPrincipals?: string[];
  notRequestPrincipals?: string[];
  namespaces?: string[];
  notNamespaces?: string[];
  serviceAccounts?: string[];
  notServiceAccounts?: string[];
  ipBlocks?: string[];
  notIpBlocks?: string[];
  remoteIpBlocks?: string[];
  notRemoteIpBlocks?: string[];
}

export interface Operation {
  hosts?: string[];
  notHosts?: string[];
  ports?: string[];
  notPorts?: string[];
  methods?: string[];
  notMethods?: string[];
  paths?: string[];
  notPaths?: string[];
}

export interface Condition {
  key: string;
  values?: string[];
  notValues?: string[];
}

export type MutualTlsMode = "UNSET" | "DISABLE" | "PERMISSIVE" | "STRICT";

export interface PeerAuthenticationSpec {
  selector?: WorkloadSelector;
  mtls?: { mode?: MutualTlsMode };
  /** By container port. */
  portLevelMtls?: Record<string, { mode?: MutualTlsMode }>;
}

export interface RequestAuthenticationSpec extends Attached {
  jwtRules?: JwtRule[];
}

export interface JwtRule {
  issuer?: string;
  audiences?: string[];
  jwks?: string;
  jwksUri?: string;
  /** The older spelling of jwksUri. */
  jwks_uri?: string;
  fromHeaders?: { name: string; prefix?: string }[];
  fromParams?: string[];
  fromCookies?: string[];
  outputPayloadToHeader?: string;
  outputClaimToHeaders?: { header: string; claim: string }[];
  forwardOriginalToken?: boolean;
  spaceDelimitedClaims?: string[];
  timeout?: string;
}
