// resolv.conf, hosts and hostname of a pod (kubelet network/dns). Pure.

import type { Pod } from "../api/types.ts";

export interface DnsSetting {
  nameservers: readonly string[];
  searches: readonly string[];
  options: readonly string[];
}

/** glibc reads three name servers; Kubernetes allows 32 search paths of 2048 characters. */
const nameserversMax = 3;
const searchesMax = 32;

export function parseResolvConf(text: string): DnsSetting {
  const setting = { nameservers: [] as string[], searches: [] as string[], options: [] as string[] };
  for (const line of text.split("\n")) {
    const [keyword, ...values] = line
      .replace(/[#;].*/, "")
      .trim()
      .split(/\s+/);
    if (keyword === "nameserver" && values[0]) setting.nameservers.push(values[0]);
    else if (keyword === "search" || keyword === "domain") setting.searches = values;
    else if (keyword === "options") setting.options.push(...values);
  }
  return setting;
}

/** `clusterDns` is absent where no cluster DNS runs: every policy then falls back to the machine's. */
export function podResolvConf(
  pod: Pod,
  clusterDns: string | undefined,
  clusterDomain: string,
  machine: DnsSetting,
): string {
  const { dnsPolicy = "ClusterFirst", dnsConfig, hostNetwork } = pod.spec ?? {};
  const cluster =
    clusterDns !== undefined &&
    (dnsPolicy === "ClusterFirstWithHostNet" || (dnsPolicy === "ClusterFirst" && !hostNetwork));
  let setting: DnsSetting;
  if (dnsPolicy === "None") setting = { nameservers: [], searches: [], options: [] };
  else if (cluster) {
    const searches = [`${pod.metadata.namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
    setting = { nameservers: [clusterDns], searches, options: ["ndots:5"] };
  } else setting = machine;
  const nameservers = [...setting.nameservers, ...(dnsConfig?.nameservers ?? [])];
  const searches = [...setting.searches, ...(dnsConfig?.searches ?? [])];
  const own = (dnsConfig?.options ?? []).map(({ name = "", value }) =>
    value === undefined ? name : `${name}:${value}`,
  );
  const overridden = new Set(own.map((option) => option.split(":", 1)[0]));
  const options = [...setting.options.filter((option) => !overridden.has(option.split(":", 1)[0])), ...own];
  let text = "";
  if (searches.length > 0) text += `search ${[...new Set(searches)].slice(0, searchesMax).join(" ")}\n`;
  for (const server of [...new Set(nameservers)].slice(0, nameserversMax)) text += `nameserver ${server}\n`;
  if (options.length > 0) text += `options ${options.join(" ")}\n`;
  return text;
}

/** A label of at most 63 characters: spec.hostname, or the pod's name cut as Kubernetes cuts it. */
export function podHostname(pod: Pod, nodeName: string): string {
  if (pod.spec?.hostNetwork) return nodeName;
  return (pod.spec?.hostname || pod.metadata.name).slice(0, 63).replace(/[-.]+$/, "");
}

export function podHosts(pod: Pod, ip: string, hostname: string, clusterDomain: string): string {
  let text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
  const { subdomain, hostAliases } = pod.spec ?? {};
  const full = subdomain ? `${hostname}.${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}\t` : "";
  text += `${ip}\t${full}${hostname}\n`;
  if (hostAliases !== undefined && hostAliases.length > 0) {
    text += "\n# Entries added by HostAliases.\n";
    for (const { ip: address, hostnames } of hostAliases) text += `${address}\t${(hostnames ?? []).join("\t")}\n`;
  }
  return text;
}
