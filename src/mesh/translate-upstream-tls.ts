// tls of a DestinationRule → how a cluster's servers are reached: plain, by TLS, or by the mesh's own tunnel. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type DataSource,
  DataSourceSchema,
  type TransportSocket,
  TransportSocketSchema,
} from "#gen/xds/envoy/config/core/v3/base_pb.js";
import type { UpstreamHttpProtocolOptionsSchema } from "#gen/xds/envoy/config/core/v3/protocol_pb.js";
import {
  TlsParameters_TlsProtocol as Protocol,
  SubjectAltNameMatcher_SanType as SanType,
  CertificateValidationContext_SystemRootCertsSchema as SystemRootsSchema,
  type CertificateValidationContext as Validation,
  CertificateValidationContextSchema as ValidationSchema,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import {
  type CommonTlsContextSchema,
  UpstreamTlsContextSchema,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { adsSource, pack } from "./envoy.ts";
import type { PortPolicy } from "./policies.ts";
import { trustDomainsOf } from "./trust-domains.ts";
import type { Model } from "./types.ts";

type Tls = NonNullable<PortPolicy["tls"]>;

/** Whether endpoints in the mesh are reached by its tunnel: unless the rule says how else, or MeshConfig that it must (Istio: auto mTLS). */
export const usesTunnel = (tls: Tls | undefined, { settings }: Pick<Model, "settings">): boolean =>
  tls?.mode === undefined ? settings.enableAutoMtls !== false : tls.mode === "ISTIO_MUTUAL";

/** Identities that may answer for services of a namespace. */
export const identityPrefixes = (model: Model, namespace: string): string[] =>
  trustDomainsOf(model).map((domain) => `spiffe://${domain}/ns/${namespace}/sa/`);

/**
 * TLS towards the server itself, for endpoints without a tunnel. `defaultSni`: the cluster's name as one. `identities`: how those
 * begin that the mesh's own certificates may have, where the rule names none.
 */
export function upstreamTls(
  tls: Tls | undefined,
  defaultSni: string,
  identities: readonly string[],
): TransportSocket | undefined {
  switch (tls?.mode) {
    case "SIMPLE":
      return socketOf(tls.sni ?? "", { ...validationOf(tls) });
    case "MUTUAL":
      return socketOf(tls.sni ?? "", { ...validationOf(tls), ...certificateOf(tls) });
    case "ISTIO_MUTUAL":
      return socketOf(tls.sni || defaultSni, {
        tlsCertificateSdsSecretConfigs: [sds("default")],
        ...rootsOf("ROOTCA", tls.subjectAltNames?.length ? sanRules(tls) : identityRules(identities)),
        alpnProtocols: ["istio"],
      });
    default:
      return undefined;
  }
}

/** Without `sni` the request's host is the server name, and without `subjectAltNames` the certificate must be for it. */
export function serverNameOptions(
  tls: Tls | undefined,
): MessageInitShape<typeof UpstreamHttpProtocolOptionsSchema> | undefined {
  if ((tls?.mode !== "SIMPLE" && tls?.mode !== "MUTUAL") || tls.sni) return undefined;
  const isChecked = !tls.insecureSkipVerify && !tls.subjectAltNames?.length;
  return { autoSni: true, autoSanValidation: isChecked };
}

/** SDS names a rule's credentialName leads to; the certificate only for MUTUAL. */
export function clientCredentialNames(tls: Tls | undefined): string[] {
  if (!tls?.credentialName || (tls.mode !== "SIMPLE" && tls.mode !== "MUTUAL")) return [];
  const name = `kubernetes://${tls.credentialName}`;
  return [...(tls.mode === "MUTUAL" ? [name] : []), ...(tls.insecureSkipVerify ? [] : [`${name}-cacert`])];
}

type Common = Omit<MessageInitShape<typeof CommonTlsContextSchema>, "$typeName">;

const sds = (name: string) => ({ name, sdsConfig: adsSource });
const file = (path: string): DataSource => create(DataSourceSchema, { specifier: { case: "filename", value: path } });

function socketOf(sni: string, common: Common): TransportSocket {
  return create(TransportSocketSchema, {
    name: "envoy.transport_sockets.tls",
    configType: {
      case: "typedConfig",
      value: pack(UpstreamTlsContextSchema, {
        sni,
        commonTlsContext: { ...common, tlsParams: { tlsMinimumProtocolVersion: Protocol.TLSv1_2 } },
      }),
    },
  });
}

const sanRules = (tls: Tls): Validation =>
  create(ValidationSchema, {
    matchSubjectAltNames: (tls.subjectAltNames ?? []).map((name) => ({
      matchPattern: { case: "exact", value: name } as const,
    })),
  });

const identityRules = (prefixes: readonly string[]): Validation =>
  create(ValidationSchema, {
    matchTypedSubjectAltNames: prefixes.map((value) => ({
      sanType: SanType.URI,
      matcher: { matchPattern: { case: "prefix", value } as const },
    })),
  });

/** Roots: the named Secret, the named file, or the system's (Istio: VERIFY_CERTIFICATE_AT_CLIENT); nobody is checked if told so. */
function validationOf(tls: Tls): Pick<Common, "validationContextType"> {
  if (tls.insecureSkipVerify) return {};
  const rules = sanRules(tls);
  if (tls.credentialName) return rootsOf(`kubernetes://${tls.credentialName}-cacert`, rules);
  // By the name Istio's agent serves it under: a file that cannot be read is a secret that is missing.
  if (tls.caCertificates && !tls.caCrl) return rootsOf(`file-root:${tls.caCertificates}`, rules);
  if (tls.caCertificates) rules.trustedCa = file(tls.caCertificates);
  else rules.systemRootCerts = create(SystemRootsSchema);
  if (tls.caCrl) rules.crl = file(tls.caCrl);
  return { validationContextType: { case: "validationContext", value: rules } };
}

const rootsOf = (secret: string, rules: Validation): Pick<Common, "validationContextType"> => ({
  validationContextType: {
    case: "combinedValidationContext",
    value: { defaultValidationContext: rules, validationContextSdsSecretConfig: sds(secret) },
  },
});

function certificateOf(tls: Tls): Pick<Common, "tlsCertificateSdsSecretConfigs"> {
  if (tls.credentialName) return { tlsCertificateSdsSecretConfigs: [sds(`kubernetes://${tls.credentialName}`)] };
  if (!tls.clientCertificate || !tls.privateKey) return {};
  return { tlsCertificateSdsSecretConfigs: [sds(`file-cert:${tls.clientCertificate}~${tls.privateKey}`)] };
}
