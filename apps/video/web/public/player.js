// Reports a view once per playback: when the video has really begun to play, and again when it is played anew after its end.
const player = document.getElementById("player");
const views = document.getElementById("views");
let playbackId = newId();
let reported = false;

function newId() {
  // randomUUID exists on secure origins only, and the platform is also served over plain HTTP.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function report() {
  reported = true;
  // The server counts an id once, so repeating after a failure is safe.
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const answer = await fetch(`/api/videos/${player.dataset.id}/views`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ playback: playbackId }),
        keepalive: true,
      });
      if (answer.ok) {
        const { views: count } = await answer.json();
        views.dataset.views = String(count);
        views.textContent = count === 1 ? "1 view" : `${count.toLocaleString("en")} views`;
        return;
      }
      if (answer.status < 500) return;
    } catch {
      // Try again below.
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * 2 ** attempt));
  }
}

player.addEventListener("timeupdate", () => {
  if (!reported && player.currentTime > 0.2 && !player.paused) report();
});
player.addEventListener("play", () => {
  if (reported && player.currentTime < 0.2) {
    playbackId = newId();
    reported = false;
  }
});
