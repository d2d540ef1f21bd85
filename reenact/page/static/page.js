"use strict";

// One thing at a time is shown: what was chosen, what is being done, what came of it. All of it is this browser's alone;
// the server keeps files by number.

const POLL_MS = 400;
const MAX_MISSES = 15; // answers in a row that do not come, for a minute: a computer that slept, a line that broke
const CAMERA_WIDTH_PX = 480;
const element = (id) => document.getElementById(id);
const chosen = { source: [], driving: [] };
let job = null; // number of what is being done
let talk = null; // live mode's WebSocket

async function ask(method, path, body) {
  const answer = await fetch(path, { method, body }).catch(() => {
    throw new Error("the program does not answer; is `fedreenact serve` still running?");
  });
  const said = answer.status === 204 ? {} : await answer.json().catch(() => ({ problem: "an answer that cannot be read" }));
  if (!answer.ok) throw new Error(said.problem || `refused (${answer.status})`);
  return said;
}

function made(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// A line that is read aloud is set only when it says something else.
function say(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

// Files

async function take(role, files) {
  say(`${role}-problem`, "");
  say("order-problem", "");
  if (isBusy() && role === "driving" && chosen.driving.length) return say("driving-problem", "Wait until it is done, or cancel it.");
  if (role === "driving") await clear("driving");
  for (const file of role === "driving" ? files.slice(0, 1) : files) {
    const line = made("li", {}, made("span", { textContent: `Looking at ${file.name} ...` }));
    element(`${role}-list`).append(line);
    try {
      const seen = await ask("POST", `files?name=${encodeURIComponent(file.name)}`, file);
      chosen[role].push({ ...seen, file });
    } catch (error) {
      say(`${role}-problem`, error.message);
    }
    line.remove();
    showFiles(role);
  }
}

async function clear(role) {
  for (const one of chosen[role].splice(0)) await ask("DELETE", `files/${one.number}`).catch(() => {});
}

async function drop(role, one) {
  chosen[role].splice(chosen[role].indexOf(one), 1);
  showFiles(role);
  element(`${role}-files`).focus();
  await ask("DELETE", `files/${one.number}`).catch(() => {});
}

function showFiles(role) {
  element(`${role}-list`).replaceChildren(...chosen[role].map((one) => {
    const remove = made("button", { type: "button", textContent: "Remove", onclick: () => drop(role, one) });
    remove.setAttribute("aria-label", `Remove ${one.name}`);
    remove.disabled = isBusy();
    const kind = one.faces.length > 1 ? `${one.kind}, ${one.faces.length} faces` : one.kind;
    const text = made("span", {}, one.name, made("small", { textContent: kind }));
    return made("li", {}, made("img", { src: one.picture, alt: "" }), text, remove);
  }));
  showFaces(role);
}

function showFaces(role) {
  const picker = element(`${role}-faces`);
  const several = chosen[role].filter((one) => one.faces.length > 1);
  const canChoose = several.length === 1 && chosen[role].length === 1;
  if (role === "source") element("source-hint").hidden = !several.length || canChoose;
  picker.hidden = !canChoose;
  picker.querySelector("div")?.remove();
  if (!canChoose) return;
  const [one] = several;
  picker.append(made("div", {}, ...one.faces.map((picture, index) => {
    const input = made("input", { type: "radio", name: `${role}-face`, value: index + 1, checked: index + 1 === one.used });
    const text = `Number ${index + 1}`;
    return made("label", {}, input, made("img", { src: picture, alt: `${text} from the left` }), made("span", { textContent: text }));
  })));
}

function face(role) {
  return Number(element(`${role}-faces`).querySelector("input:checked")?.value || 0);
}

function receive(role, handle) {
  const zone = element(`${role}-drop`);
  const input = element(`${role}-files`);
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    handle(files);
  });
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    handle([...event.dataTransfer.files]);
  });
}

// Orders

const basis = () => document.querySelector("[name=basis]:checked").value;
const isLive = () => document.querySelector("[name=from]:checked").value === "camera";

async function order() {
  const record = basis() === "record" ? await element("record").files[0].text().catch(() => {
    throw new Error("the record has changed since it was chosen; choose it again");
  }) : "";
  const sliders = [...document.querySelectorAll(".slider input")];
  return {
    sources: chosen.source.map((one) => one.number),
    face: face("source"),
    motion: document.querySelector("[name=motion]:checked").value,
    strengths: Object.fromEntries(sliders.map((one) => [one.name, Number(one.value)])),
    consent: {
      agreed: element("agreed").checked,
      basis: basis(),
      record,
      name: element("name").value,
      purpose: element("purpose").value,
    },
  };
}

// What lacks is said before anything is asked for, and the cursor put there.
function lacks() {
  const driving = isLive() || chosen.driving.length;
  const missing = [
    [!chosen.source.length, "source-files", "Choose who is to be drawn (step 1)."],
    [!driving, "driving-files", "Choose a movement (step 2)."],
    [!element("agreed").checked, "agreed", "Tick the box: everybody who is shown has to have agreed."],
    [basis() === "record" && !element("record").files.length, "record", "Choose the person's record of consent, or say that there is none."],
    [!element("name").value.trim(), "name", "Say your name."],
    [!element("purpose").value.trim(), "purpose", "Say what it is for."],
  ].find(([isMissing]) => isMissing);
  say("order-problem", missing ? missing[2] : "");
  if (missing) element(missing[1]).focus();
  return Boolean(missing);
}

const isBusy = () => !element("cancel").hidden;

// What is drawn from is not to be removed meanwhile.
function setBusy(busy) {
  element("draw").disabled = element("look").disabled = busy;
  element("cancel").hidden = !busy;
  element("rest").hidden = !busy || !isLive();
  element("bar").hidden = !busy || isLive();
  say("count", "");
  document.querySelectorAll("[name=from], .files button").forEach((one) => { one.disabled = busy; });
}

async function start(onlyLook) {
  if (lacks()) return;
  const paste = element("paste").checked;
  const [[who], [driving]] = [chosen.source, chosen.driving];
  const person = who.faces[(face("source") || who.used) - 1];
  await until(async () => {
    const wanted = { ...(await order()), driving: driving.number, driving_face: face("driving"), paste, only_look: onlyLook };
    job = (await ask("POST", "jobs", JSON.stringify(wanted))).number;
    await follow(job, { person, driving });
  });
}

// A page that was loaded anew goes on with what was asked for before; files are to be chosen again.
async function goOn() {
  const said = await ask("GET", "session").catch(() => ({ job: null }));
  if (!said.job) return;
  job = said.job;
  await until(() => follow(job, {}));
}

async function until(work) {
  show("empty");
  say("told", "");
  setBusy(true);
  try {
    await work();
  } catch (error) {
    say("told", "");
    say("order-problem", error.message);
  }
  job = null;
  setBusy(false);
}

// `given` is what the page shows beside the result; where it does not know, the preview says.
async function follow(number, given) {
  let preview = null;
  let misses = 0;
  for (;;) {
    const now = await ask("GET", `jobs/${number}`).catch((error) => {
      if (++misses > MAX_MISSES) throw error;
    });
    if (now) {
      misses = 0;
      tell(now);
      if (now.has_preview && !preview) {
        preview = await ask("GET", `jobs/${number}/preview`);
        showPreview(preview);
      }
      if (now.state === "failed") throw new Error(now.problem);
      if (now.state === "cancelled") return say("told", "Cancelled.");
      if (now.state === "done" && !now.outcome.name) return say("told", "This is what it would be drawn from.");
      if (now.state === "done") {
        return showResult(number, now.outcome, { person: preview.source, driving: { picture: preview.driving }, ...given });
      }
    }
    await new Promise((resolve) => setTimeout(resolve, now ? POLL_MS : 10 * POLL_MS));
  }
}

function tell(now) {
  const bar = element("bar");
  if (now.state === "waiting") say("told", waiting(now.before));
  if (now.state !== "working") return;
  if (now.total) Object.assign(bar, { max: now.total, value: now.done });
  else bar.removeAttribute("value");
  say("told", now.text || "Looking ...");
  say("count", now.total ? `${now.done} of ${now.total}` : "");
}

function waiting(before) {
  return before === 1 ? "Waiting: one before you." : `Waiting: ${before} before you.`;
}

// Stage

function show(id) {
  for (const one of ["empty", "live", "played"]) element(one).hidden = one !== id;
  if (id !== "played") element("preview").hidden = true;
}

function showPreview(preview) {
  element("empty").hidden = true;
  element("preview").hidden = false;
  element("preview").open = true;
  element("preview-source").src = preview.source;
  element("preview-driving").src = preview.driving;
  say("preview-about", preview.about_driving);
  const many = preview.sources.length;
  say("preview-count", many === 1 ? "One crop of the person to draw from:" : `${many} crops of the person, the nearest of which draw each result:`);
  element("preview-sources").replaceChildren(...preview.sources.map((src) => made("img", { src, alt: "" })));
}

function showResult(number, outcome, { person, driving }) {
  const place = `jobs/${number}/result`; // a film shows its first picture before it is played where a place in it is named
  const isClip = outcome.kind === "clip";
  const picture = (src, alt) => made("img", { src, alt });
  const result = isClip ? made("video", { src: `${place}#t=0.001`, playsInline: true, preload: "auto" }) : picture(place, "The drawn person");
  const film = isClip && driving.file ? drivingVideo(driving) : null; // a page that was loaded anew has a picture of it alone
  const moving = film ?? picture(driving.picture, "Who drives");
  result.setAttribute("aria-label", "Result");
  fill("side-source", picture(person, "The person"));
  fill("side-driving", moving);
  fill("side-result", result);
  element("player").hidden = !isClip;
  if (isClip) join(result, film ?? made("video"));
  Object.assign(element("download"), { href: `${place}?download`, download: outcome.name });
  element("lines").replaceChildren(...outcome.lines.map((textContent) => made("li", { textContent })));
  show("played");
  element("preview").open = false;
  say("told", `Done: ${outcome.name}`);
  element("result").focus();
}

function fill(id, picture) {
  const figure = element(id);
  figure.querySelector("img, video")?.remove();
  figure.prepend(picture);
}

// Without its sound, which the result has.
function drivingVideo(driving) {
  const video = made("video", { src: URL.createObjectURL(driving.file), muted: true, playsInline: true });
  video.setAttribute("aria-label", "Driving clip");
  const still = made("img", { src: driving.picture, alt: "The driving clip, which this browser cannot play" });
  video.addEventListener("error", () => video.replaceWith(still));
  return video;
}

// One set of buttons for both films, which show the same moment.
function join(result, driving) {
  const [play, seek, sound] = ["play", "seek", "sound"].map(element);
  const meet = () => { driving.currentTime = result.currentTime; };
  const showTime = () => {
    seek.value = result.currentTime;
    const seconds = Math.floor(result.currentTime);
    say("time", `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`);
    if (Math.abs(driving.currentTime - result.currentTime) > 0.15) meet();
  };
  const showState = () => {
    say("play", result.paused ? "Play" : "Pause");
    if (result.paused) driving.pause();
    else driving.play().catch(() => {});
    meet();
  };
  for (const name of ["play", "pause", "ended"]) result.addEventListener(name, showState);
  result.addEventListener("timeupdate", showTime);
  result.addEventListener("loadedmetadata", () => { seek.max = result.duration; });
  result.muted = !sound.checked;
  play.onclick = () => (result.paused ? result.play() : result.pause());
  seek.oninput = () => { result.currentTime = Number(seek.value); };
  sound.onchange = () => { result.muted = !sound.checked; };
  showTime();
  showState();
}

// Live

async function startLive() {
  if (lacks()) return;
  setBusy(true);
  show("live");
  say("rate", "waiting");
  const camera = element("camera");
  let wanted;
  try {
    wanted = JSON.stringify(await order());
  } catch (error) {
    return stopLive(error.message);
  }
  try {
    camera.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
    await camera.play();
  } catch (error) {
    return stopLive(`the camera cannot be used: ${error.message}`);
  }
  const socket = new WebSocket(new URL("live", location.href.replace(/^http/, "ws")));
  const sender = new Sender(camera, socket);
  socket.binaryType = "blob";
  socket.onopen = () => socket.send(wanted);
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data), sender) : draw(data, sender));
  socket.onclose = () => {
    if (socket === talk) stopLive(sender.isReady ? "The connection ended; start again." : "No connection; load the page again.");
  };
  talk = socket;
}

function hear(said, sender) {
  if (said.problem) return stopLive(said.problem);
  if (said.state === "waiting") return say("told", waiting(said.before));
  if (said.state === "working") return sender.isReady || say("told", said.text ? `${said.text}: ${said.done}` : "Looking at the person ...");
  if (said.state === "ready") {
    say("told", "Look into the camera with your face at rest, then move.");
    return sender.begin();
  }
  if (said.face === false) {
    sender.answered();
    say("rate", "no face in the picture");
  }
}

async function draw(blob, sender) {
  sender.answered();
  const picture = await createImageBitmap(blob);
  const canvas = element("drawn");
  Object.assign(canvas, { width: picture.width, height: picture.height });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  say("rate", sender.rate());
}

function stopLive(problem) {
  const camera = element("camera");
  camera.srcObject?.getTracks().forEach((track) => track.stop());
  camera.srcObject = null;
  if (problem) say("order-problem", problem);
  if (!element("cancel").hidden) say("told", problem ? "" : "Stopped.");
  setBusy(false);
  const old = talk;
  talk = null;
  old?.close();
}

// Sends the camera's pictures, mirrored, so few at a time that none grows old on the way.
class Sender {
  constructor(camera, socket) {
    Object.assign(this, { camera, socket, isReady: false, isFresh: false, sent: [], answers: [], delay: 0 });
    this.limit = Number(document.body.dataset.inFlight);
    this.canvas = document.createElement("canvas");
  }

  begin() {
    this.isReady = true;
    const next = () => {
      if (this.socket !== talk) return;
      this.isFresh = true;
      this.pump();
      if (this.camera.requestVideoFrameCallback) this.camera.requestVideoFrameCallback(next);
      else setTimeout(next, 33);
    };
    next();
  }

  pump() {
    if (!this.isFresh || this.sent.length >= this.limit || this.socket.readyState !== WebSocket.OPEN) return;
    this.isFresh = false;
    const { canvas, camera } = this;
    canvas.width = CAMERA_WIDTH_PX;
    canvas.height = Math.round((CAMERA_WIDTH_PX * camera.videoHeight) / camera.videoWidth);
    const context = canvas.getContext("2d");
    context.setTransform(-1, 0, 0, 1, canvas.width, 0);
    context.drawImage(camera, 0, 0, canvas.width, canvas.height);
    this.sent.push(performance.now());
    canvas.toBlob((blob) => { if (this.socket.readyState === WebSocket.OPEN) this.socket.send(blob); }, "image/jpeg", 0.85);
  }

  answered() {
    const now = performance.now();
    this.delay = now - this.sent.shift();
    this.answers = [...this.answers.filter((time) => time > now - 3000), now];
    this.pump();
  }

  rate() {
    const seconds = (this.answers[this.answers.length - 1] - this.answers[0]) / 1000;
    const rate = seconds ? ((this.answers.length - 1) / seconds).toFixed(0) : "0";
    return `${rate} pictures a second, ${this.delay.toFixed(0)} ms behind`;
  }
}

// Marks

async function check([file]) {
  if (!file) return;
  const told = element("check-told");
  say("check-problem", "");
  told.className = "";
  told.replaceChildren(`Looking at ${file.name} ...`);
  try {
    const found = await ask("POST", `marks?name=${encodeURIComponent(file.name)}`, file);
    const lines = found.lines.flatMap(([name, text]) => [made("dt", { textContent: name }), made("dd", { textContent: text })]);
    const title = found.is_marked ? `${file.name}: a model drew it` : `${file.name}: no mark`;
    told.className = found.is_marked ? "marked" : "";
    told.replaceChildren(made("h3", { textContent: title }), made("dl", {}, ...lines));
  } catch (error) {
    told.replaceChildren();
    say("check-problem", error.message);
  }
}

// Everything together

function chooseBasis() {
  element("record-place").hidden = basis() !== "record";
  say("record-name", element("record").files[0]?.name ?? "");
}

function choosePlace() {
  const live = isLive();
  element("from-file").hidden = live;
  element("from-camera").hidden = !live;
  element("camera-problem").hidden = Boolean(navigator.mediaDevices);
  element("look").hidden = element("paste-line").hidden = live;
  element("draw").disabled = live && !navigator.mediaDevices;
  say("draw", live ? "Start the camera" : "Draw");
  say("cancel", live ? "Stop" : "Cancel");
  show("empty");
}

async function deleteEverything() {
  if (talk) stopLive("");
  await ask("DELETE", "session").catch((error) => say("order-problem", error.message));
  chosen.source.length = chosen.driving.length = 0;
  showFiles("source");
  showFiles("driving");
  element("check-told").replaceChildren();
  show("empty");
  say("told", "Everything is deleted.");
}

receive("source", (files) => take("source", files));
receive("driving", (files) => take("driving", files));
receive("check", check);
document.querySelectorAll("[name=from]").forEach((one) => one.addEventListener("change", choosePlace));
document.querySelectorAll("[name=basis], #record").forEach((one) => one.addEventListener("change", chooseBasis));
document.querySelectorAll(".slider input").forEach((one) => one.addEventListener("input", () => {
  one.nextElementSibling.value = Number(one.value).toFixed(1);
}));
element("order").addEventListener("submit", (event) => {
  event.preventDefault();
  if (isLive()) startLive();
  else start(false);
});
element("look").addEventListener("click", () => start(true));
element("rest").addEventListener("click", () => talk?.send("rest"));
element("cancel").addEventListener("click", () => (talk ? stopLive("") : job && ask("DELETE", `jobs/${job}`).catch(() => {})));
element("delete").addEventListener("click", deleteEverything);
element("camera-help").addEventListener("click", (event) => {
  event.preventDefault();
  element("camera-how").hidden = false;
});
if (location.search) history.replaceState(null, "", location.pathname); // a token is not left in the address
chooseBasis();
choosePlace();
goOn();
