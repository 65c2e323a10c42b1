// The kubelet's own metrics, named as Kubernetes names them where it has them.

import type { Counter, Histogram, Metrics } from "../kernel/metrics.ts";
import type { ProbeKind } from "./probe-schedule.ts";

export interface KubeletMetrics {
  runningPods: Counter;
  startedContainers: Counter;
  failedStarts: Counter;
  /** Seconds from first sight of a pod to its first moment of readiness. */
  podReady: Histogram;
  probes: Readonly<Record<ProbeKind, { successful: Counter; failed: Counter }>>;
}

const secondsBounds = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60];

export function createKubeletMetrics(metrics: Metrics): KubeletMetrics {
  const probes = (probe_type: ProbeKind) => {
    const count = (result: string) =>
      metrics.counter("prober_probe_total", "Probes run, by type and result", { probe_type, result });
    return { successful: count("successful"), failed: count("failed") };
  };
  return {
    runningPods: metrics.gauge("kubelet_running_pods", "Pods this kubelet takes care of"),
    startedContainers: metrics.counter("kubelet_started_containers_total", "Containers started, restarts included"),
    failedStarts: metrics.counter("kubelet_started_containers_errors_total", "Containers that could not be started"),
    podReady: metrics.histogram(
      "kubelet_pod_ready_duration_seconds",
      "Seconds from first sight of a pod to its first readiness",
      secondsBounds,
    ),
    probes: { startup: probes("startup"), readiness: probes("readiness"), liveness: probes("liveness") },
  };
}
