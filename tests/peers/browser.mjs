// A real browser on content of a real node, each root in its own origin: http://{cid}.ipfs.localhost:PORT.
//   node browser.mjs [NAME...]        names: app video isolation paths names pages (default: all); needs install.sh browser
// The binary is $ESTUARY, or target/release/estuary. Pictures of the listing, an error and a preview, light and dark, wide and 360 px, go to
// target/evidence/*.png. Last line `browser: N passed, N failed`; exit 1 when something failed, 77 where there is no browser.
import { createRequire } from 'node:module'
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { webm } from './webm.mjs'

const repo = join(dirname(fileURLToPath(import.meta.url)), '../..')
const peers = process.env.PEERS_HOME ?? join(process.env.REAL_HOME ?? homedir(), '.cache/estuary-peers')
const binary = process.env.ESTUARY ?? join(process.env.CARGO_TARGET_DIR ?? join(repo, 'target'), 'release/estuary')
const chromium = '/usr/bin/chromium'
if (!existsSync(chromium) || !existsSync(join(peers, 'node_modules/playwright-core'))) { console.log('SKIPPED: no browser; run install.sh browser'); process.exit(77) }
if (!existsSync(binary)) { console.log(`browser: FAILED: ${binary} is missing: cargo build --release, or set ESTUARY`); process.exit(1) }
const playwright = createRequire(join(peers, 'package.json'))('playwright-core')
const out = join(repo, 'target/evidence')
mkdirSync(out, { recursive: true })
const work = mkdtempSync(join(tmpdir(), 'estuary-browser-'))

// --- A node ---------------------------------------------------------------------------------------

const env = { ...process.env, ESTUARY_OFFLINE: '1', ESTUARY_GATEWAY__LISTEN: '127.0.0.1:0', ESTUARY_API__LISTEN: '127.0.0.1:0', ESTUARY_ADMIN__LISTEN: '127.0.0.1:0' }
const estuary = (...args) => execFileSync(binary, ['--data-dir', join(work, 'node'), ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] }).toString()
const log = openSync(join(work, 'node.log'), 'w')
const node = spawn(binary, ['--data-dir', join(work, 'node'), 'serve'], { env, stdio: ['ignore', log, log] })
process.on('SIGTERM', () => { node.kill(); process.exit(143) })
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
async function port () {
  for (let left = 600; left > 0; left--) {
    if (node.exitCode !== null) break
    try { return new URL(JSON.parse(estuary('status', '--json')).gateway.url).port } catch { await sleep(50) }
  }
  throw new Error(`the node did not start: ${readFileSync(join(work, 'node.log'))}`)
}

function write (folder, files) { // a folder of files, added: its CID
  const root = join(work, folder)
  for (const [name, data] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), data)
  }
  return JSON.parse(estuary('add', root, '--json').split('\n')[0]).cid
}
function dagJson (value) { // a dag-json block, imported: its CID
  const block = Buffer.from(JSON.stringify(value))
  const cid = Buffer.concat([Buffer.from([1, 0xa9, 2, 0x12, 0x20]), createHash('sha256').update(block).digest()])
  const varint = n => Buffer.from(n < 128 ? [n] : [n & 127 | 128, n >> 7])
  const link = Buffer.concat([Buffer.from([0xd8, 0x2a, 0x58, cid.length + 1, 0]), cid])
  const header = Buffer.concat([Buffer.from([0xa2, 0x65]), Buffer.from('roots'), Buffer.from([0x81]), link, Buffer.from([0x67]), Buffer.from('version'), Buffer.from([1])])
  writeFileSync(join(work, 'node.car'), Buffer.concat([varint(header.length), header, varint(cid.length + block.length), cid, block]))
  estuary('import', '--no-pin', join(work, 'node.car'))
  let [bits, value32, text] = [0, 0, 'b']
  for (const byte of cid) { value32 = value32 << 8 | byte; for (bits += 8; bits >= 5; bits -= 5) text += 'abcdefghijklmnopqrstuvwxyz234567'[value32 >>> bits - 5 & 31]; value32 &= 31 }
  return bits ? text + 'abcdefghijklmnopqrstuvwxyz234567'[value32 << 5 - bits & 31] : text
}

// --- Checks -----------------------------------------------------------------------------------------

let passed = 0; let failed = 0
function check (ok, text) { if (ok) passed++; else { failed++; console.log(`FAIL ${text}`) } }
const same = (got, want, text) => check(JSON.stringify(got) === JSON.stringify(want), `${text}: ${JSON.stringify(got)}, not ${JSON.stringify(want)}`)

let browser, at
const origin = cid => `http://${cid}.ipfs.localhost:${at}`
async function open (url) { // a page, and its answer; nothing that it asks may leave this machine
  const page = await browser.newPage()
  page.on('request', r => { const { protocol, hostname } = new URL(r.url()); if (/^https?:/.test(protocol) && !/^(127\.0\.0\.1|(.*\.)?localhost)$/.test(hostname)) check(false, `${url} asks ${r.url()}`) })
  page.on('dialog', d => { check(false, `${url} shows a dialog: ${d.message()}`); d.dismiss() })
  const answer = await page.goto(url)
  return [page, answer]
}
const text = async page => (await page.locator('body').innerText()).trim()

const parts = {
  async app () { // a single-page app: `_redirects` gives its index for every path
    const cid = write('app', {
      'index.html': '<!doctype html><link rel="icon" href="data:,"><link rel="stylesheet" href="/assets/app.css"><h1>loading</h1><a href="/settings/profile">profile</a><script type="module" src="/assets/app.js"></script>',
      'assets/app.js': `const show = () => { document.querySelector('h1').textContent = 'route ' + location.pathname }
        document.querySelector('a').onclick = e => { e.preventDefault(); history.pushState({}, '', e.target.href); show() }
        onpopstate = show; show()`,
      'assets/app.css': 'h1 { color: rgb(1, 2, 3) }',
      '404.html': '<!doctype html><link rel="icon" href="data:,"><h1>the app has no such page</h1>',
      _redirects: '/old/:id /items/:id 301\n/nowhere/* /404.html 404\n/* /index.html 200\n'
    })
    const heading = page => page.locator('h1').innerText()
    const [page, answer] = await open(origin(cid) + '/items/7?tab=2')
    same(answer.status(), 200, 'a deep link')
    same(await heading(page), 'route /items/7', 'a deep link')
    same(await page.evaluate("getComputedStyle(document.querySelector('h1')).color"), 'rgb(1, 2, 3)', 'the style sheet')
    await page.click('a')
    same([await heading(page), new URL(page.url()).pathname], ['route /settings/profile', '/settings/profile'], 'a route of the client')
    await page.reload()
    same(await heading(page), 'route /settings/profile', 'the route after a reload')
    await page.goBack()
    same(await heading(page), 'route /items/7', 'back')
    await page.goto(origin(cid) + '/old/9?a=b')
    same([await heading(page), page.url()], ['route /items/9', origin(cid) + '/items/9?a=b'], 'a redirect')
    const missing = await page.goto(origin(cid) + '/nowhere/at/all')
    same([missing.status(), await heading(page)], [404, 'the app has no such page'], 'the 404 page')
    await page.close()
  },

  async video () { // a video that seeks
    const [maker] = await open(origin(write('maker', { 'index.html': '<!doctype html><link rel="icon" href="data:,"><canvas width=640 height=360></canvas>' })) + '/')
    // VP8, 40 s at 5 frames a second, each frame of noise on a grey that tells its second.
    const frames = await maker.evaluate(async () => {
      const chunks = []
      const encoder = new VideoEncoder({ error: e => { throw e }, output: chunk => { const data = new Uint8Array(chunk.byteLength); chunk.copyTo(data); chunks.push([chunk.timestamp, chunk.type === 'key', data]) } })
      encoder.configure({ codec: 'vp8', width: 640, height: 360, bitrate: 6_000_000, framerate: 5 })
      const canvas = document.querySelector('canvas'); const context = canvas.getContext('2d')
      for (let n = 0; n < 200; n++) {
        const image = context.createImageData(640, 360)
        for (let i = 0; i < image.data.length; i += 4) { const grey = Math.floor(n / 5) * 5 + 25 + (Math.random() - 0.5) * 40; image.data.set([grey, grey, grey, 255], i) }
        context.putImageData(image, 0, 0)
        const frame = new VideoFrame(canvas, { timestamp: n * 200_000 })
        encoder.encode(frame, { keyFrame: n % 10 === 0 })
        frame.close()
        while (encoder.encodeQueueSize > 5) await new Promise(resolve => setTimeout(resolve, 5))
      }
      await encoder.flush()
      return chunks.map(([time, key, data]) => [time, key, btoa(Array.from(data, b => String.fromCharCode(b)).join(''))])
    })
    await maker.close()
    const film = webm(640, 360, frames.map(([time, key, data]) => ({ ms: time / 1000, key, data: Buffer.from(data, 'base64') })), 200)
    console.log(`a film of ${(film.length / (1 << 20)).toFixed(1)} MiB, ${frames.length} frames`)
    const cid = write('film', { 'film.webm': film, 'index.html': '<!doctype html><link rel="icon" href="data:,"><video src="/film.webm" preload="metadata" muted></video>' })
    const page = await browser.newPage()
    const ranges = []
    page.on('response', async r => { if (r.url().endsWith('.webm')) ranges.push([(await r.request().allHeaders()).range, r.status(), r.headers()['content-range'], r.headers()['content-type']]) })
    await page.goto(origin(cid) + '/')
    const seek = seconds => page.evaluate(async seconds => {
      const video = document.querySelector('video')
      if (video.readyState < 1) await new Promise((resolve, reject) => { video.onloadedmetadata = resolve; video.onerror = () => reject(new Error(video.error.message)) })
      await new Promise(resolve => { video.onseeked = resolve; video.currentTime = seconds })
      const canvas = document.createElement('canvas'); canvas.width = 64; canvas.height = 36
      const context = canvas.getContext('2d'); context.drawImage(video, 0, 0, 64, 36)
      const data = context.getImageData(0, 0, 64, 36).data
      let sum = 0; for (let i = 0; i < data.length; i += 4) sum += data[i]
      return [video.duration, video.currentTime, Math.round((sum / (data.length / 4) * 219 / 255 + 16 - 25) / 5)] // what the encoder took for full range is shown as 16 to 235
    }, seconds)
    const near = ([duration, time, second], want) => check(Math.abs(duration - 40) < 0.5 && Math.abs(time - want) < 0.3 && Math.abs(second - Math.floor(want)) <= 1, `seeking to ${want}: at ${time} of ${duration}, the picture of second ${second}`)
    near(await seek(31), 31)
    near(await seek(3), 3)
    near(await seek(38), 38)
    await page.evaluate(() => new Promise(resolve => { const video = document.querySelector('video'); video.onended = resolve; video.play() }))
    console.log(ranges.map(r => r.join(' ')).join('\n'))
    check(ranges.some(([range, status, content]) => status === 206 && /^bytes=[1-9]/.test(range ?? '') && content?.startsWith(`bytes ${range.slice(6).split('-')[0]}-`)), 'no range from the middle was asked and given with 206')
    check(ranges.every(([, status, , type]) => (status === 206 || status === 200) && type === 'video/webm'), 'statuses and types')
    await page.close()
  },

  async isolation () { // two roots that know nothing of one another
    const site = name => write(`site-${name}`, {
      'index.html': `<!doctype html><link rel="icon" href="data:,"><title>${name}</title>`,
      'sw.js': `onfetch = e => { if (e.request.url.endsWith('/by-worker')) e.respondWith(new Response('worker of ${name}')) }; oninstall = () => skipWaiting(); onactivate = e => e.waitUntil(clients.claim())`
    })
    const [a, b] = [site('a'), site('b')]
    const [page] = await open(origin(a) + '/')
    await page.evaluate(async () => {
      localStorage.setItem('secret', 'of a'); sessionStorage.setItem('secret', 'of a'); document.cookie = 'secret=of-a; path=/'
      await (await caches.open('secret')).put('/x', new Response('of a'))
      await new Promise(resolve => { indexedDB.open('secret').onsuccess = resolve })
      await navigator.serviceWorker.register('/sw.js'); await navigator.serviceWorker.ready
    })
    const seen = async () => page.evaluate(async () => [localStorage.getItem('secret'), sessionStorage.getItem('secret'), document.cookie, await caches.keys(), (await indexedDB.databases()).map(d => d.name),
      (await navigator.serviceWorker.getRegistrations()).length, (await (await fetch('/by-worker')).text()).slice(0, 11)])
    await page.reload()
    same(await seen(), ['of a', 'of a', 'secret=of-a', ['secret'], ['secret'], 1, 'worker of a'], 'what a sees of its own')
    await page.goto(origin(b) + '/')
    const [local, session, cookie, cached, databases, workers, fetched] = await seen()
    same([local, session, cookie, cached, databases, workers], [null, null, '', [], [], 0], 'what b sees of a')
    check(fetched !== 'worker of a', 'the worker of a answers b')
    same(await page.evaluate(url => new Promise(resolve => { const f = document.createElement('iframe'); f.src = url; f.onload = () => { try { resolve(f.contentWindow.localStorage.secret ?? null) } catch (e) { resolve(e.name) } }; document.body.append(f) }), origin(a) + '/'), 'SecurityError', 'b reads a frame of a')
    // The same root on the shared origin of a path gateway cannot take it over with a worker.
    await page.goto(`http://127.0.0.1:${at}/ipfs/${a}/`)
    same(await page.evaluate(cid => navigator.serviceWorker.register(`/ipfs/${cid}/sw.js`, { scope: '/' }).then(() => 'registered', e => e.name), a), 'SecurityError', 'a worker for all of a path gateway')
    await page.close()
  },

  async paths () { // a page with script, asked by path on a subdomain host, comes to its own origin
    const cid = write('scripted', { 'index.html': '<!doctype html><link rel="icon" href="data:,"><body><script>document.body.append(location.origin)</script>', 'sub/page.html': '<!doctype html><link rel="icon" href="data:,"><body><script>document.body.append(location.href)</script>' })
    for (const [path, want] of [['/', origin(cid)], ['/sub/page.html?a=b', origin(cid) + '/sub/page.html?a=b'], ['', origin(cid)]]) {
      const [page, answer] = await open(`http://localhost:${at}/ipfs/${cid}${path}`)
      same([answer.status(), await text(page)], [200, want], `http://localhost/ipfs/…${path}`)
      same(answer.request().redirectedFrom()?.url(), `http://localhost:${at}/ipfs/${cid}${path}`, 'where it was redirected from')
      await page.close()
    }
  },

  async names () { // nothing in a name, a path or a node is run
    const evil = ['<script>pwned=1<', '<img src=x onerror=pwned=1>', '"onmouseover="pwned=1', "'><svg onload=pwned=1>", 'javascript:pwned=1', '&lt;script&gt;pwned=1']
    const cid = write('evil', Object.fromEntries(evil.map(name => [name, 'x'])))
    const node = dagJson({ '<img src=x onerror=pwned=1>': { '"><script>pwned=1</script>': ['<script>pwned=1</script>', "'><svg onload=pwned=1>"] }, z: 1 })
    const quoted = encodeURIComponent('<script>pwned=1</script><img src=x onerror=pwned=1>')
    for (const url of [origin(cid) + '/', `http://127.0.0.1:${at}/ipfs/${cid}/`, `${origin(cid)}/${quoted}`, `http://127.0.0.1:${at}/ipfs/${cid}/${quoted}`, `http://127.0.0.1:${at}/ipfs/${quoted}`, `http://127.0.0.1:${at}/${quoted}`,
      `http://127.0.0.1:${at}/ipns/${quoted}`, `http://127.0.0.1:${at}/ipfs/${cid}/?format=${quoted}`, `http://127.0.0.1:${at}/ipfs/?uri=${quoted}`, `http://127.0.0.1:${at}/ipfs/${node}`, `${origin(node)}/`, `${origin(cid)}/?x=${quoted}`]) {
      const [page] = await open(url)
      for (const link of await page.locator('a').all()) await link.hover({ timeout: 1000, noWaitAfter: true }).catch(() => {})
      same([await page.evaluate('typeof pwned'), await page.locator('script, img[onerror], svg[onload], [onmouseover], a[href^="javascript:"]').count()], ['undefined', 0], url.replace(String(at), 'PORT'))
      await page.close()
    }
    const [page] = await open(origin(cid) + '/')
    const listed = (await page.locator('a').allInnerTexts())
    for (const name of evil) check(listed.includes(name), `the listing does not show ${name}: ${listed}`)
    await page.close()
  },

  async pages () { // the pages we make, as pictures
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`${['photos', 'Ein Ordner mit einem langen Namen', 'docs'][n % 3]}/file-${n}.txt`, 'x'.repeat(n * 1000)]))
    const cid = write('listing', { ...many, 'README.md': '# hello', 'holiday.jpg': Buffer.alloc(2_500_000), 'a name that is so long that it will not fit in one line of a narrow screen of 360 pixels without breaking.txt': 'x', 'film.webm': Buffer.alloc(70_000_000) })
    const node = dagJson({ a: 'text', big: 'lorem ipsum '.repeat(60), file: { '/': cid }, list: [1, 2.5, null, true, { deep: { deeper: ['x'] } }], z: { '/': { bytes: 'AQIDBA' } } })
    const urls = { listing: `${origin(cid)}/`, 'listing-path': `http://127.0.0.1:${at}/ipfs/${cid}/`, error: `${origin(cid)}/photos/not-there.jpg`, 'error-cid': `http://127.0.0.1:${at}/ipfs/notacid`,
      'error-absent': `http://127.0.0.1:${at}/ipfs/bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi`, preview: `http://127.0.0.1:${at}/ipfs/${node}` }
    for (const [name, url] of Object.entries(urls)) {
      for (const [width, height] of [[1100, 800], [360, 740]]) {
        for (const colorScheme of ['light', 'dark']) {
          const page = await browser.newPage()
          await page.emulateMedia({ colorScheme })
          await page.setViewportSize({ width, height })
          const answer = await page.goto(url)
          check(answer.headers()['content-type']?.startsWith('text/html'), `${name}: ${answer.status()} ${answer.headers()['content-type']}`)
          const wide = await page.evaluate('document.documentElement.scrollWidth')
          check(wide <= width, `${name} at ${width} px is ${wide} px wide`)
          const [back, front] = await page.evaluate(() => { const shade = c => { const [r, g, b, a] = c.match(/[\d.]+/g).map(Number); return a === 0 ? undefined : (r + g + b) / 3 }; const html = getComputedStyle(document.documentElement); const body = getComputedStyle(document.body); return [shade(body.backgroundColor) ?? shade(html.backgroundColor) ?? 255, shade(body.color)] })
          check(colorScheme === 'light' ? back > 200 && front < 100 : back < 80 && front > 150, `${name} ${colorScheme}: text ${front} on ${back}`)
          await page.screenshot({ path: join(out, `${name}-${colorScheme}-${width}.png`), fullPage: true })
          await page.close()
        }
      }
    }
    const [page] = await open(urls.error)
    const words = await text(page)
    check(words.includes('not-there.jpg') && words.includes('404'), `the error page says: ${words.slice(0, 200)}`)
    await page.close()
  }
}

const chosen = process.argv.slice(2)
const unknown = chosen.filter(name => !(name in parts))
if (unknown.length) { console.log(`no part ${unknown}; there are ${Object.keys(parts)}`); node.kill(); process.exit(2) }
try {
  at = await port()
  browser = await playwright.chromium.launchPersistentContext(join(work, 'profile'), {
    executablePath: chromium, headless: true, viewport: { width: 1100, height: 800 },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
  })
  browser.setDefaultTimeout(30_000)
  for (const name of chosen.length ? chosen : Object.keys(parts)) {
    const before = failed
    try { await parts[name]() } catch (error) { check(false, `${name}: ${error.message}`) }
    console.log(`${name}: ${failed === before ? 'held' : 'FAILED'}`)
  }
} catch (error) { check(false, error.message) } finally {
  await browser?.close()
  const ended = new Promise(resolve => node.once('exit', resolve))
  if (node.exitCode === null) { node.kill(); await ended }
  rmSync(work, { recursive: true, force: true })
}
console.log(`figure checks in Chromium: ${passed} held, ${failed} failed`)
console.log(`browser: ${passed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
