// "host:port" as URLs write it: IPv6 addresses in brackets.

export const hostPort = (host: string, port: number): string => `${host.includes(":") ? `[${host}]` : host}:${port}`;
