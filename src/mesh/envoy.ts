// Small builders of Envoy messages that several translators need.

import { create, type DescMessage, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { Any, Duration } from "@bufbuild/protobuf/wkt";
import { AnySchema, DurationSchema } from "@bufbuild/protobuf/wkt";
import { type Address, AddressSchema } from "#gen/xds/envoy/config/core/v3/address_pb.js";
import {
  type Metadata,
  MetadataSchema,
  type TransportSocket,
  TransportSocketSchema,
} from "#gen/xds/envoy/config/core/v3/base_pb.js";
import { ApiVersion, type ConfigSource, ConfigSourceSchema } from "#gen/xds/envoy/config/core/v3/config_source_pb.js";
import { DownstreamTlsContextSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import {
  type FractionalPercent,
  FractionalPercent_DenominatorType,
  FractionalPercentSchema,
} from "#gen/xds/envoy/type/v3/percent_pb.js";

/** google.protobuf.Any of a message. */
export function pack<S extends DescMessage>(schema: S, init: MessageInitShape<S>): Any {
  const message = create(schema, init) as MessageShape<S>;
  return create(AnySchema, {
    typeUrl: `type.googleapis.com/${schema.typeName}`,
    value: toBinary(schema, message),
  });
}

export function durationOf(durationMs: number): Duration {
  const seconds = Math.trunc(durationMs / 1000);
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: Math.round((durationMs - seconds * 1000) * 1e6) });
}

export const tcpAddress = (address: string, port: number): Address =>
  create(AddressSchema, {
    address: { case: "socketAddress", value: { address, portSpecifier: { case: "portValue", value: port } } },
  });

/** "Ask the same ADS stream." */
export const adsSource: ConfigSource = create(ConfigSourceSchema, {
  configSourceSpecifier: { case: "ads", value: {} },
  resourceApiVersion: ApiVersion.V3,
  initialFetchTimeout: { seconds: 0n, nanos: 0 },
});

/** Metadata under "istio": identity for telemetry. */
export const istioMetadata = (fields: Metadata["filterMetadata"][string]): Metadata =>
  create(MetadataSchema, { filterMetadata: { istio: fields } });

export const downstreamTls = (init: MessageInitShape<typeof DownstreamTlsContextSchema>): TransportSocket =>
  create(TransportSocketSchema, {
    name: "envoy.transport_sockets.tls",
    configType: { case: "typedConfig", value: pack(DownstreamTlsContextSchema, init) },
  });

/** `percent` from 0 to 100, kept to a ten-thousandth. */
export const percentOf = (percent: number): FractionalPercent =>
  create(FractionalPercentSchema, {
    numerator: Math.round(percent * 10_000),
    denominator: FractionalPercent_DenominatorType.MILLION,
  });
