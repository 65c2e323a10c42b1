// Fields of Envoy's messages that the proxy takes and does not act on; a file that sets one is told so. Kept true by its test.

/** Message type → fields. `UPDATE=1 bun test src/proxy/bootstrap` writes it anew. */
export const fieldsWithoutEffect: Readonly<Record<string, readonly string[]>> = {
  "envoy.config.listener.v3.Listener": ["filter_chain_matcher", "per_connection_buffer_limit_bytes", "deprecated_v1", "drain_type", "listener_filters_timeout", "continue_on_listener_filters_timeout", "transparent", "freebind", "socket_options", "tcp_fast_open_queue_length", "udp_listener_config", "api_listener", "connection_balance_config", "enable_reuse_port", "tcp_backlog_size", "max_connections_to_accept_per_socket_event", "internal_listener", "enable_mptcp", "ignore_global_conn_limit", "bypass_overload_manager"],
  "envoy.config.listener.v3.FilterChain": ["use_proxy_proto", "transport_socket_connect_timeout", "on_demand_configuration"],
  "envoy.config.listener.v3.FilterChainMatch": ["suffix_len"],
  "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": ["scoped_routes", "add_user_agent", "http3_protocol_options", "scheme_header_transformation", "drain_timeout", "delayed_close_timeout", "access_log_flush_interval", "flush_access_log_on_new_request", "access_log_options", "original_ip_detection_extensions", "early_header_mutation_extensions", "represent_ipv4_remote_address_as_ipv4_mapped_ipv6", "normalize_path", "merge_slashes", "request_id_extension", "stream_error_on_invalid_http_message", "path_normalization_options", "proxy_status_config", "typed_header_validation_config", "append_local_overload", "add_proxy_protocol_connection_state"],
  "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter": ["config_discovery"],
  "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": ["on_demand", "downstream_idle_timeout", "upstream_idle_timeout", "tunneling_config", "access_log_flush_interval", "flush_access_log_on_connected", "access_log_options"],
  "envoy.extensions.filters.http.router.v3.Router": ["dynamic_stats", "start_child_span", "upstream_log", "upstream_log_options", "strict_check_headers", "respect_expected_rq_timeout", "suppress_grpc_request_failure_code_stats", "upstream_http_filters"],
  "envoy.config.core.v3.HttpProtocolOptions": ["headers_with_underscores_action"],
  "envoy.config.core.v3.Http1ProtocolOptions": ["allow_absolute_url", "accept_http_10", "default_host_for_http_10", "header_key_format", "allow_chunked_length", "override_stream_error_on_invalid_http_message", "send_fully_qualified_url", "use_balsa_parser", "allow_custom_methods"],
  "envoy.config.core.v3.SocketAddress": ["named_port", "resolver_name", "ipv4_compat"],
  "envoy.config.route.v3.RouteConfiguration": ["vhds", "internal_only_headers", "validate_clusters", "cluster_specifier_plugins", "ignore_port_in_host_matching", "ignore_path_parameters_in_path_matching"],
  "envoy.config.route.v3.VirtualHost": ["virtual_clusters", "include_request_attempt_count", "include_attempt_count_in_response", "retry_policy_typed_config", "hedge_policy", "include_is_timeout_retry_header", "per_request_buffer_limit_bytes"],
  "envoy.config.route.v3.Route": ["filter_action", "non_forwarding_action", "per_request_buffer_limit_bytes"],
  "envoy.config.route.v3.RouteMatch": [],
  "envoy.config.route.v3.RouteAction": ["cluster_specifier_plugin", "inline_cluster_specifier_plugin", "early_data_policy", "retry_policy_typed_config", "max_grpc_timeout", "grpc_timeout_offset", "internal_redirect_policy", "internal_redirect_action", "max_internal_redirects", "hedge_policy"],
  "envoy.config.route.v3.RedirectAction": [],
  "envoy.config.route.v3.WeightedCluster": ["runtime_key_prefix"],
  "envoy.config.route.v3.WeightedCluster.ClusterWeight": [],
  "envoy.config.route.v3.RetryPolicy": ["per_try_idle_timeout", "retry_priority", "retry_options_predicates", "host_selection_retry_max_attempts"],
  "envoy.config.route.v3.HeaderMatcher": [],
  "envoy.config.cluster.v3.Cluster": ["transport_socket_matches", "alt_stat_name", "per_connection_buffer_limit_bytes", "respect_dns_ttl", "dns_resolvers", "use_tcp_for_dns_lookups", "dns_resolution_config", "typed_dns_resolver_config", "wait_for_warm_on_init", "cleanup_interval", "upstream_bind_config", "original_dst_lb_config", "protocol_selection", "upstream_connection_options", "close_connections_on_host_health_failure", "ignore_health_on_host_removal", "lrs_server", "lrs_report_endpoint_metrics", "track_timeout_budgets", "upstream_config", "track_cluster_stats", "preconnect_policy", "connection_pool_per_downstream_connection"],
  "envoy.config.cluster.v3.Cluster.CommonLbConfig": ["zone_aware_lb_config", "update_merge_window", "ignore_new_hosts_until_first_hc", "close_connections_on_host_set_change", "override_host_status"],
  "envoy.config.cluster.v3.CircuitBreakers": ["per_host_thresholds"],
  "envoy.config.cluster.v3.CircuitBreakers.Thresholds": ["max_connection_pools"],
  "envoy.config.cluster.v3.OutlierDetection": [],
  "envoy.config.core.v3.HealthCheck": ["reuse_connection", "grpc_health_check", "custom_health_check", "event_log_path", "event_logger", "event_service", "always_log_health_check_failures", "always_log_health_check_success", "tls_options", "transport_socket_match_criteria"],
  "envoy.config.core.v3.HealthCheck.HttpHealthCheck": ["response_buffer_size"],
  "envoy.config.endpoint.v3.ClusterLoadAssignment": ["named_endpoints"],
  "envoy.config.endpoint.v3.LocalityLbEndpoints": ["load_balancer_endpoints", "leds_cluster_locality_config", "proximity"],
  "envoy.config.endpoint.v3.LbEndpoint": ["endpoint_name"],
  "envoy.config.endpoint.v3.Endpoint": [],
  "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext": ["disable_stateful_session_resumption", "session_timeout", "ocsp_staple_policy", "full_scan_certs_on_sni_mismatch"],
  "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext": ["allow_renegotiation", "max_session_keys", "enforce_rsa_key_usage"],
  "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext": ["tls_certificate_provider_instance", "tls_certificate_certificate_provider", "tls_certificate_certificate_provider_instance", "custom_handshaker", "key_log"],
  "envoy.extensions.transport_sockets.tls.v3.TlsParameters": [],
  "envoy.extensions.transport_sockets.tls.v3.TlsCertificate": ["watched_directory", "ocsp_staple", "signed_certificate_timestamp"],
  "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext": ["watched_directory", "require_signed_certificate_timestamp", "only_verify_leaf_cert_crl", "max_verify_depth"],
  "envoy.extensions.filters.http.fault.v3.HTTPFault": ["delay_percent_runtime", "abort_percent_runtime", "delay_duration_runtime", "abort_http_status_runtime", "max_active_faults_runtime", "response_rate_limit_percent_runtime", "abort_grpc_status_runtime", "disable_downstream_cluster_stats"],
  "envoy.config.accesslog.v3.AccessLog": [],
};

/** Inspectors of listeners: the first bytes are looked at wherever a filter chain match needs it. */
const inspectors = /\.(tls_inspector\.v3\.TlsInspector|http_inspector\.v3\.HttpInspector)$/;

/** Values of these fields that ask for what the proxy does in any case. */
export function isAlwaysSo(field: string, value: unknown): boolean {
  switch (field) {
    case "codec_type":
      return value === "AUTO" || value === "HTTP1";
    case "normalize_path":
    case "merge_slashes":
    case "accept_http_10":
    case "enable_reuse_port":
    case "validate_clusters":
      return value === true;
    case "listener_filters":
      return (
        Array.isArray(value) &&
        value.every((filter) =>
          inspectors.test(String(filter?.typed_config?.["@type"] ?? filter?.typedConfig?.["@type"])),
        )
      );
    default:
      return false;
  }
}
