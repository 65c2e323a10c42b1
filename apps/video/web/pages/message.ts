// Pages that only say something: not found, not now.

import { html } from "../html.ts";
import { type Frame, renderPage } from "./layout.ts";

export function messagePage(frame: Frame, heading: string, text: string): string {
  return renderPage(frame, {
    title: `${heading} · Lumen`,
    description: text,
    main: html`<div class="empty tallempty"><h1 class="big">${heading}</h1><p>${text}</p><a class="button primary" href="/">Show all videos</a></div>`,
  });
}
