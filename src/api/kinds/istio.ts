// Gateway, VirtualService and DestinationRule (networking.istio.io). Their rules live beside, one file per kind.

import type { DestinationRule, Gateway, VirtualService } from "../types.ts";
import { ageColumn, column, define, nameColumn } from "./define.ts";
import { validateDestinationRule } from "./destination-rule-validation.ts";
import { validateGateway } from "./gateway-validation.ts";
import { destinationRuleWarnings, gatewayWarnings, virtualServiceWarnings } from "./istio-warnings.ts";
import { validateVirtualService } from "./virtual-service-validation.ts";

const group = "networking.istio.io";
const common = {
  group,
  version: "v1",
  servedVersions: ["v1", "v1beta1", "v1alpha3"],
  categories: ["istio-io", "networking-istio-io"],
  hasStatus: true,
} as const;

/** An array as a custom resource's printer column shows it; nothing when absent. */
const listText = (list: readonly string[] | undefined): string => (list === undefined ? "" : JSON.stringify(list));

export const gatewayKind = define<Gateway>({
  ...common,
  kind: "Gateway",
  plural: "gateways",
  shortNames: ["gw"],
  schemaName: "io.istio.networking.v1.Gateway",
  columns: [nameColumn, ageColumn],
  validate: validateGateway,
  warn: gatewayWarnings,
});

export const virtualServiceKind = define<VirtualService>({
  ...common,
  kind: "VirtualService",
  plural: "virtualservices",
  shortNames: ["vs"],
  schemaName: "io.istio.networking.v1.VirtualService",
  columns: [
    nameColumn,
    column("Gateways", (o) => listText(o.spec?.gateways), {
      description: "The names of gateways and sidecars that should apply these routes",
    }),
    column("Hosts", (o) => listText(o.spec?.hosts), {
      description: "The destination hosts to which traffic is being sent",
    }),
    ageColumn,
  ],
  validate: validateVirtualService,
  warn: virtualServiceWarnings,
});

export const destinationRuleKind = define<DestinationRule>({
  ...common,
  kind: "DestinationRule",
  plural: "destinationrules",
  shortNames: ["dr"],
  schemaName: "io.istio.networking.v1.DestinationRule",
  columns: [
    nameColumn,
    column("Host", (o) => o.spec?.host ?? "", { description: "The name of a service from the service registry" }),
    ageColumn,
  ],
  validate: validateDestinationRule,
  warn: destinationRuleWarnings,
});
