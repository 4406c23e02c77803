// A real Helia / js-libp2p Bitswap peer on loopback: TCP or WebSocket, noise, yamux, identify, Bitswap; nothing else.
//   ./helia helia_serve.mjs [--port N] [--ws] FILE|FOLDER...
// Adds the files (UnixFS, CIDv1, raw leaves, 1 MiB chunks) and flat folders (sharded when large), then prints JSON lines {"event":"ready","addr",..} and
// {"event":"added","file","cid"} per file, then `ready MULTIADDR`; serves until SIGTERM or SIGINT.
import { mkNode, say } from './helia_node.mjs'
import { unixfs } from '@helia/unixfs'
import { createReadStream, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'

const { values, positionals: files } = parseArgs({ allowPositionals: true, options: { port: { type: 'string', default: '0' }, ws: { type: 'boolean' } } })
const helia = await mkNode(Number(values.port), { ws: values.ws })
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, async () => { await helia.stop(); process.exit(0) })
const addr = helia.libp2p.getMultiaddrs().map(String)[0]
say({ event: 'ready', addr, protocols: helia.libp2p.getProtocols() })
for (const file of files) {
  const start = Date.now()
  let cid
  if (statSync(file).isDirectory()) {
    const entries = readdirSync(file).map(name => ({ path: `${basename(file)}/${name}`, content: readFileSync(join(file, name)) }))
    for await (const added of unixfs(helia).addAll(entries)) cid = added.cid // the folder comes last
  } else {
    cid = await unixfs(helia).addByteStream(createReadStream(file, { highWaterMark: 1 << 20 }))
  }
  say({ event: 'added', file, cid: cid.toString(), ms: Date.now() - start })
}
console.log(`ready ${addr}`)
setInterval(() => {}, 1 << 30) // keeps the process up when no peer is connected
