// The upload page: an ordinary form that works without JavaScript, made comfortable by public/upload.js.

import { html } from "../html.ts";
import type { Fields } from "../receive.ts";
import { categoriesMax, descriptionCharsMax, suggestedCategories, titleCharsMax } from "../videos.ts";
import { type Frame, formatBytes, renderPage } from "./layout.ts";

export function uploadPage(frame: Frame, bytesMax: number, problem?: { message: string; fields: Fields }): string {
  const fields = problem?.fields ?? { title: "", description: "", categories: [] };
  const others = fields.categories.filter((name) => !suggestedCategories.includes(name)).join(", ");
  return renderPage(frame, {
    title: "Upload a video · Lumen",
    description: "Share a video.",
    active: "upload",
    scripts: ["upload.js"],
    main: html`<div class="narrow">
<h1>Upload a video</h1>
<p class="notice" id="problem" role="alert"${problem === undefined ? html` hidden` : ""}>${problem?.message ?? ""}</p>
<form id="upload" class="panel form" action="/upload" method="post" enctype="multipart/form-data" data-bytes-max="${bytesMax}">
<div class="drop" id="drop">
<svg viewBox="0 0 48 48" aria-hidden="true"><rect x="5" y="9" width="38" height="30" rx="6"/><path d="M24 31V18m0 0-6 6m6-6 6 6"/></svg>
<label for="video"><span class="droptext">Drop a video here, or <span class="linklike">choose a file</span></span><span class="plaintext">Video file</span></label>
<input id="video" name="video" type="file" accept="video/mp4,video/webm,.mp4,.webm" required aria-describedby="limits">
<p class="quiet" id="limits">MP4 or WebM, up to ${formatBytes(bytesMax)}</p>
</div>
<div class="chosen" id="chosen" hidden>
<img id="preview" alt="" width="640" height="360" hidden>
<div><p class="name" id="filename"></p><p class="quiet" id="filefacts"></p><button class="button small" type="button" id="another">Choose another file</button></div>
</div>
<div class="field"><label for="title">Title</label>
<input id="title" name="title" type="text" required maxlength="${titleCharsMax}" value="${fields.title}"></div>
<div class="field"><label for="description">Description</label>
<textarea id="description" name="description" rows="4" maxlength="${descriptionCharsMax}">${fields.description}</textarea></div>
<fieldset class="field"><legend>Categories <span class="quiet">(up to ${categoriesMax})</span></legend>
<div class="checks">${suggestedCategories.map((name) => html`<label class="check"><input type="checkbox" name="categories" value="${name}"${fields.categories.includes(name) ? html` checked` : ""}><span>${name}</span></label>`)}</div>
<label class="hidden" for="other">Other categories, separated by commas</label>
<input id="other" name="categories" type="text" maxlength="120" placeholder="Others, separated by commas" value="${others}"></fieldset>
<div class="progress" id="progress" hidden>
<div class="progressline"><strong id="percent">0 %</strong><span class="quiet" id="speed" role="status"></span></div>
<progress id="bar" max="1000" value="0" aria-label="Upload progress"></progress>
</div>
<div class="actions"><button class="button primary" type="submit" id="send">Publish</button><button class="button" type="button" id="cancel" hidden>Cancel</button></div>
</form></div>`,
  });
}
