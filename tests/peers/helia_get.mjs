// Fetch a UnixFS file, or list a folder, by CID from one given peer with a real Helia, over Bitswap only.
//   ./helia helia_get.mjs MULTIADDR CID [OUTFILE | --ls]        TIMEOUT_MS=120000
// Prints JSON lines: connected (peer, muxer, encryption), then got (bytes, sha256, ttfbMs, seconds, MiBps), or listed (names, and the
// sha256 of them in order, a line each), or error; exit 1 on error.
import { mkNode, say } from './helia_node.mjs'
import { unixfs } from '@helia/unixfs'
import { multiaddr } from '@multiformats/multiaddr'
import { CID } from 'multiformats/cid'
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { once } from 'node:events'

const [addr, cid, out] = process.argv.slice(2)
if (!cid) { console.error('usage: helia_get.mjs MULTIADDR CID [OUTFILE]'); process.exit(2) }
const helia = await mkNode()
try {
  const conn = await helia.libp2p.dial(multiaddr(addr))
  say({ event: 'connected', peer: conn.remotePeer.toString(), mux: conn.multiplexer, enc: conn.encryption })
  if (out === '--ls') {
    const names = []
    for await (const entry of unixfs(helia).ls(CID.parse(cid), { signal: AbortSignal.timeout(Number(process.env.TIMEOUT_MS ?? 120_000)) })) names.push(entry.name)
    say({ event: 'listed', cid, names: names.length, sha256: createHash('sha256').update(names.sort().map(name => name + '\n').join('')).digest('hex') })
    await helia.stop()
    process.exit()
  }
  const file = out ? createWriteStream(out) : null
  const sha = createHash('sha256')
  const start = Date.now()
  let bytes = 0; let ttfbMs = 0
  for await (const chunk of unixfs(helia).cat(CID.parse(cid), { signal: AbortSignal.timeout(Number(process.env.TIMEOUT_MS ?? 120_000)) })) {
    ttfbMs ||= Date.now() - start
    bytes += chunk.length
    sha.update(chunk)
    if (file && !file.write(chunk)) await once(file, 'drain')
  }
  if (file) { file.end(); await once(file, 'finish') }
  const seconds = (Date.now() - start) / 1000
  say({ event: 'got', cid, bytes, sha256: sha.digest('hex'), ttfbMs, seconds, MiBps: +(bytes / seconds / 2 ** 20).toFixed(1) })
} catch (e) {
  say({ event: 'error', name: e.name, message: e.message })
  process.exitCode = 1
}
await helia.stop()
process.exit()
