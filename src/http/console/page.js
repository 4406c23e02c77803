'use strict';

// How many files one upload may hold, as the node has it.
const FILES_MAX = 100000;
// Uploads shown below.
const RECENT = 20;

const token = document.querySelector('meta[name="estuary-page-token"]').content;
const $ = (id) => document.getElementById(id);
let running = null;

function show(id) {
  $('now').hidden = false;
  for (const part of ['working', 'done', 'failed']) $(part).hidden = part !== id;
}

// What is said aloud by screen readers; what is seen says the same.
function say(text) {
  $('said').textContent = text;
}

function fail(text) {
  $('failed').textContent = text;
  show('failed');
  say(text);
}

function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(1) : count} ${units[unit]}`;
}

// What an answer says went wrong.
function reason(status, text) {
  try {
    const { details } = JSON.parse(text).error;
    return details.charAt(0).toUpperCase() + details.slice(1) + '.';
  } catch {
    return status ? `The node answered ${status}.` : 'The node did not answer. Does it still run?';
  }
}

// Sends files, each with its path, as one upload.
function upload(found) {
  if (running) return fail('One upload is under way; wait for it, or cancel it.');
  if (!found.length) return fail('There is no file in it.');
  if (found.length > FILES_MAX) return fail(`These are ${found.length} files; at most ${FILES_MAX} go into one upload.`);
  const form = new FormData();
  let total = 0;
  for (const { path, file } of found) {
    form.append('data', file, path);
    total += file.size;
  }
  const tops = new Set(found.map(({ path }) => path.split('/')[0]));
  const what = tops.size === 1 ? [...tops][0] : `${found.length} files`;
  form.append('filename', what);

  const request = new XMLHttpRequest();
  running = request;
  $('what').textContent = what;
  $('amount').textContent = bytes(total);
  $('stage').textContent = 'Sending…';
  $('bar').value = 0;
  show('working');
  say(`Uploading ${what}`);
  request.upload.onprogress = ({ loaded, total: all }) => {
    $('bar').value = all ? loaded / all : 0;
    $('stage').textContent = `${bytes(loaded)} sent`;
  };
  request.upload.onload = () => {
    $('bar').removeAttribute('value');
    $('stage').textContent = 'Writing to disk…';
  };
  request.onload = () => {
    if (request.status !== 200) return fail(reason(request.status, request.responseText));
    const { retrieval_url: url } = JSON.parse(request.responseText);
    $('done-what').textContent = what;
    $('link').href = url;
    $('link').textContent = url;
    $('copy').textContent = 'Copy link';
    show('done');
    say(`Pinned: ${what}. The link is ready.`);
    recent();
  };
  request.onerror = () => fail(reason(0, ''));
  request.onabort = () => fail('Cancelled. Nothing was kept.');
  request.onloadend = () => {
    running = null;
  };
  request.open('POST', 'content/add');
  request.setRequestHeader('x-estuary-page-token', token);
  request.send(form);
}

// Files below a dropped entry. A browser gives a folder's entries in portions.
async function walk(entry, prefix, found) {
  const path = prefix + entry.name;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ path, file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!portion.length || found.length > FILES_MAX) return;
    for (const below of portion) await walk(below, `${path}/`, found);
  }
}

async function dropped(items) {
  // Entries must be taken at once: the items are gone after the event.
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  try {
    for (const entry of entries) await walk(entry, '', found);
  } catch (error) {
    return fail(`A file could not be read: ${error.message}`);
  }
  upload(found);
}

function chosen(input) {
  const found = [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
  input.value = '';
  if (found.length) upload(found);
}

async function recent() {
  const headers = { 'x-estuary-page-token': token };
  let rows;
  try {
    const answer = await fetch(`content/stats?limit=${RECENT}`, { headers });
    if (!answer.ok) return;
    rows = await answer.json();
  } catch {
    return;
  }
  $('none').hidden = rows.length > 0;
  $('recent').replaceChildren(...rows.map(row));
}

function row({ name, cid, size, createdAt, retrieval_url: url }) {
  const item = document.createElement('li');
  const line = document.createElement('div');
  line.className = 'line';
  const title = document.createElement('span');
  title.className = 'name';
  title.textContent = name || 'unnamed';
  const about = document.createElement('span');
  about.className = 'quiet';
  about.textContent = `${bytes(size)}, ${new Date(createdAt).toLocaleString()}`;
  line.append(title, about);
  const link = document.createElement('a');
  link.className = 'cid';
  link.href = url;
  link.target = '_blank';
  link.rel = 'noopener';
  link.textContent = cid;
  item.append(line, link);
  return item;
}

let inside = 0;
const drop = $('drop');
const holdsFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes('Files');
// The whole window takes a drop, so that missing the field does not leave the page.
window.addEventListener('dragenter', (event) => {
  if (holdsFiles(event)) {
    inside += 1;
    drop.classList.add('over');
  }
});
window.addEventListener('dragleave', () => {
  inside = Math.max(0, inside - 1);
  if (!inside) drop.classList.remove('over');
});
window.addEventListener('dragover', (event) => event.preventDefault());
window.addEventListener('drop', (event) => {
  event.preventDefault();
  inside = 0;
  drop.classList.remove('over');
  if (holdsFiles(event)) dropped(event.dataTransfer.items);
});
for (const id of ['files', 'folder']) $(id).addEventListener('change', (event) => chosen(event.target));
$('cancel').addEventListener('click', () => running && running.abort());
$('copy').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText($('link').href);
    $('copy').textContent = 'Copied';
    say('Copied');
  } catch {
    // Not allowed here: select it, to be copied by hand.
    getSelection().selectAllChildren($('link'));
  }
});
window.addEventListener('beforeunload', (event) => running && event.preventDefault());
recent();
