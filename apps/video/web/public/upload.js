// Makes the upload form comfortable: drag and drop, picture and length taken from the file, progress with speed and time left, cancel.
const form = document.getElementById("upload");
const input = document.getElementById("video");
const drop = document.getElementById("drop");
const problem = document.getElementById("problem");
const progress = document.getElementById("progress");
const send = document.getElementById("send");
const cancel = document.getElementById("cancel");
const preview = document.getElementById("preview");
const bytesMax = Number(form.dataset.bytesMax);

document.documentElement.classList.add("js");
let file = null;
let facts = null;
let request = null;

const megabytes = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} KB` : `${(bytes / 1e6).toFixed(1)} MB`);
const time = (seconds) => {
  const total = Math.max(1, Math.round(seconds));
  return total < 60 ? `${total} s` : `${Math.floor(total / 60)} min ${total % 60} s`;
};

function complain(text) {
  problem.textContent = text;
  problem.hidden = text === "";
  if (text !== "") problem.scrollIntoView({ block: "nearest" });
}

/** Duration, size and a picture of the file, decoded here: the server needs no tool for it. Missing facts are no failure. */
async function inspect(chosen) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.playsInline = true;
  const url = URL.createObjectURL(chosen);
  const event = (name) =>
    new Promise((resolve, reject) => {
      video.addEventListener(name, resolve, { once: true });
      video.addEventListener("error", () => reject(new Error("cannot be decoded")), { once: true });
      setTimeout(() => reject(new Error("takes too long")), 8000);
    });
  try {
    video.src = url;
    await event("loadeddata");
    const result = { duration: video.duration, width: video.videoWidth, height: video.videoHeight, thumbnail: null };
    if (Number.isFinite(video.duration)) {
      const seeked = event("seeked");
      video.currentTime = Math.min(video.duration * 0.25, 10);
      await seeked;
    }
    const canvas = document.createElement("canvas");
    canvas.width = 640;
    canvas.height = 360;
    const scale = Math.max(640 / video.videoWidth, 360 / video.videoHeight);
    const width = video.videoWidth * scale;
    const height = video.videoHeight * scale;
    canvas.getContext("2d").drawImage(video, (640 - width) / 2, (360 - height) / 2, width, height);
    result.thumbnail = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.82));
    return result;
  } finally {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(url);
  }
}

async function choose(chosen) {
  complain("");
  if (chosen.size > bytesMax) {
    complain(`${chosen.name} has ${megabytes(chosen.size)}; this server takes at most ${megabytes(bytesMax)}.`);
    return;
  }
  file = chosen;
  facts = null;
  drop.hidden = true;
  input.required = false;
  preview.hidden = true;
  document.getElementById("chosen").hidden = false;
  document.getElementById("filename").textContent = chosen.name;
  document.getElementById("filefacts").textContent = megabytes(chosen.size);
  const title = document.getElementById("title");
  if (title.value === "") {
    title.value = chosen.name
      .replace(/\.[^.]+$/, "")
      .replace(/[_-]+/g, " ")
      .slice(0, 120);
  }
  try {
    const found = await inspect(chosen);
    if (file !== chosen) return;
    facts = found;
    if (Number.isFinite(found.duration)) {
      document.getElementById("filefacts").textContent =
        `${megabytes(chosen.size)} · ${time(found.duration)} · ${found.width} × ${found.height}`;
    }
    if (found.thumbnail !== null) {
      preview.src = URL.createObjectURL(found.thumbnail);
      preview.hidden = false;
    }
  } catch {
    // The server looks at the file itself.
  }
}

input.addEventListener("change", () => {
  if (input.files.length > 0) choose(input.files[0]);
});
document.getElementById("another").addEventListener("click", () => input.click());
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (request === null && event.dataTransfer.files.length > 0) choose(event.dataTransfer.files[0]);
});

function finish() {
  request = null;
  progress.hidden = true;
  cancel.hidden = true;
  send.disabled = false;
  send.textContent = "Publish";
}

function show(loaded, total, startedAt) {
  const seconds = (performance.now() - startedAt) / 1000;
  const speed = loaded / Math.max(seconds, 0.001);
  document.getElementById("bar").value = Math.round((loaded / total) * 1000);
  document.getElementById("percent").textContent = `${Math.floor((loaded / total) * 100)} %`;
  let line = "Starting…";
  if (loaded >= total) line = "Checking and storing…";
  else if (loaded > 0) {
    line = `${megabytes(loaded)} of ${megabytes(total)} · ${megabytes(speed)}/s · ${time((total - loaded) / speed)} left`;
  }
  document.getElementById("speed").textContent = line;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (request !== null) return;
  if (file === null) {
    complain("Choose a video file first.");
    return;
  }
  complain("");
  const data = new FormData(form);
  data.delete("video");
  if (facts !== null) {
    if (Number.isFinite(facts.duration)) data.set("duration", String(Math.round(facts.duration * 1000)));
    data.set("width", String(facts.width));
    data.set("height", String(facts.height));
    if (facts.thumbnail !== null) data.set("thumbnail", facts.thumbnail, "thumbnail");
  }
  // Last, so that the server knows everything else when the file begins.
  data.set("video", file, file.name);

  const startedAt = performance.now();
  request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  request.upload.addEventListener("progress", (step) => show(step.loaded, step.total, startedAt));
  request.addEventListener("load", () => {
    const { status, response } = request;
    finish();
    if (status === 201) location.assign(response.url);
    else complain(response?.message ?? `The server answered with ${status}. Please try again.`);
  });
  request.addEventListener("error", () => {
    finish();
    complain("The connection was lost. Nothing was published; please try again.");
  });
  request.addEventListener("abort", finish);
  request.send(data);
  progress.hidden = false;
  cancel.hidden = false;
  send.disabled = true;
  send.textContent = "Uploading…";
  show(0, file.size, startedAt);
});
cancel.addEventListener("click", () => request?.abort());
