// Cells that several workload kinds print: containers, images, selectors.

import { formatLabelSelector, type LabelSelectorSpec, labelSelectorOf } from "../selectors.ts";

interface TemplateOwner {
  spec?: {
    selector?: LabelSelectorSpec | undefined;
    template?: { spec?: { containers?: { name?: string; image?: string }[] } };
  };
}

export const containerNames = (o: TemplateOwner): string =>
  (o.spec?.template?.spec?.containers ?? []).map((container) => container.name ?? "").join(",");

export const containerImages = (o: TemplateOwner): string =>
  (o.spec?.template?.spec?.containers ?? []).map((container) => container.image ?? "").join(",");

export function selectorText(o: TemplateOwner): string {
  const selector = labelSelectorOf(o.spec?.selector);
  return selector === undefined || selector.length === 0 ? "<none>" : formatLabelSelector(selector);
}
