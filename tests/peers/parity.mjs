// Replay the gateway conformance requests against a gateway and against an oracle (a real Kubo), and compare the answers.
//   node parity.mjs GATEWAY_URL ORACLE_URL --requests FILE [--only REGEX] [--ignore FIELD,..] [--allow FILE] [--verbose]
// Both hold the suite's fixtures (interop.sh parity does all of it). FILE has a request a line, {method, target, headers}; of each GET it also
// tries HEAD, and If-None-Match with the server's own Etag. Compared: status, the headers below, body (CAR and TAR by what is in
// them, listings by the names on the page, error pages not at all). --allow: lines `REGEX FIELDS` (two regular expressions) of differences that are meant.
// Prints what differs; last line `parity: S same, D different, A allowed (of N)`; exit 1 when something differs.
import http from 'node:http'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

const { values: opt, positionals: [gateway, oracle] } = parseArgs({
  allowPositionals: true,
  options: { requests: { type: 'string' }, only: { type: 'string', default: '' }, ignore: { type: 'string', default: '' }, allow: { type: 'string' }, verbose: { type: 'boolean' } }
})
if (!oracle || !opt.requests) { console.error('usage: parity.mjs GATEWAY_URL ORACLE_URL --requests FILE [--only REGEX] [--ignore FIELD,..] [--allow FILE] [--verbose]'); process.exit(2) }

const headers = ['content-type', 'content-length', 'content-range', 'accept-ranges', 'location', 'content-disposition', 'cache-control', 'etag',
  'x-ipfs-path', 'x-ipfs-roots', 'x-content-type-options', 'link', 'last-modified', 'access-control-allow-origin']
  .filter(h => !opt.ignore.split(',').includes(h))
const allowed = opt.allow
  ? readFileSync(opt.allow, 'utf8').split('\n').filter(l => l && !l.startsWith('#')).map(l => { const i = l.lastIndexOf(' '); return [new RegExp(l.slice(0, i)), new RegExp(`^(?:${l.slice(i + 1)})$`)] })
  : []

const agents = new Map()
function send (base, { method, target, headers }) {
  const { hostname, port } = new URL(base)
  if (!agents.has(base)) agents.set(base, new http.Agent({ keepAlive: true, maxSockets: 4 }))
  return new Promise((resolve, reject) => {
    const req = http.request({ hostname, port, method, path: target, agent: agents.get(base), setHost: false, headers: Object.fromEntries(headers), timeout: 30_000 }, res => {
      const chunks = []
      res.on('data', c => chunks.push(c))
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(chunks) }))
      res.on('error', e => resolve({ status: `aborted ${e.code}`, headers: res.headers, body: Buffer.concat(chunks) }))
    })
    req.on('timeout', () => req.destroy(new Error('timeout')))
    req.on('error', reject)
    req.end()
  }).catch(e => ({ status: `no answer: ${e.message}`, headers: {}, body: Buffer.alloc(0) }))
}

function varint (b, i) { let n = 0; let s = 0; for (;;) { n += (b[i] & 127) * 2 ** s; s += 7; if (b[i++] < 128) return [n, i] } }
function car (b) { // sections in order: the header, then CID + bytes of each block; undefined when it is cut off
  const out = []
  for (let i = 0; i < b.length;) { const [n, j] = varint(b, i); if (j + n > b.length) return; out.push(b.subarray(j, j + n).toString('latin1')); i = j + n }
  return out
}
function tar (b) { // names, types, sizes and bytes, extended headers applied; no times, owners or modes
  const out = []; let more = {}
  for (let i = 0; i + 512 <= b.length && b[i];) {
    const text = (at, n) => b.subarray(i + at, i + at + n).toString().replace(/\0.*$/s, '')
    const size = parseInt(text(124, 12) || '0', 8); const data = b.subarray(i + 512, i + 512 + size); const type = text(156, 1)
    if (type === 'x') for (let j = 0; j < size;) { const n = parseInt(data.subarray(j).toString()); const [k, v] = data.subarray(j, j + n - 1).toString().replace(/^\d+ /, '').split(/=(.*)/s); more[k] = v; j += n }
    else { out.push([more.path ?? (text(345, 155) && text(345, 155) + '/') + text(0, 100), type, more.linkpath ?? text(157, 100), data.toString('latin1')].join('\n')); more = {} }
    i += 512 + Math.ceil(size / 512) * 512
  }
  return out.sort()
}
const listing = r => /DirIndex/.test(r.headers.etag ?? '')
const names = body => [...new Set([...body.toString().matchAll(/href="([^"?#]*)/g)].map(m => m[1].split('/').filter(Boolean).at(-1)).filter(Boolean))]

function header (name, r) {
  const v = r.headers[name]
  if (v === undefined) return undefined
  if (name === 'etag') return v.replace(/DirIndex-[^_]+_/, 'DirIndex-*_').replace(/^W\/(.*)\.(car|x-tar)\.[0-9a-z]+/, '$1.$2.*').replace(/\.(car|x-tar)\.[0-9a-z]+/, '.$1.*')
  if (name === 'content-type' && v === 'text/plain') return 'text/plain; charset=utf-8'
  if (name === 'cache-control') return v.replace(/max-age=(\d+)/, (_, n) => `max-age=~${Math.round(n / 60)}min`)
  return v
}
function compare (req, got, want) {
  const diffs = []
  const diff = (field, g, w) => diffs.push({ field, got: g, want: w })
  if (got.status !== want.status) { diff('status', got.status, want.status); return diffs }
  const failed = want.status >= 400; const page = failed || want.status >= 300 || listing(want)
  for (const h of headers) {
    // A CAR that is streamed has no length at its start.
    if (h === 'content-length' && (want.headers['content-type'] ?? '').includes('vnd.ipld.car') && got.headers[h] === undefined) continue
    if (page && (h === 'content-length' || h === 'content-type')) continue
    if (failed && ['etag', 'cache-control', 'x-ipfs-roots', 'x-ipfs-path', 'content-disposition'].includes(h)) continue
    if (page && !listing(want) && ['x-ipfs-path', 'x-ipfs-roots'].includes(h)) continue
    if (want.status === 304 && !['etag', 'cache-control'].includes(h)) continue
    if (header(h, got) !== header(h, want)) diff(h, got.headers[h], want.headers[h])
  }
  if (req.method === 'HEAD' || failed || want.status >= 300) return diffs
  const type = want.headers['content-type'] ?? ''
  if (listing(want)) {
    const missing = names(want.body).filter(n => !got.body.includes(n))
    if (missing.length) diff('body', 'a listing', `these names too: ${missing.slice(0, 5).join(' ')}`)
  } else if (!got.body.equals(want.body)) {
    if (type.includes('vnd.ipld.car')) {
      const [g, w] = [car(got.body), car(want.body)]
      if (!g || g[0] !== w[0]) diff('body', g ? 'another CAR header' : 'a CAR that is cut off', `${w.length - 1} blocks`)
      else if ([...g].sort().join() !== [...w].sort().join()) diff('body', `${g.length - 1} blocks`, `${w.length - 1} blocks, or others`)
      else if (type.includes('order=dfs')) diff('body', 'the same blocks in another order', 'depth first')
    } else if (type.includes('x-tar')) {
      if (JSON.stringify(tar(got.body)) !== JSON.stringify(tar(want.body))) diff('body', `TAR of ${tar(got.body).length}`, `TAR of ${tar(want.body).length}, or other bytes`)
    } else diff('body', `${got.body.length} bytes`, `${want.body.length} other bytes`)
  }
  return diffs
}

let same = 0; let different = 0; let meant = 0
const fields = {}
function report (label, diffs) {
  const open = diffs.filter(d => !allowed.some(([re, field]) => field.test(d.field) && re.test(label)))
  if (open.length) different++; else if (diffs.length) meant++; else same++
  for (const d of open) {
    fields[d.field] = (fields[d.field] ?? 0) + 1
    console.log(`DIFF ${label}\n     ${d.field}: got ${JSON.stringify(d.got)}, Kubo ${JSON.stringify(d.want)}`)
  }
  if (opt.verbose && !open.length) console.log(`same ${label}`)
}
const only = new RegExp(opt.only)
for (const line of readFileSync(opt.requests, 'utf8').split('\n').filter(Boolean)) {
  const req = JSON.parse(line)
  const label = (m, extra = []) => [m, req.target, ...[...req.headers, ...extra].map(([k, v]) => `${k}=${v}`)].join(' ')
  if (!only.test(label(req.method))) continue
  const [got, want] = await Promise.all([send(gateway, req), send(oracle, req)])
  report(label(req.method), compare(req, got, want))
  if (req.method !== 'GET') continue
  const head = { ...req, method: 'HEAD' }
  report(label('HEAD'), compare(head, ...await Promise.all([send(gateway, head), send(oracle, head)])))
  if (want.status !== 200 || !want.headers.etag || req.headers.some(([k]) => k === 'If-None-Match' || k === 'Range')) continue
  const conditional = r => ({ ...req, headers: [...req.headers, ['If-None-Match', r.headers.etag ?? '"none"']] })
  report(label('GET', [['If-None-Match', 'own Etag']]), compare(req, ...await Promise.all([send(gateway, conditional(got)), send(oracle, conditional(want))])))
}
for (const a of agents.values()) a.destroy()
if (different) console.log('differences by field:', JSON.stringify(fields))
console.log(`parity: ${same} same, ${different} different, ${meant} allowed (of ${same + different + meant})`)
process.exit(different ? 1 : 0)
