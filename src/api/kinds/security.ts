// AuthorizationPolicy, PeerAuthentication and RequestAuthentication (security.istio.io). Their rules live beside.

import type { AuthorizationPolicy, PeerAuthentication, RequestAuthentication } from "../types.ts";
import { validatePeerAuthentication, validateRequestAuthentication } from "./authentication-validation.ts";
import { validateAuthorizationPolicy } from "./authorization-policy-validation.ts";
import { ageColumn, column, define, nameColumn } from "./define.ts";
import {
  authorizationPolicyWarnings,
  peerAuthenticationWarnings,
  requestAuthenticationWarnings,
} from "./istio-warnings.ts";

const common = {
  group: "security.istio.io",
  version: "v1",
  servedVersions: ["v1", "v1beta1"],
  categories: ["istio-io", "security-istio-io"],
  hasStatus: true,
} as const;

export const authorizationPolicyKind = define<AuthorizationPolicy>({
  ...common,
  kind: "AuthorizationPolicy",
  plural: "authorizationpolicies",
  shortNames: ["ap"],
  schemaName: "io.istio.security.v1.AuthorizationPolicy",
  columns: [
    nameColumn,
    column("Action", (o) => o.spec?.action ?? "", { description: "The operation to take." }),
    ageColumn,
  ],
  validate: validateAuthorizationPolicy,
  warn: authorizationPolicyWarnings,
});

export const peerAuthenticationKind = define<PeerAuthentication>({
  ...common,
  kind: "PeerAuthentication",
  plural: "peerauthentications",
  shortNames: ["pa"],
  schemaName: "io.istio.security.v1.PeerAuthentication",
  columns: [
    nameColumn,
    column("Mode", (o) => o.spec?.mtls?.mode ?? "", {
      description: "Defines the mTLS mode used for peer authentication.",
    }),
    ageColumn,
  ],
  validate: validatePeerAuthentication,
  warn: peerAuthenticationWarnings,
});

export const requestAuthenticationKind = define<RequestAuthentication>({
  ...common,
  kind: "RequestAuthentication",
  plural: "requestauthentications",
  shortNames: ["ra"],
  schemaName: "io.istio.security.v1.RequestAuthentication",
  columns: [nameColumn, ageColumn],
  validate: validateRequestAuthentication,
  warn: requestAuthenticationWarnings,
});
