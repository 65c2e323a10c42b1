// Configurations of nginx and HAProxy that do the same work: keep-alive to the upstream, request id, forwarding headers, no access log.

/** Names of the two parties in the tunnel's certificates. */
export const spiffe = (account: string): string => `spiffe://cluster.local/ns/test/sa/${account}`;

/** What the issue compares: a request through a gateway, and two proxies with mutual TLS between them. */
export interface RivalFacts {
  folder: string;
  port: number;
  backendPort: number;
  /** PEM of certificate and key: the port speaks TLS. */
  pem: string | undefined;
  /** Routes before the one that matches. */
  routes: number;
  connectionsMax: number;
}

/** Both sides of a comparison use this suite; without a word OpenSSL takes AES-256, BoringSSL AES-128. */
const tlsSuite = "TLS_AES_128_GCM_SHA256";

export const routePath = (index: number): string => `/route-${index}/`;

/** Everything not named is nginx's default: answers are buffered, and uploads are read whole before they are passed on. */
export function nginxConfiguration({ folder, port, backendPort, pem, routes, connectionsMax }: RivalFacts): string {
  const proxyTo = (path: string): string => `location ${path} { proxy_pass http://app; }`;
  const locations = Array.from({ length: routes }, (_, i) => proxyTo(routePath(i)));
  return `
daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/nginx.error.log crit;
${process.getuid?.() === 0 ? "user root;" : ""}
events { worker_connections ${connectionsMax * 2 + 64}; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u;
  scgi_temp_path ${folder}/s;
  upstream app { server 127.0.0.1:${backendPort}; keepalive 64; keepalive_requests 100000000; }
  proxy_http_version 1.1;
  proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Request-Id $request_id;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
  server {
    listen 127.0.0.1:${port}${pem ? " ssl" : ""};
    ${pem ? `ssl_certificate ${pem}; ssl_certificate_key ${pem}; ssl_protocols TLSv1.2 TLSv1.3; ssl_conf_command Ciphersuites ${tlsSuite};` : ""}
    ${locations.join("\n    ")}
    ${proxyTo("/")}
  }
}
`;
}

const haproxyCommon = ({ connectionsMax, splice }: { connectionsMax: number; splice: boolean }): string => `
global
  nbthread 1
  maxconn ${connectionsMax + 64}
  ssl-default-bind-ciphersuites ${tlsSuite}
  ssl-default-server-ciphersuites ${tlsSuite}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  ${splice ? "option splice-auto" : ""}
`;

const haproxyEdge = `
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  http-request set-header x-forwarded-proto %[ssl_fc,iif(https,http)]
`;

/** What HAProxy's manual advises for many routes: a map file, which it keeps as a tree. */
export const haproxyMap = (routes: number): string =>
  Array.from({ length: routes }, (_, i) => `${routePath(i)} app\n`).join("");

export function haproxyConfiguration(facts: RivalFacts & { splice: boolean; map: string }): string {
  const { port, backendPort, pem, routes, map } = facts;
  return `${haproxyCommon(facts)}
frontend in
  bind 127.0.0.1:${port}${pem ? ` ssl crt ${pem} ssl-min-ver TLSv1.2` : ""}
  ${haproxyEdge}
  ${routes > 0 ? `use_backend %[path,map_beg(${map},app)]` : ""}
  default_backend app
backend app
  server one 127.0.0.1:${backendPort}
`;
}

export interface TunnelFacts {
  port: number;
  targetPort: number;
  /** PEM of this side's certificate and key, and of the authority both trust. */
  pem: string;
  ca: string;
}

/** The first of two: plain in, mutual TLS out. */
export const haproxyTunnelClient = ({ port, targetPort, pem, ca }: TunnelFacts): string => `
${haproxyCommon({ connectionsMax: 1000, splice: false })}
frontend in
  bind 127.0.0.1:${port}
  ${haproxyEdge}
  default_backend next
backend next
  server one 127.0.0.1:${targetPort} ssl ssl-min-ver TLSv1.3 verify required ca-file ${ca} crt ${pem} verifyhost server.test
`;

/** The second of two: mutual TLS in, plain to the backend. */
export const haproxyTunnelServer = ({ port, targetPort, pem, ca }: TunnelFacts): string => `
${haproxyCommon({ connectionsMax: 1000, splice: false })}
frontend in
  bind 127.0.0.1:${port} ssl crt ${pem} ca-file ${ca} verify required ssl-min-ver TLSv1.3
  default_backend app
backend app
  server one 127.0.0.1:${targetPort}
`;
